"""Where a user's caches are: what the user says, or what the system is used to."""

from __future__ import annotations

import sys
from pathlib import Path

import platformdirs
import pytest

from sagemaker_launcher.user_cache import VARIABLE, cache_folder, place


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere platformdirs itself is asked")
@pytest.mark.parametrize("given", [None, "", "  ", "/var/tmp/caches", "/with a/blank"])
def test_on_linux_it_is_what_platformdirs_says(monkeypatch: pytest.MonkeyPatch, given: str | None) -> None:
    monkeypatch.delenv(VARIABLE, raising=False)
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    if given is not None:
        monkeypatch.setenv("XDG_CACHE_HOME", given)
    assert place() == Path(platformdirs.user_cache_dir("sagemaker-launcher"))


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere platformdirs itself is asked")
def test_a_relative_place_is_none_as_the_specification_says(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.delenv(VARIABLE, raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", "caches")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert place() == tmp_path / ".cache" / "sagemaker-launcher"


def test_what_the_user_says_counts_and_is_made(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "other"))
    monkeypatch.setenv(VARIABLE, str(tmp_path / "mine" / "caches"))
    assert cache_folder() == tmp_path / "mine" / "caches"
    assert cache_folder().is_dir()
    assert not (tmp_path / "other").exists()
