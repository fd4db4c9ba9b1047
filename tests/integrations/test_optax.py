"""The optax transformation: the core's numbers, under jit and inside optax's own wrappers."""

from __future__ import annotations

import importlib
import math
from fractions import Fraction
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from switch_ema.averaging.trigger import Every
from switch_ema.errors import InputError, MissingLibraryError
from switch_ema.integrations import optax as module
from switch_ema.integrations.optax import SwitchEMAState, averaged_params, switch_ema
from tests.integrations import vector


def trained(optimizer: Any, params: Any, gradients: list[Any], state: Any = None, *, jit: bool = True) -> Any:
    def step(params: Any, state: Any, gradient: Any) -> tuple[Any, Any]:
        updates, state = optimizer.update(gradient, state, params)
        return optax.apply_updates(params, updates), state

    state = optimizer.init(params) if state is None else state
    step_ = jax.jit(step) if jit else step
    for gradient in gradients:
        params, state = step_(params, state, gradient)
    return params, state


def only(state: Any) -> SwitchEMAState:
    leaves = jax.tree.leaves(state, is_leaf=lambda node: isinstance(node, SwitchEMAState))
    [found] = [leaf for leaf in leaves if isinstance(leaf, SwitchEMAState)]
    return found


def asked(case: vector.Case) -> dict[str, Any]:
    options = case.options
    if case.rule is not None:
        options["decay"] = lambda n: jnp.minimum(0.9, (1 + n) / (10 + n))
    return options


@pytest.mark.parametrize("case", vector.CASES, ids=lambda case: case.name)
def test_it_agrees_with_the_twin(case: vector.Case) -> None:
    params = jax.tree.map(lambda value: jnp.asarray(value, jnp.float32), vector.start())
    gradients = [vector.gradients(x, y) for x, y in zip(*vector.data(), strict=True)]
    gradients = [jax.tree.map(lambda value: jnp.asarray(value, jnp.float32), each) for each in gradients]
    optimizer = optax.chain(optax.sgd(vector.RATE), switch_ema(**asked(case)))
    params, state = trained(optimizer, params, gradients)
    average = averaged_params(state, params)
    vector.check(case, params, average, int(only(state).n_averaged), int(only(state).n_switches))


GRADIENTS = [{"w": jnp.full(3, float(i % 5 - 1))} for i in range(12)]
START = {"w": jnp.arange(3.0)}


def test_jit_changes_nothing_and_compiles_once() -> None:
    traced = 0

    def counted(n: jax.Array) -> Any:
        nonlocal traced
        traced += 1
        return jnp.minimum(0.9, (1 + n) / (10 + n))

    optimizer = optax.chain(optax.adam(0.1), switch_ema(counted, switch_every=5))
    jitted = trained(optimizer, START, GRADIENTS)
    assert traced == 1
    plain = trained(optimizer, START, GRADIENTS, jit=False)
    jax.tree.map(partial(np.testing.assert_allclose, rtol=1e-6), jitted, plain)


def test_accumulation_is_one_update_per_real_step() -> None:
    chain = optax.chain(optax.sgd(0.1), switch_ema(0.8, switch_every=2))
    params, state = trained(optax.MultiSteps(chain, every_k_schedule=3), START, GRADIENTS)
    means = [{"w": sum(g["w"] for g in GRADIENTS[i : i + 3]) / 3} for i in range(0, 12, 3)]
    expected, _ = trained(chain, START, means)
    assert int(only(state).n_averaged) == 4
    np.testing.assert_allclose(params["w"], expected["w"], rtol=1e-6)


def test_a_step_that_is_skipped_is_none() -> None:
    chain = optax.chain(optax.sgd(0.1), switch_ema(0.8, switch_every=4))
    bad = {"w": jnp.full(3, jnp.nan)}
    params, state = trained(optax.apply_if_finite(chain, 10), START, [*GRADIENTS[:3], bad, *GRADIENTS[3:]])
    expected, _ = trained(chain, START, GRADIENTS)
    assert int(only(state).n_averaged) == 12
    np.testing.assert_allclose(params["w"], expected["w"], rtol=1e-6)


def test_a_resumed_run_equals_an_uninterrupted_one() -> None:
    optimizer = optax.chain(optax.adam(0.1), switch_ema(0.8, switch_every=5, update_every=2))
    params, state = trained(optimizer, START, GRADIENTS)
    half, saved = trained(optimizer, START, GRADIENTS[:7])
    half, saved = jax.tree.map(lambda leaf: jnp.asarray(np.asarray(leaf)), (half, saved))  # through files
    resumed = trained(optimizer, half, GRADIENTS[7:], saved)
    jax.tree.map(np.testing.assert_array_equal, resumed, (params, state))


def test_narrow_weights_have_a_float32_average() -> None:
    params = {"w": jnp.ones(3, jnp.bfloat16), "count": jnp.array(3)}
    optimizer = optax.chain(optax.masked(optax.sgd(1.0), {"w": True, "count": False}), switch_ema(0.9999))
    gradients = [{"w": jnp.full(3, -0.125, jnp.bfloat16), "count": jnp.array(0)}]
    gradients += [{"w": jnp.zeros(3, jnp.bfloat16), "count": jnp.array(0)}] * 1000
    params, state = trained(optimizer, params, gradients)
    assert only(state).average["w"].dtype == jnp.float32
    np.testing.assert_allclose(only(state).average["w"], 1.125 - 0.125 * 0.9999**1001, rtol=1e-5)
    average = averaged_params(state, params)
    assert (average["w"].dtype, int(average["count"])) == (jnp.bfloat16, 3)


def test_narrow_weights_switch_under_accumulation() -> None:
    params = {"w": jnp.ones(3, jnp.bfloat16)}
    gradients = [{"w": jnp.full(3, -0.5, jnp.bfloat16)}] * 4
    chain = optax.chain(optax.sgd(1.0), switch_ema(0.5, switch_every=2))
    params, _ = trained(optax.MultiSteps(chain, every_k_schedule=2), params, gradients)
    assert params["w"].dtype == jnp.bfloat16
    np.testing.assert_array_equal(params["w"].astype(jnp.float32), 1.625)  # 1 -> 1.5 (1.25) -> 2 (1.625)


def test_before_the_first_update_the_average_is_the_model() -> None:
    optimizer = optax.chain(optax.sgd(1.0), switch_ema(0.5, update_after_step=3))
    params, state = trained(optimizer, START, GRADIENTS[:2])
    np.testing.assert_array_equal(averaged_params(state, params)["w"], params["w"])


def test_the_mean_of_all_steps_is_a_schedule_too() -> None:
    seen = []
    optimizer = optax.chain(optax.sgd(1.0), switch_ema(lambda n: n / (n + 1), update_every=3))
    params, state = START, optimizer.init(START)
    for step, gradient in enumerate(GRADIENTS, start=1):
        updates, state = optimizer.update(gradient, state, params)
        params = optax.apply_updates(params, updates)
        seen += [params["w"]] if step % 3 == 0 else []
    np.testing.assert_allclose(averaged_params(state, params)["w"], sum(seen) / len(seen), rtol=1e-6)


EMA = switch_ema(0.5, switch_every=2)
PARTS = {"head": {"w": jnp.arange(3.0), "b": jnp.ones(2)}, "rest": {"w": jnp.arange(3.0)}}


@pytest.mark.parametrize(
    "optimizer",
    [
        optax.multi_transform(
            {"head": optax.chain(optax.sgd(0.1), EMA), "rest": optax.sgd(0.1)}, {"head": "head", "rest": "rest"}
        ),
        optax.chain(optax.sgd(0.1), optax.masked(EMA, {"head": True, "rest": False})),
        optax.chain(optax.sgd(0.1), optax.masked(EMA, {"head": True, "rest": {"w": False}})),
    ],
    ids=["multi_transform", "masked", "masked by leaf"],
)
def test_parameters_that_are_not_averaged_are_themselves(optimizer: Any) -> None:
    gradients = [jax.tree.map(jnp.ones_like, PARTS)] * 3
    params, state = trained(optimizer, PARTS, gradients)
    average = jax.jit(averaged_params)(state, params)
    alone, state = trained(optax.chain(optax.sgd(0.1), EMA), PARTS["head"], [each["head"] for each in gradients])
    jax.tree.map(np.testing.assert_array_equal, average["head"], averaged_params(state, alone))
    np.testing.assert_array_equal(average["rest"]["w"], params["rest"]["w"])
    assert (average["head"]["w"] != params["head"]["w"]).all()


LAST = 2**31 - 1


@pytest.mark.parametrize(
    ("text", "steps_per_epoch"),
    [
        ("0.3333 epoch", 1251),
        ("0.3333 epoch after 3 until 1500000", 1251),
        ("0.333333 epoch", 1251),
        ("1/3 epoch", 100003),
        ("2147483647/2147483646 epoch", 1),
        ("1073741827/3 epoch", 1),
        ("7 steps after 2147483000", None),
        ("2147483647 steps", None),
        ("1 step", None),
    ],
)
def test_switches_are_exact_up_to_the_last_step(text: str, steps_per_epoch: int | None) -> None:
    every = Every.of(text)
    unit = steps_per_epoch if every.unit == "epoch" and steps_per_epoch else 1
    interval = every.n * Fraction(unit)
    end = LAST if every.end is None else min(LAST, every.end * unit)
    counts = [0, 1, 2, *(int((end - every.start * unit) * i / (7 * interval)) for i in range(1, 8))]
    due = {every.start * unit + math.ceil(i * interval) for i in counts}  # rounded up: the step that completes it
    steps = sorted({step + i for step in (*due, end, LAST) for i in (-1, 0, 1) if 0 < step + i <= LAST})

    def n_switches(step: jax.Array) -> jax.Array:
        taken = optimizer.init(params)._replace(step=step - 1, n_averaged=jnp.array(1), taken=step - 1)
        return optimizer.update(params, taken, params)[1].n_switches

    params = {"w": jnp.zeros(())}
    optimizer = switch_ema(0.9, switch_every=text, steps_per_epoch=steps_per_epoch)
    found = jax.jit(jax.vmap(n_switches))(jnp.array(steps, jnp.int32))
    before = [max(0, min(step, end) - every.start * unit) // interval for step in [step - 1 for step in steps]]
    after = [max(0, min(step, end) - every.start * unit) // interval for step in steps]
    assert sum(after) > sum(before)
    np.testing.assert_array_equal(found, np.array(after) - np.array(before))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"decay": 1.5}, "decay is the share of the old average kept"),
        ({"decay": "warmup 0.9"}, "write a function of the number of steps averaged"),
        ({"switch_every": "1 epoch"}, "needs steps_per_epoch"),
        ({"switch_every": "1/9 epoch", "steps_per_epoch": 3}, "less than one of 3 steps"),
        ({"update_every": "1 epoch"}, "needs steps_per_epoch"),
        ({"switch_every": 0}, "interval above 0"),
        ({"switch_every": "0.3333333 epoch", "steps_per_epoch": 1251}, r"fewer decimals or a fraction such as '1/3"),
        ({"switch_every": "1 epoch after 2000000", "steps_per_epoch": 1251}, r"write fewer than 2\*\*31 steps"),
        ({"switch_every": 2**31}, r"write fewer than 2\*\*31 steps"),
        ({"update_after_step": 2**31}, r"write fewer than 2\*\*31 steps"),
    ],
)
def test_wrong_arguments_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        switch_ema(**options)


def test_wrong_use_is_refused() -> None:
    optimizer = switch_ema(0.9)
    state = optimizer.init(START)
    with pytest.raises(InputError, match="averages the parameters"):
        optimizer.update(GRADIENTS[0], state)
    with pytest.raises(InputError, match="holds 0 averages"):
        averaged_params(optax.sgd(0.1).init(START), START)
    with pytest.raises(InputError, match="holds 2 averages"):
        averaged_params((state, state), START)


def test_an_old_library_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("switch_ema.libraries._version", lambda name: "0.1.2")
    with pytest.raises(MissingLibraryError, match=r"jax>=0\.4\.35, found 0\.1\.2; run: pip install"):
        importlib.reload(module)
