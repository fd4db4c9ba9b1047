"""Sections of the study of the noisy quadratic: switching against smaller and against tuned learning rates."""

from __future__ import annotations

import statistics
from collections.abc import Sequence

from switch_ema.bench.plots import Series, lines
from switch_ema.bench.studies.study import Panel
from switch_ema.bench.studies.theory_numbers import budget_intervals
from switch_ema.bench.studies.theory_records import (
    NAMES,
    STEP,
    Record,
    Records,
    below,
    only,
    order,
    percent,
    small,
    values,
)

_LEVEL = 0.02  # the grid of learning rates tells no smaller share of a loss


def equal_panel(settings: Records) -> Panel:
    """Say whether a smaller learning rate does the same as switching, in one direction."""
    shown = [s for s in small(settings) if s["interval"] > 1 and s["switch_left"] > 0.01]
    ratio = statistics.median(s["ema_equal"] / s["switch"] for s in shown)
    always = all(below(s, "ema_equal", "switch") for s in shown)
    sentence = (
        "A smaller learning rate: at the one at which it contracts as fast as Switch EMA, plain SGD has less variance "
        f"than it in {order(shown, 'sgd_equal', 'switch')}, and EMA in {order(shown, 'ema_equal', 'switch')}; the "
        f"variance of EMA is then {percent(ratio)} of that of Switch EMA (median). Along one direction, "
        + ("EMA with a smaller learning rate always does better." if always else "neither is always better.")
    )
    decays, windows = values(shown, "decay"), values(shown, "windows")
    middle = decays[len(decays) // 2]
    series = []
    for decay, window in (
        (decays[0], 0.5),
        (middle, windows[0]),
        (middle, 0.5),
        (middle, windows[-1]),
        (decays[-1], 0.5),
    ):
        rows = only(shown, decay=decay, windows=window)
        name = f"decay {decay:g}, every {window:g} windows"
        series.append(Series(name, [s["step"] for s in rows], [s["equal"] / s["step"] for s in rows]))
    plot = lines(
        "Learning rate at which SGD contracts as fast, as a part of Switch EMA's", STEP, "part of the learning rate",
        series, log_x=True, log_y=True,
    )  # fmt: skip
    text = (
        "Settings at steps below 1 with intervals of 2 steps at least, of which an interval leaves more than 1 %. Flat "
        "directions (small steps) keep the retained fraction of the learning rate, steep ones less: switching is a cut "
        "that spares flat directions, which is why many directions are compared below."
    )
    return Panel("A learning-rate cut in disguise?", sentence, text, [plot])


def budgets_panel(budgets: Records) -> Panel:
    """Say what each method reaches in a number of steps with everything chosen, and at how high learning rates."""
    best = [{name: min(_finite(cell[name]["losses"])) for name in NAMES} for cell in budgets]
    ratios = [each["switch"] / each["ema"] for each in best]
    plain = sum(each["switch"] < (1 - _LEVEL) * each["sgd"] for each in best)
    longest = sum(cell["switch"]["interval"] == budget_intervals(cell["steps"])[-1] for cell in budgets)
    shown = max(budgets, key=lambda cell: (cell["spread"], -abs(cell["steps"] - 1000)))
    sentence = (
        f"Everything tuned, {len(best)} budgets: Switch EMA ends at a higher loss than EMA in "
        f"{sum(r > 1 + _LEVEL for r in ratios)} and at a lower one in {sum(r < 1 - _LEVEL for r in ratios)} (it is "
        f"{min(ratios):.2f} to {max(ratios):.2f} times EMA's), and at a lower one than plain SGD in {plain}. It chose "
        f"the longest interval tried, half of the budget or less, in {longest}. {_forgiving(shown)}"
    )
    head = ["Steps, spread of curvatures", *NAMES.values(), "EMA chose", "Switch EMA chose"]
    rows = [
        (
            f"{cell['steps']}, {cell['spread']}",
            *(f"{each[name]:.3g}" for name in NAMES),
            *(_chosen(cell[name], cell["rates"]) for name in ("ema", "switch")),
        )
        for cell, each in zip(budgets, best, strict=True)
    ]
    series = [
        Series(name, shown["rates"], _progress(shown, key), style=style)
        for style, (key, name) in enumerate(NAMES.items())
    ]
    title = f"Expected loss after {shown['steps']} steps, curvatures spread by {shown['spread']}"
    x = "learning rate (largest curvature 1)"
    text = (
        "Constant learning rate; start 10 standard deviations of the noise from the optimum in each of 8 directions, "
        "their curvatures evenly on a log scale; learning rate, decay and interval (5 steps to half of the budget) are "
        "each one's best on one grid. Losses are those above the least, 1 at one standard deviation from the optimum; "
        "within "
        f"{percent(_LEVEL)} they count as level, and those above the loss at the start are not drawn."
    )
    plot = lines(title, x, "loss", series, log_x=True, log_y=True, markers=False)
    return Panel("Everything tuned", sentence, text, [plot], (head, rows))


def _forgiving(cell: Record) -> str:
    """Say over which learning rates each method is good."""
    limit = 2 * min(_finite(cell["sgd"]["losses"]))
    ranges = []
    for key, name in NAMES.items():
        good = [
            r for r, loss in zip(cell["rates"], cell[key]["losses"], strict=True) if loss is not None and loss <= limit
        ]
        ranges.append(f"{name} {min(good):.2g} to {max(good):.2g}" if good else f"{name} nowhere")
    return (
        f"Good learning rates (at most twice plain SGD's best loss, after {cell['steps']} steps, curvatures spread by "
        f"{cell['spread']}): {', '.join(ranges)}."
    )


def _progress(cell: Record, method: str) -> list[float | None]:
    return [loss if loss is not None and loss < cell["start"] else None for loss in cell[method]["losses"]]


def _finite(losses: Sequence[float | None]) -> list[float]:
    return [loss for loss in losses if loss is not None]


def _chosen(choice: Record, rates: Sequence[float]) -> str:
    rate = rates[choice["losses"].index(min(_finite(choice["losses"])))]
    every = f", every {choice['interval']}" if "interval" in choice else ""
    return f"rate {rate:.2g}, decay {choice['decay']:g}{every}"
