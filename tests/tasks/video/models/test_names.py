"""Names and sizes of frames are checked at once, without torch."""

from __future__ import annotations

import pytest

from switch_ema.errors import InputError
from switch_ema.tasks.video.models.build import _PAPER, _SMALL
from switch_ema.tasks.video.models.names import MODELS, check_predictor
from tests.conftest import loaded_after


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize(("height", "width"), [(64, 64), (8, 8), (120, 160)])
def test_good(model: str, height: int, width: int) -> None:
    check_predictor(model, height, width, 10, 1)


def test_every_name_has_settings() -> None:
    assert set(MODELS) == set(_PAPER) == set(_SMALL)


@pytest.mark.parametrize(
    ("model", "height", "width", "inputs", "outputs", "words"),
    [
        ("convltsm", 64, 64, 10, 10, "unknown model 'convltsm'; did you mean 'convlstm'"),
        ("TAU", 64, 64, 10, 10, "unknown model 'TAU'"),
        ("convlstm", 30, 64, 10, 10, r"convlstm cannot take frames of 30x64 pixels: .* write 32x64"),
        ("predrnn", 64, 29, 10, 10, "write 64x28"),
        ("mau", 4, 5, 10, 10, "write 8x8"),
        ("tau", 0, 64, 10, 10, "write 8x64"),
        ("simvp-gsta", 64, -64, 10, 10, "write 64x8"),
        ("simvp-incepu", 64, 64, 0, 10, "inputs 0: simvp-incepu needs at least 1 frame"),
        ("mau", 64, 64, 10, -1, "outputs -1: mau needs at least 1 frame"),
    ],
)
def test_bad(model: str, height: int, width: int, inputs: int, outputs: int, words: str) -> None:
    with pytest.raises(InputError, match=words) as caught:
        check_predictor(model, height, width, inputs, outputs)
    assert "\n" not in str(caught.value)


def test_names_load_nothing_heavy() -> None:
    assert not loaded_after("import switch_ema.tasks.video.models.names") & {"torch", "numpy"}
