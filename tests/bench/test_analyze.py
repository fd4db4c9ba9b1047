"""`sema analyze`, end to end on small saved models."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from switch_ema import EMA, save_averaged
from switch_ema.bench.compare import compare
from switch_ema.bench.drawn import measured_batches
from switch_ema.bench.loading import load_weights
from switch_ema.bench.progress import Silent
from switch_ema.bench.request import request
from switch_ema.bench.studies.study import vary
from switch_ema.errors import InputError
from switch_ema.tasks.catalog import create
from tests.conftest import Sema

ON = ("--task", "classification", "--data", "digits", "--model", "mlp", "--accelerator", "cpu", "--num-batches", 1)


def network(seed: int = 0) -> nn.Module:
    torch.manual_seed(seed)
    return create("classification", seed=0, model="mlp").build_model()


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    path = tmp_path / "one.pt"
    torch.save({"model": network().state_dict(), "epoch": 3}, path)
    return path


def test_everything_is_measured_of_one_file(sema: Sema, saved: Path, tmp_path: Path) -> None:
    out = tmp_path / "found.json"
    answer = sema("analyze", "--checkpoint", saved, *ON, "--out", out)
    assert answer.code == 0, answer.err
    found = json.loads(out.read_text())
    model = found["models"]["one.pt"]
    assert [*model["measures"]] == ["sharpness", "flatness", "hessian", "calibration"]
    task = create("classification", seed=0, model="mlp")
    metrics = task.evaluate(network().eval(), "test", torch.device("cpu"))
    assert model["metrics"] == pytest.approx(metrics, rel=1e-6)
    assert model["measures"]["calibration"]["details"]["nll"] == pytest.approx(metrics["loss"], rel=1e-5)
    norm = math.sqrt(sum(float(p.detach().double().square().sum()) for p in network().parameters()))
    assert model["weight_norm"] == pytest.approx(norm)
    assert found["batches"] == "256 of 1,294 training examples"
    for text in ("256 of 1,294 training examples, BatchNorm in eval mode", "test accuracy", "norm of the weights"):
        assert text in answer.out
    for measure in model["measures"]:
        assert f"{measure}: {model['measures'][measure]['sentence']}" in answer.out


def test_several_files_stand_side_by_side(sema: Sema, saved: Path, tmp_path: Path) -> None:
    other = tmp_path / "two.safetensors"
    save_averaged(EMA(network(1), decay=0.9), other)
    answer = sema("analyze", "--checkpoint", saved, "--checkpoint", other, *ON, "--measures", "landscape", "--json")
    assert answer.code == 0, answer.err
    (pair,) = json.loads(answer.out)["pairs"]
    assert pair["models"] == ["one.pt", "two.safetensors"]
    first, second = (nn.utils.parameters_to_vector(network(seed).parameters()) for seed in (0, 1))
    assert pair["distance"] == pytest.approx(float((first - second).norm().detach()), rel=1e-5)
    assert 0 < pair["churn"] <= 1
    assert 0 < pair["js_divergence"] < math.log(2)
    assert pair["barrier"] >= 0
    text = sema("analyze", "--checkpoint", saved, "--checkpoint", other, *ON, "--measures", "sharpness").out
    assert "is lowest for" in text
    assert "they name different classes for" in text


def test_wrong_labels_are_those_of_the_seed(sema: Sema, saved: Path) -> None:
    def loss(*options: object) -> float:
        answer = sema("analyze", "--checkpoint", saved, *ON, "--measures", "calibration", "--json", *options)
        return float(json.loads(answer.out)["models"]["one.pt"]["loss"])

    assert len({loss(), loss("--label-noise", 0.4), loss("--label-noise", 0.4, "--seed", 1)}) == 3


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--checkpoint", "none.pt"), "--checkpoint none.pt: there is no such file"),
        (("--checkpoint", "{saved}", "--checkpoint", "{saved}"), "--checkpoint names the same file twice"),
        (("--checkpoint", "{saved}", "--measures", "sharpnes"), "--measures 'sharpnes' is no measure; did you mean"),
        (("--checkpoint", "{saved}", "--split", "dev"), "--split dev: write one of train, val, test"),
        (("--checkpoint", "{saved}", "--batchnorm", "off"), "--batchnorm off: write one of eval, train"),
        (("--checkpoint", "{saved}", "--num-batches", 0), "--num-batches 0: write at least 1"),
        (
            ("--checkpoint", "{saved}", "--measures", "hessian", "--num-matvecs", 6),
            "--num-matvecs 6: not enough for the top 3 of the Hessian",
        ),
        (("--checkpoint", "{saved}", "--task", "classify"), "unknown task 'classify'; did you mean 'classification'"),
        (("--checkpoint", "{saved}", "--model", "small-resnet"), "does not fit the model: of its"),
    ],
)
def test_bad_input_is_one_line(sema: Sema, saved: Path, options: tuple[object, ...], message: str) -> None:
    answer = sema("analyze", *ON, *(str(saved) if option == "{saved}" else option for option in options))
    assert answer.code == 2
    assert message in answer.err
    assert answer.err.count("\n") == 1


def test_weights_are_found_below_keys_and_prefixes(tmp_path: Path) -> None:
    model = nn.Sequential(nn.Linear(2, 3), nn.BatchNorm1d(3))
    for number, (prefix, place) in enumerate(
        [("module.", None), ("model.", "state_dict"), ("_orig_mod.module.", "ema")]
    ):
        state: dict[str, object] = {prefix + name: tensor for name, tensor in model.state_dict().items()}
        path = tmp_path / f"{number}.pt"
        torch.save({place: state} if place else state, path)
        other = nn.Sequential(nn.Linear(2, 3), nn.BatchNorm1d(3))
        load_weights(path, other)
        assert all(torch.equal(tensor, model.state_dict()[name]) for name, tensor in other.state_dict().items())


def test_weights_that_a_comparison_kept_are_read(tmp_path: Path) -> None:
    base = request("points", {"epochs": 1, "seeds": 1}, {})
    settings = vary(base, methods="baseline", keep_weights="last")
    compare(settings, tmp_path, "", Silent())
    (kept,) = tmp_path.rglob("*.safetensors")
    model = create("points", seed=0).build_model()
    load_weights(kept, model)
    assert all(torch.equal(model.state_dict()[name], tensor) for name, tensor in load_file(kept).items())


def test_what_does_not_fit_is_named_and_counted(tmp_path: Path) -> None:
    torch.save({"0.weight": torch.zeros(4, 2), "0.bias": torch.zeros(4)}, tmp_path / "wide.pt")
    model = nn.Sequential(nn.Linear(2, 3))
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    with pytest.raises(
        InputError, match=r"2 of 2 tensors differ \(0.weight is float \(4, 2\), the model's float \(3, 2\)"
    ):
        load_weights(tmp_path / "wide.pt", model)
    torch.save({"0.weight": torch.zeros(3, 2), "1.bias": torch.zeros(3)}, tmp_path / "other.pt")
    with pytest.raises(InputError, match=r"of its 2 tensors 1 are missing in the file, which holds 1 others"):
        load_weights(tmp_path / "other.pt", model)
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())


def test_pickled_objects_are_never_opened(tmp_path: Path) -> None:
    torch.save({"model": nn.Linear(2, 1)}, tmp_path / "object.pt")
    with pytest.raises(InputError, match="only running code from it could read"):
        load_weights(tmp_path / "object.pt", nn.Linear(2, 1))


def test_batches_are_drawn_once_from_all_of_the_data() -> None:
    task = create("classification", seed=0, model="mlp")
    everything = torch.cat([inputs for inputs, _ in task.fixed_batches("train", torch.device("cpu"))])
    batches, words = measured_batches(task, "train", torch.device("cpu"), 100, 64)
    again, _ = measured_batches(task, "train", torch.device("cpu"), 100, 64)
    drawn = torch.cat([inputs for inputs, _ in batches])
    assert words == "all 1,294 training examples"
    assert not torch.equal(drawn, everything)

    def in_order(images: Tensor) -> Tensor:
        return torch.as_tensor(sorted(images.flatten(1).tolist()))

    assert torch.equal(in_order(drawn), in_order(everything))
    assert all(torch.equal(one[0], other[0]) for one, other in zip(batches, again, strict=True))


def test_few_examples_are_drawn_from_everywhere() -> None:
    task = create("classification", seed=0, model="mlp")
    everything = torch.cat([inputs for inputs, _ in task.fixed_batches("train", torch.device("cpu"))])
    ((inputs, targets),), words = measured_batches(task, "train", torch.device("cpu"), 1, 64)
    assert words == "256 of 1,294 training examples"
    assert len(inputs) == len(targets) == 256
    places = [int((everything == image).flatten(1).all(1).nonzero()[0]) for image in inputs]
    quarters = torch.tensor(places).mul(4).div(len(everything), rounding_mode="floor").bincount()
    assert all(40 < count < 90 for count in quarters.tolist())  # 64 are expected, with a deviation of 6
