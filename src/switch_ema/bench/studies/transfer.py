"""What frozen features are worth on other data, read out linearly."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from switch_ema.bench.kept import LAST, LOWEST_LOSS
from switch_ema.bench.plots import bars
from switch_ema.bench.settings import Settings
from switch_ema.bench.stats import BASELINE, paired_difference, spread
from switch_ema.bench.studies.labels import with_wrong_labels
from switch_ema.bench.studies.standing import BEFORE_SWA, POINTS, Values, averages, gaps, values, verdicts
from switch_ema.bench.studies.study import FOR_DIGITS, Arm, Claim, Findings, Measured, Panel, Reading, Study, rates
from switch_ema.bench.studies.transfer_measured import measure_transfer, probe_name
from switch_ema.bench.studies.words import apart, at_edges
from switch_ema.bench.wording import NONE, show, show_difference, show_spread
from switch_ema.errors import InputError

if TYPE_CHECKING:
    from switch_ema.bench.studies.trained import Trained

_DECIMALS = 4
_TEXT = (
    "What goes into the network's last linear layer is taken as it is, and a linear classifier is fitted to it on the "
    "target's training images, to convergence, its regularisation chosen on the target's validation images; shown is "
    "its accuracy on the target's test images. All labels of targets are right. Every method stands at its own best "
    "learning rate, chosen on the source's validation, not for the target. Differences are paired over the seeds. The "
    "same probe of the pixels, and of networks that nobody trained, says what the features must be better than."
)


def _arms(base: Settings) -> list[Arm]:
    if base.task != "classification":
        raise InputError(f"task {base.task}: its features cannot be read on other data; write classification")
    return with_wrong_labels(base, methods=averages(base), lr=rates(base), keep_weights="best")


def _measure(arm: Arm, trained: Trained | None) -> Measured:
    return measure_transfer(trained) if trained else Measured()


def _findings(arms: Sequence[Reading]) -> Findings:
    panels = [_panel(arm, target, of) for arm in arms for target, of in arm.sheets["targets"].items()]
    notes = [
        "Every interval stands for one comparison, not for all of them at once.",
        "Embedded data have no second set of images with classes, so there the target is made of the source: its "
        "images turned, or its right labels, of a hundred images. That asks less than other data do, such as the "
        "paper's.",
        "The paper trains its probe for 50 epochs by SGD and lets BatchNorm statistics adapt to the target; here the "
        "probe is fitted to convergence and nothing of the network changes.",
        BEFORE_SWA,
    ]
    edges = at_edges({arm.title: arm.trained for arm in arms})
    return Findings([panel.sentence for panel in panels], panels, [*notes, *edges])


def _panel(arm: Reading, target: str, found: Mapping[str, Any]) -> Panel:
    """Compare what the methods' features are worth on one target."""
    results, name, title = arm.trained, probe_name(target), found["title"]
    plain = values(results, BASELINE, name)
    untrained = {int(seed): value for seed, value in found["untrained"].items()}
    worth = apart("it", "an untrained network's", paired_difference(plain, untrained), True, _DECIMALS)
    said = [
        f"A probe of plain training's features after the last epoch reaches {_spread(plain)}, of the pixels "
        f"{show(found['pixels'], _DECIMALS)}; {worth}",
        f"Against it, after the last epoch: {_told(arm, name, LAST)}",
        f"Averages at their lowest validation loss against the same: {_told(arm, name, LOWEST_LOSS, LAST)}",
        f"All at their lowest validation loss: {_told(arm, name, LOWEST_LOSS)}",
    ]
    series = [
        (label, [spread(values(results, label, name, which).values()) for which in POINTS]) for label in results.methods
    ]
    plot = bars(f"Linear probe on {title}", "test accuracy", list(POINTS.values()), series)
    floors = [["pixels", show(found["pixels"], _DECIMALS), NONE], ["untrained networks", _spread(untrained), NONE]]
    head = ["Features", "Test accuracy of the probe", "Minus plain training's"]
    sentence = f"{arm.title}, probed on {title}: {'. '.join(said)}."
    return Panel(f"{arm.title}, on {title}", sentence, _TEXT, [plot], (head, [*_rows(arm, name), *floors]))


def _told(arm: Reading, name: str, which: str, plain: str | None = None) -> str:
    return verdicts(gaps(arm.trained, name, which, plain), True, _DECIMALS)


def _spread(found: Values) -> str:
    return show_spread(spread(found.values()), _DECIMALS)


def _rows(arm: Reading, name: str) -> list[list[str]]:
    rows = []
    for which, when in POINTS.items():
        apart_by = gaps(arm.trained, name, which)
        for label in arm.trained.methods:
            gap = show_difference(apart_by[label], _DECIMALS) if label in apart_by else NONE
            rows.append([f"{label}, {when}", _spread(values(arm.trained, label, name, which)), gap])
    return rows


STUDY = Study(
    question="What are frozen features worth on other data?",
    claims=(
        Claim(
            "EMA of weights (2411.18704)",
            "Features of averages transfer better, those of the lowest validation loss about as well as or better than "
            "those of the best accuracy: Tiny ImageNet to CIFAR-10 74.6 % plain, 78.7 % average by accuracy, 79.1 % by "
            "loss; Tiny ImageNet to CIFAR-100 52.8, 57.3, 57.8 % (ResNet-18, linear probe).",
            "V-text",
        ),
        Claim(
            "EMA of weights (2411.18704)",
            "CIFAR-100 to CIFAR-10 82.1, 84.0, 85.0 %; CIFAR-10 to CIFAR-100 33.7, 37.1, 36.1 % (which is which is "
            "inferred: the heads of the columns were garbled).",
            "derived",
        ),
        Claim(
            "EMA of weights (2411.18704)",
            "Its probe leaves the network in training mode, so BatchNorm statistics adapt to the target.",
            "V-code",
        ),
    ),
    task="classification",
    given={"epochs": "6", "seeds": "4", "lr": "0.1"},
    options={},
    data_options=FOR_DIGITS,
    recipe="b-cifar100-resnet18",
    arms=_arms,
    findings=_findings,
    measure=_measure,
)
