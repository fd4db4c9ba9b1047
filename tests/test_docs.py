"""Every Python snippet of README and docs runs, every `sema` command in them is understood, every example passes."""

from __future__ import annotations

import glob
import re
import runpy
import shlex
from itertools import pairwise
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from switch_ema.bench import analyze as analyses
from switch_ema.bench import compare as bench
from switch_ema.bench import sweep, tune
from switch_ema.bench.question import Question
from switch_ema.bench.studies import run as studies
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


def commands(*starts: str) -> list[str]:
    text = "\n".join(page.read_text(encoding="utf-8") for page in PAGES).replace("\\\n", " ")
    lines = (line.strip().removeprefix("$ ").removeprefix(".venv/bin/") for line in text.splitlines())
    return sorted({line.split("  #")[0] for line in lines if line.startswith(starts or "sema ")})


@pytest.mark.parametrize(("place", "code"), blocks("python"), ids=[place for place, _ in blocks("python")])
def test_snippets_run(place: str, code: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    exec(compile(code, place, "exec"), {"__name__": "__main__"})


STARTS = ("compare ", "sweep ", "study ", "tune ", "list", "recipe ", "report", "advise ", "doctor")
UNDERSTOOD = tuple(f"sema {start}" for start in STARTS)


@pytest.mark.parametrize("command", commands(*UNDERSTOOD))
def test_commands_are_understood(sema: Sema, command: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class UnderstoodError(Exception):
        pass

    def stop(*arguments: object) -> None:
        raise UnderstoodError

    monkeypatch.setenv("SEMA_DATA", str(ROOT.parent / "shared" / "data"))
    monkeypatch.chdir(tmp_path)
    (tmp_path / "examples").symlink_to(ROOT / "examples")
    monkeypatch.setattr(bench, "compare", stop)
    monkeypatch.setattr(sweep, "sweep", stop)
    monkeypatch.setattr(studies, "run_study", stop)
    monkeypatch.setattr(tune, "tune", stop)
    words = shlex.split(command)[1:]
    if words[0] in ("compare", "sweep", "study", "tune") and "--help" not in words:
        try:
            answer = sema(*words)
        except UnderstoodError:
            return
        assert re.search("data set '.*' not found", answer.err), answer.err  # it lacks nothing but the data
    elif words[0] != "report":
        assert sema(*words).code == 0


@pytest.mark.parametrize("command", commands("sema average "))
def test_averages_of_files_are_made(sema: Sema, command: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    words = shlex.split(command)[1:]
    output = words[words.index("-o") + 1]
    inputs = [word for word in words if Path(word).suffix in (".pt", ".safetensors") and word != output]
    assert inputs
    for path in (Path(word.replace("*", f"{i:02}")) for word in inputs for i in range(12 if "*" in word else 1)):
        path.parent.mkdir(exist_ok=True)
        (save_file if path.suffix == ".safetensors" else torch.save)({"weight": torch.randn(3)}, str(path))
    expanded = [sorted(glob.glob(word)) if word in inputs else [word] for word in words]  # as the shell does
    answer = sema(*(word for part in expanded for word in part))
    assert (answer.code, answer.err) == (0, "")
    assert load_file(output).keys() == {"weight"}


@pytest.mark.parametrize("command", commands("sema analyze "))
def test_analyses_are_understood(sema: Sema, command: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def stop(question: Question, tell: object) -> None:
        asked.append(question)
        raise KeyboardInterrupt

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(analyses, "analyze", stop)
    words = shlex.split(command)[1:]
    for option, path in pairwise(words):
        if option == "--checkpoint":
            Path(path).write_bytes(b"")
    sema(*words)
    assert asked


def test_every_command_is_tried() -> None:
    assert commands() == commands(*UNDERSTOOD, "sema average ", "sema analyze ")


@pytest.mark.parametrize("path", sorted((ROOT / "examples").glob("*.py")), ids=lambda path: path.name)
def test_examples_pass(path: Path) -> None:
    runpy.run_path(str(path), run_name="__main__")


def test_readme_shows_the_tested_example() -> None:
    """The two added lines of README are those of examples/plain_loop.py."""
    example = (ROOT / "examples" / "plain_loop.py").read_text(encoding="utf-8")
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    for line in (line.strip() for line in example.splitlines() if "# added" in line):
        assert line.split("  #")[0] in readme
