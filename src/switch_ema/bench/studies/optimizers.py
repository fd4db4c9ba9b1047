"""Does averaging, or switching onto the average, help with every optimizer, or with SGD alone?"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from switch_ema.bench.methods import SAM
from switch_ema.bench.plots import Plot, bars, heatmap
from switch_ema.bench.settings import Settings
from switch_ema.bench.stats import BASELINE, Difference, Judgement
from switch_ema.bench.studies.study import FOR_DIGITS, Arm, Claim, Findings, Panel, Reading, Study, Table, rates, vary
from switch_ema.bench.studies.tuned import Standing, standing
from switch_ema.bench.studies.words import at_edges
from switch_ema.bench.wording import NONE, count, decimals_for, show_gap, show_spread, signed

OPTIMIZERS = {"sgd": "SGD", "adam": "Adam", "adamw": "AdamW", "lamb": "LAMB", "lars": "LARS", "adan": "Adan"}
ADDED = ("ema", "sema", "lookahead")
METHODS = (BASELINE, *ADDED)
_FACTORS = (0.3, 1.0, 3.0, 10.0)

_TEXT = (
    "Every optimizer has learning rates of its own: its default, scaled as the rate that was asked for is to the "
    "default of its optimizer, and 0.3, 3 and 10 times that. Every method stands at its own best rate on "
    "validation, after the last epoch, on test; differences are paired over the seeds. With SAM, sharpness-aware "
    "training takes the place of plain training. A lower rate, which switching is suspected to imitate, is among those "
    "that plain training chooses from."
)


@dataclass(frozen=True)
class Trainer:
    """One way of training, with and without averaging.

    Attributes:
        name: The optimizer, with SAM where it is.
        metric: The headline metric.
        higher_is_better: Its direction.
        methods: Where plain training and the methods on it stand.
    """

    name: str
    metric: str
    higher_is_better: bool
    methods: Mapping[str, Standing]

    def gain(self, method: str, over: str = BASELINE) -> Difference:
        """Return the paired difference of a method to plain training with the same optimizer, or to another."""
        return self.methods[method].minus(self.methods[over])


def _arms(base: Settings) -> list[Arm]:
    with_sam = [SAM, *(f"{SAM}+{method}" for method in ADDED)]
    return [
        Arm(name, title, _with_optimizer(base, name, METHODS if name != "sgd" else (*METHODS, *with_sam)))
        for name, title in OPTIMIZERS.items()
    ]


def _with_optimizer(base: Settings, name: str, methods: Sequence[str]) -> Settings:
    """Return the settings with another optimizer, its rates in the same proportion to its default."""
    own, asked = (vary(base, optimizer=each, lr=(), lr_min=0, betas=(), eps=None) for each in (name, base.optimizer))
    scale = own.lr[0] / asked.lr[0]
    scaled = tuple(float(f"{lr * scale:.3g}") for lr in rates(base, _FACTORS))
    kept: dict[str, Any] = {} if name == base.optimizer else {"betas": (), "eps": None, "lr_min": base.lr_min * scale}
    return vary(base, optimizer=name, lr=scaled, methods=",".join(methods), **kept)


def _trainers(arms: Sequence[Reading]) -> list[Trainer]:
    found = []
    for arm in arms:
        results = arm.trained
        for prefix, suffix in (("", ""), (SAM, " with SAM")):
            labels = {
                method: f"{prefix}+{method}" if prefix and method != BASELINE else prefix or method
                for method in METHODS
            }
            if set(labels.values()) <= set(results.methods):
                methods = {method: standing(results, label) for method, label in labels.items()}
                found.append(Trainer(f"{arm.title}{suffix}", results.metric, results.higher_is_better, methods))
    return found


def _findings(arms: Sequence[Reading]) -> Findings:
    trainers = _trainers(arms)
    decimals = decimals_for(found.spread.mean for each in trainers for found in each.methods.values())
    switching = [
        _over_all("Switch EMA (sema)", trainers, "sema", BASELINE),
        _over_all("Switch EMA (sema)", trainers, "sema", "ema"),
    ]
    averaging = [
        _over_all(name, trainers, method, BASELINE) for name, method in (("EMA", "ema"), ("Lookahead", "lookahead"))
    ]
    panels = [
        Panel("Every optimizer", " ".join(switching), _TEXT, [_values(trainers), _gains(trainers, decimals)],
              _table(trainers, decimals)),
        Panel("Averaging without switching", " ".join(averaging)),
    ]  # fmt: skip
    gains = [each.gain(method) for each in trainers for method in ADDED] + [
        each.gain("sema", "ema") for each in trainers
    ]
    intervals = sum(gain.low is not None for gain in gains)
    many = (
        f"{count(intervals, 'interval')} stand here, each for itself: of twenty true ties one would show a difference."
    )
    notes = [*([many] if intervals else []), *at_edges({arm.title: arm.trained for arm in arms})]
    return Findings([*switching, *averaging], panels, notes)


def _over_all(name: str, trainers: Sequence[Trainer], method: str, over: str) -> str:
    """Say with which optimizers a method is better, worse, or no different than another."""
    readings: dict[Judgement, list[str]] = {"better": [], "worse": [], "unclear": [], "unknown": []}
    for each in trainers:
        edge = "*" * (each.methods[method].at_edge or each.methods[over].at_edge)
        readings[each.gain(method, over).judge(each.higher_is_better)].append(f"{each.name}{edge}")
    other = "plain training with the same optimizer" if over == BASELINE else over.upper()
    words = {
        "better": "better with {}",
        "worse": "worse with {}",
        "unclear": "no different beyond noise with {}",
        "unknown": "not to be judged, without an interval, with {}",
    }
    said = "; ".join(words[kind].format(_listed(names, trainers)) for kind, names in readings.items() if names)
    where = " (* best at the lowest or highest rate tried)" if "*" in said else ""
    return f"{name} against {other}, each at its own best rate{where}: {said}."


def _listed(names: Sequence[str], trainers: Sequence[Trainer]) -> str:
    total = len(trainers)
    return f"{f'all {total}' if len(names) == total > 1 else f'{len(names)} of {total}'} ({', '.join(names)})"


def _values(trainers: Sequence[Trainer]) -> Plot:
    metric = trainers[0].metric
    series = [(method, [each.methods[method].spread for each in trainers]) for method in METHODS]
    return bars(f"Test {metric} with every optimizer", f"test {metric}", [each.name for each in trainers], series)


def _gains(trainers: Sequence[Trainer], decimals: int) -> Plot:
    """Draw the differences to plain training, those beyond noise marked by a star."""

    def text(gain: Difference) -> str:
        if gain.mean is None:
            return NONE
        star = "" if gain.low is None or gain.high is None or gain.low <= 0 <= gain.high else " *"
        return f"{signed(gain.mean, decimals)}{star}"

    gains = [[each.gain(method) for each in trainers] for method in reversed(ADDED)]
    return heatmap(
        "Difference to plain training (* the interval leaves out zero)",
        "optimizer",
        "method",
        [each.name for each in trainers],
        list(reversed(ADDED)),
        [[gain.mean for gain in row] for row in gains],
        unit=f"test {trainers[0].metric}, difference",
        texts=[[text(gain) for gain in row] for row in gains],
    )


def _table(trainers: Sequence[Trainer], decimals: int) -> Table:
    head = ["Optimizer", "Plain training", "its rate", *(f"{method} minus plain" for method in ADDED), "sema minus ema"]
    rows = []
    for each in trainers:
        plain = each.methods[BASELINE]
        gains = [each.gain(method) for method in ADDED] + [each.gain("sema", "ema")]
        shown = [show_gap(gain, decimals) for gain in gains]
        rows.append((each.name, show_spread(plain.spread, decimals), f"{plain.lr:g}", *shown))
    return head, rows


STUDY = Study(
    question="Does switching onto the average help with every optimizer?",
    claims=(
        Claim(
            "Switch EMA (2402.09240)",
            "Copying the average back once an epoch improves training with popular optimizers and networks, at no "
            "extra cost.",
            "V-text",
        ),
        Claim(
            "Switch EMA, its code",
            "Its ResNets are trained with SGD, its transformers and ConvNeXts with AdamW, ResNet-50 (A3) with LAMB, "
            "contrastive learning with LARS; no released configuration uses the switch.",
            "V-code",
        ),
    ),
    task="classification",
    given={"model": "mlp", "epochs": "12", "seeds": "3", "eval_every": "12"},
    options={"label_noise": "0.4"},
    data_options=FOR_DIGITS,
    recipe="cifar100-resnet18",
    arms=_arms,
    findings=_findings,
)
