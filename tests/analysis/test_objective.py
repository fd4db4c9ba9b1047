"""The mean loss as a function of the weights: exact, the same one by one and together, and blind to nothing."""

from __future__ import annotations

import copy
import random
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.func import vmap
from torch.nn.functional import cross_entropy, mse_loss
from torch.utils.data import DataLoader, TensorDataset

from switch_ema.analysis import replica
from switch_ema.analysis.objective import Objective, num_examples, supervised
from switch_ema.errors import InputError

Batch = tuple[Tensor, Tensor]


def conv_net() -> nn.Sequential:
    torch.manual_seed(0)
    net = nn.Sequential(
        nn.Conv2d(1, 3, 3), nn.BatchNorm2d(3), nn.ReLU(), nn.Dropout(0.5),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(3, 4),
    )  # fmt: skip
    net(torch.randn(64, 1, 6, 6) * 3 + 1)  # statistics that are not those of the batches below
    return net


def images(*sizes: int) -> list[Batch]:
    generator = torch.Generator().manual_seed(1)
    draw = [(torch.randn(n, 1, 6, 6, generator=generator), torch.randint(4, (n,), generator=generator)) for n in sizes]
    return [*draw]


def moves(objective: Objective, count: int = 2) -> list[dict[str, Tensor]]:
    generator = torch.Generator().manual_seed(2)
    return [
        {name: torch.randn(p.shape, generator=generator) for name, p in objective.parameters.items()}
        for _ in range(count)
    ]


def by_hand(net: nn.Module, batches: list[Batch]) -> float:
    """Return the mean loss over all examples, one after the other (not for statistics of the batch)."""
    with torch.no_grad():
        losses = [
            cross_entropy(net(x[None]), y[None]).double() for xs, ys in batches for x, y in zip(xs, ys, strict=True)
        ]
    return float(torch.stack(losses).mean())


def test_the_value_is_the_mean_over_examples_and_not_over_batches() -> None:
    net, batches = conv_net(), images(8, 8, 3)
    objective = Objective(net, supervised(cross_entropy), batches)
    expected = by_hand(net.eval(), batches)
    assert objective.value() == pytest.approx(expected, rel=1e-6)
    origin = objective.along(torch.zeros(3, 1), moves(objective, 1))
    assert origin.dtype == torch.float64
    assert origin.tolist() == pytest.approx([expected] * 3, rel=1e-6)


@pytest.mark.parametrize("batchnorm", ["eval", "train"])
def test_a_point_is_the_loss_of_a_model_with_those_weights(batchnorm: Any) -> None:
    net, batches = conv_net(), images(8, 5)
    objective = Objective(net, supervised(cross_entropy), batches, batchnorm=batchnorm)
    directions = moves(objective)
    coefficients = torch.tensor([[0.3, 0.0], [-0.1, 0.2], [1.0, -2.0]])
    expected = []
    for row in coefficients:
        moved = copy.deepcopy(net).eval()
        moved[1].train(batchnorm == "train")
        for name, p in moved.named_parameters():
            p.data += row[0] * directions[0][name] + row[1] * directions[1][name]
        with torch.no_grad():
            expected.append(sum(float(cross_entropy(moved(x), y)) * len(y) for x, y in batches) / 13)
    for chunk in (1, 2, 3, None):
        assert objective.along(coefficients, directions, chunk=chunk).tolist() == pytest.approx(expected, rel=2e-6)


@pytest.mark.parametrize("batchnorm", ["eval", "train"])
def test_together_is_the_same_as_one_by_one(batchnorm: Any) -> None:
    objective = Objective(conv_net(), supervised(cross_entropy), images(8, 5), batchnorm=batchnorm)
    calls: list[int] = []
    objective.model.register_forward_hook(lambda *_: calls.append(1))
    coefficients = torch.randn(40, 2, generator=torch.Generator().manual_seed(0))
    loop = objective.along(coefficients, moves(objective), chunk=1)
    assert len(calls) == 2 * 40
    together = objective.along(coefficients, moves(objective), chunk=40)
    assert len(calls) == 2 * 40 + 2  # once for each batch
    torch.testing.assert_close(together, loop, rtol=1e-6, atol=0)


def test_small_models_go_together_and_large_ones_one_by_one() -> None:
    for width, together in ((4, True), (1024, False)):
        objective = Objective(
            nn.Linear(width, width), supervised(mse_loss), [(torch.ones(2, width), torch.ones(2, width))]
        )
        calls: list[int] = []
        objective.model.register_forward_hook(lambda *_, calls=calls: calls.append(1))
        objective.along(torch.zeros(12, 1), [objective.parameters])
        assert len(calls) == (1 if together else 12)


def test_a_model_that_cannot_go_together_goes_one_by_one() -> None:
    class Choosy(nn.Linear):
        def forward(self, x: Tensor) -> Tensor:
            y: Tensor = super().forward(x)
            return y if y.sum().item() > 0 else -3 * y

    objective = Objective(Choosy(2, 2), supervised(mse_loss), [(torch.ones(3, 2), torch.zeros(3, 2))])
    coefficients = torch.linspace(-3, 3, 9)[:, None]
    together = objective.along(coefficients, [objective.parameters], chunk=9)
    assert together.tolist() == objective.along(coefficients, [objective.parameters], chunk=1).tolist()
    assert len(set(together.tolist())) == 9


def test_points_that_do_not_fit_in_memory_are_halved(monkeypatch: pytest.MonkeyPatch) -> None:
    sizes: list[int] = []

    def small(function: Any, **options: Any) -> Any:
        def call(weights: dict[str, Tensor]) -> Any:
            sizes.append(len(next(iter(weights.values()))))
            if sizes[-1] > 3:
                raise torch.OutOfMemoryError
            return vmap(function, **options)(weights)

        return call

    objective = Objective(conv_net(), supervised(cross_entropy), images(8, 5))
    coefficients = torch.randn(9, 2, generator=torch.Generator().manual_seed(0))
    loop = objective.along(coefficients, moves(objective), chunk=1)
    monkeypatch.setattr(replica, "vmap", small)
    together = objective.along(coefficients, moves(objective), chunk=9)
    assert sizes == [9, 4, 2, 2, 2, 2, 2, 2, 2, 2]  # what did not fit is not tried again
    torch.testing.assert_close(together, loop, rtol=1e-6, atol=0)


def test_an_operation_without_a_batching_rule_is_no_obstacle() -> None:
    def loss(model: nn.Module, batch: Tensor) -> Tensor:
        bins: Tensor = torch.histc(model(batch), 3, -2, 2)
        outputs: Tensor = model(batch)
        return bins.std() + outputs.square().mean()

    torch.manual_seed(0)
    objective = Objective(nn.Linear(2, 2), loss, [torch.randn(5, 2)])
    coefficients = torch.randn(9, 1)
    together = objective.along(coefficients, [objective.parameters], chunk=9)
    torch.testing.assert_close(together, objective.along(coefficients, [objective.parameters], chunk=1))


def test_statistics_move_only_where_they_are_used() -> None:
    net, batches = conv_net(), images(8)
    shift = [{"1.running_mean": torch.ones(3)}]
    moved = copy.deepcopy(net).eval()
    moved.load_state_dict({"1.running_mean": net.state_dict()["1.running_mean"] + 1}, strict=False)
    objective = Objective(net, supervised(cross_entropy), batches)
    assert objective.along(torch.ones(2, 1), shift).tolist() == pytest.approx([by_hand(moved, batches)] * 2, rel=1e-6)
    blind = Objective(net, supervised(cross_entropy), batches, batchnorm="train")
    assert blind.along(torch.ones(2, 1), shift).tolist() == pytest.approx([blind.value()] * 2, rel=1e-6)
    assert blind.value() != pytest.approx(objective.value(), rel=1e-3)


def test_the_gradient_is_autograds() -> None:
    net, batches = conv_net(), images(8, 3)
    objective = Objective(net, supervised(cross_entropy), batches)
    twin = copy.deepcopy(net).double().eval()
    loss = sum(cross_entropy(twin(x.double()), y) * len(y) for x, y in batches) / 11
    assert isinstance(loss, Tensor)
    loss.backward()
    with torch.no_grad():
        found = objective.gradient()
    assert list(found) == [name for name, _ in net.named_parameters()]
    for name, p in twin.named_parameters():
        torch.testing.assert_close(found[name].double(), p.grad, rtol=1e-4, atol=1e-6)


def test_the_gradient_elsewhere_is_that_of_a_model_there() -> None:
    net, batches = conv_net(), images(8)
    objective = Objective(net, supervised(cross_entropy), batches)
    with torch.no_grad():
        net.get_parameter("6.weight").mul_(2)
    there = objective.gradient({"6.weight": net.get_parameter("6.weight")})
    expected = Objective(net, supervised(cross_entropy), batches).gradient()
    torch.testing.assert_close(there, expected)


def test_frozen_and_unused_parameters() -> None:
    class Spare(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.used, self.unused, self.frozen = (nn.Linear(2, 2, bias=False) for _ in range(3))
            self.frozen.requires_grad_(False)

        def forward(self, x: Tensor) -> Tensor:
            y: Tensor = self.frozen(self.used(x))
            return y

    objective = Objective(Spare(), supervised(mse_loss), [(torch.ones(3, 2), torch.ones(3, 2))])
    assert list(objective.parameters) == ["used.weight", "unused.weight"]
    gradient = objective.gradient()
    assert gradient["used.weight"].any()
    assert gradient["unused.weight"].tolist() == [[0, 0], [0, 0]]
    at_zero = objective.along(
        torch.full((2, 1), -1.0), [{"frozen.weight": objective.model.get_parameter("frozen.weight")}]
    )
    assert at_zero.tolist() == pytest.approx([1.0, 1.0])


def test_tied_weights_move_as_one_under_either_name() -> None:
    class Tied(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.one, self.two = nn.Linear(1, 1, bias=False), nn.Linear(1, 1, bias=False)
            self.two.weight = self.one.weight
            nn.init.constant_(self.one.weight, 2.0)

        def forward(self, x: Tensor) -> Tensor:
            y: Tensor = self.two(self.one(x))
            return y

    objective = Objective(Tied(), supervised(mse_loss), [(torch.ones(1, 1), torch.zeros(1, 1))])
    step = torch.ones(1, 1)
    for direction in ({"one.weight": step}, {"two.weight": step}, {"one.weight": step, "two.weight": step}):
        assert objective.along(torch.ones(2, 1), [direction]).tolist() == [81, 81]  # ((2 + 1)^2)^2


def test_what_a_loss_draws_is_the_same_everywhere() -> None:
    def loss(model: nn.Module, batch: Tensor) -> Tensor:
        noise = torch.randn_like(batch)
        return mse_loss(model(batch + noise), noise)

    torch.manual_seed(0)
    objective = Objective(nn.Linear(3, 3), loss, [torch.ones(4, 3), torch.ones(4, 3)])
    same = objective.along(torch.zeros(12, 1), [objective.parameters], chunk=5)
    assert same.tolist() == pytest.approx([objective.value()] * 12, rel=1e-6)
    assert objective.along(torch.zeros(1, 1), [objective.parameters]).item() == pytest.approx(objective.value())


class Failing(nn.Module):
    """Fails once it is told to."""

    def __init__(self) -> None:
        super().__init__()
        self.fails = False
        self.weight = nn.Parameter(torch.ones(2))

    def forward(self, x: Tensor) -> Tensor:
        if self.fails:
            raise ArithmeticError
        return x * self.weight


def snapshot(net: nn.Module) -> tuple[Any, ...]:
    state = {name: tensor.clone() for name, tensor in net.state_dict().items()}
    modes = [module.training for module in net.modules()]
    grads = [None if p.grad is None else p.grad.clone() for p in net.parameters()]
    return state, modes, grads, torch.get_rng_state(), random.getstate()


def assert_unchanged(net: nn.Module, before: tuple[Any, ...]) -> None:
    after = snapshot(net)
    torch.testing.assert_close(after[:4:2], before[:4:2], rtol=0, atol=0)
    assert torch.equal(after[3], before[3])
    assert after[1] == before[1]
    assert after[4] == before[4]


@pytest.mark.parametrize("batchnorm", ["eval", "train"])
@pytest.mark.parametrize("training", [True, False])
def test_the_live_model_and_the_generators_stay_as_they_were(batchnorm: Any, training: bool) -> None:
    net = conv_net().train(training)
    cross_entropy(net(images(8)[0][0]), images(8)[0][1]).backward()
    loader = DataLoader(TensorDataset(*images(11)[0]), batch_size=4)  # takes a random number whenever it starts
    before = snapshot(net)
    objective = Objective(net, supervised(cross_entropy), loader, batchnorm=batchnorm)
    objective.value()
    objective.gradient()
    objective.along(torch.randn(3, 2, generator=torch.Generator().manual_seed(0)), moves(objective))
    assert_unchanged(net, before)
    with torch.no_grad():  # and it is a copy: training goes on without it
        net.get_parameter("6.weight").zero_()
    assert objective.parameters["6.weight"].any()


def test_the_generators_stay_as_they_were_after_an_error() -> None:
    net = Failing()
    objective = Objective(net, supervised(mse_loss), [(torch.ones(3, 2), torch.zeros(3, 2))])
    before = snapshot(net)
    objective.model.fails = True  # type: ignore[assignment]  # not a tensor
    for call in (objective.gradient, lambda: objective.along(torch.ones(4, 1), [objective.parameters], chunk=4)):
        with pytest.raises(ArithmeticError):
            call()
        assert_unchanged(net, before)


def shuffled(dataset: TensorDataset) -> Any:
    return DataLoader(dataset, batch_size=2, shuffle=True)


class Augmented:
    def __iter__(self) -> Iterator[Batch]:
        yield torch.randn(2, 1), torch.zeros(2, 1)


class Shrinking:
    def __init__(self) -> None:
        self.left = 2

    def __iter__(self) -> Iterator[Batch]:
        yield from [(torch.ones(2, 1), torch.zeros(2, 1))] * self.left
        self.left -= 1


DATA = TensorDataset(torch.arange(40.0)[:, None], torch.zeros(40, 1))


@pytest.mark.parametrize(
    ("batches", "message"),
    [
        ([], "batches is empty; give at least one batch"),
        (iter([(torch.ones(2, 1), torch.zeros(2, 1))]), r"gone through only once; write list\(batches\)"),
        (shuffled(DATA), r"batches \(DataLoader\) gives other batches when gone through again; turn shuffling"),
        (Augmented(), r"batches \(Augmented\) gives other batches"),
        (Shrinking(), r"batches \(Shrinking\) gives other batches"),
        (
            [(torch.ones(2, 1), torch.zeros(2, 1)), (torch.full((2, 1), torch.inf), torch.zeros(2, 1))],
            "loss of batch 1 is inf",
        ),
        ([(torch.full((2, 1), torch.nan), torch.zeros(2, 1))], "the loss of batch 0 is nan; check the model's weights"),
    ],
)
def test_bad_batches_are_named(batches: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        Objective(nn.Linear(1, 1), supervised(mse_loss), batches)


def test_bad_models_and_losses_are_named() -> None:
    batches = [(torch.ones(2, 1), torch.zeros(2, 1))]
    for model in (nn.ReLU(), nn.Linear(1, 1).requires_grad_(False)):
        with pytest.raises(InputError, match="no parameters that require gradients"):
            Objective(model, supervised(mse_loss), batches)
    with pytest.raises(InputError, match=r"loss of batch 0 is a tensor of shape \(2, 1\); return the mean"):
        Objective(nn.Linear(1, 1), supervised(lambda x, y: (x - y).square()), batches)
    with pytest.raises(InputError, match="unknown batchnorm 'eva'; did you mean 'eval'"):
        Objective(nn.Linear(1, 1), supervised(mse_loss), batches, batchnorm="eva")  # type: ignore[arg-type]
    assert Objective(nn.Linear(1, 1), supervised(mse_loss), DataLoader(DATA, batch_size=2)).value() > 0


def test_bad_points_are_named() -> None:
    objective = Objective(conv_net(), supervised(cross_entropy), images(4))
    cases: list[tuple[Tensor, list[dict[str, Tensor]], str]] = [
        (torch.zeros(3), [{}], r"coefficients have shape \(3,\) for 1 directions"),
        (torch.zeros(3, 2), [{}], r"coefficients have shape \(3, 2\) for 1 directions"),
        (torch.zeros(0, 1), [{}], "at least one of each"),
        (torch.zeros(3, 0), [], "at least one of each"),
        (
            torch.zeros(3, 1),
            [{"6.wieght": torch.zeros(4, 3)}],
            "unknown name in direction 0 '6.wieght'; did you mean '6.weight'",
        ),
        (torch.zeros(3, 1), [{"6.weight": torch.zeros(3)}], r"6.weight of direction 0 has shape \(3,\)"),
        (torch.zeros(3, 1), [{"1.num_batches_tracked": torch.tensor(1.0)}], "only floats"),
    ]
    for coefficients, directions, message in cases:
        with pytest.raises(InputError, match=message):
            objective.along(coefficients, directions)
    with pytest.raises(InputError, match="chunk 0: write at least 1"):
        objective.along(torch.zeros(3, 1), [{}], chunk=0)


@pytest.mark.parametrize(
    ("batch", "count"),
    [(torch.ones(3, 2), 3), ({"a": "x", "b": [torch.ones(5)]}, 5), (("x", torch.ones(2), torch.ones(9)), 2)],
)
def test_examples_are_counted_by_the_first_tensor(batch: Any, count: int) -> None:
    assert num_examples(batch) == count


@pytest.mark.parametrize("batch", [(), "text", torch.tensor(1.0), torch.ones(0, 3)])
def test_a_batch_without_examples_is_named(batch: Any) -> None:
    with pytest.raises(InputError, match=r"a batch .* holds .*; give tensors of shape"):
        num_examples(batch)
