"""Is the average better early in training, and what does stopping early gain?"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from switch_ema.bench.plots import bars, lines
from switch_ema.bench.settings import Settings
from switch_ema.bench.stats import BASELINE, Results, best_rate, paired_difference, spread
from switch_ema.bench.studies.labels import with_wrong_labels
from switch_ema.bench.studies.stopping import stopping
from switch_ema.bench.studies.study import FOR_DIGITS, Arm, Claim, Findings, Panel, Reading, Study, rates
from switch_ema.bench.studies.words import at_edges, curve
from switch_ema.bench.wording import decimals_for, show_spread, signed

BUDGET = (5, 10, 25, 50, 100)
"""Parts of the budget at which methods are compared, in percent of the epochs."""

_EARLY = (
    "The test value after parts of the epochs, every method with the learning rate and the decay that are best on "
    "validation at that very epoch, so that none is ahead for its rate alone; and on one and the same run, that of "
    "plain training at its best rate for the last epoch. Curves and table stand at each method's best rate for the "
    "last epoch. The schedule has not ended at these points: a training planned to be so short would decay sooner."
)


def _arms(base: Settings) -> list[Arm]:
    windows = ",".join(f"ema:decay=window {epochs:g} epochs" for epochs in (0.2, 1, 3, 8))
    methods = f"baseline,{windows},sema,sema:decay=window 0.2 epochs"
    return with_wrong_labels(base, methods=methods, lr=rates(base))


def _findings(arms: Sequence[Reading]) -> Findings:
    panels, sentences = [], []
    for arm in arms:
        for panel in (_early(arm), stopping(arm)):
            panels.append(panel)
            sentences.append(panel.sentence)
    notes = ["Every interval stands for one comparison, not for all of them at once."]
    return Findings(sentences, panels, [*notes, *at_edges({arm.title: arm.trained for arm in arms})])


def _early(arm: Reading) -> Panel:
    results = arm.trained
    own = {label: best_rate(results, label) for label in results.methods}
    points = _points(results, own[BASELINE])
    tuned = [_against_plain(results, kind, points) for kind in ("ema", "sema")]
    same = _against_plain(results, "ema", points, own[BASELINE])
    said = [f"Tuned for each part of the budget, {told}" for told in tuned if told]
    said += [f"On the run of plain training, {same}"] if same else []
    names = [f"{percent} %" for percent in points]
    values = {
        label: [spread(results.at(label, own[label], "test", epoch=epoch).values()) for epoch in points.values()]
        for label in results.methods
    }
    decimals = decimals_for(found.mean for of in values.values() for found in of)
    plots = [
        lines(f"Test {results.metric}", "epoch", f"test {results.metric}", [curve(results, m, own[m]) for m in own]),
        bars(f"After parts of the {results.epochs} epochs", f"test {results.metric}", names, list(values.items())),
    ]
    rows = [(m, f"{own[m]:g}", *(show_spread(found, decimals) for found in values[m])) for m in own]
    sentence = f"{arm.title}: {' '.join(filter(None, said))}"
    return Panel(f"Early: {arm.title}", sentence, _EARLY, plots, (["Method", "Rate", *names], rows))


def _points(results: Results, lr: float) -> dict[int, int]:
    """Return the epoch at each part of the budget, where it was measured; of equal epochs the first."""
    points: dict[int, int] = {}
    for percent in BUDGET:
        epoch = -(-results.epochs * percent // 100)
        if epoch not in points.values() and results.at(BASELINE, lr, "test", epoch=epoch):
            points[percent] = epoch
    return points


def _group(results: Results, kind: str) -> list[str]:
    return [label for label in results.methods if label.split(":")[0] == kind]


def _leader(results: Results, labels: Sequence[str], lrs: Sequence[float], epoch: int) -> tuple[str, float] | None:
    """Return the label and the rate with the best mean on validation at an epoch, of those with the most seeds."""
    found = {(label, lr): spread(results.at(label, lr, "val", epoch=epoch).values()) for label in labels for lr in lrs}
    sign = 1 if results.higher_is_better else -1
    known = {choice: (of.n, sign * of.mean) for choice, of in found.items() if of.mean is not None}
    return max(known, key=lambda choice: known[choice], default=None)


def _against_plain(results: Results, kind: str, points: Mapping[int, int], lr: float | None = None) -> str:
    """Say at which parts of the budget the best of a kind is ahead of plain training, tuned or at one rate."""
    lrs = results.lrs if lr is None else (lr,)
    found: dict[str, list[str]] = {}
    for percent, epoch in points.items():
        ours = _leader(results, _group(results, kind), lrs, epoch)
        theirs = _leader(results, [BASELINE], lrs, epoch)
        if ours is None or theirs is None:
            continue
        plain = results.at(*theirs, "test", epoch=epoch)
        gap = paired_difference(results.at(*ours, "test", epoch=epoch), plain)
        if gap.mean is not None:
            shown = f"{percent} % ({signed(gap.mean, decimals_for(plain.values()))})"
            found.setdefault(gap.judge(results.higher_is_better), []).append(shown)
    words = {
        "better": "better than plain training, beyond noise, at",
        "unclear": "no different beyond noise at",
        "worse": "worse, beyond noise, at",
        "unknown": "not to be told from plain training at",
    }
    parts = [f"{words[verdict]} {', '.join(found[verdict])}" for verdict in words if verdict in found]
    return f"{kind} is {'; '.join(parts)}." if parts else ""


STUDY = Study(
    question="Is the average better early in training, and where is it best to stop?",
    claims=(
        Claim(
            "EMA of weights (2411.18704)",
            "The average is better than plain training throughout, and much better early.",
            "V-text",
        ),
        Claim(
            "EMA of weights (2411.18704)",
            "Under a cosine schedule the average is best before three quarters of the budget (ResNet-18 on CIFAR-100: "
            "about epoch 150 of 200, then it falls back to plain training).",
            "V-text",
        ),
    ),
    task="classification",
    given={"model": "mlp", "epochs": "20", "seeds": "5", "lr": "0.05"},
    options={},
    data_options=FOR_DIGITS,
    recipe="b-cifar100-resnet18",
    arms=_arms,
    findings=_findings,
)
