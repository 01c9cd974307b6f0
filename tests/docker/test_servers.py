"""The engine, the images and the registry of the tests themselves: what other tests take for granted."""

from __future__ import annotations

import http.client
from pathlib import Path

import pytest

from tests.servers import pip_settings
from tests.servers.engine import BASE_IMAGE, Engine
from tests.servers.registry import RegistryServer

HELLO = 'COPY hello /usr/local/bin/\nENTRYPOINT ["hello"]'


def test_an_image_is_built_once_and_its_scripts_can_be_executed(engine: Engine) -> None:
    files: dict[str, str | bytes] = {"hello": '#!/bin/sh\necho "hello $1"\n'}
    image = engine.build("hello", HELLO, files)
    assert engine("run", "--rm", image, "there").stdout == "hello there\n"
    made = engine.inspect(image)["Created"]
    assert engine.build("hello", HELLO, files) == image
    assert engine.inspect(image)["Created"] == made


def test_another_file_instruction_or_base_is_another_image(engine: Engine) -> None:
    files: dict[str, str | bytes] = {"hello": "#!/bin/sh\necho first\n"}
    first = engine.build("hello", HELLO, files)
    images = {
        first,
        engine.build("hello", HELLO, {"hello": "#!/bin/sh\necho second\n"}),
        engine.build("hello", f"{HELLO}\nENV A=1", files),
        engine.build("hello", HELLO, files, base=first),
    }
    assert len(images) == 4


def test_the_base_image_has_what_python_packages_without_wheels_need(engine: Engine) -> None:
    engine("run", "--rm", BASE_IMAGE, "python3", "-m", "venv", "/tmp/venv")
    engine("run", "--rm", BASE_IMAGE, "sh", "-c", "gcc --version && python3 -m pip --version")


def test_a_command_that_fails_shows_what_docker_said(engine: Engine) -> None:
    with pytest.raises(AssertionError, match=r"(?s)docker inspect nobody: exit code 1\n.*nobody"):
        engine.inspect("nobody")


def test_an_engine_that_does_not_answer_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DOCKER_HOST", f"unix://{tmp_path}/nobody.sock")
    with pytest.raises(
        LookupError, match=f"no Docker engine answers at unix://{tmp_path}/nobody.sock: .*connect"
    ):
        Engine.found()


def test_a_machine_without_docker_is_told_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(LookupError, match="there is no program `docker` here"):
        Engine.found()


def test_the_registry_answers_nobody_without_the_password(registry: RegistryServer) -> None:
    for headers in ({}, {"Authorization": "Basic QVdTOndyb25n"}):
        connection = http.client.HTTPConnection(registry.address, timeout=10)
        connection.request("GET", "/v2/", headers=headers)
        response = connection.getresponse()
        assert response.status == http.client.UNAUTHORIZED
        assert response.headers["WWW-Authenticate"] == 'Basic realm="tests"'
        connection.close()


def test_what_nobody_has_pushed_is_not_there(registry: RegistryServer) -> None:
    assert registry.tags("nobody/has-this") == []
    with pytest.raises(LookupError, match="MANIFEST_UNKNOWN"):
        registry.manifest("nobody/has-this", "1.0")


def test_pip_in_an_image_gets_indexes_but_no_folders_of_this_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PIP_CONFIG_FILE", "/dev/null")
    monkeypatch.setenv("PIP_INDEX_URL", "https://packages.example.com/simple")
    monkeypatch.setenv("PIP_EXTRA_INDEX_URL", "file:///wheels https://more.example.com/simple")
    monkeypatch.setenv("PIP_FIND_LINKS", "/wheels")
    settings = str(pip_settings.files()["pip.conf"])
    assert "\nindex-url = https://packages.example.com/simple\n" in settings
    assert "\nextra-index-url = https://more.example.com/simple\n" in settings
    assert "wheels" not in settings


def test_certificates_of_pip_come_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "mine.crt").write_bytes(b"certificates")
    monkeypatch.setenv("PIP_CERT", str(tmp_path / "mine.crt"))
    assert pip_settings.files()["ca-certificates.crt"] == b"certificates"
