"""How much two trainings with different seeds disagree, method by method."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from switch_ema.bench.kept import LAST, LOWEST_LOSS
from switch_ema.bench.plots import bars
from switch_ema.bench.stats import BASELINE, Difference, spread
from switch_ema.bench.studies.pairs import Matrix, between, over_pairs, pair_spread
from switch_ema.bench.studies.standing import (
    BEFORE_SWA,
    POINTS,
    best_of_averages,
    logits,
    standing,
    values,
    verdicts,
)
from switch_ema.bench.studies.study import FOR_DIGITS, Arm, Claim, Findings, Measured, Panel, Reading, Study
from switch_ema.bench.studies.words import at_edges
from switch_ema.bench.wording import NONE, show_difference, show_spread, signed

if TYPE_CHECKING:
    from torch import Tensor

    from switch_ema.bench.kept import Kept
    from switch_ema.bench.results import Row
    from switch_ema.bench.studies.trained import Trained

MEASURES = {"churn": "share of test examples that two seeds name differently", "js": "Jensen-Shannon divergence, nats"}
"""How far two networks are apart."""
_AXES = {"churn": "churn", "js": "divergence, nats"}
_DECIMALS = 4
_TEXT = (
    "Churn is the share of test examples that two networks name differently; the Jensen-Shannon divergence of their "
    "probabilities is the true one, in nats, from 0 to 0.693. Two networks differ by their seed: initial weights, the "
    "order of the batches and, where labels are made wrong, which. Every method stands at its own best learning rate. "
    "Values are means over all pairs of seeds, whiskers the lowest and highest pair. Intervals are jackknife intervals "
    "over the seeds, since pairs that share a seed are not independent; differences between methods are taken pair by "
    "pair before. The last column compares with plain training of the same seed, so it says what the method itself "
    "changes (and, where it stands at another rate, what the rate changes)."
)


def _measure(arm: Arm, trained: Trained | None) -> Measured:
    """Compare every two seeds of a method, and every method with plain training of the same seed."""
    from switch_ema.analysis.consistency import churn, consistency, js_divergence

    if trained is None:
        return Measured()
    rows: list[Row] = []
    sheets: dict[str, dict[str, Any]] = {}
    said: dict[tuple[str, str], dict[int, tuple[Kept, Tensor]]] = {}
    for kept in standing(trained):
        found = logits(trained, kept, "test")
        if found is not None:
            said.setdefault((kept.which, kept.method), {})[kept.seed] = kept, found[0].double().softmax(1)
            if kept.which != LAST:
                right = (found[0].argmax(1) == found[1]).double().mean().item()
                rows.append(trained.row(kept, trained.results.metric, right, True))
    for (which, method), of in said.items():
        plain = said.get((which, BASELINE), {})
        for seed, (kept, probabilities) in of.items():
            if method != BASELINE and seed in plain:
                other = plain[seed][1]
                rows.append(trained.row(kept, "churn_to_plain", churn(probabilities, other), None))
                rows.append(trained.row(kept, "js_to_plain", js_divergence(probabilities, other).mean().item(), None))
        if len(of) > 1:
            apart = consistency([probabilities for _, probabilities in of.values()])
            matrices = {name: _rounded(getattr(apart, name)) for name in MEASURES}
            sheets.setdefault(which, {})[method] = {"seeds": list(of), **matrices}
    return Measured(rows, sheets)


def _rounded(matrix: Tensor) -> list[list[float]]:
    return [[round(value, 6) for value in row] for row in matrix.tolist()]


@dataclass(frozen=True)
class _Apart:
    """How far the seeds of a method are apart, and what that is beyond other weights' of the same seeds."""

    sheet: Mapping[str, Any]

    def matrix(self, name: str, seeds: Sequence[int]) -> Matrix:
        """Return the pairs of some seeds."""
        places = [self.sheet["seeds"].index(seed) for seed in seeds]
        return [[self.sheet[name][i][j] for j in places] for i in places]

    def all(self, name: str) -> Matrix:
        """Return all pairs."""
        return self.matrix(name, self.sheet["seeds"])

    def minus(self, other: _Apart, name: str) -> Difference:
        """Return the mean difference over the pairs of seeds that both have."""
        seeds = [seed for seed in self.sheet["seeds"] if seed in other.sheet["seeds"]]
        return over_pairs(between(self.matrix(name, seeds), other.matrix(name, seeds)))


def _findings(arms: Sequence[Reading]) -> Findings:
    panels = [_panel(arm) for arm in arms]
    notes = [
        "Networks that are right more often have less room to disagree: read churn beside the accuracy.",
        "The paper's divergences are no true Jensen-Shannon divergences (some are above 0.693, the highest there is), "
        "so only their direction can be compared.",
        BEFORE_SWA,
        "The paper sets an average at its lowest validation loss against plain training after its last epoch; what "
        "stopping alone gives is seen where plain training is stopped too.",
    ]
    edges = at_edges({arm.title: arm.trained for arm in arms})
    return Findings([panel.sentence for panel in panels], panels, [*notes, *edges])


def _panel(arm: Reading) -> Panel:
    results = arm.trained
    found = {which: {method: _Apart(sheet) for method, sheet in of.items()} for which, of in arm.sheets.items()}
    last, early = found.get(LAST, {}), found.get(LOWEST_LOSS, {})
    if BASELINE not in last:
        told = "it takes two seeds of plain training that end with finite values to compare them."
        return Panel(f"Consistency: {arm.title}", f"{arm.title}: {told}", _TEXT)
    plain = last[BASELINE]
    churn = 100 * (pair_spread(plain.all("churn")).mean or 0)
    said = [
        f"Two seeds of plain training disagree on {churn:.1f} % of the test examples after the last epoch; "
        f"{_told(last, plain)}",
        f"Averages at their lowest validation loss against the same: {_told(early, plain)}",
    ]
    if BASELINE in early:
        said.append(f"All at their lowest validation loss: {_told(early, early[BASELINE])}")
    plots = []
    for name, title in MEASURES.items():
        series = [
            (label, [pair_spread(of[label].all(name)) if label in of else spread([]) for of in found.values()])
            for label in results.methods
        ]
        plots.append(bars(f"{title[0].upper()}{title[1:]}", _AXES[name], [POINTS[which] for which in found], series))
    return Panel(f"Consistency: {arm.title}", f"{arm.title}: {'. '.join(said)}.", _TEXT, plots, _table(arm, found))


def _told(of: Mapping[str, _Apart], plain: _Apart) -> str:
    """Say how the churn of the averages compares, with its relative change."""
    churn = pair_spread(plain.all("churn")).mean
    gaps = {label: each.minus(plain, "churn") for label, each in of.items() if label != BASELINE}
    named = {f"{label}{_relative(gap, churn)}": gap for label, gap in gaps.items()}
    return verdicts(named, False, _DECIMALS, ("less", "more"))


def _relative(gap: Difference, plain: float | None) -> str:
    return f" {signed(100 * gap.mean / plain, 0)} %" if gap.mean is not None and plain else ""


def _show(found: Difference) -> str:
    if found.n == 2 and found.mean is not None:
        return f"{signed(found.mean, _DECIMALS)}, no interval from one pair"
    return show_difference(found, _DECIMALS)


def _table(arm: Reading, found: Mapping[str, Mapping[str, _Apart]]) -> tuple[list[str], list[list[str]]]:
    results = arm.trained
    rows = []
    for which, of in found.items():
        for label, each in of.items():
            row = [f"{label}, {POINTS[which]}"]
            for name in MEASURES:
                row.append(_show(over_pairs(each.all(name))).lstrip("+"))
                plain = of.get(BASELINE)
                gap = each.minus(plain, name) if plain and label != BASELINE else None
                row.append(_show(gap) if gap else NONE)
            to_plain = values(results, label, "churn_to_plain", which)
            row.append(show_spread(spread(to_plain.values()), _DECIMALS) if to_plain else NONE)
            row.append(show_spread(spread(values(results, label, results.metric, which).values()), _DECIMALS))
            rows.append(row)
    head = ["Weights", "Churn", "minus plain training's", "Jensen-Shannon", "minus plain training's"]
    return [*head, "Churn to plain training", f"Test {results.metric}"], rows


STUDY = Study(
    question="How much do two trainings with different seeds disagree, and do averages disagree less?",
    claims=(
        Claim(
            "EMA of weights (2411.18704)",
            "Averages at their lowest validation loss disagree less than plain training: churn 18.8 to 11.7 % "
            "(ResNet-18, CIFAR-100), 15.7 to 8.9 % (Wide ResNet), 23.7 to 20.1 % (VGG-16), 3.8 to 2.7 % (ResNet-18, "
            "CIFAR-10), 29.4 to 15.3 % (Tiny ImageNet).",
            "V-text",
        ),
        Claim(
            "EMA of weights (2411.18704)",
            "Far less where labels are wrong: churn 38.0 to 14.9 % on CIFAR-100N, 23.3 to 5.6 % on CIFAR-10N.",
            "V-text",
        ),
        Claim(
            "EMA of weights (2411.18704)",
            "Its code normalises over the batch in place of the classes and takes the divergence the other way round, "
            "so its Jensen-Shannon values are none.",
            "V-code",
        ),
        Claim("EMA of weights (2411.18704)", "So churn falls by 15 to 76 %, by 15 to 48 % on right labels.", "derived"),
    ),
    task="classification",
    given={"model": "mlp", "epochs": "20", "seeds": "5", "lr": "0.05"},
    options={},
    data_options=FOR_DIGITS,
    recipe="b-cifar100-resnet18",
    arms=best_of_averages,
    findings=_findings,
    measure=_measure,
)
