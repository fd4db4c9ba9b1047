"""The report as text: complete, deterministic, safe and self-contained."""

from __future__ import annotations

import base64
import gzip
import json
import re
from pathlib import Path
from typing import Any

import pytest

from switch_ema.bench.figures import figure_data
from switch_ema.bench.markup import Html, breakable, escape, script_json, table, tag
from switch_ema.bench.report import build_report, write_report
from switch_ema.bench.stats import Results
from switch_ema.bench.summary import summarize
from switch_ema.errors import InputError
from tests.bench.sample import FAST, METHODS, make_run

EVIL = "</script><script>alert(1)</script><img src=x onerror=alert(2)>\"'&"


def figures(run: dict[str, Any], rows: list[dict[str, Any]]) -> dict[str, Any]:
    return figure_data(run, Results.from_rows(run, rows), summarize(run, rows))


def own_part(page: str) -> str:
    """Return the page without the plotting library."""
    return re.sub(r'<script id="plotly".*?</script>', "", page, flags=re.DOTALL)


def visible(page: str) -> str:
    """Return the page's HTML without styles and scripts, on one line and with plain spaces."""
    text = re.sub(r"<(script|style)\b.*?</\1>", "", page, flags=re.DOTALL)
    return text.replace("&nbsp;", " ").replace("<wbr>", "")


def embedded(page: str, key: str) -> str:
    found = re.search(rf'<script id="{key}"[^>]*>(.*?)</script>', page, flags=re.DOTALL)
    assert found
    return found[1]


def sections(page: str) -> list[str]:
    return re.findall(r'<section id="(\w+)"', page)


def test_the_page_is_a_pure_function_of_its_input() -> None:
    assert build_report(*make_run()) == build_report(*make_run())


def test_it_shows_every_section_that_has_something_to_show() -> None:
    several = ["result", "control", "figures", "rates", "averages", "batchnorm", "record"]
    assert sections(build_report(*make_run(lrs=(0.01, 0.05)))) == several
    run, rows = make_run()
    rows = [row for row in rows if "bn_reestimated" not in row["metric"]]
    run["methods"] = [method for method in run["methods"] if not method["switches"]]
    page = build_report(run, rows)
    assert sections(page) == ["result", "figures", "averages", "record"]
    assert 'id="sensitivity"' not in page
    assert 'id="rate"' not in page


def test_it_says_what_the_summary_says() -> None:
    run, rows = make_run(diverged=[("swa", 0)])
    summary = summarize(run, rows)
    text = visible(build_report(run, rows))
    for line in (*summary.sentences, *summary.notes):
        assert str(escape(line)).replace("&nbsp;", " ") in text
    for method in METHODS:
        assert method.label in text
    assert "1 of 3 seeds diverged" in text
    assert "17.0%" in text
    assert "6 in all; in epochs 2, 4, 6, 8, 10, 12" in text
    assert "Does averaging the weights, or switching training onto the average, help classification on digits?" in text
    assert "12 in all; in every epoch" in text
    assert run["command"] in text
    assert "batch size" in text


def test_batchnorm_table_pairs_both_ways_of_the_statistics() -> None:
    run, rows = make_run()
    for row in rows:
        if row["metric"] == "accuracy_bn_reestimated":
            row["value"] = 0.5
        if row["metric"] == "accuracy":
            row["value"] = 0.25
    part = visible(build_report(run, rows)).split('id="batchnorm"')[1].split("</section>")[0]
    assert part.count("0.2500 ± 0.0000") == part.count("0.5000 ± 0.0000") == len(METHODS)
    assert part.count("<td>+0.2500</td>") == 3 * len(METHODS)


def test_everything_shown_is_escaped() -> None:
    run, rows = make_run()
    for row in rows:
        row["method"] = {FAST: EVIL}.get(row["method"], row["method"])
        row["data"] = EVIL
    for method in run["methods"]:
        method["label"] = {FAST: EVIL}.get(method["label"], method["label"])
        method["control_for"] = [EVIL for _ in method["control_for"]]
        method["summary"] = EVIL
    for part in (run["asked"], run["environment"]):
        part.update({EVIL: EVIL, "data": EVIL})
    run["asked"]["methods"] = [EVIL]
    run["metrics"][1]["name"] = EVIL
    run["command"] = run["started"] = EVIL
    page = build_report(run, rows)
    assert "alert(1)" in page
    for forbidden in ("<script>alert", "<img", "</script><script>alert"):
        assert forbidden not in own_part(page)
    assert page.count("<script") == build_report(*make_run()).count("<script")
    assert json.loads(embedded(page, "data"))["methods"][3] == EVIL


def test_the_page_asks_nothing_of_the_network() -> None:
    page = own_part(build_report(*make_run()))
    assert not re.search(r"""(?:src|href)=["']?(?:https?:)?//""", page)
    assert "url(" not in page
    assert "default-src 'none'" in page


def test_the_rows_inside_are_the_rows() -> None:
    run, rows = make_run(diverged=[("swa", 0)])
    packed = base64.b64decode(embedded(build_report(run, rows), "rows"))
    lines = gzip.decompress(packed).decode().splitlines()
    assert [json.loads(line) for line in lines] == rows
    assert len(packed) < len("".join(lines)) / 10
    assert packed[4:8] == bytes(4)  # no time stamp


def test_curves_are_means_between_the_lowest_and_highest_seed() -> None:
    run, rows = make_run(lrs=(0.01, 0.05), diverged=[("swa", 0)])
    data = figures(run, rows)
    assert data["views"] == [
        "Test accuracy",
        "Validation accuracy",
        "Test loss",
        "Validation loss",
        "Training loss",
    ]
    assert data["rates"] == ["best", "0.01", "0.05"]
    values = {
        row["seed"]: row["value"]
        for row in rows
        if (row["method"], row["lr"], row["epoch"], row["split"], row["metric"])
        == ("swa", 0.05, 12, "test", "accuracy")
    }
    alive = [values[1], values[2]]
    curve = data["curves"][0][2][data["methods"].index("swa")]
    assert curve["x"] == list(range(1, 13))
    assert curve["mean"][-1] == pytest.approx(sum(alive) / 2, abs=1e-5)
    assert (curve["low"][-1], curve["high"][-1], curve["n"][-1]) == (min(alive), max(alive), 2)


def test_differences_stand_at_the_points_of_the_budget_and_leave_out_the_baseline() -> None:
    run, rows = make_run()
    data = figures(run, rows)
    assert data["points"] == [["10 %", 2], ["25 %", 3], ["50 %", 6], ["100 %", 12]]
    baseline, *others = data["differences"][0]
    assert baseline is None
    row = summarize(run, rows).rows[3]
    assert row.difference is not None
    assert others[2]["mean"][3] == pytest.approx(row.difference.mean, rel=1e-5)
    assert others[2]["low"][3] == pytest.approx(row.difference.low, rel=1e-5)
    single = figures(*make_run(seeds=1))
    assert single["differences"][0][1]["low"] == [None] * 4


@pytest.mark.parametrize(
    "options",
    [
        {"lrs": (0.01, 0.05), "seeds": 1, "epochs": 1},
        {"seeds": 2, "epochs": 1},
        {"diverged": [(method.label, seed) for method in METHODS for seed in range(3)]},
    ],
    ids=["one seed, one epoch, two rates", "one epoch", "all diverged"],
)
def test_a_small_or_failed_run_has_a_report(options: dict[str, Any]) -> None:
    run, rows = make_run(**options)
    page = visible(build_report(run, rows))
    for line in summarize(run, rows).sentences:
        assert str(escape(line)).replace("&nbsp;", " ") in page
    for word in ("nan", "None", "inf<"):
        assert word not in page


def test_an_unfinished_run_has_a_report() -> None:
    run, rows = make_run()
    page = visible(build_report(run, [row for row in rows if row["epoch"] <= 2]))
    assert "there is no result yet" in page
    assert "3 of 3 seeds unfinished" in page


def test_write_report_writes_the_page_whole_and_leaves_nothing_else(tmp_path: Path) -> None:
    run, rows = make_run()
    (tmp_path / "run.json").write_text(json.dumps(run))
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (tmp_path / "report.html").write_text("old")
    path = write_report(tmp_path)
    assert path == tmp_path / "report.html"
    assert path.read_text(encoding="utf-8") == build_report(run, rows)
    assert {each.name for each in tmp_path.iterdir()} == {"run.json", "rows.jsonl", "report.html"}


def test_write_report_of_a_run_without_rows_names_the_folder(tmp_path: Path) -> None:
    (tmp_path / "run.json").write_text(json.dumps(make_run()[0]))
    with pytest.raises(InputError, match=rf"^{re.escape(str(tmp_path))}: the run holds no measurement yet"):
        write_report(tmp_path)


def test_markup_escapes_all_but_html() -> None:
    assert tag("a", "<b>", Html("<i></i>"), href='"x"', class_="k", hidden=True, title=None) == (
        '<a href="&quot;x&quot;" class="k" hidden>&lt;b&gt;<i></i></a>'
    )
    assert breakable("a:b=1,<c>") == "a:<wbr>b=1,<wbr>&lt;c&gt;"
    assert "&lt;x&gt;" in table("<x>", ["a"], [["<x>"]])
    assert script_json(["</script>", "<!--"]) == '["\\u003c/script\\u003e","\\u003c!--"]'
