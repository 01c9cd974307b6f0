"""Whether an image will do as a training image: what it is, how a request starts it, who gets SIGTERM. Pure.

How SageMaker starts an image:
https://docs.aws.amazon.com/sagemaker/latest/dg/your-algorithms-training-algo-dockerfile.html
"""

from __future__ import annotations

import json
import posixpath
import re
import shlex
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import field

from sagemaker_launcher.engine import ImageFacts
from sagemaker_launcher.findings import Finding
from sagemaker_launcher.frozen import frozen
from sagemaker_launcher.naming import ImageUri
from sagemaker_launcher.request import Request

DOCKER_MANIFEST = "application/vnd.docker.distribution.manifest.v2+json"
DOCKER_LIST = "application/vnd.docker.distribution.manifest.list.v2+json"
OCI_MANIFEST = "application/vnd.oci.image.manifest.v1+json"
OCI_INDEX = "application/vnd.oci.image.index.v1+json"

_CODE = "/opt/ml/code"  # where the toolkit looks for the program
_INPUT = "/opt/ml/input/"  # what lies below comes from channels, and is in no image
_TRAIN = "train"
_PATH = (
    "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"  # what Docker sets when the image does not
)
_ARM_INSTANCES = "ml.p6e-"  # AWS Grace; https://aws.amazon.com/ec2/instance-types/p6/
_INITS = {"tini", "tini-static", "dumb-init", "docker-init", "catatonit"}
_SHELLS = {"sh", "bash", "dash", "ash", "zsh", "ksh"}
_HOSTNAME_SCRIPT = "start_with_right_hostname.sh"  # PID 1 of AWS Deep Learning Containers
_TOOLKIT = "sagemaker_training"  # what the console script `train` of the sagemaker-training toolkit imports
# Texts, which `re` compiles when a script is looked into: most images start none.
_SHELL_SCRIPT = r"#!.*\b(sh|bash|dash|ash|zsh|ksh)\b"
_PASSES_ARGUMENTS = r"\$[@*1]|\$\{[@*1]"
_HANDS_OVER = r"(?m)(^|[;&|({])[ \t]*(exec[ \t]+[^ \t\d<>]|trap[ \t][^\n]{0,200}\b(SIGTERM|TERM|15)\b)"
_RUNS_TRAIN = r"(^|[;&|({]|\bexec)\s*(/\S{0,200}/)?train\b"
_NUMBER = r"[+-]?[0-9]{1,18}"  # longer ones are no numbers for the engine
_ACCOUNT_MAX = 2**31 - 1
_SHOWN_MAX = 120
_EXEC_FORM = 'ENTRYPOINT ["python3", "/opt/program/main.py"]'
_LOST = (
    "at a stop, a time limit or a spot interruption the program is killed after 120 s without having heard of it, "
    "and its last checkpoint is lost"
)


@frozen
class Start:
    """How a request starts its image; without a request, as SageMaker does when nothing else is said.

    Attributes:
        entry_point: ContainerEntrypoint, which replaces the image's ENTRYPOINT and CMD.
        arguments: ContainerArguments, which replace the argument `train`.
        environment: The request's variables.
        hyperparameters: The request's hyperparameters.
        instance_types: Such as `ml.m5.large`, one for each group of instances.
    """

    entry_point: tuple[str, ...] = ()
    arguments: tuple[str, ...] = ()
    environment: Mapping[str, str] = field(default_factory=dict)
    hyperparameters: Mapping[str, str] = field(default_factory=dict)
    instance_types: tuple[str, ...] = ()

    @classmethod
    def of(cls, request: Request) -> Start:
        """How this CreateTrainingJob request starts its image."""
        algorithm, resources = request["AlgorithmSpecification"], request["ResourceConfig"]
        machines = resources.get("InstanceGroups") or [resources]
        return cls(
            entry_point=tuple(algorithm.get("ContainerEntrypoint", ())),
            arguments=tuple(algorithm.get("ContainerArguments", ())),
            environment=request.get("Environment", {}),
            hyperparameters=request.get("HyperParameters", {}),
            instance_types=tuple(machine.get("InstanceType", "") for machine in machines),
        )

    def command(self, facts: ImageFacts) -> tuple[str, ...]:
        """The words that the container is started with, the program first."""
        if self.entry_point:
            return (*self.entry_point, *self.arguments)
        # One empty word only resets the entry point of the image below, and engines take it for none.
        own = () if facts.entry_point == ("",) else facts.entry_point
        return (*own, *(self.arguments or (_TRAIN,)))


@frozen
class ImageFile:
    """A file of an image.

    Attributes:
        path: Its absolute path.
        head: The beginning of its content; bytes that are no UTF-8 are replaced.
        executable: Whether anybody may execute it.
        whole: Whether `head` is all of its content.
    """

    path: str
    head: str
    executable: bool
    whole: bool = True

    @property
    def is_shell_script(self) -> bool:
        """Whether a shell executes it."""
        return bool(re.match(_SHELL_SCRIPT, self._first_line))

    @property
    def is_toolkit(self) -> bool:
        """Whether it is the `train` program of the sagemaker-training toolkit."""
        return self.head.startswith("#!") and _TOOLKIT in self.head

    @property
    def flaw(self) -> str:
        """Why the kernel cannot start it; empty when nothing is seen."""
        if not self.executable:
            return "is not executable"
        if self._first_line.startswith("#!") and self._first_line.endswith("\r"):
            return "has Windows line ends, so that its interpreter is not found"
        if not self.head.startswith("#!") and "\0" not in self.head[:256]:
            return "is a text without a first line such as #!/usr/bin/env python3: exec format error"
        return ""

    @property
    def _first_line(self) -> str:
        return self.head[:256].partition("\n")[0]


# The files that the words of a command name, by word: None when the image has no such file; absent: not looked up.
Files = Mapping[str, ImageFile | None]


@frozen
class Manifest:
    """What a registry has under an image's name, or why nobody knows.

    Attributes:
        media_type: Of the manifest; empty when unknown, or what this machine would push when there is a reason, too.
        systems: Of an index: what it has images for, such as `linux/amd64`.
        reason: Why no registry was heard.
        fix: How to find it out.
    """

    media_type: str
    systems: tuple[str, ...] = ()
    reason: str = ""
    fix: str = ""


def check_image(facts: ImageFacts, files: Files, manifest: Manifest, start: Start) -> tuple[Finding, ...]:
    """Everything that can be said of an image before a job starts it.

    Args:
        facts: What the engine knows of it.
        files: What was found in `places_to_look`.
        manifest: What its registry says.
        start: How the request starts it.
    """
    started = _start(facts, files, start)
    inside = [_program(facts, files, start), _signals(facts, files, start)]
    if started.verdict == "failed":
        inside = [Finding(finding.name, "unknown", "nothing starts, see above") for finding in inside]
    return (_system(facts, start), started, *inside, _user(facts, files), _manifest(manifest, start))


def notes_on_start(facts: ImageFacts, request: Request) -> list[str]:
    """What is doubtful of an image as far as its facts alone show; a text for each, with the fix in lines of its own."""
    start = Start.of(request)
    found = (_system(facts, start), _start(facts, {}, start), _signals(facts, {}, start), _user(facts, {}))
    return [
        f"{finding.message}\n{finding.fix}" for finding in found if finding.verdict in {"warning", "failed"}
    ]


def places_to_look(facts: ImageFacts, start: Start) -> dict[str, tuple[str, ...]]:
    """The words that name files which `check_image` wants to know, and the absolute paths where each may be, best first.

    The container's PATH counts for programs; a shell looks for its script in its working folder first.
    """
    folder = facts.folder or "/"
    path = {**facts.environment, **start.environment}.get("PATH") or _PATH
    places: dict[str, tuple[str, ...]] = {}
    for words in _levels(start.command(facts), {}):
        for name in _files_of(words):
            on_path = (
                [posixpath.join(folder, part, name) for part in path.split(":")] if "/" not in name else []
            )
            here = [posixpath.join(folder, name)] if "/" in name or name != words[0] else []
            places[name] = tuple(dict.fromkeys([*here, *on_path]))
    program = _program_name(facts, start)
    if program:
        places[_program_path(program)] = (_program_path(program),)
    return places | {account.file: (account.file,) for account in _accounts(facts.user) if not account.number}


def system_of(instance_types: Sequence[str]) -> str:
    """The operating system and the processor of a job's instances, such as `linux/amd64`."""
    arm = bool(instance_types) and all(name.startswith(_ARM_INSTANCES) for name in instance_types)
    return "linux/arm64" if arm else "linux/amd64"


def rebuild_command(name: str, system: str) -> str:
    """The command that builds an image for a system as one image, in Docker's own format, and pushes it."""
    return (
        f"docker buildx build --platform {system} --provenance=false --sbom=false "
        f"--output type=image,name={name},push=true,oci-mediatypes=false ."
    )


def login_command(image: str, program: str) -> str:
    """The command that logs a container engine's program in to the ECR registry of an image; empty when it is in none."""
    try:
        uri = ImageUri.parse(image)
    except ValueError:
        return ""
    if not uri.region:
        return ""
    registry = image.partition("/")[0]
    return (
        f"aws ecr get-login-password --region {uri.region} | "
        f"{shlex.quote(program)} login --username AWS --password-stdin {registry}"
    )


def _system(facts: ImageFacts, start: Start) -> Finding:
    wanted = system_of(start.instance_types)
    if facts.system == wanted:
        return Finding("system", "ok", f"{facts.system}, as SageMaker's instances")
    return Finding(
        "system",
        "failed",
        f"the image is for {_shown([facts.system])} and SageMaker's instances are {wanted}: the job would fail with "
        "`exec format error`",
        f"docker build --platform {wanted} ...",
    )


def _start(facts: ImageFacts, files: Files, start: Start) -> Finding:
    words = start.command(facts)
    for level in _levels(words, files):
        found = _unstartable(level, files)
        if found:
            return found
    if _is_init(words) and _TRAIN in words:
        return Finding(
            "start",
            "warning",
            f"the entry point is {_shown(words[:1])}: SageMaker does not support an init there, which may take the "
            "argument `train` for its own",
            f"{_EXEC_FORM} in the Dockerfile; a program that handles SIGTERM needs no init",
        )
    text = _shell_text(words)
    if text is not None and not re.search(_PASSES_ARGUMENTS, text):
        lost = (
            f"; ContainerArguments never reach the program: {_shown(start.arguments)}"
            if start.arguments
            else ""
        )
        return Finding(
            "start",
            "warning",
            f"the entry point is a command line of a shell, which drops its arguments{lost}",
            f"{_EXEC_FORM} in the Dockerfile: the form with brackets",
        )
    if words[0] not in files and not _comes_with_the_job(words[0]):
        return Finding("start", "unknown", f"SageMaker runs {_shown(words)}; the image was not looked into")
    return Finding("start", "ok", f"SageMaker runs {_shown(words)}")


def _unstartable(words: tuple[str, ...], files: Files) -> Finding | None:
    for name in _files_of(words):
        if name not in files:
            continue
        file = files[name]
        if file is None and name == _TRAIN:
            return Finding(
                "start",
                "failed",
                'the job would fail with exec: "train": executable file not found in $PATH: the image has no '
                "ENTRYPOINT that SageMaker could start, and no program `train`",
                f"{_EXEC_FORM} in the Dockerfile, or ESTIMATOR.CONTAINER_ENTRY_POINT in the config, or the "
                "sagemaker-training toolkit, which has a program `train`",
            )
        if file is None:
            return Finding(
                "start",
                "failed",
                f"the image has no {_shown([name])}, which {_shown(words)} needs",
                "check the path",
            )
        if name == words[0] and file.flaw:
            fix = f"RUN chmod +x {shlex.quote(file.path)}" if not file.executable else "mend its first line"
            return Finding(
                "start", "failed", f"{_shown([file.path])} {file.flaw}", f"{fix} in the Dockerfile"
            )
    return None


def _program(facts: ImageFacts, files: Files, start: Start) -> Finding:
    levels = list(_levels(start.command(facts), files))
    train = next((words[0] for words in levels if posixpath.basename(words[0]) == _TRAIN), "")
    if train and train not in files:
        return Finding(
            "program", "unknown", "the image was not looked into for the sagemaker-training toolkit"
        )
    file = files.get(train)
    if file is None or not file.is_toolkit:
        return Finding(
            "program", "ok", "SAGEMAKER_PROGRAM is not needed: the toolkit does not start the program"
        )
    name = _program_name(facts, start)
    if not name:
        return Finding(
            "program",
            "failed",
            "the toolkit starts the program that SAGEMAKER_PROGRAM names, and nothing sets it: the job would fail with "
            "'NoneType' object has no attribute 'endswith'",
            "ENV SAGEMAKER_PROGRAM=main.py in the Dockerfile, or "
            "--set ESTIMATOR.ENVIRONMENT.SAGEMAKER_PROGRAM main.py",
        )
    if "sagemaker_submit_directory" in start.hyperparameters:
        return Finding(
            "program", "ok", f"{_shown([name])} comes from sagemaker_submit_directory, not with the image"
        )
    path = _program_path(name)
    if files.get(path) is None:
        return Finding(
            "program",
            "failed",
            f"SAGEMAKER_PROGRAM names {_shown([path])}, which is not in the image",
            f"COPY it to {_CODE}/ in the Dockerfile, or correct SAGEMAKER_PROGRAM",
        )
    return Finding("program", "ok", f"the toolkit runs {_shown([path])}")


def _signals(facts: ImageFacts, files: Files, start: Start) -> Finding:
    levels = list(_levels(start.command(facts), files))
    for words in levels:
        found = _swallows(words, files, _program_name(facts, start))
        if found:
            return found
    last = levels[-1]
    name = next((name for name in _files_of(last) if name not in files and not _comes_with_the_job(name)), "")
    if name:
        return Finding(
            "signals", "unknown", f"what {_shown([name])} does with SIGTERM: it was not looked into"
        )
    return Finding("signals", "ok", f"SIGTERM reaches {_shown(last)}, which has 120 s to save what it did")


def _swallows(words: tuple[str, ...], files: Files, program: str) -> Finding | None:
    """The finding on a program that keeps SIGTERM to itself; None when it passes it on, or nothing speaks against it."""
    file = files.get(words[0])
    if file is not None and file.is_toolkit:
        direct = json.dumps(["python3", _program_path(program or "main.py")])
        return _loses(
            "the sagemaker-training toolkit is PID 1, and does not pass SIGTERM on to your program",
            f"start the program itself: ENTRYPOINT {direct} in the Dockerfile, or ESTIMATOR.CONTAINER_ENTRY_POINT; it has "
            "to do without the toolkit's SM_* variables and arguments then",
        )
    text = _shell_text(words)
    if text is not None:
        if re.search(_HANDS_OVER, text):
            return None
        return _loses(
            "a shell is PID 1, and does not pass SIGTERM on",
            f"{_EXEC_FORM} in the Dockerfile: the form with brackets, not the one for a shell",
        )
    script = _shell_script(words, files)
    if posixpath.basename(script) == _HOSTNAME_SCRIPT:
        return _loses(
            f"{_HOSTNAME_SCRIPT} of the AWS Deep Learning Container is PID 1, and does not pass SIGTERM on",
            'ESTIMATOR.CONTAINER_ENTRY_POINT: ["python3", "/opt/ml/code/main.py"] in the config; the program has to do '
            "without the toolkit's SM_* variables and arguments then",
        )
    content = files.get(script)
    if content is not None and not re.search(_HANDS_OVER, content.head):
        return _loses(
            f"the shell script {_shown([content.path])} is PID 1, and does not pass SIGTERM on",
            'write exec before its last command, as in: exec python3 /opt/program/main.py "$@"',
        )
    return None


def _loses(message: str, fix: str) -> Finding:
    return Finding("signals", "warning", f"{message}: {_LOST}", fix)


@frozen
class _Account:
    """A user or a group that USER names.

    Attributes:
        kind: Which of both.
        word: Its name or number, as written.
    """

    kind: str
    word: str

    @property
    def file(self) -> str:
        """The file of the image that has to know the name; numbers need no entry."""
        return {"user": "/etc/passwd", "group": "/etc/group"}[self.kind]

    @property
    def number(self) -> bool:
        return re.fullmatch(_NUMBER, self.word) is not None

    def flaw(self, files: Files) -> str:
        """Why the engine starts nothing as this, in its words; empty when nothing is seen."""
        if self.number:
            fits = 0 <= int(self.word) <= _ACCOUNT_MAX
            return "" if fits else f"uids and gids must be in range 0-{_ACCOUNT_MAX}"
        known = files.get(self.file)
        names = {line.strip().partition(":")[0] for line in known.head.split("\n")} if known else set()
        unseen = self.file not in files or (known is not None and not known.whole)
        if self.word in names or unseen:
            return ""
        where = posixpath.basename(self.file)
        return f"unable to find {self.kind} {_shown([self.word])}: no matching entries in {where} file"


def _accounts(user: str) -> tuple[_Account, ...]:
    name, _, group = user.partition(":")
    given = (_Account("user", name), _Account("group", group))
    return tuple(account for account in given if account.word)


def _user(facts: ImageFacts, files: Files) -> Finding:
    for account in _accounts(facts.user):
        flaw = account.flaw(files)
        if flaw:
            add = f", or before it RUN {account.kind}add {_shown([account.word])}"
            return Finding(
                "user",
                "failed",
                f"the image's USER is {_shown([facts.user])}, and the job would fail with {flaw}",
                f"USER 0 as the last USER of the Dockerfile{'' if account.number else add}",
            )
    if facts.user.partition(":")[0] in {"", "root", "0"}:
        return Finding("user", "ok", "root, who may write below /opt/ml")
    return Finding(
        "user",
        "warning",
        f"the image's USER is {_shown([facts.user])}, and on SageMaker /opt/ml belongs to root: the program may be "
        "unable to write its model and checkpoints",
        "USER root as the last USER of the Dockerfile",
    )


def _manifest(manifest: Manifest, start: Start) -> Finding:
    kind = manifest.media_type
    if not kind or (kind == DOCKER_MANIFEST and manifest.reason):
        return Finding("manifest", "unknown", manifest.reason, manifest.fix)
    if kind == DOCKER_MANIFEST:
        return Finding("manifest", "ok", f"the registry has one image, {kind}")
    wanted = system_of(start.instance_types)
    fix = rebuild_command("IMAGE", wanted)
    owner = "this machine would push" if manifest.reason else "the registry has"
    if kind not in {DOCKER_LIST, OCI_INDEX}:
        return Finding(
            "manifest", "warning", f"{owner} {_shown([kind])}, which parts of SageMaker refuse", fix
        )
    message = f"{owner} an index of images, which parts of SageMaker refuse"
    if manifest.systems and wanted not in manifest.systems:
        return Finding(
            "manifest", "failed", f"{message}; it has none for {wanted}: {_shown(manifest.systems)}", fix
        )
    return Finding("manifest", "warning", message, fix)


def _levels(words: tuple[str, ...], files: Files) -> Iterator[tuple[str, ...]]:
    """A command, then the command that it runs with its arguments, and so on; what was not looked up might run them."""
    while words:
        yield words
        words = _next(words, files)


def _next(words: tuple[str, ...], files: Files) -> tuple[str, ...]:
    if _is_init(words):
        return _behind_options(words)
    text = _shell_text(words)
    if text is not None:
        return (_TRAIN,) if re.search(_RUNS_TRAIN, text) else ()
    script = _shell_script(words, files)
    file = files.get(script)
    rest = words[words.index(script) + 1 :] if script else ()
    if not rest or rest[0].startswith("-") or (file is not None and file.is_toolkit):
        return ()
    if file is None and script in files:
        return ()
    if file is None or re.search(_PASSES_ARGUMENTS, file.head):
        return rest
    return ()


def _files_of(words: tuple[str, ...]) -> tuple[str, ...]:
    """The files that a command needs in the image: its program, and the script that this interprets."""
    interpreter = posixpath.basename(words[0])
    if interpreter in _SHELLS or interpreter.startswith("python"):
        names = (words[0], *_behind_options(words)[:1]) if _shell_text(words) is None else words[:1]
    else:
        names = words[:1]
    return tuple(name for name in names if not _comes_with_the_job(name))


def _shell_script(words: tuple[str, ...], files: Files) -> str:
    """The shell script that a command runs, or might run for all that is known; empty when it runs none."""
    name = posixpath.basename(words[0])
    if name in _SHELLS:
        return next(iter(_behind_options(words)), "")
    if name.startswith("python"):
        return ""
    file = files.get(words[0])
    return words[0] if file is None or file.is_shell_script else ""


def _shell_text(words: tuple[str, ...]) -> str | None:
    """The command line of `sh -c`; None for other commands."""
    if posixpath.basename(words[0]) not in _SHELLS:
        return None
    behind = _behind_options(words)
    options = words[1 : len(words) - len(behind)]
    return next(iter(behind), "") if any(re.fullmatch(r"-[a-z]*c[a-z]*", word) for word in options) else None


def _behind_options(words: tuple[str, ...]) -> tuple[str, ...]:
    """The words of a command after its program and that program's options; `-o` of a shell takes the next word.

    Nothing remains of `python -c` and `python -m`, which run no file.
    """
    rest = words[1:]
    python = posixpath.basename(words[0]).startswith("python")
    while rest and rest[0].startswith(("-", "+")):
        if python and rest[0] in {"-c", "-m"}:
            return ()
        rest = rest[2 if re.fullmatch(r"[-+][a-z]*o", rest[0]) else 1 :]
    return rest


def _is_init(words: tuple[str, ...]) -> bool:
    return posixpath.basename(words[0]) in _INITS


def _comes_with_the_job(name: str) -> bool:
    return posixpath.normpath(name).startswith(_INPUT)


def _program_name(facts: ImageFacts, start: Start) -> str:
    """What the toolkit would run: the variable first, then the hyperparameter, which may be JSON."""
    variables = {**facts.environment, **start.environment}
    given = start.hyperparameters.get("sagemaker_program", "")
    return variables.get("SAGEMAKER_PROGRAM") or given.strip('"')


def _program_path(program: str) -> str:
    return posixpath.join(_CODE, program)


def _shown(words: tuple[str, ...] | list[str]) -> str:
    """Words of a command in one line, shortened."""
    text = shlex.join(words).replace("\n", "\\n")
    return text if len(text) <= _SHOWN_MAX else f"{text[:_SHOWN_MAX]}..."
