"""The torch core on the course of training that every framework is given."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from switch_ema import EMA, SwitchEMA
from tests.integrations import vector


@pytest.mark.parametrize("case", vector.CASES, ids=lambda case: case.name)
def test_the_core_agrees_with_the_twin(case: vector.Case) -> None:
    model = nn.ParameterDict({name: torch.tensor(value, dtype=torch.float32) for name, value in vector.start().items()})
    options = case.options
    if case.switch_every is None:
        del options["switch_every"]
    averager = (EMA if case.switch_every is None else SwitchEMA)(model, **options)
    optimizer = torch.optim.SGD(model.parameters(), lr=vector.RATE)
    averager.attach(optimizer)
    for step, (x, y) in enumerate(zip(*vector.data(), strict=True), start=1):
        for name, gradient in vector.gradients(x, y).items():
            model[name].grad = torch.tensor(gradient, dtype=torch.float32)
        optimizer.step()
        if step % vector.STEPS_PER_EPOCH == 0:
            averager.end_epoch()
    weights = {name: value.detach().numpy() for name, value in model.items()}
    average = {name: value.numpy() for name, value in averager.averaged_state_dict().items()}
    vector.check(case, weights, average, averager.n_averaged, averager.n_switches)


def test_the_twin_tells_cases_apart() -> None:
    ends = {case.name: tuple(vector.course(case).average["bias"]) for case in vector.CASES}
    assert len(set(ends.values())) == len(ends)
