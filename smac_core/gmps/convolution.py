"""Pictures as points: three convolutions, and where each channel sees what it looks for.

An observation begins with a picture in [0, 1], flattened; what follows it passes by. The weights
are part of a policy (``conv0.weight`` and so on) and have no inner step size: every adapted policy
of one un-adapted policy has the same, so that pictures are encoded before the inner step.

Source: baselines.md section 4, "Conv (push from pixels)" and ``conv_fcBiasAda``.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import conv2d, pad

KERNELS, STRIDES, CHANNELS = (5, 3, 3), (3, 3, 1), 16
CHUNK = 512  # rows that are encoded at once, for the cache: half as long again without it

Picture = tuple[int, int, int]
"""Height, width, channels."""


def encoded_dim(obs_dim: int, picture: Picture) -> int:
    """Tell how long an observation is when its picture is encoded."""
    return obs_dim - math.prod(picture) + 2 * CHANNELS


def initial_convolution(rng: np.random.Generator, picture: Picture) -> dict[str, np.ndarray]:
    """Draw the convolutions.

    Args:
        rng: Generator.
        picture: What they look at.

    Returns:
        Arrays by name, float32.

    Source: weights U(±√(6 / in)), which keep the size of what passes a ReLU, and zero biases.
    """
    arrays, inputs = {}, picture[2]
    for number, kernel in enumerate(KERNELS):
        shape = (CHANNELS, inputs, kernel, kernel)
        bound = math.sqrt(6.0 / math.prod(shape[1:]))
        arrays[f"conv{number}.weight"] = rng.uniform(-bound, bound, shape).astype(np.float32)
        arrays[f"conv{number}.bias"] = np.zeros(CHANNELS, dtype=np.float32)
        inputs = CHANNELS
    return arrays


def same(size: int, kernel: int, stride: int) -> tuple[int, int]:
    """Tell how much is padded before and after, so that ⌈size / stride⌉ places come out."""
    total = max(0, (math.ceil(size / stride) - 1) * stride + kernel - size)
    return total // 2, total - total // 2


def encode(policy: Mapping[str, Tensor], obs: Tensor, picture: Picture | None) -> Tensor:
    """Put points in the place of pictures.

    Args:
        policy: Parameters; without convolutions, observations are returned as they are.
        obs: ``[…, obs_dim]``.
        picture: Shape of the picture that an observation begins with.

    Returns:
        ``[…, 32 + rest]``: x of each channel's point in [-1, 1], y of each, then what follows the
        picture.
    """
    if "conv0.weight" not in policy:
        return obs
    assert picture is not None, "convolutions are drawn for environments with pictures alone"
    flat = obs.flatten(0, -2)
    starts = range(0, len(flat), CHUNK)
    encoded = torch.cat([_encode(policy, flat[i : i + CHUNK], picture) for i in starts])
    return encoded.reshape(*obs.shape[:-1], -1)


def _encode(policy: Mapping[str, Tensor], obs: Tensor, picture: Picture) -> Tensor:
    """Encode ``[N, obs_dim]``."""
    pixels = math.prod(picture)
    x = obs[:, :pixels].reshape(-1, *picture).permute(0, 3, 1, 2)
    for number, (kernel, stride) in enumerate(zip(KERNELS, STRIDES, strict=True)):
        down, across = (same(size, kernel, stride) for size in x.shape[2:])
        x = pad(x, (*across, *down))
        x = conv2d(x, policy[f"conv{number}.weight"], policy[f"conv{number}.bias"], stride)
        x = x.relu()
    return torch.cat((_points(x), obs[:, pixels:]), dim=1)


def _points(x: Tensor) -> Tensor:
    """Take the mean place under each channel's softmax: ``[N, C, H, W]`` to ``[N, 2 C]``."""
    weight = x.flatten(2).softmax(dim=2)
    places = torch.from_numpy(grid(x.shape[2], x.shape[3])).to(x.device)
    return (weight @ places).transpose(1, 2).flatten(1)


def grid(height: int, width: int) -> np.ndarray:
    """Lay x and y in [-1, 1] over a picture, ``[height * width, 2]`` float32."""
    y, x = np.meshgrid(np.linspace(-1, 1, height), np.linspace(-1, 1, width), indexing="ij")
    return np.stack([x.reshape(-1), y.reshape(-1)], axis=1).astype(np.float32)


@dataclass(frozen=True)
class Eye:
    """The convolutions in NumPy, for acting.

    Args:
        weight: Of each ``[kernel · kernel · in, 16]`` float32.
        bias: Of each ``[16]`` float32.
        picture: What is looked at.
    """

    weight: tuple[np.ndarray, ...]
    bias: tuple[np.ndarray, ...]
    picture: Picture

    def encode(self, obs: np.ndarray) -> np.ndarray:
        """Put points in the place of pictures, row by row.

        Args:
            obs: ``[n, obs_dim]`` float32.

        Returns:
            ``[n, encoded]`` float32.
        """
        pixels = math.prod(self.picture)
        x = obs[:, :pixels].reshape(-1, *self.picture)
        for layer in zip(self.weight, self.bias, KERNELS, STRIDES, strict=True):
            x = _convolved(x, *layer)
        flat = x.reshape(len(x), -1, CHANNELS)
        weight = np.exp(flat - flat.max(axis=1, keepdims=True))
        weight /= weight.sum(axis=1, keepdims=True)
        points = np.matmul(weight.transpose(0, 2, 1), grid(*x.shape[1:3]))
        # As torch has it: x of every channel, then y of every channel.
        points = points.transpose(0, 2, 1).reshape(len(x), -1)
        return np.concatenate([points, obs[:, pixels:]], axis=1)

    def finite(self) -> bool:
        """Tell whether every number is finite."""
        return all(np.isfinite(array).all() for array in (*self.weight, *self.bias))


def _convolved(
    x: np.ndarray, weight: np.ndarray, bias: np.ndarray, kernel: int, stride: int
) -> np.ndarray:
    """Convolve ``[n, H, W, C]`` and cut below zero; one product a row, so that rows are alone."""
    down, across = (same(size, kernel, stride) for size in x.shape[1:3])
    num, height, width, channels = x.shape
    padded = np.zeros((num, height + sum(down), width + sum(across), channels), np.float32)
    padded[:, down[0] : down[0] + height, across[0] : across[0] + width] = x
    seen = np.lib.stride_tricks.sliding_window_view(padded, (kernel, kernel), axis=(1, 2))
    seen = seen[:, ::stride, ::stride]  # [n, h, w, C, kernel, kernel]
    places = seen.shape[1] * seen.shape[2]
    columns = np.ascontiguousarray(seen.transpose(0, 1, 2, 4, 5, 3)).reshape(num, places, -1)
    out = np.maximum(np.matmul(columns, weight) + bias, np.float32(0.0))
    convolved: np.ndarray = out.reshape(num, *seen.shape[1:3], -1)
    return convolved


def make_eye(policy: Mapping[str, np.ndarray], picture: Picture | None) -> Eye | None:
    """Hand the convolutions to NumPy.

    Args:
        policy: Parameters ``[P, …]``, of which all have the same convolutions.
        picture: What is looked at.

    Returns:
        The convolutions; None: the policies have none.
    """
    if "conv0.weight" not in policy:
        return None
    assert picture is not None, "convolutions are drawn for environments with pictures alone"
    numbers = range(len(KERNELS))
    weights = [policy[f"conv{n}.weight"][0].transpose(2, 3, 1, 0) for n in numbers]
    return Eye(
        tuple(np.ascontiguousarray(w).reshape(-1, CHANNELS) for w in weights),
        tuple(policy[f"conv{n}.bias"][0].copy() for n in numbers),
        picture,
    )
