"""What averages gain when training labels are wrong, and how many of these are learned by heart."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from switch_ema.bench.plots import Series, lines
from switch_ema.bench.settings import Settings
from switch_ema.bench.stats import BASELINE, Results, best_rate, paired_difference, spread
from switch_ema.bench.studies.memorised import WRONG, memorisation
from switch_ema.bench.studies.standing import Values, averages, verdicts
from switch_ema.bench.studies.stopping import stops
from switch_ema.bench.studies.study import FOR_DIGITS, Arm, Claim, Findings, Panel, Reading, Study, rates, vary
from switch_ema.bench.studies.words import apart, at_edges, curve
from switch_ema.bench.wording import NONE, decimals_for, show_difference, show_spread
from switch_ema.errors import InputError

SHARES = (0.0, 0.2, 0.4, 0.6)
"""Shares of the training labels that are made wrong."""
_HELD, _SHARE = "constant", 0.4
_HELD_TITLE = ", constant rate"

_GAINS = (
    "Every method stands at its own best learning rate, chosen by the last value on validation, where all labels are "
    "right. Stopped early means at each seed's epoch that is best on validation, by the headline metric; plain "
    "training is stopped so too. Differences are paired over the seeds, which also draw the labels that are wrong."
)
_CONSTANT = (
    "The same training with the learning rate held constant after its warm-up, at the rate that is best for plain "
    "training with the schedule asked for, so that only the decay differs. The EMA paper holds it from the best epoch "
    "on; here it is held from the start."
)


def _arms(base: Settings) -> list[Arm]:
    if base.task != "classification":
        raise InputError(f"task {base.task}: has no wrong labels to learn by heart; write classification")
    base = vary(base, methods=averages(base), lr=rates(base))
    given = "label_file" in base.task_options or "label_noise" in base.task_options
    shares = [base.task_options.get("label_noise", 0.0)] if given else SHARES
    found = {share: vary(base, _options(base, share)) for share in shares}
    where = f"{base.model} on {base.data}"
    arms = [Arm(f"wrong-{share:g}", _title(where, settings), settings) for share, settings in found.items()]
    held = found[shares[0] if given else _SHARE]
    if base.schedule != _HELD and _wrong(held):
        arms.append(Arm(_HELD, f"{_title(where, held)}{_HELD_TITLE}", vary(held, schedule=_HELD)))
    return arms


def _options(base: Settings, share: float) -> dict[str, object]:
    """Return the options for a share of wrong labels; labels that people gave stay."""
    if "label_file" in base.task_options:
        return {"memorisation": True}
    return {"label_noise": share, "memorisation": share > 0}


def _wrong(settings: Settings) -> bool:
    return bool(settings.task_options.get("memorisation"))


def _title(where: str, settings: Settings) -> str:
    if "label_file" in settings.task_options:
        return f"{where}, labels that people gave"
    return f"{where}, {100 * settings.task_options['label_noise']:g} % wrong labels"


def _findings(arms: Sequence[Reading]) -> Findings:
    shares = [arm for arm in arms if arm.name != _HELD]
    gains, told = _gains(shares)
    hearts = [memorisation(arm) for arm in shares if _measured(arm)]
    pairs = [(arm, held) for held in arms for arm in shares if held.title == arm.title + _HELD_TITLE]
    held = [_constant(*pair) for pair in pairs]
    panels = [gains, *hearts, *held]
    notes = [
        "Every interval stands for one comparison, not for all of them at once.",
        "Labels of validation and test are right; the EMA paper chose epochs on validation labels that were as wrong "
        "as those of training.",
    ]
    edges = at_edges({arm.title: arm.trained for arm in arms})
    return Findings([*told, *(panel.sentence for panel in panels[1:])], panels, [*notes, *edges])


def _measured(arm: Reading) -> bool:
    return any(cell.metric == WRONG for cell in arm.trained.cells)


def _stopped(results: Results, label: str) -> Values:
    """Return the test values at the epochs that are best on validation."""
    for stop in stops(results, label, best_rate(results, label)):
        if stop.by == results.metric:
            return dict(stop.test)
    return {}


def _ends(results: Results) -> dict[str, dict[str, Values]]:
    """Return the test values of every method, at the last epoch and stopped early."""
    last = {label: results.at(label, best_rate(results, label), "test") for label in results.methods}
    return {
        "at the last epoch": last,
        "all stopped early": {label: _stopped(results, label) for label in results.methods},
    }


def _gains(arms: Sequence[Reading]) -> tuple[Panel, list[str]]:
    """Say what each method is beyond plain training, in one sentence for every share of wrong labels."""
    ends = {arm.name: _ends(arm.trained) for arm in arms}
    results = arms[0].trained
    found = [spread(values.values()) for of in ends.values() for by in of.values() for values in by.values()]
    decimals = decimals_for(each.mean for each in found)
    said, rows = [], []
    for arm in arms:
        told = [f"{when}, {_told(of, results.higher_is_better, decimals)}" for when, of in ends[arm.name].items()]
        said.append(f"{arm.title}, against plain training {'; '.join(told)}.")
        rows += _rows(arm, ends[arm.name], decimals)
    head = ["Method", "Rate", "Last epoch", "Minus plain training's", "Stopped early", "Minus plain training's"]
    plots = []
    places = [100 * share for share in SHARES] if len(arms) == len(SHARES) else []
    for when in ends[arms[0].name] if places else ():
        curves = [
            Series.of(label, places, [spread(of[when][label].values()) for of in ends.values()], style)
            for style, label in enumerate(results.methods)
        ]
        plots.append(lines(f"Test {results.metric}, {when}", "% wrong labels", f"test {results.metric}", curves))
    return Panel("What averages gain", " ".join(said), _GAINS, plots, (head, rows)), said


def _told(of: Mapping[str, Values], higher_is_better: bool, decimals: int) -> str:
    found = {label: paired_difference(values, of[BASELINE]) for label, values in of.items() if label != BASELINE}
    return verdicts(found, higher_is_better, decimals)


def _rows(arm: Reading, ends: Mapping[str, Mapping[str, Values]], decimals: int) -> list[list[str]]:
    rows = []
    for label in arm.trained.methods:
        row = [f"{label}; {arm.title.rsplit(', ', 1)[-1]}", f"{best_rate(arm.trained, label):g}"]
        for of in ends.values():
            gap = paired_difference(of[label], of[BASELINE])
            row += [show_spread(spread(of[label].values()), decimals)]
            row += [NONE if label == BASELINE else show_difference(gap, decimals)]
        rows.append(row)
    return rows


def _constant(decayed: Reading, held: Reading) -> Panel:
    """Compare a constant learning rate with the schedule asked for, at the same rate."""
    results = decayed.trained
    lr = best_rate(results, BASELINE)
    asked = (
        (WRONG, "train", False, "wrong labels learned"),
        (results.metric, "test", results.higher_is_better, "test"),
    )
    rows: dict[str, list[str]] = {label: [label] for label in results.methods}
    said, plots = [], []
    for metric, split, higher, what in asked:
        ends = {label: [arm.trained.at(label, lr, split, metric=metric) for arm in (held, decayed)] for label in rows}
        decimals = decimals_for(value for pair in ends.values() for each in pair for value in each.values())
        for label, (constant, other) in ends.items():
            shown = show_difference(paired_difference(constant, other), decimals)
            rows[label] += [*(show_spread(spread(each.values()), decimals) for each in (other, constant)), shown]
        gap = paired_difference(*ends[BASELINE])
        name = what if metric == WRONG else f"{what} {metric}"
        said.append(f"by {name}, {apart('a constant rate', 'the decayed one', gap, higher, decimals)}")
        runs = [
            replace(curve(arm.trained, label, lr, metric, split), name=f"{label}, {how}", style=style)
            for style, (label, how, arm) in enumerate(
                (label, how, arm) for label in (BASELINE, "ema") for how, arm in (("decayed", decayed), (_HELD, held))
            )
        ]
        plots.append(lines(f"{name[0].upper()}{name[1:]}", "epoch", name, runs))
    sentence = f"{decayed.title}, plain training at rate {lr:g}: {'; '.join(said)}."
    columns = [f"{name}, {how}" for name in ("Wrong labels", "Test") for how in ("decayed", _HELD, "difference")]
    return Panel("A constant learning rate", sentence, _CONSTANT, plots, (["Method", *columns], list(rows.values())))


STUDY = Study(
    question="What do averages gain when training labels are wrong, and how many of these are learned by heart?",
    claims=(
        Claim(
            "EMA of weights (2411.18704)",
            "With some 40 % wrong labels that people gave (ResNet-34, stopped early on validation) the average is far "
            "better: CIFAR-100N 65.2 against 55.5 %, CIFAR-10N 86.7 against 78.1 %.",
            "V-text",
        ),
        Claim(
            "EMA of weights (2411.18704)",
            "When 90 % of the right labels are learned, the average has learned 28.8 % of the wrong ones by heart, "
            "plain training 68.2 %.",
            "V-text",
        ),
        Claim(
            "EMA of weights (2411.18704)",
            "Held constant after the best epoch, the learning rate makes no network overfit: its decay is what makes "
            "training learn wrong labels by heart (ResNet-18, CIFAR-100N).",
            "V-text",
        ),
    ),
    task="classification",
    given={"model": "mlp", "epochs": "20", "seeds": "4", "lr": "0.05"},
    options={},
    data_options=FOR_DIGITS,
    recipe="b-cifar100n-resnet34",
    arms=_arms,
    findings=_findings,
)
