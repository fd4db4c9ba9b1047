"""The sections of the report that are words and tables."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from switch_ema.bench.figures import show_rate
from switch_ema.bench.markup import Html, breakable, facts, join, table, tag
from switch_ema.bench.stats import (
    BASELINE,
    Difference,
    Results,
    budget_points,
    paired_difference,
    spread,
)
from switch_ema.bench.summary import MethodRow, Summary, verdict_words
from switch_ema.bench.wording import NONE, count, decimals_for, show_interval, show_reach, show_spread, signed

REESTIMATED = "_bn_reestimated"
READINGS = {"better": "better", "worse": "worse", "unclear": "no clear difference", "unknown": "cannot tell"}


def question(run: Mapping[str, Any]) -> str:
    """Return the question that the comparison asks."""
    asked = run["asked"]
    means = "averaging the weights"
    if any(method["switches"] for method in run["methods"]):
        means += ", or switching training onto the average,"
    return f"Does {means} help {asked['task']} on {asked['data']}?"


def facts_line(run: Mapping[str, Any], results: Results) -> str:
    """Return the size of the comparison in one line."""
    parts = [
        run.get("model", run["asked"]["model"]),
        count(len(results.methods), "method"),
        count(len(results.seeds), "seed"),
        count(results.epochs, "epoch"),
        f"learning rate {', '.join(map(show_rate, results.lrs))}",
    ]
    return " · ".join(parts)


def headline(results: Results, summary: Summary) -> Html:
    """Return the headline table."""
    total = len(results.seeds)
    scale = _scale([row.difference for row in summary.rows if row.difference])
    name = summary.metric
    own_rate = ["Own best learning rate"] if summary.own_rates else []
    head = [
        "Method",
        *own_rate,
        f"Test {name}, last epoch",
        "Difference to baseline, 95 % interval",
        "Reading",
        f"Test {name}, best validation epoch",
        f"Test {name}, epochs chosen on test",
        *(f"Test {metric}" for metric in results.final_metrics),
        "Epochs to the baseline's last value",
    ]
    rows = [
        (
            _method(row),
            *(_own_rate(row) for _ in own_rate),
            join([show_spread(row.test, summary.decimals), _troubles(row, total)]),
            _difference(row.difference, summary.decimals, scale),
            READINGS[row.difference.judge(summary.higher_is_better)] if row.difference else "the reference",
            show_spread(row.best_validation, summary.decimals),
            join([show_spread(row.peeked, summary.decimals), tag("small", "peeks", class_="warn")]),
            *(show_spread(found, decimals_for([found.mean])) for found in row.finals.values()),
            show_reach(row.reach),
        )
        for row in summary.rows
    ]
    return table("Result of every method", head, rows, words=[4 if summary.own_rates else 3])


def controls(summary: Summary) -> Html:
    """Return the table of the switching methods against their learning-rate controls."""
    by_label = {row.label: row for row in summary.rows}
    scale = _scale([verdict.difference for verdict in summary.verdicts])
    rows = [
        (
            breakable(verdict.method),
            show_spread(by_label[verdict.method].test, summary.decimals),
            breakable(verdict.control) if verdict.control else NONE,
            show_spread(by_label[verdict.control].test, summary.decimals) if verdict.control else NONE,
            _difference(verdict.difference, summary.decimals, scale) if verdict.control else NONE,
            verdict_words(verdict),
        )
        for verdict in summary.verdicts
    ]
    name = f"Test {summary.metric}"
    head = ["Switching method", name, "Best control", name, "Method minus control, 95 % interval", "Verdict"]
    return table("Switching methods against their controls", head, rows, words=[2, 5])


def equal_rates(results: Results, summary: Summary) -> Html:
    """Return the table of every method at every learning rate, with the difference to the baseline at that rate."""

    def cell(label: str, lr: float) -> Html:
        values = results.at(label, lr, "test")
        found = spread(values.values())
        lines = [show_spread(found, summary.decimals)]
        if found.diverged:
            lines.append(f"{found.diverged} of {count(len(results.seeds), 'seed')} diverged")
        if label != BASELINE:
            difference = paired_difference(values, results.at(BASELINE, lr, "test"))
            if difference.mean is not None:
                lines.append(
                    f"{signed(difference.mean, summary.decimals)}, {show_interval(difference, summary.decimals)}"
                )
        return join([lines[0], *(tag("small", line) for line in lines[1:])])

    rows = [(breakable(row.label), *(cell(row.label, lr) for lr in results.lrs)) for row in summary.rows]
    return table("Every method at equal learning rates", ["Method", *map(show_rate, results.lrs)], rows)


def averages(run: Mapping[str, Any], results: Results, summary: Summary) -> Html:
    """Return the table of what each method does: retained fraction, switch interval and switch points."""
    every = {method["label"]: method["switch_every"] for method in run["methods"]}
    rows = [
        (
            breakable(row.label),
            row.about,
            NONE if row.retained_fraction is None else f"{row.retained_fraction:.1%}",
            every[row.label] or "never",
            _switch_points(results, row) if row.switches else NONE,
        )
        for row in summary.rows
    ]
    head = ["Method", "What it does", "Progress kept by a switch", "Switches every", "Epochs with a switch"]
    return table("Averages and switches", head, rows, words=[1, 3, 4])


def _switch_points(results: Results, row: MethodRow) -> Html:
    """Show the epochs in which the first seed's count of switches grew, as a strip and in words."""
    curves = results.curves(row.label, row.lr, "train", "n_switches")
    if not curves:
        return Html(NONE)
    series = sorted((epoch, value or 0) for epoch, value in curves[min(curves)].items())
    earlier = [0.0, *(value for _, value in series)]
    epochs = [epoch for (epoch, value), before in zip(series, earlier, strict=False) if value > before]
    ticks = join(tag("rect", x=epoch - 0.8, y=0, width=0.6, height=1) for epoch in epochs)
    strip = tag(
        "svg", ticks, class_="strip", viewBox=f"0 0 {results.epochs} 1", preserveAspectRatio="none", aria_hidden="true"
    )
    listed = "epochs " + ", ".join(map(str, epochs if len(epochs) <= 6 else [*epochs[:3], "...", epochs[-1]]))
    where = "every epoch" if len(epochs) == len(series) else listed
    total = int(series[-1][1])
    return join([strip, tag("small", f"{total} in all; in {where}" if total else "none")])


def batchnorm(results: Results, summary: Summary) -> Html | None:
    """Return the table of averaged against re-estimated BatchNorm statistics, or None without such rows."""
    metric = results.metric + REESTIMATED
    rows = []
    decimals = summary.decimals
    for row in summary.rows:
        if not results.curves(row.label, row.lr, "test", metric):
            continue
        gaps = {
            percent: paired_difference(
                results.at(row.label, row.lr, "test", epoch=epoch, metric=metric),
                results.at(row.label, row.lr, "test", epoch=epoch),
            )
            for percent, epoch in budget_points(results.epochs).items()
        }
        last = gaps.pop(100)
        early = [NONE if gap.mean is None else signed(gap.mean, decimals) for gap in gaps.values()]
        again = spread(results.at(row.label, row.lr, "test", metric=metric).values())
        end = _difference(last, decimals, None)
        rows.append((breakable(row.label), show_spread(row.test, decimals), show_spread(again, decimals), end, *early))
    if not rows:
        return None
    early_head = [f"at {percent} % of the budget" for percent in budget_points(results.epochs) if percent < 100]
    head = ["Method", "As averaged", "Re-estimated", "Re-estimated minus averaged, 95 % interval", *early_head]
    return table("BatchNorm statistics, averaged and re-estimated", head, rows)


def settings(values: Mapping[str, Any]) -> Html:
    """Return names and values of a flat mapping."""

    def show_value(value: Any) -> object:
        if isinstance(value, Sequence) and not isinstance(value, str):
            return join(tag("span", item, class_="item") for item in value)
        if isinstance(value, bool):
            return "yes" if value else "no"
        return NONE if value is None else value

    return facts((name.replace("_", " "), show_value(value)) for name, value in values.items())


def notes(lines: Sequence[str]) -> Html:
    """Return a list of notes; nothing for none."""
    return tag("ul", join(tag("li", line) for line in lines), class_="notes") if lines else Html()


def _method(row: MethodRow) -> Html:
    whose = join(map(breakable, row.control_for), " and ")
    return join([breakable(row.label), tag("small", "learning-rate control for ", whose) if whose else ""])


def _own_rate(row: MethodRow) -> str:
    return show_rate(row.lr) + ("" if row.lr_scale == 1 else f" \N{MULTIPLICATION SIGN} {row.lr_scale:.3g}")


def _troubles(row: MethodRow, total: int) -> Html:
    """Say over how many seeds the mean is, when not over all."""
    troubles = ((row.diverged, "diverged"), (row.unfinished, "unfinished"))
    lines = (f"{n} of {count(total, 'seed')} {what}" for n, what in troubles if n)
    return join(tag("small", line, class_="warn") for line in lines)


def _scale(differences: Sequence[Difference]) -> float | None:
    """Return half the width of the interval plots: the largest end, yet at most four times the median one."""
    ends = sorted(
        max(abs(each.low), abs(each.high)) for each in differences if each.low is not None and each.high is not None
    )
    return min(ends[-1], 4 * ends[len(ends) // 2]) or None if ends else None


def _difference(difference: Difference | None, decimals: int, scale: float | None) -> Html:
    if difference is None:
        return Html(NONE)
    if difference.mean is None:
        return tag("small", "no common seed")
    n = f" ({count(difference.n, 'seed')})"
    return join(
        [
            signed(difference.mean, decimals),
            _interval_plot(difference, scale) if scale else "",
            tag("small", show_interval(difference, decimals) + ("" if difference.low is None else n)),
        ]
    )


def _interval_plot(difference: Difference, scale: float) -> Html:
    """Draw the interval as a line with a dot for the mean; what lies outside the scale is cut off."""
    if difference.mean is None or difference.low is None or difference.high is None:
        return Html()
    low, mean, high = (
        round(60 + 56 * max(-1.0, min(1.0, value / scale)), 1)
        for value in (difference.low, difference.mean, difference.high)
    )
    return tag(
        "svg",
        tag("line", x1=60, x2=60, y1=0, y2=14, class_="zero"),
        tag("line", x1=low, x2=high, y1=7, y2=7),
        tag("circle", cx=mean, cy=7, r=3.2),
        class_="interval", viewBox="0 0 120 14", aria_hidden="true",
    )  # fmt: skip
