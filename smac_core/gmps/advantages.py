"""Advantages of the episodes that one inner step reads: GAE over a per-task linear baseline.

Torch-free. Source: baselines.md section 4, "Inner step".
"""

from __future__ import annotations

import numpy as np

from smac_core.gmps.config import GmpsConfig

CLIP = 10.0  # of an observation in the baseline's features
SMALL = 1e-8  # beside a standard deviation


def discounted(values: np.ndarray, factor: float) -> np.ndarray:
    """Sum what is still to come.

    Args:
        values: ``[E, H]`` float64, zero after an episode's end.
        factor: Per step.

    Returns:
        ``[E, H]`` float64: Σ_k factor^k values[t + k].
    """
    total = np.array(values, dtype=np.float64)
    for t in range(total.shape[1] - 2, -1, -1):
        total[:, t] += factor * total[:, t + 1]
    return total


def baseline(
    obs: np.ndarray, returns: np.ndarray, valid: np.ndarray, config: GmpsConfig
) -> np.ndarray:
    """Fit returns by ridge regression on the episodes themselves.

    Args:
        obs: ``[E, H, obs_dim]``.
        returns: ``[E, H]`` discounted returns to come.
        valid: ``[E, H]`` bool.
        config: Which features, and the ridge.

    Returns:
        ``[E, H]`` float64 predictions, zero where not valid.
    """
    fitted = np.zeros(returns.shape)
    if config.baseline == "none":
        return fitted
    t = np.broadcast_to(np.arange(obs.shape[1]) / 100.0, returns.shape)[..., None]
    columns = [t, t**2, t**3, np.ones_like(t)]
    if config.baseline == "linear":
        seen = np.clip(obs.astype(np.float64), -CLIP, CLIP)
        columns = [seen, seen**2, *columns]
    features = np.concatenate(columns, axis=-1)[valid]
    gram = features.T @ features + config.baseline_ridge * np.eye(features.shape[1])
    fitted[valid] = features @ np.linalg.solve(gram, features.T @ returns[valid])
    return fitted


def inner_advantages(
    obs: np.ndarray, reward: np.ndarray, length: np.ndarray, config: GmpsConfig
) -> np.ndarray:
    """Estimate the advantages of one task's episodes, standardised over its rows.

    Args:
        obs: ``[E, H, obs_dim]``.
        reward: ``[E, H]``.
        length: ``[E]`` steps.
        config: Discount, lambda, baseline.

    Returns:
        ``[E, H]`` float32; zero after an episode's end, and scaled by all rows over valid rows, so
        that a plain mean over all rows is the mean over the valid ones.
    """
    valid = np.arange(obs.shape[1]) < length[:, None]
    true = np.where(valid, reward, 0.0).astype(np.float64)
    fitted = baseline(obs, discounted(true, config.discount), valid, config)
    after = np.concatenate([fitted[:, 1:], np.zeros((len(fitted), 1))], axis=1)
    error = np.where(valid, true + config.discount * after - fitted, 0.0)
    advantage = discounted(error, config.discount * config.gae_lambda)[valid]
    out = np.zeros(true.shape, dtype=np.float32)
    normed = (advantage - advantage.mean()) / (advantage.std() + SMALL)
    out[valid] = normed * (valid.size / len(advantage))
    return out
