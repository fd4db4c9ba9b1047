"""Can averaging take the place of decaying the learning rate?"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from switch_ema.bench.plots import bars, lines
from switch_ema.bench.settings import Settings
from switch_ema.bench.stats import BASELINE, Results, best_rate, paired_difference, spread, validation_rank
from switch_ema.bench.studies.study import FOR_DIGITS, Arm, Claim, Findings, Panel, Reading, Study, rates, vary
from switch_ema.bench.studies.words import apart, at_edges, curve
from switch_ema.bench.wording import decimals_for, show_difference, show_spread

SCHEDULES = {
    "constant": "constant rate",
    "wsd": "constant, then linear to zero over the last fifth",
    "step": "divided by 5 at 30, 60 and 80 %",
    "cosine": "cosine",
}
"""Schedules with what they are."""
_MILESTONES, _FACTOR = (0.3, 0.6, 0.8), 0.2  # as the EMA paper has them in its figure for steps

_TEXT = (
    "Every method stands at its own best learning rate under every schedule, chosen by the last value on validation. "
    "Seeds are paired across schedules too: they share the data, the initial weights and the order of the batches. "
    "The average spoken of is the one that is best on validation under that schedule."
)

Values = dict[int, float | None]


def _arms(base: Settings) -> list[Arm]:
    methods = "baseline,ema,ema:decay=window 3 epochs,swa,sema"
    base = vary(base, methods=methods, lr=rates(base))
    stepwise = vary(base, milestones=tuple(share * base.epochs for share in _MILESTONES), step_factor=_FACTOR)
    return [
        Arm(name, title, vary(stepwise if name == "step" else base, schedule=name)) for name, title in SCHEDULES.items()
    ]


def _findings(arms: Sequence[Reading]) -> Findings:
    found = {arm.name: arm.trained for arm in arms}
    ends = {name: _last(results) for name, results in found.items()}
    results = found["cosine"]
    leaders = {name: _leader(of) for name, of in found.items()}
    decimals = decimals_for(spread(of.values()).mean for values in ends.values() for of in values.values())
    higher = results.higher_is_better

    def compared(name: str, ours: Values, other: str, theirs: Values) -> str:
        return f"{apart(name, other, paired_difference(ours, theirs), higher, decimals)}."

    plain = ends["cosine"][BASELINE]
    target = "plain training with cosine decay"
    answer = [compared("Plain training at a constant rate", ends["constant"][BASELINE], target, plain)]
    for label in results.methods:
        if label != BASELINE:
            chosen = ", the best on validation," if label == leaders["constant"] else ""
            answer.append(compared(f"A constant rate with {label}{chosen}", ends["constant"][label], target, plain))
    within = [
        compared(f"With the schedule {name}, {leader}", ends[name][leader], "plain training", ends[name][BASELINE])
        for name, leader in leaders.items()
    ]
    panels = [_ends(found, ends, " ".join(answer), decimals), _gains(found, ends, " ".join(within), decimals)]
    notes = ["No difference beyond noise does not mean equal: the interval says how large a difference may still be."]
    return Findings([*answer, *within], panels, [*notes, *at_edges(found)])


def _last(results: Results) -> dict[str, Values]:
    """Return the last test values of every method at its own best rate."""
    return {label: results.at(label, best_rate(results, label), "test") for label in results.methods}


def _leader(results: Results) -> str:
    """Return the average that is best on validation."""
    averages = [label for label in results.methods if label != BASELINE]
    return min(averages, key=lambda label: validation_rank(results, label, best_rate(results, label)))


def _ends(found: Mapping[str, Results], ends: Mapping[str, dict[str, Values]], sentence: str, decimals: int) -> Panel:
    results = found["cosine"]
    methods = results.methods
    spreads = {label: [spread(ends[name][label].values()) for name in found] for label in methods}
    rows = [
        (label, *(f"{show_spread(value, decimals)} at {best_rate(found[name], label):g}"
                  for name, value in zip(found, spreads[label], strict=True)))
        for label in methods
    ]  # fmt: skip
    title = f"Last test {results.metric}"
    plot = bars(title, f"test {results.metric}", list(found), list(spreads.items()))
    about = "; ".join(f"{name}: {SCHEDULES[name]}" for name in found)
    return Panel("With and without decay", sentence, f"{_TEXT} Schedules: {about}.", [plot], (["Method", *found], rows))


def _gains(found: Mapping[str, Results], ends: Mapping[str, dict[str, Values]], sentence: str, decimals: int) -> Panel:
    plots = []
    for name, results in found.items():
        curves = [curve(results, label, best_rate(results, label)) for label in results.methods]
        plots.append(lines(f"Test {results.metric}, {name}", "epoch", f"test {results.metric}", curves))
    rows = [
        (label, *(show_difference(paired_difference(ends[name][label], ends[name][BASELINE]), decimals)
                  for name in found))
        for label in found["cosine"].methods
        if label != BASELINE
    ]  # fmt: skip
    text = "Each method minus plain training under the same schedule, both at their own best rates, paired over seeds."
    return Panel("What averaging adds under each schedule", sentence, text, plots, (["Method", *found], rows))


STUDY = Study(
    question="Can averaging replace the decay of the learning rate?",
    claims=(
        Claim(
            "EMA of weights (2411.18704)",
            "With a rate divided by 5 at 60, 120 and 160 of 200 epochs the average only matches plain training.",
            "V-text",
        ),
        Claim(
            "EMA of weights (2411.18704)",
            "Under wrong labels a rate that stays constant after the best epoch does not overfit: it is the decay that "
            "makes training learn wrong labels by heart.",
            "V-text",
        ),
    ),
    task="classification",
    given={"model": "mlp", "epochs": "20", "seeds": "5", "lr": "0.05"},
    options={"label_noise": "0.4"},
    data_options=FOR_DIGITS,
    recipe="b-cifar100-resnet18",
    arms=_arms,
    findings=_findings,
)
