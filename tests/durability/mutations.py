"""Damage to files, and whether it is noticed: each file is read as it always is, or refused in one line."""

from __future__ import annotations

import random
import re
import shutil
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from switch_ema import EMA, average_checkpoints, load_averaged, save_averaged
from switch_ema.averaging.snapshots import Snapshot, find
from switch_ema.bench.checkpoint import read_checkpoint
from switch_ema.bench.gallery import read_exhibits
from switch_ema.bench.kept import kept_weights
from switch_ema.bench.results import Store, read_run
from switch_ema.bench.studies.record import read_arms
from tests.durability import commands
from tests.durability.faults import Fault
from tests.durability.tally import Tally
from tests.durability.work import sema

Read = Callable[[Path], Any]
ONE_LINE = re.compile(r"\S[^\n]*")


def mutations(data: bytes, rng: random.Random) -> Iterator[tuple[str, bytes]]:
    """Yield damaged copies of a file without end: each kind of damage in turn, at a random place."""
    while True:
        at, size = rng.randrange(len(data)), rng.choice((1, 16, 512, 4096))
        bit = bytearray(data)
        bit[at] ^= 1 << rng.randrange(8)
        yield "bit flipped", bytes(bit)
        yield "cut short", data[:at]
        yield "block of zeros", data[:at] + bytes(min(size, len(data) - at)) + data[at + size :]
        yield "block twice", data[: at + size] + data[at:]
        yield "block missing", data[:at] + data[at + size :]
        yield "garbage behind", data + rng.randbytes(size)


@dataclass(frozen=True)
class Target:
    """A file of a folder, and how the library reads it.

    Attributes:
        name: What the file is.
        path: Where it lies in the folder.
        read: Reads the folder, in plain containers and bytes.
        again: Whether reading less than all is no loss, since the same command measures the rest again.
    """

    name: str
    path: str
    read: Read
    again: bool = False


def bits(state: Any) -> Any:
    """Return nested containers with every tensor as its type, shape and bytes."""
    if isinstance(state, Tensor):
        flat = state.detach().cpu().contiguous().reshape(-1)
        return str(state.dtype), tuple(state.shape), flat.view(torch.uint8).numpy().tobytes()
    if isinstance(state, Mapping):
        return {key: bits(value) for key, value in state.items()}
    if isinstance(state, list | tuple):
        return [bits(value) for value in state]
    return state


def damage(folder: Path, target: Target, count: int, rng: random.Random) -> Tally:
    """Damage one file again and again, and read it each time.

    Args:
        folder: A folder with whole files; the file is put back.
        target: The file.
        count: How many times.
        rng: Chooses the damage.
    """
    tally = Tally(f"{target.name} damaged")
    path = folder / target.path
    whole = path.read_bytes()
    expected = bits(target.read(folder))
    for number, (kind, damaged) in enumerate(mutations(whole, rng)):
        if number == count:
            break
        path.write_bytes(damaged)
        what = f"{target.name}: {kind} (number {number})"
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                found = bits(target.read(folder))
        except ValueError as error:
            if ONE_LINE.fullmatch(str(error)):
                tally.count("refused")
            else:
                tally.lose(f"{what}: refused with {str(error)!r}")
        except Exception as error:
            tally.lose(f"{what}: {type(error).__name__}: {error}")
        else:
            if found == expected:
                tally.count("harmless")
            elif target.again and found == expected[: len(found)]:
                tally.count("measured again")
            else:
                tally.lose(f"{what}: another content, silently")
    path.write_bytes(whole)
    return tally


def _checkpoint(folder: Path) -> Any:
    try:
        return read_checkpoint(folder / "checkpoint.pt", torch.device("cpu"))
    except Exception as error:  # as `run_trajectory` does, which says it in one line
        raise ValueError(f"{folder} is damaged ({type(error).__name__}); delete it") from None


def _continued(folder: Path) -> Any:
    """Return what a command that goes on takes from a folder."""
    store = Store(folder)
    settled, done = store.settled(), store.done()
    copy = folder.parent / "continued"
    shutil.copytree(folder, copy, ignore=shutil.ignore_patterns("*.pt", "weights", "exhibits"), dirs_exist_ok=True)
    Store(copy).rewind(settled)
    rows = (copy / "rows.jsonl").read_bytes()
    shutil.rmtree(copy)
    return done, rows


def _kept(folder: Path) -> Any:
    run, _ = read_run(folder)
    return [kept.state() for kept in kept_weights(folder, run)]


UNFINISHED = (
    Target("run.json", "run.json", lambda folder: read_run(folder)[0]),
    Target("progress.json", "progress.json", _continued),
    Target("rows.jsonl, settled, to go on", "rows.jsonl", _continued),
    Target("rows.jsonl, all", "rows.jsonl", lambda folder: read_run(folder)[1]),
    Target("rows.sums", "rows.sums", lambda folder: read_run(folder)[1], again=True),
    Target("checkpoint.pt", "checkpoint.pt", _checkpoint),
)
"""Files of a comparison that was killed after a checkpoint of its second trajectory."""


def finished_targets(folder: Path) -> list[Target]:
    """Return the files of a finished comparison, read as the report reads them."""
    weights = next(folder.rglob("last.safetensors")).relative_to(folder)
    exhibits = next(folder.glob("exhibits/*.json")).relative_to(folder)
    return [
        Target("rows.jsonl, finished", "rows.jsonl", lambda folder: read_run(folder)[1]),
        Target("progress.json, finished", "progress.json", lambda folder: [Store(folder).done(), *read_run(folder)]),
        Target("kept weights", str(weights), _kept),
        Target("exhibits", str(exhibits), read_exhibits),
    ]


def study_targets(folder: Path) -> list[Target]:
    """Return the files of a finished study."""

    def arms(folder: Path) -> Any:
        return [[arm.name, arm.title, arm.sheets, list(arm.measured)] for arm in read_arms(folder)]

    measured = next(folder.glob("arms/*/measured.json")).relative_to(folder)
    return [Target("study.json", "study.json", arms), Target("measured.json", str(measured), arms)]


def _model() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(4, 3), nn.BatchNorm1d(3))


def make_averaged(folder: Path) -> tuple[Target, ...]:
    """Write averaged weights and a snapshot into a folder, and return them as targets."""
    model = _model()
    averager = EMA(model, decay=0.9)
    averager.update()
    save_averaged(averager, folder / "averaged.safetensors")
    _write_snapshot(folder / "snapshots", model)

    def load(folder: Path) -> Any:
        fresh = _model()
        about = load_averaged(folder / "averaged.safetensors", fresh)
        return [about, fresh.state_dict()]

    def merge(folder: Path) -> Any:
        average_checkpoints([folder / "averaged.safetensors"] * 2, folder / "mean.safetensors", force=True)
        fresh = _model()
        load_averaged(folder / "mean.safetensors", fresh)
        return fresh.state_dict()

    def snapshot(folder: Path) -> Any:
        (found,) = find(folder / "snapshots")
        with found.open() as file:
            file.verify()
            return [found.run, str(found.profile), {name: file.tensor(name) for name in sorted(file.entries)}]

    name = next((folder / "snapshots").iterdir()).relative_to(folder)
    return (
        Target("averaged.safetensors, loaded", "averaged.safetensors", load),
        Target("averaged.safetensors, averaged with others", "averaged.safetensors", merge),
        Target("snapshot of post-hoc EMA", str(name), snapshot),
    )


def _write_snapshot(folder: Path, model: nn.Module) -> None:
    from switch_ema.averaging.profiles import Power
    from switch_ema.averaging.snapshots import Kind

    folder.mkdir()
    tensors = {name: tensor.detach() for name, tensor in model.named_parameters()}
    Snapshot.write(folder, "run", Power(6.94, 10), Kind(frozenset(), {}, use_buffers=False), tensors)


def folders(folder: Path) -> Iterator[tuple[Path, Sequence[Target]]]:
    """Yield folders that hold every kind of file, each with those that are to be damaged."""
    yield killed_after_checkpoint(folder), UNFINISHED
    finished = folder / "finished"
    commands.undisturbed(commands.COMPARISON, finished)
    yield finished, finished_targets(finished)
    study = folder / "study"
    commands.undisturbed(commands.STUDY, study)
    yield study, study_targets(study)
    averaged = folder / "averaged"
    averaged.mkdir()
    yield averaged, make_averaged(averaged)


def killed_after_checkpoint(folder: Path) -> Path:
    """Return the folder of a comparison that was killed after a checkpoint of its second trajectory."""
    for point in range(100, 5000, 100):  # of its write points, some thousand
        out = folder / f"unfinished-{point}"
        sema((*commands.COMPARISON, out), folder / "unfinished.log", Fault("kill", point, str(out)))
        if len(Store(out).done()) == 1 and Store(out).written() is not None and Store(out).checkpoint_path.exists():
            return out
    raise RuntimeError("no checkpoint of the second trajectory was written")


def continued_after_damage(folder: Path, count: int, rng: random.Random) -> Tally:
    """Damage one file of a killed comparison, and give the command again: it ends equal, or refuses in one line."""
    tally = Tally("a killed comparison goes on with a damaged file")
    whole = commands.undisturbed(commands.COMPARISON, folder / "whole")
    killed = killed_after_checkpoint(folder)
    paths = ("run.json", "progress.json", "rows.jsonl", "rows.sums", "checkpoint.pt")
    damaged = {path: mutations((killed / path).read_bytes(), rng) for path in paths}
    for number in range(count):
        path = paths[number % len(paths)]
        out = folder / f"damaged-{number}"
        shutil.copytree(killed, out)
        kind, content = next(damaged[path])
        (out / path).write_bytes(content)
        ended = sema((*whole.arguments, out), out.with_suffix(".log"))
        if ended.code == 0 and commands.result_of(out) == whole.result:
            tally.count("equal result")
        elif ended.code == 2 and ended.in_one_line and "delete" in ended.said:
            tally.count("refused")
        else:
            tally.lose(f"{path}, {kind}: exit code {ended.code}: {ended.said[-300:]!r}")
    return tally
