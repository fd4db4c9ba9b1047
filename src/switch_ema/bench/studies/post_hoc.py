"""Is a width of the average that is chosen after training worth more than a decay that was fixed before?"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from switch_ema.bench.plots import Plot, Series, lines
from switch_ema.bench.settings import Settings
from switch_ema.bench.stats import BASELINE, Results, paired_difference, spread
from switch_ema.bench.studies.study import (
    FOR_DIGITS,
    Arm,
    Claim,
    Findings,
    Measured,
    Panel,
    Reading,
    Study,
    Table,
    rates,
    vary,
)
from switch_ema.bench.studies.tuned import standing
from switch_ema.bench.studies.words import apart
from switch_ema.bench.widths import KIND
from switch_ema.bench.wording import NONE, decimals_for, show_gap, show_spread

if TYPE_CHECKING:
    from switch_ema.bench.studies.trained import Trained

WIDTHS = (0.03, 0.05, 0.075, 0.1, 0.15, 0.2, 0.25)
"""Standard deviations of the averages as parts of training."""
WINDOWS = (*WIDTHS, 0.4, 0.6, 1.0)
"""Windows of the EMAs as parts of training: beyond 0.2 the start of training cuts them off, so they go further."""

_TEXT = (
    "One training run carries all of it. The width of an average is the standard deviation of its profile over the "
    "steps, as a part of training. Widths after training are made from snapshots by least squares and have profiles of "
    "power functions, of which the widest, 0.25, lags 37 % of training behind; an EMA's is its window (1 / (1 - decay) "
    "steps) divided by all steps, as long as the start of training does not cut it off, and one of 0.25 lags 25 % "
    "behind. So EMAs go on to windows of all of training. The chosen width is the best on validation, in the mean over "
    "the seeds; the value is read on test. A constant, high rate leaves averages the most to do; a rate that "
    "falls, or is low, does much of their work."
)

Values = Mapping[int, float | None]


@dataclass(frozen=True)
class Choice:
    """An average whose width was chosen on validation.

    Attributes:
        width: The width.
        at_edge: Whether it is the narrowest or widest of those tried.
        test: Test value of every seed.
        by_width: Test value of every seed, by width.
    """

    width: float
    at_edge: bool
    test: Values
    by_width: Mapping[float, Values]


def _fixed(width: float, epochs: int) -> str:
    return f"ema:decay=window {width * epochs:g} epochs"


def _arms(base: Settings) -> list[Arm]:
    methods = [BASELINE, KIND, *(_fixed(width, base.epochs) for width in WINDOWS)]
    settings = vary(base, methods=",".join(methods), lr=rates(base, (0.02, 0.1, 0.3, 1)))
    return [Arm("widths", f"{base.model} on {base.data}", settings)]


def _measure(arm: Arm, trained: Trained | None) -> Measured:
    """Measure the average of every width, made from the snapshots."""
    from switch_ema.bench.sweep import sweep
    from switch_ema.bench.widths import read_sweep

    if trained is None:
        return Measured()
    sweep(trained.folder, WIDTHS, lambda told: None)
    metric = trained.results.metric
    rows = [
        [row["lr"], row["seed"], row["sigma_rel"], row["split"], row["values"][metric]]
        for row in read_sweep(trained.folder)
    ]
    return Measured(sheets={"widths": rows})


def _choose(widths: Sequence[float], read: Callable[[float, str], Values], higher_is_better: bool) -> Choice:
    """Choose a width on validation; where seeds diverge is no best one."""
    sign = 1 if higher_is_better else -1

    def rank(width: float) -> tuple[int, float, float]:
        found = spread(read(width, "val").values())
        return -found.n, 0.0 if found.mean is None else -sign * found.mean, width

    width = min(widths, key=rank)
    by_width = {each: read(each, "test") for each in widths}
    return Choice(width, width in (widths[0], widths[-1]), by_width[width], by_width)


def _choices(arm: Reading, lr: float) -> tuple[Choice, Choice, Values]:
    """Return what was chosen after training, what was chosen among fixed decays, and plain training, at one rate."""
    results = arm.trained

    def after(width: float, split: str) -> Values:
        return {
            seed: value
            for rate, seed, sigma, where, value in arm.sheets["widths"]
            if (rate, sigma, where) == (lr, width, split)
        }

    def before(width: float, split: str) -> Values:
        return results.at(_fixed(width, results.epochs), lr, split)

    higher = results.higher_is_better
    return _choose(WIDTHS, after, higher), _choose(WINDOWS, before, higher), results.at(BASELINE, lr, "test")


def _findings(arms: Sequence[Reading]) -> Findings:
    results = arms[0].trained
    plain = standing(results, BASELINE)
    places = {f"Plain training's best rate, {plain.lr:g}": plain.lr}
    if plain.lr != results.lrs[-1]:
        places[f"A high rate, {results.lrs[-1]:g}"] = results.lrs[-1]
    sentences, panels, notes = [], [], []
    for title, lr in places.items():
        panel, said, edges = _at_rate(arms[0], title, lr)
        panels.append(panel)
        sentences.append(said)
        notes += edges
    if plain.at_edge:
        notes.append("Plain training is best at the lowest or highest rate tried, so a better one may lie outside.")
    return Findings(sentences, panels, notes)


def _at_rate(arm: Reading, title: str, lr: float) -> tuple[Panel, str, list[str]]:
    """Return a panel, its sentence and its notes, for one learning rate."""
    results = arm.trained
    after, before, plain = _choices(arm, lr)
    higher = results.higher_is_better
    decimals = decimals_for([*after.test.values(), *plain.values()])
    chosen = f"the width chosen after training ({after.width:g} of it)"
    best_before = f"the best of {len(WINDOWS)} EMAs fixed before (window {before.width:g})"
    trained = apart(chosen, "plain training", paired_difference(after.test, plain), higher, decimals)
    among = apart("it", best_before, paired_difference(after.test, before.test), higher, decimals)
    sentence = f"{title}: {trained}; {among}. {_guessing(after, before, results)}"
    table = _table(after, before, plain, decimals)
    notes = [
        f"{title}: the best width {name} is the narrowest or widest tried, so a better one may lie outside."
        for name, choice in (("after training", after), ("fixed before", before))
        if choice.at_edge
    ]
    return Panel(title, sentence, _TEXT, [_plot(after, before, plain, results)], table), sentence, notes


def _guessing(after: Choice, before: Choice, results: Results) -> str:
    """Say against how many of the fixed decays the later choice is ahead."""
    gaps = {width: paired_difference(after.test, values) for width, values in before.by_width.items()}
    judged = {width: gap.judge(results.higher_is_better) for width, gap in gaps.items()}
    counts = {kind: [f"{w:g}" for w in WINDOWS if judged[w] == kind] for kind in ("better", "unclear", "worse")}
    if not any(counts.values()):
        return "Without an interval nothing can be said of what a wrong guess of the decay costs."
    words = {"better": "better than {}", "unclear": "no different beyond noise from {}", "worse": "worse than {}"}
    parts = [words[kind].format(_whose(widths)) for kind, widths in counts.items() if widths]
    return f"Of the EMAs fixed before, each for itself, the choice after training is {'; '.join(parts)}."


def _whose(widths: Sequence[str]) -> str:
    return f"all {len(WINDOWS)}" if len(widths) == len(WINDOWS) else f"those of window {', '.join(widths)}"


def _plot(after: Choice, before: Choice, plain: Values, results: Results) -> Plot:
    def series(name: str, values: Mapping[float, Values], place: int) -> Series:
        return Series.of(name, [*values], [spread(each.values()) for each in values.values()], place)

    shown = [
        series("plain training", dict.fromkeys(WINDOWS, plain), 0),
        series("width chosen after training", after.by_width, 1),
        series("EMA fixed before", before.by_width, 2),
    ]
    axis = "width of the average, part of training"
    return lines("Averages of every width", axis, f"test {results.metric}", shown, log_x=True)


def _table(after: Choice, before: Choice, plain: Values, decimals: int) -> Table:
    head = ["Width or window", "After training", "EMA fixed before", "Chosen minus this EMA"]
    rows = [
        (
            f"{width:g}" + (" (chosen)" if width == after.width else ""),
            show_spread(spread(after.by_width[width].values()), decimals) if width in after.by_width else NONE,
            show_spread(spread(fixed.values()), decimals),
            show_gap(paired_difference(after.test, fixed), decimals),
        )
        for width, fixed in before.by_width.items()
    ]
    gap = show_gap(paired_difference(after.test, plain), decimals)
    return head, [*rows, ("plain training", show_spread(spread(plain.values()), decimals), "", gap)]


STUDY = Study(
    question="Is the width of the average better chosen after training?",
    claims=(
        Claim(
            "EMA of weights (2411.18704)",
            "Five averages with decays from 0.968 to 0.998 each 16 steps run along, and the slower ones are better if "
            "their BatchNorm statistics are measured anew; the decay matters, and costs nothing to vary.",
            "V-text",
        ),
        Claim(
            "Switch EMA, its code",
            "The decay is fixed before training: 0.999 for ResNets, 0.9999 for transformers, 0.99 in some files.",
            "V-code",
        ),
    ),
    task="classification",
    given={"model": "mlp", "epochs": "20", "seeds": "5", "eval_every": "5", "schedule": "constant"},
    options={"label_noise": "0.4"},
    data_options=FOR_DIGITS,
    recipe="b-cifar100-resnet18",
    arms=_arms,
    findings=_findings,
    measure=_measure,
)
