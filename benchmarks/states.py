"""Saving and loading the state of an average: `torch.save`, then `torch.load` and `load_state_dict`."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

import torch
from torch import nn

from benchmarks.measure import Action, Spread, interleave
from benchmarks.peers import OURS, PEERS, Average, Peer, make_all, reason
from benchmarks.rows import Row, plain_row, timed_rows
from benchmarks.shapes import build, num_parameters

DECAY = 0.999


def measure_states(name: str, device: torch.device, rounds: int) -> Iterator[Row]:
    """Time saving and loading, see that what is loaded is what was saved, and yield the rows.

    A state is what the users of a library save; where that would hold the trained model too, it is told not to.
    """
    model = build(name, "float32", device)
    contenders, faults = make_all(model, DECAY)
    with tempfile.TemporaryDirectory() as folder:
        files = {contender: Path(folder) / f"{number}.pt" for number, contender in enumerate(contenders)}
        faults |= {contender: _fault(average, model, files[contender]) for contender, average in contenders.items()}
        for contender, fault in faults.items():
            if fault:
                yield Row("state", name, "load", contender, note=fault)
        right = {contender: average for contender, average in contenders.items() if not faults[contender]}
        saves = {contender: _save(average, files[contender]) for contender, average in right.items()}
        loads = {contender: _load(average, files[contender]) for contender, average in right.items()}
        yield from timed_rows("state", name, "save", interleave(saves, rounds, device, warm_up=1), OURS.name, {})
        yield from timed_rows("state", name, "load", interleave(loads, rounds, device, warm_up=1), OURS.name, {})
        unit = 4 * num_parameters(model)
        for contender in right:
            size = files[contender].stat().st_size / unit
            yield plain_row("state", name, "file / average", contender, "x", Spread(size, size, size))
    for peer in PEERS:
        if peer.name in right:
            kept = "yes" if _keeps_float32(peer, device) else "no"
            yield Row("state", name, "stays float32", peer.name, note=kept)


def _save(average: Average, file: Path) -> Action:
    return lambda: torch.save(average.state(), file)


def _load(average: Average, file: Path) -> Action:
    return lambda: average.load(torch.load(file, weights_only=True))


@torch.no_grad()
def _fault(average: Average, model: nn.Module, file: Path) -> str:
    try:
        average.update()
        _save(average, file)()
        saved = {name: tensor.clone() for name, tensor in average.tensors().items()}
        for parameter in model.parameters():
            parameter.add_(1)
        average.update()
        average.update()
        _load(average, file)()
    except Exception as error:
        return reason(error)
    loaded = average.tensors()
    return "" if all(torch.equal(loaded[name], saved[name]) for name in saved) else "wrong: loads other values"


def _keeps_float32(peer: Peer, device: torch.device) -> bool:
    """Return whether a float32 average of a bfloat16 model is still one after its state is loaded."""
    average = peer.make(build("400 small", "mixed", device), DECAY)
    average.load(average.state())
    return all(tensor.dtype is torch.float32 for tensor in average.tensors().values())
