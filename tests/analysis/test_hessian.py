"""Curvature against dense matrices in float64: reverse over reverse, and J^T H J written out."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any, Literal

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.func import functional_call, jacrev

from switch_ema.analysis.curvature import Curvature
from switch_ema.analysis.eigenvalues import top_eigenvalues
from switch_ema.analysis.ggn import ggn
from switch_ema.analysis.hessian import hessian
from switch_ema.analysis.objective import Objective, supervised
from switch_ema.analysis.spectrum import SpectralDensity, spectral_density, trace
from switch_ema.errors import InputError

Pair = tuple[Tensor, Tensor]
LossFunction = Callable[[Tensor, Tensor], Tensor]
Case = tuple[nn.Module, LossFunction, list[Pair]]

SIZES = (5, 3, 4)  # of the batches: unequal


def linear() -> Case:
    return nn.Linear(4, 3), F.mse_loss, pairs((4,), (3,))


def tanh_mlp() -> Case:
    return nn.Sequential(nn.Linear(5, 6), nn.Tanh(), nn.Linear(6, 3)), F.cross_entropy, pairs((5,), None)


def relu_mlp() -> Case:
    return nn.Sequential(nn.Linear(4, 7), nn.ReLU(), nn.Linear(7, 2)), F.mse_loss, pairs((4,), (2,))


def conv_net() -> Case:
    model = nn.Sequential(
        nn.Conv2d(1, 3, 3), nn.BatchNorm2d(3), nn.ReLU(), nn.Flatten(), nn.Dropout(0.5), nn.Linear(12, 3)
    )
    norm = model[1]
    assert isinstance(norm, nn.BatchNorm2d)
    assert norm.running_mean is not None
    norm.running_mean += torch.randn(3)
    return model, F.cross_entropy, pairs((1, 4, 4), None)


CASES = [linear, tanh_mlp, relu_mlp, conv_net]


def pairs(inputs: tuple[int, ...], outputs: tuple[int, ...] | None) -> list[Pair]:
    """Batches of unequal size: of real targets, or of labels among three."""
    return [
        (
            torch.randn(n, *inputs, dtype=torch.float64),
            torch.randint(0, 3, (n,)) if outputs is None else torch.randn(n, *outputs, dtype=torch.float64),
        )
        for n in SIZES
    ]


def build(case: Callable[[], Case]) -> Case:
    torch.manual_seed(0)
    model, loss_fn, batches = case()
    return model.double(), loss_fn, batches


def flat_call(model: nn.Module, inputs: Any) -> tuple[Callable[[Tensor], Tensor], Tensor]:
    """The model's outputs as a function of all its parameters in one vector, and that vector."""
    model = copy.deepcopy(model).eval()
    parameters = {name: p.detach() for name, p in model.named_parameters() if p.requires_grad}
    sizes = [p.numel() for p in parameters.values()]

    def call(vector: Tensor) -> Tensor:
        parts = zip(parameters.items(), vector.split(sizes), strict=True)
        out: Tensor = functional_call(model, {name: part.view_as(p) for (name, p), part in parts}, (inputs,))
        return out

    return call, torch.cat([p.flatten() for p in parameters.values()])


def func_hessian(function: Callable[[Tensor], Tensor]) -> Callable[[Tensor], Tensor]:
    return lambda here: torch.autograd.functional.hessian(
        function, here
    )  # torch.func is wrong for BatchNorm in training


def dense_hessian(model: nn.Module, loss_fn: LossFunction, batches: list[Pair]) -> Tensor:
    inputs, targets = (torch.cat(parts) for parts in zip(*batches, strict=True))
    call, here = flat_call(model, inputs)
    matrix: Tensor = func_hessian(lambda vector: loss_fn(call(vector), targets))(here)
    return matrix


def explicit_batch_ggn(model: nn.Module, loss_fn: LossFunction, batch: Pair) -> Tensor:
    call, here = flat_call(model, batch[0])
    jacobian = jacrev(lambda vector: call(vector).flatten())(here)
    shape = call(here).shape
    inner = func_hessian(lambda out: loss_fn(out.view(shape), batch[1]))(call(here).flatten())
    product: Tensor = jacobian.T @ inner @ jacobian
    return product


def dense_ggn(model: nn.Module, loss_fn: LossFunction, batches: list[Pair]) -> Tensor:
    """The mean over the examples, one by one, of J^T H J."""
    inputs, targets = (torch.cat(parts) for parts in zip(*batches, strict=True))
    examples = zip(inputs.split(1), targets.split(1), strict=True)
    return torch.stack([explicit_batch_ggn(model, loss_fn, example) for example in examples]).mean(0)


def same(found: Tensor, expected: Tensor, rtol: float = 1e-10) -> None:
    torch.testing.assert_close(found, expected.to(found.dtype), rtol=rtol, atol=rtol * float(expected.abs().max()))


class Quadratic(nn.Module):
    """w^T A w / 2 has the Hessian A."""

    def __init__(self, matrix: Tensor) -> None:
        super().__init__()
        self.w = nn.Parameter(torch.zeros(len(matrix), dtype=matrix.dtype))
        self.register_buffer("matrix", matrix)

    def forward(self, _inputs: Tensor) -> Tensor:
        matrix = self.get_buffer("matrix")
        return self.w @ matrix @ self.w / 2


def with_eigenvalues(values: Tensor, dtype: torch.dtype = torch.float64) -> Curvature:
    basis = torch.linalg.qr(torch.randn(len(values), len(values), generator=torch.Generator().manual_seed(1)).double())[
        0
    ]
    matrix = (basis * values) @ basis.T
    return hessian(Objective(Quadratic(matrix.to(dtype)), lambda model, batch: model(batch), [torch.zeros(1)]))


# the matrices


@pytest.mark.parametrize("case", CASES)
def test_hessian_is_the_dense_one(case: Callable[[], Case]) -> None:
    model, loss_fn, batches = build(case)
    found = hessian(Objective(model, supervised(loss_fn), batches))
    expected = dense_hessian(model, loss_fn, batches)
    assert expected.abs().max() > 0.01
    same(found.dense(), expected)
    vectors = torch.randn(found.dim, 3, dtype=torch.float64)
    same(found @ vectors, expected @ vectors)


@pytest.mark.parametrize("case", CASES)
def test_ggn_is_the_dense_one_and_differs_from_the_hessian(case: Callable[[], Case]) -> None:
    model, loss_fn, batches = build(case)
    expected = dense_ggn(model, loss_fn, batches)
    same(ggn(model, loss_fn, batches).dense(), expected)
    difference = float((expected - dense_hessian(model, loss_fn, batches)).abs().max())
    assert difference < 1e-12 if case is linear else difference > 1e-3


@pytest.mark.parametrize("batchnorm", ["eval", "train"])
def test_batchnorm_by_its_own_statistics_or_those_of_each_batch(batchnorm: Literal["eval", "train"]) -> None:
    model, loss_fn, batches = build(conv_net)
    norm = nn.BatchNorm2d(3, track_running_stats=False).double() if batchnorm == "train" else model[1]  # type: ignore[index]
    twin = nn.Sequential(*[norm if place == 1 else layer for place, layer in enumerate(model.children())])
    parts = [len(batch[0]) / sum(SIZES) * dense_hessian(twin, loss_fn, [batch]) for batch in batches]
    found = hessian(Objective(model, supervised(loss_fn), batches, batchnorm=batchnorm))
    same(found.dense(), torch.stack(parts).sum(0).detach())
    parts = [len(batch[0]) / sum(SIZES) * explicit_batch_ggn(twin, loss_fn, batch) for batch in batches]
    same(ggn(model, loss_fn, batches, batchnorm=batchnorm).dense(), torch.stack(parts).sum(0).detach())


def test_frozen_parameters_stay_out_and_tied_ones_count_once() -> None:
    model, loss_fn, batches = build(tanh_mlp)
    model[0].bias.requires_grad_(False)  # type: ignore[index]
    found = hessian(Objective(model, supervised(loss_fn), batches))
    assert found.dim == 51
    same(found.dense(), dense_hessian(model, loss_fn, batches))
    tied = nn.Sequential(nn.Linear(3, 3, bias=False), nn.Tanh(), nn.Linear(3, 3, bias=False)).double()
    tied[2].weight = tied[0].weight
    batches = pairs((3,), None)
    found = hessian(Objective(tied, supervised(F.cross_entropy), batches))
    assert found.dim == 9
    same(found.dense(), dense_hessian(tied, F.cross_entropy, batches))


def test_any_batch_and_any_loss() -> None:
    model, _, batches = build(tanh_mlp)

    def loss(model: nn.Module, batch: dict[str, Any]) -> Tensor:
        smooth: Tensor = F.cross_entropy(model(batch["deep"][0]), batch["y"], label_smoothing=0.2)
        return smooth

    named = [{"deep": [inputs, "a name"], "y": targets} for inputs, targets in batches]
    found = hessian(Objective(model, loss, named))
    same(found.dense(), dense_hessian(model, lambda out, y: F.cross_entropy(out, y, label_smoothing=0.2), batches))


class Cube(torch.autograd.Function):
    """A function that torch.func cannot follow."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        ctx.save_for_backward(x)
        return x**3

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        (x,) = ctx.saved_tensors
        product: Tensor = 3 * x**2 * grad
        return product


class Cubes(nn.Module):
    def __init__(self, opaque: bool) -> None:
        super().__init__()
        self.opaque = opaque

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = Cube.apply(x) if self.opaque else x**3
        return out


def test_models_that_torch_func_cannot_follow_are_differentiated_by_autograd(monkeypatch: pytest.MonkeyPatch) -> None:
    model, loss_fn, batches = build(tanh_mlp)
    model[2].bias.requires_grad_(False)  # type: ignore[index]
    opaque = nn.Sequential(model[0], Cubes(True), model[2])  # type: ignore[index]
    clear = nn.Sequential(model[0], Cubes(False), model[2])  # type: ignore[index]
    found = hessian(Objective(opaque, supervised(loss_fn), batches)).dense()
    same(found, dense_hessian(clear, loss_fn, batches))
    with pytest.raises(
        InputError, match=r"the GGN needs a model and a loss that torch.func can differentiate: .*Error"
    ):
        ggn(opaque, loss_fn, batches)
    monkeypatch.setattr("switch_ema.analysis.hessian.try_out", lambda *_: "no")
    lone = nn.Linear(1, 1).double()  # the loss is linear in the bias, and in the weight
    flat = hessian(Objective(lone, lambda model, x: model(x).mean(), [torch.ones(2, 1, dtype=torch.float64)]))
    same(flat.dense(), torch.zeros(2, 2))


class Once(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        return x * 2

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        return grad * 2


def test_a_loss_that_has_no_second_derivative_is_refused() -> None:
    objective = Objective(nn.Linear(2, 1), lambda model, x: Once.apply(model(x)).square().mean(), [torch.ones(3, 2)])
    with pytest.raises(InputError, match="the loss of batch 0 cannot be differentiated twice: ") as caught:
        hessian(objective).dense()
    assert "\n" not in str(caught.value)


class Attention(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.qkv = nn.Linear(4, 12)

    def forward(self, inputs: Tensor) -> Tensor:
        query, key, value = self.qkv(inputs).chunk(3, dim=-1)
        return F.scaled_dot_product_attention(query, key, value, is_causal=True).mean(1)


class Recurrent(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.lstm = nn.LSTM(4, 2, batch_first=True)

    def forward(self, inputs: Tensor) -> Tensor:
        out: Tensor = self.lstm(inputs)[0][:, -1]
        return out


@pytest.mark.parametrize("network", [Attention, Recurrent])
def test_fused_attention_and_recurrent_layers(network: type[nn.Module]) -> None:
    torch.manual_seed(0)
    model = network()
    outputs = (4,) if network is Attention else (2,)
    batches = [(x.float(), y.float()) for x, y in pairs((3, 4), outputs)]
    objective = Objective(model, supervised(F.mse_loss), batches)
    found = hessian(objective)
    vector = torch.randn(found.dim, 1)
    step = 1e-2 / float(vector.norm())
    double = Objective(
        copy.deepcopy(model).double(), supervised(F.mse_loss), [(x.double(), y.double()) for x, y in batches]
    )
    losses = double.along(torch.tensor([[-step], [0.0], [step]]), [found.direction(vector[:, 0])])
    bent = float(losses[0] - 2 * losses[1] + losses[2]) / step**2  # v^T H v by differences
    assert float(vector.T @ (found @ vector)) == pytest.approx(bent, rel=1e-3)
    assert ggn(model, F.mse_loss, batches).dense().trace() > 0


def test_losses_that_draw_random_numbers_have_one_hessian() -> None:
    def noisy(model: nn.Module, batch: Tensor) -> Tensor:
        noise: Tensor = model(batch + torch.randn_like(batch))
        return noise.square().mean()

    objective = Objective(nn.Linear(2, 1).double(), noisy, [torch.ones(4, 2, dtype=torch.float64)] * 2)
    found = hessian(objective)
    same(found.dense(), found.dense())
    lift = objective.along(torch.tensor([[-1.0], [0.0], [1.0]]), [{"weight": torch.tensor([[1.0, 0.0]])}])
    assert float(found.dense()[0, 0]) == pytest.approx(float(lift[0] - 2 * lift[1] + lift[2]))


@pytest.mark.parametrize("chunk", [1, 2, 100])
def test_the_chunk_changes_nothing(chunk: int) -> None:
    model, loss_fn, batches = build(linear)
    expected = dense_hessian(model, loss_fn, batches)
    same(hessian(Objective(model, supervised(loss_fn), batches), chunk=chunk).dense(), expected)
    same(ggn(model, loss_fn, batches, chunk=chunk).dense(), expected)


# eigenvalues


@pytest.mark.parametrize("kind", ["hessian", "ggn"])
@pytest.mark.parametrize("case", CASES)
def test_top_eigenvalues_and_vectors_are_the_dense_ones(case: Callable[[], Case], kind: str) -> None:
    model, loss_fn, batches = build(case)
    objective = Objective(model, supervised(loss_fn), batches)
    matrix = dense_hessian(model, loss_fn, batches) if kind == "hessian" else dense_ggn(model, loss_fn, batches)
    expected, vectors = torch.linalg.eigh(matrix)
    found = top_eigenvalues(hessian(objective) if kind == "hessian" else ggn(model, loss_fn, batches), k=4)
    assert found.values == pytest.approx(expected.flip(0)[:4].tolist(), rel=1e-6)
    first = torch.cat([part.flatten() for part in found.vectors[0].values()])
    assert list(found.vectors[0]) == [name for name, _ in model.named_parameters()]
    assert float(first.norm()) == pytest.approx(1)
    if case is not linear:  # there each is repeated
        assert abs(float(first @ vectors[:, -1])) == pytest.approx(1, abs=1e-6)
    for value, vector, residual in zip(found.values, found.vectors, found.residuals, strict=True):
        flat = torch.cat([part.flatten() for part in vector.values()])
        assert float((matrix @ flat - value * flat).norm()) == pytest.approx(residual, abs=1e-10)
        assert residual <= 1e-4 * expected.abs().max()


def test_the_loss_curves_along_an_eigenvector_as_its_eigenvalue_says() -> None:
    model, loss_fn, batches = build(tanh_mlp)
    objective = Objective(model, supervised(loss_fn), batches)
    top = top_eigenvalues(hessian(objective), k=2)
    for value, vector in zip(top.values, top.vectors, strict=True):
        losses = objective.along(torch.tensor([[-1e-3], [0.0], [1e-3]], dtype=torch.float64), [vector])
        assert float(losses[0] - 2 * losses[1] + losses[2]) / 1e-6 == pytest.approx(value, rel=1e-4)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("seed", range(3))
def test_repeated_close_negative_and_zero_eigenvalues_are_all_found(dtype: torch.dtype, seed: int) -> None:
    values = torch.cat([torch.tensor([5.0, 5, 5, 4.99, 3, 1]), torch.zeros(100), -torch.linspace(0, 8, 50)]).double()
    found = top_eigenvalues(with_eigenvalues(values, dtype), k=8, seed=seed)
    assert found.values == pytest.approx([5, 5, 5, 4.99, 3, 1, 0, 0], abs=1e-4)
    assert max(found.residuals) <= 8e-4
    assert found.num_matvecs <= 500


@pytest.mark.parametrize("seed", range(5))
def test_repeated_eigenvalues_are_found_before_rounding_brings_them(seed: int) -> None:
    values = torch.cat([torch.tensor([5.0, 5, 5, 3]), torch.linspace(0, 1, 60) ** 4]).double()
    found = top_eigenvalues(with_eigenvalues(values), k=4, tol=1e-2, seed=seed)
    assert found.values == pytest.approx([5, 5, 5, 3], rel=1e-3)


def test_restarts_keep_what_was_found() -> None:
    values = torch.linspace(0, 1, 200, dtype=torch.float64) ** 2
    found = top_eigenvalues(with_eigenvalues(values), k=3, num_matvecs=3000, tol=1e-6)
    assert found.num_matvecs > 80  # twice what is held at once
    assert found.values == pytest.approx(values.flip(0)[:3].tolist(), rel=1e-9)


def test_all_eigenvalues_of_a_small_model_and_of_a_flat_one() -> None:
    values = torch.linspace(-1, 2, 50, dtype=torch.float64)
    found = top_eigenvalues(with_eigenvalues(values), k=50)
    assert found.values == pytest.approx(values.flip(0).tolist(), abs=1e-12)
    assert found.num_matvecs == 50
    assert top_eigenvalues(with_eigenvalues(torch.zeros(60).double()), k=2).values == (0.0, 0.0)


def test_eigenvalues_follow_the_seed_alone() -> None:
    curvature = with_eigenvalues(torch.linspace(0, 1, 80, dtype=torch.float64) ** 3)
    first, again, other = (top_eigenvalues(curvature, k=2, seed=seed) for seed in (3, 3, 4))
    assert first.values == again.values
    assert first.residuals == again.residuals != other.residuals
    assert first.values == pytest.approx(other.values, rel=1e-6)
    assert torch.equal(first.vectors[0]["w"], again.vectors[0]["w"])
    torch.testing.assert_close(first.vectors[0]["w"], other.vectors[0]["w"], atol=1e-3, rtol=0)  # the sign as well


# trace and density


@pytest.mark.parametrize("method", ["hutch++", "hutchinson"])
@pytest.mark.parametrize("case", CASES)
def test_trace_is_exact_with_as_many_products_as_parameters_and_else_within_its_error(
    case: Callable[[], Case], method: Literal["hutch++", "hutchinson"]
) -> None:
    model, loss_fn, batches = build(case)
    curvature = hessian(Objective(model, supervised(loss_fn), batches))
    expected = float(dense_hessian(model, loss_fn, batches).trace())
    exact = trace(curvature, num_matvecs=curvature.dim, method=method)
    assert exact.value == pytest.approx(expected, rel=1e-10)
    assert (exact.standard_error, exact.num_matvecs) == (0.0, curvature.dim)
    estimate = trace(curvature, num_matvecs=curvature.dim - 1, method=method)
    assert abs(estimate.value - expected) <= 4 * estimate.standard_error + 1e-10 * abs(expected)
    assert estimate.num_matvecs == curvature.dim - 1


@pytest.mark.parametrize("method", ["hutch++", "hutchinson"])
def test_the_standard_error_of_the_trace_is_the_deviation_over_seeds(method: Literal["hutch++", "hutchinson"]) -> None:
    curvature = with_eigenvalues(0.8 ** torch.arange(60, dtype=torch.float64))
    found = [trace(curvature, num_matvecs=30, method=method, seed=seed) for seed in range(50)]
    values = torch.tensor([each.value for each in found])
    stated = torch.tensor([each.standard_error for each in found]).square().mean().sqrt()
    assert float(values.std() / stated) == pytest.approx(1, abs=0.3)
    assert abs(float(values.mean()) - 5) < 4 * float(values.std()) / 50**0.5  # 1 / (1 - 0.8)
    assert float(values.std()) < 0.2 if method == "hutch++" else 0.3 < float(values.std()) < 0.6


def test_hutch_plus_plus_is_exact_for_low_rank() -> None:
    values = torch.cat([torch.tensor([4.0, -2, 1]), torch.zeros(60)]).double()
    found = trace(with_eigenvalues(values), num_matvecs=12)
    assert found.value == pytest.approx(3, abs=1e-10)
    assert found.standard_error < 1e-10


def test_density_is_a_probability_with_the_mean_eigenvalue_as_its_mean() -> None:
    model, loss_fn, batches = build(tanh_mlp)
    curvature = hessian(Objective(model, supervised(loss_fn), batches))
    density = spectral_density(curvature, num_matvecs=2000, num_probes=100)
    places, curve = density.smooth()
    assert float(torch.trapezoid(curve, places)) == pytest.approx(1, abs=1e-6)
    assert float(torch.trapezoid(curve * places, places)) == pytest.approx(density.mean, rel=1e-4)
    eigenvalues = torch.linalg.eigvalsh(dense_hessian(model, loss_fn, batches))
    spread = (density.nodes * density.weights).sum(1).std() / 10  # over the 100 probes
    assert abs(density.mean - float(eigenvalues.mean())) < 4 * float(spread)
    assert density.num_matvecs == 2000
    assert float(density.nodes.max()) == pytest.approx(float(eigenvalues.max()), rel=1e-6)
    width = float(eigenvalues.max() - eigenvalues.min()) / 20
    places, curve = density.smooth(width)
    expected = torch.exp(-(((places - eigenvalues[:, None]) / width) ** 2) / 2).mean(0) / (
        width * (2 * torch.pi) ** 0.5
    )
    assert float((curve - expected).abs().max() / expected.max()) < 0.05


def test_quadrature_is_exact_for_polynomials_and_beyond_an_exhausted_space() -> None:
    values = torch.cat([torch.tensor([3.0, 1.5, -1]), torch.zeros(50)]).double()
    curvature = with_eigenvalues(values)
    matrix = curvature.dense()
    start = torch.randn(53, 2, generator=torch.Generator().manual_seed(7), dtype=torch.float64)
    start /= start.norm(dim=0)
    for steps in (3, 53):  # 4 different eigenvalues: the space is exhausted after 4 steps
        density = spectral_density(curvature, num_matvecs=2 * steps, num_probes=2, seed=7)
        same(density.weights.sum(1), torch.ones(2))
        for power in range(1, 6):
            moments = torch.stack([v @ torch.linalg.matrix_power(matrix, power) @ v for v in start.T])
            same((density.weights * density.nodes**power).sum(1), moments, rtol=1e-8)
    flat = spectral_density(with_eigenvalues(torch.zeros(50).double()), num_matvecs=20)
    assert flat.mean == 0
    places, curve = flat.smooth()
    assert float(torch.trapezoid(curve, places)) == pytest.approx(1, abs=1e-6)


def test_trace_and_density_follow_the_seed_alone() -> None:
    curvature = with_eigenvalues(torch.linspace(0, 1, 60, dtype=torch.float64) ** 3)
    assert trace(curvature, num_matvecs=12, seed=1) == trace(curvature, num_matvecs=12, seed=1)
    assert trace(curvature, num_matvecs=12, seed=1) != trace(curvature, num_matvecs=12, seed=2)
    first, again, other = (spectral_density(curvature, num_matvecs=20, seed=seed).nodes for seed in (1, 1, 2))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


# what is refused, and what is left alone


def measure_everything(model: nn.Module, loss_fn: LossFunction, batches: list[Pair]) -> None:
    for curvature in (hessian(Objective(model, supervised(loss_fn), batches)), ggn(model, loss_fn, batches)):
        top_eigenvalues(curvature, k=2)
        trace(curvature, num_matvecs=9)
        spectral_density(curvature, num_matvecs=6, num_probes=2)


def test_the_live_model_and_the_random_state_are_left_alone() -> None:
    model, loss_fn, batches = build(conv_net)
    model.train()
    loss_fn(model(batches[0][0]), batches[0][1]).backward()
    before = copy.deepcopy(model.state_dict())
    gradients = [p.grad.clone() for p in model.parameters() if p.grad is not None]
    random = torch.get_rng_state()
    measure_everything(model, loss_fn, batches)
    with pytest.raises(InputError):
        top_eigenvalues(hessian(Objective(model, supervised(loss_fn), batches)), k=2, num_matvecs=10)
    assert model.training
    assert torch.equal(torch.get_rng_state(), random)
    assert all(torch.equal(before[name], now) for name, now in model.state_dict().items())
    assert len(gradients) == len(list(model.parameters()))
    kept = [p.grad for p in model.parameters() if p.grad is not None]
    assert all(torch.equal(old, now) for old, now in zip(gradients, kept, strict=True))
    assert torch.backends.mkldnn.enabled


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (
            lambda c: top_eigenvalues(c, k=61),
            "k 61: the Hessian has 60 eigenvalues, one for each parameter; write a number",
        ),
        (lambda c: top_eigenvalues(c, k=0), "k 0: the Hessian has 60"),
        (lambda c: top_eigenvalues(c, tol=0), "tol 0: write a number between 0 and 1"),
        (
            lambda c: top_eigenvalues(c, k=3, num_matvecs=12, tol=1e-9),
            r"num_matvecs 12: not enough for the top 3 of the Hessian to tol 1e-09 \(0 of 3 were found, the largest "
            r"residual is .*\); write 80, or ask for less by k or tol",
        ),
        (lambda c: top_eigenvalues(c, k=3, num_matvecs=4), "none was tried"),
        (lambda c: top_eigenvalues(c, k=20, num_matvecs=59), "diagonalised whole; write at least 60"),
        (lambda c: trace(c, num_matvecs=5), r"num_matvecs 5: hutch\+\+ needs at least 6"),
        (lambda c: trace(c, num_matvecs=1, method="hutchinson"), "hutchinson needs at least 2"),
        (
            lambda c: trace(c, method="hutch"),  # type: ignore[arg-type]
            r"unknown method 'hutch'; did you mean",
        ),
        (lambda c: spectral_density(c, num_matvecs=3), "write at least one for each of the 4 probes"),
        (lambda c: spectral_density(c, num_probes=0), "num_probes 0: write at least 1"),
        (lambda c: spectral_density(c).smooth(width=-1.0), "width -1: write a number above 0"),
        (
            lambda c: spectral_density(c).smooth(width=1e-9),
            "num_points 1024: too few for a width of 1e-09; write at least",
        ),
    ],
)
def test_bad_arguments_are_refused(call: Callable[[Curvature], object], message: str) -> None:
    with pytest.raises(InputError, match=message) as caught:
        call(with_eigenvalues(torch.linspace(0, 1, 60, dtype=torch.float64)))
    assert "\n" not in str(caught.value)


def test_bad_models_and_losses_are_refused() -> None:
    model, loss_fn, batches = build(tanh_mlp)
    mixed = copy.deepcopy(model)
    mixed[2].half()  # type: ignore[index]
    half = nn.Linear(2, 1).bfloat16()
    objective = Objective(half, supervised(F.mse_loss), [(torch.ones(2, 2).bfloat16(), torch.ones(2, 1).bfloat16())])
    with pytest.raises(InputError, match=r"the parameters are torch.bfloat16, too coarse .* write model.float\(\)"):
        hessian(objective)
    with pytest.raises(InputError, match=r"write reduction='mean'"):
        ggn(model, nn.CrossEntropyLoss(reduction="sum"), batches)
    with pytest.raises(InputError, match="chunk 0: write at least 1"):
        ggn(model, loss_fn, batches, chunk=0)
    root = nn.Linear(1, 1, bias=False).double()
    nn.init.zeros_(root.weight)
    steep = Objective(root, lambda model, x: model(x).abs().pow(1.5).mean(), [torch.ones(2, 1, dtype=torch.float64)])
    with pytest.raises(InputError, match="a product with the Hessian is not finite"):
        hessian(steep).dense()


def test_a_density_is_its_nodes_and_weights() -> None:
    nodes, weights = torch.tensor([[[0.0, 4], [1, 1]], [[0.75, 0.25], [0.5, 0.5]]]).double()
    density = SpectralDensity(nodes, weights, 4)
    assert density.mean == 1
    places, curve = density.smooth(width=0.1, num_points=521)
    assert (float(places[0]), float(places[-1])) == pytest.approx((-0.6, 4.6))
    peak = 1 / (0.1 * (2 * torch.pi) ** 0.5)
    assert [float(curve[place]) for place in (60, 160, 460)] == pytest.approx([0.375 * peak, 0.5 * peak, 0.125 * peak])
