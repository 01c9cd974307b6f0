"""A profile's own program for credentials, which may fail in every way and must not take for ever."""

from __future__ import annotations

import json
import shlex
import subprocess
from collections.abc import Sequence
from typing import Any

from sagemaker_launcher.errors import CredentialsError

_LIMIT_S = 60.0


class CredentialProgram(subprocess.Popen[bytes]):
    """The program of a profile's `credential_process`, for botocore, which calls it like subprocess.Popen.

    https://docs.aws.amazon.com/cli/latest/userguide/cli-configure-sourcing-external.html

    Args:
        args: The command.
        limit_s: When it is killed.
        options: As Popen takes them.
    """

    def __init__(self, args: Sequence[str], *, limit_s: float = _LIMIT_S, **options: Any) -> None:  # noqa: ANN401 - Popen's
        self._command = shlex.join(args)
        self._limit_s = limit_s
        try:
            super().__init__(args, **options)
        except OSError as error:
            raise self._failure(f"cannot be started: {error.strerror}") from error

    def communicate(self, *_: object, **__: object) -> tuple[bytes, bytes]:
        """What it wrote. Raises CredentialsError when it does not end, or writes something else than a JSON object."""
        try:
            out, err = super().communicate(timeout=self._limit_s)
        except subprocess.TimeoutExpired as error:
            self.kill()
            self.__exit__(None, None, None)  # closes its pipes, and waits for its end
            raise self._failure(f"has not ended within {self._limit_s:g} s") from error
        if not self.returncode and not _is_object(out):
            raise self._failure("wrote no JSON object")
        return out, err.decode("utf-8", "replace").encode()

    def _failure(self, what: str) -> CredentialsError:
        hint = "run it in a terminal to see what is wrong"
        return CredentialsError(
            f"credential_process: {self._command}: {what}", hint=hint, code="login_needed"
        )


def _is_object(data: bytes) -> bool:
    try:
        return isinstance(json.loads(data), dict)
    except ValueError:
        return False
