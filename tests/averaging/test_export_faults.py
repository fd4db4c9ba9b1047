"""Averaged weights outside the loop, for models that do unusual things: what is exported is the average, and whole."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn.utils import parametrize

from switch_ema import EMA, Averager, average_checkpoints, load_averaged, save_averaged


def averaged(model: nn.Module, **options: Any) -> Averager:
    averager = EMA(model, 0.5, **options)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(1)
    averager.update()
    return averager


def snapshot(tensors: dict[str, Any]) -> dict[str, Any]:
    return {name: t.detach().clone() if isinstance(t, Tensor) else t for name, t in tensors.items()}


def same(one: dict[str, Any], other: dict[str, Any]) -> bool:
    return one.keys() == other.keys() and all(
        torch.equal(one[name], other[name]) if isinstance(one[name], Tensor) else one[name] == other[name]
        for name in one
    )


# a state dict of new tensors

CHANGES: dict[str, Callable[[Tensor], Tensor]] = {
    "copied": lambda value: value.detach().clone(),
    "a view": lambda value: value.detach(),
    "half": lambda value: value.half(),
    "turned": lambda value: value.mT.contiguous(),
    "scaled": lambda value: value * 2,
}


class Net(nn.Module):
    def __init__(self, state: str = "") -> None:
        super().__init__()
        torch.manual_seed(0)
        self.first, self.last = nn.Linear(150, 150), nn.Linear(150, 150)
        self.last.weight = self.first.weight
        self.register_buffer("mean", torch.zeros(1, 3))
        self.register_buffer("cache", torch.zeros(3), persistent=False)
        self.note = state

    def get_extra_state(self) -> Any:
        return {"seen": 7} if self.note == "mapping" else torch.tensor([7])

    def set_extra_state(self, state: Any) -> None:
        pass


def hooked(change: Callable[[Tensor], Tensor]) -> Net:
    def hook(_: nn.Module, state: dict[str, Any], prefix: str, *__: object) -> None:
        changed = {id(v): change(v) if v.dim() == 2 else v for v in state.values()}
        state.update({name: changed[id(value)] for name, value in state.items()})

    model = Net()
    cast(Any, model).register_state_dict_post_hook(hook)
    return model


@pytest.mark.parametrize("change", CHANGES)
def test_a_state_dict_of_new_tensors_is_that_of_the_average(change: str, tmp_path: Path) -> None:
    model = hooked(CHANGES[change])
    averager = averaged(model)
    live = snapshot(model.state_dict())
    with averager.average_parameters():
        expected = snapshot(model.state_dict())
    assert not torch.equal(expected["first.weight"], live["first.weight"])
    state = averager.averaged_state_dict()
    assert same(state, expected)
    save_averaged(averager, tmp_path / "a.safetensors")
    saved = load_file(tmp_path / "a.safetensors")
    assert "last.weight" not in saved  # tied, stored once
    assert same(saved | {"last.weight": saved["first.weight"]}, expected)
    assert same(snapshot(model.state_dict()), live)
    assert all(map(torch.equal, averager.averaged_state_dict().values(), state.values()))


def test_an_override_that_copies_gives_the_average(tmp_path: Path) -> None:
    class Copies(nn.Linear):
        def state_dict(self, *args: Any, **kwargs: Any) -> dict[str, Any]:  # type: ignore[override]
            return {name: v.detach().clone() for name, v in super().state_dict(*args, **kwargs).items()}

    model = Copies(1, 1, bias=False)
    averager = EMA(model, 0.5)
    start = model.weight.item()
    assert float(averager.averaged_state_dict()["weight"]) == start
    save_averaged(averager, tmp_path / "start.safetensors")
    with torch.no_grad():
        model.weight.fill_(8)
    averager.update()
    save_averaged(averager, tmp_path / "a.safetensors")
    assert float(load_file(tmp_path / "start.safetensors")["weight"]) == start
    for found in (averager.averaged_state_dict(), load_file(tmp_path / "a.safetensors")):
        assert float(found["weight"]) == pytest.approx((start + 8) / 2)
    assert model.weight.item() == 8


def test_extra_state_stays_and_what_is_exported_is_ones_own() -> None:
    for kind in ("mapping", "tensor"):
        model = Net(kind)
        averager = averaged(model)
        before = snapshot(averager.averaged_state_dict())
        state = averager.averaged_state_dict()
        assert "cache" not in state
        assert state["_extra_state"] == ({"seen": 7} if kind == "mapping" else torch.tensor([7]))
        for value in state.values():
            if isinstance(value, Tensor):
                value.zero_()
        assert same(averager.averaged_state_dict(), before)


def test_a_plain_state_dict_needs_no_swap() -> None:
    model = nn.Linear(150, 150)
    averager = averaged(model)
    version = model.weight._version
    averager.averaged_state_dict()
    assert model.weight._version == version


# a forward pass that writes to its tensors


class Normed(nn.Module):
    """Forces the norm of its weights, as EDM2 does, and ends with a plain layer."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.first, self.last = nn.Linear(150, 150), nn.Linear(150, 150)

    def forward(self, x: Tensor) -> Tensor:
        for layer in (self.first, self.last):
            with torch.no_grad():
                layer.weight.copy_(layer.weight / layer.weight.norm())
            x = layer(x)
        return x


class Tied(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.table, self.head = nn.Embedding(4, 3, max_norm=0.5), nn.Linear(3, 4)
        self.head.weight = self.table.weight

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.head(self.table(x))
        return out


WRITERS: dict[str, tuple[Callable[[], nn.Module], Tensor]] = {
    "embedding": (lambda: nn.Embedding(4, 3, max_norm=0.5), torch.arange(4)),
    "tied": (Tied, torch.arange(4)),
    "forced norm": (Normed, torch.ones(2, 150)),
}


@pytest.mark.parametrize("grad", [torch.enable_grad, torch.no_grad, torch.inference_mode])
@pytest.mark.parametrize("options", [{}, {"dtype": torch.bfloat16}, {"parameters": "last.*"}])
@pytest.mark.parametrize("updated", [True, False])
@pytest.mark.parametrize("writer", WRITERS)
def test_functional_call_changes_neither_average_nor_model(
    writer: str, updated: bool, options: dict[str, Any], grad: Callable[[], Any]
) -> None:
    make, x = WRITERS[writer]
    model = make()
    if "parameters" in options and writer != "forced norm":
        options = {"parameters": "*"}
    averager = averaged(model, **options) if updated else EMA(model, 0.5, **options)
    live, average = snapshot(model.state_dict()), snapshot(averager.averaged_state_dict())
    state = snapshot(averager.state_dict()["averages"])
    with grad():
        called = averager.functional_call(x)
    assert same(snapshot(model.state_dict()), live)
    assert same(averager.averaged_state_dict(), average)
    assert same(averager.state_dict()["averages"], state)
    twin = copy.deepcopy(model)
    twin.load_state_dict(average)
    with torch.no_grad():
        assert torch.equal(called, twin(x))


def test_gradients_reach_the_input_though_the_weights_are_written_to() -> None:
    model = Normed()
    averager = averaged(model)
    twin = copy.deepcopy(model)
    twin.load_state_dict(averager.averaged_state_dict())
    one, other = torch.ones(2, 150, requires_grad=True), torch.ones(2, 150, requires_grad=True)
    called = averager.functional_call(one)
    average = snapshot(averager.averaged_state_dict())
    with torch.no_grad():
        model.first.weight.add_(1)
    averager.update()  # between forward and backward: the pass keeps the weights it had
    called.sum().backward()
    twin(other).sum().backward()
    assert one.grad is not None
    assert other.grad is not None
    assert torch.equal(one.grad, other.grad)
    moved = averager.averaged_state_dict()["first.weight"]
    assert torch.equal(moved, torch.lerp(average["first.weight"], model.first.weight.detach(), 0.5))


def test_gradients_reach_parameters_that_are_not_averaged() -> None:
    model = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2))
    averager = averaged(model, parameters="1.*")
    averager.functional_call(torch.ones(1, 2)).sum().backward()
    assert model[0].weight.grad is not None
    assert model[1].weight.grad is None


def test_an_ordinary_call_copies_no_average() -> None:
    model = nn.Linear(150, 150)
    averager = averaged(model)
    seen: list[Tensor] = []
    model.register_forward_pre_hook(lambda module, _: seen.append(module.weight))
    averager.functional_call(torch.ones(1, 150))
    average = averager.state_dict()["averages"]["weight"]
    assert torch._C._is_cow_tensor(seen[0])  # type: ignore[attr-defined]
    address = torch._C._data_address  # type: ignore[attr-defined]
    assert address(seen[0]) == address(average)


def test_buffers_are_left_alone_under_all_of_their_names() -> None:
    class Counts(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Linear(2, 2)
            self.register_buffer("one", torch.zeros(1))
            self.register_buffer("other", self.get_buffer("one"))

        def forward(self, x: Tensor) -> Tensor:
            self.get_buffer("other").add_(1)
            return x + self.get_buffer("one")

    for use_buffers in (True, False):
        model = Counts()
        averager = averaged(model, use_buffers=use_buffers)
        assert averager.functional_call(torch.zeros(1)).tolist() == [1]
        assert model.state_dict()["other"].tolist() == [0]


def test_modules_used_twice_and_parametrized_ones_are_called() -> None:
    class Double(nn.Module):
        def forward(self, weight: Tensor) -> Tensor:
            return 2 * weight

    layer = nn.Linear(3, 3)
    parametrize.register_parametrization(layer, "weight", Double())
    model = nn.Sequential(layer, layer)
    averager = averaged(model)
    live = snapshot(model.state_dict())
    called = averager.functional_call(torch.ones(1, 3))
    with averager.average_parameters():
        assert torch.equal(called, model(torch.ones(1, 3)))
    assert same(snapshot(model.state_dict()), live)


# values beyond a type


def files(tmp_path: Path, *values: float, dtype: torch.dtype = torch.float32) -> list[Path]:
    paths = [tmp_path / f"{i}.safetensors" for i in range(len(values))]
    for path, value in zip(paths, values, strict=True):
        save_file({"weight": torch.full((3,), value, dtype=dtype), "one": torch.ones(2, dtype=dtype)}, path)
    return paths


@pytest.mark.parametrize("values", [(1e6, 1e6), (1e6, 2e5), (-1e6, 0.0)])
def test_a_mean_beyond_the_type_is_refused(values: tuple[float, ...], tmp_path: Path) -> None:
    paths = files(tmp_path, *values)
    message = (
        r"^'weight' has values beyond the range of torch.float16 .* \(--dtype float32\) \(float16 ends at 65504\)$"
    )
    with pytest.raises(ValueError, match=message):
        average_checkpoints(paths, tmp_path / "mean.safetensors", dtype="float16")
    assert not (tmp_path / "mean.safetensors").exists()
    average_checkpoints(paths, tmp_path / "mean.safetensors", dtype="bfloat16")
    assert load_file(tmp_path / "mean.safetensors")["weight"].isfinite().all()


def test_a_weighted_sum_beyond_the_files_own_type_is_refused(tmp_path: Path) -> None:
    paths = files(tmp_path, -60_000.0, 60_000.0, dtype=torch.float16)
    with pytest.raises(ValueError, match=r"'weight' has values beyond the range of torch.float16 \(1.8e\+05\)"):
        average_checkpoints(paths, tmp_path / "mean.safetensors", weights=[-1, 2])
    paths = files(tmp_path, -3e38, 3e38)
    with pytest.raises(ValueError, match=r"torch.float32 .*--dtype float64"):
        average_checkpoints(paths, tmp_path / "mean.safetensors", weights=[-1, 2])


def test_infinite_values_and_those_at_the_end_of_a_type_are_kept(tmp_path: Path) -> None:
    for value in (float("inf"), 65504.0):
        paths = files(tmp_path, value, value)
        average_checkpoints(paths, tmp_path / "mean.safetensors", dtype="float16", force=True)
        assert load_file(tmp_path / "mean.safetensors")["weight"].tolist() == [value] * 3


@pytest.mark.parametrize(
    "dtype", [torch.float16, torch.bfloat16, torch.float8_e4m3fn, torch.float8_e5m2, torch.float64, torch.complex64]
)
def test_all_types_that_files_hold_are_averaged_still(dtype: torch.dtype, tmp_path: Path) -> None:
    paths = files(tmp_path, 2.0, 2.0, dtype=dtype)
    average_checkpoints(paths, tmp_path / "mean.safetensors")
    mean = load_file(tmp_path / "mean.safetensors")["weight"]
    assert mean.dtype is dtype
    assert mean.to(torch.complex128).real.tolist() == [2.0] * 3


def test_a_file_beyond_the_models_type_is_refused_before_anything_is_loaded(tmp_path: Path) -> None:
    model = nn.Linear(2, 2)
    with torch.no_grad():
        model.weight.fill_(-1e6)
        model.bias.fill_(3)
    path = tmp_path / "a.safetensors"
    save_averaged(EMA(model), path)
    narrow = nn.Linear(2, 2).half()
    before = snapshot(narrow.state_dict())
    message = (
        r"holds 'weight', which has values beyond the range of torch.float16 \(1e\+06\); load it into .*float32 \("
    )
    with pytest.raises(ValueError, match=message):
        load_averaged(path, narrow)
    assert same(snapshot(narrow.state_dict()), before)
    load_averaged(path, wide := nn.Linear(2, 2).bfloat16())
    assert wide.weight.isfinite().all()
