"""What a switch leaves of the progress made since the one before, and the warning if that is next to nothing."""

from __future__ import annotations

import warnings

from switch_ema.averaging.decay import FREEZING, decay_that_retains
from switch_ema.averaging.fold import Fold
from switch_ema.averaging.trigger import Every

_SENSIBLE = 0.25


def retained_fraction(fold: Fold, every: int, steps: int, *, n: int = 0, taken: int = 0) -> float:
    """Return the share of an interval's steady progress that a switch at its end would keep.

    Args:
        fold: How weights enter the average.
        every: Time between updates.
        steps: Length of the interval, in the same unit.
        n: Updates before the interval.
        taken: Time in the average before the interval.
    """
    rest = steps % every if fold.per_unit else 0
    lag = fold.lag_after(n, taken, every, steps // every)
    last = steps // every * every
    if rest:
        lag = fold.lag(lag, n + steps // every, taken + last, rest)
        last = steps
    return 1 - (lag + steps - last) / steps


def planned_interval(switch: Every | None, update: Every, steps_per_epoch: int | None) -> int:
    """Return the time between switches in the unit of updates; 0 if there are none, or it is not known."""
    if switch is None:
        return 0
    if switch.unit == update.unit:
        return int(switch.n)
    return int(switch.n * (steps_per_epoch or 0)) if switch.unit == "epoch" else 0


def warn_of_freezing(retained: float, interval: int, fold: Fold, update: Every, stacklevel: int) -> bool:
    """Warn if a switch would leave next to nothing; say what would leave a sensible share.

    Returns:
        Whether it warned.
    """
    if retained >= FREEZING:
        return False
    advice = "give the new weights a larger share at each update (alpha in Lookahead)"
    if fold.per_unit:
        every = min(int(update.n), interval)
        decay = decay_that_retains(_SENSIBLE, interval // every, every)
        advice = f"decay={decay} would keep {100 * _SENSIBLE:.0f} %"
    warnings.warn(
        f"a switch every {interval} {update.unit}s keeps {100 * retained:.1f} % of the progress made in "
        f"between: training all but stands still. {advice}; or switch less often",
        stacklevel=stacklevel,
    )
    return True
