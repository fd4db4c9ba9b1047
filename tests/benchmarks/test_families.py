"""The benchmark of the task families, small: both sides train the same, and what is timed is right."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from benchmarks import families
from benchmarks.baseline import baseline_run
from benchmarks.families import FAMILIES, Family, check_alike, measure_evaluation, measure_family
from benchmarks.plainloops import SCRIPTS, Loop
from benchmarks.table import markdown
from switch_ema.errors import FieldError
from tests.benchmarks.test_benchmarks import MACHINE
from tests.data.detection.make import make_coco

CPU = torch.device("cpu")
SIZES = {"textclass": 8, "generation": 8}
SMALL = [replace(family, batch_size=SIZES.get(family.task, 2), steps=2) for family in FAMILIES["cpu"]]
RECURRENT = Family("video", "convlstm", 2, 2)


def named(family: Family) -> str:
    return family.name


@pytest.mark.parametrize("family", [SMALL[0], SMALL[-2], SMALL[-1]], ids=named)  # of other shapes each
def test_rows(family: Family) -> None:
    ours, theirs = measure_family(family, CPU, 1)
    assert (ours.contender, theirs.contender) == ("switch_ema", SCRIPTS[family.task].library)
    assert all(row.unit == "steps/s" and (row.value or 0) > 0 for row in (ours, theirs))
    assert ours.ratio == 1
    text = markdown(MACHINE, [ours, theirs])
    assert f"| families, steps/s, {family.name} " in text
    assert f"batch {family.batch_size}, 2 steps a round" in text


@pytest.mark.parametrize("family", [*SMALL, RECURRENT], ids=named)
def test_the_scripts_loss_of_the_same_examples_is_ours(family: Family) -> None:
    task = baseline_run(family.settings(), CPU, family.steps).task
    model, script = task.build_model(), SCRIPTS[family.task]
    batch = next(task.train_batches(task.num_train, 1, CPU))
    examples = script.examples(batch)
    assert len(examples) == task.num_train == family.batch_size * family.steps
    collate = script.collate or torch.utils.data.default_collate
    losses = []
    for loss, made in ((task.loss, batch), (script.loss, collate(list(examples)))):
        torch.manual_seed(0)
        losses.append(loss(model, made).item())
    drawn = family.task == "generation"  # the script draws noise, ours has it in the batch
    assert losses[0] == pytest.approx(losses[1], rel=0.1 if drawn else 1e-5)


def test_the_loop_trains_as_ours_does() -> None:
    family = Family("language", "gpt", 2, 3, options={"layers": "1", "width": "16", "heads": "1"})
    settings = family.settings().model_copy(update={"lr": (0.01,), "clip_norm": 0.1})
    ours = baseline_run(settings, CPU, family.steps)
    loop = families._plain_loop(family, ours, CPU)
    network = loop._model
    before = [parameter.detach().clone() for parameter in network.parameters()]
    loop._batches = list(ours.batches("batches"))  # type: ignore[assignment]  # the same ones in the same order
    assert loop.train_epoch() == pytest.approx(ours.train_epoch(), rel=1e-5)
    for start, theirs, own in zip(before, network.parameters(), ours.module.parameters(), strict=True):
        torch.testing.assert_close(theirs, own, rtol=0, atol=1e-3)  # ours does not decay biases
        assert (theirs - start).abs().max() > 0.01


def test_clipping_bounds_the_step() -> None:
    model = torch.nn.Linear(1, 1, bias=False)
    start = model.weight.item()
    settings = Family("language", "gpt", 2, 1).settings().model_copy(update={"clip_norm": 1e-9})
    batches: list[torch.Tensor] = [torch.ones(1, 1)]
    loop = Loop(model, batches, lambda network, batch: 1e6 * network(batch).sum(), settings, CPU)  # type: ignore[arg-type]
    loop.train_epoch()
    assert abs(model.weight.item() - start) < 0.2 * families.RATE  # Adam's epsilon is ten times the gradient


def test_textclass_pads_to_the_longest() -> None:
    examples = [(torch.tensor([1, 5, 2]), torch.tensor(0)), (torch.tensor([1, 2]), torch.tensor(3))]
    collate = SCRIPTS["textclass"].collate
    assert collate is not None
    made = {name: values.tolist() for name, values in collate(examples).items()}
    assert made == {
        "input_ids": [[1, 5, 2], [1, 2, 0]],
        "attention_mask": [[1, 1, 1], [1, 1, 0]],
        "labels": [0, 3],
    }


@pytest.mark.parametrize("theirs", [1.3, 0.7, float("nan"), float("inf"), 0.0])
def test_losses_that_differ_are_refused(theirs: float) -> None:
    check_alike("a family", {"switch_ema": 1.0, "torch": 1.1})
    with pytest.raises(RuntimeError, match=r"a family: .* do not train the same: .*'torch'"):
        check_alike("a family", {"switch_ema": 1.0, "torch": theirs})


def test_the_real_sizes_can_be_asked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SEMA_DATA", str(tmp_path))
    for family in FAMILIES["cuda"]:
        if family.data:
            (row,) = measure_family(family, CPU, 1)
            assert row.note.startswith("not measured: ")
            assert "SEMA_DATA" in row.note
        else:
            assert family.settings().batch_size == family.batch_size
    with pytest.raises(FieldError, match="no option of task"):
        next(measure_family(replace(FAMILIES["cuda"][0], options={"lenght": "1"}), CPU, 1))
    (row,) = measure_evaluation(1)
    assert row.note.startswith("not measured: ")


def test_evaluation_is_timed_on_the_test_images(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make_coco(tmp_path / "bccd")
    monkeypatch.setenv("SEMA_DATA", str(tmp_path))
    (row,) = measure_evaluation(2)
    assert 0 < (row.value or 0) < 5
    assert row.unit == "s"
    assert "test images of bccd, 100 random detections on each" in markdown(MACHINE, [row])


def test_random_detections_lie_in_their_image() -> None:
    import numpy as np

    found = families._guesses(np.array([48, 64]), 3, np.random.default_rng(0))
    assert found.boxes.shape == (100, 4)
    assert (found.boxes[:, 2:] - found.boxes[:, :2]).min() >= 1
    assert found.boxes.min() >= 0
    assert (found.boxes <= np.array([64, 48, 64, 48])).all()
    assert found.boxes[:, 2].max() > 48
    assert set(found.labels.tolist()) == {0, 1, 2}
