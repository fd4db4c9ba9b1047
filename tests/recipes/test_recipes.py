"""The recipes that come with the package: complete, accepted as they are, and the papers' settings."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from torch import nn

from switch_ema.averaging.averager import Averager
from switch_ema.bench.optim import build_optimizer
from switch_ema.bench.request import request
from switch_ema.bench.results import read_run
from switch_ema.bench.schedule import Schedule
from switch_ema.bench.settings import Settings
from switch_ema.recipes.reader import EVIDENCE, read_recipe, recipe_names, recipe_text
from tests.conftest import Sema
from tests.data import make
from tests.data.detection.make import make_coco

NAMES = recipe_names()
# what makes a twin smaller still
TWINS: dict[str, tuple[object, ...]] = {
    "cpu-classification": ("--train-size", 100),
    "cpu-labels": ("--train-size", 100),
    "cpu-points": ("--train-size", 40, "--test-size", 50),
    "cpu-regression": ("--train-size", 100),
    "cpu-selfsup": ("--train-size", 64, "--probe-epochs", 1),
    "cpu-detection": ("--train-size", 8, "--batch-size", 4),
    "cpu-segmentation": ("--train-size", 8, "--batch-size", 4),
    "cpu-generation": ("--train-size", 64, "--samples", 16, "--sampling-steps", 4),
    "cpu-video": ("--train-size", 32, "--test-size", 16, "--inputs", 2, "--outputs", 2),
    "cpu-language": ("--train-size", 64),
    "cpu-textclass": ("--train-size", 64, "--max-length", 16),
}
STEPS, STEPS_OF_COCO = 450, 7055
PER_EPOCH = "switch_every=1 epoch after 5"
RAMP = "decay=ramp {} over 5 epochs"

# what reference and code of the papers say, written down a second time
FACTS: dict[str, dict[str, Any]] = {
    "cifar100-resnet18": {"lr": (0.1,), "weight_decay": 1e-4, "batch_size": 100, "epochs": 200, "nesterov": False},
    "cifar100-wrn28-10": {"lr": (0.03,), "weight_decay": 1e-3, "model": "wrn-28-10", "schedule_unit": "epoch"},
    "cifar100-convnext-s": {"lr": (1e-3,), "weight_decay": 0.05, "clip_norm": None, "task_options.drop_path": 0.5},
    "cifar100-deit-s": {"clip_norm": 5, "warmup_epochs": 5, "task_options.image_size": 224, "betas": (0.9, 0.999)},
    "cifar100-mixer-s": {"task_options.dropout": 0.1, "task_options.label_smoothing": 0.1, "optimizer": "adamw"},
    "imagenet-deit-s": {"lr": (1e-3,), "batch_size": 1024, "lr_min": 1e-5, "epochs": 300, "clip_norm": 5},
    "imagenet-resnet50-a3": {"optimizer": "lamb", "lr": (8e-3,), "batch_size": 2048, "task_options.image_size": 160},
    "imagenet-convnext-t": {"lr": (4e-3,), "batch_size": 2048, "accumulate": 2, "warmup_epochs": 20},
    "rcfmnist-resnet50": {"optimizer": "adam", "lr": (1e-3,), "lr_min": 1e-6, "epochs": 400, "batch_size": 100},
    "agedb-resnet50": {"optimizer": "adamw", "weight_decay": 0.05, "batch_size": 256, "epochs": 400, "lr_min": 1e-6},
    "agedb-vit-b": {"model": "timm/vit_base_patch16_224", "task_options.scale_target": False, "clip_norm": 5},
    "imdbwiki-resnet50": {"epochs": 200, "decay_norms": False, "data": "imdb-wiki"},
    "cifar10-simclr": {"optimizer": "lars", "lr": (2.4,), "batch_size": 2048, "weight_decay": 1e-6, "epochs": 1000},
    "cifar100-byol": {"lr": (4.8,), "batch_size": 2048, "accumulate": 2, "task_options.target_momentum": 0.99},
    "cifar10-mae": {"lr": (2.4e-3,), "betas": (0.9, 0.95), "task_options.mask_ratio": 0.75, "warmup_epochs": 40},
    "cifar10-mocov3": {"weight_decay": 0.1, "batch_size": 512, "accumulate": 8, "model": "vit-s"},
    "stl10-barlowtwins": {"lr": (1.6,), "batch_size": 1024, "accumulate": 2, "task_options.projection_dim": 8192},
    "stl10-mocov2": {"lr": (0.03,), "batch_size": 256, "task_options.queue_size": 65536, "weight_decay": 1e-4},
    "stl10-simmim": {"lr": (4e-4,), "lr_min": 4e-5, "clip_norm": 5, "task_options.mask_patch": 32},
    "coco-mask-rcnn-1x": {
        "lr": (0.02,),
        "momentum": 0.9,
        "weight_decay": 1e-4,
        "batch_size": 16,
        "epochs": 12,
        "milestones": (8, 11),
        "task_options.sizes": (800,),
        "task_options.max_size": 1333,
        "task_options.backbone": "resnet50",
    },
    "coco-mask-rcnn-2x": {"epochs": 24, "milestones": (16, 22), "task": "segmentation"},
    "mmnist-convlstm": {"optimizer": "adam", "schedule": "onecycle", "lr": (5e-4,), "batch_size": 16, "epochs": 200},
    "mmnist-predrnn": {"lr": (5e-4,), "task_options.inputs": 10, "task_options.outputs": 10},
    "mmnist-mau": {"lr": (1e-3,), "task_options.size": "paper"},
    "mmnist-tau": {"lr": (1e-3,), "batch_size": 16},
    "cifar10-ddpm": {"optimizer": "adam", "lr": (2e-4,), "batch_size": 128, "clip_norm": 1, "model": "unet-cifar10"},
    "ptb-lstm": {
        "lr": (30,),
        "clip_norm": 0.25,
        "weight_decay": 1.2e-6,
        "batch_size": 20,
        "task_options.hidden_dropout": 0.25,
    },
    "b-cifar100-resnet18": {"lr": (1.2,), "weight_decay": 1e-4, "batch_size": 128, "nesterov": True, "epochs": 200},
    "b-cifar100-vgg16": {"lr": (0.05,), "weight_decay": 5e-4, "model": "vgg16"},
    "b-cifar100-wrn28-10": {"lr": (0.1,), "weight_decay": 5e-4, "warmup_epochs": 5},
    "b-tiny-imagenet-resnet18": {"epochs": 150, "lr": (0.8,), "task_options.padding": 4},
    "b-cifar100n-resnet34": {"model": "resnet34", "task_options.label_file": "CIFAR-100_human.pt:noisy_label"},
    "b-cifar100-resnet18-bootstrap": {"task_options.train_size": 40000, "lr": (1.2,)},
}

METHODS = {
    "cifar100-densenet121": [f"ema:{RAMP.format(0.999)},use_buffers=false", "lookahead", "sam", "swa"],
    "cifar100-wrn28-10": [
        f"sema:{RAMP.format(0.999)},use_buffers=false,{PER_EPOCH}",
        f"sema:{RAMP.format(0.99)},use_buffers=false,switch_every=50 steps after 5",
    ],
    "cifar100-swin-t": [f"ema:{RAMP.format(0.9999)}"],
    "coco-retinanet-1x": ["ema:decay=0.9998"],
    "cifar10-ddpm": ["ema:decay=0.9999"],
    "agedb-resnet50": [f"sema:{RAMP.format(0.999)},use_buffers=false,{PER_EPOCH}"],
    "b-cifar10n-resnet34": [
        f"ema:decay=warmup {decay},update_every=16" for decay in (0.998, 0.999, 0.9995, 0.99975, 0.999875)
    ],
    "b-cifar100-resnet18-bootstrap": ["sema:decay=warmup 0.9995,update_every=16,switch_every=1 epoch"],
}


def faces(folder: Path) -> None:
    (folder / "images").mkdir(parents=True)
    rows = [f"images/{row}.png,{row}" for row in range(20)]
    for row in range(20):
        (folder / "images" / f"{row}.png").write_bytes(make.png(row))
    (folder / "faces.csv").write_text("\n".join(["path,age", *rows]))


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Make a small copy of every data set that a recipe names."""
    root = tmp_path_factory.mktemp("data")
    make.cifar10_python(root / "cifar10")
    make.cifar100_python(root / "cifar100")
    make.tiny_imagenet(root / "tiny-imagenet")
    make.imagenet(root / "imagenet")
    make.stl10(root / "stl10")
    make.fashion_mnist(root)
    make.idx(root / "mnist")
    make_coco(root / "coco", {"train": 12, "val": 5}, suffix="2017")
    make_coco(root / "bccd")
    for name, file in (("ptb", "ptb.{}.txt"), ("wikitext-103", "wiki.{}.tokens"), ("text", "tinyshakespeare.txt")):
        (root / name).mkdir()
        for split in ("train", "valid", "test"):
            (root / name / file.format(split)).write_text("a word\n" * 50)
    (root / "yelp").mkdir()
    for split in ("train", "test"):
        (root / "yelp" / f"{split}.csv").write_text('"1","bad"\n"2","good"\n' * 20)
    (root / "celeba" / "img_align_celeba").mkdir(parents=True)
    for row in range(20):
        (root / "celeba" / "img_align_celeba" / f"{row:06}.jpg").write_bytes(make.png(row))
    faces(root / "agedb")
    faces(root / "imdb-wiki")
    for name in ("CIFAR-10_human.pt", "CIFAR-100_human.pt"):
        (root / name).write_text("not read yet")
    return root


@pytest.fixture
def here(data: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("SEMA_DATA", str(data))
    monkeypatch.chdir(data)
    return data


def value(settings: Settings, name: str) -> Any:
    first, _, option = name.partition(".")
    found = getattr(settings, first)
    return found[option] if option else found


@pytest.mark.parametrize("name", NAMES)
def test_a_recipe_says_where_it_comes_from(name: str) -> None:
    lines = recipe_text(name)[1].splitlines()
    comment = lines[: next(k for k, line in enumerate(lines) if not line.startswith("# "))]
    assert len(comment) >= 4
    assert "arXiv:" in comment[0] + comment[1]
    assert max(map(len, lines)) <= 120
    recipe = read_recipe(name, Settings.model_fields)
    assert 10 < len(recipe.about) < 100
    text = " ".join(line.removeprefix("# ") for line in comment)
    assert [label for label in EVIDENCE if f": {label}" in recipe_text(name)[1] and f"[{label}]" not in text] == []
    assert "MEM" not in text
    if name not in TWINS:
        assert "Differs:" in text


@pytest.mark.parametrize("name", NAMES)
def test_a_recipe_is_accepted_as_it_is(name: str, here: Path) -> None:
    settings = request(name, {}, {})
    assert settings.seeds == 3
    recipe = read_recipe(name, Settings.model_fields)
    assert {"data", "model", "methods", "epochs", "batch_size", "optimizer", "lr"} <= recipe.settings.keys()
    kinds = {method.kind for method in settings.parsed_methods()}
    assert {"baseline", "ema", "sema"} <= kinds
    for method in settings.parsed_methods():
        averager = method.probe(settings.epochs, STEPS_OF_COCO if settings.data == "coco" else STEPS)
        assert (averager is None) == (method.kind == "baseline")
    build_optimizer(nn.Linear(2, 2), settings)
    schedule = Schedule.of(settings, settings.lr[0], STEPS)
    floor = 1.0 if settings.schedule == "constant" else settings.lr_min / settings.lr[0]
    assert floor <= schedule.factor(schedule.total - 1) < floor + 0.02
    assert max(schedule.factor(k) for k in range(0, schedule.total, max(1, schedule.total // 500))) > 0.99


@pytest.mark.parametrize("name", FACTS)
def test_settings_are_the_papers(name: str, here: Path) -> None:
    settings = request(name, {}, {})
    assert {key: value(settings, key) for key in FACTS[name]} == FACTS[name]


@pytest.mark.parametrize("name", METHODS)
def test_methods_are_the_papers(name: str, here: Path) -> None:
    labels = [method.label for method in request(name, {}, {}).parsed_methods()]
    assert set(METHODS[name]) <= set(labels)


def test_the_papers_tables_have_a_recipe_each() -> None:
    families = [name.partition("-")[0] for name in NAMES]
    small = {"cifar10": 8, "cifar100": 13, "rcfmnist": 3, "stl10": 7, "mmnist": 6, "ptb": 1}
    large = {"imagenet": 3, "agedb": 3, "imdbwiki": 1, "coco": 5, "celeba": 1, "wikitext103": 1, "yelp": 1}
    ours = {"b": 8, "cpu": 11, "gpu": 2}
    assert {family: families.count(family) for family in families} == {**small, **large, **ours}


def test_switches_of_the_bootstrapping_recipe_keep_little(here: Path) -> None:
    methods = request("b-cifar100-resnet18-bootstrap", {}, {}).parsed_methods()
    theirs = next(method for method in methods if "0.9995" in method.label and method.switches)
    assert theirs.texts(200)["switch_every"] == "1 epoch"
    averager = theirs.probe(200, 312)
    assert isinstance(averager, Averager)
    assert averager.retained_fraction(312) > 0.5  # the warm-up has not got far
    assert theirs.switch_interval(200, 312) == 312


@pytest.mark.parametrize("name", NAMES)
def test_a_printed_recipe_given_back_is_the_same(name: str, sema: Sema, here: Path, tmp_path: Path) -> None:
    printed = sema("recipe", name)
    assert (printed.code, printed.err) == (0, "")
    assert printed.out == recipe_text(name)[1]
    mine = tmp_path / "my.yaml"
    mine.write_text(printed.out)
    assert request(str(mine), {}, {}) == request(name, {}, {})


def test_all_are_listed(sema: Sema) -> None:
    listed = sema("list", "recipes").out
    for name in NAMES:
        line = next(line for line in listed.splitlines() if line.split()[:1] == [name])
        assert read_recipe(name, Settings.model_fields).about in line


@pytest.mark.parametrize("name", TWINS)
def test_a_twin_runs(name: str, sema: Sema, tmp_path: Path, few_held_out: None) -> None:
    short = ("--epochs", 1, "--seeds", 1, "--batch-size", 32)
    answer = sema("compare", name, *short, *TWINS[name], "--out", tmp_path / "run", "--json")
    assert answer.code == 0, answer.err
    assert Path(json.loads(answer.out)["report"]).is_file()
    wanted = {method.label for method in request(name, {}, {}).parsed_methods()}
    assert {row["method"] for row in read_run(tmp_path / "run")[1]} == wanted
