"""Shell completion: what is the same for everybody is in the script, and this is asked for the rest, offline and at once."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from sagemaker_launcher.archive.history_cache import recent_names
from sagemaker_launcher.frozen import frozen

SHELLS = ("bash", "zsh", "fish")
_RECENT = 50
_DEFAULT_CONFIG = Path("configs/sagemaker_config.yaml")
_SOURCE = re.compile(
    r"^SOURCE:[^\n]*\n(?:[ \t]+[^\n]*\n|\s*\n)*?[ \t]+DIR:[ \t]*[\"']?([^\s\"'#]+)", re.MULTILINE
)
_KEY = re.compile(r"^_?C\.([A-Z][A-Z0-9_.]*)[ \t]*=(?![^\n]*\b(?:CN|CfgNode)\()", re.MULTILINE)
_WORD = re.compile(r"[\w@.:/+=-]+")


@frozen
class Command:
    """A command as shells know it: its line of help, its options with theirs, and whether it takes experiments."""

    help: str
    options: Mapping[str, str]
    takes_experiments: bool


def main(words: Sequence[str]) -> None:
    """Prints words, one a line: `experiments`, or `keys` and the words of the command line."""
    found = recent_names(_RECENT) if words[:1] == ["experiments"] else training_keys(words[1:])
    # What comes from files that others have written goes into a shell: nothing but words.
    sys.stdout.write("".join(f"{word}\n" for word in found if _WORD.fullmatch(word)))


def training_keys(words: Sequence[str]) -> Iterator[str]:
    """The keys that `config.py`, beside the training code, defines; read without running it.

    Args:
        words: The command line, which may name a SageMaker config.
    """
    config = next((Path(word) for word in words if word.endswith((".yaml", ".yml"))), _DEFAULT_CONFIG)
    try:
        source = _SOURCE.search(config.read_text("utf-8"))
        schema = config.parent / source[1] / "config.py" if source else None
        if schema is not None:
            yield from _KEY.findall(schema.read_text("utf-8"))
    except (OSError, ValueError):
        return


def script(shell: str, program: str, commands: Mapping[str, Command], set_keys: Sequence[str]) -> str:
    """What a shell has to read once.

    Args:
        shell: One of SHELLS.
        program: The program's name, as it is typed.
        commands: Every command.
        set_keys: The keys of the SageMaker config.
    """
    root = Path(__file__).resolve().parent.parent
    ask = f"{_quoted(sys.executable)} -c {_quoted(_ASK.format(root=str(root)))}"
    if shell == "fish":
        return _fish(program, ask, commands, set_keys)
    start = "autoload -U +X bashcompinit && bashcompinit\n" if shell == "zsh" else ""
    return start + _bash(program, ask, commands, set_keys)


_ASK = "import sys; sys.path.insert(0, {root!r}); from sagemaker_launcher.completion import main; main(sys.argv[1:])"
_BASH = """\
_run_sagemaker_job() {{
    local word=${{COMP_WORDS[COMP_CWORD]}} before=${{COMP_WORDS[COMP_CWORD-1]}} words=
    if [ "$COMP_CWORD" = 1 ]; then
        words={commands}
    elif [ "$before" = --set ]; then
        words={keys}
    elif [ "$before" = --train ]; then
        words=$({ask} keys "${{COMP_WORDS[@]}}" 2>/dev/null)
    else
        case ${{COMP_WORDS[1]}}:$word in
{cases}
        esac
    fi
    COMPREPLY=($(compgen -W "$words" -- "$word"))
}}
complete -o default -F _run_sagemaker_job {program}
"""


def _bash(program: str, ask: str, commands: Mapping[str, Command], set_keys: Sequence[str]) -> str:
    cases = []
    for name, command in commands.items():
        cases.append(f"            {name}:-*) words={_quoted(' '.join(command.options))} ;;")
        if command.takes_experiments:
            cases.append(f'            {name}:*) words="@latest @me $({ask} experiments 2>/dev/null)" ;;')
    return _BASH.format(
        program=_quoted(program),
        ask=ask,
        commands=_quoted(" ".join(commands)),
        keys=_quoted(" ".join(set_keys)),
        cases="\n".join(cases),
    )


# A function, since fish has other rules for quotes in quotes than the rest.
_FISH = """\
function __run_sagemaker_job_words
    {ask} $argv 2>/dev/null
end
"""


def _fish(program: str, ask: str, commands: Mapping[str, Command], set_keys: Sequence[str]) -> str:
    start = f"complete -c {_quoted(program)}"
    lines = []
    for name, command in commands.items():
        chosen = f"-n '__fish_seen_subcommand_from {name}'"
        lines.append(f"{start} -f -n __fish_use_subcommand -a {name} -d {_quoted(command.help)}")
        for option, text in command.options.items():
            kind = f"-l {option[2:]}" if option.startswith("--") else f"-s {option[1:]}"
            words = {
                "--set": f" -x -a {_quoted(' '.join(set_keys))}",
                "--train": " -x -a '(__run_sagemaker_job_words keys (commandline -opc))'",
            }.get(option, "")
            lines.append(f"{start} {chosen} {kind}{words} -d {_quoted(text)}")
        if command.takes_experiments:
            lines.append(f"{start} -f {chosen} -a '@latest @me (__run_sagemaker_job_words experiments)'")
    return _FISH.format(ask=ask) + "\n".join(lines) + "\n"


def _quoted(text: str) -> str:
    """A word for any of the shells."""
    return "'" + text.replace("'", "'\\''") + "'"
