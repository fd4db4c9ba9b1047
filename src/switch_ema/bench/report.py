"""The report of a comparison: one HTML page that opens offline, a pure function of a run folder's files."""

from __future__ import annotations

import base64
import gzip
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from switch_ema.bench import sections
from switch_ema.bench.figures import figure_data
from switch_ema.bench.files import write_text
from switch_ema.bench.gallery import gallery, read_exhibits
from switch_ema.bench.markup import Html, escape, join, tag
from switch_ema.bench.page import Part, build_page
from switch_ema.bench.results import read_run
from switch_ema.bench.stats import Results
from switch_ema.bench.summary import Summary, summarize
from switch_ema.bench.widths import read_sweep, show_widths, summarize_widths
from switch_ema.errors import InputError

HOW_TO_READ = """
± is the standard deviation over seeds. A difference is the mean over seeds of method minus baseline with the same seed,
with its 95 % Student t-interval; "better" or "worse" is said only when the interval leaves out zero. One seed gives no
interval, nor do seeds that all differ by the same amount. Each interval stands alone: of twenty true ties, one would
show a difference. All seeds are tested on the same examples, and no interval says what others would give: an effect of
a few examples may be theirs. Learning rates, epochs and controls are chosen on the validation split, values are read on
the test split. "Best validation epoch" takes each seed's test value at the epoch that is best on validation. "Epochs
chosen on test" is the rule of the Switch EMA paper's code, (best + 99th percentile) / 2 over the test values of all
epochs: it peeks at the test set, flatters every method, and stands here only for comparison with numbers reported that
way. "Epochs to the baseline's last value" is the first epoch at which a seed is at least as good as the baseline ends.
A seed whose last value is not finite has diverged; it is in no mean, and is counted.
"""
WHY_CONTROL = """
A switch throws away part of the progress since the last one, which acts like a lower learning rate. The control is
plain training, or its average, at the learning rate times the share that a switch keeps. If the best of the controls
does as well, switching itself is not what helped.
"""
WHY_WIDTHS = """
Averages of several widths, made after training from the snapshots of post-hoc EMA. sigma_rel is the standard deviation
of the average's profile as a part of training; the fit says by how much the profile that snapshots can give misses it.
"""
WHOSE = "Of the first seed, after the last epoch; every method is given the same input."
WHY_BATCHNORM = """
Averaged weights need BatchNorm statistics of their own. They are averaged along with the weights, or re-estimated by a
pass over training data; if the second is much better, the averaged ones do not fit.
"""


def write_report(directory: Path, *, live: bool = False) -> Path:
    """Write ``report.html`` of a run directory, atomically, and return its path.

    Args:
        directory: A folder with ``run.json`` and ``rows.jsonl``.
        live: Whether the page loads itself anew every few seconds.

    Raises:
        InputError: A file is missing or damaged, or there is no row yet.
    """
    run, rows = read_run(directory)
    try:
        page = build_report(run, rows, read_exhibits(directory), read_sweep(directory), live=live)
    except InputError as error:
        raise InputError(f"{directory}: {error}") from None
    path = directory / "report.html"
    write_text(path, page)
    return path


def build_report(
    run: Mapping[str, Any],
    rows: Sequence[Mapping[str, Any]],
    exhibits: Sequence[Mapping[str, Any]] = (),
    swept: Sequence[Mapping[str, Any]] = (),
    *,
    live: bool = False,
) -> str:
    """Return the report as one HTML page; the same input gives the same page.

    Args:
        run: Contents of ``run.json``.
        rows: Contents of ``rows.jsonl``.
        exhibits: What the task shows (see `switch_ema.bench.gallery.read_exhibits`).
        swept: What a sweep over widths found (see `switch_ema.bench.widths.read_sweep`).
        live: Whether the page loads itself anew every few seconds.

    Raises:
        InputError: There is no row yet.
    """
    summary, results = summarize(run, rows), Results.from_rows(run, rows)
    lines = "".join(json.dumps(row) + "\n" for row in rows)
    return build_page(
        eyebrow="comparison",
        title=sections.question(run),
        facts=sections.facts_line(run, results),
        parts=_sections(run, rows, exhibits, swept, results, summary),
        data=figure_data(run, results, summary),
        script="report.js",
        rows=base64.b64encode(gzip.compress(lines.encode(), mtime=0)).decode(),
        live=live,
    )


def _sections(
    run: Mapping[str, Any],
    rows: Sequence[object],
    exhibits: Sequence[Mapping[str, Any]],
    swept: Sequence[Mapping[str, Any]],
    results: Results,
    summary: Summary,
) -> list[Part]:
    """Return key, heading and body of every section that has something to show."""
    answer = join(tag("p", sentence) for sentence in summary.sentences)
    how = tag("details", tag("summary", "How to read these numbers"), tag("p", HOW_TO_READ))
    body = [tag("div", answer, class_="answer"), sections.notes(summary.notes)]
    parts = [Part("result", "Result", join([*body, sections.headline(results, summary), how]))]
    if summary.verdicts:
        control = [tag("p", WHY_CONTROL, class_="prose"), sections.controls(summary)]
        parts.append(Part("control", "Is it only the learning rate?", join(control)))
    rates = {row.label: row.lr for row in summary.rows}
    if shown := gallery(exhibits, rates):
        parts.append(Part("made", "What the methods made", join([tag("p", WHOSE, class_="prose"), shown])))
    parts.append(Part("figures", "During training", _figures(results, summary)))
    if summary.own_rates:
        text = "Below each value: the difference to the baseline at the same rate, and its 95 % interval."
        body = [tag("p", text, class_="prose"), sections.equal_rates(results, summary)]
        parts.append(Part("rates", "At equal learning rates", join(body)))
    parts.append(Part("averages", "Averages and switches", sections.averages(run, results, summary)))
    if widths := summarize_widths(swept, run, rates):
        body = [tag("p", WHY_WIDTHS, class_="prose"), show_widths(widths, summary)]
        parts.append(Part("widths", "Width of the average, chosen after training", join(body)))
    if batchnorm := sections.batchnorm(results, summary):
        body = [tag("p", WHY_BATCHNORM, class_="prose"), batchnorm]
        parts.append(Part("batchnorm", "BatchNorm statistics", join(body)))
    record = [
        tag("p", tag("code", run["command"]), class_="command"),
        tag("h3", "Settings"),
        sections.settings(run["asked"]),
        tag("h3", "Environment"),
        sections.settings({"started": run["started"]} | run["environment"]),
        tag("h3", "Measurements"),
        tag("p", tag("a", "Download rows.jsonl", id="download", download="rows.jsonl", class_="button"),
            tag("span", f"{len(rows)} measurements, one a line", class_="muted")),
    ]  # fmt: skip
    return [*parts, Part("record", "Settings and data", join(record))]


def _figures(results: Results, summary: Summary) -> Html:
    """Return the controls and the empty frames of the figures; the script fills them."""
    choices = [
        tag("fieldset", tag("legend", "Methods shown"), tag("div", id="methods"),
            tag("button", "Show all", type="button", id="show-all"),
            tag("button", "Hide all", type="button", id="hide-all")),
        _select("view", "Measure"),
    ]  # fmt: skip
    if summary.own_rates:
        choices.append(_select("rate", "Learning rate"))
    name = escape(f"test {results.metric}")
    band = "Mean over the seeds; the band runs from the lowest to the highest seed."
    interval = f"Mean paired difference in {name} at fixed points of the budget, with its 95 % interval over seeds."
    frames = [
        _frame("curves", "Learning curves", band),
        _frame("differences", "Difference to the baseline", interval),
    ]
    if summary.own_rates:
        text = f"Last {name} against the learning rate (log scale); the bar runs from the lowest to the highest seed."
        frames.append(_frame("sensitivity", "Sensitivity to the learning rate", text))
    return tag("div", tag("div", *choices, class_="rail"), tag("div", *frames, class_="frames"), class_="explore")


def _select(key: str, name: str) -> Html:
    return tag("label", name, tag("select", id=key))


def _frame(key: str, title: str, text: str) -> Html:
    return tag(
        "figure",
        tag("figcaption", tag("h3", title), tag("p", text, class_="muted")),
        tag("div", id=key, class_="plot", role="img", aria_label=f"{title}; the same numbers are in the table below"),
        tag("details", tag("summary", "The same as a table"),
            tag("div", id=f"{key}-table", class_="scroll", role="region", aria_label=f"{title}, table", tabindex=0)),
    )  # fmt: skip
