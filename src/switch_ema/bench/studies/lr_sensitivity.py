"""How forgiving of a wrong learning rate is each method: best value, width of the good range, area under the curve?"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from switch_ema.bench.plots import Series, lines
from switch_ema.bench.settings import Settings
from switch_ema.bench.stats import BASELINE, Difference, Results, best_rate, paired_difference, spread, validation_rank
from switch_ema.bench.studies.sensitivity import at_lower_rate, grid, height, octaves
from switch_ema.bench.studies.study import FOR_DIGITS, Arm, Claim, Findings, Panel, Reading, Study, rates, vary
from switch_ema.bench.studies.words import apart, at_edges
from switch_ema.bench.wording import NONE, count, decimals_for, show, show_difference, show_gap, show_spread

TOLERANCE = 0.02
"""How far from the best a value may be and still be good, as a share of the best."""

_TEXT = (
    f"Last test value at every rate; the best rate of a method is chosen on validation. A rate is good where the value "
    f"is within {100 * TOLERANCE:g} % of the method's own best, or of the best of all methods; widths are in octaves "
    "(doublings of the rate), straight between rates of the grid, seed by seed. The mean height is the area under the "
    "curve over the logarithm of the rate, divided by its length. A run that diverged counts as the worst value of "
    "all. A method that only lowered the rate would move the curve to the right: its good range would be no wider, "
    "unless one of them reaches beyond the grid ('at least')."
)
_CONTROL = (
    "A switch keeps only a part of the progress, as a lower rate would. Here each switching method at a rate is set "
    "against plain training and against the plain average at that part of the rate, read from their own curves between "
    "the rates of the grid; rates whose part lies below the grid are left out. The mean is over these rates."
)

Values = Mapping[int, float]


def _arms(base: Settings) -> list[Arm]:
    methods = "baseline,ema,sema,sema:decay=window 0.2 epochs,lookahead"
    settings = vary(base, methods=methods, lr=rates(base, (0.1, 0.2, 0.5, 1, 2, 5, 10)))
    return [Arm("grid", f"{base.model} on {base.data}", settings)]


def _findings(arms: Sequence[Reading]) -> Findings:
    arm = arms[0]
    results = arm.trained
    grids = {label: grid(results, label) for label in results.methods}
    if not any(grids.values()):
        return Findings(["No value is finite, so there is no result."], [])
    decimals = decimals_for(value for of in grids.values() for values in of.values() for value in values)
    active = [method["label"] for method in arm.run["methods"] if method["switches"]]
    kept = {method["label"]: method["retained_fraction"] for method in arm.run["methods"]}
    panels = [_whole(results, grids, active, decimals), _high(results, active, decimals)]
    if active:
        panels.append(_control(results, grids, {label: kept[label] for label in active}, decimals))
    return Findings([panel.sentence for panel in panels], panels, at_edges({arm.title: results}))


def _whole(
    results: Results, grids: Mapping[str, dict[int, list[float]]], active: Sequence[str], decimals: int
) -> Panel:
    own = {label: best_rate(results, label) for label in results.methods}
    best = {label: results.at(label, own[label], "test") for label in results.methods}
    leader = min(results.methods, key=lambda label: validation_rank(results, label, own[label]))
    wide, good, mean = {}, {}, {}
    for label, of in grids.items():
        place = results.lrs.index(own[label])
        top = results.lrs.index(own[leader])
        wide[label] = {s: _octaves(results, values, values[place]) for s, values in of.items()}
        good[label] = {s: _octaves(results, v, grids[leader][s][top]) for s, v in of.items() if s in grids[leader]}
        mean[label] = {s: height(results.lrs, values) for s, values in of.items()}
    higher, said = results.higher_is_better, []
    for label in active or [label for label in results.methods if label != BASELINE]:
        gaps = [paired_difference(found[label], found[BASELINE]) for found in (best, wide, mean)]
        said.append(
            f"{apart(f'{label} at its best rate', 'plain training at its own', gaps[0], higher, decimals)}; "
            f"its good range of rates is {_octave_words(wide, label, gaps[1])}; "
            f"over the whole grid {apart('it', 'plain training', gaps[2], higher, decimals)}."
        )
    rows = []
    for label in results.methods:
        gap = paired_difference(mean[label], mean[BASELINE])
        edge = "at least " if _reaches_edge(results, grids[label], own[label]) else ""
        rows.append(
            (label, f"{own[label]:g}", show_spread(spread(best[label].values()), decimals),
             edge + show_spread(spread(wide[label].values()), 1), show_spread(spread(good[label].values()), 1),
             show_spread(spread(mean[label].values()), decimals),
             NONE if label == BASELINE else show_difference(gap, decimals))
        )  # fmt: skip
    head = ["Method", "Best rate", f"Test {results.metric} there", "Octaves near its own best"]
    head += ["Octaves near the best of all", "Mean height", "Mean height minus plain training's"]
    series = [
        Series.of(label, results.lrs, [spread(results.at(label, lr, "test").values()) for lr in results.lrs])
        for label in results.methods
    ]
    plot = lines("Last value over the learning rate", "learning rate", f"test {results.metric}", series, log_x=True)
    return Panel("Best value, good range, area", " ".join(said), _TEXT, [plot], (head, rows))


def _octaves(results: Results, values: Sequence[float], best: float) -> float:
    slack = TOLERANCE * abs(best)
    threshold = best - slack if results.higher_is_better else best + slack
    return octaves(results.lrs, values, threshold, results.higher_is_better)


def _octave_words(wide: Mapping[str, Values], label: str, gap: Difference) -> str:
    ours, theirs = (show(spread(wide[name].values()).mean, 1) for name in (label, BASELINE))
    words = {"better": "wider", "worse": "narrower", "unclear": "no wider or narrower beyond noise"}
    verb = words.get(gap.judge(higher_is_better=True), "not to be told apart")
    return f"{verb} ({ours} octaves against {theirs}; {show_difference(gap, 1)})"


def _reaches_edge(results: Results, of: Mapping[int, Sequence[float]], own: float) -> bool:
    """Say whether the mean curve is still good at the lowest or highest rate."""
    means = [spread(column).mean or 0.0 for column in zip(*of.values(), strict=True)]
    best = means[results.lrs.index(own)] if means else 0.0
    sign, slack = (1 if results.higher_is_better else -1), TOLERANCE * abs(best)
    return bool(means) and any(sign * (value - best) >= -slack for value in (means[0], means[-1]))


def _high(results: Results, active: Sequence[str], decimals: int) -> Panel:
    """Compare at rates above plain training's best."""
    own, higher = best_rate(results, BASELINE), results.higher_is_better
    above = [lr for lr in results.lrs if lr > own]
    said, rows = [], []
    for label in (label for label in results.methods if label != BASELINE):
        gaps = {
            lr: paired_difference(results.at(label, lr, "test"), results.at(BASELINE, lr, "test")) for lr in results.lrs
        }
        rows.append((label, *(show_difference(gaps[lr], decimals) for lr in results.lrs)))
        if label not in active or not above:
            continue
        verdicts = {lr: gaps[lr].judge(higher) for lr in above}
        told = ", ".join(
            f"{lr / own:.2g} times: {show(spread(results.at(label, lr, 'test').values()).mean, decimals)} against "
            f"{show(spread(results.at(BASELINE, lr, 'test').values()).mean, decimals)}"
            for lr in above
        )
        better = sum(verdict == "better" for verdict in verdicts.values())
        said.append(f"{label} ({told}) is better beyond noise at {better} of {len(above)} such rates.")
    start = "At the same rate, above plain training's best: "
    sentence = start + " ".join(said) if said else "Plain training is best at the highest rate tried."
    head = ["Minus plain training at the same rate", *(f"{lr:g}" for lr in results.lrs)]
    return Panel("At the same rate", sentence, "", [], (head, rows))


def _control(
    results: Results,
    grids: Mapping[str, dict[int, list[float]]],
    kept: Mapping[str, float | None],
    decimals: int,
) -> Panel:
    """Set every switching method against plain training, and the plain average, at the rate that a switch leaves."""
    said, rows = [], []
    series = [_series(results, BASELINE, grids[BASELINE], 1.0)]
    for label, share in kept.items():
        if share is None:
            continue
        for control in [name for name in ("baseline", "ema") if name in grids]:
            lower = {seed: at_lower_rate(results.lrs, values, share) for seed, values in grids[control].items()}
            ours = {seed: _common(grids[label][seed], lower[seed]) for seed in grids[label] if seed in lower}
            theirs = {seed: _common(lower[seed], lower[seed]) for seed in ours}
            gap = paired_difference(ours, theirs)
            name = "plain training" if control == BASELINE else f"plain {control}"
            at = {
                lr: paired_difference(
                    {seed: grids[label][seed][place] for seed in ours}, {seed: lower[seed][place] for seed in ours}
                )
                for place, lr in enumerate(results.lrs)
                if lr * share >= results.lrs[0] * (1 - 1e-9)
            }
            cells = [show_gap(at[lr], decimals) if lr in at else NONE for lr in results.lrs]
            rows.append((label, f"{share:.0%}".replace("%", " %"), name, show_difference(gap, decimals), *cells))
            if control == BASELINE:
                where = f"{name} at {share:.0%} of the rate".replace("%", " %")
                verdict = apart(label, where, gap, results.higher_is_better, decimals)
                said.append(f"{verdict}; {_beyond_noise(at, results.higher_is_better)}.")
                series.append(_series(results, label, grids[label], share))
    plot = lines(
        "Last value over the rate that a switch leaves", "learning rate times the part that a switch keeps",
        f"test {results.metric}", series, log_x=True,
    )  # fmt: skip
    head = ["Method", "Part kept", "Against", "Mean difference over the rates", *(f"At {lr:g}" for lr in results.lrs)]
    sentence = " ".join(said) or "No method has a part that its switches keep, so there is no control."
    return Panel("A lower rate in disguise?", sentence, _CONTROL, [plot], (head, rows))


def _beyond_noise(at: Mapping[float, Difference], higher_is_better: bool) -> str:
    """Say at which rates a difference leaves out zero."""
    judged = {lr: gap.judge(higher_is_better) for lr, gap in at.items()}
    parts = []
    for kind in ("better", "worse"):
        rates = [f"{lr:g}" for lr in judged if judged[lr] == kind]
        if rates:
            parts.append(f"{kind} beyond noise at {', '.join(rates)}")
    start = f"of these {count(len(at), 'rate')}, each for itself, it is"
    return f"{start} {' and '.join(parts)}" if parts else f"{start} at none better or worse beyond noise"


def _series(results: Results, label: str, of: Mapping[int, Sequence[float]], share: float) -> Series:
    places = [float(f"{lr * share:.4g}") for lr in results.lrs]
    spreads = [spread(column) for column in zip(*of.values(), strict=True)]
    return Series.of(label, places, spreads, results.methods.index(label))


def _common(values: Sequence[float | None], lower: Sequence[float | None]) -> float | None:
    """Return the mean over the rates at which the control has a value."""
    return spread(value for value, other in zip(values, lower, strict=True) if other is not None).mean


STUDY = Study(
    question="How forgiving of a wrong learning rate is each method?",
    claims=(
        Claim(
            "EMA of weights (2411.18704)",
            "Plain training and the average have the same best rate (ResNet-18 on CIFAR-100, validation at rates 0.4, "
            "0.8, 1.2, 1.6: 75.3, 75.8, 75.9, 75.1 plain and 75.4, 76.1, 76.1, 75.7 averaged).",
            "V-text",
        ),
        Claim(
            "Reading of the Switch EMA code",
            "A switch keeps only a part of an interval's progress, so it acts as a lower learning rate too.",
            "derived",
        ),
    ),
    task="classification",
    given={"model": "mlp", "epochs": "15", "seeds": "5", "lr": "0.05"},
    options={"label_noise": "0.4"},
    data_options=FOR_DIGITS,
    recipe="b-cifar100-resnet18",
    arms=_arms,
    findings=_findings,
)
