"""The page of a study: the answer in words, figures, what the papers say; a pure function of the study's files."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from switch_ema.bench import sections
from switch_ema.bench.files import write_text
from switch_ema.bench.markup import Html, join, table, tag
from switch_ema.bench.methods import slug
from switch_ema.bench.page import Part, build_page, figure, plot_data
from switch_ema.bench.plots import Plot
from switch_ema.bench.studies.entries import find_study
from switch_ema.bench.studies.record import read_arms, read_study
from switch_ema.bench.studies.study import Findings, Panel, Reading, Study
from switch_ema.bench.studies.text import as_markdown
from switch_ema.bench.wording import count
from switch_ema.recipes.reader import EVIDENCE


def write_study(out: Path) -> tuple[Findings, Path]:
    """Write ``report.html`` of a study, and the same as text, ``findings.md``.

    Args:
        out: The folder of the study.

    Returns:
        What came out, and the path of the page.

    Raises:
        InputError: A file is damaged or missing.
    """
    record, arms = read_study(out), read_arms(out)
    study = find_study(record["study"])
    findings = _with_caveats(study.findings(arms), arms)
    path = out / "report.html"
    write_text(out / "findings.md", as_markdown(record, study, arms, findings))
    write_text(path, _page(record, study, arms, findings))
    return findings, path


def _with_caveats(findings: Findings, arms: Sequence[Reading]) -> Findings:
    """Add what holds for every study."""
    seeds = max((len(arm.results.seeds) for arm in arms if arm.results), default=None)
    if seeds == 1:
        return replace(findings, notes=["One seed: no difference can be told from noise.", *findings.notes])
    if seeds is None:
        return findings
    notes = [_SAME_EXAMPLES, *findings.notes]
    if seeds < 5:
        notes.insert(0, f"Intervals over {seeds} seeds are wide: a real difference may well hide in them.")
    return replace(findings, notes=notes)


_SAME_EXAMPLES = (
    "All seeds are tested on the same examples: the intervals say what other seeds would give, not other test "
    "examples, with which an effect of a few of them may vanish."
)


def _page(record: dict[str, Any], study: Study, arms: Sequence[Reading], findings: Findings) -> str:
    plots: list[Plot] = []
    answer = tag("div", join(tag("p", sentence) for sentence in findings.sentences), class_="answer")
    parts = [Part("result", "Answer", join([answer, sections.notes(findings.notes)]))]
    for panel in findings.panels:
        parts.append(Part(slug(panel.title.lower()).strip("-"), panel.title, _panel(panel, plots)))
    if study.claims:
        parts.append(Part("papers", "What the papers say", _claims(study)))
    parts.append(Part("record", "Settings and data", _record(record, arms)))
    asked = record["asked"]
    facts = [
        asked["task"],
        asked["data"],
        asked["model"],
        count(asked["seeds"], "seed"),
        count(asked["epochs"], "epoch"),
    ]
    return build_page(
        eyebrow=f"study · {record['study']}",
        title=study.question,
        facts=" · ".join(map(str, facts)) if any(arm.run for arm in arms) else "simulated, nothing trained",
        parts=parts,
        data=plot_data(plots),
        script="study.js",
    )


def _panel(panel: Panel, plots: list[Plot]) -> Html:
    body: list[object] = [tag("p", panel.sentence, class_="finding")]
    if panel.text:
        body.append(tag("p", panel.text, class_="prose"))
    for plot in panel.plots:
        body.append(figure(plot, len(plots)))
        plots.append(plot)
    if panel.table:
        body.append(table(panel.title, *panel.table))
    return join(body)


def _claims(study: Study) -> Html:
    rows = [(claim.source, claim.text, EVIDENCE[claim.evidence]) for claim in study.claims]
    return table("What the papers say", ["Source", "What it says", "How we know"], rows, words=(1, 2))


def _record(record: dict[str, Any], arms: Sequence[Reading]) -> Html:
    links = [
        tag("li", tag("a", arm.title, href=f"arms/{arm.name}/report.html")) if arm.run else tag("li", arm.title)
        for arm in arms
    ]
    return join(
        [
            tag("p", tag("code", record["command"]), class_="command"),
            tag("h3", "Comparisons"),
            tag("ul", *links),
            tag("h3", "Settings that they vary"),
            sections.settings({"started": record["started"]} | record["asked"]),
            *([tag("h3", "Environment"), sections.settings(arms[0].run["environment"])] if arms[0].run else []),
        ]
    )
