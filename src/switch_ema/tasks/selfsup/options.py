"""What the self-supervised task accepts, checked with the standard library alone."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from switch_ema.errors import FieldError
from switch_ema.tasks.options import Option, count, flag, nonnegative, one_of, positive, read_options, share, whole


@dataclass(frozen=True)
class MethodEntry:
    """One method.

    Attributes:
        summary: One line that says what it does.
        auto_model: The network that the model ``auto`` stands for.
        options: The options that it has a use for, beside those of every method.
    """

    summary: str
    auto_model: str
    options: tuple[str, ...]


_HEAD = ("crop_scale", "hidden_dim", "projection_dim")
_MASK = ("crop_scale", "mask_ratio", "mask_patch")

METHODS: Mapping[str, MethodEntry] = {
    "simclr": MethodEntry("two views attract, all others of the batch repel", "small-resnet", (*_HEAD, "temperature")),
    "moco-v2": MethodEntry(
        "SimCLR with a target network and a queue of its past outputs",
        "small-resnet",
        (*_HEAD, "temperature", "target_momentum", "queue_size"),
    ),
    "moco-v3": MethodEntry(
        "MoCo with a predictor and without the queue", "small-resnet", (*_HEAD, "temperature", "target_momentum")
    ),
    "byol": MethodEntry("predict a target network's view of the image", "small-resnet", (*_HEAD, "target_momentum")),
    "simsiam": MethodEntry("BYOL whose target is the network itself, without gradient", "small-resnet", _HEAD),
    "barlow-twins": MethodEntry("make the features of two views equal, and uncorrelated", "small-resnet", _HEAD),
    "mae": MethodEntry(
        "restore hidden patches from the visible ones; ViT",
        "vit-t",
        (*_MASK, "decoder_dim", "decoder_depth", "norm_pix"),
    ),
    "simmim": MethodEntry("restore hidden patches, a token in their place; ViT", "vit-t", _MASK),
    "a2mim": MethodEntry(
        "SimMIM for any network, in space and frequency", "small-resnet", (*_MASK, "frequency_weight")
    ),
}
"""The methods by name."""

AUTO_MODEL = {"auto": "small-resnet; vit-t for mae and simmim"}
"""The default among the models."""

OPTIONS: Mapping[str, Option] = {
    "method": Option(f"one of {', '.join(METHODS)}", one_of(*METHODS)),
    "train_size": Option("number of training images, a fixed subset", whole),
    "image_size": Option("side in pixels to scale and crop the images to", whole),
    "skip_corrupt": Option("leave out images that cannot be read", flag),
    "crop_scale": Option("smallest share of an image's area that a view shows, above 0 up to 1", share),
    "temperature": Option("what similarities are divided by: simclr 0.1, moco-v2 and moco-v3 0.2", positive),
    "target_momentum": Option("share of the old target network kept a step: moco-v2 0.999, others 0.99 to 1", share),
    "queue_size": Option("moco-v2: past outputs kept, 65,536, but at most the number of training images", whole),
    "hidden_dim": Option("width of the heads: the paper's, but at most 16 times the features", whole),
    "projection_dim": Option("width of the embeddings: the paper's, but at most 16 times the features", whole),
    "mask_ratio": Option("share of the patches hidden: mae 0.75, simmim and a2mim 0.6", share),
    "mask_patch": Option(
        "side in pixels of the patches hidden: mae the network's, others a seventh of the side", whole
    ),
    "decoder_dim": Option("mae: width of the decoder, 192; a multiple of 32", whole),
    "decoder_depth": Option("mae: blocks of the decoder, 6", whole),
    "norm_pix": Option("mae: standardise the pixels of each patch, true", flag),
    "frequency_weight": Option("a2mim: weight of the loss in frequency, 0.1", nonnegative),
    "probe_epochs": Option("epochs of the linear probe after training, 100; 0 for none", count),
    "finetune_epochs": Option("epochs of fine-tuning after training, 0", count),
}
"""The options of `switch_ema.tasks.selfsup.task.SelfSup`."""

_EVERY_METHOD = ("method", "train_size", "image_size", "skip_corrupt", "probe_epochs", "finetune_epochs")


def check(options: Mapping[str, Any]) -> dict[str, Any]:
    """Refuse what is wrong with the options, before anything heavy is imported.

    Args:
        options: Values or texts by name (see `OPTIONS`); None stands for "not given".

    Returns:
        The options that were given, in their own types.

    Raises:
        FieldError: One is unknown, out of range, or of no use to the method.

    Example:
        >>> check({"method": "simclr", "queue_size": 64})
        Traceback (most recent call last):
        ...
        switch_ema.errors.FieldError: queue_size is of no use to simclr; leave it out (it belongs to moco-v2)
    """
    values = read_options(OPTIONS, options)
    method = values.get("method", "simclr")
    for name in values:
        if name not in (*_EVERY_METHOD, *METHODS[method].options):
            owners = ", ".join(other for other, entry in METHODS.items() if name in entry.options)
            raise FieldError(name, f"is of no use to {method}; leave it out (it belongs to {owners})")
    if values.get("crop_scale") == 0:
        raise FieldError("crop_scale", "0: write a share above 0 up to 1, such as 0.2")
    if values.get("decoder_dim", 32) % 32:
        raise FieldError("decoder_dim", f"{values['decoder_dim']}: write a multiple of 32, such as 192")
    return values
