"""What is asked of a network, beside its name."""

from __future__ import annotations

from dataclasses import dataclass

from switch_ema.errors import InputError


@dataclass(frozen=True)
class Request:
    """Inputs, outputs and regularisation of a network.

    Attributes:
        name: Name of the network, for messages.
        num_outputs: Number of outputs; 0 asks for the features before the last layers.
        in_channels: Channels of the images.
        image_size: Side of the square images in pixels.
        drop_path: Rate of stochastic depth, 0 to below 1.
        dropout: Rate of dropout, 0 to below 1; where it acts is the network's affair.
    """

    name: str
    num_outputs: int
    in_channels: int
    image_size: int
    drop_path: float = 0.0
    dropout: float = 0.0

    def __post_init__(self) -> None:
        for what, rate in (("drop_path", self.drop_path), ("dropout", self.dropout)):
            if not 0 <= rate < 1:
                raise InputError(f"{what} {rate:g}: write a rate from 0 to below 1, such as 0.1")
        for what, number in (("in_channels", self.in_channels), ("image_size", self.image_size)):
            if number < 1:
                raise InputError(f"{what} {number}: write a whole number of at least 1")

    def without(self, what: str) -> InputError:
        """Make the error for a rate that this network has no use for, such as ``"drop_path"``."""
        return InputError(f"model {self.name} has no {what}; leave {what} out or take another model")
