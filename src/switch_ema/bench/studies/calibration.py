"""Whether confidence matches accuracy, before and after temperature scaling, also on corrupted images."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from switch_ema.bench.kept import LAST, LOWEST_LOSS
from switch_ema.bench.plots import Plot, bars, reliability
from switch_ema.bench.stats import BASELINE, Difference, Results, paired_difference, spread
from switch_ema.bench.studies.calibration_measured import BINS, DRAWN, SCALED, SCORES, WRONGLY, measure_calibration
from switch_ema.bench.studies.robustness import corrupted, measure_corrupted
from switch_ema.bench.studies.standing import BEFORE_SWA, POINTS, best_of_averages, gaps, values, verdicts
from switch_ema.bench.studies.study import FOR_DIGITS, Arm, Claim, Findings, Measured, Panel, Reading, Study
from switch_ema.bench.studies.words import at_edges
from switch_ema.bench.wording import NONE, show_difference, show_spread, signed

if TYPE_CHECKING:
    from switch_ema.bench.studies.trained import Trained

_DECIMALS = 4
_STAGES = {LAST: "last", LOWEST_LOSS: "lowest loss"}
_TEXT = (
    f"The expected calibration error (ECE) is the mean gap between confidence and accuracy over {BINS} bins of the "
    "confidence in the class that is named; adaptive ECE takes every class by itself. Every method stands at its own "
    "best learning rate, chosen by the last value on validation, with its weights after the last epoch and with those "
    "of the lowest validation loss. The temperature, which divides the logits, is fitted on validation, which has also "
    "chosen rate and epoch; scores are those on test. Few test examples make every ECE too high by what chance does "
    "to each bin, for all methods alike. Differences are paired over the seeds. Diagrams hold the predictions of all "
    "seeds; below the diagonal a network is surer than it is right."
)
_WRONG = (
    "The temperature is fitted once on the validation labels as they are, all right, and once with as many of them "
    "made wrong as of training's, as where nobody knows which labels are wrong. The change is that of the ECE on test, "
    "paired over the seeds."
)


def _measure(arm: Arm, trained: Trained | None) -> Measured:
    if trained is None:
        return Measured()
    found = [measure_calibration(trained), measure_corrupted(trained)]
    return Measured([row for each in found for row in each.rows], {**found[0].sheets, **found[1].sheets})


def _findings(arms: Sequence[Reading]) -> Findings:
    panels, sentences = [], []
    for arm in arms:
        answers = [panel for panel in (_calibrated(arm), _wrong_validation(arm), corrupted(arm)) if panel]
        sentences += [panel.sentence for panel in answers]
        panels += [answers[0], _diagrams(arm), *answers[1:]]
    notes = [
        "Every interval stands for one comparison, not for all of them at once.",
        "ECE tells of confidence alone: it must be read beside the accuracy, and a network that is right more often "
        "has less to be unsure of.",
        BEFORE_SWA,
    ]
    edges = at_edges({arm.title: arm.trained for arm in arms})
    return Findings(sentences, panels, [*notes, *edges])


def _calibrated(arm: Reading) -> Panel:
    """Compare the methods with plain training, as trained and with their temperatures."""
    results = arm.trained
    last, scaled = gaps(results, "ece"), gaps(results, f"ece{SCALED}")
    early, papers = gaps(results, "ece", LOWEST_LOSS), gaps(results, "ece", LOWEST_LOSS, LAST)
    said = [
        f"ECE after the last epoch, against plain training ({_mean(results, 'ece')}): {_told(last)}",
        f"with temperature ({_mean(results, f'ece{SCALED}')}): {_told(scaled)}",
        f"all at their lowest validation loss ({_mean(results, 'ece', LOWEST_LOSS)}): {_told(early)}",
        f"averages at their lowest validation loss against plain training after its last epoch: {_told(papers)}",
    ]
    stages = [(which, when, suffix) for which, when in _STAGES.items() for suffix in DRAWN]
    series = [
        (label, [spread(values(results, label, f"ece{suffix}", which).values()) for which, _, suffix in stages])
        for label in results.methods
    ]
    groups = [f"{when}, {DRAWN[suffix]}" for _, when, suffix in stages]
    plot = bars("Expected calibration error on test", "ECE", groups, series)
    sentence = f"{arm.title}: {'. '.join(text[0].upper() + text[1:] for text in said)}."
    return Panel(f"Calibration: {arm.title}", sentence, _TEXT, [plot], _table(results))


def _told(found: Mapping[str, Difference]) -> str:
    return verdicts(found, False, _DECIMALS, ("lower", "higher"))


def _mean(results: Results, metric: str, which: str = LAST) -> str:
    return show_spread(spread(values(results, BASELINE, metric, which).values()), _DECIMALS)


def _table(results: Results) -> tuple[list[str], list[list[str]]]:
    names = {"accuracy": "Accuracy", "ece": SCORES["ece"], f"ece{SCALED}": "with temperature"}
    names |= {score: name for score, name in SCORES.items() if score != "ece"}
    names[f"nll{SCALED}"] = "with temperature"
    names[f"temperature{SCALED}"] = "Temperature"
    rows = []
    for which, when in POINTS.items():
        plain = values(results, BASELINE, "ece", which)
        for label in results.methods:
            row = [f"{label}, {when}"]
            for name in names:
                found = values(results, label, name, which)
                row.append(show_spread(spread(found.values()), _DECIMALS))
                if name == "ece":
                    gap = paired_difference(found, plain)
                    row.append(NONE if label == BASELINE else show_difference(gap, _DECIMALS))
            rows.append(row)
    head = ["Weights", *names.values()]
    head.insert(3, "minus plain training's")
    return head, rows


def _diagrams(arm: Reading) -> Panel:
    """Draw the reliability diagrams."""
    results = arm.trained
    styles = {label: place for place, label in enumerate(results.methods)}
    plots: list[Plot] = []
    over: list[str] = []
    for which, when in POINTS.items():
        drawn = arm.sheets["diagrams"].get(which, {})
        for suffix, how in DRAWN.items():
            curves = [(label, *of[suffix]) for label, of in drawn.items() if suffix in of]
            plots.append(reliability(f"{when[0].upper()}{when[1:]}, {how}", curves, styles=styles))
        if which == LAST:
            over = [f"{label} {_sure(*of[''])}" for label, of in drawn.items() if "" in of]
    sentence = f"Confidence minus accuracy after the last epoch, as trained: {', '.join(over) or 'nothing is finite'}."
    return Panel(f"Reliability: {arm.title}", sentence, plots=plots)


def _sure(confidences: Sequence[float | None], accuracies: Sequence[float | None], counts: Sequence[int]) -> str:
    """Return the mean confidence less the accuracy, in percent."""
    pairs = zip(confidences, accuracies, counts, strict=True)
    gap = sum(n * (c - a) for c, a, n in pairs if c is not None and a is not None) / sum(counts)
    return f"{signed(100 * gap, 1)} %"


def _wrong_validation(arm: Reading) -> Panel | None:
    """Say what a temperature does that was fitted on wrong validation labels; None where none were made wrong."""
    results = arm.trained
    rows, worse = [], {}
    for which, when in POINTS.items():
        for label in results.methods:
            found = [values(results, label, f"ece{suffix}", which) for suffix in ("", SCALED, WRONGLY)]
            if not any(value is not None for value in found[2].values()):
                continue
            gap = paired_difference(found[2], found[0])
            if which == LOWEST_LOSS:
                worse[label] = gap
            shown = [show_spread(spread(of.values()), _DECIMALS) for of in found]
            rows.append([f"{label}, {when}", *shown, show_difference(gap, _DECIMALS)])
    if not rows:
        return None
    sentence = (
        f"{arm.title}: what a temperature that is fitted on validation labels as wrong as training's makes of the ECE, "
        f"at each method's lowest validation loss: {verdicts(worse, False, _DECIMALS, ('lower', 'higher'))}."
    )
    head = ["Weights", "ECE as trained", "Temperature of right labels", "of partly wrong labels", "minus as trained"]
    return Panel(f"Wrong validation labels: {arm.title}", sentence, _WRONG, (), (head, rows))


STUDY = Study(
    question="Is an average as often right as it says?",
    claims=(
        Claim(
            "EMA of weights (2411.18704)",
            "The average at its lowest validation loss is better calibrated: ECE 9.5 against 11.8 % (ResNet-18, "
            "CIFAR-100), with temperature 3.1 against 4.7 %; 8.1 against 20.6 % for VGG-16 without BatchNorm, no real "
            "difference for the Wide ResNet as trained.",
            "V-text",
        ),
        Claim(
            "EMA of weights (2411.18704)",
            "The average at its best validation accuracy is worse calibrated than plain training for the Wide ResNet "
            "(8.4 against 6.4 %).",
            "V-text",
        ),
        Claim(
            "EMA of weights (2411.18704)",
            "Where labels are wrong (CIFAR-N), a temperature fitted on validation labels that are wrong as well makes "
            "the average's calibration worse: ECE 3.5 to 12.9 %.",
            "V-text",
        ),
        Claim("EMA of weights (2411.18704)", "Its ECE has 100 bins of equal mass; ours has 15.", "V-text"),
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
