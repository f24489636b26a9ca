"""Convolutions that learn where things are before meta-training, and then stay as they are.

Pictures are then encoded once a batch and not once an update, which is most of an update's cost,
and the inner step reads the same points throughout.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor
from torch.func import grad_and_value

from smac_core.gmps.convolution import CHANNELS, Picture, encode

ROWS, RATE = 128, 3e-3  # of an update; the step size falls to nothing by the last one

Fitted = dict[str, Tensor]


def fit_convolutions(
    policy: Mapping[str, Tensor],
    obs: np.ndarray,
    position: np.ndarray,
    picture: Picture,
    updates: int,
    rng: np.random.Generator,
) -> tuple[Fitted, float]:
    """Fit a linear map of the points to positions, by Adam on map and convolutions.

    Args:
        policy: Parameters, of which the convolutions are fitted.
        obs: ``[N, obs_dim]``.
        position: ``[N, xy]`` (m), where what matters is.
        picture: Shape of the picture that an observation begins with.
        updates: How many.
        rng: Draws rows.

    Returns:
        The convolutions, and the root mean square error (m) of a coordinate over all rows.
    """
    device = policy["log_std"].device
    seen = torch.from_numpy(obs).to(device)
    spread = position.std(axis=0, dtype=np.float64) + 1e-8
    wanted = torch.from_numpy((position - position.mean(axis=0)) / spread).to(seen)
    points = 2 * CHANNELS
    fitted = {name: p.clone() for name, p in policy.items() if name.startswith("conv")}
    fitted["map.weight"] = seen.new_zeros(points, position.shape[1])
    fitted["map.bias"] = seen.new_zeros(position.shape[1])

    def miss(parameters: Fitted, obs: Tensor, wanted: Tensor) -> Tensor:
        found = encode(parameters, obs, picture)[:, :points]
        return found @ parameters["map.weight"] + parameters["map.bias"] - wanted

    def loss(parameters: Fitted, obs: Tensor, wanted: Tensor) -> Tensor:
        return miss(parameters, obs, wanted).square().mean()

    adam = torch.optim.Adam(list(fitted.values()), lr=RATE)
    fall = torch.optim.lr_scheduler.CosineAnnealingLR(adam, updates)
    for _ in range(updates):
        rows = torch.from_numpy(rng.integers(0, len(obs), ROWS)).to(device)
        gradient, _ = grad_and_value(loss)(fitted, seen[rows], wanted[rows])
        for name, parameter in fitted.items():
            parameter.grad = gradient[name]
        adam.step()
        fall.step()
    scale = torch.from_numpy(spread).to(seen)
    error = (miss(fitted, seen, wanted) * scale).square().mean().sqrt()
    conv = {name: p.detach() for name, p in fitted.items() if name.startswith("conv")}
    for parameter in conv.values():
        parameter.grad = None
    return conv, float(error)
