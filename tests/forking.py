"""Processes forked from one that has imported everything: torch and Lightning take seconds to import."""

from __future__ import annotations

import multiprocessing
from functools import cache
from multiprocessing.context import ForkServerContext


@cache
def forks() -> ForkServerContext:
    """Return what starts such processes; the one that they are forked from starts with the first of them."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["tests.durability.imported"])
    return context
