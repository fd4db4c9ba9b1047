"""The frame of every page that the bench writes: one HTML file that opens offline."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib.resources import files
from typing import Any, NamedTuple

from plotly.offline import get_plotlyjs

from switch_ema.bench.markup import Html, join, script_json, table, tag
from switch_ema.bench.plots import Plot

POLICY = "default-src 'none'; script-src 'unsafe-inline' blob:; style-src 'unsafe-inline'; img-src data: blob:"


class Part(NamedTuple):
    """A section of a page: the key of its link, its heading, its content."""

    key: str
    heading: str
    body: Html


def build_page(
    *,
    eyebrow: str,
    title: str,
    facts: str,
    parts: Sequence[Part],
    data: Mapping[str, Any],
    script: str,
    rows: str = "",
    live: bool = False,
) -> str:
    """Return a page; the same input gives the same page.

    Args:
        eyebrow: What kind of page it is, in a few words.
        title: Its heading.
        facts: A line of facts below it.
        parts: Its sections.
        data: What the script draws, as plain data.
        script: Name of the script in ``template/`` that draws after ``common.js``, such as ``report.js``.
        rows: Packed measurements to be downloaded.
        live: Whether it loads itself anew every few seconds, for runs that go on.
    """
    template = files("switch_ema.bench") / "template"
    names = ("report.css", "common.js", script, *(["live.js"] if live else []))
    css, *scripts = ((template / name).read_text(encoding="utf-8") for name in names)
    links = join(tag("a", part.heading, href=f"#{part.key}") for part in parts)
    return "\n".join(
        [
            '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">',
            f'<meta http-equiv="Content-Security-Policy" content="{POLICY}">',
            '<meta name="viewport" content="width=device-width, initial-scale=1">',
            '<meta name="color-scheme" content="light dark">',
            tag("title", f"{title} | Switch EMA"),
            f"<style>\n{css}</style>\n</head>\n<body>",
            tag("a", "Skip to the result", class_="skip", href=f"#{parts[0].key}"),
            tag("header", tag("p", f"Switch EMA · {eyebrow}", class_="eyebrow"), tag("h1", title),
                tag("p", facts, class_="muted"),
                tag("nav", links, aria_label="Sections")),
            "<main>",
            *(tag("section", tag("h2", part.heading), part.body, id=part.key, tabindex=-1) for part in parts),
            "</main>",
            f'<script id="data" type="application/json">{script_json(data)}</script>',
            *([f'<script id="rows" type="text/plain">{rows}</script>'] if rows else []),
            f'<script id="plotly" type="text/plain">{get_plotlyjs()}</script>',
            f"<script>\n{''.join(scripts)}</script>\n</body>\n</html>\n",
        ]
    )  # fmt: skip


def figure(plot: Plot, number: int) -> Html:
    """Return the frame of a figure with its legend and table; the script fills it.

    Args:
        plot: The figure.
        number: Its place in what `plot_data` was given.
    """
    size = f"height: {plot.height}px" + (f"; max-width: {plot.width}px" if plot.width else "")
    return tag(
        "figure",
        tag("figcaption", tag("h3", plot.title)),
        tag("div", id=f"legend-{number}", class_="legend"),
        tag("div", id=f"plot-{number}", class_="plot", style=size, role="img",
            aria_label=f"{plot.title}; the same numbers are in the table below"),
        tag("details", tag("summary", plot.table), table(plot.title, plot.head, plot.rows)),
    )  # fmt: skip


def plot_data(plots: Sequence[Plot]) -> dict[str, Any]:
    """Return what ``study.js`` draws."""
    return {"plots": [{"traces": plot.traces, "layout": plot.layout, "height": plot.height} for plot in plots]}
