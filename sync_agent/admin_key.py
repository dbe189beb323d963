"""The admin key of the embedded store: made once, at the first start, and kept in a file of its own."""

from __future__ import annotations

import secrets
from pathlib import Path
from typing import Final

from gw.settings import Refused, check_admin_key
from sync_agent.private_file import ensure_secret, refuse_content

# 128 bits, as `openssl rand -hex 16` gives.
_KEY_BYTES: Final = 16


def ensure_admin_key(path: Path) -> str:
    """The key in the file, which is made with a new key (mode 0600) when there is none.

    Raises ConfigError when the file cannot be made or read, belongs to another user, is open to others, or holds no
    acceptable key.
    """
    what = "the admin key"
    try:
        return check_admin_key(ensure_secret(path, what, lambda: secrets.token_hex(_KEY_BYTES)))
    except Refused as refused:
        raise refuse_content(path, what, refused.reason) from None
