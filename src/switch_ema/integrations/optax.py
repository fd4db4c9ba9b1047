"""Weight averaging as an optax gradient transformation, for training with JAX."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from switch_ema.averaging.decay import Constant, parse_decay
from switch_ema.averaging.trigger import Every
from switch_ema.errors import InputError
from switch_ema.libraries import require

require("the optax transformation", "jax>=0.4.35", "optax>=0.2.4", extra="jax")

import jax  # noqa: E402
import jax.numpy as jnp  # noqa: E402
import optax  # noqa: E402

from switch_ema.integrations.optax_trigger import Trigger  # noqa: E402

Schedule = Callable[[jax.Array], Any]


class SwitchEMAState(NamedTuple):
    """State of `switch_ema`.

    Attributes:
        step: Completed steps, int32.
        n_averaged: Updates so far, int32.
        n_switches: Switches so far, int32.
        taken: Step of the last update, int32.
        average: The average, like the parameters; of types narrower than float32 it is kept in float32. Whole numbers
            are not averaged.
    """

    step: jax.Array
    n_averaged: jax.Array
    n_switches: jax.Array
    taken: jax.Array
    average: Any


def switch_ema(
    decay: float | str | Schedule = 0.999,
    *,
    switch_every: int | str | Every | None = None,
    update_every: int | str | Every = 1,
    update_after_step: int = 0,
    steps_per_epoch: int | None = None,
) -> optax.GradientTransformationExtraArgs:
    """Average the parameters, and let them go on from the average at intervals; it comes last in a chain.

    Per step, with `p` the parameters after it: `average <- decay * average + (1 - decay) * p`, and every
    `switch_every`: `p <- average`. Updates pass through as they are, but for a switch, where they become
    `average - p_before`, so that `optax.apply_updates` arrives at the average (to the last rounding). What comes before
    in the chain keeps its state at a switch. Everything is traced: it may be jitted, and stand inside
    `optax.MultiSteps` and `optax.apply_if_finite`, which call it once per real step.

    In contrast to `optax.ema`, which averages the updates, this averages the parameters. The numbers are those of
    `switch_ema.EMA` and `switch_ema.SwitchEMA`.

    Args:
        decay: Share of the old average kept per step, in [0, 1]; or `"half-life 500 steps"` or `"window 1 epoch"`; or a
            schedule as optax has them, a function of the number of steps averaged so far that `jax.jit` can trace.
        switch_every: When to switch: steps, or `"1 epoch"`, `"0.5 epoch after 5 until 90"`; `None` for never (EMA).
        update_every: Steps between updates; an update after k steps uses the product of their decays.
        update_after_step: Averaging begins after this many steps, from the parameters of that moment.
        steps_per_epoch: Steps in an epoch; needed where a decay or a switch speaks of epochs.

    Returns:
        The transformation; its `update` needs `params`.

    Raises:
        InputError: If an argument is out of range, or `update` is not given the parameters.

    Example:
        >>> optimizer = optax.chain(optax.sgd(1.0), switch_ema(0.5, switch_every=2))
        >>> params = {"w": jnp.array(4.0)}
        >>> state = optimizer.init(params)
        >>> for _ in range(2):  # steps of -1: 4 -> 3 (average 3.5) -> 2 (average 2.75), then the switch
        ...     updates, state = optimizer.update({"w": jnp.array(1.0)}, state, params)
        ...     params = optax.apply_updates(params, updates)
        >>> float(params["w"]), float(averaged_params(state, params)["w"])
        (2.75, 2.75)

    References:
        Li et al., "Switch EMA: A Free Lunch for Better Flatness and Sharpness", arXiv 2402.09240, 2024.
    """
    try:
        every = Every.of(update_every, start=update_after_step)
        fires = Trigger(every, None)
        switches = None if switch_every is None else Trigger(Every.of(switch_every), steps_per_epoch)
        share = _share(decay, steps_per_epoch, int(every.n))
    except ValueError as error:
        raise InputError(str(error)) from None

    def init(params: Any) -> SwitchEMAState:
        zero = jnp.zeros((), jnp.int32)
        return SwitchEMAState(zero, zero, zero, zero + every.start, jax.tree.map(_widened, params))

    def update(updates: Any, state: SwitchEMAState, params: Any = None, **_: Any) -> tuple[Any, SwitchEMAState]:
        if params is None:
            raise InputError("switch_ema averages the parameters; write optimizer.update(gradients, state, params)")
        step = state.step + 1
        switch = switches(step) if switches is not None else jnp.array(False)
        pending = (step > state.taken) & (step <= fires.end)
        switch = switch & ((state.n_averaged > 0) | pending)
        take = fires(step) | (switch & pending)
        weight = share(state.taken - every.start, step - state.taken)

        def averaged(average: jax.Array, value: jax.Array, change: jax.Array) -> jax.Array:
            if not _is_averaged(average):
                return value
            after = (value + change).astype(value.dtype).astype(average.dtype)
            start = jnp.where(step == every.start, after, average) if every.start else average
            return jnp.where(take, _lerp(start, after, weight), start)

        def switched(average: jax.Array, value: jax.Array, change: jax.Array) -> jax.Array:
            return jnp.where(switch, average - value.astype(average.dtype), change) if _is_averaged(average) else change

        average = jax.tree.map(averaged, state.average, params, updates)
        if switches is not None:
            updates = jax.tree.map(switched, average, params, updates)
        state = SwitchEMAState(
            step, state.n_averaged + take, state.n_switches + switch, jnp.where(take, step, state.taken), average
        )
        return updates, state

    return optax.GradientTransformationExtraArgs(init, update)


def averaged_params(opt_state: Any, params: Any) -> Any:
    """Return the average in the types of the parameters; before the first update, the parameters themselves.

    So are parameters that are not averaged, where `optax.masked` or `optax.multi_transform` keeps them from it.

    Args:
        opt_state: State of an optimizer that holds `switch_ema` once, however deep.
        params: The parameters that are trained.

    Raises:
        InputError: If there is no average in the state, or several.
    """
    leaves = jax.tree.leaves(opt_state, is_leaf=lambda node: isinstance(node, SwitchEMAState))
    found = [leaf for leaf in leaves if isinstance(leaf, SwitchEMAState)]
    if len(found) != 1:
        raise InputError(
            f"the optimizer state holds {len(found)} averages, not one; write optax.chain(optimizer, switch_ema(0.999))"
        )
    [state] = found

    def chosen(average: Any, value: Any) -> Any:
        if isinstance(average, optax.MaskedNode):
            return value
        return jnp.where(state.n_averaged > 0, average.astype(value.dtype), value)

    return jax.tree.map(chosen, state.average, params, is_leaf=lambda node: isinstance(node, optax.MaskedNode))


def _share(decay: float | str | Schedule, steps_per_epoch: int | None, most: int) -> Callable[..., jax.Array]:
    """Return the function from steps averaged and steps since (at most `most`) to the share that the parameters get."""
    rule = parse_decay(decay, steps_per_epoch)
    if isinstance(rule, Constant):  # powers in double precision, as in the torch core
        shares = [1 - rule.decay**elapsed for elapsed in range(most + 1)]
        return lambda taken, elapsed: jnp.asarray(shares)[elapsed]
    if isinstance(decay, str):
        raise ValueError(
            f"decay {decay!r} changes from step to step; in JAX write a function of the number of steps averaged, e.g. "
            "lambda n: jnp.minimum(0.999, (1 + n) / (10 + n))"
        )

    def share(taken: jax.Array, elapsed: jax.Array) -> jax.Array:
        i = jnp.arange(most)
        decays = jax.vmap(lambda n: jnp.asarray(decay(n), float))(taken + i)  # type: ignore[operator]
        return 1 - jnp.prod(jnp.where(i < elapsed, decays, 1.0))

    return share


def _is_averaged(value: jax.Array) -> bool:
    return jnp.issubdtype(value.dtype, jnp.inexact)


def _widened(value: Any) -> jax.Array:
    value = jnp.asarray(value)
    return jnp.array(value, jnp.promote_types(value.dtype, jnp.float32) if _is_averaged(value) else value.dtype)


def _lerp(average: jax.Array, value: jax.Array, share: jax.Array) -> jax.Array:
    """Return `(1 - share) * average + share * value`, exact at both ends."""
    share = share.astype(jnp.finfo(average.dtype).dtype)
    difference = value - average
    return jnp.where(share < 0.5, average + share * difference, value - (1 - share) * difference)
