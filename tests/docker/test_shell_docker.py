"""`shell --on docker`: a shell where the job would run."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pexpect
import pytest

from tests.docker.launching import CODE, Desk, OrdinaryUser
from tests.servers.engine import Engine
from tests.stand_in import snapshot

# Each line is marked, for an interactive shell would also show its prompt.
LOOK = f"""
echo folders $(ls /opt/ml) / $(ls /opt/ml/input/data)
echo data $(cat /opt/ml/input/data/training/a.csv)
echo config $(grep BASE_LR /opt/ml/input/data/config/training_config.yaml)
echo hyperparameters $(cat /opt/ml/input/config/hyperparameters.json)
echo variables $TRAINING_JOB_NAME $AWS_REGION $MY_OWN $FOO
echo code $(cat {CODE}/main.py)
echo host $(hostname)
echo space $(grep -o 'rehearsals/[0-9a-f]*' /proc/self/mountinfo | sort -u)
touch /opt/ml/model/weights {CODE}/written
exit 7
"""


@pytest.fixture
def desk(engine: Engine, tmp_path: Path) -> Desk:
    """A desk in a folder with an odd name, whose image would start something else."""
    folder = tmp_path / 'a "desk", of: sorts'
    folder.mkdir()
    desk = Desk.set_up(folder, engine)
    desk.project.write(
        S3={"CHECKPOINTS": "s3://team/checkpoints"},
        ESTIMATOR={"HYPERPARAMETERS": {"epochs": 3}, "ENVIRONMENT": {"MY_OWN": "mine"}},
    )
    desk.project.program("print('the program')")
    return desk


def words(desk: Desk) -> list[str]:
    return [
        *desk.cli.command("shell", desk.project.config, "--s3-root", desk.project.s3, "--image", desk.image)
    ]


def run(desk: Desk, script: str, **variables: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        words(desk),
        cwd=desk.cli.folder,
        env={**desk.cli.environment, **variables},
        input=script,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_commands_find_everything_that_the_job_would_find_and_nothing_is_archived(desk: Desk) -> None:
    before = snapshot(desk.project.s3)
    done = run(desk, LOOK, FOO="canary")
    assert done.returncode == 7, done.stderr
    told = dict(line.partition(" ")[::2] for line in done.stdout.splitlines())
    name = told["variables"].split()[0]
    assert name.startswith("team-tiny-")
    space = told.pop("space")
    assert told == {
        "folders": "checkpoints code input model output / config training",
        "data": "1,2",
        "config": "BASE_LR: 0.5",
        "hyperparameters": '{"epochs":"3"}',
        "variables": f"{name} us-east-1 mine",
        "code": "print('the program')",
        "host": "ip-10-0-0-1.us-east-1.compute.internal",
    }
    assert snapshot(desk.project.s3) == before
    assert desk.left(space.partition("/")[2]) == []
    assert (desk.project.folder / "code" / "written").exists()


def test_code_that_is_edited_meanwhile_is_seen_in_the_shell(desk: Desk) -> None:
    command, environment = words(desk), dict(desk.cli.environment)
    shell = pexpect.spawn(
        command[0], command[1:], cwd=desk.cli.folder, env=environment, encoding="utf-8", timeout=30
    )
    try:
        shell.expect_exact("#")  # the prompt of root
        shell.sendline("tty; python3 /opt/ml/code/main.py")
        shell.expect("/dev/pts/[0-9]+")
        shell.expect("the program")
        desk.project.program("print('the ' + 'other one')")
        shell.sendline("python3 /opt/ml/code/main.py")
        shell.expect_exact("the other one")
        # One process: a Ctrl-C that comes before it is for nobody, and one between two commands for the shell.
        shell.sendline("sh -c \"echo asl''eep; exec sleep 60\"")
        shell.expect_exact("asleep")
        shell.sendintr()
        shell.sendline("echo still $((20 + 3)); exit 5")
        shell.expect_exact("still 23")
        shell.expect(pexpect.EOF)
    finally:
        shell.close()
    assert shell.exitstatus == 5
    assert list((desk.cache / "rehearsals").iterdir()) == []


def test_what_no_launch_could_copy_is_in_the_shell_as_it_is(desk: Desk) -> None:
    os.mkfifo(desk.project.folder / "code" / "pipe")
    done = run(desk, f"test -p {CODE}/pipe && echo a pipe\nexit 7\n")
    assert (done.returncode, done.stdout) == (7, "a pipe\n"), done.stderr


def test_what_root_writes_in_the_shell_belongs_to_the_user(users_desk: Desk, users_folder: Path) -> None:
    done = run(users_desk, f"id -u; umask 077; mkdir {CODE}/new; touch {CODE}/new/file /opt/ml/model/m")
    assert (done.returncode, done.stdout) == (0, "0\n"), done.stderr
    assert (users_desk.project.folder / "code" / "new" / "file").exists()
    assert {path.stat().st_uid for path in users_folder.rglob("*")} == {OrdinaryUser.UID}
    assert list((users_desk.cache / "rehearsals").iterdir()) == []


def test_what_belonged_to_others_before_the_shell_stays_theirs(users_desk: Desk) -> None:
    code = users_desk.project.folder / "code"
    (code / "of-root").mkdir()
    (code / "of-root" / "old").touch()
    (code / "of-a-colleague").touch()
    os.chown(code / "of-a-colleague", 777, 777)
    script = (
        f"cd {CODE}; echo '#' >> of-a-colleague; cp config.py new; mv new config.py; touch of-root/new;"
        " umask 077; mkdir -p a/b; touch a/b/c; ln -s of-root link; touch given; chown 778 given"
    )
    done = run(users_desk, script)
    assert done.returncode == 0, done.stderr
    others = {path.relative_to(code).as_posix(): path.lstat().st_uid for path in code.rglob("*")}
    expected = {"of-root": 0, "of-root/old": 0, "of-a-colleague": 777, "given": 778}
    assert {name: uid for name, uid in others.items() if uid != OrdinaryUser.UID} == expected
    assert {"of-root/new", "a/b/c", "link", "config.py"} <= set(others)


def test_to_root_nothing_is_given_that_was_anothers(engine: Engine, tmp_path: Path) -> None:
    if os.getuid():
        pytest.skip("only root can give files away")
    desk = Desk.set_up(tmp_path, engine)
    code = desk.project.folder / "code"
    os.chown(code / "config.py", 777, 777)
    assert run(desk, f"touch {CODE}/new").returncode == 0
    assert ((code / "config.py").stat().st_uid, (code / "new").stat().st_uid) == (777, 0)
