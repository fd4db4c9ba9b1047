"""How long the report of a large comparison takes to write, and to open: `python -m benchmarks.report`.

The comparison is made up: nine methods, 12 seeds, so 108 training runs of 200 epochs. The page is opened in headless
Chromium, and counts as open when it can be read; its figures are drawn after that.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
import time
from pathlib import Path

from selenium import webdriver
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.support.ui import WebDriverWait

from switch_ema.bench.report import write_report
from tests.bench.conftest import CHROMIUM, DRIVER, FLAGS
from tests.bench.sample import make_run, save_run
from tests.bench.test_report_browser import DRAWN

SEEDS, EPOCHS = 12, 200


def main() -> None:
    """Write the report and open it, several times, and print the medians."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    rounds = parser.parse_args().rounds
    if not (CHROMIUM and DRIVER):
        sys.exit("chromium and chromedriver are needed: apt-get install chromium chromium-driver")
    run, rows = make_run(seeds=SEEDS, epochs=EPOCHS)
    with tempfile.TemporaryDirectory() as folder:
        save_run(Path(folder), run, rows)
        written = [_seconds_to_write(Path(folder)) for _ in range(rounds)]
        page = write_report(Path(folder))
        opened, drawn = zip(*(_seconds_to_open(page) for _ in range(rounds)), strict=True)
        size = page.stat().st_size / 1e6
    runs = SEEDS * len(run["methods"])
    print(f"{runs} training runs x {EPOCHS} epochs, {len(rows):,} rows, a page of {size:.1f} MB; medians of {rounds}:")
    for what, seconds in {"written": written, "opened": opened, "drawn": drawn}.items():
        print(f"{what} after {statistics.median(seconds):.2f} s")


def _seconds_to_write(folder: Path) -> float:
    begin = time.perf_counter()
    write_report(folder)
    return time.perf_counter() - begin


def _seconds_to_open(page: Path) -> tuple[float, float]:
    """Open the page in a browser that has nothing in its caches; return when it is there, and when it is drawn."""
    options = webdriver.ChromeOptions()
    options.binary_location = str(CHROMIUM)
    for flag in FLAGS:
        options.add_argument(flag)
    driver = webdriver.Chrome(options=options, service=Service(str(DRIVER)))
    try:
        begin = time.perf_counter()
        driver.get(page.as_uri())
        opened = time.perf_counter() - begin
        WebDriverWait(driver, 60, poll_frequency=0.02).until(lambda _: driver.execute_script(DRAWN))
        return opened, time.perf_counter() - begin
    finally:
        driver.quit()


if __name__ == "__main__":
    main()
