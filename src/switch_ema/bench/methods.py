"""The methods that can be compared: how they are written, checked and built. Loads torch only to build one."""

from __future__ import annotations

import re
import warnings
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from switch_ema.averaging.advice import AUTO, advise_switch
from switch_ema.averaging.trigger import Every
from switch_ema.bench.kinds import KINDS
from switch_ema.errors import InputError, unknown
from switch_ema.tasks.options import flag, positive

if TYPE_CHECKING:
    from torch import nn

    from switch_ema.averaging.averager import Averager
    from switch_ema.bench.posthoc import Rider

SAM = "sam"


def slug(text: str) -> str:
    """Return a text with nothing in it that a file's name should not have."""
    return re.sub(r"[^A-Za-z0-9.]+", "-", text)


@dataclass(frozen=True)
class Sharpness:
    """How sharpness-aware minimization trains.

    Attributes:
        rho: Radius of the ball in which the worst weights are sought.
        adaptive: Whether the radius of each weight is relative to its size (ASAM).
    """

    rho: float = 0.05
    adaptive: bool = False

    def texts(self) -> list[str]:
        """Return the options that differ from the defaults, as they are written."""
        return [f"rho={self.rho:g}"] * (self.rho != 0.05) + ["adaptive=true"] * self.adaptive


@dataclass(frozen=True)
class Method:
    """One method as asked for.

    Attributes:
        kind: Its name in `KINDS`.
        options: Option texts as given.
        sam: How its training seeks flat minima, if it does; the methods that average ride on such training too.
        lr_scale: Factor on the learning rate.
        control_for: Labels of the switching methods whose learning-rate cut it imitates.
        schedule: How the learning rate runs, for options that are ``auto``.
    """

    kind: str
    options: tuple[tuple[str, str], ...] = ()
    sam: Sharpness | None = None
    lr_scale: float = 1.0
    control_for: tuple[str, ...] = ()
    schedule: str = field(default="cosine", compare=False)

    @property
    def label(self) -> str:
        """Its canonical spelling, which names it in the rows."""
        given = [f"{name}={text}" for name, text in self.options]
        name = self.kind
        if self.sam:
            name = SAM if self.kind == "baseline" else f"{SAM}+{self.kind}"
            given += self.sam.texts()
        if self.lr_scale != 1:
            given.append(f"lr_scale={self.lr_scale:g}")
        return f"{name}:{','.join(given)}" if given else name

    @property
    def summary(self) -> str:
        """What it does, in a few words."""
        if not self.sam:
            return KINDS[self.kind].summary
        training = "training with gradients taken at the worst nearby weights (sharpness-aware minimization)"
        return training if self.kind == "baseline" else f"{training}; {KINDS[self.kind].summary}"

    @property
    def switches(self) -> bool:
        """Whether it writes into the model."""
        return KINDS[self.kind].switches

    def texts(self, epochs: int) -> dict[str, str]:
        """Return its option texts, defaults filled in."""
        parts = {"late": epochs * 3 // 4, "twentieth": max(1, epochs // 20)}
        texts = {name: text.format(**parts) for name, text in KINDS[self.kind].defaults.items()}
        return {name: text.removesuffix(" after 0") for name, text in texts.items()} | dict(self.options)

    @property
    def slug(self) -> str:
        """Its label, fit for a file."""
        return slug(self.label)

    def build(self, model: nn.Module, epochs: int, steps_per_epoch: int, folder: Path = Path()) -> Rider | None:
        """Make its averager for a model; plain training has none.

        Args:
            model: The model.
            epochs: Length of training.
            steps_per_epoch: Optimizer steps in an epoch.
            folder: Where a method that keeps files may keep them.

        Raises:
            InputError: If an option does not fit the length of training.
        """
        import switch_ema

        kind = KINDS[self.kind]
        if not kind.builder:
            return None
        arguments = {name: kind.options[name](text) for name, text in self.texts(epochs).items()}
        if self.kind in ("ema", "sema"):
            arguments |= {"steps_per_epoch": steps_per_epoch, "epochs": epochs, "schedule": self.schedule}
        try:
            if self.kind == "posthoc":
                from switch_ema.bench.posthoc import PostHocRider

                return PostHocRider(model, folder / self.slug, **arguments)
            averager: Averager = getattr(switch_ema, kind.builder)(model, **arguments)
        except ValueError as error:
            raise InputError(f"method {self.label!r}: {error}") from None
        return averager

    def probe(self, epochs: int, steps_per_epoch: int) -> Rider | None:
        """Make its averager for a model of one weight, to see what it would do and warn of.

        Raises:
            InputError: If an option does not fit the length of training.
        """
        from torch import nn

        return self.build(nn.Linear(1, 1), epochs, steps_per_epoch)

    def switch_interval(self, epochs: int, steps_per_epoch: int) -> int | None:
        """Return the steps from one switch to the next; `None` if it never switches."""
        if not self.switches:
            return None
        texts = self.texts(epochs)
        if texts.get("switch_every") == AUTO:
            return advise_switch(steps_per_epoch, epochs, self.schedule).switch_every
        every = Every.of(texts.get("switch_every", texts.get("k", "1")))
        return max(1, int(every.n * (steps_per_epoch if every.unit == "epoch" else 1)))

    def retained_fraction(self, epochs: int, steps_per_epoch: int) -> float | None:
        """Return the share of the progress that each switch keeps; `None` if it never switches.

        Raises:
            InputError: If an option does not fit the length of training.
        """
        from switch_ema.averaging.averager import Averager

        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # said once, where the method is described
            averager = self.probe(epochs, steps_per_epoch)
        interval = self.switch_interval(epochs, steps_per_epoch)
        return averager.retained_fraction(interval) if isinstance(averager, Averager) and interval else None


def parse_methods(text: str) -> list[Method]:
    """Read a list such as `"baseline,ema:decay=0.99,sema:decay=0.99,switch_every=2 epochs"`.

    Methods are separated by commas, and so are the options of one method: a part with `=` and no method name before
    it belongs to the method on its left. Plain training is put first if it is not named.

    Args:
        text: The list.

    Returns:
        The methods, each label once.

    Raises:
        InputError: If a method or option is unknown, or a value malformed.
    """
    written: list[str] = []
    for part in (part.strip() for part in text.split(",")):
        if not part:
            raise InputError(f"--methods {text!r} has an empty entry; write e.g. baseline,ema:decay=0.99,sema")
        if "=" in part and ":" not in part.split("=")[0]:
            if not written:
                raise InputError(f"--methods: option {part!r} stands before any method; write e.g. ema:{part}")
            written[-1] += f",{part}" if ":" in written[-1] else f":{part}"
        else:
            written.append(part)
    methods = [_parse_method(entry) for entry in written]
    if Method("baseline") not in methods:
        methods.insert(0, Method("baseline"))
    labels = [method.label for method in methods]
    for label in labels:
        if labels.count(label) > 1:
            raise InputError(f"--methods names {label!r} twice; leave one out")
    return methods


def _parse_method(text: str) -> Method:
    name, _, rest = text.partition(":")
    name = name.strip()
    first, plus, second = name.partition("+")
    sam = first == SAM
    kind = (second if plus else "baseline") if sam else name
    if kind not in KINDS or name == f"{SAM}+baseline":
        raise unknown("method", name, [*KINDS, SAM, *(f"{SAM}+{kind}" for kind in KINDS if kind != "baseline")])
    readers = {**KINDS[kind].options, "lr_scale": positive}
    if sam:
        readers |= {"rho": positive, "adaptive": flag}
    options: dict[str, str] = {}
    for entry in rest.split(",") if rest else []:
        option, equals, value = (part.strip() for part in entry.partition("="))
        if option not in readers:
            raise unknown(f"option of method {name!r}", option, readers)
        if not equals or not value:
            raise InputError(f"method {name!r}: option {option!r} has no value; write {option}=VALUE")
        if option in options:
            raise InputError(f"method {name!r}: option {option!r} is given twice; leave one out")
        try:
            readers[option](value)
        except ValueError as error:
            raise InputError(f"method {name!r}: {option}={value}: {error}") from None
        options[option] = value
    scale = float(options.pop("lr_scale", 1.0))
    sharpness = None
    if sam:
        sharpness = Sharpness(float(options.pop("rho", Sharpness.rho)), flag(options.pop("adaptive", "false")))
    return Method(kind, tuple((option, options[option]) for option in readers if option in options), sharpness, scale)
