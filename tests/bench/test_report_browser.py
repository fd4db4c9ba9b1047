"""The report in a real browser: drawn, without errors, by keyboard, in the dark, on a phone, offline."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from selenium import webdriver
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.support.ui import Select, WebDriverWait

from switch_ema.bench.report import write_report
from tests.bench.conftest import PHONE, emulate
from tests.bench.sample import METHODS, make_run

pytestmark = pytest.mark.timeout(120)  # a browser that hangs fails

DRAWN = "return [...document.querySelectorAll('.plot')].every((plot) => plot.querySelector('.main-svg'))"
Rows = list[dict[str, Any]]
Shoot = Callable[[str], None]


@pytest.fixture
def rows() -> Rows:
    return make_run(lrs=(0.01, 0.05, 0.2), diverged=[("swa", 0)])[1]


@pytest.fixture
def page(browser: webdriver.Chrome, rows: Rows, tmp_path: Path) -> Iterator[webdriver.Chrome]:
    """Open a report; whatever a test does with it, the console stays empty."""
    (tmp_path / "run.json").write_text(json.dumps(make_run(lrs=(0.01, 0.05, 0.2))[0]))
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    emulate(browser, "light")
    browser.get(write_report(tmp_path).as_uri())
    WebDriverWait(browser, 20).until(lambda _: browser.find_element(By.ID, "download").get_attribute("href"))
    WebDriverWait(browser, 20).until(lambda _: browser.execute_script(DRAWN))
    yield browser
    browser.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})
    assert browser.get_log("browser") == []  # type: ignore[no-untyped-call]


@pytest.fixture
def shoot(page: webdriver.Chrome, tmp_path: Path) -> Shoot:
    """Keep a picture of the whole page."""
    folder = Path(os.environ.get("SEMA_SCREENSHOTS", tmp_path))
    folder.mkdir(parents=True, exist_ok=True)

    def keep(name: str) -> None:
        width, height = page.execute_script(
            "return [document.documentElement.clientWidth, document.documentElement.scrollHeight]"
        )
        page.execute_cdp_cmd(
            "Emulation.setDeviceMetricsOverride",
            {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 500},
        )
        time.sleep(0.3)  # the plots follow the new size
        picture = folder / f"report_{name}.png"
        assert page.save_screenshot(str(picture))
        with Image.open(picture) as image:
            assert len(image.convert("RGB").getcolors(2**24) or []) > 100  # not blank: text and curves

    return keep


def traces(page: webdriver.Chrome, figure: str) -> int:
    return len(page.find_elements(By.CSS_SELECTOR, f"#{figure} .scatterlayer .trace"))


def colours(page: webdriver.Chrome) -> set[str]:
    script = "return [...document.querySelectorAll('#curves .js-line')].map((line) => getComputedStyle(line).stroke)"
    return set(page.execute_script(script))


def background(page: webdriver.Chrome) -> str:
    return str(page.execute_script("return getComputedStyle(document.body).backgroundColor"))


def test_curves_are_drawn(page: webdriver.Chrome, shoot: Shoot) -> None:
    assert traces(page, "curves") == 2 * len(METHODS)  # a line and a band each
    assert traces(page, "differences") == len(METHODS) - 1
    assert traces(page, "sensitivity") == len(METHODS)
    cells = page.find_elements(By.CSS_SELECTOR, "#curves-table tbody tr")
    assert len(cells) == 12
    shoot("light")


def test_a_method_is_hidden_and_shown_by_keyboard(page: webdriver.Chrome) -> None:
    boxes = page.find_elements(By.CSS_SELECTOR, "#methods input")
    assert len(boxes) == len(METHODS)
    boxes[3].send_keys(Keys.SPACE)
    assert (traces(page, "curves"), traces(page, "differences")) == (2 * len(METHODS) - 2, len(METHODS) - 2)
    assert METHODS[3].label not in str(page.find_element(By.ID, "curves-table").get_attribute("textContent"))
    boxes[3].send_keys(Keys.SPACE)
    assert traces(page, "curves") == 2 * len(METHODS)
    page.find_element(By.ID, "hide-all").send_keys(Keys.ENTER)
    assert traces(page, "curves") == 0
    page.find_element(By.ID, "show-all").send_keys(Keys.ENTER)
    assert traces(page, "curves") == 2 * len(METHODS)
    assert all(box.is_selected() for box in boxes)


def test_the_first_tab_goes_to_the_skip_link_and_focus_is_seen(page: webdriver.Chrome) -> None:
    page.find_element(By.TAG_NAME, "body").send_keys(Keys.TAB)
    focused = page.switch_to.active_element
    assert focused.text == "Skip to the result"
    assert focused.value_of_css_property("outline-style") == "solid"
    focused.send_keys(Keys.ENTER)
    assert page.switch_to.active_element.get_attribute("id") == "result"


def test_measure_and_rate_can_be_chosen(page: webdriver.Chrome) -> None:
    def first_line() -> str:
        return str(page.execute_script("return document.querySelector('#curves .js-line').getAttribute('d')"))

    before = first_line()
    Select(page.find_element(By.ID, "view")).select_by_visible_text("Validation loss")
    after = first_line()
    assert after != before
    assert page.find_element(By.CSS_SELECTOR, "figure h3").text == "Learning curves: validation loss"
    Select(page.find_element(By.ID, "rate")).select_by_visible_text("0.2")
    assert first_line() != after


def test_plots_follow_the_dark_scheme_while_the_page_is_open(page: webdriver.Chrome, shoot: Shoot) -> None:
    light, paper = colours(page), background(page)
    emulate(page, "dark")
    WebDriverWait(page, 10).until(lambda _: colours(page).isdisjoint(light))
    assert background(page) != paper
    shoot("dark")


def test_on_a_phone_the_page_does_not_scroll_sideways(page: webdriver.Chrome, shoot: Shoot) -> None:
    page.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", PHONE)
    page.refresh()
    WebDriverWait(page, 20).until(lambda _: traces(page, "sensitivity") == len(METHODS))
    for details in page.find_elements(By.TAG_NAME, "summary"):
        details.send_keys(Keys.ENTER)
    width = page.execute_script("return [innerWidth, document.documentElement.scrollWidth]")
    assert width == [390, 390]
    boxes = page.find_elements(By.CSS_SELECTOR, ".scroll")
    names = page.execute_script("""const box = document.querySelector(".scroll"), name = box.querySelector("tbody th");
        const before = name.getBoundingClientRect().x; box.scrollLeft = 150;
        return [box.scrollLeft, name.getBoundingClientRect().x - before]""")
    assert names == [150, 0]  # the method stays in sight
    assert any(box.get_property("scrollWidth") > box.get_property("clientWidth") for box in boxes)  # type: ignore[operator]
    shoot("phone")


def test_the_download_gives_back_the_rows(page: webdriver.Chrome, rows: Rows, tmp_path: Path) -> None:
    page.execute_cdp_cmd("Browser.setDownloadBehavior", {"behavior": "allow", "downloadPath": str(tmp_path / "got")})
    page.find_element(By.ID, "download").send_keys(Keys.ENTER)
    saved = tmp_path / "got" / "rows.jsonl"
    WebDriverWait(page, 20).until(lambda _: saved.exists())
    assert saved.read_bytes() == (tmp_path / "rows.jsonl").read_bytes()
    assert [json.loads(line) for line in saved.read_text().splitlines()] == rows
