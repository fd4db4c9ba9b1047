"""Triggers: at which steps or epochs an average is updated, or copied back into the model. Standard library only."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import Literal, Self

Unit = Literal["step", "epoch"]
Position = int | Fraction

_NUMBER = r"\d+(?:\.\d+)?|\d+/\d+"
_DURATION = re.compile(rf"\s*(?:({_NUMBER})\s+)?(step|epoch)s?\s*", re.ASCII)
_EVERY = re.compile(
    rf"\s*((?:(?:{_NUMBER})\s+)?(?:step|epoch)s?)(?:\s+after\s+(\d+))?(?:\s+until\s+(\d+))?\s*", re.ASCII
)


@dataclass(frozen=True)
class Duration:
    """A length of training, in steps or in epochs."""

    n: Fraction
    unit: Unit

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read `"500 steps"`, `"1 epoch"`, `"0.5 epoch"`, `"1/3 epoch"`.

        Raises:
            ValueError: If the text is not of this form, or the length is zero.
        """
        match = _DURATION.fullmatch(text)
        over, _, under = ((match and match[1]) or "1").partition("/")
        if match is None or int(under or 1) == 0 or Fraction(over) == 0:
            raise ValueError(
                f"{text!r} is not a length of training; write it like '500 steps', '1 epoch' or '0.5 epoch'"
            )
        return cls(Fraction(over) / int(under or 1), "step" if match[2] == "step" else "epoch")

    def in_steps(self, steps_per_epoch: int | None) -> Fraction:
        """Return the length in steps.

        Raises:
            ValueError: If the length is in epochs and `steps_per_epoch` is not known.
        """
        if self.unit == "step":
            return self.n
        if steps_per_epoch is None:
            raise ValueError(
                f"'{self}' needs steps_per_epoch=..., the number of optimizer steps in an epoch (often len(loader))"
            )
        return self.n * steps_per_epoch

    def __str__(self) -> str:
        decimal = f"{float(self.n):g}"
        number = decimal if "e" not in decimal and Fraction(decimal) == self.n else str(self.n)
        return f"{number} {self.unit}{'' if self.n == 1 else 's'}"


@dataclass(frozen=True)
class Clock:
    """Where training stands: completed steps and epochs, and steps since the last epoch ended."""

    steps: int = 0
    epochs: int = 0
    step_in_epoch: int = 0
    steps_per_epoch: int | None = None

    def next_step(self) -> Clock:
        """Return the clock one optimizer step later."""
        return Clock(self.steps + 1, self.epochs, self.step_in_epoch + 1, self.steps_per_epoch)

    def next_epoch(self) -> Clock:
        """Return the clock after the epoch has ended."""
        return Clock(self.steps, self.epochs + 1, 0, self.steps_per_epoch)

    def position(self, trigger: Every) -> Position:
        """Return the time in the trigger's unit.

        An epoch is complete when it is said to have ended, never before: what falls on its boundary acts there.
        """
        if trigger.unit == "step":
            return self.steps
        if not trigger.splits_epochs or self.steps_per_epoch is None:
            return self.epochs
        return self.epochs + Fraction(min(self.step_in_epoch, self.steps_per_epoch - 1), self.steps_per_epoch)


@dataclass(frozen=True)
class Every:
    """Fires every `n` steps or epochs, after `start` and not after `end`.

    Counting completed steps (or epochs) from 1, it fires at `c = start + n, start + 2 n, ...` while `c <= end`,
    that is `(end - start) // n` times. A part of an epoch fires at the first step that completes it.

    Args:
        n: Length of the interval, above 0; whole for steps, any positive number for epochs.
        unit: `"step"` or `"epoch"`.
        start: Steps or epochs that pass before counting begins, at least 0.
        end: Last step or epoch at which it may fire; `None` for no end.

    Raises:
        ValueError: If a number is out of its range.

    Example:
        >>> Every(2, "epoch", start=5)
        Every(n=2, unit='epoch', start=5, end=None)
        >>> str(Every.of("0.5 epoch")), str(Every.of(500)), str(Every.of("1 epoch after 5 until 90"))
        ('0.5 epochs', '500 steps', '1 epoch after 5 until 90')
    """

    n: float | Fraction
    unit: Unit = "step"
    start: int = 0
    end: int | None = None

    def __post_init__(self) -> None:
        if self.unit not in ("step", "epoch"):
            raise ValueError(f"unit is {self.unit!r}; write 'step' or 'epoch'")
        if isinstance(self.n, bool) or not isinstance(self.n, (int, float, Fraction)) or not 0 < self.n < float("inf"):
            raise ValueError(f"a trigger needs an interval above 0, got n={self.n!r}; write a number such as 500")
        exact = self.n if isinstance(self.n, Fraction) else Fraction(str(self.n))
        if self.unit == "step" and exact.denominator != 1:
            raise ValueError(f"a trigger in steps needs a whole number, got n={self.n!r}; write {max(1, round(exact))}")
        for name, value in (("start", self.start), ("end", self.end)):
            if not (isinstance(value, int) or (name == "end" and value is None)) or (value is not None and value < 0):
                raise ValueError(f"a trigger's {name} is a whole number of {self.unit}s from 0, got {value!r}")
        if self.end is not None and self.end < self.start + exact:
            raise ValueError(
                f"a trigger every {Duration(exact, self.unit)} after {self.start} until {self.end} never fires; "
                "write a later end"
            )
        object.__setattr__(self, "n", int(exact) if exact.denominator == 1 else exact)

    @classmethod
    def of(cls, value: int | str | Every, *, start: int = 0) -> Every:
        """Read a trigger: a number of steps, a string such as `"1 epoch"`, or a trigger as it is.

        Args:
            value: A positive whole number (steps), `"N steps"`, `"N epochs"`, each optionally followed by
                `"after START"` and `"until END"`, or an `Every`.
            start: Counting begins after this many steps, if the value names no start itself.

        Returns:
            The trigger.

        Raises:
            ValueError: If the value is malformed or out of range.
        """
        if isinstance(value, str) and not value.strip().isdecimal():
            match = _EVERY.fullmatch(value)
            if match is None:
                raise ValueError(
                    f"{value!r} is not a trigger; write it like '500 steps', '1 epoch', '0.5 epoch' or "
                    "'1 epoch after 5 until 90'"
                )
            interval = Duration.parse(match[1])
            trigger = cls(interval.n, interval.unit, int(match[2] or 0), int(match[3]) if match[3] else None)
        else:
            trigger = value if isinstance(value, Every) else cls(int(value) if isinstance(value, str) else value)
        if start and trigger.start:
            raise ValueError(f"the trigger '{trigger}' names a start already; leave out start={start}")
        if start and trigger.unit != "step":
            raise ValueError(f"a start in steps does not fit the trigger '{trigger}'; write '{trigger} after EPOCHS'")
        return replace(trigger, start=start) if start else trigger

    @property
    def splits_epochs(self) -> bool:
        """Whether it fires inside an epoch, which takes a known number of steps per epoch."""
        return self.unit == "epoch" and isinstance(self.n, Fraction)

    def count(self, position: Position) -> int:
        """Return how often it has fired up to a position (completed steps or epochs)."""
        last = position if self.end is None else min(position, self.end)
        return max(0, int((last - self.start) // self.n))

    def fires(self, before: Clock, after: Clock) -> bool:
        """Return whether it fires on the way from one moment to a later one."""
        return self.count(after.position(self)) > self.count(before.position(self))

    def starts(self, before: Clock, after: Clock) -> bool:
        """Return whether counting begins on the way from one moment to a later one."""
        return before.position(self) < self.start <= after.position(self)

    def __str__(self) -> str:
        interval = str(Duration(Fraction(self.n), self.unit))
        return f"{interval}{f' after {self.start}' if self.start else ''}{f' until {self.end}' if self.end else ''}"


def check_triggers(update: Every, switch: Every | None, steps_per_epoch: int | None) -> None:
    """Refuse triggers that do not make sense together.

    Args:
        update: When an average is updated.
        switch: When it is copied into the model, if ever.
        steps_per_epoch: Optimizer steps in an epoch, if known.

    Raises:
        ValueError: If an update falls inside an epoch, or it is not known where a switch does.
    """
    if steps_per_epoch is not None and (not isinstance(steps_per_epoch, int) or steps_per_epoch < 1):
        raise ValueError(f"steps_per_epoch is a whole number of at least 1, got {steps_per_epoch!r}")
    if update.splits_epochs:
        raise ValueError(f"an average is updated every N steps or N whole epochs, not '{update}'; write it in steps")
    if switch is not None and switch.splits_epochs and steps_per_epoch is None:
        raise ValueError(f"switching every '{switch}' needs steps_per_epoch=..., often len(loader)")
    if switch is not None and switch.splits_epochs and switch.n * (steps_per_epoch or 0) < 1:
        raise ValueError(f"'{switch}' is less than one of {steps_per_epoch} steps; write switch_every=1")
