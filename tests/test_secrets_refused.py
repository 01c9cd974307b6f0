"""A secret never reaches the archive: the launch is refused before anything is written, and nothing leaks on the way."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
import yaml

from tests.commands import CommandLine, Finished
from tests.fault_rows import provokes
from tests.project import Project, settings
from tests.stand_in import document, launch, local, nothing_written, rehearsal, snapshot

# Two halves, so that nobody's scanner takes this file for a leak.
TOKEN = "ghp_" + "x7Kq2mZp9LrT4vWn8BcD3fGh6JkS1aQy5EuR"
KEY_ID = "AKIA" + "Q7RT2MZPNVKDWXUE"
SECRET_KEY = "wJalrXUtnFEMI/K7MDENG" + "/bPxRfiCYz8kQm2LpTqV"
SESSION_TOKEN = "IQoJb3JpZ2luX2VjEJr" + "canary7Hf93jDkq0Zs8Lx2Vb"
HARMLESS = "# launcher: allow-secret"


def refused(cli: CommandLine, project: Project, *words: str, secret: str = TOKEN, dry_run: int = 14) -> str:
    """The message of a launch that must be refused and leave nothing; the secret itself must not be in it.

    A dry run does not look at the git repository, since it archives nothing.
    """
    with nothing_written(project.s3):
        done = launch(cli, project, *words)
        shown = cli(*rehearsal(project, *words))
        dry = launch(cli, project, "--dry-run", *words)
    assert (done.code, shown.code) == (14, 14), done.err
    assert dry.code == dry_run
    assert done.json["error"]["code"] == "secret_found"
    for text in (done.out, done.err, shown.out, shown.err):
        assert secret not in text
        assert secret[6:] not in text
    assert HARMLESS in done.json["error"]["hint"]
    message: str = done.json["error"]["message"]
    told = [line.removeprefix("error: ") for line in shown.err.splitlines() if line.startswith("error: ")]
    assert message.splitlines() == told
    return message


def line_of(path: Path, text: str) -> int:
    return next(number for number, line in enumerate(path.read_text().splitlines(), 1) if text in line)


def git(folder: Path, *words: str) -> None:
    command = ["git", "-c", "user.name=me", "-c", "user.email=me@example.com", *words]
    subprocess.run(command, cwd=folder, capture_output=True, check=True)


@pytest.fixture
def repository(project: Project) -> Path:
    git(project.folder, "init", "--quiet")
    (project.folder / ".gitignore").write_text("s3/\n")
    git(project.folder, "add", "--all")
    git(project.folder, "commit", "--quiet", "--message", "first")
    return project.folder


@provokes(87)
def test_a_secret_in_the_sagemaker_config_is_refused_with_its_line(
    cli: CommandLine, project: Project
) -> None:
    project.write(ESTIMATOR={"ENVIRONMENT": {"GITHUB": TOKEN}})
    line = line_of(project.config, TOKEN)
    assert f"{project.config}:{line}: looks like a GitHub token (ghp_…" in refused(cli, project)


@provokes(87)
def test_a_secret_in_the_training_config_is_refused_with_its_line(cli: CommandLine, project: Project) -> None:
    project.write_training(f"SEED: 1\nNAME: {TOKEN}\n")
    assert f"{project.training}:2: looks like a GitHub token (ghp_…" in refused(cli, project)


def test_a_password_by_its_name_is_refused(cli: CommandLine, project: Project) -> None:
    project.write(ESTIMATOR={"HYPERPARAMETERS": {"db_password": "tr0ub4dor&3"}})
    assert "sagemaker_config.yaml:" in refused(cli, project, secret="tr0ub4dor&3")


def test_a_secret_in_a_comment_is_refused_too(cli: CommandLine, project: Project) -> None:
    project.write_training(f"SEED: 1  # was {TOKEN}\n")
    assert f"{project.training}:1: " in refused(cli, project)


@provokes(87)
@pytest.mark.parametrize(
    ("option", "key"), [("--set", "ESTIMATOR.ENVIRONMENT.GITHUB"), ("--set", "TAGS.x"), ("--train", "NAME")]
)
def test_a_secret_on_the_command_line_is_refused_with_its_option(
    cli: CommandLine, project: Project, option: str, key: str
) -> None:
    assert f"{option} {key}: looks like a GitHub token" in refused(cli, project, option, key, TOKEN)


def test_a_secret_in_what_a_rerun_changes_is_refused(cli: CommandLine, project: Project) -> None:
    experiment = launch(cli, project).json["experiment"]
    with nothing_written(project.s3):
        done = cli("rerun", experiment, "--s3-root", project.s3, "--json", "--train", "NAME", TOKEN)
    assert (done.code, done.json["error"]["code"]) == (14, "secret_found")
    assert TOKEN not in done.out + done.err


def test_all_places_are_told_at_once(cli: CommandLine, project: Project) -> None:
    project.write(TAGS={"x": KEY_ID})
    project.write_training(f"NAME: {TOKEN}\n")
    message = refused(cli, project, "--set", "TAGS.y", TOKEN)
    assert len(message.splitlines()) == 4
    assert KEY_ID not in message


@provokes(88)
def test_a_secret_in_the_uncommitted_changes_is_refused_with_file_and_line(
    cli: CommandLine, project: Project, repository: Path
) -> None:
    main = repository / "code" / "main.py"
    main.write_text(main.read_text() + f"TOKEN = '{TOKEN}'\n")
    line = line_of(main, TOKEN)
    assert f"code/main.py (uncommitted):{line}: looks like a GitHub token" in refused(cli, project, dry_run=0)


def test_a_secret_that_is_about_to_be_removed_is_in_the_patch_as_well(
    cli: CommandLine, project: Project, repository: Path
) -> None:
    main = repository / "code" / "main.py"
    before = main.read_text()
    main.write_text(f"TOKEN = '{TOKEN}'\n{before}")
    git(repository, "commit", "--quiet", "--all", "--message", "oops")
    main.write_text(before)
    assert "code/main.py" in refused(cli, project, dry_run=0)


@provokes(88)
def test_a_secret_in_what_is_committed_or_untracked_is_not_archived_and_no_reason_to_refuse(
    cli: CommandLine, project: Project, repository: Path
) -> None:
    (repository / "committed.py").write_text(f"TOKEN = '{TOKEN}'\n")
    git(repository, "add", "--all")
    git(repository, "commit", "--quiet", "--message", "oops")
    (repository / ".env").write_text(f"TOKEN={TOKEN}\n")
    done = launch(cli, project)
    assert done.code == 0, done.err
    assert TOKEN not in everything(project, done)


@provokes(87)
def test_a_line_that_is_declared_harmless_passes_and_is_recorded(
    cli: CommandLine, project: Project, repository: Path
) -> None:
    project.write()
    text = project.config.read_text()
    project.config.write_text(f"{text}TAGS:\n  example: {TOKEN}  {HARMLESS}\n")
    main = repository / "code" / "main.py"
    main.write_text(main.read_text() + f"EXAMPLE = '{TOKEN}'  {HARMLESS}\n")
    done = launch(cli, project)
    assert done.code == 0, done.err
    manifest = document(local(project, done.json["experiment"]), "manifest.json")
    places = manifest["allowed_secrets"]
    assert f"{project.config}:{line_of(project.config, TOKEN)}: looks like a GitHub token" in "\n".join(
        places
    )
    assert f"code/main.py (uncommitted):{line_of(main, TOKEN)}: looks like a GitHub token" in "\n".join(
        places
    )
    assert TOKEN not in "\n".join(places)
    shown = cli("show", done.json["experiment"], "--s3-root", project.s3)
    assert shown.out.count("declared harmless") == len(places)


def test_declaring_one_line_harmless_does_not_cover_another(cli: CommandLine, project: Project) -> None:
    project.write_training(f"NAME: {TOKEN}  {HARMLESS}\n")
    refused(cli, project, "--set", "TAGS.x", TOKEN)


@provokes(87)
def test_values_of_training_jobs_that_only_look_random_pass(cli: CommandLine, project: Project) -> None:
    image = f"123456789012.dkr.ecr.us-east-1.amazonaws.com/digits@sha256:{'0123456789abcdef' * 4}"
    project.write(
        ESTIMATOR={
            "IMAGE_URI": image,
            "HYPERPARAMETERS": {
                "max_tokens": "4096",
                "tokenizer": "bert-base-uncased",
                "key": "label",
                "sort_key": "id",
            },
            "ENVIRONMENT": {
                "COMMIT": "9fceb02d0ae598e95dc970b74767f19372d61af8",
                "HF_TOKEN_ARN": "from-secrets-manager",
            },
        }
    )
    done = launch(cli, project)
    assert done.code == 0, done.out


# --- credentials of the user ---


def everything(project: Project, done: Finished) -> str:
    """All that a launch showed and all that it left."""
    stored = b"".join(data for data in snapshot(project.s3).values() if data)
    return done.out + done.err + stored.decode("utf-8", "replace")


CREDENTIALS = {
    "AWS_ACCESS_KEY_ID": KEY_ID,
    "AWS_SECRET_ACCESS_KEY": SECRET_KEY,
    "AWS_SESSION_TOKEN": SESSION_TOKEN,
    "GITHUB_TOKEN": TOKEN,
    "HTTPS_PROXY": f"http://me:{SESSION_TOKEN}@proxy.example.com:3128",
}


@provokes(89)
@pytest.mark.parametrize("text", [None, "raise ValueError('failed')", "import os; os.kill(os.getpid(), 9)"])
def test_the_users_credentials_appear_nowhere(
    cli: CommandLine, project: Project, repository: Path, text: str | None
) -> None:
    assert repository
    if text is not None:
        project.program(text)
    done = launch(cli, project, **CREDENTIALS)
    assert done.code in {0, 10}
    found = everything(project, done)
    for name, secret in CREDENTIALS.items():
        assert secret not in found, name
    again = cli("rerun", done.json["experiment"], "--s3-root", project.s3, "--json", env=CREDENTIALS)
    assert again.code == done.code
    assert SECRET_KEY not in everything(project, again)


def test_a_remote_url_with_a_password_is_archived_without_it(
    cli: CommandLine, project: Project, repository: Path
) -> None:
    git(repository, "remote", "add", "origin", f"https://me:{TOKEN}@git.example.com/a.git")
    done = launch(cli, project)
    assert done.code == 0, done.err
    assert TOKEN not in everything(project, done)


def test_the_tests_own_settings_have_no_secrets(cli: CommandLine, project: Project) -> None:
    assert yaml.safe_load(project.config.read_text()) == settings()
    assert launch(cli, project).code == 0


# --- secrets that the training code's defaults bring into the training config ---


def add_default(project: Project, text: str) -> Path:
    """Puts a line before the end of the project's config.py."""
    schema = project.folder / "code" / "config.py"
    schema.write_text(schema.read_text().replace("\n\n\ndef get", f"\n{text}\n\n\ndef get"))
    return schema


@provokes(87)
def test_a_secret_among_the_defaults_is_refused_with_its_line(cli: CommandLine, project: Project) -> None:
    schema = add_default(project, f'_C.DATA.TRACKING_TOKEN = "{TOKEN}"')
    message = refused(cli, project)
    assert f"{schema}:{line_of(schema, TOKEN)}: looks like a GitHub token (ghp_…" in message
    assert len(message.splitlines()) == 2


def test_a_default_that_is_computed_is_refused_where_its_key_is_set(
    cli: CommandLine, project: Project
) -> None:
    (project.folder / "code" / "extra.json").write_text(f'["{TOKEN[:20]}", "{TOKEN[20:]}"]')
    schema = add_default(
        project,
        "import json, pathlib\n_parts = json.loads(pathlib.Path(__file__).with_name('extra.json').read_text())\n"
        "_C.TOKEN = ''\n_C.DATA.TOKEN = ''.join(_parts)\n_C.DATA['LIST'] = [{''.join(['PASS', 'WORD']): 'hunter' * 2}]",
    )
    message = refused(cli, project)
    line = line_of(schema, "_C.DATA.TOKEN")
    assert f"{schema}:{line}: looks like a GitHub token (ghp_…" in message
    assert f"{schema}, DATA.LIST.PASSWORD: looks like a secret named DATA.LIST.PASSWORD (hu…" in message


def test_a_default_that_is_declared_harmless_passes_and_is_recorded(
    cli: CommandLine, project: Project
) -> None:
    computed = "''.join(['" + TOKEN[:9] + "', '" + TOKEN[9:] + "'])"
    schema = add_default(
        project, f'_C.SECRET = "{TOKEN}"  {HARMLESS}\n_C.DATA.COMPUTED = {computed}  {HARMLESS}'
    )
    done = launch(cli, project)
    assert done.code == 0, done.err
    places = document(local(project, done.json["experiment"]), "manifest.json")["allowed_secrets"]
    first = line_of(schema, TOKEN)
    assert [place.partition(": looks")[0] for place in places] == [f"{schema}:{first}"]


def test_a_default_that_a_config_replaces_is_not_archived_and_no_reason_to_refuse(
    cli: CommandLine, project: Project
) -> None:
    add_default(project, f'_C.DATA.TOKEN = "{TOKEN}"')
    project.write_training('DATA: {TOKEN: ""}\n')
    done = launch(cli, project)
    assert done.code == 0, done.err
    assert TOKEN not in everything(project, done)


# --- values of the command line that are declared harmless ---


@provokes(87)
def test_the_mark_of_an_override_lets_its_value_pass_and_is_no_part_of_it(
    cli: CommandLine, project: Project
) -> None:
    done = launch(
        cli, project,
        "--train", "NAME", f"{TOKEN} {HARMLESS}",
        "--train", "SOLVER.STEPS", f"[1, 2] {HARMLESS}",
        "--set", "ESTIMATOR.ENVIRONMENT.API_KEY", f'"{TOKEN}"  {HARMLESS} (an example)',
        "--set", "ESTIMATOR.HYPERPARAMETERS.note", "a # b",
    )  # fmt: skip
    assert done.code == 0, done.err
    folder = local(project, done.json["experiment"])
    training = yaml.safe_load((folder / "training_config.yaml").read_text())
    sagemaker = yaml.safe_load((folder / "sagemaker_config.yaml").read_text())
    assert (training["NAME"], training["SOLVER"]["STEPS"]) == (TOKEN, [1, 2])
    assert sagemaker["ESTIMATOR"]["ENVIRONMENT"]["API_KEY"] == TOKEN
    assert sagemaker["ESTIMATOR"]["HYPERPARAMETERS"] == {"note": "a # b"}
    assert len(document(folder, "manifest.json")["allowed_secrets"]) == 2
