"""Buffers in averages, and BatchNorm statistics measured anew."""

from __future__ import annotations

from collections import UserDict
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from switch_ema import EMA, LAWA, Averager, Lookahead, SwitchEMA, reestimate_batchnorm
from switch_ema.averaging.buffers import has_batchnorm

from .cases import Trainer, batch, batchnorm, bits, build, mlp


def data(count: int = 4) -> list[Tensor]:
    return [batch(number) * 2 + 1 for number in range(count)]


def mean_over_batches(model: nn.Module, batches: list[Tensor]) -> tuple[Tensor, Tensor]:
    """Work out the statistics of the first BatchNorm of `batchnorm()` by hand."""
    with torch.no_grad():
        features = [model[0](x) for x in batches]  # type: ignore[index]
    means = torch.stack([f.mean(0) for f in features])
    variances = torch.stack([f.var(0) for f in features])
    return means.mean(0), variances.mean(0)


class TestReestimate:
    """`reestimate_batchnorm`: the plain mean over batches, nothing else touched."""

    @pytest.mark.parametrize("training", [True, False])
    @pytest.mark.parametrize("momentum", [0.1, 0.9, None])
    def test_statistics_are_the_mean_over_batches(self, training: bool, momentum: float | None) -> None:
        model = batchnorm().train(training)
        layer = model[1]  # type: ignore[index]
        assert isinstance(layer, nn.BatchNorm1d)
        layer.momentum = momentum
        model.get_buffer("1.running_mean").fill_(100.0)
        weights = bits(dict(model.named_parameters()))
        mean, variance = mean_over_batches(model, data())
        assert reestimate_batchnorm(model, iter(data())) == 4
        torch.testing.assert_close(layer.running_mean, mean, rtol=1e-5, atol=1e-6)
        torch.testing.assert_close(layer.running_var, variance, rtol=1e-5, atol=1e-6)
        assert layer.momentum == momentum
        assert all(module.training == training for module in model.modules())
        assert bits(dict(model.named_parameters())) == weights
        assert all(p.grad is None for p in model.parameters())

    @pytest.mark.parametrize(
        "wrap",
        [lambda x: x, lambda x: {"x": x}, lambda x: UserDict(x=x), lambda x: (x, torch.zeros(6)), lambda x: [x, None]],
        ids=["tensor", "dict", "mapping", "tuple", "list"],
    )
    def test_batches_of_every_kind(self, wrap: Any) -> None:
        class Named(nn.Module):
            def __init__(self) -> None:
                super().__init__()
                self.net = batchnorm()

            def forward(self, x: Tensor) -> Any:
                return self.net(x)

        torch.manual_seed(0)
        model = Named()
        mean, _ = mean_over_batches(model.net, data())
        reestimate_batchnorm(model, [wrap(x) for x in data()])
        torch.testing.assert_close(model.get_buffer("net.1.running_mean"), mean, rtol=1e-5, atol=1e-6)

    def test_a_forward_of_ones_own(self) -> None:
        model = batchnorm()
        mean, _ = mean_over_batches(model, data())
        batches = [{"image": x, "label": 3} for x in data()]
        reestimate_batchnorm(model, batches, lambda model, b: model(b["image"]))
        torch.testing.assert_close(model.get_buffer("1.running_mean"), mean, rtol=1e-5, atol=1e-6)

    @pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
    def test_an_exception_leaves_everything_as_it_was(self, error: type[BaseException]) -> None:
        def failing() -> Iterator[Tensor]:
            yield from data(2)
            raise error

        model = batchnorm()
        model(batch(9))
        before = bits(model.state_dict())
        with pytest.raises(error):
            reestimate_batchnorm(model, failing())
        assert bits(model.state_dict()) == before
        assert model[1].momentum == 0.1  # type: ignore[index]
        assert all(module.training for module in model.modules())

    def test_no_batch_is_refused(self) -> None:
        model = batchnorm()
        model(batch(9))
        before = bits(model.state_dict())
        with pytest.raises(ValueError, match="no batch to estimate BatchNorm statistics from; pass training batches"):
            reestimate_batchnorm(model, [])
        assert bits(model.state_dict()) == before

    def test_frozen_layers_are_left_alone(self) -> None:
        model = nn.Sequential(
            nn.BatchNorm1d(4),
            nn.BatchNorm1d(4, momentum=0.0),
            nn.BatchNorm1d(4).eval(),
            nn.BatchNorm1d(4, track_running_stats=False),
        )
        modes = [module.training for module in model.modules()]
        before = bits([model[i].state_dict() for i in (1, 2, 3)])
        reestimate_batchnorm(model, data())
        assert bits([model[i].state_dict() for i in (1, 2, 3)]) == before
        assert model[0].num_batches_tracked == 4
        assert [module.training for module in model.modules()] == modes

    def test_frozen_layers_are_used_as_in_evaluation(self) -> None:
        frozen = nn.BatchNorm1d(4, affine=False).eval()
        assert frozen.running_mean is not None
        frozen.running_mean.fill_(5.0)
        model = nn.Sequential(frozen, nn.BatchNorm1d(4, affine=False))
        reestimate_batchnorm(model, data())
        expected = torch.stack([x.mean(0) - 5 for x in data()]).mean(0)
        torch.testing.assert_close(model.get_buffer("1.running_mean"), expected, rtol=1e-4, atol=1e-4)

    def test_dropout_is_off(self) -> None:
        model = nn.Sequential(nn.Dropout(0.9), nn.BatchNorm1d(4, affine=False))
        reestimate_batchnorm(model, data())
        expected = torch.stack([x.mean(0) for x in data()]).mean(0)
        torch.testing.assert_close(model.get_buffer("1.running_mean"), expected, rtol=1e-5, atol=1e-6)

    def test_spectral_norm_vectors_stay(self) -> None:
        model = nn.Sequential(build("spectral-norm"), nn.BatchNorm1d(2)).train()
        before = {name: bits(b) for name, b in model.named_buffers() if "weight" in name}
        reestimate_batchnorm(model, data())
        assert before == {name: bits(b) for name, b in model.named_buffers() if "weight" in name}

    def test_without_batchnorm_no_batch_is_touched(self) -> None:
        def never() -> Iterator[Tensor]:
            yield pytest.fail("a batch was asked for")

        assert reestimate_batchnorm(mlp(), never()) == 0
        assert not has_batchnorm(mlp())
        assert has_batchnorm(batchnorm())

    def test_inside_a_swap_it_serves_the_average_and_leaves_the_model_alone(self) -> None:
        trainer = Trainer(batchnorm())
        averager = EMA(trainer.model, decay=0.5)
        averager.attach(trainer.optimizer)
        for _ in range(4):
            trainer.step()
        live = bits(trainer.model.state_dict())
        with averager.average_parameters():
            reestimate_batchnorm(trainer.model, data())
            mean, _ = mean_over_batches(trainer.model, data())
            torch.testing.assert_close(trainer.model.get_buffer("1.running_mean"), mean, rtol=1e-4, atol=1e-5)
        assert bits(trainer.model.state_dict()) == live


@pytest.mark.parametrize("case", ["spectral-norm", "old-spectral-norm"])
@pytest.mark.parametrize("make", [lambda m: EMA(m, 0.9), lambda m: Lookahead(m, k=2), lambda m: SwitchEMA(m, 0.5)])
def test_spectral_norm_vectors_stay_unit(case: str, make: Any) -> None:
    trainer = Trainer(build(case))
    averager: Averager = make(trainer.model)
    averager.attach(trainer.optimizer)
    for step in range(12):
        trainer.step()
        if step % 4 == 3:
            averager.end_epoch()
        for name, tensor in averager.averaged_state_dict().items():
            if name.endswith(("_u", "_v")):
                assert float(tensor.norm()) == pytest.approx(1.0, abs=1e-5)


class Growing(nn.Module):
    """A saved buffer that gets longer at every call, beside a float buffer of fixed size."""

    log: Tensor

    def __init__(self, buffer: Tensor | None = None) -> None:
        super().__init__()
        self.fc = nn.Linear(4, 2)
        self.register_buffer("log", torch.zeros(1) if buffer is None else buffer)

    def forward(self, x: Tensor) -> Tensor:
        self.log = torch.cat([self.log, self.log.new_ones(1)])
        out: Tensor = self.fc(x)
        return out


METHODS = [
    lambda m: EMA(m, 0.5),
    lambda m: EMA(m, 0.5, update_every=3),
    lambda m: LAWA(m, window=3, update_every=1),
    lambda m: SwitchEMA(m, 0.5),
]


@pytest.mark.parametrize("make", METHODS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.int64])
def test_a_saved_buffer_may_change_its_shape(make: Any, dtype: torch.dtype) -> None:
    trainer = Trainer(Growing(torch.zeros(1, dtype=dtype)))
    averager: Averager = make(trainer.model)
    averager.attach(trainer.optimizer)
    for step in range(1, 7):
        trainer.step()
        live = bits(trainer.model.state_dict())
        with averager.average_parameters():
            assert len(trainer.model.get_buffer("log")) <= step + 1
        assert bits(trainer.model.state_dict()) == live
    averager.end_epoch()
    assert trainer.model.get_buffer("log").tolist() == [0, *[1] * 6]
    assert averager.averaged_state_dict()["log"].tolist() == [0, *[1] * 6]
    averager.copy_to(target := Growing(torch.zeros(1, dtype=dtype)))
    assert target.log.tolist() == [0, *[1] * 6]


def test_buffers_may_come_and_go() -> None:
    trainer = Trainer(mlp())
    averager = EMA(trainer.model, decay=0.5)
    averager.attach(trainer.optimizer)
    trainer.step()
    trainer.model.register_buffer("late", torch.tensor([4.0]))
    averager.end_epoch()
    trainer.model.get_buffer("late").fill_(8.0)
    trainer.step()
    assert averager.averaged_state_dict()["late"].tolist() == [6.0]
    del trainer.model.late
    trainer.step()
    assert "late" not in averager.averaged_state_dict()
    assert averager.n_averaged == 3


def test_a_buffer_set_to_none_is_let_go() -> None:
    trainer = Trainer(Growing())
    averager = EMA(trainer.model, decay=0.5)
    trainer.model._buffers["log"] = None
    averager.update()
    assert "log" not in averager.averaged_state_dict()
    assert averager.n_averaged == 1


def test_caches_are_left_to_the_model() -> None:
    trainer = Trainer(build("non-persistent"))
    averager = SwitchEMA(trainer.model, decay=0.5)
    averager.attach(trainer.optimizer)
    trainer.step()
    cache = trainer.model.get_buffer("cache")
    averager.end_epoch()
    assert trainer.model.get_buffer("cache") is cache
    assert averager.state_dict()["averages"].keys() == {"fc.weight", "fc.bias"}
