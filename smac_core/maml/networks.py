"""Policy, value function and advantage head, and the layers whose weights are themselves computed.

A network is a dictionary of tensors; layer i's begin with ``i.``, those of the advantage head with
``head``. A plain layer has a weight and a bias. A weight-transform layer computes the two from a
latent vector by an affine map, and the inner step adapts latent, map and shift.
Source: baselines.md section 2.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from itertools import pairwise

import numpy as np
import torch
from torch import Tensor
from torch.func import grad

from smac_core.maml.config import MamlNetworkConfig
from smac_core.maml.engine import InnerLoss, Metrics, Parameters, adapt


def initial_network(
    rng: np.random.Generator, sizes: Sequence[int], config: MamlNetworkConfig, prefix: str = ""
) -> dict[str, np.ndarray]:
    """Draw the parameters of one network.

    Args:
        rng: Generator.
        sizes: Layer widths, input to output.
        config: Kind of layer.
        prefix: Before each name.

    Returns:
        Arrays by name, float32.

    Source: weights U(±1/√in) and zero biases; latents of standard deviation 1/out and maps
    U(±1/√latent_dim), so that a weight-transform layer begins close to a plain one.
    """
    arrays: dict[str, np.ndarray] = {}
    for number, (inputs, outputs) in enumerate(pairwise(sizes)):
        name, bound = f"{prefix}{number}", 1.0 / math.sqrt(inputs)
        weight, bias = rng.uniform(-bound, bound, (inputs, outputs)), np.zeros(outputs)
        if config.layer == "plain":
            arrays |= {f"{name}.weight": weight, f"{name}.bias": bias}
            continue
        dim = config.layer_latent_dim
        spread = 1.0 / math.sqrt(dim)
        arrays |= {
            f"{name}.latent": rng.normal(0.0, 1.0 / outputs, dim),
            f"{name}.map": rng.uniform(-spread, spread, (dim, inputs + 1, outputs)),
            f"{name}.shift": np.concatenate([weight, bias[None]]),
        }
    return {name: array.astype(np.float32) for name, array in arrays.items()}


def layer_names(parameters: Mapping[str, Tensor]) -> list[str]:
    """List the layers of a dictionary of parameters, such as ``0``, ``1``, ``head0``."""
    return sorted({name.split(".")[0] for name in parameters})


def layer_weights(parameters: Mapping[str, Tensor]) -> Parameters:
    """Compute the weights and biases that layers have now.

    Args:
        parameters: Of plain or weight-transform layers.

    Returns:
        ``{layer}.weight`` ``[in, out]`` and ``{layer}.bias`` ``[out]`` of each.
    """
    weights: Parameters = {}
    for name in layer_names(parameters):
        if f"{name}.weight" in parameters:
            weights |= {key: parameters[key] for key in (f"{name}.weight", f"{name}.bias")}
            continue
        shift, transform = parameters[f"{name}.shift"], parameters[f"{name}.map"]
        flat = parameters[f"{name}.latent"] @ transform.flatten(1) + shift.flatten()
        weights |= _split(name, flat.view(shift.shape))
    return weights


def _split(name: str, full: Tensor) -> Parameters:
    return {f"{name}.weight": full[:-1], f"{name}.bias": full[-1]}


def adapt_network(
    loss: InnerLoss,
    parameters: Mapping[str, Tensor],
    rates: Mapping[str, Tensor],
    steps: int,
    *,
    second_order: bool = True,
) -> tuple[Parameters, Metrics]:
    """Take gradient steps on all parameters of a network; its layers may be of either kind.

    Args:
        loss: Of the layers' weights, on a task's rows.
        parameters: Of the network.
        rates: Step size of each parameter.
        steps: How many.
        second_order: As `smac_core.maml.engine.adapt`.

    Returns:
        The layers' weights after the steps, and the metrics before the first.
    """
    elementwise = any(rate.ndim > 0 for rate in rates.values())
    if elementwise or not any(name.endswith(".map") for name in parameters):

        def of_parameters(current: Parameters) -> tuple[Tensor, Metrics]:
            return loss(layer_weights(current))

        after, metrics = adapt(of_parameters, parameters, rates, steps, second_order=second_order)
        return layer_weights(after), metrics
    layers = [_Transform(name, parameters, rates) for name in layer_names(parameters)]
    weights, first = layer_weights(parameters), None
    for _ in range(steps):
        gradients, metrics = grad(loss, has_aux=True)(weights)
        first = first or metrics
        weights = {}
        for layer in layers:
            slope = torch.cat(
                (gradients[f"{layer.name}.weight"], gradients[f"{layer.name}.bias"][None])
            )
            weights |= layer.step(slope if second_order else slope.detach())
    return weights, first or {}


class _Transform:
    """One weight-transform layer of one task, adapted without ever writing its own map down.

    The gradient by the map is the outer product of the latent and the gradient g by the weights, so
    after k steps map_k = map - rate · Σ latent_j ⊗ g_j, of which only products with vectors are
    needed. A map is 100 times its layer: a task's own copy, differentiated twice, is what makes
    these networks slow.
    """

    def __init__(
        self, name: str, parameters: Mapping[str, Tensor], rates: Mapping[str, Tensor]
    ) -> None:
        self.name = name
        self.latent = parameters[f"{name}.latent"]
        self.map = parameters[f"{name}.map"].flatten(1)
        self.shift = parameters[f"{name}.shift"]
        self.rates = {part: rates[f"{name}.{part}"] for part in ("latent", "map", "shift")}
        self.past: list[tuple[Tensor, Tensor]] = []

    def step(self, slope: Tensor) -> Parameters:
        """Step down the gradient by the weights ``[in + 1, out]``; return the new weights."""
        g = slope.flatten()
        by_latent = self.map @ g
        for latent, before in self.past:
            by_latent = by_latent - self.rates["map"] * (before @ g) * latent
        self.past.append((self.latent, g))
        self.latent = self.latent - self.rates["latent"] * by_latent
        self.shift = self.shift - self.rates["shift"] * slope
        flat = self.latent @ self.map + self.shift.flatten()
        for latent, before in self.past:
            flat = flat - self.rates["map"] * (self.latent @ latent) * before
        return _split(self.name, flat.view(slope.shape))


def forward(
    weights: Mapping[str, Tensor], inputs: Tensor, prefix: str = ""
) -> tuple[Tensor, Tensor]:
    """Apply a network.

    Args:
        weights: Of one or several networks' layers.
        inputs: ``[N, in]``.
        prefix: Of that network's layers.

    Returns:
        Output ``[N, out]``, and the last hidden layer before its ReLU ``[N, hidden]``.
    """
    output, hidden, number = inputs, inputs, 0
    while (name := f"{prefix}{number}.weight") in weights:
        hidden = output
        x = output.relu() if number else output
        output = torch.addmm(weights[f"{prefix}{number}.bias"], x, weights[name])
        number += 1
    return output, hidden


def policy_mean(weights: Mapping[str, Tensor], obs: Tensor) -> tuple[Tensor, Tensor]:
    """Compute the policy's mean action.

    Args:
        weights: Of the policy.
        obs: ``[N, obs_dim]``.

    Returns:
        Mean ``[N, action_dim]`` in (-1, 1), and what the advantage head reads ``[N, hidden]``.
    """
    output, hidden = forward(weights, obs)
    return output.tanh(), hidden


def predicted_advantage(
    weights: Mapping[str, Tensor], hidden: Tensor, action: Tensor, *, relu_all: bool
) -> Tensor:
    """Apply the advantage head.

    Args:
        weights: Of the policy, the head's among them.
        hidden: As ``policy_mean`` returns it.
        action: ``[N, action_dim]``.
        relu_all: ReLU over the actions too, as the released code: it zeroes negative components.

    Returns:
        ``[N]``.
    """
    if relu_all:
        inputs = torch.cat((hidden, action), dim=-1).relu()
    else:
        inputs = torch.cat((hidden.relu(), action), dim=-1)
    return forward(weights, inputs, "head")[0].squeeze(-1)


def value(weights: Mapping[str, Tensor], obs: Tensor) -> Tensor:
    """Compute V(s) ``[N]`` of obs ``[N, obs_dim]``."""
    return forward(weights, obs)[0].squeeze(-1)
