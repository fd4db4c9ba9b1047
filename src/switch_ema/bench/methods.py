"""The methods that can be compared: how they are written, checked and built. Loads torch only to build one."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from switch_ema.averaging.decay import PowerFunction, check_decay, check_positive, parse_decay
from switch_ema.averaging.trigger import Every
from switch_ema.errors import InputError, unknown

if TYPE_CHECKING:
    from torch import nn

    from switch_ema.averaging.averager import Averager

_ANY_STEPS = 1_000_000  # stands for the steps of an epoch while a decay is only checked


def _decay(text: str) -> str:
    parse_decay(text, steps_per_epoch=_ANY_STEPS)
    return text


def _trigger(text: str) -> str:
    Every.of(text)
    return text


def _count(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise ValueError(f"a whole number of at least 1 is needed, got {text!r}")
    return int(text)


def _share(text: str) -> float:
    return check_decay(_number(text), "alpha")


def _positive(text: str) -> float:
    return check_positive(_number(text), "it", "0.5")


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise ValueError(f"a number is needed, got {text!r}") from None


def _gamma(text: str) -> float:
    return PowerFunction(_number(text)).gamma


def _flag(text: str) -> bool:
    if text not in ("true", "false"):
        raise ValueError(f"write true or false, got {text!r}")
    return text == "true"


def _optimizer_state(text: str) -> str:
    if text not in ("keep", "reset"):
        raise ValueError(f"write keep or reset, got {text!r}")
    return text


@dataclass(frozen=True)
class Kind:
    """A kind of method.

    Attributes:
        summary: What it does, in a few words.
        builder: Its name in `switch_ema`; empty for plain training.
        options: Readers of its options by name.
        defaults: Option texts used where none is given; `{late}` stands for three quarters of the epochs.
        switches: Whether it writes into the model and so needs a training run of its own.
    """

    summary: str
    builder: str
    options: Mapping[str, Callable[[str], Any]]
    defaults: Mapping[str, str] = field(default_factory=dict)
    switches: bool = False


_AVERAGED = {"decay": _decay, "update_every": _trigger, "update_after_step": _count, "use_buffers": _flag}

KINDS: dict[str, Kind] = {
    "baseline": Kind("plain training", "", {}),
    "ema": Kind("exponential moving average", "EMA", _AVERAGED, {"decay": "window 1 epoch"}),
    "sema": Kind(
        "exponential moving average, copied back into the model (Switch EMA)",
        "SwitchEMA",
        {**_AVERAGED, "switch_every": _trigger, "optimizer_state": _optimizer_state},
        {"decay": "window 1 epoch", "switch_every": "1 epoch"},
        switches=True,
    ),
    "swa": Kind(
        "mean of the weights of the last quarter of the epochs (stochastic weight averaging)",
        "SWA",
        {"update_every": _trigger, "use_buffers": _flag},
        {"update_every": "1 epoch after {late}"},
    ),
    "lawa": Kind(
        "mean of the weights of the last few epochs (latest weight averaging)",
        "LAWA",
        {"window": _count, "update_every": _trigger, "use_buffers": _flag},
    ),
    "lookahead": Kind(
        "every k steps a share alpha of the progress is kept (Lookahead)",
        "Lookahead",
        {"k": _count, "alpha": _share, "use_buffers": _flag, "optimizer_state": _optimizer_state},
        {"k": "5", "alpha": "0.5"},
        switches=True,
    ),
    "power_ema": Kind(
        "moving average whose memory grows with training (power function)",
        "PowerEMA",
        {"gamma": _gamma, "update_every": _trigger, "update_after_step": _count, "use_buffers": _flag},
    ),
}


@dataclass(frozen=True)
class Method:
    """One method as asked for.

    Attributes:
        kind: Its name in `KINDS`.
        options: Option texts as given.
        lr_scale: Factor on the learning rate.
        control_for: Labels of the switching methods whose learning-rate cut it imitates.
    """

    kind: str
    options: tuple[tuple[str, str], ...] = ()
    lr_scale: float = 1.0
    control_for: tuple[str, ...] = ()

    @property
    def label(self) -> str:
        """Its canonical spelling, which names it in the rows."""
        given = [f"{name}={text}" for name, text in self.options]
        if self.lr_scale != 1:
            given.append(f"lr_scale={self.lr_scale:g}")
        return f"{self.kind}:{','.join(given)}" if given else self.kind

    @property
    def switches(self) -> bool:
        """Whether it writes into the model."""
        return KINDS[self.kind].switches

    def texts(self, epochs: int) -> dict[str, str]:
        """Return its option texts, defaults filled in."""
        late = {name: text.format(late=epochs * 3 // 4) for name, text in KINDS[self.kind].defaults.items()}
        return {name: text.removesuffix(" after 0") for name, text in late.items()} | dict(self.options)

    def build(self, model: nn.Module, epochs: int, steps_per_epoch: int) -> Averager | None:
        """Make its averager for a model; plain training has none.

        Raises:
            InputError: If an option does not fit the length of training.
        """
        import switch_ema

        kind = KINDS[self.kind]
        if not kind.builder:
            return None
        arguments = {name: kind.options[name](text) for name, text in self.texts(epochs).items()}
        if self.kind in ("ema", "sema"):
            arguments["steps_per_epoch"] = steps_per_epoch
        try:
            averager: Averager = getattr(switch_ema, kind.builder)(model, **arguments)
        except ValueError as error:
            raise InputError(f"method {self.label!r}: {error}") from None
        return averager

    def probe(self, epochs: int, steps_per_epoch: int) -> Averager | None:
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
        every = Every.of(texts.get("switch_every", texts.get("k", "1")))
        return max(1, int(every.n * (steps_per_epoch if every.unit == "epoch" else 1)))

    def retained_fraction(self, epochs: int, steps_per_epoch: int) -> float | None:
        """Return the share of the progress that each switch keeps; `None` if it never switches.

        Raises:
            InputError: If an option does not fit the length of training.
        """
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # said once, where the method is described
            averager = self.probe(epochs, steps_per_epoch)
        interval = self.switch_interval(epochs, steps_per_epoch)
        return averager.retained_fraction(interval) if averager and interval else None


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
    if name not in KINDS:
        raise unknown("method", name, KINDS)
    readers = {**KINDS[name].options, "lr_scale": _positive}
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
    return Method(name, tuple((option, options[option]) for option in readers if option in options), scale)
