"""Matrices of curvature, known by their products with vectors."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from typing import Any, final

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from switch_ema.analysis.memory import affordable
from switch_ema.analysis.objective import Objective, num_examples
from switch_ema.errors import InputError
from switch_ema.libraries import require

Multiply = Callable[[list[Tensor]], list[Tensor]]
"""Products with the columns of a matrix, given and returned by parameter: each of shape (*parameter, columns)."""

_NO_MATTER = (
    "There is a performance drop",  # the result is right all the same
    ".torch.jit.script. is deprecated",  # torch uses it for forward derivatives
    "TF32 acceleration on top of oneDNN",  # as torch switches oneDNN off
)


@final
class Curvature:
    """A symmetric matrix over a model's parameters, known by its products with vectors.

    ``curvature @ vectors`` multiplies it by the columns of a matrix (dim, columns), as many at a time as memory allows;
    the entries are in the order of the parameters. Made by `hessian` and `switch_ema.analysis.ggn.ggn`, measured by
    the functions of `switch_ema.analysis.spectrum`.

    Args:
        name: What the matrix is, for messages.
        multiply: Products with some columns, by parameter.
        objective: Model, loss and data.
        chunk: Columns multiplied at once, from 1 on; chosen by memory if not given.

    Attributes:
        name: As given.
        dim: Number of rows.
        device: Where the parameters are.
        dtype: That of the parameters, float32 or float64; products are as exact as this type.

    Raises:
        InputError: The parameters have several types or devices, or are of half precision, or the chunk is below 1.
    """

    def __init__(self, name: str, multiply: Multiply, objective: Objective, chunk: int | None) -> None:
        parameters = objective.parameters
        self.name = name
        self.device, self.dtype = _one_home(parameters)
        self._shapes = {name: p.shape for name, p in parameters.items()}
        self._sizes = [p.numel() for p in parameters.values()]
        self.dim = sum(self._sizes)
        self._multiply = multiply
        self._objective = objective
        if chunk is not None and chunk < 1:
            raise InputError(f"chunk {chunk}: write at least 1")
        self._chunk = chunk or self._affordable_chunk()

    @torch.no_grad()
    def __matmul__(self, vectors: Tensor) -> Tensor:
        """Multiply by the columns of `vectors` (dim, columns); the products have its type and device."""
        with self._objective.frozen_randomness(), twice_differentiable(self._objective.model):
            products = [self._part(part.to(self.device, self.dtype)) for part in vectors.split(self._chunk, dim=1)]
        product = torch.cat(products, dim=1)
        if not product.isfinite().all():
            raise InputError(f"a product with the {self.name} is not finite; check the model's weights and the data")
        return product.to(vectors)

    def direction(self, vector: Tensor) -> dict[str, Tensor]:
        """Return a vector (dim,) by parameter name, for `Objective.along`."""
        parts = vector.split(self._sizes)
        return {name: part.reshape(shape) for (name, shape), part in zip(self._shapes.items(), parts, strict=True)}

    def dense(self) -> Tensor:
        """Return all of it (dim, dim), made symmetric: for small models, at the price of dim products."""
        matrix = self @ torch.eye(self.dim, device=self.device, dtype=self.dtype)
        return (matrix + matrix.T) / 2

    def _part(self, columns: Tensor) -> Tensor:
        width = columns.shape[1]
        parts = columns.split(self._sizes)
        shaped = [part.reshape(*shape, width) for shape, part in zip(self._shapes.values(), parts, strict=True)]
        return torch.cat([product.reshape(-1, width) for product in self._multiply(shaped)])

    def _affordable_chunk(self) -> int:
        """Count the columns whose derivatives fit, by what the first batch keeps for its gradient."""
        kept = 0

        def note(tensor: Tensor) -> Tensor:
            nonlocal kept
            kept += tensor.numel() * tensor.element_size()
            return tensor

        objective = self._objective
        with (
            objective.frozen_randomness(),
            torch.enable_grad(),
            torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor),
        ):
            objective.loss(objective.model, next(iter(objective.batches)))
        return affordable(4 * self.dim * self.dtype.itemsize + 3 * kept, self.device)


class Numbered(nn.Module):
    """A function of model and batch as a module, which draws the same random numbers for a batch every time.

    Args:
        objective: Whose model it is, and whose seeding.
        function: (model, batch) -> a tensor.
    """

    def __init__(self, objective: Objective, function: Callable[[nn.Module, Any], Tensor]) -> None:
        super().__init__()
        self.model = objective.model
        self._function = function
        self._seed = objective.seed

    def forward(self, numbered: tuple[int, Any]) -> Tensor:
        """Return the function's value for a batch that comes with its number."""
        number, batch = numbered
        self._seed(number)
        return self._function(self.model, batch)


class NumberedBatches:
    """The batches of an objective as curvlinops takes them: pairs ((number, inputs), targets).

    Args:
        objective: Whose batches.
        split: batch -> (inputs, targets).
    """

    def __init__(self, objective: Objective, split: Callable[[Any], tuple[Any, Tensor]]) -> None:
        self._objective = objective
        self._split = split

    def __iter__(self) -> Iterator[tuple[tuple[int, Any], Tensor]]:
        for number, batch in enumerate(self._objective.batches):
            inputs, targets = self._split(batch)
            yield (number, inputs), targets


def linear_operator(kind: str, module: Numbered, loss: nn.Module, data: NumberedBatches) -> Any:
    """Make a linear operator of curvlinops; the objective has checked that data and model are deterministic.

    Args:
        kind: Name of its class.
        module: (number, inputs) -> output.
        loss: (output, target) -> mean loss, with a `reduction`.
        data: Pairs ((number, inputs), targets).

    Returns:
        The operator over the parameters that require gradients.

    Raises:
        InputError: curvlinops is missing, or the parameters have several types or devices or half precision.
    """
    require("curvature", "curvlinops")
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".torch.jit.script. is deprecated")  # what it imports uses it
        import curvlinops
    parameters = {name: p for name, p in module.named_parameters() if p.requires_grad}
    _one_home(parameters)
    return getattr(curvlinops, kind)(
        module,
        loss,
        list(parameters.values()),
        data,
        check_deterministic=False,
        batch_size_fn=lambda numbered: num_examples(numbered[1]),
    )


def try_out(operator: Any, objective: Objective, data: NumberedBatches) -> str | None:
    """Multiply an operator of curvlinops by one column on the first batch; return why it does not work, or None."""
    (inputs, targets) = next(iter(data))
    column = [p[..., None] for p in objective.parameters.values()]
    try:
        with objective.frozen_randomness(), twice_differentiable(objective.model):
            operator._matmat_batch(inputs, targets, column)
    except torch.OutOfMemoryError:
        raise
    except (RuntimeError, TypeError, ValueError, NotImplementedError, AttributeError) as error:
        return f"{type(error).__name__}: {error}".splitlines()[0]
    return None


@contextmanager
def twice_differentiable(model: nn.Module) -> Iterator[None]:
    """Choose kernels that have all derivatives: fused attention and fused recurrent layers lack some."""
    with ExitStack() as stack:
        stack.enter_context(warnings.catch_warnings())
        for message in _NO_MATTER:
            warnings.filterwarnings("ignore", message=message)
        stack.enter_context(sdpa_kernel(SDPBackend.MATH))
        if any(isinstance(module, nn.RNNBase) for module in model.modules()):
            stack.enter_context(torch.backends.mkldnn.flags(enabled=False))
            stack.enter_context(torch.backends.cudnn.flags(enabled=False))
        yield


def check_mean(loss_fn: Callable[[Tensor, Tensor], Tensor]) -> None:
    """Refuse a loss function that says it is no mean."""
    reduction = getattr(loss_fn, "reduction", "mean")
    if reduction != "mean":
        raise InputError(f"the loss has reduction={reduction!r}; write reduction='mean'")


def _one_home(parameters: Mapping[str, Tensor]) -> tuple[torch.device, torch.dtype]:
    """Return the one device and the one type of the parameters."""
    homes = {(p.device, p.dtype) for p in parameters.values()}
    if len(homes) > 1:
        found = ", ".join(sorted(f"{dtype} on {device}" for device, dtype in homes))
        raise InputError(
            f"the parameters are {found}; curvature needs one type on one device: write model.float().to(...)"
        )
    device, dtype = homes.pop()
    if dtype not in (torch.float32, torch.float64):
        raise InputError(f"the parameters are {dtype}, too coarse for second derivatives; write model.float()")
    return device, dtype
