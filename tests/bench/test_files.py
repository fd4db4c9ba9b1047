from __future__ import annotations

from pathlib import Path

import pytest

from switch_ema.bench.files import is_free, refuse_other
from switch_ema.errors import InputError


def test_a_folder_is_free_that_is_not_there_or_holds_hidden_files_alone(tmp_path: Path) -> None:
    assert is_free(tmp_path / "new")
    assert is_free(tmp_path)
    (tmp_path / ".lock").touch()
    assert is_free(tmp_path)
    (tmp_path / "thesis.txt").touch()
    assert not is_free(tmp_path)
    assert not is_free(tmp_path / "thesis.txt")


def test_settings_are_compared_as_they_would_be_read() -> None:
    refuse_other(Path("x"), "study", {"lr": [0.1, 0.2]}, {"lr": (0.1, 0.2)})
    with pytest.raises(InputError, match=r"x holds another study \(lr: \[0.1\] there, \[0.2\] asked\)"):
        refuse_other(Path("x"), "study", {"lr": [0.1]}, {"lr": (0.2,)})
