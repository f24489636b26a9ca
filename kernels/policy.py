"""Actions of a tanh-Gaussian policy π(a|s, z) for a batch of observations."""

from __future__ import annotations

import math

import numpy as np
from numba import types

from kernels._jit import F4_1, F4_2, I8_1, OUT_F4_2, helper, jit
from kernels.mlp import PANEL, Floats, Ints, check_network, copy_row, forward_panel, panel_width

# Limits of the log standard deviation: the authors' code (also SAC's).
_MIN_LOG_STD, _MAX_LOG_STD = -20.0, 2.0


@helper
def _check(params: Floats, sizes: Ints, obs: Floats, latent: Floats, out_action: Floats) -> None:
    """Raise ValueError unless the shapes fit together."""
    check_network(params, sizes, obs.shape[1] + latent.shape[1], 2 * out_action.shape[1])
    if latent.shape[0] != obs.shape[0] or out_action.shape[0] != obs.shape[0]:
        raise ValueError("obs, latent, out_action: numbers of rows differ")


@helper
def _fill_inputs(
    obs: Floats, latent: Floats, start: int, rows: int, width: int, panel: Floats
) -> None:
    """Copy the rows [obs, latent] from ``start`` on into a panel."""
    obs_dim, latent_dim = obs.shape[1], latent.shape[1]
    flat_obs, flat_latent = obs.reshape(-1), latent.reshape(-1)
    for i in range(rows):
        copy_row(flat_obs, (start + i) * obs_dim, obs_dim, panel, i * width)
        copy_row(flat_latent, (start + i) * latent_dim, latent_dim, panel, i * width + obs_dim)


@jit(types.void(F4_1, I8_1, F4_2, F4_2, F4_2, OUT_F4_2))
def act(
    params: Floats, sizes: Ints, obs: Floats, latent: Floats, noise: Floats, out_action: Floats
) -> None:
    """Draw actions a = tanh(mean + exp(log_std) · noise).

    Args:
        params: Flat parameters; the last layer is (mean | log_std).
        sizes: Layer widths, from obs_dim + latent_dim to 2 · action_dim.
        obs: ``[N, obs_dim]``.
        latent: ``[N, latent_dim]``.
        noise: ``[N, action_dim]`` standard normal.
        out_action: ``[N, action_dim]`` in [-1, 1], written.

    Raises:
        ValueError: The shapes do not fit together.

    Source: smac-reference section 1; log_std is clamped to [-20, 2].
    """
    _check(params, sizes, obs, latent, out_action)
    if noise.shape != out_action.shape:
        raise ValueError("noise: expected the shape of out_action")
    width, dim = panel_width(sizes), out_action.shape[1]
    panel_a = np.empty(min(PANEL, len(obs)) * width, np.float32)
    panel_b = np.empty_like(panel_a)
    for start in range(0, len(obs), PANEL):
        rows = min(PANEL, len(obs) - start)
        _fill_inputs(obs, latent, start, rows, width, panel_a)
        result = forward_panel(params, sizes, panel_a, panel_b, rows, width)
        for i in range(rows):
            for j in range(dim):
                mean = np.float64(result[i * width + j])
                log_std = np.float64(result[i * width + dim + j])
                # np.minimum and np.maximum let every NaN through, min and max need not.
                std = math.exp(np.minimum(np.maximum(log_std, _MIN_LOG_STD), _MAX_LOG_STD))
                out_action[start + i, j] = math.tanh(mean + std * noise[start + i, j])


@jit(types.void(F4_1, I8_1, F4_2, F4_2, OUT_F4_2))
def act_mean(params: Floats, sizes: Ints, obs: Floats, latent: Floats, out_action: Floats) -> None:
    """Compute the deterministic actions a = tanh(mean).

    Args:
        params: Flat parameters; the last layer is (mean | log_std).
        sizes: Layer widths, from obs_dim + latent_dim to 2 · action_dim.
        obs: ``[N, obs_dim]``.
        latent: ``[N, latent_dim]``.
        out_action: ``[N, action_dim]`` in [-1, 1], written.

    Raises:
        ValueError: The shapes do not fit together.
    """
    _check(params, sizes, obs, latent, out_action)
    width, dim = panel_width(sizes), out_action.shape[1]
    panel_a = np.empty(min(PANEL, len(obs)) * width, np.float32)
    panel_b = np.empty_like(panel_a)
    for start in range(0, len(obs), PANEL):
        rows = min(PANEL, len(obs) - start)
        _fill_inputs(obs, latent, start, rows, width, panel_a)
        result = forward_panel(params, sizes, panel_a, panel_b, rows, width)
        for i in range(rows):
            for j in range(dim):
                out_action[start + i, j] = math.tanh(np.float64(result[i * width + j]))
