"""Means with bootstrap intervals over seeds and tasks: how sure a number of the report is."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

RESAMPLING_SEED = 0  # every interval of a report resamples alike, so that it can be made again


@dataclass(frozen=True)
class Interval:
    """A mean and how far it could be off.

    Args:
        mean: Over seeds and tasks.
        low: Lower end of the interval; nan where a single value leaves nothing to resample.
        high: Upper end.
        num_seeds: Seeds behind it.
        num_tasks: Tasks behind it.
    """

    mean: float
    low: float
    high: float
    num_seeds: int
    num_tasks: int

    @property
    def known(self) -> bool:
        """Whether there is an interval at all."""
        return bool(np.isfinite(self.low) and np.isfinite(self.high))

    @property
    def includes_zero(self) -> bool:
        """Whether zero cannot be told from the mean; so it is without an interval."""
        return not self.known or self.low <= 0.0 <= self.high


def bootstrap_interval(
    values: np.ndarray, *, samples: int = 2000, confidence: float = 0.95
) -> Interval:
    """Compute the mean of a table and its percentile bootstrap interval.

    Seeds are resampled whole, and so are tasks, because every seed meets the same tasks: a draw of
    single cells would take the spread between tasks, which all seeds share, for mere noise.

    Args:
        values: ``[S, T]``, a value a seed and task; nan: missing.
        samples: Number of resamples.
        confidence: Mass of the interval, between 0 and 1.

    Returns:
        Mean and interval; nan throughout when every value is missing.

    Raises:
        ValueError: Not a table, or a confidence that is no probability.

    Source: the pigeonhole bootstrap, Owen 2007, "The pigeonhole bootstrap", Eq. (4).
    """
    if values.ndim != 2:
        raise ValueError(f"expected [seeds, tasks], found shape {values.shape}")
    if not 0.0 < confidence < 1.0:
        raise ValueError(f"expected a confidence between 0 and 1, found {confidence}")
    known = np.isfinite(values)
    values, known = values[known.any(axis=1)], known[known.any(axis=1)]
    num_seeds, num_tasks = values.shape[0], int(known.any(axis=0).sum())
    if num_seeds == 0:
        return Interval(np.nan, np.nan, np.nan, 0, 0)
    filled = np.where(known, values, 0.0).astype(np.float64)
    mean = float(filled.sum() / known.sum())
    if known.sum() == 1:
        return Interval(mean, np.nan, np.nan, num_seeds, num_tasks)
    low, high = np.quantile(
        _resampled_means(filled, known, samples), [0.5 - confidence / 2, 0.5 + confidence / 2]
    )
    return Interval(mean, float(low), float(high), num_seeds, num_tasks)


def _resampled_means(filled: np.ndarray, known: np.ndarray, samples: int) -> np.ndarray:
    rng = np.random.default_rng(RESAMPLING_SEED)
    weights = [rng.multinomial(n, np.full(n, 1.0 / n), samples) for n in filled.shape]
    total = ((weights[0] @ filled) * weights[1]).sum(axis=1)
    count = ((weights[0] @ known) * weights[1]).sum(axis=1)
    means: np.ndarray = total[count > 0] / count[count > 0]
    return means
