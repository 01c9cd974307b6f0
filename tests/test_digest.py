"""SHA-256 is SHA-256, whichever module makes it."""

from __future__ import annotations

import hashlib
import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sagemaker_launcher.digest import new_sha256, sha256

MIB = 1024 * 1024


@given(st.binary(max_size=300))
def test_the_sum_is_that_of_the_standard_library(data: bytes) -> None:
    assert sha256(data) == hashlib.sha256(data).hexdigest()


@given(st.lists(st.binary(max_size=90)), st.sampled_from([0, 3 * MIB]))
def test_a_sum_can_be_made_bit_by_bit_whatever_size_was_expected(parts: list[bytes], expected: int) -> None:
    digest = new_sha256(expected)
    for part in parts:
        digest.update(part)
    assert digest.hexdigest() == hashlib.sha256(b"".join(parts)).hexdigest()


@pytest.mark.parametrize("size", [2 * MIB - 1, 2 * MIB, 3 * MIB])
def test_large_data_has_the_same_sum(size: int) -> None:
    data = b"x" * size
    assert sha256(data) == hashlib.sha256(data).hexdigest()


def _in_new_python(program: str) -> str:
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    return done.stdout.strip()


@pytest.mark.parametrize(("size", "loaded"), [(1000, "False"), (2 * MIB, "True")])
def test_openssl_is_loaded_only_for_what_is_large(size: int, loaded: str) -> None:
    program = f"""
import sys
from sagemaker_launcher.digest import sha256
sha256(bytes({size}))
print("_hashlib" in sys.modules)
"""
    assert _in_new_python(program) == loaded


def test_a_python_without_a_digest_of_its_own_takes_openssl() -> None:
    program = """
import sys
sys.modules.update({"_sha2": None, "_sha256": None})
from sagemaker_launcher.digest import sha256
print(sha256(b"abc"))
"""
    assert _in_new_python(program) == hashlib.sha256(b"abc").hexdigest()
