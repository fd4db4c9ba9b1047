"""How many epochs does each method need to where plain training ends, and how do the curves run?"""

from __future__ import annotations

from collections.abc import Sequence

from switch_ema.bench.plots import Series, lines
from switch_ema.bench.settings import Settings
from switch_ema.bench.stats import BASELINE, best_rate, reach_baseline, spread
from switch_ema.bench.studies.study import Arm, Claim, Findings, Panel, Reading, Study, rates, vary
from switch_ema.bench.wording import show_reach


def _arms(base: Settings) -> list[Arm]:
    methods = "baseline,ema,swa,lookahead,sema,sema:decay=window 0.2 epochs"
    settings = vary(base, methods=methods, lr=rates(base, (0.5, 1, 2)))
    return [Arm("curves", f"{base.task} on {base.data}", settings)]


def _findings(arms: Sequence[Reading]) -> Findings:
    panels, sentences = [], []
    for arm in arms:
        results = arm.trained
        lrs = {label: best_rate(results, label) for label in results.methods}
        reached = {label: reach_baseline(results, label, lrs[label], lrs[BASELINE]) for label in results.methods}
        at_start = reached[BASELINE].mean or results.epochs
        early = {label: found.mean for label, found in reached.items() if found.mean is not None and label != BASELINE}
        first = min(early, key=lambda label: early[label] or 0.0, default=None)
        sentence = f"{arm.title}: no method reaches the value at which plain training ends."
        if first is not None:
            told = show_reach(reached[first])
            sentence = (
                f"{arm.title}: {first} is first where plain training ends, after {told} epochs; "
                f"plain training itself needs {at_start:.1f}."
            )
        curves = []
        for number, label in enumerate(results.methods):
            by_epoch: dict[int, list[float | None]] = {}
            for series in results.curves(label, lrs[label], "test").values():
                for epoch, value in series.items():
                    by_epoch.setdefault(epoch, []).append(value)
            epochs = sorted(by_epoch)
            curves.append(Series.of(label, epochs, [spread(by_epoch[epoch]) for epoch in epochs], number))
        plot = lines(f"Test {results.metric}", "epoch", f"test {results.metric}", curves)
        table = (["Method", "Epochs to the baseline's last value"], [(m, show_reach(r)) for m, r in reached.items()])
        panels.append(Panel(arm.title, sentence, "Each method at its own best learning rate.", [plot], table))
        sentences.append(sentence)
    return Findings(sentences, panels)


STUDY = Study(
    question="Does averaging reach the goal in fewer epochs?",
    claims=(
        Claim("Switch EMA (2402.09240)", "Switching makes training converge faster, at no extra cost.", "V-text"),
        Claim(
            "EMA of weights (2411.18704)",
            "The average is better than training throughout, far more so early.",
            "V-text",
        ),
    ),
    task="classification",
    given={"model": "mlp", "epochs": "20", "seeds": "5", "lr": "0.05"},
    options={},
    recipe="b-cifar100-resnet18",
    arms=_arms,
    findings=_findings,
)
