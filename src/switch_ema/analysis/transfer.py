"""What the features of a network are worth for another task: read off a layer, then classified linearly."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal, final, get_args

import torch
from torch import Tensor, nn

from switch_ema.errors import InputError, unknown
from switch_ema.libraries import require

Labelled = tuple[Tensor, Tensor]
"""Features (n, ...) and labels (n,)."""
Side = Literal["input", "output"]
STRENGTHS = (1e-1, 1e-2, 1e-3, 1e-4, 1e-5)
_ITERATIONS = 2000


def features(
    model: nn.Module, batches: Iterable[tuple[Tensor, Tensor]], layer: str | None = None, *, side: Side = "input"
) -> Labelled:
    """Read what goes into, or comes out of, a layer of a network in evaluation mode, and leave the network as it is.

    Args:
        model: Called with the inputs of each batch.
        batches: Pairs of inputs and labels; both are taken to the device of the model.
        layer: Name of the layer as in `model.named_modules`; None takes the `nn.Linear` that runs last, which in a
            classifier is its head.
        side: ``input`` or ``output`` of the layer. Of a layer that runs several times in one call, it is the last.

    Returns:
        Features (n, ...) as the layer has them, and labels (n,), on the model's device.

    Raises:
        InputError: No batches, no such layer or side, the layer did not run, or it has something else than one tensor
            with a row for each label.

    Example:
        >>> model = nn.Sequential(nn.Linear(4, 3), nn.ReLU(), nn.Linear(3, 2))
        >>> found, labels = features(model, [(torch.zeros(5, 4), torch.zeros(5, dtype=torch.long))])
        >>> found.shape, labels.shape
        (torch.Size([5, 3]), torch.Size([5]))
    """
    if side not in get_args(Side):
        raise unknown("side", side, get_args(Side))
    watched = _watched(model, layer)
    device = next((parameter.device for parameter in model.parameters()), torch.device("cpu"))
    found: list[Tensor] = []
    labels: list[Tensor] = []
    with _watching(model, watched, side, device) as kept, torch.no_grad():
        for inputs, targets in batches:
            kept.clear()
            model(inputs.to(device))
            found.append(_rows(kept, layer, len(targets)))
            labels.append(targets.to(device))
    if not found:
        raise InputError("batches: there is none; give at least one pair of inputs and labels")
    return torch.cat(found), torch.cat(labels)


@final
@dataclass(frozen=True)
class Probe:
    """Accuracies of a linear probe, shares from 0 to 1, and the strength of regularisation that `val` chose."""

    accuracy: float
    val_accuracy: float
    strength: float


def linear_probe(train: Labelled, val: Labelled, test: Labelled, *, strengths: Sequence[float] = STRENGTHS) -> Probe:
    """Classify frozen features linearly, as well as can be, and return the accuracy on the test data.

        min over W, b of  mean_i cross_entropy(W x_i + b, y_i) + strength / 2 |W|^2

    with features standardised by those of the training data. The problem is convex and solved to convergence (by
    scikit-learn, L-BFGS), so that no learning rate, order of examples or number of epochs decides which network looks
    better; the strength with the best accuracy on `val` is taken, of equals the largest. The paper trains for 50 epochs
    with SGD (Nesterov 0.9, rate 0.01, no weight decay) instead, and leaves BatchNorm statistics to adapt: its numbers
    are lower or higher by what that does.

    Args:
        train: Features (n, ...), flattened to rows, and integer labels (n,); at least two classes.
        val: The same of the data to choose by.
        test: The same of the data to report on.
        strengths: Regularisation strengths to try, above 0.

    Returns:
        Accuracies and the strength chosen.

    Raises:
        InputError: Features or labels are no such thing, a strength is not above 0, or a fit does not converge.

    Example:
        >>> x = torch.tensor([[-2.0], [-1.0], [1.0], [2.0]])
        >>> linear_probe((x, x[:, 0] > 0), (x, x[:, 0] > 0), (x, x[:, 0] > 1)).accuracy
        0.75

    References:
        Morales-Brotons, Vogels, Hendrikx: Exponential Moving Average of Weights in Deep Learning: Dynamics and
        Benefits, arXiv:2411.18704, 2024 (section 4.4).
        Kornblith, Shlens, Le: Do Better ImageNet Models Transfer Better?, arXiv:1805.08974, 2018 (this probe).
    """
    require("the linear probe", "sklearn")
    from sklearn.preprocessing import StandardScaler

    if not strengths or min(strengths) <= 0:
        raise InputError(f"strengths {tuple(strengths)}: write at least one, all above 0")
    arrays = [_checked(name, *part) for name, part in (("train", train), ("val", val), ("test", test))]
    if len({rows.shape[1] for rows, _ in arrays}) > 1:
        raise InputError(
            f"features: train, val and test have {[x.shape[1] for x, _ in arrays]} columns; read the same layer"
        )
    if len(set(arrays[0][1])) < 2:
        raise InputError("labels of train: all are equal; give examples of at least two classes")
    scaler = StandardScaler().fit(arrays[0][0])
    (x, y), *held_out = ((scaler.transform(rows), labels) for rows, labels in arrays)
    best = Probe(0.0, -1.0, 0.0)
    for strength in sorted(strengths, reverse=True):
        fitted = _fit(x, y, strength)
        val_accuracy, accuracy = (float(fitted.score(*part)) for part in held_out)
        if val_accuracy > best.val_accuracy:
            best = Probe(accuracy, val_accuracy, strength)
    return best


def _watched(model: nn.Module, layer: str | None) -> Sequence[nn.Module]:
    if layer is None:
        linears = [module for module in model.modules() if isinstance(module, nn.Linear)]
        if not linears:
            raise InputError(
                "layer: the model has no nn.Linear; write the name of a layer, as in model.named_modules()"
            )
        return linears
    modules = dict(model.named_modules())
    if layer not in modules:
        raise unknown("layer", layer, (name for name in modules if name))
    return [modules[layer]]


@contextmanager
def _watching(model: nn.Module, watched: Sequence[nn.Module], side: Side, device: torch.device) -> Iterator[list[Any]]:
    """Keep what each run of the watched layers takes or gives; in evaluation mode, random numbers put back after."""
    kept: list[Any] = []

    def keep(value: Any) -> None:
        kept[:] = [value.clone() if isinstance(value, Tensor) else value]  # this layer or the next may work in place

    def keep_input(_: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        keep(next(iter((*args, *kwargs.values())), None))

    def keep_output(_: nn.Module, args: tuple[Any, ...], output: Any) -> None:
        keep(output)

    modes = {module: module.training for module in model.modules()}
    hooks = [
        module.register_forward_pre_hook(keep_input, with_kwargs=True)
        if side == "input"
        else module.register_forward_hook(keep_output)
        for module in watched
    ]
    try:
        with torch.random.fork_rng([device] if device.type == "cuda" else []):
            model.eval()
            yield kept
    finally:
        for hook in hooks:
            hook.remove()
        for module, training in modes.items():
            module.training = training


def _rows(kept: Sequence[Any], layer: str | None, count: int) -> Tensor:
    name = "the last nn.Linear" if layer is None else repr(layer)
    if not kept:
        raise InputError(f"layer: {name} did not run; write the name of a layer that the model calls")
    value = kept[0]
    if not isinstance(value, Tensor) or value.ndim < 1 or len(value) != count:
        what = f"a tensor of shape {tuple(value.shape)}" if isinstance(value, Tensor) else type(value).__name__
        raise InputError(
            f"layer: {name} has {what}, not one tensor with a row for each of {count} labels; name another layer"
        )
    return value


def _checked(name: str, rows: Tensor, labels: Tensor) -> tuple[Any, Any]:
    """Return features (n, d) in float64 and labels (n,) as arrays."""
    if not len(rows) or labels.shape != (len(rows),) or labels.is_floating_point():
        raise InputError(
            f"{name}: features of shape {tuple(rows.shape)}, labels of shape {tuple(labels.shape)} and type "
            f"{str(labels.dtype).removeprefix('torch.')}; write (n, ...) and integers (n,), n at least 1"
        )
    if not rows.isfinite().all():
        raise InputError(f"features of {name}: not all are finite; leave out such examples, or check the network")
    return rows.detach().flatten(1).cpu().double().numpy(), labels.cpu().numpy()


def _fit(x: Any, y: Any, strength: float) -> Any:
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import LogisticRegression

    with warnings.catch_warnings():
        warnings.simplefilter("error", ConvergenceWarning)
        try:
            return LogisticRegression(C=1 / (strength * len(x)), max_iter=_ITERATIONS).fit(x, y)
        except ConvergenceWarning:
            raise InputError(
                f"strengths: with {strength} the probe does not converge in {_ITERATIONS} iterations; write larger ones"
            ) from None
