"""Every study runs at a smoke budget by its command, and its page and text say what came out."""

from __future__ import annotations

from pathlib import Path

import pytest

from switch_ema.bench.studies.entries import STUDIES
from tests.conftest import Sema

RATES = {name: ("--lr", "0.02,0.05") for name in STUDIES if name not in ("theory", "optimizers", "boundary")}


@pytest.mark.parametrize("name", STUDIES)
def test_study_runs(sema: Sema, tmp_path: Path, name: str) -> None:
    epochs = 2 if name == "post-hoc" else 1  # two snapshots make an average
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
