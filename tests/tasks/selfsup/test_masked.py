"""Masks, and the losses of the methods that restore what they hide."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from switch_ema.errors import InputError
from switch_ema.tasks.models import build_backbone
from switch_ema.tasks.selfsup.a2mim import A2MIM, focal_frequency_loss
from switch_ema.tasks.selfsup.masked import MAE, SimMIM
from switch_ema.tasks.selfsup.masks import check_patch, draw_masks, num_masked, to_size
from switch_ema.tasks.selfsup.stages import Stages, find_stages
from tests.tasks.selfsup.tiny import Conv, batch, make, vit


@pytest.mark.parametrize(("grid", "ratio"), [(4, 0.75), (4, 0.6), (7, 0.6), (2, 0.0), (3, 1.0)])
def test_every_mask_hides_the_same_number(grid: int, ratio: float) -> None:
    generator = torch.Generator().manual_seed(0)
    masks = draw_masks(200, grid, ratio, generator)
    hidden = num_masked(grid**2, ratio)
    assert masks.sum((1, 2)).eq(hidden).all()
    assert 1 <= hidden < grid**2
    often = masks.double().mean(0)  # every patch is hidden equally often
    assert (often - hidden / grid**2).abs().max() < 0.15
    assert len(masks.flatten(1).unique(dim=0)) > min(grid, 2)


def test_masks_change_their_grid() -> None:
    masks = torch.tensor([[[True, False], [False, False]]])
    assert to_size(masks, 4, 4)[0, 0].tolist() == [[1, 1, 0, 0], [1, 1, 0, 0], [0, 0, 0, 0], [0, 0, 0, 0]]
    assert to_size(masks, 1, 1).item() == 0.25


@pytest.mark.parametrize(
    ("size", "patch", "own", "words"),
    [(8, 3, 1, "write 2 or 4"), (8, 8, 2, "write 2 or 4"), (32, 6, 4, "write 4 or 8 or 16"), (7, 7, 7, "--image-size")],
)
def test_patches_that_do_not_tile_are_refused(size: int, patch: int, own: int, words: str) -> None:
    with pytest.raises(InputError, match=f"mask_patch {patch}: .*{words}"):
        check_patch(size, patch, own)


@pytest.mark.parametrize("name", ["mae", "simmim", "a2mim-vit", "a2mim-conv"])
def test_the_loss_is_of_hidden_pixels_alone(name: str) -> None:
    """What is predicted for visible patches does not matter: its gradient is zero."""
    method = make(name).eval()
    images, masks = batch(name)
    seen: list[torch.Tensor] = []
    method.online.register_forward_hook(lambda module, inputs, output: seen.append(output))
    loss = method(images, masks)
    (gradient,) = torch.autograd.grad(loss, seen)
    if name.startswith("a2mim"):
        hidden = to_size(masks, 8, 8).bool()
        assert gradient[~hidden].eq(0).all()
        assert gradient[hidden].ne(0).all()
    else:
        assert gradient[~masks.flatten(1)].eq(0).all()
        assert gradient[masks.flatten(1)].ne(0).all()


@pytest.mark.parametrize("name", ["mae", "simmim", "a2mim-vit", "a2mim-conv"])
def test_what_is_hidden_is_not_seen(name: str) -> None:
    method = make(name).eval()
    images, masks = batch(name)
    hidden = to_size(masks, 8, 8).bool()
    with torch.no_grad():
        if name.startswith("a2mim"):  # the mean colour is seen: keep it
            swapped = torch.where(hidden, images[:, :, :, :].flip(0), images)
            swapped = swapped + hidden * (images - swapped).sum((1, 2, 3), keepdim=True) / hidden.sum((1, 2, 3), True)
        else:
            swapped = torch.where(hidden, torch.randn(images.shape), images)
        seen: list[torch.Tensor] = []
        method.online.register_forward_hook(lambda module, inputs, output: seen.append(output))
        method(images, masks)
        method(swapped, masks)
        method(images + 0.1 * ~hidden, masks)
    torch.testing.assert_close(seen[0], seen[1])
    assert not torch.allclose(seen[0], seen[2])


@pytest.mark.parametrize("norm_pix", [True, False])
def test_mae_is_the_squared_error_of_hidden_patches(norm_pix: bool) -> None:
    torch.manual_seed(0)
    method = MAE(vit(), 1, decoder_dim=32, decoder_depth=1, norm_pix=norm_pix).eval()
    images, masks = batch("mae")
    pixels = images.unfold(2, 2, 2).unfold(3, 2, 2).reshape(16, 16, 4)
    if norm_pix:
        pixels = (pixels - pixels.mean(2, keepdim=True)) / (pixels.var(2, keepdim=True) + 1e-6).sqrt()
    want = (method.online(images, masks) - pixels)[masks.flatten(1)].square().mean()
    torch.testing.assert_close(method(images, masks), want)


def test_mae_encodes_the_visible_patches_alone() -> None:
    method = make("mae")
    assert isinstance(method, MAE)
    lengths: list[int] = []
    method.backbone.get_submodule("blocks").register_forward_hook(lambda m, x, y: lengths.append(y.shape[1]))
    method(*batch("mae"))
    assert lengths == [1 + 4]  # the class token and a quarter of the 16 patches


def test_simmim_is_the_absolute_error_of_hidden_patches() -> None:
    torch.manual_seed(0)
    method = SimMIM(vit(), 1).eval()
    images, masks = batch("simmim")
    pixels = images.unfold(2, 2, 2).unfold(3, 2, 2).reshape(16, 16, 4)
    want = (method.online(images, masks) - pixels)[masks.flatten(1)].abs().mean()
    torch.testing.assert_close(method(images, masks), want)


def test_a2mim_is_the_absolute_error_and_a_tenth_of_the_frequencies() -> None:
    torch.manual_seed(0)
    method = A2MIM(Conv(), 1, 8).eval()
    images, masks = batch("a2mim-conv")
    hidden = to_size(masks, 8, 8).bool()
    restored = method.online(torch.where(hidden, images.mean((2, 3), keepdim=True), images), masks)
    want = (restored - images)[hidden].abs().mean() + 0.1 * focal_frequency_loss(restored, images)
    torch.testing.assert_close(method(images, masks), want)


def test_a2mim_adds_its_token_where_patches_are_hidden() -> None:
    method = make("a2mim-conv").eval()
    assert isinstance(method, A2MIM)
    images, masks = batch("a2mim-conv")
    entered: list[torch.Tensor] = []
    method.backbone.get_submodule("1").register_forward_hook(lambda m, x, y: entered.append(x[0]))
    with torch.no_grad():
        method.online(images, masks)
        method.backbone(images)
    want = method.online.token[:, None, None] * to_size(masks, 4, 4)
    torch.testing.assert_close(entered[0] - entered[1], want, atol=1e-6, rtol=1e-5)


def test_focal_frequency_loss_by_hand() -> None:
    images = torch.zeros(1, 1, 4, 4)
    constant = torch.full((1, 1, 4, 4), 0.5)  # one frequency alone: amplitude 0.5 * 16 / 4, weight 1
    assert focal_frequency_loss(constant, images).item() == pytest.approx((0.5 * 4) ** 2 / 16)
    row = torch.tensor([1.0, 0, 0, 0]).expand(1, 1, 4, 4)  # four equal frequencies: all of weight 1
    assert focal_frequency_loss(row, images).item() == pytest.approx(row.square().sum().item() / 16)
    mixed = constant + 0.5 * torch.tensor([1.0, -1, 1, -1])  # amplitudes 2 and 2, then 2 and 1
    assert focal_frequency_loss(mixed, images).item() == pytest.approx((4 + 4) / 16)
    mixed = constant + 0.25 * torch.tensor([1.0, -1, 1, -1])
    assert focal_frequency_loss(mixed, images).item() == pytest.approx((4 + 1 / 2) / 16)
    assert focal_frequency_loss(images, images).item() == 0


@pytest.mark.parametrize(
    ("model", "want"),
    [
        ("small-resnet", Stages("network.5", "network.5", 32, 4, ("network.6", "network.7"))),
        ("timm/convnext_atto", Stages("network.stages.3", "network.norm_pre", 160, 2, ())),
    ],
)
def test_the_last_stage_is_found(model: str, want: Stages) -> None:
    size = 16 if model == "small-resnet" else 64
    backbone = build_backbone(model, 1, size)
    before = {name: tensor.clone() for name, tensor in backbone.state_dict().items()}
    found = find_stages(backbone, 1, size)
    assert (found.entry, found.exit, found.width, found.cells) == (want.entry, want.exit, want.width, want.cells)
    assert all(torch.equal(tensor, before[name]) for name, tensor in backbone.state_dict().items())
    assert backbone.training
    method = A2MIM(backbone, 1, size)
    method(torch.randn(4, 1, size, size), draw_masks(4, 4, 0.6, torch.Generator())).backward()
    assert [name for name, p in method.named_parameters() if p.requires_grad and p.grad is None] == []


def test_unfit_networks_are_refused() -> None:
    mlp = build_backbone("mlp", 1, 8)
    with pytest.raises(InputError, match="a2mim finds no maps"):
        A2MIM(mlp, 1, 8)
    for make_it in (MAE, SimMIM):
        with pytest.raises(InputError, match="need a vision transformer; write --model vit-t"):
            make_it(mlp, 1)
    stem_only = nn.Sequential(nn.Conv2d(1, 8, 2, 2), nn.Flatten(), nn.Linear(128, 8))
    stem_only.num_features = 8  # type: ignore[assignment]
    with pytest.raises(InputError, match="a2mim finds no maps"):
        A2MIM(stem_only, 1, 8)
