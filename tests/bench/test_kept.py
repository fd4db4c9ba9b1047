"""Weights that a comparison keeps: the right ones, of every method, also after a broken-off run."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from switch_ema.bench import train
from switch_ema.bench.kept import BEST, LAST, LOWEST_LOSS, kept_weights
from switch_ema.bench.measure import measure
from switch_ema.bench.request import make_task, recorded
from switch_ema.bench.results import Row, read_run
from switch_ema.errors import InputError
from tests.conftest import Sema

ASKED = (
    "compare", "classification", "--model", "mlp", "--train-size", "200", "--epochs", "4", "--seeds", "1",
    "--methods", "baseline,ema,sema", "--schedule", "constant",
)  # fmt: skip


def accuracy_of(folder: Path, path: Path, split: str) -> float:
    run, _ = read_run(folder)
    task = make_task(recorded(run["asked"]), 0)
    model = task.build_model()
    model.load_state_dict(load_file(path))
    assert split in ("val", "test")
    return task.evaluate(model.eval(), "val" if split == "val" else "test", torch.device("cpu"))["accuracy"]


def test_kept_weights_are_those_measured(sema: Sema, tmp_path: Path) -> None:
    assert sema(*ASKED, "--keep-weights", "every", "--out", tmp_path / "r").code == 0
    run, rows = read_run(tmp_path / "r")
    kept = kept_weights(tmp_path / "r", run)
    assert {each.method for each in kept} == {"baseline", "ema", "sema"}
    for each in kept:
        if not each.which.startswith("epoch-"):
            continue
        epoch = int(each.which.removeprefix("epoch-"))
        wanted = next(
            row["value"] for row in rows
            if (row["method"], row["epoch"], row["split"], row["metric"]) == (each.method, epoch, "val", "accuracy")
        )  # fmt: skip
        assert accuracy_of(tmp_path / "r", each.path, "val") == wanted


def test_best_is_the_best_on_validation(sema: Sema, tmp_path: Path) -> None:
    assert sema(*ASKED, "--keep-weights", "best", "--out", tmp_path / "r").code == 0
    run, rows = read_run(tmp_path / "r")
    kept = {(each.method, each.which): each for each in kept_weights(tmp_path / "r", run)}
    assert {which for _, which in kept} == {LAST, BEST, LOWEST_LOSS}
    for method in ("baseline", "ema", "sema"):
        of = [row for row in rows if row["method"] == method and row["split"] == "val"]
        best = max(row["value"] for row in of if row["metric"] == "accuracy")
        assert accuracy_of(tmp_path / "r", kept[method, BEST].path, "val") == best


def test_last_keeps_one_file_and_none_keeps_nothing(sema: Sema, tmp_path: Path) -> None:
    assert sema(*ASKED, "--keep-weights", "last", "--out", tmp_path / "last").code == 0
    assert sema(*ASKED, "--out", tmp_path / "none").code == 0
    run, _ = read_run(tmp_path / "last")
    assert [each.which for each in kept_weights(tmp_path / "last", run)] == [LAST] * 3
    assert not (tmp_path / "none" / "weights").exists()


def test_a_run_that_was_broken_off_keeps_the_same(sema: Sema, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(train, "_CHECKPOINT_SECONDS", 0.0)
    asked = (*ASKED, "--keep-weights", "best", "--out")
    assert sema(*asked, tmp_path / "whole").code == 0
    calls = 0

    def break_off(run: train.Run, loss: float) -> list[Row]:
        nonlocal calls
        calls += 1
        if calls == 3:
            raise KeyboardInterrupt
        return measure(run, loss)

    monkeypatch.setattr(train, "measure", break_off)
    assert sema(*asked, tmp_path / "broken").code == 130
    monkeypatch.setattr(train, "measure", measure)
    assert sema(*asked, tmp_path / "broken").code == 0
    files = sorted(path.relative_to(tmp_path / "whole") for path in (tmp_path / "whole").rglob("*.safetensors"))
    assert files
    for name in files:
        assert (tmp_path / "whole" / name).read_bytes() == (tmp_path / "broken" / name).read_bytes()


def test_damaged_file_is_named(sema: Sema, tmp_path: Path) -> None:
    assert sema(*ASKED, "--keep-weights", "last", "--out", tmp_path / "r").code == 0
    kept = kept_weights(tmp_path / "r", json.loads((tmp_path / "r" / "run.json").read_text()))[0]
    kept.path.write_bytes(b"\0" * 20)
    with pytest.raises(InputError, match=r"last.safetensors is no whole .*; delete its run folder and train again"):
        kept.state()
