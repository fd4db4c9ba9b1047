"""RandAugment's policies: which operations there are, and how a magnitude becomes an operation's level."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from torch import Tensor

GEOMETRIC = ("rotate", "shear-x", "shear-y", "translate-x", "translate-y")
OPERATIONS = (
    *("identity", "autocontrast", "brightness", "color", "contrast", "equalize", "invert", "posterize", "sharpness"),
    *("solarize", "solarize-add"),
    *GEOMETRIC,  # last: those from here on are one operation with other numbers
)


@dataclass(frozen=True)
class Row:
    """One operation of a policy: ``level = base +- (low + magnitude (high - low))``, the magnitude being in [0, 1].

    Levels are factors (1 changes nothing) for brightness, color, contrast and sharpness; degrees for rotate; shares of
    the side for translate; slopes for shear; bits for posterize; bytes for solarize (threshold) and solarize-add.

    Args:
        name: One of `OPERATIONS`.
        low: Level at magnitude 0.
        high: Level at magnitude 1.
        signed: Whether the level may be negated, one time in two.
        base: What is added after that.
        whole: Whether the level becomes a whole number, and which.
    """

    name: str
    low: float = 0.0
    high: float = 0.0
    signed: bool = False
    base: float = 0.0
    whole: Literal["floor", "ceil"] | None = None

    def level(self, magnitudes: Tensor, signs: Tensor) -> Tensor:
        """Return the operation's levels for magnitudes in [0, 1] and signs of -1 or 1."""
        levels = self.low + magnitudes * (self.high - self.low)
        if self.signed:
            levels = levels * signs
        if self.whole:
            levels = levels.floor() if self.whole == "floor" else levels.ceil()
        return levels + self.base


def _geometric(furthest: float) -> tuple[Row, ...]:
    return (
        Row("rotate", 0, 30, signed=True),
        *(Row(name, 0, 0.3, signed=True) for name in ("shear-x", "shear-y")),
        *(Row(name, 0, furthest, signed=True) for name in ("translate-x", "translate-y")),
    )


_FACTORS = ("brightness", "color", "contrast", "sharpness")

POLICIES: dict[str, tuple[Row, ...]] = {
    # FixMatch's operations as in OpenMixup's settings for CIFAR-100
    "fixmatch": (
        *(Row(name) for name in ("identity", "autocontrast", "equalize")),
        *(Row(name, 0.05, 0.95, signed=True, base=1) for name in _FACTORS),
        Row("posterize", 4, 8, whole="floor"),
        Row("solarize", 256, 0, whole="ceil"),
        *_geometric(0.3),
    ),
    # timm's `rand-...`: factors from 0.1 to 1.9, so that 5 changes least; fewer bits are kept at low magnitudes
    "timm": (
        *(Row(name) for name in ("autocontrast", "equalize", "invert")),
        *(Row(name, 0.1, 1.9) for name in _FACTORS),
        Row("posterize", 0, 4, whole="floor"),
        Row("solarize", 0, 256, whole="floor"),
        Row("solarize-add", 0, 110, whole="floor"),
        *_geometric(0.45),
    ),
    # timm's `rand-...-inc1`: all grow stronger with the magnitude
    "timm-increasing": (
        *(Row(name) for name in ("autocontrast", "equalize", "invert")),
        *(Row(name, 0, 0.9, signed=True, base=1) for name in _FACTORS),
        Row("posterize", 4, 0, whole="ceil"),
        Row("solarize", 256, 0, whole="ceil"),
        Row("solarize-add", 0, 110, whole="floor"),
        *_geometric(0.45),
    ),
}
