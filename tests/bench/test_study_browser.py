"""The page of a study in a real browser: figures drawn, legends that hide and show, 3-D, dark, on a phone."""

from __future__ import annotations

import math
import os
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
from selenium import webdriver
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.support.ui import WebDriverWait

from switch_ema.bench.page import Part, build_page, figure, plot_data
from switch_ema.bench.plots import Plot, reliability
from switch_ema.bench.plots3d import contours, regions, surface
from switch_ema.bench.studies.report import write_study
from tests.bench.conftest import PHONE, emulate
from tests.bench.sample import METHODS, save_study

pytestmark = pytest.mark.timeout(120)

NAMES = ("baseline", "ema", "sema:decay=window 0.2 epochs,switch_every=2 epochs")
PLACES = [-1 + k / 5 for k in range(11)]
DRIVERS = ("GL Driver Message", "willReadFrequently")  # advice to Plotly, and of a graphics card made of software


@pytest.fixture
def opened(browser: webdriver.Chrome) -> Iterator[webdriver.Chrome]:
    """Lend the browser; whatever a test does with it, the console stays empty."""
    emulate(browser, "light")
    yield browser
    browser.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})
    said = [entry["message"] for entry in browser.get_log("browser")]  # type: ignore[no-untyped-call]
    assert [message for message in said if not any(name in message for name in DRIVERS)] == []


def show(page: webdriver.Chrome, path: Path, plots: int) -> None:
    page.get(path.as_uri())
    WebDriverWait(page, 30).until(lambda _: len(page.find_elements(By.CSS_SELECTOR, ".js-plotly-plot")) == plots)


def keep(page: webdriver.Chrome, name: str) -> None:
    """Keep a picture of the whole page where pictures are wanted."""
    folder = os.environ.get("SEMA_SCREENSHOTS")
    if not folder:
        return
    script = "return [document.documentElement.clientWidth, document.documentElement.scrollHeight]"
    width, height = page.execute_script(script)
    size = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 500}
    page.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    time.sleep(0.5)
    page.save_screenshot(str(Path(folder) / f"study_{name}.png"))


@pytest.fixture
def study(tmp_path: Path) -> Path:
    """Write the page of a study from small made-up files."""
    return write_study(save_study(tmp_path))[1]


def bowl(depth: float) -> list[list[float]]:
    return [[0.1 + depth * (x * x + y * y) for x in PLACES] for y in PLACES]


@pytest.fixture
def fields(tmp_path: Path) -> Path:
    """Write a page with one figure of every kind that has two variables."""
    path = [math.cos(k) * 0.8**k for k in range(9)]
    plots: Sequence[Plot] = [
        surface("Surface", "a", "b", "loss", PLACES, PLACES, [(name, bowl(k + 1)) for k, name in enumerate(NAMES)]),
        contours("Contours", "a", "b", PLACES, PLACES, bowl(1), paths=[(NAMES[2], path, path)], points=[("ema", 0, 0)]),
        regions("Regions", PLACES, PLACES, [(name, bowl(0.4)) for name in NAMES], [(0, 0, 0), (0.5, 0.5, 1)]),
        reliability("Reliability", [(name, (0.2, 0.7), (0.1, 0.6), (5, 9)) for name in NAMES]),
    ]
    parts = [Part(f"p{number}", plot.title, figure(plot, number)) for number, plot in enumerate(plots)]
    page = build_page(
        eyebrow="t", title="Fields", facts="", parts=parts, data=plot_data(plots), script="study.js"
    )  # fmt: skip
    place = tmp_path / "fields.html"
    place.write_text(page)
    return place


def shown(page: webdriver.Chrome, number: int) -> list[bool]:
    script = "return document.getElementById(`plot-${arguments[0]}`)._fullData.map((trace) => trace.visible === true)"
    return list(page.execute_script(script, number))


def test_a_study_is_drawn_and_its_legend_hides_a_line_with_its_band(opened: webdriver.Chrome, study: Path) -> None:
    show(opened, study, plots=2)
    keep(opened, "light")
    boxes = opened.find_elements(By.CSS_SELECTOR, "#legend-0 input")
    assert len(boxes) == len(METHODS)
    assert shown(opened, 0).count(True) == 2 * len(METHODS)
    boxes[1].send_keys(Keys.SPACE)
    assert shown(opened, 0).count(True) == 2 * len(METHODS) - 2
    assert all(shown(opened, 1))
    boxes[1].send_keys(Keys.SPACE)
    assert all(shown(opened, 0))
    below = """const rect = (id) => document.getElementById(id).getBoundingClientRect();
        return rect("plot-0").top - rect("legend-0").bottom"""
    assert opened.execute_script(below) >= 0  # however long the labels are
    apart = """const box = (name) => document.querySelector(`#plot-0 ${name}`).getBoundingClientRect();
        return box(".xtitle").top - box(".xaxislayer-above").bottom"""
    assert opened.execute_script(apart) >= 0


def test_a_study_follows_the_dark_scheme_and_fits_a_phone(opened: webdriver.Chrome, study: Path) -> None:
    show(opened, study, plots=2)
    strokes = "return [...document.querySelectorAll('#plot-0 .js-line')].map((line) => getComputedStyle(line).stroke)"
    light = set(opened.execute_script(strokes))
    emulate(opened, "dark")
    WebDriverWait(opened, 10).until(lambda _: set(opened.execute_script(strokes)).isdisjoint(light))
    opened.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", PHONE)
    show(opened, study, plots=2)
    assert opened.execute_script("return [innerWidth, document.documentElement.scrollWidth]") == [390, 390]
    keep(opened, "phone_dark")


def test_fields_are_drawn_also_in_three_dimensions(opened: webdriver.Chrome, fields: Path) -> None:
    show(opened, fields, plots=4)
    lost = opened.find_elements(By.CSS_SELECTOR, "#plot-0 .no-webgl")
    if lost:
        pytest.skip("this browser has no WebGL")
    keep(opened, "fields")
    assert opened.find_elements(By.CSS_SELECTOR, "#plot-0 canvas")
    assert shown(opened, 0) == [True] * 3
    opened.find_elements(By.CSS_SELECTOR, "#legend-0 input")[2].send_keys(Keys.SPACE)
    assert shown(opened, 0) == [True, True, False]
    assert len(opened.find_elements(By.CSS_SELECTOR, "#plot-1 .contourlevel, #plot-1 .contourfill path")) > 5
    assert [each.text for each in opened.find_elements(By.CSS_SELECTOR, "#legend-2 label")] == ["class 0", "class 1"]


def test_small_maps_stand_below_each_other_on_a_phone(opened: webdriver.Chrome, fields: Path) -> None:
    places = """return [...document.querySelectorAll("#plot-2 .heatmaplayer .hm, #plot-2 .heatmaplayer image")]
        .map((map) => map.getBoundingClientRect()).map((box) => [box.left, box.top, box.width / box.height])"""
    show(opened, fields, plots=4)
    wide = opened.execute_script(places)
    assert len({round(top) for _, top, _ in wide}) == 1
    opened.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", PHONE)
    show(opened, fields, plots=4)
    narrow = opened.execute_script(places)
    assert len({round(top) for _, top, _ in narrow}) == len(NAMES)
    ratios = [ratio for *_, ratio in [*wide, *narrow]]
    assert ratios == pytest.approx([1.0] * len(ratios), abs=0.1)  # square
    assert opened.execute_script("return [innerWidth, document.documentElement.scrollWidth]") == [390, 390]
    keep(opened, "fields_phone")
