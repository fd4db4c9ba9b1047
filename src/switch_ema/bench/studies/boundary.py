"""How smooth are the boundaries between classes that each method draws, from few labelled points?"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from switch_ema.bench.plots import Plot, bars
from switch_ema.bench.plots3d import regions
from switch_ema.bench.request import request
from switch_ema.bench.settings import Settings
from switch_ema.bench.stats import BASELINE, Difference, Results, best_rate, paired_difference, spread
from switch_ema.bench.studies.pairs import between, over_pairs, pair_spread
from switch_ema.bench.studies.standing import check_classes
from switch_ema.bench.studies.study import Arm, Claim, Findings, Measured, Panel, Reading, Study, Table, rates, vary
from switch_ema.bench.wording import NONE, decimals_for, show, show_difference, show_spread, signed

if TYPE_CHECKING:
    from switch_ema.bench.studies.trained import Trained

_SETS = ("circles", "moons")
_IMAGES = "digits"
_FACTORS = (0.1, 0.3, 1, 3)
_AGREEMENT = "agreement between seeds"


@dataclass(frozen=True)
class _Measure:
    """A number measured of every network: its metric, what it is, and which way is better, or what is said of it."""

    metric: str
    title: str
    higher: bool
    more: str
    less: str


_LENGTH = _Measure("boundary-length", "boundary length", False, "longer", "shorter")
_GRADIENT = _Measure("squared-gradient", "squared gradient", False, "steeper", "smoother")
_MARGIN = _Measure("margin", "margin", True, "wider", "narrower")
_ERROR = _Measure("calibration-error", "calibration error", False, "higher", "lower")
_MEASURES = (_LENGTH, _GRADIENT, _MARGIN, _ERROR)

_TEXT = (
    "Boundary length: of the borders between classes in the area shown, divided by that area. Squared gradient: mean "
    "over the area of 1/2 sum_k |grad p_k|^2 of the probabilities; large where they change abruptly. Margin: mean over "
    "the area of the first probability less the second. Calibration error: of the held-out data, in 15 bins of equal "
    "width. Agreement: the share of the area on which two seeds name the same class, mean over all pairs of seeds, "
    "with a jackknife interval over the seeds. Differences are paired over the seeds. All methods stand at the rate "
    "that is best for plain training on validation, so that the rate does not make the difference; plain training at "
    "the other rates shows what the rate alone does. A longer border is not a worse one where the classes need it, so "
    "read all of this beside the accuracy."
)
_OF_POINTS = " Every seed draws its own labelled points and initial weights. Pictures: the first seed with its points."
_OF_IMAGES = (
    " The area is that of planes through three held-out images of three classes, the same planes for all; numbers are "
    "means over 5 planes. Pictures: the first plane, the first seed; points mark the three images."
)


def _arms(base: Settings) -> list[Arm]:
    check_classes(base)
    if base.task != "points":
        return [Arm("images", f"{base.model} on {base.data}", _asked(base, rates(base, _FACTORS)))]
    sets = [base.data] if "factor" in base.task_options else dict.fromkeys([*_SETS, base.data])  # moons have no factor
    of_points = [vary(base, data=data) for data in sets]
    given = {"model": "mlp", "data": _IMAGES, "seeds": min(base.seeds, 5), "epochs": max(1, base.epochs // 4)}
    images = request("classification", given, {})
    return [
        *(Arm(each.data, each.data, _asked(each, rates(each, _FACTORS))) for each in of_points),
        Arm(_IMAGES, f"planes through three images of {_IMAGES}", _asked(images, images.lr)),
    ]


def _asked(base: Settings, lr: Sequence[float]) -> Settings:
    """Return the comparison; windows are a tenth of training, but for the Switch EMA of one epoch."""
    tenth = max(1, base.epochs / 10)
    window = f"window {tenth:g} epochs"
    switching = f"sema:decay={window},switch_every={tenth:g} epochs"
    return vary(base, methods=f"baseline,ema:decay={window},sema,{switching},swa", lr=lr, keep_weights="last")


def _measure(_arm: Arm, trained: Trained | None) -> Measured:
    from switch_ema.bench.studies.boundary_measures import Decisions

    return Decisions(trained).measure() if trained else Measured()


def _findings(arms: Sequence[Reading]) -> Findings:
    panels = [_panel(arm) for arm in arms]
    note = "Of the many intervals in the tables, one in twenty excludes zero by chance."
    return Findings([_answer(arm, panel) for arm, panel in zip(arms, panels, strict=True)], panels, [note])


def _panel(arm: Reading) -> Panel:
    maps = arm.sheets.get("maps", {})
    text = _TEXT + (_OF_IMAGES if maps.get("classes", 2) > 2 else _OF_POINTS)
    plots = [*([_map(maps)] if maps else []), *_bars(arm)]
    title = arm.title[0].upper() + arm.title[1:]
    return Panel(title, _sentence(title, arm), text, plots, _table(arm))


def _answer(arm: Reading, panel: Panel) -> str:
    """Say what each method makes of smoothness, length and score, in percent of plain training's."""
    results = arm.trained
    if len(results.seeds) == 1:
        return f"{panel.title}: one seed cannot tell whose boundaries are smoother."
    told = []
    for measure in (_GRADIENT, _LENGTH, _headline(results)):
        plain = spread(_of(results, BASELINE, measure.metric).values()).mean
        told.append(_told(measure, _gaps(results, measure), partial(_share, plain=plain)))
    return f"{panel.title}, against plain training at the same rate: {'; '.join(told)}.{_rate_alone(results)}"


def _share(gap: Difference, plain: float | None) -> str:
    return f"{signed(100 * gap.mean / plain, 1)} %" if gap.mean is not None and plain else show_difference(gap, 4)


def _sentence(title: str, arm: Reading) -> str:
    """Say which methods differ from plain training beyond noise, measure by measure."""
    results = arm.trained
    if len(results.seeds) == 1:
        return f"{title}: one seed cannot tell whose boundaries are smoother."
    told = []
    for measure in (_headline(results), *_MEASURES):
        decimals = decimals_for(_of(results, BASELINE, measure.metric).values())
        told.append(_told(measure, _gaps(results, measure), partial(show_difference, decimals=decimals)))
    agreeing = _Measure("", _AGREEMENT, True, "more", "less")
    told.append(_told(agreeing, _agreement_gaps(arm), partial(show_difference, decimals=4)))
    return f"{title}, against plain training at the same rate: {'; '.join(told)}."


def _headline(results: Results) -> _Measure:
    higher = results.higher_is_better
    return _Measure(results.metric, results.metric, higher, *(("better", "worse") if higher else ("worse", "better")))


def _rate_alone(results: Results) -> str:
    """Say how much the smoothness of plain training depends on its rate."""
    if len(results.lrs) == 1:
        return ""
    found = {lr: spread(_of(results, BASELINE, _GRADIENT.metric, lr).values()).mean for lr in results.lrs}
    decimals = decimals_for(found.values())
    told = ", ".join(f"{show(mean, decimals)} at {lr:g}" for lr, mean in found.items())
    return f" By the rate alone the squared gradient of plain training is {told}."


def _told(measure: _Measure, gaps: Mapping[str, Difference], show_gap: Callable[[Difference], str]) -> str:
    found = []
    for word, judged in ((measure.less, not measure.higher), (measure.more, measure.higher)):
        wanted = "better" if judged else "worse"
        own = [f"{label} ({show_gap(gap)})" for label, gap in gaps.items() if gap.judge(measure.higher) == wanted]
        if own:
            found.append(f"{word} with {', '.join(own)}")
    return f"{measure.title} {' and '.join(found) if found else 'no different beyond noise with any method'}"


def _gaps(results: Results, measure: _Measure) -> dict[str, Difference]:
    plain = _of(results, BASELINE, measure.metric)
    return {
        label: paired_difference(_of(results, label, measure.metric), plain)
        for label in results.methods
        if label != BASELINE
    }


def _agreement_gaps(arm: Reading) -> dict[str, Difference]:
    """Return how much more seeds agree than with plain training; only where no seed diverged."""
    found, seeds = arm.sheets.get("agreement", {}), len(arm.trained.seeds)
    whole = {label: matrix for label, matrix in found.items() if len(matrix) == seeds}
    return {
        label: over_pairs(between(matrix, whole[BASELINE]))
        for label, matrix in whole.items()
        if label != BASELINE and BASELINE in whole
    }


def _of(results: Results, label: str, metric: str, lr: float | None = None) -> dict[int, float | None]:
    """Return a measurement of every seed, at plain training's best rate unless told otherwise."""
    return results.at(label, lr or best_rate(results, BASELINE), "test", metric=metric)


def _map(maps: Mapping[str, Any]) -> Plot:
    names = [f"class {k}" for k in range(maps["classes"])]
    grids = [*maps["grids"].items()]
    return regions("What each method decides", maps["xs"], maps["ys"], grids, maps["points"], classes=names)


def _bars(arm: Reading) -> list[Plot]:
    results = arm.trained
    return [
        bars(
            f"{measure.title[0].upper()}{measure.title[1:]}", measure.title, [""],
            [(label, [spread(_of(results, label, measure.metric).values())]) for label in results.methods],
        )
        for measure in (_LENGTH, _GRADIENT)
    ]  # fmt: skip


def _table(arm: Reading) -> Table:
    results = arm.trained
    columns = [results.metric, *(measure.metric for measure in _MEASURES)]
    gaps, best = _agreement_gaps(arm), best_rate(results, BASELINE)
    rows = []
    for label, lr in [(label, best) for label in results.methods] + [
        (BASELINE, lr) for lr in results.lrs if lr != best
    ]:
        spreads = [spread(_of(results, label, metric, lr).values()) for metric in columns]
        cells = [show_spread(each, decimals_for([each.mean])) for each in spreads]
        agreed = pair_spread(arm.sheets.get("agreement", {}).get(label, []) if lr == best else [])
        less = show_difference(gaps[label], 4) if label in gaps else NONE
        rows.append((label, f"{lr:g}", *cells, show_spread(agreed, 4), less))
    head = ["Method", "Rate", results.metric, *(measure.title for measure in _MEASURES), _AGREEMENT, "minus baseline's"]
    return head, rows


STUDY = Study(
    question="Does averaging draw smoother boundaries between classes?",
    claims=(
        Claim(
            "Switch EMA (2402.09240)",
            "Switching gives smoother decision boundaries, seen in a picture; the panel of plain training stands at an "
            "accuracy of about 0.8.",
            "V-2nd",
        ),
    ),
    task="points",
    given={"seeds": "6", "eval_every": "5"},
    options={},
    recipe="",
    arms=_arms,
    findings=_findings,
    measure=_measure,
)
