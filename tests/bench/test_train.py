from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import pytest
import torch

from switch_ema.bench import sharding, train
from switch_ema.bench.compare import compare, prepare
from switch_ema.bench.plan import Trajectory
from switch_ema.bench.results import Store, read_run
from switch_ema.bench.seeds import derived_seed
from switch_ema.bench.settings import Settings
from switch_ema.bench.stats import budget_points
from switch_ema.errors import InputError
from switch_ema.tasks.catalog import create
from switch_ema.tasks.classification import Classification
from tests.bench.sample import Hook, Watched

METHODS = "baseline,ema:decay=0.8,swa:update_every=1 epoch after 1,lawa:window=2,power_ema,sema:decay=0.8,lookahead:k=3"


def settings(**changes: Any) -> Settings:
    values: dict[str, Any] = {
        "task": "classification",
        "data": "digits",
        "model": "small-resnet",
        "task_options": {"train_size": 96, "label_noise": 0.25},
        "methods": METHODS,
        "seeds": 1,
        "epochs": 4,
        "batch_size": 24,
    }
    return Settings.of(**{**values, **changes})


def run(folder: Path, hook: Hook | None = None, **changes: Any) -> list[dict[str, Any]]:
    asked = settings(**changes)
    prepare(asked, folder)
    compare(asked, folder, "test", Watched(hook))
    return read_run(folder)[1]


def timeless(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [{name: value for name, value in row.items() if name != "seconds"} for row in rows]


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    return timeless(run(tmp_path_factory.mktemp("whole") / "run"))


@pytest.fixture(scope="module")
def uninterrupted_mlp(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    return timeless(run(tmp_path_factory.mktemp("mlp") / "run", model="mlp"))


SHORT = {"methods": "ema:decay=0.5", "epochs": 2}


class Killed(BaseException):
    """Ends the process at once, as far as the code can tell."""


PHASES = ["before rows", "after rows", "while checkpoint", "after checkpoint", "before finish", "after finish"]


@pytest.mark.parametrize(
    ("phase", "when"), [(phase, when) for phase in PHASES for when in ((1, 3) if "finish" in phase else (1, 6, 9))]
)
def test_a_run_killed_in_any_phase_ends_with_the_same_rows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest, phase: str, when: int
) -> None:
    count = 0
    moment, _, what = phase.partition(" ")
    statistics = when == 6 and what == "checkpoint"  # BatchNorm's, which come back with a checkpoint
    model, whole = ("small-resnet", "uninterrupted") if statistics else ("mlp", "uninterrupted_mlp")
    name = {"rows": "append", "checkpoint": "write_checkpoint", "finish": "finish"}[what]
    target: Any = sharding if what == "checkpoint" else Store
    original = getattr(target, name)
    monkeypatch.setattr(train, "_CHECKPOINT_SECONDS", 0.0)

    def killing(*arguments: Any) -> Any:
        nonlocal count
        count += 1
        if count != when:
            return original(*arguments)
        if moment == "after":
            original(*arguments)
        if moment == "while":
            arguments[0].with_name(".checkpoint.pt.half").write_bytes(b"half")
        raise Killed

    monkeypatch.setattr(target, name, killing)
    with pytest.raises(Killed):
        run(tmp_path / "run", model=model)
    monkeypatch.setattr(target, name, original)
    assert timeless(run(tmp_path / "run", model=model)) == request.getfixturevalue(whole)


def test_a_finished_run_trains_nothing_more(tmp_path: Path) -> None:
    run(tmp_path / "run", methods="baseline", epochs=1)
    before = (tmp_path / "run" / "rows.jsonl").read_bytes()

    def never(trajectory: Trajectory, epoch: int) -> None:
        pytest.fail("trained again")

    assert prepare(settings(methods="baseline", epochs=1), tmp_path / "run")
    run(tmp_path / "run", never, methods="baseline", epochs=1)
    assert (tmp_path / "run" / "rows.jsonl").read_bytes() == before


def test_every_method_is_measured_every_epoch(uninterrupted: list[dict[str, Any]]) -> None:
    labels = {row["method"] for row in uninterrupted}
    assert len(labels) == 7
    for label in labels:
        for split in ("val", "test"):
            for metric in ("accuracy", "loss"):
                found = [
                    row["epoch"]
                    for row in uninterrupted
                    if (row["method"], row["split"], row["metric"]) == (label, split, metric)
                ]
                assert found == [1, 2, 3, 4]


def test_batchnorm_is_re_estimated_at_the_points_of_the_budget(uninterrupted: list[dict[str, Any]]) -> None:
    rows = [row for row in uninterrupted if row["metric"] == "accuracy_bn_reestimated" and row["split"] == "val"]
    assert {row["epoch"] for row in rows} == {1, 2, 4} == set(budget_points(4).values())
    assert {row["method"] for row in rows} == {row["method"] for row in uninterrupted}


def test_switches_are_counted_in_the_rows(uninterrupted: list[dict[str, Any]]) -> None:
    switches = {
        label: [row["value"] for row in uninterrupted if row["metric"] == "n_switches" and row["method"] == label]
        for label in ("sema:decay=0.8", "lookahead:k=3", "baseline")
    }
    assert switches == {"sema:decay=0.8": [1, 2, 3, 4], "lookahead:k=3": [1, 2, 4, 5], "baseline": []}


def test_passive_methods_do_not_touch_training(tmp_path: Path, uninterrupted: list[dict[str, Any]]) -> None:
    alone = timeless(run(tmp_path / "alone", methods="baseline"))
    assert alone == [row for row in uninterrupted if row["method"] == "baseline"]


def test_lr_scale_is_the_learning_rate(tmp_path: Path) -> None:
    scaled = run(tmp_path / "scaled", methods="baseline:lr_scale=0.5", lr=(0.1,), epochs=2)
    plain = run(tmp_path / "plain", methods="baseline", lr=(0.05,), epochs=2)
    values = [row["value"] for row in scaled if row["method"] == "baseline:lr_scale=0.5"]
    assert values == [row["value"] for row in plain]


def test_accumulated_batches_make_one_step(tmp_path: Path) -> None:
    rows = run(tmp_path / "run", methods="baseline,ema:decay=0.8", accumulate=2, epochs=2, model="mlp")
    assert {row["step"] for row in rows} == {2, 4}
    # without BatchNorm, two batches of 24 make the step that one batch of 48 makes
    whole = run(tmp_path / "whole", methods="baseline,ema:decay=0.8", batch_size=48, epochs=2, model="mlp")
    for one, other in zip(rows, whole, strict=True):
        assert one["value"] == pytest.approx(other["value"], abs=1e-4)


@pytest.mark.parametrize(
    "changes",
    [
        {"optimizer": "adamw", "clip_norm": 1.0},
        {"optimizer": "adam", "schedule": "onecycle", "lr": 0.003},
        {"optimizer": "lamb", "lr": 0.02},
        {"optimizer": "lars", "lr": 2.0, "lr_min": 0.01},
        {"optimizer": "adan", "lr": 0.005, "schedule": "wsd"},
        {"optimizer": "schedulefree", "schedule": "constant", "lr": 0.01},
        {"methods": "baseline,sam,sam+ema:decay=0.5,sam+sema:decay=0.3", "clip_norm": 1.0, "accumulate": 2, "lr": 0.1},
        {"precision": "bf16-mixed"},
        {"schedule": "step", "momentum": 0.0},
        {"model": "mlp", "schedule": "constant"},
    ],
)
def test_every_way_of_training_learns(tmp_path: Path, changes: dict[str, Any]) -> None:
    changes = {"methods": "baseline,ema:decay=0.5", **changes}
    rows = run(tmp_path / "run", **changes, epochs=6, task_options={"train_size": 256})
    last = {row["method"]: row["value"] for row in rows if (row["split"], row["metric"]) == ("test", "accuracy")}
    assert min(last.values()) > 0.5


@pytest.mark.parametrize("clip_norm", [None, 1.0])
def test_a_diverging_run_is_reported_and_does_not_end_the_comparison(tmp_path: Path, clip_norm: float | None) -> None:
    methods = "baseline,sema:decay=0.5"
    rows = run(tmp_path / "run", methods=methods, lr=(1e30,), epochs=2, model="mlp", clip_norm=clip_norm)
    measured = [row for row in rows if row["epoch"] == 2 and row["metric"] != "n_switches"]
    assert {row["metric"] for row in measured} >= {"loss", "accuracy"}
    assert {row["value"] for row in measured} == {None}  # to name one class for all is right by chance, not by training
    assert (tmp_path / "run" / "report.html").exists()


@pytest.mark.parametrize("content", [b"", b"nonsense", b"PK\x03\x04"])
def test_a_damaged_checkpoint_is_refused(tmp_path: Path, content: bytes) -> None:
    def stop(trajectory: Trajectory, epoch: int) -> None:
        raise Killed

    with pytest.raises(Killed):
        run(tmp_path / "run", stop)
    (tmp_path / "run" / "checkpoint.pt").write_bytes(content)
    with pytest.raises(InputError, match=r"checkpoint.pt does not fit this run or is damaged.*delete it"):
        run(tmp_path / "run")


def test_the_checkpoint_of_another_network_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(train, "_CHECKPOINT_SECONDS", 0.0)

    def stop(trajectory: Trajectory, epoch: int) -> None:
        if epoch == 2:
            raise Killed

    for folder, model in (("one", "mlp"), ("other", "small-resnet")):
        with pytest.raises(Killed):
            run(tmp_path / folder, stop, model=model)
    (tmp_path / "one" / "checkpoint.pt").replace(tmp_path / "other" / "checkpoint.pt")
    with pytest.raises(InputError, match="does not fit this run"):
        run(tmp_path / "other")


def test_seeds_for_different_purposes_differ() -> None:
    seeds = {derived_seed(seed, purpose, epoch) for seed in (0, 1) for purpose in ("a", "b") for epoch in (0, 1)}
    assert len(seeds) == 8
    torch.manual_seed(max(seeds))  # fits torch's range


def test_sam_is_its_textbook(tmp_path: Path) -> None:
    rows = run(tmp_path / "run", methods="sam:rho=0.1", model="mlp", epochs=2, schedule="constant", warmup_epochs=0)
    asked = settings(model="mlp")
    task = create("classification", seed=0, model="mlp", options=asked.task_options)
    torch.manual_seed(derived_seed(0, "weights"))
    model = task.build_model()
    weights: list[torch.Tensor] = list(model.parameters())
    moments = [torch.zeros_like(weight) for weight in weights]
    for epoch in range(2):
        for batch in task.train_batches(24, derived_seed(0, "batches", epoch), torch.device("cpu")):
            first = torch.autograd.grad(task.loss(model, batch), weights)
            norm = torch.cat([gradient.flatten() for gradient in first]).norm()
            moved = [0.1 * gradient / norm for gradient in first]
            with torch.no_grad():
                torch._foreach_add_(weights, moved)
            second = torch.autograd.grad(task.loss(model, batch), weights)
            with torch.no_grad():
                torch._foreach_sub_(weights, moved)
                for weight, gradient, moment in zip(weights, second, moments, strict=True):
                    decayed = gradient + (5e-4 * weight if weight.ndim > 1 else 0)
                    moment.mul_(0.9).add_(decayed)
                    weight.sub_(0.05 * (decayed + 0.9 * moment))
    expected = task.evaluate(model.eval(), "test", torch.device("cpu"))["loss"]
    key = ("sam:rho=0.1", 2, "test", "loss")
    (found,) = (r["value"] for r in rows if (r["method"], r["epoch"], r["split"], r["metric"]) == key)
    assert found == pytest.approx(expected, rel=1e-4)


def test_sam_measures_batchnorm_once_a_step(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[int] = []
    original = train.Run.train_epoch

    def spy(self: train.Run) -> float:
        loss = original(self)
        seen.extend(int(b) for name, b in self.module.named_buffers() if name.endswith("num_batches_tracked"))
        return loss

    monkeypatch.setattr(train.Run, "train_epoch", spy)
    run(tmp_path / "run", methods="sam", epochs=1)
    assert set(seen) == {4}  # the baseline's run and sam's, four steps each


def test_between_the_epochs_to_measure_only_what_is_free_is_measured(tmp_path: Path) -> None:
    every = timeless(run(tmp_path / "every", methods="ema:decay=0.8,sema:decay=0.8", epochs=7, model="mlp"))
    some = timeless(run(tmp_path / "some", methods="ema:decay=0.8,sema:decay=0.8", epochs=7, model="mlp", eval_every=3))
    assert {row["epoch"] for row in some if row["split"] == "val"} == {1, 2, 3, 4, 6, 7}  # 10, 25, 50 % as well
    assert {row["epoch"] for row in some if row["split"] == "train"} == set(range(1, 8))
    assert [row for row in every if row["split"] == "train" or row["epoch"] != 5] == some


def test_a_method_that_has_averaged_nothing_yet_is_not_measured_twice(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = 0
    original = Classification.evaluate

    def counted(*arguments: Any) -> dict[str, float]:
        nonlocal calls
        calls += 1
        return original(*arguments)

    monkeypatch.setattr(Classification, "evaluate", counted)
    methods = "baseline,swa:update_every=1 epoch after 3,power_ema:update_after_step=11"
    rows = run(tmp_path / "run", methods=methods, epochs=4, model="mlp")
    assert calls == 2 * (4 + 1 + 2)
    first = {
        row["method"]: row["value"] for row in rows if (row["epoch"], row["split"], row["metric"]) == (1, "val", "loss")
    }
    assert len(first) == 3
    assert len(set(first.values())) == 1


def test_batchnorm_with_one_example_is_refused_before_anything_is_written(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"batch_size gives one example per device, but small-resnet has BatchNorm"):
        run(tmp_path / "run", batch_size=1)
    assert not (tmp_path / "run").exists()
    run(tmp_path / "mlp", batch_size=1, model="mlp", methods="baseline", epochs=1, task_options={"train_size": 20})


def test_a_task_is_measured_once_more_at_the_end_and_moves_its_own_parts(tmp_path: Path) -> None:
    options = {"method": "byol", "train_size": 96, "probe_epochs": 2}
    rows = run(tmp_path / "run", task="selfsup", methods="ema:decay=0.5,sema:decay=0.5", task_options=options, epochs=2)
    final = [row for row in rows if row["metric"] == "linear_accuracy"]
    assert {(row["method"], row["epoch"], row["split"]) for row in final} == {
        (method, 2, split) for method in ("baseline", "ema:decay=0.5", "sema:decay=0.5") for split in ("val", "test")
    }
    assert all(0.1 < row["value"] <= 1 for row in final)


@pytest.mark.parametrize(
    "changes",
    [
        {
            "epochs": 2,
            "task": "selfsup",
            "task_options": {"method": "moco-v2", "train_size": 96, "probe_epochs": 0, "queue_size": 64},
        },
        {"task": "regression", "data": "diabetes", "model": "mlp", "task_options": {}, "optimizer": "adan"},
        {"methods": "sam,sam+sema:decay=0.5", "model": "mlp"},
        {"methods": "ema:decay=0.5", "model": "mlp", "optimizer": "schedulefree", "schedule": "constant"},
        {"methods": "ema:decay=0.5,posthoc:gammas=3/9,sigma_rel=0.15", "model": "mlp"},
        {
            **SHORT,
            "task": "detection",
            "data": "digits-canvas",
            "model": "fcos",
            "batch_size": 4,
            "optimizer": "adamw",
            "task_options": {"train_size": 8, "flip": 0.5},
        },
        {
            **SHORT,
            "task": "generation",
            "model": "unet-small",
            "batch_size": 32,
            "task_options": {"train_size": 64, "samples": 8, "sampling_steps": 2, "dropout": 0.1},
        },
        {
            **SHORT,
            "task": "video",
            "data": "moving-digits",
            "model": "convlstm",
            "batch_size": 8,
            "task_options": {"train_size": 16, "test_size": 8, "inputs": 2, "outputs": 2},
        },
        {**SHORT, "task": "language", "data": "pydoc", "model": "lstm", "task_options": {"train_size": 48}},
        {**SHORT, "task": "textclass", "data": "pydoc-topics", "model": "auto", "task_options": {"train_size": 48}},
        {"model": "mlp", "task_options": {"train_size": 96, "mixup": 0.5, "randaugment": 5, "erasing": 0.5}},
    ],
)
def test_a_run_of_any_kind_goes_on_to_the_same_rows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, changes: dict[str, Any], few_held_out: None
) -> None:
    monkeypatch.setattr(train, "_CHECKPOINT_SECONDS", 0.0)
    changes = {"methods": "ema:decay=0.5,sema:decay=0.5", "epochs": 3, **changes}

    def stop(trajectory: Trajectory, epoch: int) -> None:
        if epoch == changes["epochs"] - 1:
            raise Killed

    with pytest.raises(Killed):
        run(tmp_path / "cut", stop, **changes)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # snapshots of later steps are set aside, with a warning
        cut = timeless(run(tmp_path / "cut", **changes))
    assert cut == timeless(run(tmp_path / "whole", **changes))
