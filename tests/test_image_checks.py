"""What `doctor` makes of the facts of an image: a table of images as people build them."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sagemaker_launcher.engine import ImageFacts
from sagemaker_launcher.findings import Finding
from sagemaker_launcher.images.checks import (
    DOCKER_LIST,
    DOCKER_MANIFEST,
    OCI_INDEX,
    OCI_MANIFEST,
    Files,
    ImageFile,
    Manifest,
    Start,
    check_image,
    login_command,
    notes_on_start,
    places_to_look,
)

PLAIN = ImageFacts(
    identifier="sha256:" + "0" * 64,
    system="linux/amd64",
    entry_point=(),
    arguments=("bash",),
    environment={},
    folder="",
    user="",
    digests=(),
)
PUSHED = Manifest(DOCKER_MANIFEST)
ELF = "\x7fELF\x02\x01\x01\0\0"
PYTHON = "#!/usr/bin/env python3\nimport json\n"
# What pip writes for the toolkit's console script.
TOOLKIT = """\
#!/usr/bin/python3
import re
import sys
from sagemaker_training.cli.train import main
if __name__ == '__main__':
    sys.exit(main())
"""
# The same as pip writes it where the path of Python is too long for a first line.
TOOLKIT_FAR_AWAY = """\
#!/bin/sh
'''exec' /far/away/python3 "$0" "$@"
' '''
from sagemaker_training.cli.train import main
"""
# As AWS Deep Learning Containers have it.
HOSTNAME_SCRIPT = """\
#!/usr/bin/env bash
if [[ "$1" = "train" ]]; then
    LD_PRELOAD=/libchangehostname.so train
else
    eval "$@"
fi
"""
MAIN = "/opt/ml/code/main.py"


def file(head: str, *, executable: bool = True) -> ImageFile:
    return ImageFile("/usr/local/bin/it", head, executable)


def image(*entry_point: str, **facts: Any) -> ImageFacts:
    return replace(PLAIN, entry_point=entry_point, **facts)


def finding(
    name: str,
    facts: ImageFacts,
    files: Files | None = None,
    start: Start | None = None,
    manifest: Manifest = PUSHED,
) -> Finding:
    found = {finding.name: finding for finding in check_image(facts, files or {}, manifest, start or Start())}
    assert list(found) == ["system", "start", "program", "signals", "user", "manifest"]
    assert all((finding.verdict == "ok") <= (not finding.fix) for finding in found.values())
    assert all(finding.fix for finding in found.values() if finding.verdict in {"warning", "failed"})
    return found[name]


def a_request(**algorithm: Any) -> dict[str, Any]:
    return {
        "AlgorithmSpecification": {"TrainingImage": "x", "TrainingInputMode": "File", **algorithm},
        "ResourceConfig": {"InstanceType": "ml.m5.large", "InstanceCount": 1},
    }


# The start.


@pytest.mark.parametrize(
    ("facts", "start", "command"),
    [
        (image(), Start(), ("train",)),
        (image("python", "x.py"), Start(), ("python", "x.py", "train")),
        (image("python", "x.py"), Start(arguments=("--lr", "1")), ("python", "x.py", "--lr", "1")),
        (image("python", "x.py"), Start(entry_point=("sh", "go")), ("sh", "go")),
        (image("python"), Start(entry_point=("sh",), arguments=("go",)), ("sh", "go")),
        (image(""), Start(), ("train",)),
        (image("", "x"), Start(), ("", "x", "train")),
    ],
    ids=[
        "neither",
        "entry point of the image",
        "arguments",
        "entry point of the request",
        "both",
        "an entry point that resets that of the base",
        "an entry point that starts nothing",
    ],
)
def test_the_container_is_started_as_the_service_starts_it(
    facts: ImageFacts, start: Start, command: tuple[str, ...]
) -> None:
    assert start.command(facts) == command


def test_a_start_is_read_from_the_request() -> None:
    request = a_request(ContainerEntrypoint=["python3"], ContainerArguments=["x.py"])
    request |= {"Environment": {"A": "1"}, "HyperParameters": {"lr": "1"}}
    assert Start.of(request) == Start(("python3",), ("x.py",), {"A": "1"}, {"lr": "1"}, ("ml.m5.large",))


def test_a_start_on_instance_groups_knows_the_type_of_each() -> None:
    groups = [{"InstanceType": "ml.p5.48xlarge"}, {"InstanceType": "ml.m5.large"}]
    start = Start.of(a_request() | {"ResourceConfig": {"InstanceGroups": groups}})
    assert start.instance_types == ("ml.p5.48xlarge", "ml.m5.large")


def test_an_image_with_neither_entry_point_nor_train_fails_as_the_service_words_it() -> None:
    found = finding("start", image(), {"train": None})
    assert found.verdict == "failed"
    assert 'exec: "train": executable file not found in $PATH' in found.message
    assert "ENTRYPOINT [" in found.fix


def test_nothing_is_said_of_a_program_that_does_not_start() -> None:
    assert finding("signals", image(), {"train": None}).verdict == "unknown"
    assert finding("program", image(), {"train": None}).verdict == "unknown"


@pytest.mark.parametrize(
    ("entry_point", "files", "verdict", "says"),
    [
        ((), {"train": file(PYTHON)}, "ok", "runs train"),
        ((), {"train": file(PYTHON, executable=False)}, "failed", "not executable"),
        ((), {"train": file("import json\n")}, "failed", "exec format error"),
        ((), {"train": file("")}, "failed", "exec format error"),
        ((), {"train": file("#!/bin/sh\r\necho\r\n")}, "failed", "Windows line ends"),
        ((), {"train": file(ELF)}, "ok", "runs train"),
        (("/go",), {"/go": None}, "failed", "no /go"),
        (("python3", "x.py"), {"python3": file(ELF), "x.py": None}, "failed", "no x.py"),
        (("python3", "x.py"), {"python3": file(ELF), "x.py": file("")}, "ok", "python3 x.py train"),
        (("python3", "-m", "x"), {"python3": file(ELF)}, "ok", "python3 -m x train"),
        (("/bin/sh", "-c", "python x.py"), {"/bin/sh": file(ELF)}, "warning", "drops its arguments"),
        (
            ("/bin/bash", "-o", "pipefail", "-c", "x"),
            {"/bin/bash": file(ELF)},
            "warning",
            "drops its arguments",
        ),
        (("sh", "-c", 'exec x "$@"', "x"), {"sh": file(ELF)}, "ok", "runs sh -c"),
        (("tini", "--"), {"tini": file(ELF), "train": file(PYTHON)}, "warning", "tini"),
        (
            ("/usr/bin/dumb-init",),
            {"/usr/bin/dumb-init": file(ELF), "train": file(PYTHON)},
            "warning",
            "init",
        ),
        (("tini", "--"), {"tini": file(ELF), "train": None}, "failed", '"train"'),
        (("python3",), {}, "unknown", "not looked into"),
    ],
)
def test_the_start_of_an_image(entry_point: tuple[str, ...], files: Files, verdict: str, says: str) -> None:
    found = finding("start", image(*entry_point), files)
    assert (found.verdict, says in found.message) == (verdict, True), found


def test_arguments_that_a_shell_drops_are_named() -> None:
    found = finding("start", image("sh", "-c", "x"), {"sh": file(ELF)}, Start(arguments=("--lr", "1")))
    assert "never reach the program: --lr 1" in found.message


def test_an_init_without_the_argument_train_is_as_good_as_any() -> None:
    start = Start(entry_point=("tini", "--", "python3", "x.py"))
    files = {"tini": file(ELF), "python3": file(ELF), "x.py": file("")}
    assert finding("start", image(), files, start).verdict == "ok"


def test_a_program_that_comes_through_a_channel_need_not_be_in_the_image() -> None:
    start = Start(entry_point=("/bin/bash", "/opt/ml/input/data/code/run.sh"))
    assert set(places_to_look(image(), start)) == {"/bin/bash"}
    assert finding("start", image(), {"/bin/bash": file(ELF)}, start).verdict == "ok"


# Where files are looked for.


def test_a_program_is_looked_for_on_the_path_of_the_container_and_nowhere_else() -> None:
    facts = image(environment={"PATH": "/opt/program:/bin:rel"}, folder="/w")
    assert places_to_look(facts, Start())["train"] == ("/opt/program/train", "/bin/train", "/w/rel/train")
    start = Start(environment={"PATH": "/x"})
    assert places_to_look(facts, start)["train"] == ("/x/train",)


def test_an_image_without_a_path_has_that_of_docker() -> None:
    places = places_to_look(image(), Start())["train"]
    assert places[:2] == ("/usr/local/sbin/train", "/usr/local/bin/train")
    assert len(places) == 6


def test_a_script_is_looked_for_in_the_working_folder_first() -> None:
    places = places_to_look(image("bash", "-m", "go.sh", folder="/w"), Start())
    assert places["go.sh"][:2] == ("/w/go.sh", "/usr/local/sbin/go.sh")
    assert places_to_look(image("./go", folder="/w"), Start())["./go"] == ("/w/./go",)


def test_a_module_and_a_text_are_no_files() -> None:
    assert set(places_to_look(image("python3", "-m", "x"), Start())) == {"python3"}
    assert set(places_to_look(image("python3", "-c", "x"), Start())) == {"python3"}
    assert set(places_to_look(image("bash", "-c", "x"), Start())) == {"bash"}


def test_what_a_wrapper_may_run_is_looked_for_too() -> None:
    assert set(places_to_look(image("tini", "-g", "--", "bash", "go.sh"), Start())) == {
        "tini",
        "bash",
        "go.sh",
        "train",
    }
    assert "train" in places_to_look(image("/entry.sh"), Start())


# The toolkit's program.


@pytest.mark.parametrize(
    ("entry_point", "extra"),
    [
        ((), {}),
        (("train",), {}),
        (("/opt/conda/bin/train",), {"/opt/conda/bin/train": file(TOOLKIT)}),
        (("tini", "--"), {"tini": file(ELF)}),
        (("sh", "-c", "exec train"), {"sh": file(ELF)}),
        (
            ("bash", "-m", "start_with_right_hostname.sh"),
            {"bash": file(ELF), "start_with_right_hostname.sh": file(HOSTNAME_SCRIPT)},
        ),
        (("/entry.sh",), {"/entry.sh": file('#!/bin/sh\nexec "$@"\n')}),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else "",
)
def test_the_toolkit_needs_the_name_of_a_program(entry_point: tuple[str, ...], extra: Files) -> None:
    found = finding("program", image(*entry_point), {"train": file(TOOLKIT), **extra})
    assert found.verdict == "failed"
    assert "'NoneType' object has no attribute 'endswith'" in found.message
    assert "SAGEMAKER_PROGRAM" in found.fix


def test_the_toolkit_is_no_shell_script_that_runs_its_arguments() -> None:
    start = Start(arguments=("train", "more"))
    files = {"train": file(TOOLKIT_FAR_AWAY), "more": None}
    assert finding("start", image(), files, start).verdict == "ok"
    assert (
        "toolkit is PID 1"
        in finding("signals", image(environment={"SAGEMAKER_PROGRAM": "x"}), files, start).message
    )


@pytest.mark.parametrize(
    ("facts", "start"),
    [
        (image(environment={"SAGEMAKER_PROGRAM": "main.py"}), Start()),
        (image(), Start(environment={"SAGEMAKER_PROGRAM": "main.py"})),
        (image(), Start(hyperparameters={"sagemaker_program": "main.py"})),
        (image(), Start(hyperparameters={"sagemaker_program": '"main.py"'})),
        (image(environment={"SAGEMAKER_PROGRAM": "x"}), Start(environment={"SAGEMAKER_PROGRAM": "main.py"})),
    ],
)
def test_the_toolkit_finds_its_program_where_it_is_named(facts: ImageFacts, start: Start) -> None:
    train = file(TOOLKIT)
    assert places_to_look(facts, start)[MAIN] == (MAIN,)
    assert finding("program", facts, {"train": train, MAIN: file("x")}, start).verdict == "ok"
    missing = finding("program", facts, {"train": train, MAIN: None}, start)
    assert missing.verdict == "failed"
    assert f"names {MAIN}, which is not in the image" in missing.message


def test_code_that_the_toolkit_downloads_need_not_be_in_the_image() -> None:
    given = {"sagemaker_program": "x.py", "sagemaker_submit_directory": "s3://b/code.tar.gz"}
    found = finding("program", image(), {"train": file(TOOLKIT)}, Start(hyperparameters=given))
    assert found.verdict == "ok"


@pytest.mark.parametrize(
    ("entry_point", "files"),
    [
        (("python3", "/x.py"), {"python3": file(ELF), "/x.py": file("")}),
        ((), {"train": file(PYTHON)}),
        (("/entry.sh",), {"/entry.sh": file("#!/bin/sh\nexec python3 /x.py\n"), "train": file(TOOLKIT)}),
    ],
)
def test_a_program_that_the_toolkit_does_not_start_needs_no_name(
    entry_point: tuple[str, ...], files: Files
) -> None:
    assert finding("program", image(*entry_point), files).verdict == "ok"


def test_whether_the_toolkit_is_there_is_unknown_until_somebody_looks() -> None:
    assert finding("program", image(), {}).verdict == "unknown"


# Signals.


@pytest.mark.parametrize(
    ("entry_point", "files", "says"),
    [
        ((), {"train": file(TOOLKIT)}, "toolkit"),
        (("sh", "-c", "python x.py"), {"sh": file(ELF)}, "shell is PID 1"),
        (("sh", "-c", "exec 2>&1; python x.py"), {"sh": file(ELF)}, "shell is PID 1"),
        ((), {"train": file("#!/bin/sh\npython3 /x.py\n")}, "shell script"),
        ((), {"train": file("#!/bin/bash\nexecutable\necho exec it\n")}, "shell script"),
        (("bash", "/go.sh"), {"bash": file(ELF), "/go.sh": file("python3 x.py\n")}, "shell script"),
        (
            ("bash", "-m", "start_with_right_hostname.sh"),
            {
                "bash": file(ELF),
                "start_with_right_hostname.sh": file(HOSTNAME_SCRIPT),
                "train": file(TOOLKIT),
            },
            "Deep Learning Container",
        ),
        (("tini", "--"), {"tini": file(ELF), "train": file(TOOLKIT)}, "toolkit"),
        (("/e.sh",), {"/e.sh": file('#!/bin/sh\nexec "$@"\n'), "train": file(TOOLKIT)}, "toolkit"),
    ],
)
def test_a_first_process_that_keeps_sigterm_to_itself_loses_the_last_checkpoint(
    entry_point: tuple[str, ...], files: Files, says: str
) -> None:
    found = finding("signals", image(*entry_point, environment={"SAGEMAKER_PROGRAM": "go.py"}), files)
    assert found.verdict == "warning"
    assert says in found.message
    assert "last checkpoint is lost" in found.message


def test_the_way_around_the_toolkit_names_the_users_program() -> None:
    facts = image(environment={"SAGEMAKER_PROGRAM": "go.py"})
    assert '["python3", "/opt/ml/code/go.py"]' in finding("signals", facts, {"train": file(TOOLKIT)}).fix


@pytest.mark.parametrize(
    ("entry_point", "files"),
    [
        (("python3", "/x.py"), {"python3": file(ELF), "/x.py": file("")}),
        ((), {"train": file(PYTHON)}),
        ((), {"train": file("#!/bin/sh\nset -e\nexec python3 /x.py\n")}),
        ((), {"train": file("#!/bin/sh\ntrap 'kill $child' TERM\npython3 /x.py & child=$!\nwait\n")}),
        (("sh", "-c", "exec python x.py"), {"sh": file(ELF)}),
        (("sh", "-c", "cd /x && exec python x.py"), {"sh": file(ELF)}),
        (("tini", "--", "/x"), {"tini": file(ELF), "/x": file(ELF)}),
    ],
)
def test_sigterm_reaches_a_program_that_is_the_first_process(
    entry_point: tuple[str, ...], files: Files
) -> None:
    assert finding("signals", image(*entry_point), files).verdict == "ok"


def test_what_a_program_does_with_signals_is_unknown_until_somebody_looks() -> None:
    assert finding("signals", image(), {}).verdict == "unknown"


# System, user, manifest.


@pytest.mark.parametrize(
    ("system", "instance_type", "verdict"),
    [
        ("linux/amd64", "ml.m5.large", "ok"),
        ("linux/amd64", "", "ok"),
        ("linux/arm64", "ml.m5.large", "failed"),
        ("linux/arm64", "ml.p6e-gb200.36xlarge", "ok"),
        ("linux/amd64", "ml.p6e-gb200.36xlarge", "failed"),
        ("windows/amd64", "ml.m5.large", "failed"),
    ],
)
def test_an_image_has_to_be_built_for_the_processor_of_the_instance(
    system: str, instance_type: str, verdict: str
) -> None:
    start = Start(instance_types=(instance_type,) if instance_type else ())
    found = finding("system", image("x", system=system), start=start)
    assert found.verdict == verdict
    if verdict == "failed":
        assert "exec format error" in found.message
        assert "docker build --platform linux/" in found.fix


@pytest.mark.parametrize(
    ("user", "verdict"),
    [
        ("", "ok"),
        ("root", "ok"),
        ("0:0", "ok"),
        ("root:root", "ok"),
        ("1000", "warning"),
        ("me:root", "warning"),
    ],
)
def test_a_user_who_is_not_root_may_be_unable_to_write_the_model(user: str, verdict: str) -> None:
    assert finding("user", image("x", user=user)).verdict == verdict


ACCOUNTS = {
    "/etc/passwd": file("root:x:0:0:root:/root:/bin/sh\n  me:x:7:7::/:\n\n+broken", executable=False),
    "/etc/group": file("root:x:0:\nus:x:7:", executable=False),
}
NOBODY: Files = {"/etc/passwd": None, "/etc/group": None}
PART: Files = {"/etc/passwd": ImageFile("/etc/passwd", "root:x:0:0::/:\n", executable=False, whole=False)}


@pytest.mark.parametrize(
    ("user", "files", "verdict", "says"),
    [
        ("root", ACCOUNTS, "ok", ""),
        ("me", ACCOUNTS, "warning", "belongs to root"),
        ("me:us", ACCOUNTS, "warning", "belongs to root"),
        ("1000:us", ACCOUNTS, "warning", "belongs to root"),
        (":root", ACCOUNTS, "ok", ""),
        ("1000:1000", NOBODY, "warning", "belongs to root"),
        ("0:0", NOBODY, "ok", ""),
        ("m", ACCOUNTS, "failed", "unable to find user m: no matching entries in passwd file"),
        ("0x10", ACCOUNTS, "failed", "unable to find user 0x10"),
        ("me:them", ACCOUNTS, "failed", "unable to find group them: no matching entries in group file"),
        (":them", ACCOUNTS, "failed", "unable to find group them"),
        ("0:them", ACCOUNTS, "failed", "unable to find group them"),
        ("you:them", ACCOUNTS, "failed", "unable to find user you"),
        ("root", NOBODY, "failed", "unable to find user root"),
        ("2147483648", {}, "failed", "in range 0-2147483647"),
        ("0:-1", {}, "failed", "in range 0-2147483647"),
        ("9" * 5000, ACCOUNTS, "failed", "unable to find user 999"),
        ("you", {}, "warning", "belongs to root"),
        ("you", PART, "warning", "belongs to root"),
    ],
)
def test_a_user_whom_the_image_does_not_know_starts_nothing(
    user: str, files: Files, verdict: str, says: str
) -> None:
    found = finding("user", image("x", user=user), files)
    assert (found.verdict, says in found.message) == (verdict, True), found


@pytest.mark.parametrize(
    ("user", "paths"),
    [
        ("", set()),
        ("1000:1000", set()),
        ("me", {"/etc/passwd"}),
        ("root:0", {"/etc/passwd"}),
        (":us", {"/etc/group"}),
        ("me:us", {"/etc/passwd", "/etc/group"}),
    ],
)
def test_names_of_users_are_looked_up_in_the_image(user: str, paths: set[str]) -> None:
    places = places_to_look(image("/x", user=user), Start())
    assert set(places) - {"/x", "train"} == paths
    assert all(places[path] == (path,) for path in paths)


def test_a_name_that_is_missing_can_be_made_with_the_command_of_the_fix() -> None:
    found = finding("user", image("x", user="my user:us"), {"/etc/passwd": ACCOUNTS["/etc/passwd"]})
    assert "RUN useradd 'my user'" in found.fix
    assert "USER 0" in found.fix
    assert "RUN groupadd them" in finding("user", image("x", user="0:them"), ACCOUNTS).fix


@pytest.mark.parametrize(
    ("manifest", "verdict"),
    [
        (Manifest(DOCKER_MANIFEST), "ok"),
        (Manifest(OCI_MANIFEST), "warning"),
        (Manifest(OCI_INDEX, ("linux/amd64", "unknown/unknown")), "warning"),
        (Manifest(DOCKER_LIST, ("linux/amd64", "linux/arm64")), "warning"),
        (Manifest(DOCKER_LIST, ("linux/arm64",)), "failed"),
        (Manifest("text/html"), "warning"),
        (Manifest("", reason="not pushed", fix="push it"), "unknown"),
        (Manifest(DOCKER_MANIFEST, reason="not pushed", fix="push it"), "unknown"),
        (Manifest(OCI_INDEX, reason="not pushed", fix="push it"), "warning"),
    ],
)
def test_only_a_single_image_in_dockers_own_format_is_safe(manifest: Manifest, verdict: str) -> None:
    found = finding("manifest", image("x"), manifest=manifest)
    assert found.verdict == verdict
    if verdict in {"warning", "failed"}:
        assert "--provenance=false --sbom=false" in found.fix
        assert "oci-mediatypes=false" in found.fix
    if manifest.reason:
        assert ("this machine would push" if verdict == "warning" else "not pushed") in found.message


def test_an_index_has_to_have_an_image_for_the_processor_of_the_instance() -> None:
    grace = Start(instance_types=("ml.p6e-gb200.36xlarge",))
    index = Manifest(DOCKER_LIST, ("linux/arm64",))
    assert (
        finding("manifest", image("x", system="linux/arm64"), manifest=index, start=grace).verdict
        == "warning"
    )
    found = finding("manifest", image("x"), manifest=Manifest(DOCKER_LIST, ("linux/amd64",)), start=grace)
    assert found.verdict == "failed"
    assert "--platform linux/arm64 " in found.fix


# Notes of a rehearsal, and the login.


def test_a_rehearsal_notes_what_the_facts_alone_show() -> None:
    facts = image("/bin/sh", "-c", "python x.py", system="linux/arm64", user="me")
    notes = notes_on_start(facts, a_request())
    assert len(notes) == 4
    for note, says in zip(notes, ("exec format error", "drops its arguments", "PID 1", "USER"), strict=True):
        assert says in note
        assert "\n" in note


@pytest.mark.parametrize("entry_point", [(), ("train",), ("python3", "/x.py"), ("/entry.sh",)])
def test_a_rehearsal_notes_nothing_that_only_the_content_of_the_image_would_show(
    entry_point: tuple[str, ...],
) -> None:
    assert notes_on_start(image(*entry_point), a_request()) == []


def test_a_rehearsal_knows_the_first_process_of_the_deep_learning_containers_by_name() -> None:
    notes = notes_on_start(image("bash", "-m", "start_with_right_hostname.sh"), a_request())
    assert [note.partition(":")[0] for note in notes] == [
        "start_with_right_hostname.sh of the AWS Deep Learning Container is PID 1, and does not pass SIGTERM on"
    ]


@pytest.mark.parametrize(
    ("uri", "command"),
    [
        (
            "123456789012.dkr.ecr.cn-north-1.amazonaws.com.cn/x:1",
            (
                "aws ecr get-login-password --region cn-north-1"
                " | podman login --username AWS --password-stdin 123456789012.dkr.ecr.cn-north-1.amazonaws.com.cn"
            ),
        ),
        ("example.com/x:1", ""),
        ("base", ""),
        ("$(reboot).dkr.ecr.us-east-1.amazonaws.com/x:1", ""),
    ],
)
def test_the_login_is_that_of_the_images_own_registry(uri: str, command: str) -> None:
    assert login_command(uri, "podman") == command


words = st.lists(
    st.one_of(
        st.sampled_from(["sh", "bash", "tini", "python3", "train", "-c", "-o", "--", "-m", "/e.sh", "x.py"]),
        st.text(max_size=6),
    ),
    max_size=6,
).map(tuple)
contents = st.sampled_from(
    ["", ELF, PYTHON, TOOLKIT, HOSTNAME_SCRIPT, '#!/bin/sh\n"$@"', "#!/bin/sh\nexec x"]
)


@given(words, words, words, st.data())
@settings(deadline=None, max_examples=300)
def test_every_command_has_all_findings_whatever_the_image_holds(
    entry_point: tuple[str, ...], own: tuple[str, ...], arguments: tuple[str, ...], data: st.DataObject
) -> None:
    start = Start(own, arguments)
    facts = image(*entry_point)
    places = places_to_look(facts, start)
    assert all(path.startswith("/") for paths in places.values() for path in paths)
    files = {
        name: data.draw(st.one_of(st.none(), st.builds(file, contents, executable=st.booleans())))
        for name in places
    }
    for found in (finding(name, facts, files, start) for name in ("start", "program", "signals")):
        assert "\n" not in found.message
    assert finding("start", facts, files, start).verdict != "unknown"
    json.dumps([found.message for found in check_image(facts, files, PUSHED, start)])
