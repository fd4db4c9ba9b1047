"""Which decay and which switch interval suit a training of known length. Standard library only.

What the numbers below rest on is measured in ``docs/choosing.md``.
"""

from __future__ import annotations

from dataclasses import dataclass

from switch_ema.averaging.decay import DecayRule, check_positive, from_window, retained_fraction
from switch_ema.averaging.trigger import Every

AUTO = "auto"
SCHEDULES = ("cosine", "step", "onecycle", "wsd", "constant")

_SHARE = 0.1  # window of a passive average, as a part of training
_FEWEST_SWITCHES = 10


@dataclass(frozen=True)
class Advice:
    """A decay, a switch interval, and why.

    Attributes:
        decay: Share of the old average kept per step.
        window: The same as a number of steps, `1 / (1 - decay)`.
        switch_every: Steps from switch to switch; None for an average that is never switched onto.
        retained: Share of the progress that a switch keeps; None without switches.
        reason: Why, in a sentence.
    """

    decay: float
    window: float
    switch_every: int | None
    retained: float | None
    reason: str


def advise_ema(steps_per_epoch: int, epochs: float, schedule: str = "cosine") -> Advice:
    """Choose the decay of an average that leaves training alone: `window = 0.1 * steps of training`.

    Args:
        steps_per_epoch: Optimizer steps in an epoch, at least 1.
        epochs: Length of training, above 0.
        schedule: How the learning rate runs, one of `SCHEDULES`; it does not matter at present.

    Returns:
        The advice.

    Raises:
        ValueError: If an argument is out of range.

    Example:
        >>> round(advise_ema(500, 200).window)
        10000
    """
    steps = _steps(steps_per_epoch, epochs, schedule)
    window = max(1.0, _SHARE * steps)
    reason = f"a window of {window:.4g} steps is {_SHARE:.0%} of {steps} steps"
    return Advice(from_window(window), window, None, None, reason)


def advise_switch(
    steps_per_epoch: int, epochs: float, schedule: str = "cosine", *, switch_every: int | str | Every = AUTO
) -> Advice:
    """Choose decay and interval of Switch EMA: a switch every epoch, and a window as long as the interval.

    Trainings of fewer than 10 epochs switch 10 times all the same. A switch after `n` steps with `decay = 1 - 1 / n`
    keeps about `1 / e`, 37 %, of the progress made in between; more where `n` is below ten.

    Args:
        steps_per_epoch: Optimizer steps in an epoch, at least 1.
        epochs: Length of training, above 0.
        schedule: How the learning rate runs, one of `SCHEDULES`; it does not matter at present.
        switch_every: A number of steps, or a trigger such as ``"2 epochs"``, if the interval stands already.

    Returns:
        The advice.

    Raises:
        ValueError: If an argument is out of range.

    Example:
        >>> advice = advise_switch(500, 200)
        >>> advice.switch_every, round(advice.window), round(advice.retained, 2)
        (500, 500, 0.37)
    """
    steps = _steps(steps_per_epoch, epochs, schedule)
    interval = max(1, min(steps_per_epoch, steps // _FEWEST_SWITCHES))
    if switch_every != AUTO:
        every = Every.of(switch_every)
        interval = max(1, int(every.n * (steps_per_epoch if every.unit == "epoch" else 1)))
    decay = from_window(interval)
    retained = retained_fraction(decay, interval)
    reason = f"a window as long as the interval: a switch keeps {retained:.0%} of the progress of {interval} steps"
    return Advice(decay, interval, interval, retained, reason)


def _steps(steps_per_epoch: int, epochs: float, schedule: str) -> int:
    check_positive(steps_per_epoch, "steps_per_epoch", "500")
    check_positive(epochs, "epochs", "200")
    if schedule not in SCHEDULES:
        raise ValueError(f"schedule {schedule!r} is not known; write one of {', '.join(SCHEDULES)}")
    return max(1, round(steps_per_epoch * epochs))


def chosen_decay(
    decay: float | str | DecayRule, steps_per_epoch: int | None, epochs: float | None, schedule: str
) -> float | str | DecayRule:
    """Return the decay of an average that is never switched onto; ``"auto"`` is chosen by `advise_ema`.

    Raises:
        ValueError: It is to be chosen and the length of training is not known.
    """
    return advise_ema(*_known(steps_per_epoch, epochs), schedule).decay if decay == AUTO else decay


def chosen_switch(
    decay: float | str | DecayRule,
    switch_every: int | str | Every,
    steps_per_epoch: int | None,
    epochs: float | None,
    schedule: str,
) -> tuple[float | str | DecayRule, int | str | Every]:
    """Return decay and interval of Switch EMA; what is ``"auto"`` is chosen by `advise_switch`.

    Raises:
        ValueError: Something is to be chosen and the length of training is not known.
    """
    if AUTO in (decay, switch_every):
        advice = advise_switch(*_known(steps_per_epoch, epochs), schedule, switch_every=switch_every)
        decay = advice.decay if decay == AUTO else decay
        switch_every = advice.switch_every or 1 if switch_every == AUTO else switch_every
    return decay, switch_every


def _known(steps_per_epoch: int | None, epochs: float | None) -> tuple[int, float]:
    if steps_per_epoch is None or epochs is None:
        raise ValueError("'auto' needs the length of training; write e.g. steps_per_epoch=len(loader), epochs=90")
    return steps_per_epoch, epochs
