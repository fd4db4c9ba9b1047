"""One small test for each fault that other libraries were found to have and that could come back here."""

from __future__ import annotations

import io
import re
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from switch_ema import EMA, LAWA, SWA, Averager, Lookahead, SwitchEMA
from switch_ema.averaging.decay import retained_fraction
from switch_ema.averaging.slots import Slot, find_slots, plain_name

from .cases import IntegerBuffers, Nested, Tied, Trainer, batch, batchnorm, bits, loss_of, mlp
from .drift import Point, average_of, drift


def averages(averager: Averager) -> dict[str, Tensor]:
    found: dict[str, Tensor] = averager.state_dict()["averages"]
    return found


# --- precision -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("decay", [0.99, 0.999, 0.9999])
def test_p1_half_precision_average_does_not_stand_still(dtype: torch.dtype, decay: float) -> None:
    model = nn.Linear(1, 1, bias=False, dtype=dtype)
    with torch.no_grad():
        model.weight.fill_(1.0)
        averager = EMA(model, decay)
        model.weight.fill_(1.1)
    target = float(model.weight.detach())
    for _ in range(5000):
        averager.update()
    assert float(averages(averager)["weight"]) == pytest.approx(target - (target - 1) * decay**5000, abs=2e-5)


def test_fadel_load_state_dict_keeps_float32_averages_of_a_bfloat16_model() -> None:
    model = mlp(torch.bfloat16)
    averager = EMA(model, 0.9)
    with torch.no_grad():
        model[0].weight.add_(1.0)  # type: ignore[index]
    averager.update()
    other = EMA(mlp(torch.bfloat16), 0.9)
    other.load_state_dict(averager.state_dict())
    assert bits(averages(other)) == bits(averages(averager))
    assert averages(other)["0.weight"].dtype == torch.float32


@pytest.mark.parametrize("move", [lambda m: m.double(), lambda m: m.bfloat16(), lambda m: m.to(torch.float16)])
@pytest.mark.parametrize("make", [lambda m: EMA(m, 0.5), lambda m: LAWA(m, window=2, update_every=1)])
def test_mmengine_updates_arrive_after_the_model_was_moved_to_another_type(move: Any, make: Any) -> None:
    model = nn.Linear(1, 1, bias=False)
    nn.init.zeros_(model.weight)
    averager = make(model)
    for place in (2.0, 4.0):
        with torch.no_grad():
            model.weight.fill_(place)
        averager.update()
    expected = float(averages(averager)["weight"])
    dtype = move(model).weight.dtype
    with torch.no_grad():
        model.weight.fill_(8.0)
    averager.update()
    after = (expected + 8) / 2 if averager.state_dict()["snapshots"] == [] else (4 + 8) / 2
    assert float(averages(averager)["weight"]) == after
    assert averages(averager)["weight"].dtype == (torch.float64 if dtype == torch.float64 else torch.float32)
    with averager.average_parameters():
        assert model.weight.dtype == dtype
        assert float(model.weight.detach()) == after


# --- writing into the model ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("write", ["switch", "swap"])
def test_p5_a_write_between_forward_and_backward_is_caught(write: str) -> None:
    trainer = Trainer(mlp())
    averager = SwitchEMA(trainer.model, decay=0.5)
    averager.attach(trainer.optimizer)
    trainer.step()
    loss = loss_of(trainer.model, batch(0))
    if write == "switch":
        averager.switch()
    else:
        with averager.average_parameters():
            pass
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        loss.backward()


def test_p5_reading_is_no_write() -> None:
    trainer = Trainer(mlp())
    averager = EMA(trainer.model, decay=0.5)
    averager.attach(trainer.optimizer)
    trainer.step()
    loss = loss_of(trainer.model, batch(0))
    averager.averaged_state_dict()
    averager.state_dict()
    averager.copy_to(mlp())
    averager.update()
    loss.backward()


def test_p14_a_copy_that_fails_half_way_restores_the_model(monkeypatch: pytest.MonkeyPatch) -> None:
    trainer = Trainer(batchnorm())
    averager = EMA(trainer.model, decay=0.5)
    averager.attach(trainer.optimizer)
    trainer.step()
    live = bits(trainer.model.state_dict())
    original = torch._foreach_copy_
    calls = []

    def half(targets: list[Tensor], sources: list[Tensor]) -> None:
        calls.append(1)
        if len(calls) != 2:  # the first saves the weights, the last brings them back
            return original(targets, sources)
        original(targets[:3], sources[:3])
        raise MemoryError

    monkeypatch.setattr(torch, "_foreach_copy_", half)
    with pytest.raises(MemoryError), averager.average_parameters():
        pytest.fail("the block must not run")
    assert len(calls) == 3
    assert bits(trainer.model.state_dict()) == live
    trainer.step()  # nothing is left swapped


def test_open_sora_exception_inside_an_evaluation_does_not_lose_the_weights() -> None:
    trainer = Trainer(mlp())
    averager = EMA(trainer.model, decay=0.5)
    averager.attach(trainer.optimizer)
    trainer.step()
    live = bits(trainer.model.state_dict())
    with pytest.raises(ZeroDivisionError), averager.average_parameters():
        _ = 1 / 0
    assert bits(trainer.model.state_dict()) == live


def test_fadel_no_backup_of_the_weights_is_left_in_the_state() -> None:
    trainer = Trainer(mlp())
    averager = EMA(trainer.model, decay=0.5)
    averager.attach(trainer.optimizer)
    trainer.step()
    before = bits(averager.state_dict())
    with averager.average_parameters():
        pass
    assert bits(averager.state_dict()) == before


def test_ema_pytorch_11_the_state_does_not_hold_the_live_model() -> None:
    model = batchnorm()
    assert EMA(model).state_dict()["averages"].keys() == model.state_dict().keys()


# --- names and identity ----------------------------------------------------------------------------------------------


def test_p6_parameters_replaced_by_assign_are_followed() -> None:
    model = Point(0.0)
    averager = EMA(model, decay=0.5)
    model.load_state_dict({"at": torch.tensor(4.0, dtype=torch.float64)}, assign=True)
    averager.update()
    assert average_of(averager) == 2.0
    averager.switch()
    assert model.here == 2.0


@pytest.mark.parametrize("make", [lambda m: EMA(m, 0.9), lambda m: SwitchEMA(m, 0.9, switch_every=5)])
def test_timm_tied_weights_are_averaged_once(make: Any) -> None:
    model = Tied()
    averager = make(model)
    assert "decoder.weight" not in averages(averager)
    start = averages(averager)["encoder.weight"].clone()
    nn.init.zeros_(model.encoder.weight)
    averager.update()
    torch.testing.assert_close(averages(averager)["encoder.weight"], 0.9 * start)


def test_s11_swap_and_back_of_tied_weights_loses_nothing() -> None:
    trainer = Trainer(Tied())
    averager = EMA(trainer.model, decay=0.9)
    averager.attach(trainer.optimizer)
    trainer.step()
    live, average = bits(trainer.model.state_dict()), averages(averager)["encoder.weight"]
    with averager.average_parameters():
        state = trainer.model.state_dict()
        assert torch.equal(state["encoder.weight"], average)
        assert torch.equal(state["decoder.weight"], average)
    assert bits(trainer.model.state_dict()) == live
    assert trainer.model.decoder.weight is trainer.model.encoder.weight  # type: ignore[union-attr]
    averaged = averager.averaged_state_dict()
    assert torch.equal(averaged["encoder.weight"], averaged["decoder.weight"])


class Colliding(nn.Module):
    """Names that become one if dots turn into underscores, or if `module` is taken for a wrapper."""

    def __init__(self) -> None:
        super().__init__()
        self.a = nn.Module()
        self.a.b_weight = nn.Parameter(torch.tensor(1.0))
        self.a_b = nn.Module()
        self.a_b.weight = nn.Parameter(torch.tensor(2.0))
        self.module = nn.Module()
        self.module.gain = nn.Parameter(torch.tensor(3.0))
        self.gain = nn.Parameter(torch.tensor(4.0))


def test_s10_names_do_not_collide() -> None:
    model = Colliding()
    averager = EMA(model, decay=0.0)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(10)
    averager.update()
    expected = {"a.b_weight": 10.0, "a_b.weight": 20.0, "module.gain": 30.0, "gain": 40.0}
    assert {name: float(t) for name, t in averager.averaged_state_dict().items()} == expected
    averager.copy_to(target := Colliding())
    assert {name: float(t) for name, t in target.state_dict().items()} == expected


@pytest.mark.parametrize("wrapped_first", [True, False])
def test_senpai_and_modelopt_a_compiled_model_is_averaged_under_its_names(wrapped_first: bool) -> None:
    model = batchnorm()
    compiled = torch.compile(model, backend="eager")
    assert isinstance(compiled, nn.Module)
    averager = EMA(compiled if wrapped_first else model, decay=0.5)
    trainer = Trainer(model)
    averager.attach(trainer.optimizer)
    for number in range(3):
        trainer.optimizer.zero_grad()
        compiled(batch(number)).square().mean().backward()
        trainer.optimizer.step()
    assert averager.n_averaged == 3
    assert averager.averaged_state_dict().keys() == (compiled if wrapped_first else model).state_dict().keys()
    averaged = {plain_name(name): bits(t) for name, t in averager.averaged_state_dict().items()}
    assert averaged != bits(model.state_dict())
    plain, wrapped = batchnorm(), torch.compile(batchnorm(), backend="eager")
    averager.copy_to(plain)
    averager.copy_to(wrapped)  # type: ignore[arg-type]
    assert bits(plain.state_dict()) == averaged
    assert {plain_name(n): bits(t) for n, t in wrapped.state_dict().items()} == averaged  # type: ignore[attr-defined]


def test_p9_another_model_is_refused_not_skipped() -> None:
    averager = EMA(mlp())
    with pytest.raises(ValueError, match="does not have the tensors of the average"):
        averager.copy_to(Tied())


@pytest.mark.parametrize("read", ["average_parameters", "averaged_state_dict", "end_epoch", "copy_to"])
@pytest.mark.parametrize("change", ["add", "remove", "replace"])
def test_p10_a_changed_model_is_refused(read: str, change: str) -> None:
    model = nn.Sequential(nn.Linear(4, 5), nn.Linear(5, 2))
    averager = EMA(model, decay=0.5)
    averager.update()
    if change == "add":
        model.append(nn.Linear(2, 2))
    elif change == "remove":
        del model[1]
    else:
        model[1] = nn.Linear(5, 3)
    words = {"add": "unexpected: 2.bias, 2.weight", "remove": "missing: 1.bias, 1.weight", "replace": "and now has"}
    with pytest.raises(RuntimeError, match=words[change]):
        averager.average_parameters().__enter__() if read == "average_parameters" else getattr(averager, read)(
            *([mlp()] if read == "copy_to" else [])
        )


def test_p10_a_removed_parameter_is_refused_by_update() -> None:
    model = nn.Linear(4, 2)
    averager = EMA(model, decay=0.5)
    del model._parameters["bias"]
    with pytest.raises(RuntimeError, match="missing: bias"):
        averager.update()
    model.bias = nn.Parameter(torch.zeros(3))
    with pytest.raises(RuntimeError, match=r"'bias' had shape \(2,\) and now has \(3,\)"):
        averager.update()


def test_p10_a_replaced_module_is_found_again() -> None:
    model = nn.Sequential(nn.Linear(1, 1, bias=False))
    averager = EMA(model, decay=0.0)
    model[0] = nn.Linear(1, 1, bias=False)
    averager.end_epoch()
    averager.update()
    assert bits(averager.averaged_state_dict()) == bits(model.state_dict())


def test_p10_freezing_and_unfreezing_changes_nothing() -> None:
    model = Nested()
    averager = EMA(model, decay=0.5)
    model.requires_grad_(False)
    averager.update()
    model.requires_grad_(True)
    averager.update()
    assert averager.n_averaged == 2
    assert bits(averager.averaged_state_dict()) == bits(model.state_dict())


def test_modules_versions_travel_with_the_averaged_state() -> None:
    averaged, own = EMA(batchnorm()).averaged_state_dict(), batchnorm().state_dict()
    assert averaged._metadata == own._metadata  # type: ignore[attr-defined]


# --- buffers ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("make", [lambda m: EMA(m, 0.9), lambda m: SWA(m, update_every=1), lambda m: Lookahead(m, k=2)])
def test_torch_and_s8_integer_buffers_are_copied_every_time(make: Any) -> None:
    trainer = Trainer(IntegerBuffers())
    averager: Averager = make(trainer.model)
    averager.attach(trainer.optimizer)
    for _ in range(20):
        trainer.step()
    assert averager.averaged_state_dict()["calls"] == 20
    assert averager.averaged_state_dict()["bytes"].tolist() == [250, 3]


def test_ignite_copied_buffers_do_not_share_memory_with_the_model() -> None:
    model = IntegerBuffers()
    averager = EMA(model, 0.9)
    averager.update()
    model.calls.fill_(77)
    assert averager.averaged_state_dict()["calls"] == 0
    model.calls.fill_(0)
    averager.switch()
    averages(averager)["calls"].fill_(5)
    assert model.calls == 0


def test_s9_a_switch_brings_the_batchnorm_statistics_of_its_weights() -> None:
    trainer = Trainer(batchnorm())
    averager = SwitchEMA(trainer.model, decay=0.5)
    averager.attach(trainer.optimizer)
    for _ in range(3):
        trainer.step()
    averager.end_epoch()
    assert torch.equal(trainer.model.get_buffer("1.running_mean"), averages(averager)["1.running_mean"])


def test_infinite_masks_do_not_become_nan() -> None:
    model = nn.Linear(1, 1)
    model.register_buffer("mask", torch.tensor([0.0, -torch.inf]))
    averager = EMA(model, 0.9)
    averager.update()
    assert averager.averaged_state_dict()["mask"].tolist() == [0.0, -torch.inf]


# --- when ------------------------------------------------------------------------------------------------------------


def test_ema_pytorch_5_a_switch_in_warm_up_never_copies_a_stale_average() -> None:
    point = Point(0.0)
    averager = SwitchEMA(point, "warmup 0.9", update_every=10, switch_every=16)
    drift(point, averager, 16)
    kept = point.here
    assert 0.8 * 16 < kept < 16  # step 16 counts, though the last regular update was at step 10


def test_ema_pytorch_13_the_decay_fits_update_every() -> None:
    often, seldom = Point(0.0), Point(0.0)
    one, ten = EMA(often, 0.9), EMA(seldom, 0.9, update_every=10)
    for point, averager in ((often, one), (seldom, ten)):
        point.put(1.0)
        for _ in range(50):
            averager.update()
    assert average_of(ten) == pytest.approx(average_of(one), rel=1e-12)


def test_diffusers_a_constant_decay_is_constant_from_the_first_update() -> None:
    point = Point(0.0)
    averager = EMA(point, 0.9)
    point.put(1.0)
    averager.update()
    assert average_of(averager) == pytest.approx(0.1, rel=1e-12)


def test_lightning_21724_before_the_first_update_the_average_is_the_trained_model() -> None:
    trainer = Trainer(mlp())
    averager = EMA(trainer.model, update_after_step=100)
    averager.attach(trainer.optimizer)
    for _ in range(3):
        trainer.step()
    assert bits(averager.averaged_state_dict()) == bits(trainer.model.state_dict())


def test_a_late_start_averages_from_the_weights_of_that_moment() -> None:
    point = Point(100.0)
    averager = EMA(point, 0.5, update_after_step=3)
    for place in (50.0, 20.0, 4.0, 8.0):
        point.put(place)
        averager.update()
    assert average_of(averager) == 6.0


@pytest.mark.parametrize("cut", [1, 3, 5])
def test_fastvideo_a_late_start_survives_a_resume(cut: int) -> None:
    path = [9.0, 7.0, 4.0, 8.0, 2.0, 6.0]
    results = []
    for at in (None, cut):
        point = Point(1.0)
        averager = EMA(point, "warmup 0.9", update_after_step=3)
        for number, place in enumerate(path):
            if number == at:
                file = io.BytesIO()
                torch.save(averager.state_dict(), file)
                file.seek(0)
                averager = EMA(point, "warmup 0.9", update_after_step=3)
                averager.load_state_dict(torch.load(file, weights_only=True))
            point.put(place)
            averager.update()
        results.append((average_of(averager), averager.n_averaged))
    assert results[0] == results[1]


# --- the warning for switches that freeze training -------------------------------------------------------------------

ADVICE = re.compile(r"keeps ([\d.]+) % of the progress.*decay=([\d.]+) would keep 25 %; or switch less often")


@pytest.mark.parametrize(
    ("every", "update_every", "spe"), [(500, 1, None), (100, 1, None), ("1 epoch", 1, 300), (512, 16, None)]
)
def test_s2_a_freezing_switch_is_warned_of_with_a_decay_that_keeps_a_quarter(
    every: Any, update_every: int, spe: int | None
) -> None:
    with pytest.warns(UserWarning, match="training all but stands still") as caught:
        SwitchEMA(Point(), 0.9999, switch_every=every, update_every=update_every, steps_per_epoch=spe)
    assert len(caught) == 1
    match = ADVICE.search(str(caught[0].message))
    assert match is not None
    steps = spe or every
    assert float(match[1]) == pytest.approx(100 * retained_fraction(0.9999, steps), rel=0.05, abs=0.1)
    point = Point()
    better = SwitchEMA(point, float(match[2]), switch_every=every, update_every=update_every, steps_per_epoch=spe)
    drift(point, better, steps)
    better.end_epoch()
    assert point.here / steps == pytest.approx(0.25, abs=0.01)


def test_a_freezing_switch_is_warned_of_at_the_switch_where_the_interval_was_not_known_and_once() -> None:
    point = Point()
    averager = SwitchEMA(point, 0.999)  # by the epoch, of unknown length: no warning yet
    drift(point, averager, 20)
    with pytest.warns(UserWarning, match="a switch every 20 steps keeps 1.0 %"):
        averager.end_epoch()
    drift(point, averager, 20)
    averager.end_epoch()  # once is enough: a second warning would be an error here
    assert averager.n_switches == 2


def test_a_warning_made_an_error_does_not_break_the_switch() -> None:
    point = Point()
    averager = SwitchEMA(point, 0.999)
    drift(point, averager, 20)
    with pytest.raises(UserWarning, match="training all but stands still"):
        averager.end_epoch()
    assert averager.n_switches == 1
    assert point.here == average_of(averager)


def test_a_freezing_lookahead_is_told_of_alpha() -> None:
    with pytest.warns(UserWarning, match=r"a switch every 5 steps keeps 5.0 % .*\(alpha in Lookahead\)"):
        Lookahead(Point(), k=5, alpha=0.05)


@pytest.mark.parametrize("decay", [0.0, 0.5, 0.9, 0.99, "warmup 0.99", "window 0.3 epoch"])
def test_no_warning_for_sensible_switches(decay: Any) -> None:
    point = Point()
    averager = SwitchEMA(point, decay, steps_per_epoch=100)
    for _ in range(3):
        drift(point, averager, 100)
        averager.end_epoch()
    assert averager.n_switches == 3


def test_no_warning_without_switches() -> None:
    EMA(Point(), 0.99999)


def test_p7_slots_are_parameters_not_entries_of_a_state_dict() -> None:
    assert isinstance(find_slots(mlp(), use_buffers=True)["0.weight"], Slot)
    assert "extra" not in averages(EMA(WithExtraState()))


class WithExtraState(nn.Module):
    """A module whose state holds more than tensors."""

    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Linear(2, 1)

    def get_extra_state(self) -> dict[str, int]:
        return {"seen": 3}

    def set_extra_state(self, state: dict[str, int]) -> None:
        pass


def test_extra_state_travels_with_the_averaged_state() -> None:
    model = WithExtraState()
    averager = EMA(model)
    averager.update()
    state = averager.averaged_state_dict()
    assert state["_extra_state"] == {"seen": 3}
    WithExtraState().load_state_dict(state)
