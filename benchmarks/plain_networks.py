"""The networks as a PyTorch user writes them, filled with the learner's numbers."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import numpy as np
import torch
from torch import Tensor, nn


def _linear(weight: np.ndarray, bias: np.ndarray) -> nn.Linear:
    """Fill a layer from a weight ``[in, out]`` and a bias ``[out]``."""
    layer = nn.Linear(*weight.shape)
    with torch.no_grad():
        layer.weight.copy_(torch.from_numpy(weight.T.copy()))
        layer.bias.copy_(torch.from_numpy(bias.copy()))
    return layer


def _layers(
    flat: np.ndarray, sizes: Sequence[int], members: int = 1
) -> list[list[tuple[np.ndarray, np.ndarray]]]:
    """Cut the layout of smac_core.networks into the layers of each member of an ensemble."""
    nets: list[list[tuple[np.ndarray, np.ndarray]]] = [[] for _ in range(members)]
    offset = 0
    for fan_in, fan_out in pairwise(sizes):
        length = members * fan_in * fan_out
        weights = flat[offset : offset + length].reshape(members, fan_in, fan_out)
        offset += length
        biases = flat[offset : offset + members * fan_out].reshape(members, fan_out)
        offset += members * fan_out
        for net, weight, bias in zip(nets, weights, biases, strict=True):
            net.append((weight, bias))
    assert offset == len(flat), "parameters do not fit the layers"
    return nets


def _stack(layers: list[tuple[np.ndarray, np.ndarray]]) -> nn.Sequential:
    modules: list[nn.Module] = []
    for weight, bias in layers:
        modules += [_linear(weight, bias), nn.ReLU()]
    return nn.Sequential(*modules[:-1])


def plain_mlp(flat: np.ndarray, sizes: Sequence[int]) -> nn.Sequential:
    """Build one ReLU network.

    Args:
        flat: Parameters in the layout of smac_core.networks.
        sizes: Layer widths.

    Returns:
        Linear layers with ReLU between them.
    """
    return _stack(_layers(flat, sizes)[0])


def plain_twins(flat: np.ndarray, sizes: Sequence[int]) -> list[nn.Sequential]:
    """Build the two critics as networks of their own.

    Args:
        flat: Parameters of the stacked twins.
        sizes: Layer widths of either.

    Returns:
        Q1 and Q2.
    """
    return [_stack(layers) for layers in _layers(flat, sizes, members=2)]


class PlainPolicy(nn.Module):
    """A tanh-Gaussian policy with two heads.

    Args:
        flat: Parameters in the layout of smac_core.networks.
        sizes: Layer widths; the last is twice the action's.
    """

    def __init__(self, flat: np.ndarray, sizes: Sequence[int]) -> None:
        super().__init__()
        *hidden, (weight, bias) = _layers(flat, sizes)[0]
        split = sizes[-1] // 2
        self.trunk = nn.Sequential(_stack(hidden), nn.ReLU())
        self.mean = _linear(weight[:, :split], bias[:split])
        self.log_std = _linear(weight[:, split:], bias[split:])

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Compute the Gaussian before the tanh.

        Args:
            x: ``[N, obs_dim + latent_dim]``.

        Returns:
            Mean and standard deviation ``[N, action_dim]``.
        """
        hidden = self.trunk(x)
        return self.mean(hidden), self.log_std(hidden).clamp(-20.0, 2.0).exp()
