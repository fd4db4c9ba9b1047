"""The mean loss of a model over data, as a function of its weights."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Any, Literal, final

import torch
from torch import Tensor, nn

from switch_ema.analysis.batches import check_repeatable, fingerprint
from switch_ema.analysis.batches import num_examples as num_examples
from switch_ema.analysis.replica import Moves, Replica
from switch_ema.errors import InputError, unknown

Loss = Callable[[nn.Module, Any], Tensor]
"""(model, batch) -> mean loss of the batch, a scalar; calls the model once."""

Direction = Mapping[str, Tensor]
"""Tensors by the name of a parameter or float buffer; a name that is absent does not move."""


def supervised(loss_fn: Callable[[Tensor, Tensor], Tensor]) -> Loss:
    """Make the loss of a model on batches of inputs and targets: ``loss_fn(model(inputs), targets)``.

    Args:
        loss_fn: (outputs, targets) -> mean loss, such as `torch.nn.functional.cross_entropy`.

    Returns:
        A loss for `Objective`.

    Example:
        >>> loss = supervised(nn.functional.mse_loss)
        >>> float(loss(nn.Identity(), (torch.tensor([1.0, 3.0]), torch.tensor([1.0, 1.0]))))
        2.0
    """

    def loss(model: nn.Module, batch: tuple[Tensor, Tensor]) -> Tensor:
        inputs, targets = batch
        return loss_fn(model(inputs), targets)

    return loss


@final
class Objective:
    """The mean loss of a model over data, as a function of its weights.

    L(w) = sum_b n_b loss(w, b) / sum_b n_b over the batches b of n_b examples, summed in float64. A copy of the model,
    made at once, is evaluated in evaluation mode: the model given is never touched, and training it further changes
    nothing here. Random numbers that the loss draws are the same at every point and every time.

    Args:
        model: Any PyTorch module on one device.
        loss: (model, batch) -> mean loss of the batch (see `supervised`).
        batches: Anything that can be gone through again and again, with the same batches each time and on the model's
            device: a list, or a DataLoader that neither shuffles nor augments. A batch is a tensor, or a tuple, list or
            mapping with some; the leading size of the first tensor found is its number of examples.
        batchnorm: ``eval`` normalises by the statistics kept in the model, ``train`` by those of each batch.

    Attributes:
        model: The copy that is evaluated: in evaluation mode, its BatchNorm layers as chosen.
        loss: As given.
        batches: As given.
        batchnorm: As given.

    Raises:
        InputError: The model has no parameters that require gradients, there is no batch, a second pass gives other
            batches, or the loss is not a finite scalar.

    Example:
        >>> model = nn.Linear(1, 1, bias=False)
        >>> _ = nn.init.constant_(model.weight, 2.0)
        >>> objective = Objective(model, supervised(nn.functional.mse_loss), [(torch.ones(4, 1), torch.zeros(4, 1))])
        >>> objective.value(), objective.gradient()["weight"].item()
        (4.0, 4.0)
        >>> objective.along(torch.tensor([[0.0], [-1.0]]), [{"weight": torch.ones(1, 1)}]).tolist()
        [4.0, 1.0]
    """

    def __init__(
        self, model: nn.Module, loss: Loss, batches: Iterable[Any], *, batchnorm: Literal["eval", "train"] = "eval"
    ) -> None:
        if batchnorm not in ("eval", "train"):
            raise unknown("batchnorm", batchnorm, ("eval", "train"))
        if not any(p.requires_grad for p in model.parameters()):
            raise InputError("the model has no parameters that require gradients; pass one that can be trained")
        if isinstance(batches, Iterator):
            raise InputError("batches (an iterator or generator) can be gone through only once; write list(batches)")
        self._replica = Replica(model, loss, batch_statistics=batchnorm == "train")
        self.model = self._replica.model
        self.loss = loss
        self.batches = batches
        self.batchnorm = batchnorm
        with self.frozen_randomness():
            self._value = self._check()

    @property
    def parameters(self) -> dict[str, Tensor]:
        """Those that require gradients, detached, by name and in the model's order."""
        return {name: p.detach() for name, p in self.model.named_parameters() if p.requires_grad}

    @property
    def names(self) -> tuple[str, ...]:
        """All names that a direction may hold: of parameters, of buffers, and of statistics that are not used."""
        return tuple(self._replica.names)

    def value(self) -> float:
        """Return the mean loss at the model's own weights."""
        return self._value

    def gradient(self, weights: Direction | None = None) -> dict[str, Tensor]:
        """Return the gradient of the mean loss.

        Args:
            weights: Where, by name; the model's own weights for names that are absent.

        Returns:
            By the names of `parameters`, in their types; zeros where a parameter is not used.
        """
        here = {name: p.clone().requires_grad_() for name, p in (self.parameters | dict(weights or {})).items()}
        wanted = [here[name] for name in self.parameters]
        sums = [torch.zeros_like(p, dtype=torch.float64) for p in wanted]
        count = 0
        with self.frozen_randomness(), torch.enable_grad():
            for number, batch in enumerate(self.batches):
                loss = self._replica.loss(here, batch, number) * num_examples(batch)
                torch._foreach_add_(sums, torch.autograd.grad(loss, wanted, materialize_grads=True))
                count += num_examples(batch)
        found = zip(self.parameters.items(), sums, strict=True)
        return {name: (total / count).to(p.dtype) for (name, p), total in found}

    def along(self, coefficients: Tensor, directions: Sequence[Direction], *, chunk: int | None = None) -> Tensor:
        """Return the mean loss at weights + sum_k coefficients[:, k] * directions[k].

        Args:
            coefficients: Of shape (points, k).
            directions: The k directions; statistics of BatchNorm move as well, unless those of the batch are used.
            chunk: Points evaluated at once by `torch.func.vmap`, from 1 (a plain loop) on; chosen by memory if not
                given. Where the model does not allow it, a plain loop is used.

        Returns:
            Losses (points,) in float64 on the CPU, which need not be finite.

        Raises:
            InputError: Shapes do not match, a name is unknown, or the chunk is below 1.
        """
        moves = self._moves(coefficients, directions)
        if chunk is not None and chunk < 1:
            raise InputError(f"chunk {chunk}: write at least 1")
        steps = coefficients.detach().to(self._replica.device, torch.float64)
        parts = steps.split(chunk or self._replica.affordable_chunk(moves))
        sums = torch.zeros(len(steps), dtype=torch.float64, device=steps.device)
        count = 0
        with self.frozen_randomness(), torch.no_grad():
            for number, batch in enumerate(self.batches):
                losses = [self._replica.losses(part, moves, batch, number) for part in parts]
                sums += torch.cat(losses).double() * num_examples(batch)
                count += num_examples(batch)
        return (sums / count).cpu()

    def frozen_randomness(self) -> AbstractContextManager[None]:
        """Leave torch's random generators as they were, whatever is drawn inside, even by going through the batches."""
        return self._replica.frozen_randomness()

    def seed(self, number: int) -> None:
        """Seed torch's random generators for the batch of this number, so that a loss draws what it draws elsewhere."""
        self._replica.seed(number)

    def _check(self) -> float:
        """Go through the batches twice, and return the loss of the first pass."""
        total, count, prints = 0.0, 0, []
        for number, batch in enumerate(self.batches):
            with torch.no_grad(), self._replica.watched():
                loss = self._replica.loss({}, batch, number)
            if not isinstance(loss, Tensor) or loss.dim() != 0:
                got = f"a tensor of shape {tuple(loss.shape)}" if isinstance(loss, Tensor) else repr(loss)
                raise InputError(f"the loss of batch {number} is {got}; return the mean of the batch, a scalar tensor")
            if not math.isfinite(loss):
                raise InputError(f"the loss of batch {number} is {float(loss)}; check the model's weights and the data")
            total += float(loss) * num_examples(batch)
            count += num_examples(batch)
            prints.append(fingerprint(batch))
        if not prints:
            raise InputError("batches is empty; give at least one batch")
        check_repeatable(self.batches, prints)
        return total / count

    def _moves(self, coefficients: Tensor, directions: Sequence[Direction]) -> Moves:
        if coefficients.dim() != 2 or coefficients.shape[1] != len(directions) or not coefficients.numel():
            raise InputError(
                f"coefficients have shape {tuple(coefficients.shape)} for {len(directions)} directions; "
                "write (points, directions), with at least one of each"
            )
        names, state = self._replica.names, self._replica.state
        moves: dict[str, list[tuple[int, Tensor]]] = {}
        for column, direction in enumerate(directions):
            for given, move in direction.items():
                if given not in names:
                    raise unknown(f"name in direction {column}", given, names)
                name = names[given]
                if (given != name and name in direction) or name not in state:  # said twice, or a statistic not used
                    continue
                here = state[name]
                if move.shape != here.shape or not here.is_floating_point():
                    raise InputError(
                        f"{given} of direction {column} has shape {tuple(move.shape)}; the model's has shape "
                        f"{tuple(here.shape)} and type {here.dtype}, and only floats of its shape can be added"
                    )
                moves.setdefault(name, []).append((column, move.detach().to(here)))
        return moves
