"""Sections of the study of the noisy quadratic: noise, speed, stability, and the chains that confirm them."""

from __future__ import annotations

import statistics
from dataclasses import replace

from switch_ema.bench.plots import Plot, Series, Trace, heatmap, lines
from switch_ema.bench.studies.study import Panel
from switch_ema.bench.studies.theory_records import (
    NAMES,
    STEP,
    Records,
    below,
    large,
    only,
    order,
    percent,
    small,
    values,
)

_SHOWN = {"decay": 0.99, "windows": 0.5}


def variance_panel(settings: Records) -> Panel:
    """Say who keeps how much noise, and how the gain of switching depends on the interval."""
    low, high = small(settings), large(settings)
    windows, decays = values(low, "windows"), values(low, "decay")
    gain = {w: statistics.median(1 - s["switch"] / s["ema"] for s in only(low, windows=w)) for w in windows}
    sentence = (
        f"Noise: at steps below 1, the variance of Switch EMA is below that of EMA in {order(low, 'switch', 'ema')}, "
        f"and that of EMA below that of SGD in {order(low, 'ema', 'sgd')}. The gain over EMA (median) is "
        f"{percent(gain[windows[0]])} at intervals of {windows[0]:g} windows, {percent(gain[1])} at 1 window and "
        f"{percent(gain[windows[-1]])} at {windows[-1]:g}. At steps from 1 to 2, Switch EMA is below EMA in "
        f"{order(high, 'switch', 'ema')}."
    )
    maps = []
    for step in (0.01, 0.1):
        rows = [only(settings, step=step, decay=decay) for decay in decays]
        ratios = [[s["switch"] / s["ema"] for s in sorted(row, key=lambda s: float(s["windows"]))] for row in rows]
        title = f"Variance of Switch EMA as a part of EMA's, at the step {step:g}"
        x, y = [f"{w:g}" for w in windows], [f"{decay:g}" for decay in decays]
        maps.append(heatmap(title, "interval in windows", "decay", x, y, ratios, unit="part"))
    text = (
        "A window is 1 / (1 - decay) steps. Switch EMA is taken right after a switch, when weights and average agree."
    )
    return Panel(
        "Noise that is left", sentence, text, [_by_step(settings, "Variance", "in units of the noise", ""), *maps]
    )


def contraction_panel(settings: Records) -> Panel:
    """Say who comes closer to the optimum in an interval, in the mean."""
    low, high = small(settings), large(settings)
    slows = all(below(s, "sgd_left", "switch_left") and below(s, "ema_left", "switch_left") for s in low)
    slower = "in the mean, switching always slows down" if slows else "in the mean, switching does not always slow down"
    sentence = (
        "Speed: at steps below 1, what an interval leaves of the expected distance to the optimum is less for SGD than "
        f"for Switch EMA in {order(low, 'sgd_left', 'switch_left')}, and less for EMA, in the long run, in "
        f"{order(low, 'ema_left', 'switch_left')}: {slower}. At steps from 1 to 2, where SGD "
        f"oscillates, it is less for Switch EMA than for EMA in {order(high, 'switch_left', 'ema_left')}."
    )
    text = "The absolute value of what an interval leaves of the expected distance; noise is not in it."
    plot = _by_step(settings, "Distance that an interval leaves", "part that is left", "_left")
    return Panel("Contraction per interval", sentence, text, [plot])


def stability_panel(bounds: Records) -> Panel:
    """Say from which step on each method diverges."""
    intervals, decays = values(bounds, "interval"), values(bounds, "decay")
    lowest, highest = (choose(bounds, key=lambda b: float(b["closed"])) for choose in (min, max))
    longest = max(b["closed"] for b in only(bounds, interval=intervals[-1]))
    off = max(abs(b["closed"] / b["iterated"] - 1) for b in bounds)
    sentence = (
        "Stability: SGD and EMA diverge from the step 2 on, Switch EMA only from "
        f"{highest['closed']:.2f} with decay {highest['decay']:g} and a switch every {highest['interval']} steps, but "
        f"from {lowest['closed']:.3f} with decay {lowest['decay']:g} and one every {lowest['interval']}: with a switch "
        f"every {intervals[-1]} steps, no decay bears more than {percent(longest / 2 - 1)} above SGD. Iteration "
        f"without noise finds these bounds to a part of {off:.0e}."
    )
    rows = [[only(bounds, decay=decay, interval=i)[0]["closed"] for i in intervals] for decay in decays]
    x, y = [str(i) for i in intervals], [f"{decay:g}" for decay in decays]
    plot = heatmap("Step from which on Switch EMA diverges", "interval in steps", "decay", x, y, rows, unit="step")
    text = (
        "Where the window is longer than the interval, even intervals bear less than odd ones, as 50 and 51 show. "
        "Beyond the step 2 the weights do grow inside an interval; a loss that is no parabola need not bear that."
    )
    return Panel("Stability", sentence, text, [plot])


def chains_panel(chains: Records) -> Panel:
    """Say whether simulated chains agree with the closed forms."""
    off = [(c["variance"] - c["closed"]) / c["error"] for c in chains]
    farthest, beyond = max(map(abs, off)), sum(abs(z) > 3 for z in off)
    verdict = "agree" if farthest < 4.5 else "do not agree"  # chance alone exceeds it in 1 of 1000 studies
    sentence = (
        f"Check: {len(off)} variances measured on simulated chains {verdict} with the closed forms: {beyond} of them "
        f"lie beyond 3 standard errors, where chance alone puts {0.0027 * len(off):.1f}; the farthest is off by "
        f"{farthest:.1f}."
    )
    of = NAMES | {"online": "Switch EMA before a switch", "midway": "its average half-way"}
    head = ["Decay, interval, step", *of.values()]
    places = sorted({(c["decay"], c["interval"], c["step"]) for c in chains})
    rows = []
    for decay, interval, step in places:
        same = {c["name"]: c for c in only(chains, decay=decay, interval=interval, step=step)}
        cells = (f"{same[name]['variance']:.3g} ({same[name]['closed']:.3g})" for name in of)
        rows.append((f"{decay:g}, {interval}, {step:g}", *cells))
    text = (
        "Points with standard errors are chains, lines the closed forms; the table gives the closed forms in brackets."
    )
    return Panel("Chains against closed forms", sentence, text, [_agreement(chains)], (head, rows))


def _by_step(settings: Records, title: str, y: str, suffix: str) -> Plot:
    shown = sorted(only(settings, **_SHOWN), key=lambda s: float(s["step"]))
    interval = shown[0]["interval"]
    series = [
        Series(name, [s["step"] for s in shown], [abs(s[key + suffix]) for s in shown], style=n)
        for n, (key, name) in enumerate(NAMES.items())
    ]
    title = f"{title}: decay {_SHOWN['decay']:g}, a switch every {interval:g} steps"
    return lines(title, STEP, y, series, log_x=True, log_y=not suffix)


def _agreement(chains: Records) -> Plot:
    decay, interval = max(
        ((c["decay"], c["interval"]) for c in chains if c["decay"] == _SHOWN["decay"]), key=lambda s: -s[1]
    )
    title = f"Chains and closed forms: decay {decay:g}, a switch every {interval} steps"
    series, points = [], list[Trace]()
    for style, (key, name) in enumerate(NAMES.items()):
        shown = only(chains, decay=decay, interval=interval, name=key)
        steps = [c["step"] for c in shown]
        series.append(Series(name, steps, [c["closed"] for c in shown], style=style))
        error = {"type": "data", "array": [c["error"] for c in shown], "visible": True}
        points.append(
            {"x": steps, "y": [c["variance"] for c in shown], "mode": "markers", "name": f"{name}, chains",
             "error_y": error, "meta": {"series": style}}
        )  # fmt: skip
    plot = lines(title, STEP, "variance in units of the noise", series, log_x=True, log_y=True, markers=False)
    return replace(plot, traces=[*plot.traces, *points])
