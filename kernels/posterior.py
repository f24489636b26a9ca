"""The encoder's posterior over tasks: a product of one Gaussian factor a transition."""

from __future__ import annotations

import math

import numpy as np
from numba import types

from kernels._jit import F4_2, I8_1, OUT_F4_1, OUT_F4_2, helper, jit
from kernels.mlp import Floats, Ints

# Smallest variance of a factor: the authors' code clamps before the reciprocal.
_MIN_VARIANCE = 1e-7


@helper
def _softplus(x: float) -> float:
    """Compute log(1 + e^x) without overflow."""
    return max(x, 0.0) + math.log1p(math.exp(-abs(x)))


@helper
def _check_starts(starts: Ints, num_rows: int) -> None:
    """Raise ValueError unless the groups lie one after another inside the rows."""
    if starts.size < 1 or starts[0] < 0 or starts[-1] > num_rows:
        raise ValueError("starts: outside the rows of encoded")
    for g in range(starts.size - 1):
        if starts[g] > starts[g + 1]:
            raise ValueError("starts: decreasing")


@jit(types.void(F4_2, I8_1, OUT_F4_2, OUT_F4_2))
def product_of_gaussians(
    encoded: Floats, starts: Ints, out_mean: Floats, out_variance: Floats
) -> None:
    """Multiply the factors of each group of transitions; sums are float64, in row order.

    A factor is N(m, v) with m the first L columns and v = softplus of the last L columns, at least
    1e-7: a variance, not a standard deviation. An empty group has the prior, N(0, I).

    Args:
        encoded: ``[N, 2L]`` outputs of the encoder.
        starts: ``[G + 1]``; group g is rows starts[g] … starts[g + 1] - 1.
        out_mean: ``[G, L]``, written: variance · Σ m_i / v_i.
        out_variance: ``[G, L]``, written: 1 / Σ 1 / v_i.

    Raises:
        ValueError: The shapes do not fit together, or starts leave the rows or decrease.

    Source: smac-reference section 1; the prior is not a factor.
    """
    num_groups, dim = out_mean.shape
    if encoded.shape[1] != 2 * dim or out_variance.shape != out_mean.shape:
        raise ValueError("encoded, out_mean, out_variance: widths differ")
    if starts.size != num_groups + 1:
        raise ValueError("starts: expected one more than rows of out_mean")
    _check_starts(starts, encoded.shape[0])
    for g in range(num_groups):
        if starts[g] == starts[g + 1]:
            out_mean[g] = 0.0
            out_variance[g] = 1.0
            continue
        for j in range(dim):
            precision = weighted = 0.0
            for i in range(starts[g], starts[g + 1]):
                # np.maximum lets every NaN through, max need not.
                variance = np.maximum(_softplus(np.float64(encoded[i, dim + j])), _MIN_VARIANCE)
                precision += 1.0 / variance
                weighted += encoded[i, j] / variance
            out_variance[g, j] = 1.0 / precision
            out_mean[g, j] = weighted / precision


@jit(types.void(F4_2, F4_2, OUT_F4_1))
def kl_to_prior(mean: Floats, variance: Floats, out: Floats) -> None:
    """Compute KL(N(mean, variance) ‖ N(0, I)), summed over dimensions.

    Args:
        mean: ``[G, L]``.
        variance: ``[G, L]``, above 0.
        out: ``[G]`` in nats, written.

    Raises:
        ValueError: The shapes differ.

    Source: smac-reference section 2.2.
    """
    if variance.shape != mean.shape or out.size != mean.shape[0]:
        raise ValueError("mean, variance, out: shapes differ")
    for g in range(mean.shape[0]):
        total = 0.0
        for j in range(mean.shape[1]):
            m, v = np.float64(mean[g, j]), np.float64(variance[g, j])
            total += 0.5 * (v + m * m - 1.0 - math.log(v))
        out[g] = total
