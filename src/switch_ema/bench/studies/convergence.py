"""How many epochs does each method need to where plain training ends, and to points on the way there?"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from switch_ema.bench.plots import Plot, bars, lines
from switch_ema.bench.settings import Settings
from switch_ema.bench.stats import BASELINE, Results, Spread, best_rate, paired_difference, spread
from switch_ema.bench.studies.labels import with_wrong_labels
from switch_ema.bench.studies.pace import END, Pace, paces
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
)
from switch_ema.bench.studies.words import at_edges, curve
from switch_ema.bench.wording import NONE, show_difference

if TYPE_CHECKING:
    from switch_ema.bench.studies.trained import Trained

SHARES = {0.9: "90 % of the way", 0.95: "95 %", 0.99: "99 %", 1.0: "all the way"}
"""Targets: shares of the way from plain training's first value to its last."""

_TEXT = (
    "Every method stands at its own best learning rate, chosen by the last value on validation. The targets are "
    "set seed by seed by plain training: the value at which it ends, and shares of the way there from its value after "
    "the first measured epoch. The time is where the test curve, straight between epochs, first is as good as the "
    "target. Differences are paired over the seeds; a method is called faster only if it gets there with every seed "
    "and the 95 % interval of its difference lies below zero. Rows with another rate of plain training show what the "
    "rate alone does. Seconds are those of the training run: plain training and the averages that ride on it share one."
)


def _arms(base: Settings) -> list[Arm]:
    methods = "baseline,ema,swa,sema,sema:decay=window 0.2 epochs"
    return with_wrong_labels(base, methods=methods, lr=rates(base))


def _measure(arm: Arm, trained: Trained | None) -> Measured:
    """Keep what an epoch of each method takes in seconds of training."""
    return Measured(sheets={"seconds": trained.seconds_per_epoch() if trained else {}})


def _findings(arms: Sequence[Reading]) -> Findings:
    panels, sentences = [], []
    for arm in arms:
        results = arm.trained
        found = {share: paces(results, share) for share in SHARES}
        said = _sentences(arm, found[END])
        curves = [curve(results, label, best_rate(results, label)) for label in results.methods]
        plots = [
            lines(f"Test {results.metric}", "epoch", f"test {results.metric}", curves),
            _times(results, found),
        ]
        sentence = f"{arm.title}: {' '.join(said)}"
        panels.append(Panel(arm.title, sentence, _TEXT, plots, _table(arm, found)))
        sentences.append(sentence)
    note = (
        "Every interval stands for one comparison: of the many in the tables, one in twenty excludes zero by chance. "
        "Training of a few seconds tells little of the seconds that longer training would take."
    )
    return Findings(sentences, panels, [note, *at_edges({arm.title: arm.trained for arm in arms})])


def _sentences(arm: Reading, found: Sequence[Pace]) -> list[str]:
    """Say who gets first to where plain training ends, whether a rate does the same, and what switching does."""
    results = arm.trained
    methods = [pace for pace in found if pace.name in results.methods and pace.name != BASELINE]
    plain = next(pace for pace in found if pace.name == BASELINE)
    if plain.mean is None:
        return ["plain training has no finite value to reach."]
    if len(results.seeds) == 1:
        told = "; ".join(f"{pace.name} {_epochs(pace)}" for pace in methods)
        return [
            f"one seed cannot tell who is faster; plain training gets to its end in {plain.mean:.1f} epochs, {told}."
        ]
    faster = sorted((pace for pace in methods if pace.faster), key=lambda pace: pace.mean or 0)
    if not faster:
        return [f"no method gets to where plain training ends ({plain.mean:.1f} epochs) sooner, beyond noise."] + [
            _switching(pace) for pace in methods if _switches(arm, pace)
        ]
    first = faster[0]
    others = f"; also sooner beyond noise: {', '.join(pace.name for pace in faster[1:])}" if faster[1:] else ""
    steps = f", {_steps(arm, first)} instead of {_steps(arm, plain)} optimizer steps" if _steps(arm, first) else ""
    said = (
        f"{first.name} gets to where plain training ends in {_epochs(first)} instead of {plain.mean:.1f}{steps}: "
        f"{show_difference(first.saved, 1)}{others}."
    )
    slower = [pace for pace in methods if _switches(arm, pace) and pace not in faster]
    return [said, *_rate_alone(first, found, results), *map(_switching, slower)]


def _rate_alone(first: Pace, found: Sequence[Pace], results: Results) -> list[str]:
    """Compare the fastest with plain training at whichever other rate is fastest, chosen in its favour."""
    plain = [pace for pace in found if pace.name not in results.methods and pace.always]
    if not plain:
        return ["Plain training at no other rate gets there with every seed."]
    control = min(plain, key=lambda pace: pace.mean or 0)
    gap = paired_difference(first.times, control.times)
    verb = {"better": "is still slower", "worse": "is faster still"}.get(gap.judge(False), "is as fast within noise")
    return [
        f"{control.name.capitalize()} {verb} ({_epochs(control)}; {first.name} minus that: {show_difference(gap, 1)})."
    ]


def _switching(pace: Pace) -> str:
    if not pace.always:
        return f"{pace.name} gets there with only {spread(pace.times.values()).n} of {len(pace.times)} seeds."
    verb = {"worse": "is slower", "better": "is faster"}.get(pace.saved.judge(False), "is no different beyond noise")
    return f"{pace.name} {verb}: {_epochs(pace)} ({show_difference(pace.saved, 1)})."


def _switches(arm: Reading, pace: Pace) -> bool:
    return any(method["label"] == pace.name and method["switches"] for method in arm.run["methods"])


def _epochs(pace: Pace) -> str:
    """Write the epochs to a target, and how many seeds get there where not all do."""
    reached, all_ = spread(pace.times.values()).n, len(pace.times)
    if pace.mean is None:
        return "never"
    return f"{pace.mean:.1f} epochs" + ("" if pace.always else f" with {reached} of {all_} seeds")


def _steps(arm: Reading, pace: Pace) -> str:
    steps = arm.run.get("steps_per_epoch")
    return "" if steps is None or pace.mean is None else f"{pace.mean * steps:.0f}"


def _times(results: Results, found: Mapping[float, Sequence[Pace]]) -> Plot:
    """Draw the epochs to every target."""
    series: list[tuple[str, list[Spread]]] = [
        (label, [spread(pace.times.values()) for share in SHARES for pace in found[share] if pace.name == label])
        for label in results.methods
    ]
    return bars("Epochs to the targets", "epochs", list(SHARES.values()), series)


def _table(arm: Reading, found: Mapping[float, Sequence[Pace]]) -> Table:
    seconds = arm.sheets.get("seconds", {})
    rows = []
    for place, pace in enumerate(found[END]):
        an_epoch = seconds.get(BASELINE if pace.name.startswith(f"{BASELINE} at") else pace.name)
        spent = NONE if an_epoch is None or pace.mean is None else f"{an_epoch * pace.mean:.2f}"
        early = [_cell(found[share][place]) for share in SHARES]
        gap = NONE if pace.name == BASELINE else show_difference(pace.saved, 1)
        rows.append((pace.name, f"{pace.lr:g}", *early, gap, _steps(arm, pace) or NONE, spent))
    head = ["Method", "Rate", *SHARES.values(), "Epochs minus plain training's", "Steps", "Seconds"]
    return head, rows


def _cell(pace: Pace) -> str:
    return _epochs(pace).replace(" epochs", "") if pace.times else NONE


STUDY = Study(
    question="Does averaging reach the goal in fewer epochs?",
    claims=(
        Claim("Switch EMA (2402.09240)", "Switching makes training converge faster, at no extra cost.", "V-text"),
        Claim(
            "EMA of weights (2411.18704)",
            "The average is better than training throughout, far more so early.",
            "V-text",
        ),
        Claim(
            "Noisy quadratic",
            "In the mean Switch EMA contracts more slowly than plain training and its EMA; what is sooner is the lower "
            "noise of the weights that are measured.",
            "derived",
        ),
    ),
    task="classification",
    given={"model": "mlp", "epochs": "20", "seeds": "5", "lr": "0.05"},
    options={},
    data_options=FOR_DIGITS,
    recipe="b-cifar100-resnet18",
    arms=_arms,
    findings=_findings,
    measure=_measure,
)
