"""Options that every method has: which parameters are averaged, in which type and where averages are kept."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn

import switch_ema
from switch_ema import EMA, LAWA, SWA, Averager, SwitchEMA
from switch_ema.averaging import placement
from switch_ema.averaging.cuda import CudaPass
from switch_ema.averaging.layout import Item
from switch_ema.averaging.offload import OffloadPass
from switch_ema.averaging.options import AverageOptions
from switch_ema.averaging.passes import CpuPass, ForeachPass
from switch_ema.averaging.rounding import Rounding

from .cases import Trainer, batchnorm, bits, build, mlp


@torch.no_grad()
def shift(model: nn.Module, by: float = 1.0) -> None:
    for parameter in model.parameters():
        parameter.add_(by)


# which parameters


@pytest.mark.parametrize(
    ("selection", "expected"),
    [
        ("0.*", {"0.weight", "0.bias"}),
        (["*.bias", "2.weight"], {"0.bias", "2.weight", "2.bias"}),
        (lambda name, p: p.dim() == 2, {"0.weight", "2.weight"}),
    ],
)
def test_only_selected_parameters_are_averaged_switched_and_swapped(selection: Any, expected: set[str]) -> None:
    model = mlp()
    averager = SwitchEMA(model, decay=0.5, switch_every=2, parameters=selection)
    assert set(averager.state_dict()["averages"]) == expected
    start = {name: p.detach().clone() for name, p in model.named_parameters()}
    for _ in range(2):
        shift(model)
        averager.update()
    # 0.5 * (0.5 * 0 + 0.5 * 1) + 0.5 * 2 = 1.25 after the switch, for those that are averaged
    for name, parameter in model.named_parameters():
        torch.testing.assert_close(parameter.detach(), start[name] + (1.25 if name in expected else 2.0))
    shift(model)
    with averager.average_parameters():
        for name, parameter in model.named_parameters():
            torch.testing.assert_close(parameter.detach(), start[name] + (1.25 if name in expected else 3.0))


def test_patterns_ignore_what_wrappers_put_into_names() -> None:
    wrapped = nn.ModuleDict({"module": mlp()})
    assert set(EMA(wrapped, parameters="0.weight").state_dict()["averages"]) == {"0.weight"}


def test_a_selection_that_takes_nothing_is_an_error() -> None:
    with pytest.raises(ValueError, match=re.escape("parameters='lora' selects none of the model's parameters")):
        EMA(mlp(), parameters="lora")


def test_copy_to_copies_what_was_left_out_as_it_is() -> None:
    model, other = mlp(), mlp()
    averager = EMA(model, decay=0.5, parameters="0.*")
    start = model.get_parameter("0.weight").detach().clone()
    shift(model)
    averager.update()
    averager.copy_to(other)
    torch.testing.assert_close(other.get_parameter("0.weight").detach(), start + 0.5)
    assert torch.equal(other.get_parameter("2.weight"), model.get_parameter("2.weight"))


def test_quantized_weights_are_left_alone() -> None:
    averager = EMA(build("quantized"), decay=0.5)
    assert set(averager.state_dict()["averages"]) == {"adapter.weight", "adapter.bias", "scale"}


def test_sparse_parameters_are_refused_with_their_name() -> None:
    model = nn.Module()
    model.table = nn.Parameter(torch.eye(3).to_sparse())
    model.head = nn.Linear(3, 1)
    with pytest.raises(ValueError, match="'table' is sparse and cannot be averaged; leave it out with parameters="):
        EMA(model)
    assert set(EMA(model, parameters="head.*").state_dict()["averages"]) == {"head.weight", "head.bias"}


def test_fsdp1_is_refused() -> None:
    class FullyShardedDataParallel(nn.Module):
        def __init__(self, inside: nn.Module) -> None:
            super().__init__()
            self.inside = inside

    with pytest.raises(ValueError, match=r"FSDP1.*fully_shard \(FSDP2\)"):
        EMA(FullyShardedDataParallel(mlp()))


# models that change


def test_late_adapters_are_an_error_until_refresh_takes_them_up() -> None:
    model = mlp()
    averager = EMA(model, decay=0.5)
    shift(model)
    averager.update()
    model.get_submodule("0").lora = nn.Linear(2, 2)
    with pytest.raises(RuntimeError, match=r"unexpected: 0\.lora\.bias.*call refresh\(\)"):
        averager.end_epoch()
    averager.refresh()
    start = model.get_parameter("0.lora.weight").detach().clone()
    shift(model)
    averager.update()
    averages = averager.state_dict()["averages"]
    torch.testing.assert_close(averages["0.lora.weight"], start + 0.5)
    assert averager.n_averaged == 2


def test_refresh_goes_on_with_known_parameters_and_drops_those_that_are_gone() -> None:
    model = mlp()
    averager = EMA(model, decay=0.5)
    start = model.get_parameter("0.weight").detach().clone()
    shift(model)
    averager.update()
    delattr(model, "2")
    averager.refresh()
    averages = averager.state_dict()["averages"]
    assert set(averages) == {"0.weight", "0.bias"}
    torch.testing.assert_close(averages["0.weight"], start + 0.5)


def test_a_window_takes_up_late_parameters() -> None:
    model = mlp()
    averager = LAWA(model, window=2, update_every=1)
    averager.update()
    model.add_module("late", nn.Linear(2, 2))
    averager.refresh()
    start = model.get_parameter("late.weight").detach().clone()
    shift(model)
    averager.update()
    shift(model)
    averager.update()
    torch.testing.assert_close(averager.state_dict()["averages"]["late.weight"], start + 1.5)


def test_frozen_and_unfrozen_parameters_stay_in_the_average() -> None:
    model = mlp()
    averager = EMA(model, decay=0.5)
    start = model.get_parameter("0.weight").detach().clone()
    model.get_submodule("0").requires_grad_(False)
    averager.update()
    model.get_submodule("0").requires_grad_(True)
    shift(model)
    averager.update()
    averager.end_epoch()
    torch.testing.assert_close(averager.state_dict()["averages"]["0.weight"], start + 0.5)


# types


def test_a_bfloat16_average_does_not_stall() -> None:
    model = nn.Linear(64, 64, bias=False)
    with torch.no_grad():
        model.weight.fill_(1.0)
    averager = EMA(model, decay=0.999, dtype=torch.bfloat16)
    with torch.no_grad():
        model.weight.fill_(1.1)
    for _ in range(2000):
        averager.update()
    average = averager.state_dict()["averages"]["weight"]
    assert average.dtype is torch.bfloat16
    expected = 1.1 - 0.1 * 0.999**2000
    assert abs(float(average.double().mean()) - expected) < 1e-3  # plain rounding stays at 1


def test_stochastic_rounding_is_right_in_the_mean() -> None:
    exact = torch.tensor([1.0, 1.001, -3.3333, 1e-20, 65504.7, -0.1]).repeat(4096, 1)
    rounded = Rounding(7)(exact.clone()).double()
    below = exact.clone().view(torch.int32).bitwise_and(-65536).view(torch.float32).double()
    spread = rounded.std(0) / 64 + 1e-30
    assert ((rounded.mean(0) - exact.double().mean(0)).abs() < 5 * spread).all()
    assert (rounded[:, 0] == 1).all(), "a value that bfloat16 can hold is left as it is"
    for column in range(1, 6):
        assert len(rounded[:, column].unique()) == 2, "both neighbours occur"
        assert below[0, column] in rounded[:, column]


def test_stochastic_rounding_leaves_what_is_not_finite() -> None:
    values = torch.tensor([torch.inf, -torch.inf, torch.nan, 1.0])
    rounded = Rounding(0)(values)
    assert rounded[0] == torch.inf
    assert rounded[1] == -torch.inf
    assert rounded[2].isnan()


@pytest.mark.parametrize("make", [lambda m, **o: EMA(m, 0.9, **o), lambda m, **o: SWA(m, update_every=1, **o)])
def test_bfloat16_averages_resume_bit_for_bit(make: Callable[..., Averager]) -> None:
    def run(interrupted: bool) -> Any:
        torch.manual_seed(0)
        model = batchnorm()
        averager = make(model, dtype=torch.bfloat16)
        trainer = Trainer(model)
        for step in range(8):
            trainer.step()
            averager.update()
            if interrupted and step == 4:
                state = averager.state_dict()
                averager = make(model, dtype=torch.bfloat16)
                averager.load_state_dict(state)
        return bits(averager.averaged_state_dict())

    assert run(True) == run(False)


def test_only_float_parameters_take_the_type() -> None:
    averages = EMA(batchnorm(), dtype=torch.bfloat16).state_dict()["averages"]
    assert averages["0.weight"].dtype is torch.bfloat16
    assert averages["1.running_mean"].dtype is torch.float32
    assert averages["1.num_batches_tracked"].dtype is torch.int64


def test_a_wide_average_of_narrow_weights() -> None:
    model = mlp(torch.bfloat16)
    averager = EMA(model, decay=0.9, dtype=torch.float64)
    averager.update()
    assert averager.state_dict()["averages"]["0.weight"].dtype is torch.float64


# places


def test_device_says_where_averages_are_kept() -> None:
    averager = EMA(mlp(), decay=0.5, device="cpu")
    averager.update()
    assert averager.state_dict()["averages"]["0.weight"].device.type == "cpu"


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_weights_that_are_fetched_are_folded_in_before_anyone_reads(dtype: torch.dtype) -> None:
    weights = [torch.randn(5, dtype=dtype), torch.randn(3, dtype=dtype)]
    average = torch.zeros(8)
    fetching = OffloadPass([average], [Item(0, weights[0]), Item(5, weights[1])])
    expected = torch.zeros(8)
    for step in range(3):
        fetching.lerp_([0.5], [step])
        expected.lerp_(torch.cat(weights).float(), 0.5)
        for weight in weights:
            weight.add_(1)  # the next step, after the fetch
    assert not torch.equal(average, expected), "the last weights are still under way"
    fetching.settle()
    assert torch.equal(average, expected)
    fetching.copy_()
    assert torch.equal(average, torch.cat(weights).float())


@pytest.mark.parametrize("options", [{"dtype": torch.float16}, {"device": "meta"}, {"device": "moon"}])
def test_options_that_make_no_sense(options: AverageOptions) -> None:
    with pytest.raises(ValueError, match="write"):
        EMA(mlp(), **options)


# weights that are not finite


def poison(model: nn.Module, value: float) -> None:
    with torch.no_grad():
        next(model.parameters()).view(-1)[1] = value


@pytest.mark.parametrize("value", [torch.nan, torch.inf, -torch.inf])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64])
def test_an_update_from_weights_that_are_not_finite_is_left_out_and_counted(value: float, dtype: torch.dtype) -> None:
    model = mlp(dtype)
    averager = EMA(model, decay=0.5, skip_nonfinite=True)
    averager.update()
    before = bits(averager.state_dict()["averages"])
    good = {name: p.detach().clone() for name, p in model.named_parameters()}
    shift(model)
    poison(model, value)
    averager.update()
    assert bits(averager.state_dict()["averages"]) == before
    assert averager.n_skipped == 1
    model.load_state_dict(good)
    averager.update()
    assert averager.n_skipped == 1
    assert all(t.isfinite().all() for t in averager.state_dict()["averages"].values())


def test_large_finite_weights_are_not_taken_for_infinite_ones() -> None:
    model = nn.Linear(4, 4, bias=False)
    with torch.no_grad():
        model.weight.fill_(3e38)
    averager = EMA(model, decay=0.5, skip_nonfinite=True)
    averager.update()
    assert averager.n_skipped == 0


def test_without_the_option_the_average_takes_what_the_model_has() -> None:
    model = mlp()
    averager = EMA(model, decay=0.5)
    poison(model, torch.nan)
    averager.update()
    assert averager.state_dict()["averages"]["0.weight"].isnan().any()


def test_the_count_of_skipped_updates_survives_a_resume() -> None:
    model = mlp()
    averager = LAWA(model, window=2, update_every=1, skip_nonfinite=True)
    poison(model, torch.nan)
    averager.update()
    again = LAWA(model, window=2, update_every=1, skip_nonfinite=True)
    again.load_state_dict(averager.state_dict())
    again.update()
    assert again.n_skipped == 2


# other devices' way of working, which the CPU can do too


@pytest.mark.parametrize("average_type", [torch.float32, torch.float64, torch.bfloat16])
@pytest.mark.parametrize("weight_type", [torch.float32, torch.bfloat16, torch.float16])
def test_all_ways_of_folding_in_agree(average_type: torch.dtype, weight_type: torch.dtype) -> None:
    torch.manual_seed(0)
    weights = [torch.randn(n, dtype=weight_type) for n in (1, 7, 40_000, 3)]
    gaps = torch.randn(6, 4).to(weight_type)[:, ::2]  # memory with gaps
    starts = [0, 1, 8, 40_008, 40_011]
    items = [Item(start, source) for start, source in zip(starts, [*weights, gaps], strict=True)]
    start = torch.randn(40_023).to(average_type)
    rows = {way: [start.clone(), start.clone()] for way in (CpuPass, ForeachPass)}
    for way, buffers in rows.items():
        way(buffers, items).lerp_([0.25, 1.0], [3, 4])
    values = torch.cat([*weights, gaps.reshape(-1)])
    expected = start.double() + 0.25 * (values.double() - start.double())
    tolerance = {torch.float64: 1e-12, torch.float32: 1e-6, torch.bfloat16: 2**-7}[average_type]
    for first, second in rows.values():
        torch.testing.assert_close(first.double(), expected, atol=tolerance, rtol=tolerance)
        if average_type is not torch.bfloat16 or weight_type is torch.bfloat16:
            assert torch.equal(second, values.to(average_type)), "share 1 copies"
    if average_type is not torch.bfloat16:
        torch.testing.assert_close(rows[CpuPass], rows[ForeachPass], atol=0, rtol=0)


@pytest.mark.parametrize("way", [CpuPass, ForeachPass])
@pytest.mark.parametrize("average_type", [torch.float32, torch.bfloat16])
def test_a_pass_that_is_not_to_be_kept_changes_nothing(way: Any, average_type: torch.dtype) -> None:
    average = torch.randn(3).to(average_type)
    before = average.clone()
    weights = torch.tensor([1.0, torch.nan, 2.0])
    one = way([average], [Item(0, weights)])
    assert not one.finite()
    one.lerp_([0.5], [0], keep=one.finite())
    assert torch.equal(average, before)


def test_formats_of_memory_are_kept() -> None:
    model = nn.Sequential(nn.Conv2d(3, 4, 3))
    model.to(memory_format=torch.channels_last)
    averager = EMA(model, decay=0.5)
    average = averager.state_dict()["averages"]["0.weight"]
    assert average.is_contiguous(memory_format=torch.channels_last)
    before = model.get_parameter("0.weight").detach().clone()
    shift(model)
    averager.update()
    torch.testing.assert_close(averager.state_dict()["averages"]["0.weight"], before + 0.5)
    model.to(memory_format=torch.contiguous_format)
    averager.update()
    torch.testing.assert_close(averager.state_dict()["averages"]["0.weight"], before + 0.75)


def test_parameters_with_gaps_in_memory() -> None:
    model = nn.Module()
    model.part = nn.Parameter(torch.randn(6, 4)[:, ::2])
    start = model.part.detach().clone()
    averager = EMA(model, decay=0.5)
    shift(model)
    averager.update()
    with averager.average_parameters():
        torch.testing.assert_close(model.part.detach(), start + 0.5)
    torch.testing.assert_close(model.part.detach(), start + 1)


def test_averages_share_one_buffer_for_each_type() -> None:
    averages = EMA(batchnorm()).state_dict()["averages"]
    memories = {(t.dtype, t.untyped_storage().data_ptr()) for t in averages.values()}
    assert len(memories) == 2  # floats and whole numbers


def test_options_are_part_of_every_method() -> None:
    for name in ("EMA", "SwitchEMA", "SWA", "Lookahead", "LAWA", "PowerEMA"):
        averager = getattr(switch_ema, name)(batchnorm(), parameters="0.*", use_buffers=False)
        assert set(averager.state_dict()["averages"]) == {"0.weight"}
        with pytest.raises(TypeError, match="colour"):
            getattr(switch_ema, name)(batchnorm(), colour="red")


def test_where_triton_fails_torch_takes_over(caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TRITON_INTERPRET", raising=False)
    average, weights = torch.zeros(16), torch.ones(5)
    one = CudaPass([average], [Item(0, weights)])  # on a CPU, where its kernel cannot be compiled
    one.lerp_([0.25], [0])
    one.lerp_([0.25], [1])
    assert torch.equal(average[:5], torch.full((5,), 0.4375))
    assert torch.equal(average[5:], torch.zeros(11))
    assert caplog.text.count("torch's own operations take over") == 1


@pytest.mark.parametrize("way", [OffloadPass, ForeachPass])
@pytest.mark.parametrize("case", ["batchnorm", "mixed-types", "gaps", "tied", "integer-buffers"])
def test_a_run_is_the_same_in_every_way(way: Any, case: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def run() -> Any:
        trainer = Trainer(build(case))
        averager = SwitchEMA(trainer.model, decay=0.7, switch_every=3, skip_nonfinite=True)
        averager.attach(trainer.optimizer)
        seen = []
        for _ in range(7):
            trainer.step()
            with averager.average_parameters():
                seen.append(bits(trainer.model.state_dict()))
            seen += [bits(averager.averaged_state_dict()), bits(averager.state_dict()["averages"])]
        again = SwitchEMA(trainer.model, decay=0.7, switch_every=3, skip_nonfinite=True)
        again.load_state_dict(averager.state_dict())
        again.update()
        return [*seen, bits(again.state_dict())]

    expected = run()
    monkeypatch.setattr(placement, "_choose", lambda buffers, items: [way(buffers, items)])
    assert run() == expected
