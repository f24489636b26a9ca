"""Parameters that one optimiser steps together, over one flat vector; and how they are saved."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from smac_core.errors import NonFiniteError
from smac_core.networks import Mlp, MlpShape, view_mlp


class ParameterGroup:
    """Networks that one optimiser steps together, over one flat vector.

    Args:
        shapes: Layer widths of each network, in order.
        initial: Flat initial parameters of each network.
        learning_rate: Adam's step size.
        device: Where the tensors live.
    """

    def __init__(
        self,
        shapes: dict[str, MlpShape],
        initial: dict[str, np.ndarray],
        learning_rate: float,
        device: torch.device,
    ) -> None:
        flat = np.concatenate([initial[name] for name in shapes])
        self.flat = torch.from_numpy(flat).to(device)
        self.gradient = torch.zeros_like(self.flat)
        self.flat.grad = self.gradient
        self.spans: dict[str, slice] = {}
        self.networks: dict[str, Mlp] = {}
        offset = 0
        for name, shape in shapes.items():
            span = slice(offset, offset + shape.num_parameters)
            self.spans[name] = span
            self.networks[name] = view_mlp(self.flat[span], shape, self.gradient[span])
            offset += shape.num_parameters
        self.optimiser = torch.optim.Adam([self.flat], lr=learning_rate, fused=True)
        self.optimiser.state[self.flat] = {
            "step": torch.zeros((), device=device),
            "exp_avg": torch.zeros_like(self.flat),
            "exp_avg_sq": torch.zeros_like(self.flat),
        }

    def step(self) -> None:
        """Apply the accumulated gradient once and clear it."""
        self.optimiser.step()
        self.gradient.zero_()

    def clear(self) -> None:
        """Drop the accumulated gradient."""
        self.gradient.zero_()

    def moments(self) -> dict[str, Tensor]:
        """Return Adam's step count and moments, by name."""
        state: dict[str, Tensor] = self.optimiser.state[self.flat]
        return state


def read_scalars(metrics: dict[str, Tensor], num_updates: int) -> dict[str, float]:
    """Read metrics off the device.

    Args:
        metrics: Tensors by name.
        num_updates: For the message.

    Returns:
        One mean a metric.

    Raises:
        NonFiniteError: A metric is not finite.
    """
    out = {name: float(value.detach().mean()) for name, value in metrics.items()}
    for name, number in out.items():
        if not np.isfinite(number):
            raise NonFiniteError(
                f"{name} is not finite",
                where=f"update {num_updates}",
                found=number,
                fix="lower learning_rate or the loss weights; the last checkpoint is kept",
            )
    return out


def save_groups(groups: dict[str, ParameterGroup]) -> dict[str, np.ndarray]:
    """Copy parameters and Adam's state of some groups.

    Args:
        groups: Groups by name.

    Returns:
        Flat parameters by network, ``adam.<group>.<moment>`` by group.
    """
    out: dict[str, np.ndarray] = {}
    for group_name, group in groups.items():
        flat = group.flat.detach().cpu().numpy()
        for name, span in group.spans.items():
            out[name] = flat[span].copy()
        for key, tensor in group.moments().items():
            out[f"adam.{group_name}.{key}"] = np.atleast_1d(tensor.cpu().numpy().copy())
    return out


def restore_groups(groups: dict[str, ParameterGroup], state: dict[str, np.ndarray]) -> None:
    """Undo ``save_groups``, in place; call it without gradients.

    Args:
        groups: Groups by name.
        state: What was copied.
    """
    for group_name, group in groups.items():
        for name, span in group.spans.items():
            group.flat[span].copy_(torch.from_numpy(state[name]))
        for key, tensor in group.moments().items():
            saved = torch.from_numpy(state[f"adam.{group_name}.{key}"])
            tensor.copy_(saved.view(tensor.shape))
        group.clear()
