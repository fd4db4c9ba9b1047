"""Decision regions: linear and known classifiers in closed form; the model that is asked stays as it is."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from switch_ema.analysis.boundary import Regions, agreement, decision_grid, measure_regions
from switch_ema.errors import InputError


def linear(weight: list[list[float]], bias: list[float]) -> nn.Linear:
    model = nn.Linear(len(weight[0]), len(weight))
    model.load_state_dict({"weight": torch.tensor(weight), "bias": torch.tensor(bias)})
    return model


def axis(low: float, high: float, count: int) -> Tensor:
    return torch.linspace(low, high, count, dtype=torch.float64)


class Says(nn.Module):
    """A classifier whose logits are a given function of its inputs."""

    def __init__(self, function: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.function = function

    def forward(self, inputs: Tensor) -> Tensor:
        return self.function(inputs)


def inside(radius: float) -> nn.Module:
    """Class 1 within a circle about the origin."""
    return Says(lambda points: 100 * (radius - points.norm(dim=1)))


def test_rows_are_ys_and_columns_are_xs() -> None:
    xs, ys = [-1.0, 0.0, 3.0], [10.0, 20.0]
    regions = decision_grid(linear([[1.0, 0.0], [0.0, 0.1]], [0.0, 0.0]), xs, ys)
    assert regions.probabilities.shape == (2, 3, 2)
    assert regions.probabilities.dtype == torch.float64
    assert (regions.xs.tolist(), regions.ys.tolist()) == (xs, ys)
    for row, y in enumerate(ys):
        for column, x in enumerate(xs):
            share = 1 / (1 + math.exp(0.1 * y - x))
            assert regions.probabilities[row, column].tolist() == pytest.approx([share, 1 - share])
            assert regions.classes[row, column] == (x < 0.1 * y)
            assert regions.confidence[row, column] == pytest.approx(max(share, 1 - share))
            assert regions.margin[row, column] == pytest.approx(abs(2 * share - 1))


def test_margin_is_the_distance_to_the_next_class() -> None:
    regions = decision_grid(linear([[0.0, 0.0]] * 4, [0.0, 1.0, 2.0, -1.0]), [0.0, 1.0], [0.0, 1.0])
    shares = torch.tensor([0.0, 1.0, 2.0, -1.0], dtype=torch.float64).softmax(0)
    assert (regions.margin - (shares[2] - shares[1])).abs().max() < 1e-12
    assert regions.classes.unique().tolist() == [2]


@pytest.mark.parametrize("shape", [(-1,), (-1, 1)])
def test_one_logit_stands_for_two_classes(shape: tuple[int, ...]) -> None:
    two = decision_grid(linear([[0.0, 0.0], [2.0, 1.0]], [0.0, -0.5]), axis(-1, 1, 5), axis(-1, 1, 4))
    one = decision_grid(
        Says(lambda points: (points @ torch.tensor([2.0, 1.0]) - 0.5).view(shape)), axis(-1, 1, 5), axis(-1, 1, 4)
    )
    torch.testing.assert_close(one.probabilities, two.probabilities, rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("chunk", [1, 7, 20, 1000])
def test_chunks_do_not_matter(chunk: int) -> None:
    sizes: list[int] = []
    model = nn.Sequential(Says(lambda points: sizes.append(len(points)) or points), linear([[1.0, 2.0]], [0.1]))  # type: ignore[func-returns-value]
    regions = decision_grid(model, axis(-1, 1, 5), axis(0, 1, 4), chunk=chunk)
    assert sum(sizes) == 20
    assert max(sizes) == min(chunk, 20)
    whole = decision_grid(linear([[1.0, 2.0]], [0.1]), axis(-1, 1, 5), axis(0, 1, 4))
    torch.testing.assert_close(regions.probabilities, whole.probabilities, rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
def test_points_come_in_the_models_type(dtype: torch.dtype) -> None:
    seen: list[torch.dtype] = []
    model = nn.Sequential(Says(lambda points: seen.append(points.dtype) or points), nn.Linear(2, 3)).to(dtype)  # type: ignore[func-returns-value]
    assert decision_grid(model, [0.0, 1.0], [0.0, 1.0]).probabilities.dtype == torch.float64
    assert seen == [dtype]


def test_inputs_may_be_made_of_the_points() -> None:
    model = linear([[0.0, 0.0, 0.0], [1.0, 1.0, 1.0]], [0.0, 0.0])
    regions = decision_grid(model, [-2.0, 4.0], [1.0, 2.0], at=lambda p: torch.cat([p, -2 * p[:, :1]], 1))
    assert regions.classes.tolist() == [[1, 0], [1, 0]]  # y - x > 0


@pytest.mark.parametrize("degrees", [0, 20, 45, 70, 90, 135])
def test_the_border_of_a_linear_classifier(degrees: float) -> None:
    """A line through the middle of a square, whose normal makes an angle with the x axis."""
    normal = [math.cos(math.radians(degrees)), math.sin(math.radians(degrees))]
    grid = axis(-1, 1, 400)
    regions = decision_grid(linear([[0.0, 0.0], normal], [0.0, 0.0]).double(), grid, grid)
    measures = measure_regions(regions)
    assert measures.class_shares.tolist() == pytest.approx([0.5, 0.5], abs=0.005)
    length = 2 / max(map(abs, normal))  # within the square, whose area is 4
    crossings = length * sum(map(abs, normal)) / 4
    assert measures.boundary_length == pytest.approx(crossings * math.pi / 4, rel=0.01)
    assert measures.boundary_share == pytest.approx(crossings / 399 * 2 / 2, rel=0.01)
    assert 0.78 < measures.boundary_length / (length / 4) < 1.12


def test_pairs_counted_by_hand() -> None:
    classes = torch.tensor([[0, 0, 1], [2, 0, 1]])
    regions = Regions(torch.tensor([0.0, 1.0, 2.0]), torch.tensor([0.0, 4.0]), nn.functional.one_hot(classes).double())
    measures = measure_regions(regions)
    assert measures.boundary_share == pytest.approx(4 / 7)  # in x 1 + 2 of 4 pairs, in y 1 of 3
    assert measures.boundary_length == pytest.approx((3 / (2 * 2) + 1 / (3 * 4)) * math.pi / 4)
    assert measures.class_shares.tolist() == pytest.approx([3 / 6, 2 / 6, 1 / 6])
    assert measures.mean_margin == 1


def test_the_regions_of_a_circle() -> None:
    xs, ys = axis(-2, 2, 500), axis(-1.5, 1.5, 300)
    measures = measure_regions(decision_grid(inside(1.2), xs, ys))
    assert measures.boundary_length == pytest.approx(2 * math.pi * 1.2 / 12, rel=0.01)
    assert measures.class_shares[1] == pytest.approx(math.pi * 1.44 / 12, rel=0.01)


def test_a_class_without_any_area_has_the_share_0() -> None:
    regions = decision_grid(linear([[0.0, 0.0]] * 3, [0.0, 1.0, 0.0]), [0.0, 1.0], [0.0, 1.0])
    measures = measure_regions(regions)
    assert measures.class_shares.tolist() == [0, 1, 0]
    assert (measures.boundary_share, measures.boundary_length, measures.squared_gradient) == (0, 0, 0)


def test_the_gradient_of_a_known_probability() -> None:
    """p = 1 / (1 + exp(-s x)) has the slope s p (1 - p), whose square has the mean s (1/2 p^2 - 1/3 p^3) / width."""
    xs, ys, slope = axis(-2, 2, 2001), axis(0, 3, 5), 3.0
    measures = measure_regions(decision_grid(linear([[0.0, 0.0], [slope, 0.0]], [0.0, 0.0]).double(), xs, ys))
    p = torch.tensor([-2.0, 2.0], dtype=torch.float64).mul(slope).sigmoid()
    integral = slope * (p**2 / 2 - p**3 / 3).diff().item()
    assert measures.squared_gradient == pytest.approx(integral / 4, rel=2e-3)
    turned = measure_regions(decision_grid(linear([[0.0, 0.0], [0.0, slope]], [0.0, 0.0]).double(), ys, xs))
    assert turned.squared_gradient == pytest.approx(measures.squared_gradient)


def test_mean_margin_of_a_known_probability() -> None:
    """The margin is tanh(s |x| / 2), whose integral from 0 to 2 is 2 log cosh(s) / s."""
    xs, slope = axis(-2, 2, 2001), 3.0
    measures = measure_regions(decision_grid(linear([[0.0, 0.0], [slope, 0.0]], [0.0, 0.0]).double(), xs, [0.0, 1.0]))
    assert measures.mean_margin == pytest.approx(2 / slope * math.log(math.cosh(slope)) / 2, rel=2e-3)


def test_agreement_is_the_share_of_equal_classes() -> None:
    grid = axis(-2, 2, 401)
    small, large = (decision_grid(inside(radius), grid, grid) for radius in (0.8, 1.6))
    assert agreement(small, small) == 1
    assert agreement(small, large) == pytest.approx(1 - math.pi * (1.6**2 - 0.8**2) / 16, rel=0.01)
    with pytest.raises(InputError, match="different grids"):
        agreement(small, decision_grid(inside(0.8), grid, grid + 0.1))


class Restless(nn.Module):
    """Counts its calls, draws random numbers and has parts in both modes; it fails if told to."""

    calls: Tensor

    def __init__(self, fails: bool) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Linear(2, 4), nn.BatchNorm1d(4), nn.Dropout(0.5), nn.Linear(4, 2))
        self.register_buffer("calls", torch.zeros(()))
        self.fails = fails

    def forward(self, inputs: Tensor) -> Tensor:
        self.calls += 1
        torch.rand(3)
        if self.fails:
            raise ZeroDivisionError
        out: Tensor = self.body(inputs)
        return out


@pytest.mark.parametrize("fails", [False, True])
def test_the_model_is_left_alone(fails: bool) -> None:
    torch.manual_seed(0)
    model = Restless(fails).train()
    model.body[1].eval()
    model.body(torch.randn(5, 2)).sum().backward()
    state = copy.deepcopy(model.state_dict())
    grads = [parameter.grad.clone() for parameter in model.parameters() if parameter.grad is not None]
    modes = [module.training for module in model.modules()]
    random = torch.get_rng_state()
    grid = axis(-1, 1, 9)
    if fails:
        with pytest.raises(ZeroDivisionError):
            decision_grid(model, grid, grid)
    else:
        first, second = (decision_grid(model, grid, grid, chunk=chunk) for chunk in (81, 10))
        torch.testing.assert_close(first.probabilities, second.probabilities)  # in evaluation mode
        assert not first.probabilities.requires_grad
    assert torch.get_rng_state().equal(random)
    assert [module.training for module in model.modules()] == modes
    assert all(value.equal(state[name]) for name, value in model.state_dict().items())
    after = [parameter.grad for parameter in model.parameters() if parameter.grad is not None]
    assert len(grads) == len(after) == 6
    assert all(a.equal(b) for a, b in zip(after, grads, strict=True))


@pytest.mark.parametrize(
    ("xs", "words"),
    [
        ([0.0], "xs of shape (1,): write at least 2 finite numbers that rise"),
        ([], "xs of shape (0,)"),
        ([0.0, 0.0], "that rise"),
        ([1.0, 0.0], "that rise"),
        ([0.0, math.nan], "finite"),
        ([0.0, math.inf], "finite"),
        ([[0.0, 1.0]], "xs of shape (1, 2)"),
    ],
)
def test_bad_coordinates(xs: list[float], words: str) -> None:
    model = nn.Linear(2, 2)
    for name, arguments in (("xs", (xs, [0.0, 1.0])), ("ys", ([0.0, 1.0], xs))):
        with pytest.raises(InputError) as caught:
            decision_grid(model, *arguments)
        assert words.replace("xs", name) in str(caught.value)


def test_bad_chunks_and_outputs() -> None:
    for model, words in (
        (linear([[math.nan, 0.0], [0.0, 0.0]], [0.0, 0.0]), "not finite at 4 of 4 points; check its weights"),
        (Says(lambda points: torch.where(points > 0.5, math.inf, 0.0)), "not finite at 3 of 4 points"),
        (Says(lambda points: points[None]), r"a tensor of shape \(1, 4, 2\) for 4 points; it should be \(4, classes\)"),
        (Says(lambda points: points[:2]), r"a tensor of shape \(2, 2\) for 4 points"),
        (Says(lambda points: {"logits": points}), "the model returns dict for 4 points"),  # type: ignore[arg-type,return-value]
    ):
        with pytest.raises(InputError, match=words):
            decision_grid(model, [0.0, 1.0], [0.0, 1.0])
    with pytest.raises(InputError, match="chunk 0: write at least 1"):
        decision_grid(nn.Linear(2, 2), [0.0, 1.0], [0.0, 1.0], chunk=0)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_a_gpu_gives_the_same() -> None:
    model, grid = nn.Sequential(nn.Linear(2, 8), nn.ReLU(), nn.Linear(8, 3)), axis(-1, 1, 20)
    here = decision_grid(model, grid, grid)
    there = decision_grid(model.cuda(), grid, grid)
    assert there.probabilities.device.type == "cpu"
    torch.testing.assert_close(there.probabilities, here.probabilities, rtol=1e-4, atol=1e-5)
