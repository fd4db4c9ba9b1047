"""Which BatchNorm statistics fit averaged weights: those of training, averaged ones, or new ones?"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from switch_ema.bench.plots import Plot, Series, lines
from switch_ema.bench.sections import REESTIMATED
from switch_ema.bench.settings import Settings
from switch_ema.bench.stats import BASELINE, Difference, Results, budget_points, paired_difference, spread
from switch_ema.bench.studies.study import FOR_DIGITS, Arm, Claim, Findings, Panel, Reading, Study, Table, vary
from switch_ema.bench.studies.tuned import standing
from switch_ema.bench.studies.words import apart
from switch_ema.bench.wording import decimals_for, show_difference, show_gap, show_spread

WINDOWS = (0.2, 0.5, 1, 2, 4)
"""How far back the averages look, in epochs."""

ONLINE, AVERAGED, MEASURED = "of training", "averaged", "measured anew"

_TEXT = (
    "One training run; its averages differ in how far back they look and in the BatchNorm statistics they are measured "
    "with: those of the model in training, averages made with the same decay, or new ones measured on training data "
    "with the averaged weights. The last are the yardstick. The learning rate is the best of those asked for, on "
    "validation, for plain training."
)

Values = Mapping[int, float | None]


def _ema(window: float, use_buffers: bool) -> str:
    return f"ema:decay=window {window:g} epochs,use_buffers={str(use_buffers).lower()}"


def _sema(use_buffers: bool) -> str:
    return f"sema:use_buffers={str(use_buffers).lower()}"


def _arms(base: Settings) -> list[Arm]:
    methods = [BASELINE, *(_ema(window, use) for window in WINDOWS for use in (True, False)), _sema(True), _sema(False)]
    return [Arm("statistics", f"{base.model} on {base.data}", vary(base, methods=",".join(methods)))]


def _values(results: Results, window: float, kind: str, epoch: int) -> Values:
    """Return the test values of an average with one kind of statistics."""
    label = _ema(window, use_buffers=kind != ONLINE)
    metric = results.metric + (REESTIMATED if kind == MEASURED else "")
    return results.at(label, standing(results, BASELINE).lr, "test", epoch=epoch, metric=metric)


def _loss(results: Results, window: float, kind: str, epoch: int) -> Difference:
    """Return what a kind of statistics gives beyond statistics that are measured anew."""
    return paired_difference(_values(results, window, kind, epoch), _values(results, window, MEASURED, epoch))


def _findings(arms: Sequence[Reading]) -> Findings:
    results = arms[0].trained
    if not any(cell.metric.endswith(REESTIMATED) for cell in results.cells):
        none = (
            f"{arms[0].run['model']} has no BatchNorm, so there are no statistics that could misfit averaged weights."
        )
        return Findings([none], [])
    epochs = sorted(set(budget_points(results.epochs).values()))
    middle, last = epochs[-2] if len(epochs) > 1 else epochs[-1], epochs[-1]
    decimals = decimals_for(value for window in WINDOWS for value in _values(results, window, AVERAGED, last).values())
    said = [_misfit(results, kind, last, decimals) for kind in (ONLINE, AVERAGED)]
    early = [_misfit(results, kind, middle, decimals) for kind in (ONLINE, AVERAGED)]
    sema = _switching(results, decimals)
    panels = [
        Panel("After the last epoch", " ".join(said), _TEXT, [_plot(results, last)], _table(results, last, decimals))
    ]
    if middle != last:
        start = math.exp(-middle / WINDOWS[-1])
        text = (
            "Halfway the learning rate is still high and weights move: an average and the model lie further apart. The "
            f"average with the widest window still holds {start:.0%} of the weights and statistics before training."
        ).replace("%", " %")
        table = _table(results, middle, decimals)
        panels.append(Panel(f"After epoch {middle}", " ".join(early), text, [_plot(results, middle)], table))
    switching = (
        "Switch EMA hands its statistics back to the model, or leaves those of training where they are. Here the "
        "statistics act on training too, and both stand at the best of the learning rates asked for."
    )
    panels.append(Panel("Switching", sema, switching))
    return Findings(
        [*said, *([f"Halfway, after epoch {middle}: {each}" for each in early] if middle != last else []), sema], panels
    )


def _misfit(results: Results, kind: str, epoch: int, decimals: int) -> str:
    """Say from which window on a kind of statistics loses beyond noise, and where most."""
    found = {window: _loss(results, window, kind, epoch) for window in WINDOWS}
    judged = {window: each.judge(results.higher_is_better) for window, each in found.items()}
    name = f"Statistics {kind}"
    worse = [window for window in WINDOWS if judged[window] == "worse"]
    better = [window for window in WINDOWS if judged[window] == "better"]
    if all(each == "unknown" for each in judged.values()):
        return f"{name} cannot be told from new ones: there is no interval."
    parts = []
    if worse:
        sign = 1 if results.higher_is_better else -1
        most = min(worse, key=lambda window: sign * (found[window].mean or 0))
        shown = show_difference(found[most], decimals)
        parts.append(f"lose to new ones with a window of {_listed(worse)}, most with {most:g} ({shown})")
    if better:
        parts.append(f"are better than new ones with a window of {_listed(better)}")
    if not parts:
        return f"{name} show no difference beyond noise from new ones, with any window."
    return f"{name} {' and '.join(parts)}."


def _listed(windows: Sequence[float]) -> str:
    *most, last = (f"{window:g}" for window in windows)
    if most:
        return f"{', '.join(most)} and {last} epochs"
    return "1 epoch" if last == "1" else f"{last} epochs"


def _switching(results: Results, decimals: int) -> str:
    online, averaged = (standing(results, _sema(use)) for use in (False, True))
    name = "Switch EMA with averaged statistics"
    told = apart(name, "Switch EMA with those of training", averaged.minus(online), results.higher_is_better, decimals)
    return f"{told}."


def _plot(results: Results, epoch: int) -> Plot:
    rows = {
        kind: [spread(_values(results, window, kind, epoch).values()) for window in WINDOWS]
        for kind in (MEASURED, AVERAGED, ONLINE)
    }
    series = [
        Series.of(f"statistics {kind}", WINDOWS, found, place) for place, (kind, found) in enumerate(rows.items())
    ]
    name = f"test {results.metric}"
    return lines(
        f"Averages after epoch {epoch}, by statistics", "window of the average, epochs", name, series, log_x=True
    )


def _table(results: Results, epoch: int, decimals: int) -> Table:
    head = ["Window, epochs", *(f"Test {results.metric}, {kind}" for kind in (MEASURED, AVERAGED, ONLINE))]
    head += ["Averaged minus new", "Of training minus new"]
    rows = [
        (
            f"{window:g}",
            *(
                show_spread(spread(_values(results, window, kind, epoch).values()), decimals)
                for kind in (MEASURED, AVERAGED, ONLINE)
            ),
            *(show_gap(_loss(results, window, kind, epoch), decimals) for kind in (AVERAGED, ONLINE)),
        )
        for window in WINDOWS
    ]
    return head, rows


STUDY = Study(
    question="Which BatchNorm statistics do averaged weights need?",
    claims=(
        Claim(
            "EMA of weights (2411.18704)",
            "Statistics averaged with the same decay fail with slow decays unless they are measured anew after "
            "training, which always helps. For use during training a faster decay suits; for the final model a slow "
            "one with new statistics; networks without BatchNorm are not concerned.",
            "V-text",
        ),
        Claim(
            "EMA of weights, table 24",
            "ResNet-18 on CIFAR-100, statistics measured anew in every epoch: the best test accuracy rises with the "
            "decay, from 78.04 (0.968 each 16 steps) to 79.06 (0.998).",
            "V-text",
        ),
        Claim(
            "Switch EMA, its code",
            "Its image-classification hook averages parameters alone: averages are evaluated with the statistics of "
            "the model in training. Its detection hook averages float buffers too.",
            "V-code",
        ),
    ),
    task="classification",
    given={"model": "small-resnet", "epochs": "12", "seeds": "5", "eval_every": "12"},
    options={"label_noise": "0.4"},
    data_options=FOR_DIGITS,
    recipe="b-cifar100-resnet18",
    arms=_arms,
    findings=_findings,
)
