"""A page follows a comparison that goes on, stops when it is finished or on Ctrl-C, and keeps what the reader chose."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from selenium import webdriver
from selenium.webdriver.common.by import By
from selenium.webdriver.support.ui import Select, WebDriverWait

from switch_ema.bench import watch as watch_module
from switch_ema.bench.files import write_json
from switch_ema.bench.report import write_report
from switch_ema.bench.watch import EVERY, watch, watched
from switch_ema.errors import InputError
from tests.bench.conftest import emulate
from tests.bench.sample import make_run, save_run
from tests.conftest import Sema

RUN, ROWS = make_run(seeds=1, epochs=6)
RUN["trajectories"] = [{"name": "one"}]
LIVE = "location.reload"


def upto(folder: Path, epoch: int) -> Path:
    return save_run(folder, RUN, [row for row in ROWS if row["epoch"] <= epoch])


def settle(folder: Path) -> None:
    """Say that all is trained, in the format of the first version."""
    size = (folder / "rows.jsonl").stat().st_size
    write_json(folder / "progress.json", {"format": 1, "done": ["one"], "rows_bytes": size})


def follow(folder: Path, *steps: Callable[[], object]) -> tuple[list[str], list[str]]:
    """Watch a folder in which something happens at every pause; return what was told and the pages there were."""
    told: list[str] = []
    pages: list[str] = []
    left = iter(steps)

    def pause(seconds: float) -> None:
        assert seconds >= EVERY
        page = folder / "report.html"
        pages.append(page.read_text() if page.exists() else "")
        next(left)()

    watch([folder], told.append, pause)
    assert next(left, None) is None
    return told, [*pages, (folder / "report.html").read_text()]


def test_the_page_grows_with_the_run_and_ends_with_it(tmp_path: Path) -> None:
    folder = upto(tmp_path / "x", 0)
    told, pages = follow(folder, lambda: upto(folder, 2), lambda: None, lambda: upto(folder, 6), lambda: settle(folder))
    empty, two, same, all_rows, last = pages
    assert empty == ""
    assert two == same
    assert two != all_rows
    assert all(LIVE in page for page in (two, all_rows))
    assert LIVE not in last
    assert last == write_report(folder).read_text()
    assert told == [
        f"watching {folder}: open {folder / 'report.html'}; Ctrl-C ends it",
        f"finished: {folder / 'report.html'}",
    ]


def test_nothing_is_written_while_nothing_changes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = upto(tmp_path / "x", 2)
    written: list[bool] = []

    def write(directory: Path, *, live: bool = False) -> Path:
        written.append(live)
        return write_report(directory, live=live)

    monkeypatch.setattr(watch_module, "write_report", write)
    follow(folder, lambda: None, lambda: None, lambda: settle(folder))
    assert written == [True, False]


def test_ctrl_c_leaves_a_page_that_stays_as_it_is(tmp_path: Path) -> None:
    def interrupt() -> None:
        raise KeyboardInterrupt

    folder = upto(tmp_path / "x", 2)
    told, pages = follow(folder, interrupt)
    assert LIVE in pages[0]
    assert LIVE not in pages[1]
    assert told[-1] == f"stopped watching: {folder / 'report.html'}"


def test_rows_that_are_damaged_for_good_are_refused(tmp_path: Path) -> None:
    folder = upto(tmp_path / "x", 2)

    def tear() -> None:
        with (folder / "rows.jsonl").open("a") as file:
            file.write('{"task": "class')

    with pytest.raises(InputError, match="is not a measurement"):
        follow(folder, tear)


def test_a_finished_comparison_is_written_once(sema: Sema, tmp_path: Path) -> None:
    folder = upto(tmp_path / "x", 6)
    settle(folder)
    answer = sema("report", "--watch", folder)
    assert answer.code == 0
    assert answer.err.splitlines()[-1] == f"finished: {folder / 'report.html'}"
    assert LIVE not in (folder / "report.html").read_text()


def test_a_study_is_watched_by_its_comparisons(tmp_path: Path) -> None:
    for name in ("b", "a"):
        upto(tmp_path / "arms" / name, 1)
    (tmp_path / "arms" / "not-begun").mkdir()
    assert watched(tmp_path) == [tmp_path / "arms" / "a", tmp_path / "arms" / "b"]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("nowhere",), "nowhere holds no comparison that has begun"),
        (("x", "--out", "y.html"), "leave it out with --watch"),
    ],
)
def test_bad_input(sema: Sema, arguments: tuple[str, ...], words: str) -> None:
    answer = sema("report", "--watch", *arguments)
    assert answer.code == 2
    assert words in answer.err
    assert len(answer.err.splitlines()) == 1


@pytest.fixture
def page(browser: webdriver.Chrome, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[webdriver.Chrome]:
    """Open a live page that loads itself anew ten times as often."""
    emulate(browser, "light")
    path = write_report(upto(tmp_path / "x", 3), live=True)
    text = path.read_text()
    assert "EVERY = 5000" in text
    path.write_text(text.replace("EVERY = 5000", "EVERY = 1500"))
    browser.get(path.as_uri())
    yield browser
    assert browser.get_log("browser") == []  # type: ignore[no-untyped-call]
    browser.get("about:blank")


@pytest.mark.timeout(120)
def test_an_open_page_shows_what_is_new_and_keeps_what_was_chosen(page: webdriver.Chrome, tmp_path: Path) -> None:
    def points() -> int:
        return len(page.find_elements(By.CSS_SELECTOR, "#curves-table tbody tr"))

    def boxes() -> list[bool]:
        return [box.is_selected() for box in page.find_elements(By.CSS_SELECTOR, "#methods input")]

    assert points() == 3
    page.execute_script("document.querySelectorAll('#methods input')[2].click()")
    Select(page.find_element(By.ID, "view")).select_by_visible_text("Validation loss")
    page.execute_script("document.querySelector('#curves ~ details').open = true; scrollTo(0, 300)")
    hidden = boxes()
    assert not hidden[2]
    path = write_report(upto(tmp_path / "x", 5), live=True)
    path.write_text(path.read_text().replace("EVERY = 5000", "EVERY = 1500"))
    WebDriverWait(page, 20, ignored_exceptions=[Exception]).until(lambda _: points() == 5)
    assert boxes() == hidden
    assert Select(page.find_element(By.ID, "view")).first_selected_option.text == "Validation loss"
    assert page.execute_script("return document.querySelector('#curves ~ details').open")
    write_report(upto(tmp_path / "x", 6), live=False)
    WebDriverWait(page, 20, ignored_exceptions=[Exception]).until(lambda _: points() == 6)
    before = page.execute_script("return performance.timeOrigin")
    time.sleep(2)
    assert page.execute_script("return performance.timeOrigin") == before  # the finished page stays
