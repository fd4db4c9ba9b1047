"""Training on two processes with a checkpoint every few steps, which can lose either of them at any moment."""

from __future__ import annotations

import random
import time
from functools import partial
from pathlib import Path

import torch
import torch.distributed as dist
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from switch_ema import SwitchEMA, save_averaged
from switch_ema.averaging.files import write_atomically
from tests.durability.tally import Tally
from tests.forking import forks

WORLD = 2
_STEPS, _EVERY = 40, 4


def train(rank: int, folder: Path, meeting: Path) -> None:
    """Train as one of the processes, from the checkpoint if there is one, and save the average at the end."""
    dist.init_process_group("gloo", init_method=f"file://{meeting}", rank=rank, world_size=WORLD)
    torch.manual_seed(0)
    module = nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8), nn.Linear(8, 1))
    model = DistributedDataParallel(module)
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    averager = SwitchEMA(module, decay=0.9, switch_every=10)
    averager.attach(optimizer)
    path, first = folder / "checkpoint.pt", 0
    if path.exists():
        state = torch.load(path, weights_only=True)
        module.load_state_dict(state["model"])
        optimizer.load_state_dict(state["optimizer"])
        averager.load_state_dict(state["averager"])
        first = state["step"]
    for step in range(first, _STEPS):
        draws = torch.Generator().manual_seed(1000 * step + rank)
        inputs = torch.randn(16, 4, generator=draws)
        optimizer.zero_grad()
        (model(inputs) - inputs.sum(1, keepdim=True)).square().mean().backward()
        optimizer.step()
        if rank == 0 and (step + 1) % _EVERY == 0:
            state = {
                "model": module.state_dict(),
                "optimizer": optimizer.state_dict(),
                "averager": averager.state_dict(),
                "step": step + 1,
            }
            write_atomically(path, partial(torch.save, state))
            (folder / "steps").write_text(str(step + 1))
    if rank == 0:
        save_averaged(averager, folder / "averaged.safetensors")
    dist.barrier()
    dist.destroy_process_group()


def launch(folder: Path, killed: int | None = None, after: float = 0.0) -> bool:
    """Run all processes; where one is lost the others are ended too, as torchrun does.

    Args:
        folder: Where the checkpoint lies.
        killed: The process that gets a SIGKILL; none by default.
        after: Seconds until then.

    Returns:
        Whether they came to the end.
    """
    folder.mkdir(exist_ok=True)
    meeting = folder / f"meeting-{time.monotonic_ns()}"
    workers = [forks().Process(target=train, args=(rank, folder, meeting)) for rank in range(WORLD)]
    for worker in workers:
        worker.start()
    deadline = time.monotonic() + (after if killed is not None else 60)
    while any(worker.is_alive() for worker in workers) and time.monotonic() < deadline:
        time.sleep(0.002)
    if killed is not None:
        workers[killed].kill()
        workers[killed].join()
    for worker in workers:
        worker.kill()
        worker.join()
    return all(worker.exitcode == 0 for worker in workers)


def lose_workers(folder: Path, losses: int, rng: random.Random, longest: float) -> tuple[int, bytes]:
    """Train to the end with processes lost on the way.

    Args:
        folder: Where the checkpoint and the result go.
        losses: How many processes are killed at most.
        rng: Chooses which and when.
        longest: Seconds within which they are killed.

    Returns:
        How many were lost while they still had work to do, and the bytes of the averaged weights.
    """
    lost = 0
    for _ in range(losses):
        lost += not launch(folder, rng.randrange(WORLD), rng.uniform(0, longest))
    if not launch(folder):
        raise RuntimeError("the processes did not come to their end")
    return lost, (folder / "averaged.safetensors").read_bytes()


def workers_lost(folder: Path, losses: int, rng: random.Random) -> Tally:
    """Lose processes of a training on two, at random moments, and compare the averaged weights."""
    tally = Tally("SIGKILL of one of two processes in data-parallel training")
    start = time.monotonic()
    _, whole = lose_workers(folder / "whole", 0, rng, 0)
    longest = time.monotonic() - start
    while tally.tried < losses:
        lost, found = lose_workers(folder / f"lost-{tally.tried}", 3, rng, longest)
        if found == whole:
            tally.count("equal result", lost)
        else:
            tally.lose(f"{lost} workers lost: other weights")
    return tally
