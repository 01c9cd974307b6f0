"""Which account an access key belongs to, kept in the user's cache: it is the same for ever, and asking takes long."""

from __future__ import annotations

import os
import re
from contextlib import suppress

from sagemaker_launcher.digest import sha256
from sagemaker_launcher.errors import EnvironmentProblemError
from sagemaker_launcher.user_cache import cache_folder, place


def recalled_account(access_key: str) -> str:
    """The account that was kept; empty when none was."""
    with suppress(OSError, ValueError):
        found = (place() / _name(access_key)).read_text("ascii")
        if re.fullmatch("[0-9]{12}", found):
            return found
    return ""


def keep_account(access_key: str, account: str) -> str:
    """Keeps an account, and gives it back. Where nothing can be kept, the next question only takes longer."""
    with suppress(EnvironmentProblemError, OSError):
        (cache_folder() / _name(access_key)).write_text(account, "ascii")
    return account


def _name(access_key: str) -> str:
    """The file's name; another world than AWS's own can have the same keys."""
    world = os.environ.get("AWS_ENDPOINT_URL_STS", "") or os.environ.get("AWS_ENDPOINT_URL", "")
    return f"account-{sha256(f'{access_key} {world}'.encode())[:32]}"
