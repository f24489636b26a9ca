"""The policy: parameters, densities for training, and plain layers for acting.

A policy is a dictionary of tensors: ``{layer}.weight``, ``{layer}.bias``, ``log_std``, and
``shift``, the learned vector that stands beside every observation ("bias transformation"); before
them stand those of `smac_core.gmps.convolution`, where observations hold a picture. What is called
an observation below is one whose picture is encoded.
Source: baselines.md section 4, "Networks".
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from smac_core.errors import ConfigError
from smac_core.gmps.config import GmpsNetworkConfig
from smac_core.gmps.convolution import Eye, Picture, encoded_dim, initial_convolution, make_eye
from smac_core.losses import HALF_LOG_TWO_PI
from smac_core.maml.config import MamlNetworkConfig
from smac_core.maml.networks import forward, initial_network
from smac_core.networks import Shapes

SMALLEST_STD = 1e-6


def initial_policy(
    rng: np.random.Generator, shapes: Shapes, networks: GmpsNetworkConfig
) -> dict[str, np.ndarray]:
    """Draw a policy.

    Args:
        rng: Generator.
        shapes: Sizes of the environment.
        networks: Widths.

    Returns:
        Arrays by name, float32.

    Raises:
        ConfigError: Convolutions are asked for, and there is no picture; or what the first layer
            is drawn for does not fit.
    """
    inputs, convolution = shapes.obs_dim, {}
    if networks.convolution:
        if shapes.picture is None:
            raise ConfigError(
                "convolutions without a picture",
                where="meta_train.networks.convolution",
                expected="an environment whose observations begin with a picture",
                fix="set it to false, or choose an environment with image_shape",
            )
        inputs = encoded_dim(inputs, shapes.picture)
        convolution = initial_convolution(rng, shapes.picture)
    sizes = (inputs + networks.bias_dim, *networks.policy, shapes.action_dim)
    arrays = convolution | initial_network(rng, sizes, MamlNetworkConfig(layer="plain"))
    if networks.obs_mean or networks.obs_spread:
        _draw_for(arrays, networks, inputs)
    arrays["log_std"] = np.full(shapes.action_dim, math.log(networks.initial_std), np.float32)
    if networks.bias_dim:
        arrays["shift"] = np.ones(networks.bias_dim, dtype=np.float32)
    return arrays


def _draw_for(arrays: dict[str, np.ndarray], networks: GmpsNetworkConfig, inputs: int) -> None:
    """Make a first layer do to observations what it did to standardised ones.

    Acting and training know nothing of it: the numbers become part of weights and biases.

    Args:
        arrays: Of the policy, changed in place.
        networks: What observations are like.
        inputs: Width of an observation.

    Raises:
        ConfigError: Other numbers of means or of spreads, or a spread that is not positive.
    """
    mean, spread = np.array(networks.obs_mean), np.array(networks.obs_spread)
    if not mean.shape == spread.shape == (inputs,) or (spread <= 0.0).any():
        raise ConfigError(
            "means and spreads that do not fit observations",
            where="meta_train.networks.obs_mean and obs_spread",
            expected=f"{inputs} numbers each, spreads above 0",
            found=f"{list(networks.obs_mean)} and {list(networks.obs_spread)}",
            fix="give both for every number of an observation, or leave both out",
        )
    weight, bias = arrays["0.weight"].astype(np.float64), arrays["0.bias"]
    weight[:inputs] /= spread[:, None]
    arrays["0.weight"] = weight.astype(np.float32)
    arrays["0.bias"] = (bias - mean @ weight[:inputs]).astype(np.float32)


def mean_action(policy: Mapping[str, Tensor], obs: Tensor) -> Tensor:
    """Compute the mean action, which has no bounds.

    Args:
        policy: Parameters.
        obs: ``[N, obs_dim]``.

    Returns:
        ``[N, action_dim]``.
    """
    if "shift" in policy:
        obs = torch.cat((obs, policy["shift"].expand(obs.shape[0], -1)), dim=-1)
    return forward(policy, obs)[0]


def log_prob(policy: Mapping[str, Tensor], obs: Tensor, action: Tensor) -> Tensor:
    """Compute log N(a; mean(s), std²).

    Args:
        policy: Parameters.
        obs: ``[N, obs_dim]``.
        action: ``[N, action_dim]``.

    Returns:
        ``[N]`` (nats).
    """
    log_std = policy["log_std"].clamp(min=math.log(SMALLEST_STD))
    scaled = (action - mean_action(policy, obs)) * (-log_std).exp()
    return (-0.5 * scaled.square() - log_std - HALF_LOG_TWO_PI).sum(dim=-1)


@dataclass(frozen=True)
class ActingPolicies:
    """P policies as plain layers in NumPy; the learned vector is part of the first bias.

    Args:
        weight: Of each layer ``[P, in, out]`` float32.
        bias: Of each layer ``[P, out]`` float32.
        std: ``[P, action_dim]`` float32.
        eye: The convolutions that all share; None: there are none.
    """

    weight: tuple[np.ndarray, ...]
    bias: tuple[np.ndarray, ...]
    std: np.ndarray
    eye: Eye | None = None

    def mean(self, rows: np.ndarray, obs: np.ndarray) -> np.ndarray:
        """Compute unbounded mean actions, each by its own policy.

        Args:
            rows: ``[n]`` which policy; with one policy it is taken throughout.
            obs: ``[n, obs_dim]`` float32.

        Returns:
            ``[n, action_dim]`` float32.
        """
        everyone = len(self.std) == 1 or np.array_equal(rows, np.arange(len(self.std)))
        seen = obs if self.eye is None else self.eye.encode(obs)
        x = seen[:, None, :].astype(np.float32)
        for number, (weight, bias) in enumerate(zip(self.weight, self.bias, strict=True)):
            own = (weight, bias) if everyone else (weight[rows], bias[rows])
            x = np.maximum(x, 0.0) if number else x
            # Row by row, not one product: a row's result must not depend on the others.
            x = np.matmul(x, own[0]) + own[1][:, None, :]
        mean: np.ndarray = x[:, 0]
        return mean

    def act(
        self, rows: np.ndarray, obs: np.ndarray, noise: np.ndarray, *, sample: bool
    ) -> np.ndarray:
        """Choose actions, cut to the bounds of the environments.

        Args:
            rows: ``[n]`` which policy.
            obs: ``[n, obs_dim]`` float32.
            noise: ``[n, action_dim]`` float32 standard normal.
            sample: Draw from the Gaussian; else take its mean.

        Returns:
            ``[n, action_dim]`` float32 in [-1, 1].
        """
        action = self.mean(rows, obs)
        if sample:
            std = self.std if len(self.std) == 1 else self.std[rows]
            action = action + std * noise
        clipped: np.ndarray = np.clip(action, -1.0, 1.0).astype(np.float32)
        return clipped

    def finite(self) -> bool:
        """Tell whether every number is finite."""
        arrays = (*self.weight, *self.bias, self.std)
        return all(np.isfinite(a).all() for a in arrays) and (self.eye is None or self.eye.finite())


def acting_policies(
    stacked: Mapping[str, Tensor], picture: Picture | None = None
) -> ActingPolicies:
    """Hand policies to NumPy.

    Args:
        stacked: Parameters whose first axis is the policy.
        picture: Shape of the picture that an observation begins with.

    Returns:
        The layers.
    """
    arrays = {name: tensor.detach().cpu().numpy() for name, tensor in stacked.items()}
    weights: list[np.ndarray] = []
    biases: list[np.ndarray] = []
    while f"{len(weights)}.weight" in arrays:
        number = len(weights)
        weights.append(arrays[f"{number}.weight"])
        biases.append(arrays[f"{number}.bias"])
    with np.errstate(over="ignore", invalid="ignore"):  # whoever asks `finite` wants to tell
        return _collapsed(arrays, weights, biases, make_eye(arrays, picture))


def _collapsed(
    arrays: Mapping[str, np.ndarray],
    weights: list[np.ndarray],
    biases: list[np.ndarray],
    eye: Eye | None,
) -> ActingPolicies:
    """Let the learned vector be part of the first bias."""
    if "shift" in arrays:
        inputs = weights[0].shape[1] - arrays["shift"].shape[1]
        biases[0] = biases[0] + np.einsum("ps,pso->po", arrays["shift"], weights[0][:, inputs:])
        weights[0] = np.ascontiguousarray(weights[0][:, :inputs])
    std = np.exp(np.maximum(arrays["log_std"], math.log(SMALLEST_STD)))
    return ActingPolicies(tuple(weights), tuple(biases), std.astype(np.float32), eye)
