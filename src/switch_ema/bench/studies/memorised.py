"""How many of the wrong training labels have been learned by heart when most of the right ones are learned."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from switch_ema.bench.plots import Plot, bars, lines
from switch_ema.bench.stats import BASELINE, Results, Spread, best_rate, paired_difference, spread
from switch_ema.bench.studies.standing import Values, verdicts
from switch_ema.bench.studies.study import Panel, Reading
from switch_ema.bench.studies.words import curve
from switch_ema.bench.wording import NONE, show_difference, show_spread

CLEAN, WRONG = "clean_accuracy", "memorised"
SHARES = {0.9: "90 % of the right labels", 0.95: "95 %", 0.98: "98 %"}
"""Shares of the right labels at which methods are compared."""
_TOLD = (0.9, 0.98)  # the first is that of the EMA paper
_DECIMALS = 3
_MINUS = "Minus plain training's"
_WORDS = ("fewer", "more")

_TEXT = (
    "Training labels that are right and those that were made wrong are told apart: the share of the right ones that "
    "the network predicts, and the share of the wrong ones, which it can only have learned by heart. (A network that "
    "predicts the true class of an image counts as not having learned its wrong label.) Methods are compared where "
    "each has learned the same share of the right labels, straight between measured epochs, at its own best learning "
    "rate, chosen by the last value on validation; and once more all on the training run of plain training's best "
    "rate, where only the averaging differs (a method that switches trains anew at that rate). Seeds that never learn "
    "that many right labels are left out."
)


@dataclass(frozen=True)
class Heart:
    """What a method has learned by heart.

    Attributes:
        method: Its label.
        lr: The learning rate at which it stands.
        at: By share of the right labels, the share of the wrong ones that is learned by then, by seed.
        last: The share of the wrong ones at the last epoch, by seed.
    """

    method: str
    lr: float
    at: Mapping[float, Values]
    last: Values


def by_heart(results: Results, label: str, lr: float) -> Heart:
    """Return what a method has learned by heart.

    Args:
        results: A comparison with ``memorisation``.
        label: Label of the method.
        lr: Its learning rate.
    """
    at = {share: memorised_at(results, label, lr, share) for share in SHARES}
    return Heart(label, lr, at, results.at(label, lr, "train", metric=WRONG))


def memorised_at(results: Results, label: str, lr: float, share: float) -> Values:
    """Return the share of wrong labels learned where a share of the right ones first is, by seed.

    It is straight between measured epochs; where the first measured epoch is there already, it is that epoch's. Seeds
    that never get there have none.
    """
    found: Values = {}
    wrong = results.curves(label, lr, "train", WRONG)
    for seed, series in results.curves(label, lr, "train", CLEAN).items():
        before: tuple[float, float] | None = None
        for epoch, clean in sorted(series.items()):
            heart = wrong.get(seed, {}).get(epoch)
            if clean is None or heart is None:
                break
            if clean >= share:
                part = (share - before[0]) / (clean - before[0]) if before else 1.0
                start = before[1] if before else heart
                found[seed] = start + part * (heart - start)
                break
            before = clean, heart
    return found


def memorisation(arm: Reading) -> Panel:
    """Say which methods learn fewer wrong labels by heart.

    Args:
        arm: A comparison with ``memorisation``.
    """
    results = arm.trained
    own = {label: by_heart(results, label, best_rate(results, label)) for label in results.methods}
    same = {label: by_heart(results, label, own[BASELINE].lr) for label in results.methods}
    rows = []
    for label in results.methods:
        for kind, of in (("", own), (" at plain training's rate", same)):
            if kind and (label == BASELINE or of[label].lr == own[label].lr):
                continue
            heart, plain = of[label], of[BASELINE]
            row = [label + kind, f"{heart.lr:g}"]
            for share in _TOLD:
                gap = show_difference(paired_difference(heart.at[share], plain.at[share]), _DECIMALS)
                row.append(show_spread(spread(heart.at[share].values()), _DECIMALS))
                row.append(NONE if label == BASELINE else gap)
            rows.append([*row, show_spread(spread(heart.last.values()), _DECIMALS)])
    places = [text for share in _TOLD for text in (f"Wrong labels at {100 * share:.0f} % of the right ones", _MINUS)]
    head = ["Method", "Rate", *places, "At the last epoch"]
    curves = [curve(results, label, own[label].lr, WRONG, "train") for label in results.methods]
    plots = [
        lines("Wrong labels learned by heart", "epoch", "share of the wrong labels", curves),
        _bars(own),
    ]
    said = f"{arm.title}: {_sentence(own)}"
    return Panel(f"Learned by heart: {arm.title}", said, _TEXT, plots, (head, rows))


def _sentence(own: Mapping[str, Heart]) -> str:
    said = [_at(own, share) for share in _TOLD]
    last = {label: paired_difference(heart.last, own[BASELINE].last) for label, heart in own.items()}
    del last[BASELINE]
    end = f"at the last epoch it has learned {_percent(own[BASELINE].last)}; {verdicts(last, False, _DECIMALS, _WORDS)}"
    return f"{'. '.join(text[0].upper() + text[1:] for text in (*said, end))}."


def _at(own: Mapping[str, Heart], share: float) -> str:
    """Compare the methods where each has learned a share of the right labels."""
    plain, name = own[BASELINE].at[share], f"{100 * share:.0f} %"
    if not plain:
        return f"plain training never learns {name} of the right labels"
    there = {label: heart.at[share] for label, heart in own.items() if label != BASELINE}
    found = {label: paired_difference(reached, plain) for label, reached in there.items() if reached}
    never = [label for label, reached in there.items() if not reached]
    said = [verdicts(found, False, _DECIMALS, _WORDS), f"never there: {', '.join(never)}" if never else ""]
    told = f"when plain training has learned {name} of the right labels it has learned {_percent(plain)} of the wrong"
    return f"{told}, and the others at their {name}: {'; '.join(filter(None, said))}"


def _percent(values: Values) -> str:
    mean = spread(values.values()).mean
    return NONE if mean is None else f"{100 * mean:.1f} %"


def _bars(own: Mapping[str, Heart]) -> Plot:
    series: list[tuple[str, list[Spread]]] = [
        (label, [spread(heart.at[share].values()) for share in SHARES] + [spread(heart.last.values())])
        for label, heart in own.items()
    ]
    groups = [*SHARES.values(), "last epoch"]
    return bars("Wrong labels learned by heart, at equal shares of the right ones", "share", groups, series)
