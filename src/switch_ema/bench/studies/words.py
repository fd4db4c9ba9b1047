"""What several studies say and draw: how far two methods are apart, and how the curve of a method runs."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from switch_ema.bench.plots import Series
from switch_ema.bench.stats import Difference, Results, best_rate, spread
from switch_ema.bench.studies.tuned import Standing
from switch_ema.bench.wording import show_difference


def apart(name: str, other: str, difference: Difference, higher_is_better: bool, decimals: int) -> str:
    """Say whether two things differ beyond noise, without a full stop.

    Args:
        name: What is spoken of.
        other: What it is compared with.
        difference: Values of the first minus those of the second.
        higher_is_better: Direction of the metric.
        decimals: How many decimals it is written with.

    Example:
        >>> apart("ema", "plain training", Difference(3, 0.02, 0.01, 0.03), True, 2)
        'ema is better than plain training (+0.02, 95 % interval +0.01 to +0.03)'
    """
    verb = {
        "better": "is better than",
        "worse": "is worse than",
        "unclear": "shows no difference beyond noise from",
        "unknown": "cannot be told from",
    }[difference.judge(higher_is_better)]
    return f"{name} {verb} {other} ({show_difference(difference, decimals)})"


def hanging(named: Iterable[tuple[str, Standing, Standing]], higher_is_better: bool) -> list[str]:
    """Say which clear differences hang on the rates that were chosen, in no or one sentence.

    Args:
        named: What to call each difference, and the two that it lies between.
        higher_is_better: Direction of the metric.
    """
    clear = [each for each in named if each[1].minus(each[2]).judge(higher_is_better) in ("better", "worse")]
    names = [name for name, own, other in clear if own.hangs_on_rate(other, higher_is_better)]
    if not names:
        return []
    return [
        "Would turn round on test if the one behind stood at the next rate of the grid, so the choice of rates may be "
        f"all there is to it: {', '.join(names)}."
    ]


def curve(results: Results, label: str, lr: float, metric: str | None = None, split: str = "test") -> Series:
    """Return how a method runs: the mean over the seeds, from the lowest to the highest.

    Args:
        results: The comparison.
        label: Label of the method; its place among the methods gives the colour.
        lr: Its learning rate.
        metric: What is measured; by default the headline.
        split: Where it is measured.
    """
    curves = results.curves(label, lr, split, metric).values()
    epochs = sorted({epoch for series in curves for epoch in series})
    spreads = [spread(series[epoch] for series in curves if epoch in series) for epoch in epochs]
    return Series.of(label, epochs, spreads, results.methods.index(label))


def at_edges(found: Mapping[str, Results]) -> list[str]:
    """Say which methods are best at the lowest or highest rate that was tried, in no or one sentence.

    Args:
        found: The comparisons by name; the name is said where there are several.
    """
    edges = [
        f"{label} ({name})" if len(found) > 1 else label
        for name, results in found.items()
        for label in results.methods
        if len(results.lrs) > 1 and best_rate(results, label) in (results.lrs[0], results.lrs[-1])
    ]
    if not edges:
        return []
    return [f"Best at the lowest or highest rate tried, so a better one may lie outside: {', '.join(edges)}."]
