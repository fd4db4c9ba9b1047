"""Every study runs at a smoke budget by its command, and its page and text say what came out."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from switch_ema.bench.studies import boundary, boundary_measures, contradiction, decay_window, landscape_measures
from switch_ema.bench.studies.entries import STUDIES
from tests.conftest import Sema

RATES = {name: ("--lr", "0.02,0.05") for name in STUDIES if name not in ("theory", "optimizers", "boundary")}


SMALLER: dict[str, list[tuple[Any, dict[str, Any]]]] = {  # where one epoch of one seed is not yet little
    "landscape": [(landscape_measures, {"_BATCHES": 1, "_MATVECS": 20, "_SIDE": 5, "_FINE": 9, "_BETWEEN": 5})],
    "boundary": [(boundary, {"_FACTORS": (0.3, 1)}), (boundary_measures, {"_SIDE": 21, "_PLANES": 1})],
    "contradiction": [(contradiction, {"_SCHEDULES": ("cosine",)})],
    "decay-window": [(decay_window, {"WINDOWS": (0.3, 1.0), "INTERVALS": (1.0,), "BATCHNORM_WINDOWS": (1.0,)})],
}


@pytest.mark.parametrize("name", STUDIES)
def test_study_runs(sema: Sema, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    for module, changes in SMALLER.get(name, ()):
        for constant, value in changes.items():
            monkeypatch.setattr(module, constant, value)
    epochs = 3 if name == "post-hoc" else 1  # so that its narrowest window is a step
    seeds = 2 if name == "consistency" else 1  # it compares them
    asked = [
        *("study", name, "--epochs", epochs, "--seeds", seeds, "--jobs", 1),
        *RATES.get(name, ()),
        "--out",
        tmp_path / "s",
    ]
    answer = sema(*asked)
    assert answer.code == 0, answer.err
    sentences = answer.out.splitlines()
    assert len(sentences) >= 2
    assert sentences[-1] == f"report: {tmp_path / 's' / 'report.html'}"
    text = (tmp_path / "s" / "findings.md").read_text(encoding="utf-8")
    assert text.startswith(f"# {name}\n")
    assert sentences[0] in text
    assert "nan" not in text.lower().replace("finan", "")
    page = (tmp_path / "s" / "report.html").read_text(encoding="utf-8")
    assert 'class="plot' in page
