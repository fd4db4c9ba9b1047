"""Triggers on steps that JAX traces, in its 32-bit numbers."""

from __future__ import annotations

from fractions import Fraction
from typing import final

import jax
import jax.numpy as jnp
import numpy as np

from switch_ema.averaging.trigger import Every

_LAST = 2**31 - 1  # steps are int32


@final
class Trigger:
    """`Every` on traced steps: fires where the count of whole intervals grows, exactly, up to the last step there is.

    Args:
        every: When it fires; a part of an epoch is one of `steps_per_epoch`, wherever epochs end.
        steps_per_epoch: Steps in an epoch, if known.

    Raises:
        ValueError: If the length of an epoch is missing, or the interval is below a step or cannot be counted exactly.

    Attributes:
        end: Last step at which it may fire.
    """

    def __init__(self, every: Every, steps_per_epoch: int | None) -> None:
        if every.unit == "epoch" and steps_per_epoch is None:
            raise ValueError(f"'{every}' needs steps_per_epoch=..., the number of optimizer steps in an epoch")
        unit = steps_per_epoch if every.unit == "epoch" and steps_per_epoch else 1
        interval = Fraction(every.n) * unit
        if interval < 1:
            raise ValueError(f"'{every}' is less than one of {unit} steps; write switch_every=1")
        if max(interval.numerator, every.start * unit) > _LAST:
            raise ValueError(
                f"'{every}' is too long, or of too many decimals, to be counted in JAX's 32 bits; write fewer than "
                "2**31 steps, and fewer decimals or a fraction such as '1/3 epoch'"
            )
        self._over, self._under = interval.numerator, interval.denominator
        self._start = every.start * unit
        self.end = _LAST if every.end is None else min(every.end * unit, _LAST)

    def __call__(self, step: jax.Array) -> jax.Array:
        """Return whether it fires on the completion of a step."""
        passed = jnp.maximum(step - self._start, 0).astype(jnp.uint32)
        # the last step has brought passed * under / over, which grows by at most 1, to a whole number or past it
        is_complete = _remainder(passed, self._under, self._over) < self._under
        return (step > self._start) & (step <= self.end) & is_complete


def _remainder(value: jax.Array, factor: int, over: int) -> jax.Array:
    """Return `value * factor % over` of uint32 for `over < 2**31`, digit by digit of the factor: nothing overflows."""
    base = (2**32 - 1) // over
    digits: list[int] = []
    while factor:
        factor, digit = divmod(factor, base)
        digits.append(digit)
    modulus = np.uint32(over)
    value = value % modulus
    found = jnp.zeros_like(value)
    for digit in reversed(digits):
        found = (found * np.uint32(base) % modulus + value * np.uint32(digit) % modulus) % modulus
    return found
