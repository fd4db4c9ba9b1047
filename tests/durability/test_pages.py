"""What the pages show is text, whatever it is named, and they load nothing."""

from __future__ import annotations

import json
import re
from collections import Counter
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from switch_ema.bench.exhibit import Counts, Exhibit, Passage
from switch_ema.bench.gallery import keep_exhibits
from switch_ema.bench.report import write_report
from tests.bench.sample import make_run

EVIL = "</script></title></textarea><b onmouseover=alert(1)>'\"&amp;<img src=x onerror=alert(2)>"
KNOWN = {"baseline", "n_switches"}
STRUCTURE = {"kind", "split", "format", "started", "version"}  # words of our own, by which things are looked up
LOADS = re.compile(r"@import|url\(\s*['\"]?(?!data:)|fetch\(|XMLHttpRequest|WebSocket|innerHTML|import\(")
LOADING = {"src", "href", "srcset", "data", "action", "poster", "background", "formaction", "xlink:href"}


class Page(HTMLParser):
    """Elements of a page, its attributes, and the addresses that it would load."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: Counter[str] = Counter()
        self.handlers: list[str] = []
        self.addresses: list[str] = []
        self.policy = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements[tag] += 1
        self.handlers += [name for name, _ in attrs if name.startswith("on")]
        self.addresses += [value or "" for name, value in attrs if name in LOADING]
        if tag == "meta" and dict(attrs).get("http-equiv") == "Content-Security-Policy":
            self.policy = dict(attrs).get("content") or ""


def spoiled(content: Any, evil: str, key: str = "") -> Any:
    """Return nested containers with something before all texts, but for those that are words of our own."""
    if isinstance(content, dict):
        return {name: spoiled(value, evil, name) for name, value in content.items()}
    if isinstance(content, list):
        return [spoiled(value, evil, key) for value in content]
    if isinstance(content, str) and key not in STRUCTURE and content not in KNOWN:
        return evil + content
    return content


def page(folder: Path, evil: str) -> Page:
    run, rows = make_run(lrs=(0.01, 0.05))
    run, rows = spoiled(run, evil), spoiled(rows, evil)
    run["asked"][f"option{evil}"] = f"value{evil}"
    run["environment"][f"part{evil}"] = f"value{evil}"
    folder.mkdir()
    (folder / "run.json").write_text(json.dumps(run))
    (folder / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    exhibits: list[Exhibit] = [
        Passage(f"p{evil}", f"title{evil}", f"text{evil}", [(f"piece{evil}", 0.5)]),
        Counts(f"c{evil}", f"title{evil}", f"text{evil}", [f"row{evil}"], [f"column{evil}"], [[3]]),
    ]
    methods = {row["method"] for row in rows}
    for lr in (0.01, 0.05):
        keep_exhibits(folder, f"t{lr}", lr, dict.fromkeys(methods, exhibits))
    return Page(write_report(folder).read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Page:
    return page(tmp_path_factory.mktemp("plain") / "run", "")


def test_names_with_html_in_them_are_shown_as_text(tmp_path: Path, plain: Page) -> None:
    evil = page(tmp_path / "run", EVIL)
    assert (evil.elements["b"], evil.elements["img"], evil.handlers) == (0, 0, [])
    assert {**evil.elements, "wbr": 0} == {**plain.elements, "wbr": 0}  # labels may break at their colons


def test_a_page_loads_nothing(plain: Page) -> None:
    assert "default-src 'none'" in plain.policy
    assert all(address.startswith(("#", "data:", "blob:")) for address in plain.addresses)
    assert plain.elements["link"] == plain.elements["iframe"] == plain.elements["base"] == 0


def test_styles_and_scripts_load_nothing() -> None:
    template = Path(__file__).parents[2] / "src" / "switch_ema" / "bench" / "template"
    for path in template.iterdir():
        text = path.read_text(encoding="utf-8")
        assert not re.search(
            r"@import|url\(\s*['\"]?(?!data:)|fetch\(|XMLHttpRequest|WebSocket|innerHTML|import\(", text
        )


def study_page(folder: Path, evil: str, monkeypatch: pytest.MonkeyPatch) -> Page:
    from switch_ema.bench.plots import Series, lines
    from switch_ema.bench.stats import spread
    from switch_ema.bench.studies import record, report
    from switch_ema.bench.studies.study import Claim, Findings, Panel, Study

    plot = lines(
        f"title{evil}", f"x{evil}", f"y{evil}", [Series.of(f"name{evil}", [1, 2], [spread([1.0, 2.0])] * 2, 0)]
    )
    panel = Panel(f"panel{evil}", f"found{evil}", f"text{evil}", [plot], ([f"head{evil}"], [(f"cell{evil}",)]))
    study = Study(
        question=f"question{evil}",
        claims=(Claim(f"source{evil}", f"said{evil}", "own"),),
        task="classification",
        given={},
        options={},
        recipe="cpu-classification",
        arms=lambda base: [],
        findings=lambda arms: Findings([f"found{evil}"], [panel], [f"note{evil}"]),
    )
    for module in (record, report):
        monkeypatch.setattr(module, "find_study", lambda name: study)
    run, rows = make_run()
    arm = folder / "arms" / "a"
    arm.mkdir(parents=True)
    (arm / "run.json").write_text(json.dumps(spoiled(run, evil)))
    (arm / "rows.jsonl").write_text("".join(json.dumps(spoiled(row, evil)) + "\n" for row in rows))
    asked = {
        **spoiled(run["asked"], evil),
        f"option{evil}": f"value{evil}",
        "seeds": 3,
        "epochs": 2,
        "model": f"m{evil}",
    }
    content = {
        "format": 1,
        "study": f"study{evil}",
        "command": f"sema{evil}",
        "started": "now",
        "asked": asked,
        "arms": [{"name": "a", "title": f"arm{evil}"}],
    }
    (folder / "study.json").write_text(json.dumps(content))
    return Page(report.write_study(folder)[1].read_text(encoding="utf-8"))


def test_the_page_of_a_study_shows_names_as_text_and_loads_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clean, evil = (study_page(tmp_path / name, text, monkeypatch) for name, text in (("plain", ""), ("evil", EVIL)))
    assert (evil.elements["b"], evil.elements["img"], evil.handlers) == (0, 0, [])
    assert {**evil.elements, "wbr": 0} == {**clean.elements, "wbr": 0}
    assert "default-src 'none'" in clean.policy
    assert all(address.startswith(("#", "data:", "blob:", "arms/")) for address in clean.addresses)
