"""Several comparisons joined: counts against a hand count, names, links, the page, and bad input."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from switch_ema.bench.joined import Joined, join_runs
from switch_ema.bench.joined_page import build_joined, default_path, forest, write_joined
from switch_ema.cli import app
from switch_ema.errors import InputError
from tests.bench.sample import build, make_run, same, save_run, save_study

# three seeds: the baseline, and what the methods add to it
BASE = (0.50, 0.52, 0.54)
WIN, LOSS, TIE = (0.10, 0.11, 0.10), (-0.10, -0.11, -0.10), (0.10, -0.10, 0.01)
ASKED = {"task": "classification", "model": "mlp", "seeds": 3, "epochs": 1}
ROW = {"task": "classification", "data": "digits", "model": "mlp", "step": 1, "higher_is_better": True, "seconds": 0.1}


def save(folder: Path, gains: dict[str, tuple[float, ...]], *, higher: bool = True, **asked: Any) -> Path:
    """Write a run folder in which methods differ from the baseline by known amounts."""
    curves = {("baseline", 0.1, seed): same(value) for seed, value in enumerate(BASE)}
    for label, gain in gains.items():
        curves |= {(label, 0.1, seed): same(BASE[seed] + each) for seed, each in enumerate(gain)}
    special: dict[str, Any] = {"sema": {"switches": True}, "baseline:lr_scale=0.2": {"control_for": ["sema"]}}
    run, rows = build(curves, higher=higher, **special)
    run |= {"format": 1, "command": "sema compare", "started": "2025", "environment": {}}
    run["asked"] |= ASKED | {"data": "digits"} | asked
    return save_run(folder, run, [ROW | row for row in rows])


@pytest.fixture
def joined(tmp_path: Path) -> Joined:
    return join_runs(
        [
            save(tmp_path / "a", {"ema": TIE, "sema": WIN, "baseline:lr_scale=0.2": LOSS}),
            save(tmp_path / "deep" / "b", {"ema": WIN, "sema": LOSS, "swa": (0.1, 0.1, 0.1)}, data="moons"),
            save(tmp_path / "c", {"ema": WIN, "sema": LOSS}, higher=False, data="rings"),
        ]
    )


def test_wins_losses_and_ties_are_counted_by_the_interval_and_the_direction(joined: Joined) -> None:
    assert joined.labels == ["ema", "sema", "swa", "baseline:lr_scale=0.2"]
    assert joined.tally("ema") == {"better": ["moons"], "worse": ["rings"], "unclear": ["digits"], "unknown": []}
    assert joined.tally("sema") == {"better": ["digits", "rings"], "worse": ["moons"], "unclear": [], "unknown": []}
    assert joined.tally("swa")["unknown"] == ["moons"]  # all seeds gain the same, so there is no interval
    assert joined.is_control("baseline:lr_scale=0.2")


def test_the_sentences_say_the_counts(joined: Joined) -> None:
    ema, sema, swa, control = joined.sentences()
    assert ema == (
        "ema, over 3 comparisons: better than the baseline in 1 (moons), worse than the baseline in 1 (rings), "
        "no different beyond noise in 1 (digits)."
    )
    counts = "better than the baseline in 2 (digits; rings), worse than the baseline in 1 (moons)"
    assert sema == f"sema, over 3 comparisons: {counts}."
    assert swa == "swa, over 1 comparison: without an interval to tell by in 1 (moons)."
    assert control == "Against its learning-rate controls, sema gives more than any lower rate in 1 (digits)."
    assert joined.notes()[0].startswith("7 intervals stand here")


def test_percent_is_of_the_baseline_and_better_is_right(joined: Joined) -> None:
    first, _, last = joined.comparisons
    gain, percent = first.gain("sema"), first.percent("sema")
    for part in ("mean", "low", "high"):
        assert getattr(percent, part) == pytest.approx(100 * getattr(gain, part) / 0.52)
    lower, loss = last.percent("sema"), last.gain("sema")  # a lower value is better there
    assert getattr(lower, "low", 0) == pytest.approx(-100 * getattr(loss, "high", 0) / 0.52)
    assert getattr(lower, "low", 0) > 0
    assert first.percent("swa") is None


def test_the_figure_shows_every_difference_once(joined: Joined) -> None:
    plot = forest(joined)
    assert [trace["name"] for trace in plot.traces] == list(joined.labels)
    assert sum(len(trace["x"]) for trace in plot.traces) == len(plot.rows) == 8
    swa = plot.traces[2]
    assert (swa["error_x"]["array"], swa["marker"]["opacity"]) == ([0], [0.4])
    sema = plot.traces[1]
    assert sema["x"][-1] == pytest.approx(100 * (0.31 / 3) / 0.52)  # the first comparison is on top
    places = [place for trace in plot.traces for place in trace["y"]]
    assert len(set(places)) == len(places)


def test_the_page_links_to_the_reports_from_where_it_lies(joined: Joined, tmp_path: Path) -> None:
    write_joined(joined, tmp_path / "pages" / "all.html")
    page = (tmp_path / "pages" / "all.html").read_text()
    links = re.findall(r'<a href="([^#"]+)"', page.split("<script")[0])
    assert links == ["../a/report.html", "../deep/b/report.html", "../c/report.html"]
    assert page == build_joined(joined, tmp_path / "pages")
    assert default_path([each.folder for each in joined.comparisons]) == tmp_path / "joined.html"


def test_comparisons_alike_are_told_apart_by_their_folders(tmp_path: Path) -> None:
    folders = [save(tmp_path / name, {"ema": TIE}) for name in ("x/one", "x/two")]
    assert [each.name for each in join_runs(folders).comparisons] == ["one", "two"]
    folders.append(save(tmp_path / "y" / "one", {"ema": TIE}))
    names = [each.name for each in join_runs(folders).comparisons]
    assert names == [str(folders[0]), "two", str(folders[2])]


def test_everything_shown_is_escaped(tmp_path: Path) -> None:
    evil = "</script><script>alert(1)</script>"
    folders = [save(tmp_path / "a", {"ema": TIE}, data=evil), save(tmp_path / "b", {"ema": TIE})]
    page = build_joined(join_runs(folders), tmp_path)
    assert "alert(1)" in page
    assert "<script>alert" not in page


def test_the_command_joins_and_says_so(tmp_path: Path) -> None:
    options: dict[str, dict[str, Any]] = {"a": {}, "b": {"seeds": 1}}
    folders = [str(save_run(tmp_path / name, *make_run(epochs=2, **each))) for name, each in options.items()]
    told = CliRunner().invoke(app, ["report", *folders])
    assert told.exit_code == 0, told.output
    assert f"report: {tmp_path / 'joined.html'}" in told.output.replace("\n", "")
    assert (tmp_path / "joined.html").exists()
    assert (tmp_path / "b" / "report.html").exists()


def test_the_command_writes_the_page_of_a_study(tmp_path: Path) -> None:
    folders = [str(save_study(tmp_path / "study")), str(save_run(tmp_path / "run", *make_run(epochs=2)))]
    told = CliRunner().invoke(app, ["report", *folders])
    assert told.exit_code == 0, told.output
    assert f"report: {tmp_path / 'study' / 'report.html'}" in told.output
    assert "Does averaging reach" in (tmp_path / "study" / "report.html").read_text()
    assert (tmp_path / "run" / "report.html").exists()
    assert not (tmp_path / "joined.html").exists()  # one comparison is not joined


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["a", "a"], "a is named twice; leave one out"),
        (["a", "c"], "c is not the folder of a comparison"),
        (["a", "--out", "x.html"], "name two or more of their folders"),
        (["a", "b", "--out", "a"], "is a folder; name a file such as"),
        (["a", "empty"], "the run holds no measurement yet"),
    ],
)  # fmt: skip
def test_bad_input_is_one_clear_line(
    arguments: list[str], said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("a", "b"):
        save(tmp_path / name, {"ema": TIE})
    save_run(tmp_path / "empty", make_run()[0], [])
    error = CliRunner().invoke(app, ["report", *arguments]).exception
    assert isinstance(error, InputError)
    assert said in str(error)
    assert "\n" not in str(error)
