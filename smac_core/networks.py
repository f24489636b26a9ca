"""Networks as plain tensors: every one is a ReLU MLP whose parameters are views of a flat vector.

The flat layout is that of ``kernels.mlp``: for each layer the weight ``[in, out]`` row by row, then
the bias ``[out]``; an ensemble has a leading axis on both. One optimiser step is therefore one
fused operation on one vector, and the acting side runs the same numbers without torch.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from smac_core.config import NetworkConfig

LAST_LAYER_RANGE = 3e-3  # released code: U(-3e-3, 3e-3), bias 0
POLICY_HEAD_RANGE = 1e-3  # released code: both heads of the policy
LOG_STD_MIN, LOG_STD_MAX = -20.0, 2.0


@dataclass(frozen=True)
class Shapes:
    """Sizes that an environment fixes.

    Args:
        obs_dim: Length of an observation.
        action_dim: Length of an action.
    """

    obs_dim: int
    action_dim: int


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
        single = sum((i + 1) * o for i, o in zip(self.sizes[:-1], self.sizes[1:], strict=True))
        return single * max(self.ensemble, 1)


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


@dataclass(frozen=True)
class Mlp:
    """One network: its layers as views of a flat vector.

    Args:
        weights: Per layer ``[in, out]``, or ``[E, in, out]`` for an ensemble.
        biases: Per layer ``[out]``, or ``[E, 1, out]`` for an ensemble.
    """

    weights: tuple[Tensor, ...]
    biases: tuple[Tensor, ...]

    def detached(self) -> Mlp:
        """Return the same numbers, cut off from the gradient."""
        return Mlp(
            tuple(w.detach() for w in self.weights),
            tuple(b.detach() for b in self.biases),
        )

    def tensors(self) -> list[Tensor]:
        """Return all parameters, layer by layer."""
        return [t for pair in zip(self.weights, self.biases, strict=True) for t in pair]


def view_mlp(flat: Tensor, shape: MlpShape, gradient: Tensor | None = None) -> Mlp:
    """Lay a network over a flat vector without copying.

    Args:
        flat: Parameters ``[num_parameters]``.
        shape: Layer widths.
        gradient: Flat vector of the same length in which autograd accumulates; None: no gradient.

    Returns:
        The layers; leaves of autograd where ``gradient`` is given.
    """
    weights: list[Tensor] = []
    biases: list[Tensor] = []
    offset = 0
    lead = (shape.ensemble,) if shape.ensemble else ()
    for fan_in, fan_out in zip(shape.sizes[:-1], shape.sizes[1:], strict=True):
        bias_shape = (*lead, 1, fan_out) if lead else (fan_out,)
        for dims, into in (((*lead, fan_in, fan_out), weights), (bias_shape, biases)):
            length = int(np.prod(dims))
            leaf = flat.detach()[offset : offset + length].view(dims)
            if gradient is not None:
                leaf.requires_grad_(True)
                leaf.grad = gradient[offset : offset + length].view(dims)
            into.append(leaf)
            offset += length
    return Mlp(tuple(weights), tuple(biases))


def forward(net: Mlp, x: Float[Tensor, "N inputs"]) -> Float[Tensor, "N outputs"]:
    """Run one network on a batch.

    Args:
        net: A single network.
        x: Inputs.

    Returns:
        Linear outputs of the last layer.
    """
    last = len(net.weights) - 1
    for layer, (weight, bias) in enumerate(zip(net.weights, net.biases, strict=True)):
        x = torch.addmm(bias, x, weight)
        if layer < last:
            x = torch.relu_(x)
    return x


def forward_ensemble(net: Mlp, x: Float[Tensor, "N inputs"]) -> Float[Tensor, "E N outputs"]:
    """Run every member of an ensemble on the same batch.

    Args:
        net: An ensemble, with a leading axis on its parameters.
        x: Inputs, shared by the members.

    Returns:
        Linear outputs of the last layer, one slice a member.
    """
    last = len(net.weights) - 1
    h = x.expand(net.weights[0].shape[0], -1, -1)
    for layer, (weight, bias) in enumerate(zip(net.weights, net.biases, strict=True)):
        h = torch.baddbmm(bias, h, weight)
        if layer < last:
            h = torch.relu_(h)
    return h


def critic_values(
    net: Mlp,
    obs: Float[Tensor, "N obs_dim"],
    action: Float[Tensor, "N action_dim"],
    latent: Float[Tensor, "N latent_dim"],
) -> Float[Tensor, "2 N"]:
    """Evaluate the twin critics Q1, Q2 at (s, a, z).

    Args:
        net: The stacked twins.
        obs: Observations s.
        action: Actions a.
        latent: Task latents z, one a row.

    Returns:
        Both values of every row, in units of scaled reward.
    """
    return forward_ensemble(net, torch.cat((obs, action, latent), dim=1)).squeeze(2)
