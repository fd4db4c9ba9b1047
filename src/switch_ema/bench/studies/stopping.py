"""What stopping at the best epoch on validation gains, and when it comes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from switch_ema.bench.plots import lines
from switch_ema.bench.stats import BASELINE, Difference, Results, best_epoch, best_rate, paired_difference, spread
from switch_ema.bench.studies.study import Panel, Reading
from switch_ema.bench.studies.words import apart, curve
from switch_ema.bench.wording import decimals_for, show, show_difference, show_spread

_STOPPING = (
    "Stopped at each seed's epoch that is best on validation, by the headline metric or by the lowest loss; the test "
    "value there, and what it gains against the last epoch of the same run. Validation labels are as they come, also "
    "where training labels were made wrong."
)


@dataclass(frozen=True)
class Stop:
    """A method stopped at each seed's best epoch on validation.

    Attributes:
        method: Its label.
        by: The metric that chooses the epoch.
        epochs: The chosen epoch by seed.
        val: The headline metric on validation there, by seed.
        test: The headline metric on test there, by seed.
        gain: That minus the same at the last epoch.
    """

    method: str
    by: str
    epochs: Mapping[int, int]
    val: Mapping[int, float | None]
    test: Mapping[int, float | None]
    gain: Difference


def stops(results: Results, label: str, lr: float) -> list[Stop]:
    """Return a method stopped early by the headline metric and, where it is measured, by the loss.

    Args:
        results: The comparison.
        label: Label of the method.
        lr: Its learning rate.
    """
    last = results.at(label, lr, "test")
    found: list[Stop] = []
    for by, higher in ((results.metric, results.higher_is_better), ("loss", False)):
        chosen = {seed: best_epoch(series, higher) for seed, series in results.curves(label, lr, "val", by).items()}
        epochs = {seed: epoch for seed, epoch in chosen.items() if epoch is not None}
        val, test = (
            {seed: results.curves(label, lr, split).get(seed, {}).get(epoch) for seed, epoch in epochs.items()}
            for split in ("val", "test")
        )
        if epochs and by not in {stop.by for stop in found}:
            found.append(Stop(label, by, epochs, val, test, paired_difference(test, last)))
    return found


def stopping(arm: Reading) -> Panel:
    """Say what stopping early gains plain training and the average, and when it comes.

    Args:
        arm: A comparison.
    """
    results = arm.trained
    own = {label: best_rate(results, label) for label in results.methods}
    found = [stop for label in results.methods for stop in stops(results, label, own[label])]
    decimals = decimals_for(spread(stop.test.values()).mean for stop in found)
    by_metric = {stop.method: stop for stop in found if stop.by == results.metric}
    ema = _best_stop(
        [
            by_metric[label]
            for label in (label for label in results.methods if label.split(":")[0] == "ema")
            if label in by_metric
        ],
        results,
    )
    said = []
    if BASELINE in by_metric:
        said.append(_stopped(by_metric[BASELINE], "plain training", results, decimals))
    if ema and BASELINE in by_metric:
        said.append(_stopped(ema, ema.method, results, decimals))
        gap = paired_difference(ema.test, by_metric[BASELINE].test)
        told = apart("it", "plain training stopped so", gap, results.higher_is_better, decimals)
        said.append(f"Stopped so, {told}.")
    sentence = f"{arm.title}: {' '.join(said) or 'no value is finite, so there is nothing to stop at.'}"
    rows = [
        (f"{stop.method}, by {stop.by}", show_spread(spread(stop.test.values()), decimals),
         show_difference(stop.gain, decimals), _share(stop, results), _early_seeds(stop, results))
        for stop in found
    ]  # fmt: skip
    head = ["Method, chosen by", f"Test {results.metric}", "Minus the last epoch's", "Part of the budget"]
    plots = []
    if results.curves(BASELINE, own[BASELINE], "val", "loss"):
        losses = [curve(results, label, own[label], "loss", "val") for label in results.methods]
        plots = [lines("Validation loss", "epoch", "validation loss", losses, log_y=True)]
    return Panel(f"Stopping: {arm.title}", sentence, _STOPPING, plots, ([*head, "Before 3/4"], rows))


def _best_stop(stops: Sequence[Stop], results: Results) -> Stop | None:
    """Return the one whose chosen epochs are best on validation."""
    sign = 1 if results.higher_is_better else -1
    means = {stop.method: sign * mean for stop in stops if (mean := spread(stop.val.values()).mean) is not None}
    return max((stop for stop in stops if stop.method in means), key=lambda stop: means[stop.method], default=None)


def _stopped(stop: Stop, name: str, results: Results, decimals: int) -> str:
    """Say what stopping gains and when it comes."""
    verb = {
        "better": "gains by stopping early",
        "worse": "loses by stopping early",
        "unclear": "gains nothing beyond noise by stopping early",
        "unknown": "stopped early cannot be told from its last epoch",
    }[stop.gain.judge(results.higher_is_better)]
    return (
        f"{name} {verb} ({show_difference(stop.gain, decimals)}), at {_share(stop, results)} of the budget "
        f"in the mean, before three quarters of it with {_early_seeds(stop, results)} seeds."
    )


def _share(stop: Stop, results: Results) -> str:
    return f"{show(100 * (spread(stop.epochs.values()).mean or 0) / results.epochs, 0)} %"


def _early_seeds(stop: Stop, results: Results) -> str:
    return f"{sum(epoch < 0.75 * results.epochs for epoch in stop.epochs.values())} of {len(stop.epochs)}"
