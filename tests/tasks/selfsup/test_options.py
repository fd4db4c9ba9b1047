"""What the self-supervised task accepts, before anything is made."""

from __future__ import annotations

import inspect
from typing import Any

import pytest

from switch_ema.errors import FieldError
from switch_ema.tasks.selfsup import task
from switch_ema.tasks.selfsup.options import METHODS, OPTIONS, check
from tests.conftest import loaded_after


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"method": "simclr2"}, "method simclr2: write one of simclr, moco-v2"),
        ({"methd": "byol"}, "methd is no option here; did you mean 'method'"),
        ({"queue_size": 5}, r"queue_size is of no use to simclr; leave it out \(it belongs to moco-v2\)"),
        ({"method": "mae", "temperature": 0.1}, "temperature is of no use to mae; .*simclr, moco-v2, moco-v3"),
        ({"temperature": "0"}, "temperature 0: write a number above 0"),
        ({"crop_scale": "0.0"}, "crop_scale 0: write a share above 0"),
        ({"method": "byol", "target_momentum": 1.5}, "target_momentum 1.5: write a share from 0 to 1"),
        ({"method": "mae", "decoder_dim": 100}, "decoder_dim 100: write a multiple of 32"),
        ({"method": "mae", "mask_ratio": -1}, "mask_ratio -1: write a share"),
        ({"finetune_epochs": "many"}, "finetune_epochs many: write a whole number of at least 0"),
    ],
)
def test_wrong_options_are_refused(options: dict[str, Any], words: str) -> None:
    with pytest.raises(FieldError, match=words):
        check(options)


def test_options_come_back_in_their_own_types() -> None:
    given = {"method": "mae", "mask_ratio": "0.5", "norm_pix": "false", "decoder_depth": "2", "train_size": None}
    assert check(given) == {"method": "mae", "mask_ratio": 0.5, "norm_pix": False, "decoder_depth": 2}


def test_every_option_belongs_to_someone() -> None:
    named = set(inspect.signature(task.SelfSup.__init__).parameters) - {"self", "data", "model", "seed", "options"}
    owned = {name for entry in METHODS.values() for name in entry.options}
    assert named | owned == set(OPTIONS)
    assert not named & owned


def test_checking_loads_neither_torch_nor_lightly() -> None:
    loaded = loaded_after("from switch_ema.tasks.selfsup.options import check; check({'method': 'mae'})")
    assert not loaded & {"torch", "lightly", "timm", "numpy"}
