"""Every method on every kind of model: the contract of the averagers."""

from __future__ import annotations

import copy
import io
from typing import Any, ClassVar

import pytest
import torch
from torch import Tensor, nn

import switch_ema
from switch_ema import EMA, Averager, Lookahead, SwitchEMA

from .cases import CASES, METHODS, STEPS_PER_EPOCH, Trainer, batch, batchnorm, bits, build, events, loss_of, mlp
from .reference import exact

ALL = [pytest.param(m, c, id=f"{m}-{c}") for m in METHODS for c in CASES]
ON_ALL = pytest.mark.parametrize(("method", "case"), ALL)
PASSIVE = [pytest.param(m, c, id=f"{m}-{c}") for m in METHODS if not METHODS[m].switches for c in CASES]
# float32 averages are compared with float64 twins after at most 15 updates of weights of about 1
TOLERANCE = {torch.float64: 1e-14, torch.float32: 2e-6, torch.complex64: 2e-6}


def test_every_public_method_is_in_the_table() -> None:
    public = {name for name, home in switch_ema._HOME.items() if home == "methods"}
    assert public == {method.public for method in METHODS.values()}


@pytest.mark.parametrize("case", [name for name in CASES if CASES[name].deepcopy_fails])
def test_hostile_cases_are_hostile(case: str) -> None:
    model = build(case)
    model(batch(0))
    with pytest.raises(RuntimeError, match="deepcopy protocol"):
        copy.deepcopy(model)


def trained(method: str, case: str, todo: int = len(events())) -> tuple[Trainer, Averager]:
    trainer = Trainer(build(case))
    averager = METHODS[method].make(trainer.model)
    averager.attach(trainer.optimizer)
    for _ in trainer.run(averager, events()[:todo]):
        pass
    return trainer, averager


def idle(model: nn.Module) -> torch.optim.Optimizer:
    """Make an optimizer that takes no step, for averagers that insist on one while update() is called by hand."""
    return torch.optim.SGD(model.parameters(), lr=0.1)


def averages(averager: Averager) -> dict[str, Tensor]:
    found: dict[str, Tensor] = averager.state_dict()["averages"]
    return found


@ON_ALL
def test_equals_its_textbook_twin(method: str, case: str) -> None:
    trainer = Trainer(build(case))
    averager = METHODS[method].make(trainer.model)
    averager.attach(idle(trainer.model))
    twin = METHODS[method].twin(exact(trainer.model), CASES[case].copied)
    for event in events():
        if event == "step":
            trainer.step()
        live = exact(trainer.model)
        must_switch = twin.step(live) if event == "step" else twin.epoch(live)
        (averager.update if event == "step" else averager.end_epoch)()
        assert (averager.n_averaged, averager.n_switches) == (twin.n_averaged, twin.n_switches)
        found = averages(averager) if twin.n_averaged else {}
        assert not found or found.keys() == twin.average.keys()
        for name, average in found.items():
            tolerance = TOLERANCE.get(average.dtype, 0.0) if name not in CASES[case].copied else 0.0
            wide = average.to(twin.average[name].dtype)
            torch.testing.assert_close(wide, twin.average[name], rtol=tolerance, atol=tolerance)
        if must_switch:
            now = trainer.model.state_dict()
            for name, average in found.items():
                assert torch.equal(now[name], average.to(now[name].dtype))


@pytest.mark.parametrize(("method", "case"), PASSIVE)
def test_passive_methods_do_not_touch_training(method: str, case: str) -> None:
    trainer, plain = Trainer(build(case)), Trainer(build(case))
    averager = METHODS[method].make(trainer.model)
    averager.attach(trainer.optimizer)
    for number, _ in enumerate(trainer.run(averager, events())):
        if events()[number] == "step":
            plain.step()
        else:
            averager.averaged_state_dict()
            with averager.average_parameters(), torch.no_grad():
                trainer.model.eval()
                trainer.model(batch(99).to(next(trainer.model.parameters()).dtype)) if case != "complex" else None
                trainer.model.train()
    assert averager.n_averaged
    assert bits(trainer.model.state_dict()) == bits(plain.model.state_dict())
    assert bits(trainer.optimizer.state_dict()) == bits(plain.optimizer.state_dict())


@ON_ALL
def test_constant_input_leaves_the_average_unchanged(method: str, case: str) -> None:
    model = build(case)
    before = bits(model.state_dict())
    averager = METHODS[method].make(model)
    averager.attach(idle(model))
    for event in events():
        (averager.update if event == "step" else averager.end_epoch)()
    assert averager.n_averaged
    assert bits(averager.averaged_state_dict()) == before
    assert bits(model.state_dict()) == before


def evaluate_and_stop(model: nn.Module, averager: Averager) -> None:
    with averager.average_parameters():
        loss_of(model, batch(0))
        raise KeyboardInterrupt


@ON_ALL
def test_swap_puts_the_average_in_and_restores(method: str, case: str) -> None:
    trainer, averager = trained(method, case, todo=14)
    model = trainer.model
    live, expected = bits(model.state_dict()), bits(averager.averaged_state_dict())
    ids = [id(p) for p in model.parameters()]
    last = list(averages(averager))[-1]
    with averager.average_parameters():
        assert bits(model.state_dict()) == expected
        model.state_dict()[last].zero_()
    assert bits(model.state_dict()) == live
    with pytest.raises(KeyboardInterrupt):
        evaluate_and_stop(model, averager)
    assert bits(model.state_dict()) == live
    assert [id(p) for p in model.parameters()] == ids
    trainer.step()


@pytest.mark.parametrize("method", METHODS)
def test_reading_before_the_first_update_gives_the_model(method: str) -> None:
    model = batchnorm()
    averager = METHODS[method].make(model)
    with torch.no_grad():
        next(model.parameters()).add_(1.0)
    live = bits(model.state_dict())
    assert bits(averager.averaged_state_dict()) == live
    with averager.average_parameters():
        assert bits(model.state_dict()) == live
        model(batch(0))  # moves the running statistics
        with torch.no_grad():
            next(model.parameters()).zero_()
    assert bits(model.state_dict()) == live
    assert averager.n_averaged == averager.n_switches == 0


@pytest.mark.parametrize("use_buffers", [True, False])
def test_what_happens_to_buffers_inside_a_swap_is_undone(use_buffers: bool) -> None:
    model = batchnorm()
    averager = EMA(model, decay=0.5, use_buffers=use_buffers)
    model(batch(0))
    averager.update()
    live = bits(model.state_dict())
    with averager.average_parameters():
        model(batch(1))
    assert bits(model.state_dict()) == live


@pytest.mark.parametrize("method", METHODS)
def test_refuses_while_swapped(method: str) -> None:
    trainer, averager = trained(method, "batchnorm")
    state = averager.state_dict()
    before = bits((trainer.model.state_dict(), state))
    with averager.average_parameters():
        calls: dict[str, Any] = {
            "update": averager.update,
            "end_epoch": averager.end_epoch,
            "switch": averager.switch,
            "state_dict": averager.state_dict,
            "load_state_dict": lambda: averager.load_state_dict(state),
            "averaged_state_dict": averager.averaged_state_dict,
            "copy_to": lambda: averager.copy_to(build("batchnorm")),
            "average_parameters": lambda: averager.average_parameters().__enter__(),
        }
        for name, call in calls.items():
            with pytest.raises(RuntimeError, match=rf"^{name}\(\) inside average_parameters"):
                call()
    assert bits((trainer.model.state_dict(), averager.state_dict())) == before


def state_of(trainer: Trainer, averager: Averager) -> dict[str, Any]:
    return {
        "model": trainer.model.state_dict(),
        "optimizer": trainer.optimizer.state_dict(),
        "averager": averager.state_dict(),
        "steps": trainer.steps,
    }


def save(trainer: Trainer, averager: Averager) -> bytes:
    file = io.BytesIO()
    torch.save(state_of(trainer, averager), file)
    return file.getvalue()


@ON_ALL
def test_resume_at_every_event_equals_going_on(method: str, case: str) -> None:
    # every phase on one case; on the others every ninth, so that each method meets every phase there too
    every = 1 if case == "batchnorm" else 9
    cuts = range([*CASES].index(case) % every, len(events()), every)
    trainer = Trainer(build(case))
    averager = METHODS[method].make(trainer.model)
    averager.attach(trainer.optimizer)
    saved = {0: save(trainer, averager)}
    for number, _ in enumerate(trainer.run(averager, events()), start=1):
        if number in cuts:
            saved[number] = save(trainer, averager)
    expected = bits(state_of(trainer, averager))
    for cut in cuts:
        state = torch.load(io.BytesIO(saved[cut]), weights_only=True)
        again = Trainer(build(case, seed=cut + 1))
        other = METHODS[method].make(again.model)
        again.model.load_state_dict(state["model"])
        again.optimizer.load_state_dict(state["optimizer"])
        again.steps = state["steps"]
        other.load_state_dict(state["averager"])
        other.attach(again.optimizer)
        for _ in again.run(other, events()[cut:]):
            pass
        assert bits(state_of(again, other)) == expected


@ON_ALL
def test_averaged_state_dict_is_a_state_dict_of_the_model(method: str, case: str) -> None:
    trainer, averager = trained(method, case, todo=14)
    state, own = averager.averaged_state_dict(), trainer.model.state_dict()
    assert list(state) == list(own)
    assert [(t.dtype, t.shape) for t in state.values()] == [(t.dtype, t.shape) for t in own.values()]
    for name, average in averages(averager).items():
        assert torch.equal(state[name], average.to(own[name].dtype))
    before = bits(own)
    fresh, copied = build(case, seed=7), build(case, seed=8)
    fresh.load_state_dict(state)
    averager.copy_to(copied)
    assert bits(fresh.state_dict()) == bits(copied.state_dict()) == bits(state)
    for tensor in state.values():
        tensor.zero_()
    assert bits(own) == before  # what was returned are copies
    assert bits(fresh.state_dict()) == bits(averager.averaged_state_dict())


def test_use_buffers_false_leaves_buffers_alone() -> None:
    trainer = Trainer(batchnorm())
    averager = SwitchEMA(trainer.model, decay=0.5, use_buffers=False)
    averager.attach(trainer.optimizer)
    for _ in range(3):
        trainer.step()
    buffers = bits(dict(trainer.model.named_buffers()))
    assert all("running" not in name and "tracked" not in name for name in averages(averager))
    state = averager.averaged_state_dict()
    assert bits({name: state[name] for name, _ in trainer.model.named_buffers()}) == buffers
    averager.end_epoch()
    assert averager.n_switches == 1
    assert bits(dict(trainer.model.named_buffers())) == buffers


class TestLoadingAWrongState:
    """A state that does not fit is refused by name, and nothing is changed."""

    @staticmethod
    def damaged(state: dict[str, Any], what: str) -> Any:
        counters, averages = state["counters"], state["averages"]
        name = "3.weight"
        cases: dict[str, Any] = {
            "missing": state | {"averages": {k: v for k, v in averages.items() if k != name}},
            "unexpected": state | {"averages": averages | {"head.weight": torch.zeros(2)}},
            "unexpected number": state | {"averages": averages | {7: torch.zeros(2), "x": torch.zeros(1)}},
            "shape": state | {"averages": averages | {name: torch.zeros(2, 6)}},
            "not a tensor": state | {"averages": averages | {name: [1.0]}},
            "averages not a dict": state | {"averages": [*averages.values()]},
            "snapshots not a list": state | {"snapshots": None},
            "snapshot not a dict": state | {"snapshots": [3]},
            "made_of not a dict": state | {"made_of": "EMA"},
            "negative counter": state | {"counters": counters | {"n_averaged": -1}},
            "fractional counter": state | {"counters": counters | {"steps": 1.5}},
            "bool counter": state | {"counters": counters | {"epochs": True}},
            "nan lag": state | {"counters": counters | {"lag": float("nan")}},
            "missing counter": state | {"counters": {k: v for k, v in counters.items() if k != "taken"}},
            "unknown counter": state | {"counters": counters | {"extra": 1}},
            "counters not a dict": state | {"counters": 3},
            "format": state | {"format": 99},
            "a model's state": batchnorm().state_dict(),
            "nothing": {},
            "not a dict": [1, 2],
            "none": None,
        }
        return cases[what]

    WORDS: ClassVar = {
        "missing": "'?missing: 3.weight",
        "unexpected": "unexpected: head.weight",
        "unexpected number": "unexpected: 7, x",
        "shape": r"'3.weight' has shape \(2, 6\), the model's \(2, 5\)",
        "not a tensor": "'3.weight' has shape list",
        "averages not a dict": "damaged",
        "snapshots not a list": "damaged",
        "snapshot not a dict": "damaged",
        "made_of not a dict": "damaged",
        "negative counter": "n_averaged is -1",
        "fractional counter": "steps is 1.5",
        "bool counter": "epochs is True",
        "nan lag": "lag is nan",
        "missing counter": "missing: taken",
        "unknown counter": "unexpected: extra",
        "counters not a dict": "missing: ",
        "format": "format 99",
        "a model's state": "not the state of an averager",
        "nothing": "not the state of an averager",
        "not a dict": "not the state of an averager",
        "none": "not the state of an averager",
    }

    @pytest.mark.parametrize("what", WORDS)
    def test_damaged(self, what: str) -> None:
        trainer, averager = trained("ema", "batchnorm")
        before = bits((averager.state_dict(), trainer.model.state_dict()))
        with pytest.raises(ValueError, match=self.WORDS[what]) as caught:
            averager.load_state_dict(self.damaged(averager.state_dict(), what))
        assert "\n" not in str(caught.value)
        assert bits((averager.state_dict(), trainer.model.state_dict())) == before

    @pytest.mark.parametrize(
        ("method", "other", "words"),
        [("ema", "lawa", "Window"), ("lawa", "ema", "Decayed"), ("ema", "swa", "epoch"), ("swa", "ema", "step")],
    )
    def test_wrong_kind(self, method: str, other: str, words: str) -> None:
        _, averager = trained(method, "float32")
        _, source = trained(other, "float32")
        before = bits(averager.state_dict())
        with pytest.raises(ValueError, match=words):
            averager.load_state_dict(source.state_dict())
        assert bits(averager.state_dict()) == before

    def test_wrong_snapshot(self) -> None:
        _, averager = trained("lawa", "float32")
        state = averager.state_dict()
        state["snapshots"][1]["unknown"] = state["snapshots"][1].pop("0.bias")
        before = bits(averager.state_dict())
        with pytest.raises(ValueError, match=r"snapshot does not fit the model \(unexpected: unknown"):
            averager.load_state_dict(state)
        assert bits(averager.state_dict()) == before

    def test_wrong_model(self) -> None:
        _, averager = trained("ema", "float32")
        with pytest.raises(ValueError, match=r"missing: 0\.bias"):
            averager.load_state_dict(trained("ema", "tied")[1].state_dict())

    def test_another_setting_warns_and_goes_on(self) -> None:
        _, source = trained("ema", "float32")
        averager = EMA(mlp(), decay=0.9)
        with pytest.warns(UserWarning, match=r"saved with fold .*0\.8.* goes on with .*0\.9"):
            averager.load_state_dict(source.state_dict())
        assert averager.n_averaged == source.n_averaged
        assert bits(averages(averager)) == bits(averages(source))

    def test_a_rule_of_ones_own_is_the_same_in_another_process(self) -> None:
        def make() -> Averager:
            return EMA(mlp(), decay=lambda n: 0.5)

        source, averager = make(), make()
        averager.load_state_dict(source.state_dict())  # no warning, though the functions have other addresses

    def test_a_loaded_state_is_a_copy(self) -> None:
        _, source = trained("lawa", "float32")
        _, averager = trained("lawa", "float32", todo=2)
        averager.load_state_dict(source.state_dict())
        before = bits(source.state_dict())
        for tensor in averages(averager).values():
            tensor.zero_()
        for tensor in averager.state_dict()["snapshots"][0].values():
            tensor.zero_()
        assert bits(source.state_dict()) == before


class TestCopyTo:
    """Copies fit by name, or nothing is copied."""

    def test_refuses_other_names(self) -> None:
        _, averager = trained("ema", "float32")
        target = build("tied")
        before = bits(target.state_dict())
        with pytest.raises(
            ValueError, match=r"missing: 0.bias, 0.weight, 2.bias and 1 more; unexpected: decoder|encod"
        ):
            averager.copy_to(target)
        assert bits(target.state_dict()) == before

    def test_refuses_another_shape(self) -> None:
        _, averager = trained("ema", "float32")
        target = nn.Sequential(nn.Linear(4, 5), nn.Tanh(), nn.Linear(5, 3))
        before = bits(target.state_dict())
        with pytest.raises(ValueError, match=r"'2.weight' has shape \(3, 5\), its average \(2, 5\)"):
            averager.copy_to(target)
        assert bits(target.state_dict()) == before

    def test_into_another_type(self) -> None:
        _, averager = trained("ema", "float32")
        target = mlp(torch.bfloat16)
        averager.copy_to(target)
        for name, tensor in averaged_as(averager, torch.bfloat16).items():
            assert torch.equal(target.state_dict()[name], tensor)

    def test_leaves_the_averaged_model_alone(self) -> None:
        trainer, averager = trained("ema", "float32")
        before = bits((trainer.model.state_dict(), averager.state_dict()))
        averager.copy_to(mlp())
        assert bits((trainer.model.state_dict(), averager.state_dict())) == before


def averaged_as(averager: Averager, dtype: torch.dtype) -> dict[str, Tensor]:
    return {name: tensor.to(dtype) for name, tensor in averages(averager).items()}


class TestAttach:
    """Updates follow the optimizer's steps, each exactly once."""

    def test_once_per_step(self) -> None:
        trainer, averager = trained("ema", "float32", todo=4)
        assert averager.n_averaged == trainer.steps == 4

    def test_gradient_accumulation_gives_one_update_per_step(self) -> None:
        trainer = Trainer(mlp())
        averager = EMA(trainer.model)
        averager.attach(trainer.optimizer)
        for number in range(8):
            loss_of(trainer.model, batch(number)).backward()
            if number % 4 == 3:
                trainer.optimizer.step()
                trainer.optimizer.zero_grad()
        assert averager.n_averaged == 2

    @pytest.mark.parametrize("fused", [False, True])  # a fused optimizer's step() is called, and does nothing
    def test_a_step_skipped_by_a_grad_scaler_is_none(self, fused: bool) -> None:
        model = mlp()
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1, fused=fused)
        averager = EMA(model)
        averager.attach(optimizer)
        scaler = torch.amp.GradScaler("cpu", init_scale=2.0)
        for number, bad in enumerate([False, True, False, True, True]):
            optimizer.zero_grad()
            scaler.scale(loss_of(model, batch(number))).backward()
            if bad:
                next(p.grad for p in model.parameters() if p.grad is not None).fill_(torch.inf)
            scaler.step(optimizer)
            scaler.update()
        assert averager.n_averaged == 2

    def test_remove_detaches(self) -> None:
        trainer = Trainer(mlp())
        averager = EMA(trainer.model)
        handle = averager.attach(trainer.optimizer)
        trainer.step()
        handle.remove()
        handle.remove()
        trainer.step()
        assert averager.n_averaged == 1
        again = averager.attach(trainer.optimizer)
        handle.remove()  # an old handle does not detach a new one
        trainer.step()
        assert averager.n_averaged == 2
        with pytest.raises(RuntimeError, match="attached already"):
            averager.attach(trainer.optimizer)
        again.remove()

    def test_refuses_a_second_optimizer(self) -> None:
        trainer = Trainer(mlp())
        averager = EMA(trainer.model)
        averager.attach(trainer.optimizer)
        with pytest.raises(RuntimeError, match=r"attached already; call remove\(\)"):
            averager.attach(torch.optim.SGD(trainer.model.parameters(), lr=0.1))
        trainer.step()
        assert averager.n_averaged == 1

    def test_refuses_a_foreign_optimizer(self) -> None:
        averager = EMA(mlp())
        with pytest.raises(ValueError, match="none of the averaged model's parameters"):
            averager.attach(torch.optim.SGD(mlp().parameters(), lr=0.1))

    def test_takes_an_optimizer_of_a_part(self) -> None:
        model = mlp()
        averager = EMA(model)
        optimizer = torch.optim.SGD([*model.parameters()][:1], lr=0.1)
        averager.attach(optimizer)
        optimizer.step()
        assert averager.n_averaged == 1

    def test_two_averagers_ride_on_one_optimizer(self) -> None:
        trainer = Trainer(mlp())
        fast, slow = EMA(trainer.model, 0.5), EMA(trainer.model, 0.9)
        fast.attach(trainer.optimizer)
        slow.attach(trainer.optimizer)
        trainer.step()
        assert fast.n_averaged == slow.n_averaged == 1

    def test_a_step_while_swapped_fails_loudly(self) -> None:
        trainer, averager = trained("ema", "float32", todo=2)
        with averager.average_parameters(), pytest.raises(RuntimeError, match="inside average_parameters"):
            trainer.step()


class TestOptimizerState:
    """The optimizer's momenta at a switch: kept by default, reset on request."""

    @pytest.mark.parametrize("make", [SwitchEMA, Lookahead])
    def test_keep(self, make: Any) -> None:
        trainer = Trainer(mlp())
        averager = make(trainer.model, **({"decay": 0.5} if make is SwitchEMA else {}))
        averager.attach(trainer.optimizer)
        for _ in range(STEPS_PER_EPOCH - 1):
            trainer.step()
        momenta = bits(trainer.optimizer.state_dict())
        averager.switch() if make is SwitchEMA else None
        assert bits(trainer.optimizer.state_dict()) == momenta

    def test_reset(self) -> None:
        trainer = Trainer(mlp())
        averager = SwitchEMA(trainer.model, decay=0.5, optimizer_state="reset", switch_every=2)
        averager.attach(trainer.optimizer)
        trainer.step()
        assert trainer.optimizer.state_dict()["state"]
        trainer.step()
        assert averager.n_switches == 1
        assert not trainer.optimizer.state_dict()["state"]
        trainer.step()
        assert trainer.optimizer.state_dict()["state"]

    def test_reset_leaves_parameters_of_other_models_alone(self) -> None:
        model, other = mlp(), mlp()
        optimizer = torch.optim.SGD([*model.parameters(), *other.parameters()], lr=0.1, momentum=0.9)
        averager = SwitchEMA(model, decay=0.5, optimizer_state="reset", switch_every=1)
        averager.attach(optimizer)
        for parameter in (*model.parameters(), *other.parameters()):
            parameter.grad = torch.ones_like(parameter)
        optimizer.step()
        assert averager.n_switches == 1
        assert {id(parameter) for parameter in optimizer.state} == {id(parameter) for parameter in other.parameters()}

    def test_reset_needs_an_attached_optimizer(self) -> None:
        averager = SwitchEMA(mlp(), decay=0.5, optimizer_state="reset")
        averager.update()
        with pytest.raises(RuntimeError, match=r"call attach\(optimizer\) first"):
            averager.switch()
        assert averager.n_switches == 0
