"""The fused kernel beside a twin in float64.

On a GPU the tests run there. Elsewhere they need Triton's interpreter, which Triton must be loaded with: one test runs
this file again in a process of its own.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import weakref
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from switch_ema.averaging import fused
from switch_ema.averaging.fused import BLOCK, FusedPass
from switch_ema.averaging.layout import ALIGNMENT

INTERPRETED = os.environ.get("TRITON_INTERPRET") == "1"
ON_GPU = torch.cuda.is_available() and not INTERPRETED
DEVICE = torch.device("cuda", 0) if ON_GPU else torch.device("cpu")
runs = pytest.mark.skipif(not fused.available(DEVICE), reason="needs a GPU, or runs in test_in_the_interpreter")

GUARD = 7.0
SIZES = [1, 3, BLOCK - 1, 0, BLOCK, BLOCK + 1, 2 * BLOCK + 40]
FLOATS = [torch.float32, torch.float64, torch.bfloat16, torch.float16]
PRECISE = [torch.float32, torch.float64]
INF, NAN = float("inf"), float("nan")


def layout(sizes: Sequence[int]) -> tuple[list[int], int]:
    """Starts with a gap behind every tensor, and the length of it all."""
    starts, end = [], ALIGNMENT
    for size in sizes:
        starts.append(end)
        end += (size // ALIGNMENT + 1) * ALIGNMENT
    return starts, end


def tensors(sizes: Sequence[int], dtype: torch.dtype, seed: int = 0) -> list[Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(size, generator=generator, dtype=torch.float64).to(DEVICE, dtype) for size in sizes]


def flat(parts: Sequence[Tensor], dtype: torch.dtype) -> Tensor:
    """The parts, raised to the average's type, in one buffer with guards in the gaps."""
    starts, end = layout([part.numel() for part in parts])
    buffer = torch.full((end,), GUARD, dtype=dtype, device=DEVICE)
    for part, start in zip(parts, starts, strict=True):
        buffer[start : start + part.numel()] = part.to(dtype)
    return buffer


def twin(average: Tensor, values: Sequence[Tensor], weight: float) -> Tensor:
    """The same in float64 throughout, tensor by tensor."""
    exact = average.double()
    for value, start in zip(values, layout([value.numel() for value in values])[0], strict=True):
        part = exact[start : start + value.numel()]
        part += weight * (value.double() - part)
    return exact


def shares(*weights: float, dtype: torch.dtype = torch.float32) -> Tensor:
    return torch.tensor(weights, dtype=torch.float64 if dtype == torch.float64 else torch.float32, device=DEVICE)


def make(values: Sequence[Tensor]) -> FusedPass:
    return FusedPass(values, layout([value.numel() for value in values])[0])


def bits(tensor: Tensor) -> Tensor:
    return tensor.view({2: torch.int16, 4: torch.int32, 8: torch.int64}[tensor.element_size()]).clone()


def same(one: Tensor, other: Tensor) -> bool:
    return torch.equal(bits(one), bits(other))


@runs
@pytest.mark.parametrize("dtype", [*PRECISE, torch.bfloat16])
@pytest.mark.parametrize("value_dtype", FLOATS)
def test_every_pair_of_types_beside_the_twin(dtype: torch.dtype, value_dtype: torch.dtype) -> None:
    values, weights = tensors(SIZES, value_dtype), (0.001, 0.5, 0.9)
    averages = [flat(tensors(SIZES, dtype, seed), dtype) for seed in range(1, 4)]
    expected = [twin(average, values, weight) for average, weight in zip(averages, weights, strict=True)]
    make(values).lerp_(averages, shares(*weights, dtype=dtype), seed=0)
    relative = torch.finfo(dtype).eps * (1.001 if dtype == torch.bfloat16 else 3)  # one of two neighbours
    absolute = 2e-6 if dtype != torch.float64 else 4e-15
    for average, exact in zip(averages, expected, strict=True):
        torch.testing.assert_close(average.double(), exact, rtol=relative, atol=absolute)
        assert (average == GUARD).sum() == (exact == GUARD).sum() > len(SIZES)  # the gaps


@runs
@pytest.mark.parametrize("weight", [0.0, 0.001, 0.3, 0.5, 0.7, 1.0])
def test_it_is_the_arithmetic_of_torch(weight: float) -> None:
    values = tensors(SIZES, torch.bfloat16)
    parts = tensors(SIZES, torch.float32, seed=1)
    average = flat(parts, torch.float32)
    make(values).lerp_([average], shares(weight))
    expected = [torch.lerp(part, value.float(), shares(weight)) for part, value in zip(parts, values, strict=True)]
    torch.testing.assert_close(average, flat(expected, torch.float32), rtol=2.5e-7, atol=2.5e-7)


@runs
def test_a_weight_near_one_keeps_the_digits_of_the_value() -> None:
    values, weights = [torch.ones(3, device=DEVICE)], shares(1 - 1e-6)
    average = flat([torch.full((3,), 1e8, device=DEVICE)], torch.float32)
    exact = twin(average, values, weights.item())
    make(values).lerp_([average], weights)
    torch.testing.assert_close(average.double(), exact, rtol=1e-6, atol=0)


@runs
@pytest.mark.parametrize("dtype", [*PRECISE, torch.bfloat16])
def test_weight_zero_leaves_and_weight_one_copies(dtype: torch.dtype) -> None:
    values = tensors(SIZES, torch.bfloat16)
    averages = [flat(tensors(SIZES, dtype, seed), dtype) for seed in (1, 2)]
    before = averages[0].clone()
    make(values).lerp_(averages, shares(0.0, 1.0, dtype=dtype), seed=0)
    assert same(averages[0], before)
    assert same(averages[1], flat(values, dtype))


@runs
@pytest.mark.parametrize("dtype", [*PRECISE, torch.bfloat16])
def test_an_equal_value_leaves_every_bit(dtype: torch.dtype) -> None:
    values = tensors(SIZES, dtype)
    weights = (1e-8, 0.001, 0.1, 0.49999, 0.5, 0.7, 0.9999, 1.0)
    averages = [flat(values, dtype) for _ in weights]
    make(values).lerp_(averages, shares(*weights, dtype=dtype), seed=0)
    assert all(same(average, flat(values, dtype)) for average in averages)


@runs
@pytest.mark.parametrize("dtype", [*PRECISE, torch.bfloat16])
def test_infinite_values_as_masks_have_them(dtype: torch.dtype) -> None:
    mask = torch.tensor([0.0, -0.0, -INF, INF], device=DEVICE, dtype=dtype)
    weights = (0.001, 0.5, 1.0)
    averages = [flat([mask], dtype) for _ in weights]
    started = flat([torch.tensor([1.0, NAN, 1.0, NAN], device=DEVICE)], dtype)
    make([mask]).lerp_([*averages, started], shares(*weights, 1.0, dtype=dtype), seed=0)
    assert all(same(average, flat([mask], dtype)) for average in (*averages, started))


@runs
def test_tensors_in_any_order_and_at_any_address() -> None:
    stored = tensors([6 * 8 * 128], torch.bfloat16)[0]
    values = [
        stored.view(6, 8, 128).permute(2, 0, 1),  # dense, in another order
        tensors([BLOCK + 1], torch.bfloat16, seed=1)[0][1:],  # full blocks that begin at an odd address
        tensors([BLOCK + 4], torch.bfloat16, seed=2)[0][4:],
    ]
    sizes = [value.numel() for value in values]
    average = flat(tensors(sizes, torch.float32, seed=3), torch.float32)
    exact = twin(average, [stored, *values[1:]], 0.3)
    make(values).lerp_([average], shares(0.3))
    torch.testing.assert_close(average.double(), exact, rtol=1e-6, atol=2e-6)


@runs
@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("bad", [INF, -INF, NAN])
def test_values_that_are_not_finite_are_skipped(dtype: torch.dtype, bad: float) -> None:
    stored = tensors([sum(SIZES) + 1], dtype)[0]
    stored[-1] = bad  # behind the last tensor
    values = list(stored[:-1].split(SIZES))
    average = flat(tensors(SIZES, torch.float32, seed=1), torch.float32)
    before, exact = average.clone(), twin(average, values, 0.3)
    update = make(values)
    largest = torch.finfo(dtype).max
    values[2][0] = largest
    assert update.all_finite().item() is True
    for i in (0, 2, len(values) - 1):
        kept = values[i][-1].clone()
        values[i][-1] = bad
        keep = update.all_finite()
        assert keep.dtype == torch.bool
        assert keep.item() is False
        update.lerp_([average], shares(0.3), keep=keep)
        assert same(average, before)
        values[i][-1] = kept
    values[2][0] = 0
    exact[layout(SIZES)[0][2]] = 0.7 * before[layout(SIZES)[0][2]].double()
    update.lerp_([average], shares(0.3), keep=torch.ones((), dtype=torch.int8, device=DEVICE))
    torch.testing.assert_close(average.double(), exact, rtol=1e-6, atol=2e-6)


@runs
def test_a_pass_without_elements_does_nothing() -> None:
    values = tensors([0, 0], torch.float32)
    average = flat(values, torch.float32)
    update = make(values)
    update.lerp_([average], shares(0.3))
    assert update.all_finite().item() is True
    assert (average == GUARD).all()


@runs
def test_autograd_sees_that_an_average_changed() -> None:
    values = tensors([5], torch.float32)
    average = flat(values, torch.float32)
    x = torch.ones(average.shape, device=DEVICE, requires_grad=True)
    loss = (x * average).sum()
    make(values).lerp_([average], shares(0.3))
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        loss.backward()


def rounded(values: Tensor, *seeds: int, start: int = 0) -> Tensor:
    """Round float32 to bfloat16 at random, once for each seed: weight 1 copies."""
    averages = torch.zeros(len(seeds), start + len(values), dtype=torch.bfloat16, device=DEVICE)
    update = FusedPass([values], [start])
    update.lerp_(list(averages), shares(*[1.0] * len(seeds)), seed=torch.tensor(seeds, device=DEVICE))
    return averages[:, start:]


@runs
@pytest.mark.parametrize(("fraction", "sign"), [(0.001, 1), (0.25, -1), (0.5, 1), (0.9, -1)])
def test_random_rounding_has_the_right_mean(fraction: float, sign: int) -> None:
    low, step = 1.25, 2**-7  # a bfloat16 number and the distance to the next
    exact = torch.full((BLOCK,), sign * (low + fraction * step), device=DEVICE)
    results = rounded(exact, *range(40)).double() * sign
    assert set(results.unique().tolist()) == {low, low + step}
    share = (exact[0].item() * sign - low) / step
    sigma = step * (share * (1 - share) / results.numel()) ** 0.5
    assert abs(results.mean().item() - abs(exact[0].item())) < 5 * sigma


@runs
def test_random_roundings_are_independent() -> None:
    """Of neighbours, which share a random number of 128 bits, of blocks, and of seeds."""
    exact = torch.full((4 * BLOCK,), 1.25 + 2**-8, device=DEVICE)  # half way
    up = 2.0 * (rounded(exact, 3, 4, 3 + 2**32) > 1.2525) - 1
    bound = 5 / exact.numel() ** 0.5
    assert up.mean(1).abs().max() < bound
    assert (up @ up.T / exact.numel() - torch.eye(3, device=DEVICE)).abs().max() < bound
    for lag in (*range(1, 17), 32, 1024, BLOCK):
        assert (up[0, lag:] * up[0, :-lag]).mean().abs() < bound * 1.2


@runs
def test_random_roundings_follow_from_seed_and_place_alone() -> None:
    exact = tensors([3 * BLOCK], torch.float32)[0]
    first = rounded(exact, 5)
    assert same(first, rounded(exact, 5))
    assert not same(first, rounded(exact, 6))
    assert same(first[0], rounded(exact, 2**40, 5)[1])  # whatever is updated beside it
    assert same(first[:, 48:], rounded(exact[48:].clone(), 5, start=48))  # whatever the blocks are
    assert not same(first, rounded(exact, 5, start=16))
    for seed in (5, 1, 2**40):
        averages = [torch.zeros(len(exact), dtype=torch.bfloat16, device=DEVICE) for _ in range(2)]
        FusedPass([exact], [0]).lerp_(averages, shares(1.0, 1.0), seed=seed)
        assert all(same(average, rounded(exact, seed)[0]) for average in averages)


@runs
def test_random_rounding_keeps_what_needs_none() -> None:
    exact = tensors([200], torch.bfloat16)[0].float()
    highest = torch.finfo(torch.bfloat16).max
    special = torch.tensor([0.0, -0.0, highest, -highest, 1e-40, INF, -INF, torch.finfo(torch.float32).max, NAN])
    nans = torch.tensor([0x7F800001, 0x7FFFFFFF, -1, -0x7FFFFF], dtype=torch.int64).to(torch.int32).view(torch.float32)
    exact[:9], exact[9:13] = special.to(DEVICE), nans.to(DEVICE)
    for seed in range(20):
        result = rounded(exact, seed)[0].float()  # back without loss
        assert torch.equal(result[:4], exact[:4])
        assert 0 < result[4] < 2e-40
        assert torch.equal(result[5:7], exact[5:7])
        assert result[7] == highest  # and not infinite, from which no average returns
        assert result[8:13].isnan().all()
        assert same(result[13:], exact[13:])


@runs
def test_a_bfloat16_average_does_not_stand_still() -> None:
    values = torch.full((BLOCK,), 1.1, device=DEVICE)
    average, nearest = (torch.ones(BLOCK, dtype=torch.bfloat16, device=DEVICE) for _ in range(2))
    update, weight, steps = FusedPass([values], [0]), shares(0.001), 60
    for step in range(steps):
        update.lerp_([average], weight, seed=step)
        nearest = torch.lerp(nearest.float(), values, weight).to(torch.bfloat16)
    assert (nearest == 1).all()
    sigma = average.double().std().item() / len(average) ** 0.5
    assert sigma < 0.0002
    assert abs(average.double().mean().item() - (1.1 - 0.1 * 0.999**steps)) < 5 * sigma


@pytest.mark.parametrize(
    ("values", "starts", "message"),
    [
        ([], [], "no tensors"),
        ([torch.ones(2, dtype=torch.complex64)], [0], "tensor 0 is torch.complex64; pass float tensors"),
        ([torch.ones(2, dtype=torch.int64)], [0], "tensor 0 is torch.int64"),
        ([torch.ones(2), torch.ones(2).double()], [0, 16], "tensor 1 is torch.float64 on cpu, the first torch.float32"),
        ([torch.ones(4, 2)[:, 0]], [0], "tensor 0 of shape .4,. has gaps in memory"),
        ([torch.ones(1).expand(3)], [0], "tensor 0 of shape .3,. has gaps in memory"),
        ([torch.ones(2)], [8], "tensor 0 starts at 8; starts are multiples of 16"),
        ([torch.ones(2)], [-16], "tensor 0 starts at -16"),
    ],
)
def test_tensors_that_do_not_fit_are_refused(values: list[Tensor], starts: list[int], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        FusedPass(values, starts)


@pytest.mark.parametrize(
    ("flats", "weights", "message"),
    [
        ([], [], "got None; pass at least one"),
        ([torch.ones(32).half()], [0.1], "averages are float32, float64 or bfloat16, got torch.float16"),
        ([torch.ones(32), torch.ones(32).double()], [0.1, 0.1], "got torch.float64 of shape .32,. on cpu"),
        ([torch.ones(2, 16)], [0.1], "flat torch.float32 tensors on cpu, got torch.float32 of shape .2, 16."),
        ([torch.ones(64)[::2]], [0.1], "pass views of one flat buffer"),
        ([torch.ones(17)], [0.1], "an average has 17 elements; the tensors need 18"),
        ([torch.ones(32)], [0.1, 0.1], "weights must be a torch.float32 tensor of 1 elements"),
        ([torch.ones(32).double()], [0.1], "weights must be a torch.float64 tensor"),
        ([torch.ones(32).bfloat16()], [0.1], "give a seed"),
    ],
)
def test_averages_that_do_not_fit_are_refused(flats: list[Tensor], weights: list[float], message: str) -> None:
    update = FusedPass([torch.ones(3), torch.ones(2)], [0, 16])
    with pytest.raises(ValueError, match=message):
        update.lerp_(flats, torch.tensor(weights))


@pytest.mark.parametrize("seed", [torch.tensor(1), torch.tensor([1, 2]), torch.tensor([1.0])])
def test_a_seed_that_does_not_fit_is_refused(seed: Tensor) -> None:
    with pytest.raises(ValueError, match="seed must be an int64 tensor of 1 elements"):
        FusedPass([torch.ones(3)], [0]).lerp_([torch.ones(16).bfloat16()], torch.ones(1), seed=seed)


def test_dense_tensors_are_taken() -> None:
    image = torch.ones(2, 3, 4, 5).to(memory_format=torch.channels_last)
    FusedPass([image, torch.ones(3, 1, 2).transpose(0, 2), torch.ones(()), torch.ones(0, 4).T], [0, 128, 144, 144])


def test_a_pass_knows_whether_its_tensors_moved() -> None:
    values = [torch.ones(3), torch.ones(4)]
    update = FusedPass(values, [0, 16])
    assert update.is_current(values)
    values[1].data = torch.ones(4)
    assert not update.is_current(values)
    assert not update.is_current(values[:1])


def test_a_pass_keeps_its_tensors() -> None:
    values = [torch.ones(3)]
    alive = weakref.ref(values[0])
    update = FusedPass(values, [0])
    values.clear()
    assert alive() is not None
    del update
    assert alive() is None


@pytest.mark.skipif(INTERPRETED, reason="it ran outside of the interpreter")
def test_triton_is_loaded_by_the_first_kernel_alone() -> None:
    code = (
        "import sys, torch\nfrom switch_ema.averaging.fused import FusedPass, available\n"
        "assert not available(torch.device('cpu'))\nFusedPass([torch.ones(3)], [0])\nassert 'triton' not in sys.modules"
    )
    environment = {**os.environ, "TRITON_INTERPRET": "0"}
    subprocess.run([sys.executable, "-c", code], check=True, env=environment)


@pytest.mark.skipif(INTERPRETED, reason="this is the interpreter")
def test_in_the_interpreter() -> None:
    pytest.importorskip("triton")
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-W", "ignore::RuntimeWarning", "-p", "no:cacheprovider", __file__],
        check=False,
        capture_output=True,
        text=True,
        cwd=Path(__file__).parents[2],
        env={**os.environ, "TRITON_INTERPRET": "1", "OMP_NUM_THREADS": "1"},
    )
    assert done.returncode == 0, done.stdout + done.stderr
    passed = re.search(r"(\d+) passed", done.stdout)
    assert passed
    assert int(passed[1]) > 50


def compiled(value: str, average: str, rows: int = 1) -> str:
    """The assembly for an H100, which needs no GPU to be made."""
    compiler = pytest.importorskip("triton.compiler")
    backends = pytest.importorskip("triton.backends.compiler")
    kernel, _ = fused._kernels()
    options = fused._constants(getattr(torch, value), getattr(torch, average))
    num_warps = options.pop("num_warps")
    short = {"float32": "fp32", "float64": "fp64", "bfloat16": "bf16"}[average]
    types: dict[str, Any] = {
        "table": "*i64",
        "weights": "*fp64" if average == "float64" else "*fp32",
        "seed": "i64",
        "keep": "*i1",
        "flats": (f"*{short}",) * rows,
    }
    constants = {**options, "rows": rows}
    names = [*types, *constants]
    source = compiler.ASTSource(
        fn=kernel,
        signature={**types, **dict.fromkeys(constants, "constexpr")},
        constexprs={(names.index(name),): constant for name, constant in constants.items()},
        attrs={(names.index("flats"), row): [["tt.divisibility", 16]] for row in range(rows)},
    )
    program = compiler.compile(source, target=backends.GPUTarget("cuda", 90, 32), options={"num_warps": num_warps})
    return str(program.asm["ptx"])


@pytest.mark.skipif(INTERPRETED, reason="the interpreter compiles nothing")
@pytest.mark.parametrize(
    ("value", "average", "load"),
    [
        ("float32", "float32", "v4.b32"),
        ("bfloat16", "float32", "v2.b32"),  # 4 at once, as of the average
        ("float16", "float32", "v2.b32"),
        ("float64", "float64", "v2.b64"),
        ("bfloat16", "bfloat16", "v4.b32"),
    ],
)
def test_it_compiles_to_wide_loads_and_stores(
    value: str, average: str, load: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TRITON_CACHE_DIR", str(tmp_path))
    code = compiled(value, average)
    wide = "v2.b64" if average == "float64" else "v4.b32"
    vectors = fused.BLOCK * getattr(torch, average).itemsize // (16 * 32 * fused._NUM_WARPS)  # of a thread
    same_width = vectors if load == wide else 0
    assert code.count(f"ld.global.{wide}") == vectors + same_width
    assert code.count(f"st.global.{wide}") == vectors
    assert code.count(f"ld.global.{load}") == vectors + same_width
    assert "bar.sync" not in code  # no thread waits for another
    assert ".ftz" not in code


@pytest.mark.gpu
@pytest.mark.skipif(not ON_GPU, reason="needs a GPU")
def test_a_captured_update_takes_new_weights_and_seeds() -> None:
    values, sizes = tensors(SIZES, torch.float32), SIZES
    average = flat(tensors(sizes, torch.float32, seed=1), torch.float32)
    halved = flat(tensors(sizes, torch.bfloat16, seed=1), torch.bfloat16)
    weights, seed = shares(0.3), torch.tensor([1], device=DEVICE)
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        update = make(values)
        update.lerp_([average], weights, keep=update.all_finite())
        update.lerp_([halved], weights, seed=seed)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph, stream=stream):
            update.lerp_([average], weights, keep=update.all_finite())
            update.lerp_([halved], weights, seed=seed)
        for number, weight in enumerate((0.3, 0.9, 0.01)):
            weights.fill_(weight)
            seed.fill_(number)
            values[0].fill_(NAN if number == 1 else number)
            exact = average.double() if number == 1 else twin(average, values, weight)
            eager = halved.clone()
            update.lerp_([eager], weights, seed=number)
            graph.replay()
            torch.testing.assert_close(average.double(), exact, rtol=1e-6, atol=2e-6)
            assert same(eager, halved)


@pytest.mark.gpu
@pytest.mark.skipif(not ON_GPU, reason="needs a GPU")
def test_nothing_waits_for_the_device() -> None:
    values = tensors(SIZES, torch.bfloat16)
    averages = [flat(tensors(SIZES, torch.float32, seed), torch.float32) for seed in (1, 2)]
    weights = shares(0.1, 0.9)
    expected = [twin(average, values, weight) for average, weight in zip(averages, (0.1, 0.9), strict=True)]
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    torch.cuda.set_sync_debug_mode("error")
    try:
        with torch.cuda.stream(stream):
            update = make(values)
            update.lerp_(averages, weights, keep=update.all_finite())
    finally:
        torch.cuda.set_sync_debug_mode("default")
    torch.cuda.current_stream().wait_stream(stream)
    for average, exact in zip(averages, expected, strict=True):
        torch.testing.assert_close(average.double(), exact, rtol=1e-6, atol=2e-6)
