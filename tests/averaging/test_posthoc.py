"""Post-hoc EMA: what is tracked, stored, made from it and refused."""

from __future__ import annotations

import io
import json
import os
import stat
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from switch_ema import EMA, PostHocEMA, PowerEMA, load_averaged, save_averaged
from switch_ema.averaging import posthoc
from switch_ema.averaging.profiles import Power
from switch_ema.averaging.safefile import SafeFile
from switch_ema.averaging.synthesis import Snapshots

from .cases import CASES, Trainer, batch, bits, build, loss_of

TRACKED = (16.97, 6.94)


class Row(nn.Module):
    """One vector of weights, which a test sets by hand."""

    def __init__(self, size: int = 1, dtype: torch.dtype = torch.float32) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(size, dtype=dtype))

    @torch.no_grad()
    def set(self, value: Tensor | float) -> None:
        self.weight.copy_(torch.as_tensor(value))


def drive(tracker: PostHocEMA, row: Row, values: Iterator[Tensor | float]) -> None:
    for value in values:
        row.set(value)
        tracker.update()


def impulses(row: Row, steps: int, every: int) -> Iterator[Tensor]:
    """At the j-th update weight j is 1 and the others are 0, so that the average is its own profile."""
    identity = torch.eye(len(row.weight))
    for step in range(1, steps + 1):
        yield identity[(step - 1) // every]


def by_update(profile: Power, every: int) -> Tensor:
    """The closed form of a profile, summed over the steps that an update stands for."""
    edges = torch.arange(0, profile.step + 1, every, dtype=torch.float64)
    return ((edges / profile.step) ** (profile.gamma + 1)).diff()


def trained(folder: Path, steps: int = 400, every: int = 25, case: str = "float32", **settings: Any) -> Any:
    """A small training run with noise; the tracker, the model, and a PowerEMA of another gamma beside it."""
    model = build(case)
    tracker = PostHocEMA(model, snapshot_every=every, folder=folder, **settings)
    direct = PowerEMA(model, gamma=10.0, update_every=settings.get("update_every", 1))
    trainer = Trainer(model, lr=0.05)
    tracker.attach(trainer.optimizer)
    direct.attach(trainer.optimizer)
    for _ in range(steps):
        trainer.step()
    return tracker, model, direct


def distance(a: dict[str, Tensor], b: dict[str, Tensor]) -> float:
    return float(sum((a[name].double() - b[name].double()).square().sum() for name in b) ** 0.5)


@pytest.mark.parametrize("every", [1, 10, 100])
def test_the_tracked_profile_is_the_closed_form_for_every_interval(every: int, tmp_path: Path) -> None:
    """ema-pytorch 1: with update_every=10 its averages had a mean age of 241 steps for 820."""
    updates, steps = 100, 100 * every
    row = Row(updates)
    tracker = PostHocEMA(row, (16.97, 6.94, 0), snapshot_every=10 * every, folder=tmp_path, update_every=every)
    drive(tracker, row, impulses(row, steps, every))
    for snapshot in Snapshots(tmp_path).profiles:
        file = tmp_path / f"step-{snapshot.step:010d}-gamma-{snapshot.gamma!r}.safetensors"
        stored = load_file(file)["weight"].double()
        torch.testing.assert_close(stored[: snapshot.step // every], by_update(snapshot, every), rtol=1e-4, atol=1e-6)
        assert not stored[snapshot.step // every :].any()
    ends = torch.arange(1, updates + 1, dtype=torch.float64) * every
    for gamma in (16.97, 6.94, 10.0, 4.0):
        made = tracker.synthesize(gamma=gamma)
        profile = made.tensors["weight"].double()
        wanted = by_update(Power(gamma, steps), every)
        assert float((profile - wanted).norm() / wanted.norm()) < 1.1 * made.fit.relative_error + 1e-5
        assert float(profile.sum()) == pytest.approx(1, abs=1e-5)
        assert float(profile @ ends) == pytest.approx((gamma + 1) / (gamma + 2) * steps, rel=0.01)


@pytest.mark.parametrize("every", [1, 10, 100])
def test_a_ramp_has_the_mean_age_of_the_closed_form(every: int, tmp_path: Path) -> None:
    steps = 200 * every
    row = Row(dtype=torch.float64)
    tracker = PostHocEMA(row, snapshot_every=20 * every, folder=tmp_path, update_every=every)
    drive(tracker, row, (float(step) for step in range(1, steps + 1)))
    for gamma in (*TRACKED, 9.0):
        mean = float(tracker.synthesize(gamma=gamma).tensors["weight"])
        assert mean == pytest.approx((gamma + 1) / (gamma + 2) * steps, rel=0.01)


@pytest.mark.parametrize("every", [1, 5])
def test_an_average_that_was_not_tracked_is_close_to_the_one_tracked_directly(every: int, tmp_path: Path) -> None:
    """Measured: relative error 1.1e-4 and less, where the nearest tracked average is at 2.3e-2."""
    tracker, model, direct = trained(tmp_path, update_every=every)
    wanted = direct.averaged_state_dict()
    made = tracker.synthesize(gamma=10.0)
    zero = {name: torch.zeros_like(value) for name, value in wanted.items()}
    error = distance(made.tensors, wanted)
    assert error / distance(zero, wanted) < 3e-4
    nearest = min(distance(tracker.synthesize(gamma=gamma).tensors, wanted) for gamma in TRACKED)
    assert error < nearest / 100
    made.copy_to(model)
    assert bits(model.state_dict()) == bits(dict(made.tensors))


@pytest.mark.parametrize("case", CASES)
def test_every_model_comes_back(case: str, tmp_path: Path) -> None:
    tracker, model, _ = trained(tmp_path, steps=23, every=5, case=case, gammas=(3.0, 1.0))
    last = {name: value.clone() for name, value in model.state_dict().items()}
    tracker.snapshot()
    other = build(case, seed=1)
    tracker.copy_to(other, 1.0)
    made = tracker.synthesize(gamma=1.0)
    whole_numbers = {name for name, p in model.named_parameters() if not (p.is_floating_point() or p.is_complex())}
    assert made.tensors.keys() == model.state_dict().keys() - whole_numbers
    wanted = {name: value for name, value in other.state_dict().items() if name not in whole_numbers}
    for name, value in wanted.items():
        assert made.tensors[name].dtype.itemsize >= value.dtype.itemsize
        torch.testing.assert_close(made.tensors[name].to(value.dtype), value, rtol=1e-5, atol=1e-6)
        if name in CASES[case].copied:
            assert bits(made.tensors[name]) == bits(last[name])
    for load in (made.copy_to, lambda model: model.load_state_dict(made.tensors, strict=False)):
        fresh = build(case, seed=2)
        load(fresh)
        for name, value in wanted.items():
            torch.testing.assert_close(fresh.state_dict()[name], value, rtol=1e-5, atol=1e-6)


def test_a_copied_buffer_is_that_of_the_step(tmp_path: Path) -> None:
    tracker, *_ = trained(tmp_path, steps=20, every=5, case="batchnorm", gammas=(3.0, 1.0))
    for at in (10, 20):
        assert int(tracker.synthesize(gamma=2.0, at=at).tensors["1.num_batches_tracked"]) == at
    with pytest.warns(UserWarning, match=r"by \d+ %; end it at a step that has a snapshot, such as at=15"):
        assert int(tracker.synthesize(gamma=2.0, at=14).tensors["1.num_batches_tracked"]) == 10


def test_buffers_can_be_left_alone(tmp_path: Path) -> None:
    tracker, model, _ = trained(tmp_path, steps=20, every=5, case="batchnorm", use_buffers=False)
    made = tracker.synthesize(gamma=10.0)
    assert made.tensors.keys() == dict(model.named_parameters()).keys()
    before = bits(dict(model.named_buffers()))
    made.copy_to(model)
    assert bits(dict(model.named_buffers())) == before


def test_names_of_wrappers_do_not_matter(tmp_path: Path) -> None:
    inner = Row(3)
    wrapped = nn.Module()
    wrapped.module = inner
    tracker = PostHocEMA(wrapped, (1.0,), snapshot_every=2, folder=tmp_path)
    drive(tracker, inner, iter([torch.ones(3)] * 2))
    assert set(tracker.synthesize(gamma=1.0).tensors) == {"weight"}
    tracker.synthesize(gamma=1.0).copy_to(inner)
    tracker.synthesize(gamma=1.0).copy_to(wrapped)


def test_any_profile_can_be_asked_for(tmp_path: Path) -> None:
    row = Row(100)
    tracker = PostHocEMA(row, snapshot_every=5, folder=tmp_path)
    drive(tracker, row, impulses(row, 100, 1))
    wanted = torch.tensor([0.9 ** (80 - step) if step <= 80 else 0.0 for step in range(1, 101)]).double()
    wanted /= wanted.sum()
    by_function = tracker.synthesize(profile=lambda step: 0.9 ** (80 - step), at=80)
    by_numbers = tracker.synthesize(profile=wanted[:80], at=80)
    made = by_function.tensors["weight"].double()
    assert float((made - wanted).norm() / wanted.norm()) == pytest.approx(by_function.fit.relative_error, abs=1e-5)
    assert by_function.fit.relative_error < 0.03
    torch.testing.assert_close(by_numbers.tensors["weight"], by_function.tensors["weight"])


def test_sigma_rel_is_gamma(tmp_path: Path) -> None:
    tracker, *_ = trained(tmp_path, steps=100, every=10)
    by_width, by_gamma = tracker.synthesize(sigma_rel=0.1), tracker.synthesize(gamma=6.937204)
    assert distance(dict(by_width.tensors), dict(by_gamma.tensors)) < 1e-5


@pytest.mark.parametrize("every", [1, 4])
def test_a_tail_mean_is_the_direct_mean(every: int, tmp_path: Path) -> None:
    """icefall: any window from two cumulative means."""
    row = Row(7, dtype=torch.float64)
    tracker = PostHocEMA(row, (0, 6.94), snapshot_every=20, folder=tmp_path, update_every=every)
    values = [torch.randn(7, generator=torch.Generator().manual_seed(i), dtype=torch.float64) for i in range(100)]
    drive(tracker, row, iter(values))
    for after, until in ((0, 20), (20, 40), (60, 100), (20, 100), (0, 100)):
        direct = torch.stack([values[i - 1] for i in range(after + 1, until + 1) if i % every == 0]).mean(0)
        tail = tracker.tail_mean(after, until)
        torch.testing.assert_close(tail.tensors["weight"], direct, rtol=1e-12, atol=1e-13)
        assert sum(tail.fit.coefficients) == pytest.approx(1)


def test_intervals_that_do_not_fit_store_what_was_averaged(tmp_path: Path) -> None:
    row = Row(8)
    tracker = PostHocEMA(row, (2.0,), snapshot_every=3, folder=tmp_path, update_every=4)
    drive(tracker, row, impulses(row, 30, 4))
    assert [p.step for p in Snapshots(tmp_path).profiles] == [4, 8, 12, 16, 20, 24, 28]
    stored = load_file(tmp_path / "step-0000000020-gamma-2.0.safetensors")["weight"].double()
    torch.testing.assert_close(stored[:5], by_update(Power(2.0, 20), 4), rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("stop", [0, 1, 7, 10, 33])
def test_resumed_training_is_the_uninterrupted_one_bit_for_bit(stop: int, tmp_path: Path) -> None:
    def start(folder: str) -> tuple[Trainer, PostHocEMA]:
        model = build("batchnorm")
        tracker = PostHocEMA(model, snapshot_every=10, folder=tmp_path / folder, update_every=3)
        trainer = Trainer(model)
        tracker.attach(trainer.optimizer)
        return trainer, tracker

    def go_on(trainer: Trainer, tracker: PostHocEMA, until: int) -> None:
        while trainer.steps < until:
            trainer.step()
            if trainer.steps % 5 == 0:
                tracker.end_epoch()

    whole, first = start("whole")
    go_on(whole, first, 50)
    broken, tracker = start("broken")
    go_on(broken, tracker, stop)
    saved = io.BytesIO()
    torch.save([broken.model.state_dict(), broken.optimizer.state_dict(), tracker.state_dict()], saved)
    saved.seek(0)
    resumed, second = start("broken")
    model, optimizer, state = torch.load(saved, weights_only=True)
    resumed.model.load_state_dict(model)
    resumed.optimizer.load_state_dict(optimizer)
    second.load_state_dict(state)
    resumed.steps = stop
    go_on(resumed, second, 50)
    one, other = first.state_dict(), second.state_dict()
    assert one.pop("run") != other.pop("run")
    assert bits(one) == bits(other)
    assert second.run == tracker.run
    for path in sorted((tmp_path / "whole").iterdir(), key=str):
        assert bits(load_file(path)) == bits(load_file(tmp_path / "broken" / path.name))
    assert len(os.listdir(tmp_path / "whole")) == len(os.listdir(tmp_path / "broken")) == 10
    made = [t.synthesize(gamma=10.0).tensors for t in (first, second)]
    assert bits(dict(made[0])) == bits(dict(made[1]))


def test_snapshots_of_an_abandoned_continuation_are_set_aside(tmp_path: Path) -> None:
    """ema-pytorch 4: every old file in the folder took part."""
    row = Row(1)
    tracker = PostHocEMA(row, (2.0,), snapshot_every=10, folder=tmp_path)
    drive(tracker, row, (1.0 for _ in range(20)))
    state = tracker.state_dict() | {"averagers": [_copy(s) for s in tracker.state_dict()["averagers"]]}
    drive(tracker, row, (2.0 for _ in range(25)))
    resumed = PostHocEMA(row, (2.0,), snapshot_every=15, folder=tmp_path)
    resumed.load_state_dict(state)
    assert [p.step for p in resumed._snapshots().profiles] == [10, 20]
    with pytest.warns(UserWarning, match=r"goes on from step 20; 2 snapshots .* set aside as \*\.stale"):
        resumed.update()
    drive(resumed, row, (3.0 for _ in range(10)))
    assert [p.step for p in Snapshots(tmp_path).profiles] == [10, 20, 30]
    assert len(list(tmp_path.glob("*.stale"))) == 2


def _copy(state: dict[str, Any]) -> dict[str, Any]:
    return state | {"averages": {name: value.clone() for name, value in state["averages"].items()}}


def test_another_run_is_refused_at_the_first_step(tmp_path: Path) -> None:
    trained(tmp_path, steps=10, every=5)
    row = Row()
    other = PostHocEMA(row, snapshot_every=100, folder=tmp_path)
    for act in (other.update, other.snapshot):
        with pytest.raises(ValueError, match=r"has snapshots of another run \([0-9a-f]{16}\); give another folder, or"):
            act()
    with pytest.raises(FileNotFoundError, match="has no snapshots of this run, only of"):
        other.synthesize(gamma=10.0)


def test_several_runs_in_a_folder_must_be_told_apart(tmp_path: Path) -> None:
    first, *_ = trained(tmp_path / "a", steps=10, every=5)
    second, *_ = trained(tmp_path / "b", steps=12, every=4)
    for path in (tmp_path / "b").iterdir():
        os.replace(path, tmp_path / "a" / path.name)
    with pytest.raises(ValueError, match=r"snapshots of several runs .*choose one with run="):
        Snapshots(tmp_path / "a")
    assert Snapshots(tmp_path / "a", run=second.run).profiles[-1].step == 12
    assert {Snapshots(tmp_path / "a", run=run).run for run in (first.run, second.run)} == {first.run, second.run}


def test_foreign_files_are_left_alone(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("x")
    save_file({"a": torch.zeros(1)}, tmp_path / "model.safetensors")
    torch.save({}, tmp_path / "0.1.pt")
    tracker, *_ = trained(tmp_path, steps=10, every=5)
    assert len(tracker._snapshots().profiles) == 4
    assert (tmp_path / "notes.txt").exists()


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_narrow_types_take_half_the_space(dtype: torch.dtype, tmp_path: Path) -> None:
    wide, *_ = trained(tmp_path / "wide", steps=100, every=10, case="batchnorm")
    narrow, *_ = trained(tmp_path / "narrow", steps=100, every=10, case="batchnorm", dtype=dtype)
    stored = load_file(next((tmp_path / "narrow").iterdir()))
    assert stored["0.weight"].dtype is dtype
    assert stored["1.num_batches_tracked"].dtype is torch.int64
    one, other = wide.synthesize(gamma=10.0), narrow.synthesize(gamma=10.0)
    zero = {name: torch.zeros_like(value) for name, value in one.tensors.items()}
    close = torch.finfo(dtype).eps * one.fit.amplification
    assert 0 < distance(dict(one.tensors), dict(other.tensors)) < close * distance(dict(one.tensors), zero)
    assert other.tensors["0.weight"].dtype is torch.float32


def test_what_is_not_averaged_keeps_its_type(tmp_path: Path) -> None:
    trained(tmp_path, steps=5, every=5, case="old-spectral-norm", dtype=torch.float16)
    stored = load_file(next(tmp_path.iterdir()))
    assert (stored["0.weight_orig"].dtype, stored["0.weight_u"].dtype) == (torch.float16, torch.float32)


def test_values_beyond_a_narrow_type_are_refused(tmp_path: Path) -> None:
    """ema-pytorch 3: a weight of 70000 became infinite in silence."""
    row = Row(2)
    tracker = PostHocEMA(row, (2.0,), snapshot_every=1, folder=tmp_path, dtype=torch.float16)
    row.set(torch.tensor([1.0, -70_000.0]))
    with pytest.raises(
        ValueError, match=r"'weight' has values beyond .*float16 \(7e\+04\); store it in a wider type, such as torch"
    ):
        tracker.update()
    assert list(tmp_path.iterdir()) == []


def test_steps_do_not_overflow(tmp_path: Path) -> None:
    """ema-pytorch 3: the step was stored in float16, so that 65505 became the largest integer."""
    row = Row(2)
    tracker = PostHocEMA(row, (2.0,), snapshot_every=1, folder=tmp_path, dtype=torch.float16)
    tracker.update()
    state = tracker.state_dict()
    steps = 2**40 + 1
    state["counters"] |= {"steps": steps, "stored": steps}
    state["averagers"][0]["counters"] |= {"steps": steps, "taken": steps}
    tracker.load_state_dict(state)
    tracker.update()
    assert [p.step for p in Snapshots(tmp_path).profiles] == [1, steps + 1]
    with safe_open(tmp_path / f"step-{steps + 1:010d}-gamma-2.0.safetensors", "pt") as file:
        about = json.loads(file.metadata()["switch_ema"])
    assert (about["step"], about["gamma"], about["run"]) == (steps + 1, 2.0, tracker.run)
    assert {"format", "version", "checksum"} <= about.keys()


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, PostHocEMA]:
    folder = tmp_path_factory.mktemp("small")
    tracker, *_ = trained(folder, steps=4, every=2, gammas=(2.0,))
    return folder, tracker


@given(st.data())
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=150)
def test_no_flipped_bit_goes_unnoticed(small: tuple[Path, PostHocEMA], data: st.DataObject) -> None:
    folder, tracker = small
    path = sorted(folder.iterdir())[data.draw(st.integers(0, 1))]
    whole = path.read_bytes()
    good = bits(dict(tracker.synthesize(gamma=2.0).tensors))
    damaged = bytearray(whole)
    if data.draw(st.booleans()):
        damaged[data.draw(st.integers(0, len(whole) - 1))] ^= 1 << data.draw(st.integers(0, 7))
    else:
        del damaged[data.draw(st.integers(0, len(whole) - 1)) :]
    try:
        path.write_bytes(damaged)
        assert bits(dict(tracker.synthesize(gamma=2.0).tensors)) == good  # such as a bit of padding
    except ValueError as error:
        assert str(path) in str(error)  # noqa: PT017
        assert len(str(error).splitlines()) == 1  # noqa: PT017
    finally:
        path.write_bytes(whole)


@pytest.mark.parametrize("where", [-1, -20])
def test_a_flipped_bit_of_a_weight_is_refused(where: int, small: tuple[Path, PostHocEMA]) -> None:
    folder, tracker = small
    path = sorted(folder.iterdir())[-1]
    whole = path.read_bytes()
    damaged = bytearray(whole)
    damaged[where] ^= 1
    path.write_bytes(damaged)
    try:
        with pytest.raises(ValueError, match=r"does not match its checksum: .* damaged; restore it, or delete it"):
            tracker.synthesize(gamma=2.0)
    finally:
        path.write_bytes(whole)


def test_a_file_is_checked_once_and_anew_if_it_was_replaced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    trained(tmp_path, steps=4, every=2, gammas=(2.0,))
    stored = Snapshots(tmp_path)
    checked: list[Path] = []
    check = SafeFile.verify

    def noted(file: SafeFile) -> dict[str, Any]:
        checked.append(file.path)
        return check(file)

    monkeypatch.setattr(SafeFile, "verify", noted)
    for _ in range(3):
        stored.synthesize(gamma=2.0)
    first, second = sorted(tmp_path.iterdir())
    assert sorted(checked) == [first, second]
    tracker = PostHocEMA(build("float32", seed=3), (2.0,), snapshot_every=9, folder=tmp_path / "other")
    for _ in range(4):
        tracker.update()
    os.replace(tracker.snapshot()[0], second)
    stored.synthesize(gamma=2.0)
    assert checked[2:] == [second]


def test_a_half_written_file_is_never_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    row = Row(1)
    tracker = PostHocEMA(row, (2.0,), snapshot_every=100, folder=tmp_path)
    drive(tracker, row, iter([1.0]))
    (path,) = tracker.snapshot()
    before = path.read_bytes()

    def fail(*_: object) -> None:
        raise OSError("disk full")

    with monkeypatch.context() as patched:
        patched.setattr(os, "replace", fail)
        with pytest.raises(OSError, match="disk full"):
            tracker.snapshot()
    assert list(tmp_path.iterdir()) == [path]
    assert path.read_bytes() == before
    usual = tmp_path / "usual"
    usual.touch()
    assert stat.S_IMODE(path.stat().st_mode) == stat.S_IMODE(usual.stat().st_mode)


def test_only_the_first_rank_writes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    row = Row(1)
    first = PostHocEMA(row, (2.0,), snapshot_every=2, folder=tmp_path)
    second = PostHocEMA(row, (2.0,), snapshot_every=2, folder=tmp_path)
    monkeypatch.setattr(posthoc, "_is_first_rank", lambda: False)
    drive(second, row, iter([1.0] * 4))
    assert list(tmp_path.iterdir()) == []
    monkeypatch.setattr(posthoc, "_is_first_rank", lambda: True)
    drive(first, row, iter([1.0] * 4))
    monkeypatch.setattr(posthoc, "_is_first_rank", lambda: False)
    assert float(second.synthesize(gamma=2.0).tensors["weight"]) == 1.0


def test_attach_counts_steps_until_removed_and_refuses_like_an_averager(tmp_path: Path) -> None:
    model = build("float32")
    tracker = PostHocEMA(model, snapshot_every="1 epoch after 1", folder=tmp_path)
    trainer = Trainer(model)
    stranger = torch.optim.SGD(build("float32").parameters(), lr=0.1)
    with pytest.raises(ValueError, match="holds none of the averaged model's parameters"):
        tracker.attach(stranger)
    handle = tracker.attach(trainer.optimizer)
    with pytest.raises(RuntimeError, match="attached already"):
        tracker.attach(trainer.optimizer)
    with pytest.raises(RuntimeError, match="nothing is averaged yet"):
        tracker.snapshot()
    for _ in range(2):
        trainer.step()
        tracker.end_epoch()
    handle.remove()
    handle.remove()
    trainer.step()
    assert tracker.n_averaged == 2
    assert [p.step for p in Snapshots(tmp_path).profiles] == [2, 2]
    tracker.attach(trainer.optimizer)
    trainer.step()
    assert tracker.n_averaged == 3
    assert repr(tracker) == "PostHocEMA(gammas 16.97, 6.94, snapshot every 1 epoch after 1, n_averaged=3)"


def test_training_is_not_touched(tmp_path: Path) -> None:
    _, model, _ = trained(tmp_path, steps=30, every=5, case="batchnorm")
    alone = Trainer(build("batchnorm"), lr=0.05)
    for _ in range(30):
        alone.step()
    assert bits(model.state_dict()) == bits(alone.model.state_dict())
    assert torch.equal(loss_of(model, batch(0)), loss_of(alone.model, batch(0)))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"gammas": ()}, "gammas are different numbers, at least one"),
        ({"gammas": (6.94, 6.94)}, "gammas are different numbers"),
        ({"gammas": (-1.0,)}, "gamma must be a number of at least 0"),
        (
            {"update_every": "10 steps after 5"},
            r"are of all of training, not '10 steps after 5'; write update_every=10",
        ),
        ({"update_every": "1 epoch"}, "the decay is per step"),
        ({"snapshot_every": "0.5 epoch"}, r"every N steps or N whole epochs, not '0\.5 epochs'"),
        ({"snapshot_every": 0}, "interval above 0"),
        ({"dtype": torch.int8}, r"dtype is torch\.int8; write"),
    ],
)
def test_settings_that_make_no_sense_are_refused(settings: dict[str, Any], message: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=message):
        PostHocEMA(Row(), **{"snapshot_every": 5, "folder": tmp_path, **settings})


def test_a_file_is_no_folder(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(ValueError, match="is a file; give the folder"):
        PostHocEMA(Row(), snapshot_every=5, folder=tmp_path / "file")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({}, r"give one of sigma_rel=\.\.\., gamma=\.\.\. and profile="),
        ({"gamma": 1.0, "sigma_rel": 0.1}, "give one of"),
        ({"sigma_rel": 0.3}, r"above 0 and at most 0\.2886"),
        ({"sigma_rel": 0.0}, r"above 0 and at most 0\.2886"),
        ({"gamma": -1.0}, "gamma must be"),
        ({"gamma": 1.0, "at": 5}, "at is a step of the training that is stored, from 1 to 4, got 5"),
        ({"gamma": 1.0, "at": 0}, "from 1 to 4, got 0"),
        ({"gamma": 1.0, "at": 2.0}, r"from 1 to 4, got 2\.0"),
        ({"profile": [1.0] * 3}, r"has shape \(3,\); give 4 numbers"),
    ],
)
def test_targets_that_make_no_sense_are_refused(
    arguments: dict[str, Any], message: str, small: tuple[Path, PostHocEMA]
) -> None:
    with pytest.raises(ValueError, match=message):
        small[1].synthesize(**arguments)


@pytest.mark.parametrize(
    ("tail", "message"),
    [
        ((10, 5), "from a step to a later one"),
        ((-5, 5), "to a later one"),
        ((0, 7), "no snapshot at step 7; the nearest is at 5"),
    ],
)
def test_tails_that_make_no_sense_are_refused(tail: tuple[int, int], message: str, tmp_path: Path) -> None:
    tracker, *_ = trained(tmp_path, steps=10, every=5, gammas=(0,))
    with pytest.raises(ValueError, match=message):
        tracker.tail_mean(*tail)


def test_a_tail_needs_the_mean(small: tuple[Path, PostHocEMA]) -> None:
    with pytest.raises(ValueError, match=r"track it with gammas=\(0, \.\.\.\)"):
        small[1].tail_mean(0, 4)


def test_a_profile_that_cannot_be_made_is_warned_of(small: tuple[Path, PostHocEMA]) -> None:
    with pytest.warns(UserWarning, match=r"miss this profile by \d+ %; store snapshots more often"):
        assert small[1].synthesize(gamma=40.0).fit.relative_error > 0.1


def test_folders_without_snapshots_are_refused(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"there is no folder .*nowhere; give the one"):
        Snapshots(tmp_path / "nowhere")
    with pytest.raises(FileNotFoundError, match=r"has no snapshots; write some with PostHocEMA\.snapshot\(\)"):
        Snapshots(tmp_path)


def test_a_file_of_that_name_that_is_something_else_is_refused(tmp_path: Path) -> None:
    save_file({"a": torch.zeros(1)}, tmp_path / "step-0000000001-gamma-1.0.safetensors")
    with pytest.raises(ValueError, match=r"is not a snapshot of PostHocEMA; move it out"):
        Snapshots(tmp_path)
    save_averaged(EMA(Row(), decay=0.5), tmp_path / "step-0000000001-gamma-1.0.safetensors")
    with pytest.raises(ValueError, match=r"is not a snapshot of PostHocEMA; move it out"):
        Snapshots(tmp_path)


@pytest.mark.parametrize(
    ("model", "message"),
    [(build("batchnorm"), r"does not have the tensors of the average \(missing: "), (nn.Linear(4, 5), "missing: ")],
)
def test_another_model_is_refused(model: nn.Module, message: str, small: tuple[Path, PostHocEMA]) -> None:
    before = bits(model.state_dict())
    with pytest.raises(ValueError, match=message):
        small[1].synthesize(gamma=2.0).copy_to(model)
    assert bits(model.state_dict()) == before


def test_another_shape_is_refused(small: tuple[Path, PostHocEMA]) -> None:
    model = nn.Sequential(nn.Linear(4, 5), nn.Tanh(), nn.Linear(5, 3))
    with pytest.raises(ValueError, match=r"'2\.weight' has shape \(3, 5\), its average \(2, 5\)"):
        small[1].synthesize(gamma=2.0).copy_to(model)
    with pytest.raises(ValueError, match=r"gamma 3 is not tracked, only 2; make others with synthesize"):
        small[1].copy_to(model, 3)


def test_a_snapshot_is_a_file_of_averaged_weights(tmp_path: Path) -> None:
    tracker, *_ = trained(tmp_path, steps=10, every=10, case="tied", gammas=(2.0,))
    one, other = build("tied", seed=1), build("tied", seed=2)
    tracker.copy_to(one, 2.0)
    about = load_averaged(next(tmp_path.iterdir()), other)
    assert bits(one.state_dict()) == bits(other.state_dict())
    assert (about["gamma"], about["step"], about["run"]) == (2.0, 10, tracker.run)


def test_weights_that_stand_still_come_out_bit_for_bit(tmp_path: Path) -> None:
    row = Row(1000)
    tracker = PostHocEMA(row, snapshot_every=10, folder=tmp_path)
    drive(tracker, row, iter([torch.randn(1000)] + [row.weight] * 99))
    for gamma in (2.0, 10.0, 20.0):
        assert bits(tracker.synthesize(gamma=gamma).tensors["weight"]) == bits(row.weight)


def test_snapshots_of_two_models_have_no_sum(tmp_path: Path) -> None:
    run = ""
    for folder, case in (("a", "float32"), ("b", "batchnorm")):
        model = build(case)
        tracker = PostHocEMA(model, (2.0,), snapshot_every=50, folder=tmp_path / folder)
        if run:
            tracker._run = run
        run = tracker.run
        for _ in range(1 + (folder == "b")):
            tracker.update()
        (path,) = tracker.snapshot()
    os.replace(path, tmp_path / "a" / path.name)
    with pytest.raises(ValueError, match=r"is of another model than step-0000000002-gamma-2\.0"):
        Snapshots(tmp_path / "a")


Change = Callable[[dict[str, Any]], object]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda s: s.pop("run"), "not the state of a PostHocEMA"),
        (lambda s: s.update(format=2), "not the state of a PostHocEMA"),
        (lambda s: s.update(gammas=[1.0, 2.0]), r"the state is of gammas \[1\.0, 2\.0\], this one tracks"),
        (lambda s: s["counters"].update(steps=-1), "is damaged"),
        (lambda s: s["counters"].update(steps=1.5), "is damaged"),
        (lambda s: s["averagers"].pop(), "is damaged"),
        (lambda s: s["averagers"][1]["averages"].popitem(), "does not fit the model"),
        (lambda s: s["averagers"][1].update(format=7), "has format 7"),
    ],
)
def test_a_state_that_does_not_fit_changes_nothing(change: Change, message: str, tmp_path: Path) -> None:
    tracker, *_ = trained(tmp_path / "a", steps=7, every=5)
    other, *_ = trained(tmp_path / "b", steps=3, every=5)
    before = bits(other.state_dict())
    state = tracker.state_dict()
    change(state)
    with pytest.raises(ValueError, match=message):
        other.load_state_dict(state)
    assert bits(other.state_dict()) == before


def test_a_missing_library_says_how_to_install_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "safetensors", None)
    with pytest.raises(ImportError, match=r'pip install "switch-ema\[files\]"'):
        PostHocEMA(Row(), snapshot_every=5, folder=tmp_path)
