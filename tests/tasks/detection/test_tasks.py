"""Detection and segmentation fulfil the task contract, and learn."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from switch_ema.averaging.buffers import reestimate_batchnorm
from switch_ema.bench.task import Task
from switch_ema.data.detection.scenes import Scenes
from switch_ema.errors import InputError
from switch_ema.tasks.detection.batches import SceneBatches
from switch_ema.tasks.detection.exhibits import PICTURES, picture
from switch_ema.tasks.detection.options import OPTIONS, Chosen, check_detection, check_segmentation, sizes
from switch_ema.tasks.detection.task import Detection, Segmentation
from tests.conftest import Sema
from tests.data.detection.make import annotation, make_coco, make_voc
from tests.tasks.detection.scenes import objects

CPU = torch.device("cpu")
BCCD = Path(os.environ.get("SEMA_DATA", "../shared/data"), "bccd")
COUNTS = {"train": 4, "val": 3, "test": 3}


def trained(task: Detection, epochs: int, batch_size: int, lr: float) -> nn.Module:
    model = task.build_model()
    optimizer = torch.optim.AdamW(model.parameters(), lr)
    for epoch in range(epochs):
        for batch in task.train_batches(batch_size, epoch, CPU):
            optimizer.zero_grad()
            task.loss(model, batch).backward()
            nn.utils.clip_grad_norm_(model.parameters(), 5.0)
            optimizer.step()
    return model.eval()


class Oracle(nn.Module):
    """Returns the truth of the scenes that it is shown, one after another, as found with full certainty."""

    def __init__(self, task: Detection, split: str, shift: float = 0) -> None:
        super().__init__()
        scenes = task._scenes[split]
        self.answers = iter([*zip(scenes.objects, scenes.sizes.tolist(), strict=True)])
        self.masks, self.shift = task.name == "segmentation", shift

    def forward(self, images: list[Tensor]) -> list[dict[str, Tensor]]:
        return [self._answer(image) for image in images]

    def _answer(self, image: Tensor) -> dict[str, Tensor]:
        truth, size = next(self.answers)
        assert list(image.shape[1:]) == size
        boxes = torch.tensor(truth.boxes) + self.shift
        found = {"boxes": boxes, "labels": torch.tensor(truth.labels) + 1, "scores": torch.ones(len(truth))}
        if self.masks:
            found["masks"] = torch.tensor(truth.bitmaps(*size))[:, None] * 0.6 + 0.2
        return found


@pytest.mark.parametrize(("kind", "model"), [(Detection, "fcos"), (Segmentation, "mask-rcnn")])
def test_it_is_a_task(kind: type[Detection], model: str) -> None:
    task: Task = kind(train_size=8)  # the type checker compares the signatures
    assert (task.name, task.data, task.model, task.num_train) == (kind.name, "digits-canvas", model, 8)
    assert [metric.name for metric in task.metrics][:4] == ["ap", "ap50", "ap75", "ap_small"]
    assert all(metric.higher_is_better for metric in task.metrics)
    boxes = [metric.name for metric in task.metrics if metric.name.startswith("box_")]
    assert boxes == (["box_ap", "box_ap50", "box_ap75"] if kind is Segmentation else [])


@pytest.mark.parametrize("kind", [Detection, Segmentation])
def test_who_finds_everything_gets_full_marks(kind: type[Detection]) -> None:
    task = kind(train_size=8)
    masks = kind is Segmentation
    got = task.evaluate(Oracle(task, "val"), "val", CPU)
    assert list(got) == [metric.name for metric in task.metrics]
    assert list(got.values()) == pytest.approx([1] * len(got))
    shifted = task.evaluate(Oracle(task, "test", shift=4), "test", CPU)
    assert shifted["box_ap" if masks else "ap"] < 0.5
    if masks:
        assert shifted["ap"] == pytest.approx(1)


def test_only_sizes_that_are_there_are_measured(tmp_path: Path) -> None:
    def of(width: int) -> list[str]:
        folder = make_coco(
            tmp_path / str(width), COUNTS, lambda _, document: widen(document, width), width=200, height=120
        )
        return [metric.name for metric in Detection(data=str(folder), sizes=64).metrics]

    def widen(document: dict[str, Any], width: int) -> None:
        for each in document["annotations"]:
            each.update(bbox=[0, 0, width, 100], area=100 * width)

    assert of(8) == ["ap", "ap50", "ap75", "ap_small"]
    assert of(40) == ["ap", "ap50", "ap75", "ap_medium"]
    assert of(150) == ["ap", "ap50", "ap75", "ap_large"]


def test_crowds_are_ignored_when_they_are_not_found(tmp_path: Path) -> None:
    def add_crowd(split: str, document: dict[str, Any]) -> None:
        document["annotations"].append(annotation(9999, document["images"][1]["id"], (0, 0, 20, 16), iscrowd=1))

    folder = str(make_coco(tmp_path, COUNTS, add_crowd))
    task = Detection(data=folder, sizes=64)
    assert task.evaluate(Oracle(task, "test"), "test", CPU)["ap"] == pytest.approx(1)
    learnt = [target for _, targets in task.train_batches(4, 0, CPU) for target in targets]
    assert sorted(len(target["labels"]) for target in learnt) == [0, 0, 1, 2]


@pytest.mark.parametrize("kind", [Detection, Segmentation])
@pytest.mark.parametrize("training", [False, True])
def test_evaluation_is_the_same_twice_and_leaves_the_model_alone(
    kind: type[Detection], training: bool, tmp_path: Path
) -> None:
    task = kind(data=str(make_coco(tmp_path, COUNTS)), sizes=64)
    torch.manual_seed(0)
    model = task.build_model().eval()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    assert task.evaluate(model, "val", CPU) == task.evaluate(model, "val", CPU)
    assert not model.training
    assert all(value.equal(before[name]) for name, value in model.state_dict().items())
    assert all(parameter.grad is None for parameter in model.parameters())


def test_several_sizes_train_and_the_loss_is_the_sum_of_the_models() -> None:
    task = Detection(train_size=8, sizes="64,96", model="retinanet")
    torch.manual_seed(0)
    model = task.build_model()
    batch = next(task.train_batches(4, 0, CPU))
    torch.manual_seed(1)
    loss = task.loss(model, batch)
    torch.manual_seed(1)
    parts = model(*batch)
    assert loss.shape == ()
    assert len(parts) > 1
    torch.testing.assert_close(loss, sum(parts.values()))


@pytest.mark.parametrize("kind", [Detection, Segmentation])
def test_the_loss_of_a_model_in_evaluation_mode_leaves_it_so(kind: type[Detection]) -> None:
    task = kind(train_size=8)
    torch.manual_seed(0)
    model = task.build_model().eval()
    batch = next(task.train_batches(4, 0, CPU))
    statistics = {name: value.clone() for name, value in model.named_buffers()}
    torch.manual_seed(1)
    loss = task.loss(model, batch)
    assert not any(module.training for module in model.modules())
    assert all(value.equal(statistics[name]) for name, value in model.named_buffers())
    model.train()
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.eval()
    torch.manual_seed(1)
    assert task.loss(model, batch).equal(loss)


@pytest.mark.parametrize("kind", [Detection, Segmentation])
def test_batchnorm_can_be_estimated_anew(kind: type[Detection]) -> None:
    task = kind(train_size=8)
    torch.manual_seed(0)
    model = task.build_model().eval()
    statistics = {name: value.clone() for name, value in model.named_buffers() if name.endswith("running_mean")}
    assert reestimate_batchnorm(model, task.train_batches(4, 0, CPU), task.loss) == 2
    assert statistics
    assert not any(value.equal(statistics[name]) for name, value in model.named_buffers() if name in statistics)
    assert not any(module.training for module in model.modules())


@pytest.mark.parametrize("kind", [Detection, Segmentation])
def test_exhibits_show_the_same_images_with_truth_and_findings(kind: type[Detection]) -> None:
    task = kind(train_size=8)
    masks = kind is Segmentation
    found = task.exhibits(Oracle(task, "test"), CPU)
    missed = task.exhibits(Silent(masks), CPU)
    assert [picture.name for picture in found] == [f"scene-{k + 1}" for k in range(PICTURES)]
    assert [picture.name for picture in missed] == [picture.name for picture in found]
    for there, absent in zip(found, missed, strict=True):
        assert there.frames.shape == absent.frames.shape == (1, 384, 384, 3)
        assert there.frames.dtype == torch.uint8
        assert coloured(absent.frames, "blue") > 300
        assert coloured(absent.frames, "orange") == 0
        assert coloured(there.frames, "orange") > 300
        assert ("masks" in there.text) is masks


class Silent(nn.Module):
    """Finds something everywhere, but is not sure of it."""

    def __init__(self, masks: bool) -> None:
        super().__init__()
        self.masks = masks

    def forward(self, images: list[Tensor]) -> list[dict[str, Tensor]]:
        unsure = {
            "boxes": torch.tensor([[5.0, 5, 30, 30]]),
            "labels": torch.ones(1).long(),
            "scores": torch.full((1,), 0.2),
        }
        return [unsure | ({"masks": torch.ones(1, 1, *image.shape[1:])} if self.masks else {}) for image in images]


def coloured(frames: Tensor, colour: str) -> int:
    """Count the pixels that are clearly blue or orange."""
    red, _, blue = frames.int().unbind(-1)
    return int(((blue - red) * (1 if colour == "blue" else -1) > 60).sum())


def test_photographs_are_shown_smaller(tmp_path: Path) -> None:
    folder = str(make_coco(tmp_path, COUNTS, width=1000, height=500))
    task = Segmentation(data=folder, sizes=64)
    shown = task.exhibits(Oracle(task, "test"), CPU)
    assert {picture.frames.shape for picture in shown} == {(1, 192, 384, 3)}


@pytest.mark.parametrize(
    ("size", "shown"),
    [((64, 64), (384, 384)), ((100, 150), (300, 450)), ((200, 300), (256, 384)), ((480, 640), (288, 384))],
)
def test_a_picture_is_about_as_large_whatever_the_image(size: tuple[int, int], shown: tuple[int, int]) -> None:
    frames = picture(0, torch.rand(3, *size), objects(), found(), ["cell"]).frames
    assert frames.shape == (1, *shown, 3)


@pytest.mark.parametrize("box", [(300.0, 100.0, 301.4, 180.0), (300.0, 100.0, 380.0, 101.4)])
def test_boxes_thinner_than_a_pixel_are_drawn(box: tuple[float, ...]) -> None:
    blank = torch.zeros(3, 480, 640)
    assert coloured(picture(0, blank, objects((*box, 0)), found(), ["cell"]).frames, "blue") > 40
    assert coloured(picture(0, blank, objects(), found(box), ["cell"]).frames, "orange") > 40


def test_of_several_detections_at_one_place_the_surest_is_shown() -> None:
    two = found((10.0, 10.0, 40.0, 40.0), (11.0, 10.0, 40.0, 40.0), (50.0, 10.0, 60.0, 40.0))
    two |= {"scores": torch.tensor([0.4, 0.6, 0.5]), "labels": torch.tensor([1, 2, 1])}
    one = {name: values[1:] for name, values in two.items()}
    blank = torch.zeros(3, 64, 64)
    shown, alone = (picture(0, blank, objects(), each, ["cat", "dog"]).frames for each in (two, one))
    assert shown.equal(alone)


def found(*boxes: tuple[float, ...]) -> dict[str, Tensor]:
    count = len(boxes)
    labels = torch.ones(count, dtype=torch.int64)
    return {"boxes": torch.tensor(boxes).reshape(-1, 4), "labels": labels, "scores": torch.ones(count)}


@pytest.mark.parametrize("kind", [Detection, Segmentation])
def test_training_finds_what_is_in_two_scenes(kind: type[Detection]) -> None:
    task = kind(train_size=8)
    scenes = task._batches._scenes
    two = Scenes(scenes.ids[:2], scenes.sizes[:2], scenes.objects[:2], scenes.pictures)
    task._batches, task._scenes["test"] = SceneBatches(two, flip=0, masks=kind is Segmentation), two
    torch.manual_seed(0)
    before = task.evaluate(task.build_model().eval(), "test", CPU)
    after = task.evaluate(trained(task, 20, 2, 3e-3), "test", CPU)
    assert before["ap50"] < 0.05
    assert after["ap50"] > 0.2


def some_of_bccd(folder: Path, counts: Mapping[str, int]) -> str:
    """Link to the first images of each split, without the objects that are no boxes."""
    (folder / "annotations").mkdir()
    for split, count in counts.items():
        (folder / split).symlink_to((BCCD / split).resolve())
        name = f"annotations/instances_{split}.json"
        document = json.loads((BCCD / name).read_text())
        document["images"] = document["images"][:count]
        kept = {image["id"] for image in document["images"]}
        document["annotations"] = [
            each for each in document["annotations"] if each["image_id"] in kept and min(each["bbox"][2:]) >= 1
        ]
        (folder / name).write_text(json.dumps(document))
    return str(folder)


@pytest.mark.skipif(not BCCD.is_dir(), reason=f"no folder {BCCD}")
def test_training_finds_blood_cells(tmp_path: Path) -> None:
    task = Detection(data=some_of_bccd(tmp_path, {"train": 28, "val": 2, "test": 8}), sizes=96)
    torch.manual_seed(0)
    before = task.evaluate(task.build_model().eval(), "test", CPU)
    after = task.evaluate(trained(task, 4, 4, 3e-3), "test", CPU)
    assert before["ap"] < 0.01
    assert after["ap"] > 0.03


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"data": "digit-canvas"}, "did you mean 'digits-canvas'"),
        ({"model": "mask-rcnn"}, "for boxes alone write faster-rcnn"),
        ({"backbone": "resnet34"}, "backbone resnet34: write one of small, resnet18, resnet50"),
        ({"sizes": "480,,800"}, "sizes 480,,800: write sides in pixels of at least 32"),
        ({"sizes": "16"}, "sizes 16: write sides in pixels of at least 32"),
        ({"sizes": ""}, "sizes without a value: write sides"),
        ({"sizes": [480, 800], "max_size": 640}, "max_size 640: the shorter side is up to 800 already"),
        ({"data": "bccd", "max_size": 500}, "max_size 500: the shorter side is up to 800 already; write at least 800"),
        ({"flip": 1.5}, "flip 1.5: write a share from 0 to 1"),
        ({"train_size": 0}, "train_size 0: write a whole number"),
        ({"train_size": 401}, "train size 401: write 1 to 400"),
        ({"skip_invalid": "maybe"}, "skip_invalid maybe: write true or false"),
        ({"frozen_stages": True}, "frozen_stages true: nobody has trained them"),
        ({"weights": "none.pth"}, "weights none.pth: there are none for the small backbone"),
        ({"weights": "none.pth", "backbone": "resnet18"}, "weights none.pth: there is no such file"),
        ({"colour": 1}, "colour is no option here"),
    ],
)
def test_what_is_refused(options: dict[str, Any], words: str) -> None:
    with pytest.raises(InputError, match=words) as caught:
        Detection(**options)
    assert "\n" not in str(caught.value)


def test_options_are_those_that_there_are() -> None:
    assert set(OPTIONS) == {field.name for field in fields(Chosen)}
    for given in ("800,480", "[480, 800]", (480, 800), (800, 480, 800)):
        assert sizes(str(given)) == (480, 800)
    assert sizes("(64,)") == (64,)
    assert check_detection("digits-canvas", "retinanet", {"sizes": "64"}).format == "canvas"
    with pytest.raises(InputError, match="retinanet: it gives no masks"):
        check_segmentation("digits-canvas", "retinanet", {})


@pytest.mark.parametrize("check", [check_detection, check_segmentation])
def test_a_missing_library_is_named_before_any_work(check: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("faster_coco_eval", "pycocotools"):
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(InputError, match=r'need faster-coco-eval or pycocotools, .*pip install "switch-ema\[bench\]"'):
        check("digits-canvas", "fcos" if check is check_detection else "mask-rcnn", {})


def test_segmentation_wants_masks(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="has no masks; write sema compare detection"):
        Segmentation(data=str(make_voc(tmp_path, masks=False)))


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("detection", "--model", "fcoss"), "did you mean 'fcos'"),
        (("detection", "--model", "mask-rcnn"), "unknown model 'mask-rcnn'"),
        (("segmentation", "--model", "fcos"), "unknown model 'fcos'"),
        (("detection", "--sizes", "small"), "sizes small: write sides in pixels"),
        (("detection", "--data", "nowhere"), "unknown data set or folder 'nowhere'"),
        (("segmentation", "--flip", "2"), "flip 2: write a share"),
        (("detection", "--train-sise", "2"), "train-sise"),
    ],
)
def test_the_command_line_refuses_in_one_line(sema: Sema, arguments: tuple[str, ...], words: str) -> None:
    answer = sema("compare", *arguments)
    assert answer.code == 2
    assert words in answer.err
    assert len(answer.err.strip().splitlines()) == 1


def test_the_command_line_names_the_box_that_is_wrong(sema: Sema, tmp_path: Path) -> None:
    def spoil(split: str, document: dict[str, Any]) -> None:
        if split == "val":
            document["annotations"][0]["bbox"][2] = float("nan")

    answer = sema(
        "compare", "detection", "--data", make_coco(tmp_path / "data", COUNTS, spoil), "--out", tmp_path / "out"
    )
    assert answer.code == 2
    said = [line for line in answer.err.splitlines() if line.startswith("sema: ")]
    assert len(said) == 1
    assert "instances_val.json" in said[0]
    assert "Traceback" not in answer.err
