"""The plane through three inputs: exactly through them, with distances in proportion."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor, nn

from switch_ema.analysis.boundary import decision_grid
from switch_ema.analysis.image_plane import image_plane, plane_through
from switch_ema.errors import InputError


def images(seed: int = 0, dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.rand(3, 2, 4, 5, generator=torch.Generator().manual_seed(seed), dtype=dtype)


@pytest.mark.parametrize("seed", range(3))
def test_the_plane_goes_exactly_through_the_images(seed: int) -> None:
    three = images(seed)
    plane = plane_through(three)
    assert plane.at(plane.places)[0].equal(three[0])
    torch.testing.assert_close(plane.at(plane.places), three, rtol=0, atol=1e-14)
    single = images(seed, torch.float32)
    assert plane_through(single).at(plane_through(single).places).float().equal(single)


def test_distances_keep_their_proportions() -> None:
    three = images()
    plane = plane_through(list(three))
    unit = float((three[1] - three[0]).norm())
    points = torch.tensor([[0.3, -1.0], [2.0, 0.7], [-0.4, 0.1]], dtype=torch.float64)
    for there, here in ((plane.at(points), points), (three, plane.places)):
        torch.testing.assert_close(torch.pdist(there.flatten(1)) / unit, torch.pdist(here))
    assert plane.places[:2].tolist() == [[0, 0], [1, 0]]
    assert plane.places[2, 1] > 0


def test_a_plane_by_hand() -> None:
    plane = plane_through(torch.tensor([[0.0, 0.0, 5.0], [2.0, 0.0, 5.0], [-1.0, -4.0, 5.0]]))
    assert plane.places.tolist() == [[0, 0], [1, 0], [-0.5, 2]]
    assert plane.at(torch.tensor([[1.0, 1.0]])).tolist() == [[2, -2, 5]]


def test_the_images_get_the_classes_that_the_model_gives_them() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(2, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(24, 5)).double()
    three = images()
    plane = plane_through(three)
    xs, ys = (plane.places[:, axis].unique() for axis in range(2))
    regions = decision_grid(model, xs, ys, at=plane.at, chunk=2)
    wanted = model.eval()(three).softmax(1)
    for (x, y), probabilities in zip(plane.places, wanted, strict=True):
        found = regions.probabilities[int((ys == y).nonzero()), int((xs == x).nonzero())]
        torch.testing.assert_close(found, probabilities.detach())


def test_the_grid_covers_the_images_and_a_margin() -> None:
    model = nn.Sequential(nn.Flatten(), nn.Linear(40, 3)).double()
    found = image_plane(model, images(), resolution=7, margin=0.25)
    low, high = found.places.amin(0), found.places.amax(0)
    assert found.regions.classes.shape == (7, 7)
    for axis, values in enumerate((found.regions.xs, found.regions.ys)):
        width = high[axis] - low[axis]
        assert values[0] == pytest.approx(float(low[axis] - 0.25 * width))
        assert values[-1] == pytest.approx(float(high[axis] + 0.25 * width))
        torch.testing.assert_close(values.diff(), (1.5 * width / 6).expand(6))


def test_answers_are_those_of_a_linear_classifier_in_closed_form() -> None:
    """It tells on which side of a line an input lies; on the plane the same line is x = 1/2."""
    three = torch.eye(3)
    weight = three[1] - three[0]
    model = nn.Linear(3, 1)
    model.load_state_dict({"weight": weight[None], "bias": torch.zeros(1)})
    regions = image_plane(model, three, resolution=20).regions
    assert regions.classes.equal((regions.xs > 0.5).long().expand(20, 20))
    confidence = torch.sigmoid(2 * (regions.xs - 0.5).abs())
    torch.testing.assert_close(regions.confidence, confidence.expand(20, 20), rtol=1e-6, atol=1e-6)


def test_the_model_is_left_alone() -> None:
    model = nn.Sequential(nn.Flatten(), nn.Linear(40, 4), nn.BatchNorm1d(4), nn.Dropout(0.5)).train()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    random = torch.get_rng_state()
    image_plane(model, images(), resolution=4, chunk=3)
    assert model.training
    assert torch.get_rng_state().equal(random)
    assert all(value.equal(before[name]) for name, value in model.state_dict().items())


@pytest.mark.parametrize(
    ("inputs", "words"),
    [
        (torch.eye(4), r"inputs of shapes \[\(4,\), .*\]: a plane goes through three of one shape; give three"),
        (torch.eye(2), "a plane goes through three"),
        ([torch.zeros(2), torch.ones(2), torch.ones(3)], "three of one shape"),
        (torch.tensor([[0.0, 0.0], [1.0, 1.0], [3.0, 3.0]]), "inputs lie on one line, or two are the same"),
        (torch.tensor([[0.0, 0.0], [0.0, 0.0], [3.0, 1.0]]), "inputs lie on one line, or two are the same"),
        (torch.tensor([[0.0, 0.0], [1.0, 0.0], [math.nan, 1.0]]), "inputs are not finite"),
    ],
)
def test_inputs_that_make_no_plane(inputs: Tensor | list[Tensor], words: str) -> None:
    with pytest.raises(InputError, match=words):
        plane_through(inputs)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"resolution": 1}, "resolution 1: write at least 2"),
        ({"margin": -0.1}, "margin -0.1: write a share of at least 0"),
        ({"margin": math.nan}, "margin nan"),
        ({"chunk": 0}, "chunk 0"),
    ],
)
def test_arguments_out_of_range(arguments: dict[str, float], words: str) -> None:
    with pytest.raises(InputError, match=words):
        image_plane(nn.Flatten(), images(), **arguments)  # type: ignore[arg-type]


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_a_gpu_gives_the_same() -> None:
    model = nn.Sequential(nn.Flatten(), nn.Linear(40, 3)).double()
    here = image_plane(model, images(), resolution=9)
    there = image_plane(model.cuda(), images().cuda(), resolution=9)
    torch.testing.assert_close(there.regions.probabilities, here.regions.probabilities)
    torch.testing.assert_close(there.places, here.places)
