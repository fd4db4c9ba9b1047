"""Where methods stand with the weights they kept: after the last epoch, and at the lowest validation loss."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

from switch_ema.bench.kept import LAST, LOWEST_LOSS
from switch_ema.bench.settings import Settings
from switch_ema.bench.stats import BASELINE, Difference, Results, best_rate, paired_difference
from switch_ema.bench.studies.labels import with_wrong_labels
from switch_ema.bench.studies.study import Arm, rates
from switch_ema.bench.wording import show_difference, signed
from switch_ema.errors import InputError
from switch_ema.tasks.usertask import is_user_task

if TYPE_CHECKING:
    from torch import Tensor

    from switch_ema.bench.kept import Kept
    from switch_ema.bench.studies.trained import Trained
    from switch_ema.bench.task import Part

POINTS = {LAST: "after the last epoch", LOWEST_LOSS: "at the lowest validation loss"}
"""The weights that are measured, with what they are."""
CLASSIFIERS = ("classification", "points", "textclass")
"""Tasks whose outputs are logits of classes."""
BEFORE_SWA = "Before the last quarter of the epochs, where SWA begins, its weights are those of plain training."
"""What must be known of weights that are not the last."""

Values = dict[int, float | None]


def averages(base: Settings) -> str:
    """Return plain training and the averages that these studies compare; the longer window is a fifth of training."""
    return f"baseline,ema,ema:decay=window {base.epochs / 5:g} epochs,swa,sema"


def check_classes(base: Settings) -> None:
    """Refuse a task whose models name no classes.

    Raises:
        InputError: The task is none of `CLASSIFIERS`, nor the user's own.
    """
    if base.task not in CLASSIFIERS and not is_user_task(base.task):
        raise InputError(f"task {base.task}: its models name no classes; write one of {', '.join(CLASSIFIERS)}")


def best_of_averages(base: Settings) -> list[Arm]:
    """Return plain training and averages on right and wrong labels, at a few rates, that keep their best weights.

    Args:
        base: The settings asked for.

    Raises:
        InputError: The task's models name no classes.
    """
    check_classes(base)
    return with_wrong_labels(base, methods=averages(base), lr=rates(base), keep_weights="best")


def standing(trained: Trained) -> Iterator[Kept]:
    """Yield the weights of every method at its own best rate, at both `POINTS`; a run that diverged has but the last.

    Args:
        trained: A comparison that kept its best weights.
    """
    yield from trained.solutions(LAST)
    try:
        yield from trained.solutions(LOWEST_LOSS)
    except InputError:  # no loss of any run was finite
        return


def logits(trained: Trained, kept: Kept, part: Part) -> tuple[Tensor, Tensor] | None:
    """Return what kept weights say of a part of the data, and the labels; None if not all that they say is finite."""
    said, labels = trained.outputs(kept, part)
    return (said, labels) if said.isfinite().all() else None


def values(results: Results, label: str, metric: str, which: str = LAST) -> Values:
    """Return a measurement on test of a method's kept weights at its own best rate, by seed.

    Args:
        results: The comparison, with what the study measured.
        label: Label of the method.
        metric: Name of the measurement.
        which: One of `POINTS`.
    """
    name = metric if which == LAST else f"{metric}@{which}"
    return results.at(label, best_rate(results, label), "test", metric=name)


def gaps(results: Results, metric: str, which: str = LAST, plain: str | None = None) -> dict[str, Difference]:
    """Return what every method's measurement is beyond plain training's, paired over the seeds.

    Args:
        results: The comparison, with what the study measured.
        metric: Name of the measurement.
        which: At which of `POINTS` the methods stand.
        plain: At which plain training stands; by default the same.
    """
    other = values(results, BASELINE, metric, plain or which)
    return {
        label: paired_difference(values(results, label, metric, which), other)
        for label in results.methods
        if label != BASELINE
    }


def verdicts(
    found: Mapping[str, Difference],
    higher_is_better: bool,
    decimals: int,
    words: tuple[str, str] = ("better", "worse"),
) -> str:
    """Say of several things whether they are better than what they were compared with, without a full stop.

    Args:
        found: Their differences from it.
        higher_is_better: Direction of the metric.
        decimals: How many decimals it is written with.
        words: What better and worse mean here, such as lower and higher.

    Example:
        >>> verdicts({"ema": Difference(3, -0.02, -0.03, -0.01), "swa": Difference(3, 0.1, -0.1, 0.3)}, False, 2)
        'better beyond noise: ema (−0.02, 95 % interval −0.03 to −0.01); no difference beyond noise: swa'
    """
    if len(found) > 1 and all(gap.judge(higher_is_better) == "unclear" for gap in found.values()):
        return "none differs beyond noise"
    groups: dict[str, list[str]] = {}
    for name, gap in found.items():
        judged = gap.judge(higher_is_better)
        shown = {"unclear": name, "unknown": f"{name} ({_mean(gap, decimals)})"}.get(judged)
        shown = shown or f"{name} ({show_difference(gap, decimals)})"
        groups.setdefault(judged, []).append(shown)
    said = {
        "better": f"{words[0]} beyond noise",
        "worse": f"{words[1]} beyond noise",
        "unclear": "no difference beyond noise",
        "unknown": "cannot be told",
    }
    return "; ".join(f"{said[judged]}: {', '.join(groups[judged])}" for judged in said if judged in groups)


def _mean(gap: Difference, decimals: int) -> str:
    return "no common seed" if gap.mean is None else signed(gap.mean, decimals)
