"""Exhibits of tasks: kept as files, shown side by side in the report."""

from __future__ import annotations

import base64
import io
from pathlib import Path

import pytest
import torch
from PIL import Image
from torch import Tensor

from switch_ema.bench.exhibit import Counts, Exhibit, Passage, Picture
from switch_ema.bench.gallery import gallery, keep_exhibits, read_exhibits
from switch_ema.bench.report import build_report
from switch_ema.errors import InputError
from tests.bench.sample import make_run

FRAMES = torch.randint(0, 256, (3, 4, 6, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


def decoded(png: str) -> Tensor:
    image = Image.open(io.BytesIO(base64.b64decode(png)))
    frames = []
    for number in range(getattr(image, "n_frames", 1)):
        image.seek(number)
        frames.append(torch.tensor(list(image.convert("RGB").tobytes()), dtype=torch.uint8))
    return torch.stack(frames).reshape(-1, image.height, image.width, 3)


def kept(folder: Path, *exhibits: Exhibit, lr: float = 0.05) -> Path:
    keep_exhibits(folder, f"seed0-lr{lr}-passive", lr, {"baseline": exhibits, "ema:decay=0.98": exhibits})
    return folder


@pytest.mark.parametrize("count", [1, 3])
def test_pictures_come_back_as_they_were(tmp_path: Path, count: int) -> None:
    (first, _) = read_exhibits(kept(tmp_path, Picture("p", "Title", "Text", FRAMES[:count], seconds=0.5)))
    assert first["method"] == "baseline"
    assert torch.equal(decoded(first["png"]), FRAMES[:count])
    image = Image.open(io.BytesIO(base64.b64decode(first["png"])))
    assert image.info.get("duration", 500) == 500


def test_methods_stand_side_by_side_each_at_its_own_rate(tmp_path: Path) -> None:
    for lr, piece in ((0.05, "slow"), (0.1, "fast")):
        kept(tmp_path, Passage("t", "Title", "Text", [(piece, 0.5), (" <b>", 0.0)]), lr=lr)
    shown = gallery(read_exhibits(tmp_path), {"ema:decay=0.98": 0.1, "baseline": 0.05, "swa": 0.1})
    assert shown.count("<h3>Title</h3>") == 1
    assert shown.index("fast") < shown.index("slow")  # in the order of the methods
    assert shown.count("slow") == shown.count("fast") == 1
    assert "&lt;b&gt;" in shown
    assert "35%" in shown  # half of the full shade of 70 %


def test_counts_are_a_table_shaded_by_size(tmp_path: Path) -> None:
    kept(tmp_path, Counts("c", "Confusion", "Text", ["a", "b"], ["x", "y"], [[3, 0], [1, 6]]))
    shown = gallery(read_exhibits(tmp_path), {"baseline": 0.05})
    assert shown.count("<tr>") == 3
    assert '70%, transparent)">6</span>' in shown
    assert "<span>0</span>" in shown


def test_small_pictures_keep_their_pixels_and_large_ones_are_smoothed(tmp_path: Path) -> None:
    large = torch.zeros(1, 4, 400, 3, dtype=torch.uint8)
    kept(tmp_path, Picture("s", "Small", "", FRAMES), Picture("l", "Large", "", large))
    shown = gallery(read_exhibits(tmp_path), {"baseline": 0.05})
    assert shown.count('class="pixels"') == 1
    assert "</img>" not in shown


def test_the_report_shows_them_and_is_without_the_section_where_there_are_none(tmp_path: Path) -> None:
    exhibits = read_exhibits(kept(tmp_path, Picture("p", "Samples", "Text", FRAMES)))
    assert 'id="made"' in build_report(*make_run(), exhibits)
    assert 'id="made"' not in build_report(*make_run())


def test_nothing_is_written_where_a_task_shows_nothing(tmp_path: Path) -> None:
    keep_exhibits(tmp_path, "seed0", 0.1, {"baseline": ()})
    assert list(tmp_path.iterdir()) == []
    assert read_exhibits(tmp_path) == []


def test_a_damaged_file_is_named(tmp_path: Path) -> None:
    kept(tmp_path, Picture("p", "Samples", "Text", FRAMES))
    path = next((tmp_path / "exhibits").iterdir())
    path.write_text('{"exhibits"')
    with pytest.raises(InputError, match=f"{path.name} is damaged"):
        read_exhibits(tmp_path)
