"""How deep and how wide are the minima that each method finds, and how do they lie to each other?"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from switch_ema.bench.settings import Settings
from switch_ema.bench.stats import BASELINE, Difference, Results, spread
from switch_ema.bench.studies import landscape_panels as panels
from switch_ema.bench.studies.labels import with_wrong_labels
from switch_ema.bench.studies.landscape_quantities import (
    PAIRS,
    TEST_LOSS,
    TRAIN_LOSS,
    WIDTH,
    WIDTHS,
    Quantity,
    barrier_to,
    gap,
    values,
)
from switch_ema.bench.studies.study import (
    FOR_DIGITS,
    Arm,
    Claim,
    Findings,
    Measured,
    Panel,
    Reading,
    Study,
    rates,
    vary,
)
from switch_ema.bench.studies.words import at_edges
from switch_ema.bench.wording import NONE, decimals_for, show, show_difference

if TYPE_CHECKING:
    from switch_ema.bench.studies.trained import Trained

_SNAPSHOTS = 16
_PATHS = "paths"
_METHODS = "baseline,ema,sema,swa,sam"
_PLAIN = "plain training"
_NOTES = (
    'Definitions. The paper on Switch EMA says "sharpness" for the depth of a minimum, the loss at it, and "flatness" '
    "for its width, and gives a formula for neither. Here depth is the training loss, and the test loss beside it; "
    "width is the size of random noise, in lengths of the filters, that raises the training loss by 0.1 on average, "
    "and six more measures stand beside it. Elsewhere sharpness is the opposite of width: how far the loss rises.",
    "Depth, noise, sharpness and curvature are measured with the BatchNorm statistics that a method is used with; "
    "surfaces, planes and lines between solutions with those of each batch, so that no hill on the way is owed to "
    "statistics that do not fit. Networks without BatchNorm have no such difference.",
    "Measured on 512 training examples, not augmented, with the labels trained on. Near zero loss all measures of "
    "curvature shrink with the loss itself, so that depth and width are not independent.",
    "Every method stands at its own best learning rate, chosen on validation, since the rate alone changes both depth "
    "and width.",
)


def _arms(base: Settings) -> list[Arm]:
    minima = with_wrong_labels(base, methods=_METHODS, lr=rates(base), keep_weights="last")
    every = max(base.eval_every, -(-base.epochs // _SNAPSHOTS))
    walked = vary(base, methods=_METHODS, lr=base.lr[:1], seeds=1, eval_every=every, keep_weights="every")
    return [*minima, Arm(_PATHS, f"{base.model} on {base.data}: paths of training", walked)]


def _measure(arm: Arm, trained: Trained | None) -> Measured:
    from switch_ema.bench.studies.landscape_measures import Surroundings

    if trained is None:
        return Measured()
    found = Surroundings(trained)
    return found.follow() if arm.name == _PATHS else found.measure()


def _findings(arms: Sequence[Reading]) -> Findings:
    sentences: list[str] = []
    drawn: list[Panel] = []
    minima = [arm for arm in arms if arm.name != _PATHS]
    for arm in minima:
        results = arm.trained
        told = [_against(results, "sema", other) for other in (BASELINE, "ema")]
        sentences += [f"{arm.title}: {sentence}" for sentence in (*told, _widths(results), _barriers(results))]
        drawn += [panels.depth(arm, _summary(results)), panels.width(arm, _widths(results))]
        if arm.sheets:
            drawn += [panels.surfaces(arm), panels.between(arm, _barriers(results))]
    drawn += [panels.paths(arm) for arm in arms if arm.name == _PATHS and arm.sheets]
    return Findings(sentences, drawn, [*_NOTES, *at_edges({arm.title: arm.trained for arm in minima})])


def _against(results: Results, label: str, other: str) -> str:
    gaps = {each: gap(results, label, other, each) for each in (TRAIN_LOSS, WIDTH, TEST_LOSS)}
    told = "; ".join(
        f"{each.title.partition(':')[0]} {_written(results, difference, each)}" for each, difference in gaps.items()
    )
    beside = _PLAIN if other == BASELINE else other
    if len(results.seeds) == 1:
        return f"One seed cannot tell {label} from {beside} ({told})."
    test = {
        "better": "lower", "worse": "higher", "unclear": "no different beyond noise", "unknown": "not to be told apart"
    }[gaps[TEST_LOSS].judge(False)]  # fmt: skip
    return f"{label} {_verdict(results, label, other)} {beside}; its test loss is {test} ({told})."


def _verdict(results: Results, label: str, other: str) -> str:
    """Say, up to the name of the other, whether a method is deeper and wider beyond noise."""
    deep, wide = (gap(results, label, other, each).judge(each.higher) for each in (TRAIN_LOSS, WIDTH))
    if "unknown" in (deep, wide):
        return "cannot be told in both depth and width from"
    words = [
        {"better": more, "worse": less, "unclear": f"no {more} or {less}"}[judged]
        for judged, more, less in ((wide, "wider", "narrower"), (deep, "deeper", "shallower"))
    ]
    joined = " and ".join(words) if wide == deep else " but ".join(words)
    return f"is {joined} than" if "unclear" not in (deep, wide) else f"is {joined}, beyond noise, than"


def _summary(results: Results) -> str:
    if len(results.seeds) == 1:
        return "One seed cannot tell who is deeper."
    told = [f"{label} {_verdict(results, label, BASELINE)} {_PLAIN}" for label in results.methods if label != BASELINE]
    return f"{'; '.join(told)}."


def _widths(results: Results) -> str:
    """Say how far the measures of width agree."""
    if len(results.seeds) == 1:
        return "One seed cannot tell who is wider by the other measures."
    told = []
    for label in results.methods:
        judged = [gap(results, label, BASELINE, each).judge(each.higher) for each in WIDTHS]
        known = len(judged) - judged.count("unknown")
        if label != BASELINE and known:
            told.append(f"{label} {judged.count('better')} and {judged.count('worse')} of {known}")
    if not told:
        return "No measure of width can be compared."
    return f"Measures of width that say wider, and narrower, than {_PLAIN} beyond noise: {'; '.join(told)}."


def _barriers(results: Results) -> str:
    """Say how far the loss rises between the solutions."""
    found = {pair: spread(values(results, pair[1], barrier_to(pair[0])).values()) for pair in PAIRS}
    decimals = decimals_for(each.high for each in found.values())
    told = [
        f"{one} to {other} {show(each.mean, decimals)}"
        + (f" (highest seed {show(each.high, decimals)})" if each.n > 1 else "")
        for (one, other), each in found.items()
        if each.n
    ]
    if not told:
        return "No two solutions can be joined by a line."
    return (
        "On the straight line between two solutions the training loss rises above the line that joins the losses at "
        f"its ends by (barrier): {'; '.join(told)}."
    )


def _written(results: Results, difference: Difference, quantity: Quantity) -> str:
    sizes = values(results, BASELINE, quantity.metric, quantity.split).values()
    return show_difference(difference, decimals_for(sizes)) if difference.mean is not None else NONE


STUDY = Study(
    question="Does switching find minima that are both deeper and wider?",
    claims=(
        Claim(
            "Switch EMA (2402.09240)",
            "Switching gives a better trade-off of flatness and sharpness than EMA and plain training.",
            "V-text",
        ),
        Claim(
            "Switch EMA (2402.09240)",
            'By "sharpness" the paper means the depth of a minimum and by "flatness" its width; there is no Hessian.',
            "V-2nd",
        ),
        Claim(
            "Switch EMA (2402.09240)",
            "Landscapes are drawn along filter-normalised directions from -1 to 1, biases and BatchNorm left out.",
            "V-code",
        ),
    ),
    task="classification",
    given={"model": "mlp", "epochs": "15", "seeds": "5"},
    options={},
    data_options=FOR_DIGITS,
    recipe="b-cifar100-resnet18",
    arms=_arms,
    findings=_findings,
    measure=_measure,
)
