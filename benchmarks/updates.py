"""Time of an update, and how near its memory traffic comes to what the memory can move.

An update must read the average, read the weight and write the average: three words a parameter, 4 + 4 + 4 bytes in
float32 and 4 + 2 + 4 with bfloat16 weights. Two limits are measured in the same rounds, on flat float32 arrays with as
many elements as the model has weights:

- `add_`: `a.add_(b)` moves the same three words in one kernel (STREAM's add, in place): the limit we take.
- `copy_`: `b.copy_(a)` reads one word and writes one, counted as 8 bytes. A processor that first fetches the line it is
  about to write moves 12, so this limit is low where that is so; it stands beside the other for those who know it.

Percent of a limit is (bytes moved by the update / its time) / (bytes moved by the limit / its time), round by round.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import chain

import torch
from torch import nn

from benchmarks.check import Verdict, verify
from benchmarks.measure import Action, interleave, spread
from benchmarks.peers import OURS, PEERS, Average, make_all
from benchmarks.rows import Row, plain_row, timed_rows
from benchmarks.shapes import LARGE, build, num_parameters

DECAY = 0.999
BARE = "(bare foreach_lerp_)"
LIMITS = {"add_": 12, "copy_": 8}
"""Bytes a limit moves per element."""


def measure_updates(name: str, dtype: str, device: torch.device, rounds: int) -> Iterator[Row]:
    """Check all contenders on a model, time those that are right, and yield the rows.

    Args:
        name: A model of `shapes.MODELS`.
        dtype: A type of `shapes.DTYPES`.
        device: Where the model is.
        rounds: Rounds that count.
    """
    model = build(name, dtype, device)
    contenders, faults = make_all(model, DECAY)
    verdicts = {peer: Verdict(fault) for peer, fault in faults.items()} | verify(model, contenders, DECAY)
    if verdicts[OURS.name].fault:
        raise RuntimeError(f"our own average of {name} in {dtype} is not right: {verdicts[OURS.name].fault}")
    for contender, verdict in verdicts.items():
        if verdict.fault:
            contenders.pop(contender, None)
            yield Row("update", dtype, name, contender, note=verdict.fault)
    actions: dict[str, Action] = {contender: average.update for contender, average in contenders.items()}
    if dtype == "float32":
        actions[BARE] = _bare(model)
    limits = _limits(num_parameters(model), device) if name in LARGE else {}
    weights = [p.detach() for p in model.parameters()]
    times = interleave(actions | limits, rounds, device, before=lambda: torch._foreach_mul_(weights, 0.9999))
    yield from timed_rows("update", dtype, name, {contender: times[contender] for contender in actions}, OURS.name, {})
    for contender, verdict in verdicts.items():
        for kind, done in verdict.buffers.items():
            yield Row("buffers", "buffers", f"{name}, {kind}", contender, note=done)
    moved = sum(p.numel() * (8 + p.element_size()) for p in model.parameters())
    for limit in limits:
        bound = LIMITS[limit] * num_parameters(model)
        table = f"{dtype}, {limit}"
        for contender in actions:
            shares = [
                100 * (moved / own) / (bound / full) for own, full in zip(times[contender], times[limit], strict=True)
            ]
            yield plain_row("traffic", table, name, contender, "%", spread(shares))
        yield plain_row("traffic", table, name, "(limit)", "GB/s", spread([bound / t / 1e9 for t in times[limit]]))


def _bare(model: nn.Module) -> Action:
    """Return the kernel that most libraries end in, on lists made beforehand, parameters only: no library at all."""
    weights = [p.detach() for p in model.parameters()]
    averages = [weight.clone() for weight in weights]
    return lambda: torch._foreach_lerp_(averages, weights, 1 - DECAY)


def _limits(numel: int, device: torch.device) -> dict[str, Action]:
    a, b = torch.ones(numel, device=device), torch.ones(numel, device=device)
    target = torch.ones(numel, device=device)
    return {"add_": lambda: a.add_(b, alpha=1e-3), "copy_": lambda: target.copy_(b)}


def measure_swaps(name: str, dtype: str, device: torch.device, rounds: int) -> Iterator[Row]:
    """Time the lending of averaged weights to the model and their return, with nothing done between.

    Each contender is first seen to lend its averages and to bring the very same weights back.
    """
    model = build(name, dtype, device)
    contenders, faults = make_all(model, DECAY)
    faults |= {peer: verdict.fault for peer, verdict in verify(model, contenders, DECAY).items() if verdict.fault}
    for contender, average in contenders.items():
        faults[contender] = faults.get(contender) or swap_fault(model, average)
    actions: dict[str, Action] = {}
    for contender, fault in faults.items():
        if fault:
            yield Row("swap", dtype, name, contender, note=fault)
        else:
            actions[contender] = _swap(contenders[contender])
    notes = {peer.name: peer.swap for peer in PEERS if peer.swap}
    yield from timed_rows("swap", dtype, name, interleave(actions, rounds, device), OURS.name, notes)


def _swap(average: Average) -> Action:
    def there_and_back() -> None:
        with average.swapped():
            pass

    return there_and_back


def swap_fault(model: nn.Module, average: Average) -> str:
    live = dict(chain(model.named_parameters(), model.named_buffers()))
    own = {name: tensor.detach().clone() for name, tensor in live.items()}
    expected = {name: tensor.clone() for name, tensor in average.tensors().items() if name in live}
    with average.swapped():
        inside = dict(chain(model.named_parameters(), model.named_buffers()))
        if not all(torch.equal(inside[name], value.to(inside[name].dtype)) for name, value in expected.items()):
            return "wrong: the weights inside are not the averages"
    after = dict(chain(model.named_parameters(), model.named_buffers()))
    return "" if all(torch.equal(after[n], own[n]) for n in own) else "wrong: the weights do not come back"
