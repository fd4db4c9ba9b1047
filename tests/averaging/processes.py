"""Processes that train together (gloo, CPU), started once for many tests: starting them takes seconds."""

from __future__ import annotations

import os
import sys
import traceback
from collections.abc import Callable
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist

from tests.forking import forks

_PATIENCE = 120  # seconds until processes that do not answer are taken to wait for each other


class Team:
    """Processes of one process group.

    Args:
        size: How many.
        folder: An empty folder of their own.
    """

    def __init__(self, size: int, folder: Path) -> None:
        self._members = []
        for rank in range(size):
            ours, theirs = forks().Pipe()
            process = forks().Process(target=_serve, args=(rank, size, folder, theirs), daemon=True)
            process.start()
            theirs.close()
            self._members.append((process, ours))

    def run(self, work: Callable[..., None], arguments: tuple[Any, ...]) -> None:
        """Call a function of a module in all processes; fail if it fails or hangs in one of them."""
        for _, pipe in self._members:
            pipe.send((work, arguments))
        failures: list[str] = []
        for rank, (_, pipe) in enumerate(self._members):
            try:
                failure = pipe.recv() if pipe.poll(_PATIENCE if not failures else 5) else "it does not return"
            except EOFError:
                failure = "it ended"
            if failure:
                failures.append(f"in process {rank}: {failure}")
        if failures:
            raise AssertionError("\n".join(failures))

    def end(self) -> None:
        """End the processes."""
        for process, pipe in self._members:
            pipe.close()
            process.terminate()
            process.join()


class Teams:
    """Teams by their size, each started when it is first needed, and anew after a failure."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._started = 0
        self._teams: dict[int, Team] = {}

    def __call__(self, size: int, work: Callable[..., None], *arguments: Any) -> None:
        """Call a function of a module in several processes."""
        if size not in self._teams:
            folder = self._folder / f"team{self._started}"
            folder.mkdir()
            self._started += 1
            self._teams[size] = Team(size, folder)
        try:
            self._teams[size].run(work, arguments)
        except BaseException:
            self._teams.pop(size).end()
            raise

    def end(self) -> None:
        """End all processes."""
        while self._teams:
            self._teams.popitem()[1].end()


def _serve(rank: int, size: int, folder: Path, pipe: Connection) -> None:
    torch.set_num_threads(1)
    os.environ["GLOO_SOCKET_IFNAME"] = "lo"
    dist.init_process_group("gloo", init_method=f"file://{folder}/rendezvous", rank=rank, world_size=size)
    while True:
        try:
            work, arguments = pipe.recv()
        except EOFError:
            sys.exit()
        try:
            work(*arguments)
        except BaseException:
            pipe.send(traceback.format_exc())
        else:
            pipe.send("")
