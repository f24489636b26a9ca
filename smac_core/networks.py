"""Networks as plain tensors: every one is a ReLU MLP whose parameters are views of a flat vector.

The flat layout is that of ``kernels.mlp``: for each layer the weight ``[in, out]`` row by row, then
the bias ``[out]``; an ensemble has a leading axis on both, and S stacked seeds one before that. One
optimiser step is therefore one fused operation on one vector, and the acting side runs the same
numbers without torch.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from smac_core.config import NetworkConfig
from smac_core.dense import Mlp, run_network

LAST_LAYER_RANGE = 3e-3  # released code: U(-3e-3, 3e-3), bias 0
POLICY_HEAD_RANGE = 1e-3  # released code: both heads of the policy
LOG_STD_MIN, LOG_STD_MAX = -20.0, 2.0


@dataclass(frozen=True)
class Shapes:
    """Sizes that an environment fixes.

    Args:
        obs_dim: Length of an observation.
        action_dim: Length of an action.
        picture: Height, width and channels of a picture that observations begin with; None: none.
    """

    obs_dim: int
    action_dim: int
    picture: tuple[int, int, int] | None = None


@dataclass(frozen=True)
class MlpShape:
    """Layer widths of one network, or of an ensemble of equals.

    Args:
        sizes: Input, hidden and output widths.
        ensemble: Number of members; 0 for a single network without the leading axis.
    """

    sizes: tuple[int, ...]
    ensemble: int = 0

    @property
    def num_parameters(self) -> int:
        """Length of the flat vector."""
        return sum(self.lengths)

    @property
    def members(self) -> int:
        """Number of networks, at least one."""
        return max(self.ensemble, 1)

    @property
    def lengths(self) -> tuple[int, ...]:
        """Numbers in each weight and bias, in the flat order."""
        parts: list[int] = []
        for fan_in, fan_out in pairwise(self.sizes):
            parts += [self.members * fan_in * fan_out, self.members * fan_out]
        return tuple(parts)


def network_shapes(shapes: Shapes, config: NetworkConfig) -> dict[str, MlpShape]:
    """Layer widths of every network of the method.

    Args:
        shapes: Sizes of the environment.
        config: Hidden widths and latent size.

    Returns:
        A shape for each of policy, critic, value, encoder, decoder.

    Source: smac-reference section 1.
    """
    obs, action, latent = shapes.obs_dim, shapes.action_dim, config.latent_dim
    context = obs + action + 1 + (obs if config.context_next_obs else 0)
    return {
        "policy": MlpShape((obs + latent, *config.policy, 2 * action)),
        "critic": MlpShape((obs + action + latent, *config.critic, 1), ensemble=2),
        "value": MlpShape((obs + latent, *config.critic, 1)),
        "encoder": MlpShape((context, *config.encoder, 2 * latent)),
        "decoder": MlpShape((obs + action + latent, *config.decoder, 1)),
    }


def initial_parameters(
    name: str, shape: MlpShape, rng: np.random.Generator
) -> np.ndarray[tuple[int], np.dtype[np.float32]]:
    """Draw the initial flat parameters of one network.

    Args:
        name: Which network; the policy has narrower heads.
        shape: Its layer widths.
        rng: Source of the draw.

    Returns:
        Flat float32 vector ``[num_parameters]``.

    Source: smac-reference section 1, "Init": hidden weights U(±1/√k) with k the *output* width.
    """
    members = max(shape.ensemble, 1)
    parts: list[np.ndarray] = []
    pairs = list(zip(shape.sizes[:-1], shape.sizes[1:], strict=True))
    for layer, (fan_in, fan_out) in enumerate(pairs):
        last = layer == len(pairs) - 1
        head = POLICY_HEAD_RANGE if name == "policy" else LAST_LAYER_RANGE
        bound = head if last else 1.0 / np.sqrt(fan_out)
        parts.append(rng.uniform(-bound, bound, members * fan_in * fan_out))
        bias = np.zeros(members * fan_out)
        if last and name == "policy":  # log-std head: its bias is drawn too
            bias[fan_out // 2 :] = rng.uniform(-head, head, fan_out - fan_out // 2)
        parts.append(bias)
    return np.concatenate(parts).astype(np.float32)


def stack_seeds(shape: MlpShape, flats: Sequence[np.ndarray]) -> np.ndarray:
    """Interleave the flat vectors of several seeds layer by layer.

    Args:
        shape: Layer widths.
        flats: ``[num_parameters]`` of each seed.

    Returns:
        ``[S * num_parameters]``, in which each weight and bias has the seed as leading axis.
    """
    ends = np.cumsum(shape.lengths)[:-1]
    layers = zip(*(np.split(flat, ends) for flat in flats), strict=True)
    return np.concatenate([part for layer in layers for part in layer])


def spans_of_seed(shape: MlpShape, seeds: int, seed: int) -> Iterator[slice]:
    """Name the parts of a stacked flat vector that belong to one seed, in the order of its own.

    Args:
        shape: Layer widths.
        seeds: How many are stacked.
        seed: Which, from 0.

    Yields:
        One slice a weight or bias.
    """
    offset = 0
    for length in shape.lengths:
        yield slice(offset + seed * length, offset + (seed + 1) * length)
        offset += seeds * length


def view_mlp(flat: Tensor, shape: MlpShape, seeds: int = 1, gradient: Tensor | None = None) -> Mlp:
    """Lay a network over a flat vector without copying.

    Args:
        flat: Parameters ``[seeds * num_parameters]``, see ``stack_seeds``.
        shape: Layer widths.
        seeds: How many are stacked.
        gradient: Flat vector of the same length in which gradients add up; None: no gradient.

    Returns:
        The layers.
    """

    def layers(vector: Tensor) -> tuple[tuple[Tensor, ...], tuple[Tensor, ...]]:
        parts = torch.split(vector.detach(), [seeds * length for length in shape.lengths])
        lead = (seeds, shape.members)
        return (
            tuple(
                p.view(*lead, *d) for p, d in zip(parts[::2], pairwise(shape.sizes), strict=True)
            ),
            tuple(p.view(*lead, d) for p, d in zip(parts[1::2], shape.sizes[1:], strict=True)),
        )

    if gradient is None:
        return Mlp(*layers(flat))
    anchor = torch.zeros((), device=flat.device, requires_grad=True)
    return Mlp(*layers(flat), *layers(gradient), anchor)


def forward(net: Mlp, x: Float[Tensor, "S N inputs"]) -> Float[Tensor, "S N outputs"]:
    """Run one network of each seed.

    Args:
        net: Networks without an ensemble.
        x: Inputs of each seed.

    Returns:
        Linear outputs of the last layer.
    """
    return run_network(net, x).squeeze(1)


def critic_values(
    net: Mlp,
    obs: Float[Tensor, "S N obs_dim"],
    action: Float[Tensor, "S N action_dim"],
    latent: Float[Tensor, "S N latent_dim"],
) -> Float[Tensor, "S 2 N"]:
    """Evaluate the twin critics Q1, Q2 at (s, a, z).

    Args:
        net: The stacked twins.
        obs: Observations s.
        action: Actions a.
        latent: Task latents z, one a row.

    Returns:
        Both values of every row, in units of scaled reward.
    """
    return run_network(net, torch.cat((obs, action, latent), dim=-1)).squeeze(3)
