"""The page of several comparisons: a pure function of what is in their folders."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from switch_ema.bench import sections
from switch_ema.bench.files import write_text
from switch_ema.bench.joined import OUTCOMES, Comparison, Joined, what
from switch_ema.bench.markup import Html, breakable, join, table, tag
from switch_ema.bench.page import Part, build_page, figure, plot_data
from switch_ema.bench.plots import Plot
from switch_ema.bench.summary import verdict_words
from switch_ema.bench.wording import NONE, count, show_difference, show_interval, show_spread, signed
from switch_ema.errors import InputError

NAME = "joined.html"
_ROW = 26  # pixels of a method in the figure

_HOW = (
    "A method wins or loses where the 95 % interval of its paired difference to the baseline leaves out zero, each at "
    "its own best learning rate, chosen on validation and read on test after the last epoch; else it is a tie. Where "
    "there is no interval, as with one seed, the outcome is unknown. Methods are joined by their labels."
)


def default_path(folders: Sequence[Path]) -> Path:
    """Return where the page of several run folders goes: into the first folder above all of them."""
    places = [folder.resolve().parent for folder in folders]
    above = Path(os.path.commonpath(places))
    here = Path.cwd()
    return (above.relative_to(here) if above.is_relative_to(here) else above) / NAME


def write_joined(joined: Joined, path: Path) -> None:
    """Write the page, atomically.

    Args:
        joined: The comparisons.
        path: The file.

    Raises:
        InputError: The file cannot be written.
    """
    if path.is_dir():
        raise InputError(f"--out {path} is a folder; name a file such as {path / NAME}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"--out {path} cannot be written ({error.strerror}); choose another file") from None
    write_text(path, build_joined(joined, path.resolve().parent))


def build_joined(joined: Joined, place: Path) -> str:
    """Return the page; the same input gives the same page.

    Args:
        joined: The comparisons.
        place: The folder that the page lies in, from which its links start.
    """
    answer = tag("div", join(tag("p", sentence) for sentence in joined.sentences()), class_="answer")
    result = [answer, sections.notes(joined.notes()), _outcomes(joined)]
    result.append(tag("details", tag("summary", "How to read these numbers"), tag("p", _HOW)))
    plot = forest(joined)
    text = (
        "Paired difference to the baseline with its 95 % interval, in percent of the baseline's mean test value; right "
        "of zero the method is better, whichever way the metric counts. Points are pale where there is no interval."
    )
    parts = [
        Part("result", "Result", join(result)),
        Part("differences", "Difference to the baseline", join([tag("p", text, class_="prose"), figure(plot, 0)])),
    ]
    if controls := _controls(joined):
        parts.append(Part("control", "Is it only the learning rate?", controls))
    parts.append(Part("comparisons", "The comparisons", _comparisons(joined, place)))
    names = [each.name for each in joined.comparisons]
    return build_page(
        eyebrow="comparisons joined",
        title="Does averaging, or switching onto the average, help across tasks?",
        facts=f"{count(len(names), 'comparison')} · {count(len(joined.labels), 'method')} beside the baseline",
        parts=parts,
        data=plot_data([plot]),
        script="study.js",
    )


def forest(joined: Joined) -> Plot:
    """Draw the difference of every method in every comparison, in percent of the baseline.

    Args:
        joined: The comparisons.
    """
    shown = joined.comparisons[::-1]  # the first one on top
    labels, traces, rows = list(joined.labels), list[dict[str, Any]](), list[tuple[str, str, str]]()
    for number, label in enumerate(labels, start=1):
        points = [(place, found) for place, each in enumerate(shown) if (found := each.percent(label))]
        offset = 0.38 - 0.76 * (number - 0.5) / len(labels)
        ends = [(found.mean, found.low, found.high) for _, found in points]
        errors = {
            "type": "data",
            "symmetric": False,
            "array": [0 if high is None or mean is None else high - mean for mean, _, high in ends],
            "arrayminus": [0 if low is None or mean is None else mean - low for mean, low, _ in ends],
        }
        traces.append(
            {"x": [found.mean for _, found in points], "y": [place + offset for place, _ in points], "error_x": errors,
             "mode": "markers", "name": label, "legendgroup": label, "meta": {"series": number},
             "marker": {"opacity": [0.4 if low is None else 1 for _, low, _ in ends]},
             "text": [f"{shown[place].name}<br>{show_difference(found, 2)}" for place, found in points],
             "hovertemplate": "%{text} %"}
        )  # fmt: skip
        rows += [(shown[place].name, label, show_difference(found, 2)) for place, found in reversed(points)]
    layout = {
        "xaxis": {"title": {"text": "difference to the baseline, % of the baseline"}, "zeroline": True},
        "yaxis": {
            "tickvals": list(range(len(shown))), "ticktext": [each.name.replace(", ", "<br>") for each in shown],
            "range": [-0.5, len(shown) - 0.5], "showgrid": False,
        },
    }  # fmt: skip
    height = 90 + len(shown) * max(60, _ROW * len(labels))
    head = ["Comparison", "Method", "Difference, % of the baseline"]
    return Plot("Difference to the baseline in every comparison", traces, layout, head, sorted(rows), height=height)


def _outcomes(joined: Joined) -> Html:
    head = ["Method", *(word.capitalize() for word in OUTCOMES.values()), *(each.name for each in joined.comparisons)]
    rows = [
        (
            join([breakable(label), tag("small", "learning-rate control") if joined.is_control(label) else ""]),
            *(len(names) for names in joined.tally(label).values()),
            *(_gain(each, label) for each in joined.comparisons),
        )
        for label in joined.labels
    ]  # fmt: skip
    return table("Wins, losses and ties against the baseline", head, rows)


def _gain(comparison: Comparison, label: str) -> Html:
    gain, judgement = comparison.gain(label), comparison.judge(label)
    if gain is None or judgement is None or gain.mean is None:
        return Html(NONE)
    decimals = comparison.summary.decimals
    reading = tag("small", sections.READINGS[judgement])
    return join([signed(gain.mean, decimals), tag("small", show_interval(gain, decimals)), reading])


def _controls(joined: Joined) -> Html | None:
    rows = [
        (
            breakable(verdict.method),
            each.name,
            breakable(verdict.control or NONE),
            show_difference(verdict.difference, each.summary.decimals),
            verdict_words(verdict),
        )
        for label in joined.labels
        for each in joined.comparisons
        if (verdict := each.verdict(label))
    ]
    head = ["Switching method", "Comparison", "Best control", "Method minus control", "Verdict"]
    return table("Switching methods against their controls", head, rows, words=[1, 2, 4]) if rows else None


def _comparisons(joined: Joined, place: Path) -> Html:
    rows = []
    for each in joined.comparisons:
        link = Path(os.path.relpath(each.folder.resolve() / "report.html", place)).as_posix()
        plain = each.summary.rows[0]
        asked = each.run["asked"]
        size = f"{count(asked['seeds'], 'seed')}, {count(asked['epochs'], 'epoch')}"
        value = f"test {each.summary.metric} {show_spread(plain.test, each.summary.decimals)}"
        about = [", ".join(what(each.run)), size, value, each.summary.sentences[0]]
        rows.append((tag("a", each.name, href=link), *about))
    return table("The comparisons", ["Report", "What", "Size", "Baseline", "In short"], rows, words=[1, 2, 3, 4])
