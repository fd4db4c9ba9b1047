"""Seeds for one purpose each."""

from __future__ import annotations

import hashlib


def derived_seed(seed: int, purpose: str, epoch: int = 0) -> int:
    """Return a seed for one purpose, so that an epoch draws the same numbers however often training was resumed."""
    digest = hashlib.blake2b(f"{seed}/{purpose}/{epoch}".encode(), digest_size=8).digest()
    return int.from_bytes(digest) >> 1
