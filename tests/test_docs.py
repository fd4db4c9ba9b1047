"""Every Python snippet of README and docs runs, every `sema` command in them is understood, every example passes."""

from __future__ import annotations

import re
import runpy
import shlex
from pathlib import Path

import pytest

from switch_ema.bench import compare as bench
from tests.conftest import Sema

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]


def blocks(language: str) -> list[tuple[str, str]]:
    found = []
    for page in PAGES:
        for match in re.finditer(rf"```{language}\n(.*?)```", page.read_text(encoding="utf-8"), re.DOTALL):
            found.append(
                (f"{page.name}:{page.read_text(encoding='utf-8')[: match.start()].count(chr(10)) + 1}", match[1])
            )
    return found


def commands() -> list[str]:
    text = "\n".join(page.read_text(encoding="utf-8") for page in PAGES).replace("\\\n", " ")
    lines = (line.strip().removeprefix("$ ").removeprefix(".venv/bin/") for line in text.splitlines())
    return sorted(
        {line.split("  #")[0] for line in lines if line.startswith(("sema compare ", "sema list", "sema report"))}
    )


@pytest.mark.parametrize(("place", "code"), blocks("python"), ids=[place for place, _ in blocks("python")])
def test_snippets_run(place: str, code: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    exec(compile(code, place, "exec"), {"__name__": "__main__"})


@pytest.mark.parametrize("command", commands())
def test_commands_are_understood(sema: Sema, command: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class UnderstoodError(Exception):
        pass

    def stop(*arguments: object) -> None:
        raise UnderstoodError

    monkeypatch.setenv("SEMA_DATA", str(ROOT.parent / "shared" / "data"))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(bench, "compare", stop)
    words = shlex.split(command)[1:]
    if "cifar10" in words and not (ROOT.parent / "shared" / "data").exists():
        pytest.skip("the data set is not here")
    if words[0] == "compare" and "--help" not in words:
        with pytest.raises(UnderstoodError):
            sema(*words)
    elif words[0] == "list":
        assert sema(*words).code == 0


@pytest.mark.parametrize("path", sorted((ROOT / "examples").glob("*.py")), ids=lambda path: path.name)
def test_examples_pass(path: Path) -> None:
    runpy.run_path(str(path), run_name="__main__")


def test_readme_shows_the_tested_example() -> None:
    """The two added lines of README are those of examples/plain_loop.py."""
    example = (ROOT / "examples" / "plain_loop.py").read_text(encoding="utf-8")
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    for line in (line.strip() for line in example.splitlines() if "# added" in line):
        assert line.split("  #")[0] in readme
