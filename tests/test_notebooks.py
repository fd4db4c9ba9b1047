"""The notebooks of the documentation run from top to bottom and print what they show."""

from __future__ import annotations

import re
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

NOTEBOOKS = sorted((Path(__file__).parents[1] / "docs" / "notebooks").glob("*.ipynb"))


def numbers(notebook: nbformat.NotebookNode) -> list[float]:
    """Return every number that the notebook's cells print."""
    streams = [
        out["text"] for cell in notebook.cells for out in cell.get("outputs", ()) if out["output_type"] == "stream"
    ]
    return [float(number) for number in re.findall(r"\d+\.?\d*", "".join(streams))]


def pictures(notebook: nbformat.NotebookNode) -> int:
    return sum("image/png" in out.get("data", {}) for cell in notebook.cells for out in cell.get("outputs", ()))


@pytest.mark.timeout(180)
@pytest.mark.filterwarnings("default")  # of the kernel and its transport, which are not ours
@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_notebook_shows_what_it_computes(path: Path) -> None:
    shown = nbformat.read(path, as_version=4)
    ran = nbformat.read(path, as_version=4)
    NotebookClient(ran, timeout=120, kernel_name="python3").execute()
    assert len(numbers(shown)) > 10
    assert numbers(ran) == pytest.approx(numbers(shown), rel=0.1, abs=0.03)  # as far as another CPU may round
    assert pictures(ran) == pictures(shown) >= 1
