"""Changes of a model's structure that went unnoticed."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from switch_ema import EMA


class Tied(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.one = nn.Linear(2, 2, bias=False)
        self.other = nn.Linear(2, 2, bias=False)
        self.other.weight = self.one.weight


def test_untied_weights_are_noticed() -> None:
    model = Tied()
    averager = EMA(model, 0.5)
    averager.update()
    model.other.weight = nn.Parameter(torch.full((2, 2), 7.0))
    with pytest.raises(RuntimeError, match=r"other\.weight.*call refresh\(\)"), averager.average_parameters():
        pass
    averager.refresh()
    with torch.no_grad():
        model.other.weight.fill_(9.0)
    averager.update()
    with averager.average_parameters():
        assert torch.equal(model.other.weight, torch.full((2, 2), 8.0))
