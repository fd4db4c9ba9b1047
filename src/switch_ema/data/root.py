"""Where named data sets lie."""

from __future__ import annotations

import os

_DEFAULT = "../shared/data"


def data_root() -> str:
    """Return the folder in the environment variable ``SEMA_DATA``, by default ``../shared/data``."""
    return os.environ.get("SEMA_DATA") or _DEFAULT
