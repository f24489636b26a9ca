"""Parameters that one optimiser steps together, over one flat vector; and how they are saved."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from torch import Tensor

from smac_core.dense import Mlp
from smac_core.errors import NonFiniteError
from smac_core.networks import MlpShape, spans_of_seed, stack_seeds, view_mlp

BETA1, BETA2, EPSILON = 0.9, 0.999, 1e-8  # PyTorch's defaults, which the released code keeps


def adam(
    parameters: list[Tensor],
    gradients: list[Tensor],
    moments: tuple[list[Tensor], list[Tensor]],
    counts: list[Tensor],
    learning_rate: float,
) -> None:
    """Take one step of Adam, in place.

    The optimiser class around this operation would import the compiler, about a second.

    Args:
        parameters: Tensors of any shape.
        gradients: Shaped like them.
        moments: Running means of the gradients and of their squares, shaped like them.
        counts: ``[]`` how many steps each has taken, this one included.
        learning_rate: The step size.
    """
    torch._fused_adam_(  # type: ignore[attr-defined]
        parameters,
        gradients,
        *moments,
        [],
        counts,
        lr=learning_rate,
        beta1=BETA1,
        beta2=BETA2,
        weight_decay=0.0,
        eps=EPSILON,
        amsgrad=False,
        maximize=False,
    )


class ParameterGroup:
    """Networks of S seeds that one Adam steps together, over one flat vector.

    Args:
        shapes: Layer widths of each network, in order.
        initial: For each seed the flat initial parameters of each network.
        learning_rate: Adam's step size.
        device: Where the tensors live.
    """

    def __init__(
        self,
        shapes: Mapping[str, MlpShape],
        initial: Sequence[Mapping[str, np.ndarray]],
        learning_rate: float,
        device: torch.device,
    ) -> None:
        self.shapes = dict(shapes)
        self.seeds = len(initial)
        stacked = [stack_seeds(shapes[name], [one[name] for one in initial]) for name in shapes]
        self.flat = torch.from_numpy(np.concatenate(stacked)).to(device)
        self.gradient = torch.zeros_like(self.flat)
        self.spans: dict[str, slice] = {}
        self.networks: dict[str, Mlp] = {}
        offset = 0
        for name, shape in shapes.items():
            span = slice(offset, offset + self.seeds * shape.num_parameters)
            self.spans[name] = span
            self.networks[name] = view_mlp(self.flat[span], shape, self.seeds, self.gradient[span])
            offset = span.stop
        self.learning_rate = learning_rate
        self.moments: dict[str, Tensor] = {
            "step": torch.zeros((), device=device),
            "exp_avg": torch.zeros_like(self.flat),
            "exp_avg_sq": torch.zeros_like(self.flat),
        }

    def step(self) -> None:
        """Apply the accumulated gradient once and clear it."""
        self.moments["step"].add_(1.0)
        held = self.moments
        adam(
            [self.flat],
            [self.gradient],
            ([held["exp_avg"]], [held["exp_avg_sq"]]),
            [held["step"]],
            self.learning_rate,
        )
        self.gradient.zero_()

    def parameters_of(self, name: str, seed: int, vector: Tensor | None = None) -> np.ndarray:
        """Copy one network's numbers of one seed.

        Args:
            name: Which network.
            seed: Which of the stacked seeds, from 0.
            vector: A vector laid out like the parameters; None: the parameters.

        Returns:
            ``[num_parameters]`` float32.
        """
        whole = (self.flat if vector is None else vector)[self.spans[name]]
        return take_seed(whole, self.shapes[name], self.seeds, seed)


def take_seed(stacked: Tensor, shape: MlpShape, seeds: int, seed: int) -> np.ndarray:
    """Copy one seed out of a stacked flat vector.

    Args:
        stacked: ``[seeds * num_parameters]``.
        shape: Layer widths.
        seeds: How many are stacked.
        seed: Which, from 0.

    Returns:
        ``[num_parameters]`` float32.
    """
    numbers = stacked.detach().cpu().numpy()
    return np.concatenate([numbers[span] for span in spans_of_seed(shape, seeds, seed)])


def put_seed(stacked: Tensor, shape: MlpShape, seeds: int, seed: int, numbers: np.ndarray) -> None:
    """Undo ``take_seed``, in place.

    Args:
        stacked: ``[seeds * num_parameters]``.
        shape: Layer widths.
        seeds: How many are stacked.
        seed: Which, from 0.
        numbers: ``[num_parameters]``.

    Raises:
        ValueError: The numbers do not fit the layer widths.
    """
    if numbers.shape != (shape.num_parameters,):
        raise ValueError(f"{numbers.shape} numbers for {shape.num_parameters} parameters")
    source = torch.from_numpy(np.ascontiguousarray(numbers))
    offset = 0
    for span in spans_of_seed(shape, seeds, seed):
        length = span.stop - span.start
        stacked[span].copy_(source[offset : offset + length])
        offset += length


def read_scalars(metrics: Mapping[str, Tensor], num_updates: int) -> list[dict[str, float]]:
    """Read metrics off the device.

    Args:
        metrics: Tensors by name, with the seed as leading axis.
        num_updates: For the message.

    Returns:
        For each seed one mean a metric.

    Raises:
        NonFiniteError: A metric is not finite.
    """
    means = {
        name: value.detach().reshape(len(value), -1).mean(1).tolist()
        for name, value in metrics.items()
    }
    for name, numbers in means.items():
        for number in numbers:
            if not np.isfinite(number):
                raise NonFiniteError(
                    f"{name} is not finite",
                    where=f"update {num_updates}",
                    found=number,
                    fix="lower learning_rate or the loss weights; the last checkpoint is kept",
                )
    seeds = len(next(iter(means.values()), []))
    return [{name: numbers[seed] for name, numbers in means.items()} for seed in range(seeds)]


def save_groups(groups: Mapping[str, ParameterGroup], seed: int) -> dict[str, np.ndarray]:
    """Copy parameters and Adam's state of one seed.

    Args:
        groups: Groups by name.
        seed: Which of the stacked seeds, from 0.

    Returns:
        Flat parameters by network, ``adam.<group>.<moment>`` by group.
    """
    out: dict[str, np.ndarray] = {}
    for group_name, group in groups.items():
        for name in group.spans:
            out[name] = group.parameters_of(name, seed)
        for key, tensor in group.moments.items():
            out[f"adam.{group_name}.{key}"] = (
                np.concatenate([group.parameters_of(name, seed, tensor) for name in group.spans])
                if tensor.ndim
                else np.atleast_1d(tensor.cpu().numpy().copy())
            )
    return out


@torch.no_grad()
def restore_groups(
    groups: Mapping[str, ParameterGroup], state: Mapping[str, np.ndarray], seed: int
) -> None:
    """Undo ``save_groups``, in place.

    Args:
        groups: Groups by name.
        state: What was copied.
        seed: Which of the stacked seeds, from 0.
    """
    for group_name, group in groups.items():
        ends = np.cumsum([shape.num_parameters for shape in group.shapes.values()])[:-1]
        for key, tensor in group.moments.items():
            saved = state[f"adam.{group_name}.{key}"]
            if not tensor.ndim:
                tensor.copy_(torch.from_numpy(saved).view(()))
                continue
            for name, part in zip(group.shapes, np.split(saved, ends), strict=True):
                put_seed(tensor[group.spans[name]], group.shapes[name], group.seeds, seed, part)
        for name, shape in group.shapes.items():
            put_seed(group.flat[group.spans[name]], shape, group.seeds, seed, state[name])
        group.gradient.zero_()
