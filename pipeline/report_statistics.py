"""Statistics that compare methods: interquartile means, improvement and profiles, with intervals.

Every function takes arrays and gives arrays. What is resampled, and why: docs/metrics.md.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from pipeline.intervals import RESAMPLING_SEED, Interval

_TRIMMED = 0.25  # on either side; what is left is the interquartile mean


@dataclass(frozen=True)
class Resamples:
    """Bootstrap resamples of one method's scores.

    Args:
        point: ``[S, T]`` scores as measured: means over repeats.
        by_seed: ``[B, S, T]`` the same with repeats resampled in every cell.
        drawn: ``[B, S, T]`` the same with seeds resampled as well, one draw for all tasks.
        varied: Whether there was more than a single value to draw from.
        few: Whether each seed has a single repeat, so that no resample of one seed differs.
    """

    point: np.ndarray
    by_seed: np.ndarray
    drawn: np.ndarray
    varied: bool
    few: bool


def resample(scores: np.ndarray, samples: int, stream: int = 0) -> Resamples:
    """Draw seeds with replacement, and repeats with replacement within each seed and task.

    The tasks are the strata: every resample holds each of them. One draw of seeds serves all
    tasks, because a seed is one training run that meets them all; a draw a task would take what
    the tasks share for noise that averages out.

    Args:
        scores: ``[S, T, R]`` a value a seed, task and repeat; nan: there is none.
        samples: Number of resamples B.
        stream: Number of the random numbers; methods with different ones draw independently.

    Returns:
        The resamples.

    Raises:
        ValueError: Not such an array, or an empty one.

    Source: Agarwal et al. 2021, "Deep RL at the Edge of the Statistical Precipice", section 4.1;
        differs: there each task draws its own runs.
    """
    if scores.ndim != 3 or 0 in scores.shape:
        raise ValueError(f"expected [seeds, tasks, repeats], found shape {scores.shape}")
    seeds, tasks, repeats = scores.shape
    scores = scores.astype(np.float64)
    rng = np.random.default_rng((RESAMPLING_SEED, stream))
    point = _mean(scores.sum(axis=2, where=np.isfinite(scores)), np.isfinite(scores).sum(axis=2))
    total, count = np.zeros((2, samples, seeds, tasks))
    place = np.arange(seeds)[:, None], np.arange(tasks)
    for _ in range(repeats):  # not all at once: a tenth of the memory at the paper's size
        picked = scores[(*place, rng.integers(repeats, size=total.shape))]
        known = np.isfinite(picked)
        total += np.where(known, picked, 0.0)
        count += known
    by_seed = _mean(total, count)
    chosen = rng.integers(seeds, size=(samples, seeds, 1))
    drawn = np.take_along_axis(by_seed, chosen, axis=1)
    return Resamples(point, by_seed, drawn, seeds * repeats > 1, repeats == 1)


def _mean(total: np.ndarray, count: np.ndarray) -> np.ndarray:
    out = np.full(np.shape(total), np.nan)
    np.divide(total, count, out=out, where=np.asarray(count) > 0)
    return out


def iqm(values: np.ndarray) -> np.ndarray:
    """Average the middle half: a quarter of the values is left out at either end.

    Args:
        values: ``[..., N]``; nan: missing.

    Returns:
        ``[...]``; nan where every value is missing.

    Source: rliable's ``aggregate_iqm``, which is SciPy's ``trim_mean(values, 0.25)``.
    """
    ordered = np.sort(values, axis=-1)  # nan goes last
    count = np.isfinite(ordered).sum(axis=-1, keepdims=True)
    cut = (_TRIMMED * count).astype(np.int64)
    rank = np.arange(values.shape[-1])
    kept = (rank >= cut) & (rank < count - cut)
    return _mean(ordered.sum(axis=-1, where=kept), kept.sum(axis=-1))


def improvement(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Estimate how likely a run of one method beats a run of another, on a task drawn at random.

    Args:
        first: ``[..., S, T]`` scores of the one.
        second: ``[..., S', T]`` scores of the other on the same tasks.

    Returns:
        ``[...]`` share of pairs of seeds where the first is higher, ties count half, averaged
        over the tasks where all is known; nan where there is none.

    Source: Agarwal et al. 2021, section 4.3: the Mann-Whitney U statistic of each task.
    """
    wins = np.zeros(np.broadcast_shapes(first.shape[:-2], second.shape[:-2]) + first.shape[-1:])
    for seed in range(first.shape[-2]):  # pairs of seeds, one seed at a time: less memory
        ahead = first[..., seed : seed + 1, :] - second
        won = np.where(np.isnan(ahead), np.nan, 0.5 * (1.0 + np.sign(ahead)))
        wins += won.mean(axis=-2) / first.shape[-2]
    known = np.isfinite(wins)
    return _mean(wins.sum(axis=-1, where=known), known.sum(axis=-1))


def profile(values: np.ndarray, thresholds: np.ndarray) -> np.ndarray:
    """Compute the share of scores above each threshold: the performance profile.

    Args:
        values: ``[..., N]`` scores; nan: missing.
        thresholds: ``[K]``.

    Returns:
        ``[..., K]`` shares.

    Source: Agarwal et al. 2021, section 4.2, "score distributions".
    """
    count = np.isfinite(values).sum(axis=-1)
    above = [(values > threshold).sum(axis=-1) for threshold in thresholds]
    return _mean(np.stack(above, axis=-1), np.repeat(count[..., None], len(thresholds), axis=-1))


def percentiles(estimates: np.ndarray, confidence: float) -> tuple[np.ndarray, np.ndarray]:
    """Find the ends of a percentile interval.

    Args:
        estimates: ``[B, ...]`` one estimate a resample.
        confidence: Mass of the interval.

    Returns:
        Lower and upper ends, ``[...]``.
    """
    low, high = np.quantile(estimates, [0.5 - confidence / 2, 0.5 + confidence / 2], axis=0)
    return low, high


def interval(point: float, estimates: np.ndarray, confidence: float, seeds: int) -> Interval:
    """Put an estimate and the percentile interval of its resamples together.

    Args:
        point: The estimate.
        estimates: ``[B]``; empty: there was nothing to resample.
        confidence: Mass of the interval.
        seeds: Seeds behind it.

    Returns:
        The interval; its ends are nan when it cannot be known.
    """
    known = estimates[np.isfinite(estimates)]
    if len(known) == 0:
        return Interval(point, np.nan, np.nan, seeds, 0)
    low, high = percentiles(known, confidence)
    return Interval(point, float(low), float(high), seeds, 0)


def mean_interval(resamples: Resamples, confidence: float) -> Interval:
    """Compute the mean over seeds and tasks, with its interval.

    Args:
        resamples: Of one method.
        confidence: Mass of the interval.

    Returns:
        The interval; its ends are nan where a single seed and repeat leave nothing to draw.
    """
    known = np.isfinite(resamples.drawn)
    samples = len(known) if resamples.varied else 0
    total = resamples.drawn.sum(axis=(1, 2), where=known)
    estimates = _mean(total, known.sum(axis=(1, 2)))[:samples]
    point = resamples.point[np.isfinite(resamples.point)]
    value = float(point.mean()) if len(point) else np.nan
    found = interval(value, estimates, confidence, len(resamples.point))
    return Interval(found.mean, found.low, found.high, *resamples.point.shape)


def iqm_interval(resamples: Resamples, confidence: float) -> Interval:
    """Compute the interquartile mean over seeds and tasks, with its interval.

    Args:
        resamples: Of one method.
        confidence: Mass of the interval.

    Returns:
        The interval; its ends are nan where a single seed and repeat leave nothing to draw.
    """
    seeds, tasks = resamples.point.shape
    samples = len(resamples.drawn) if resamples.varied else 0
    estimates = iqm(resamples.drawn[:samples].reshape(samples, seeds * tasks))
    found = interval(float(iqm(resamples.point.ravel())), estimates, confidence, seeds)
    return Interval(found.mean, found.low, found.high, seeds, tasks)


def seed_intervals(resamples: Resamples, confidence: float) -> list[Interval]:
    """Compute the interquartile mean over the tasks, seed by seed; repeats alone are resampled.

    Args:
        resamples: Of one method.
        confidence: Mass of the interval.

    Returns:
        An interval a seed.
    """
    tasks = resamples.point.shape[1]
    estimates = iqm(resamples.by_seed[: 0 if resamples.few else None])
    found = [
        interval(float(value), estimates[:, seed], confidence, 1)
        for seed, value in enumerate(iqm(resamples.point))
    ]
    return [Interval(it.mean, it.low, it.high, 1, tasks) for it in found]


def improvement_interval(first: Resamples, second: Resamples, confidence: float) -> Interval:
    """Compute the probability of improvement with its interval.

    Args:
        first: Of the one method.
        second: Of the other, on the same tasks.
        confidence: Mass of the interval.

    Returns:
        The interval; its ends are nan where there is nothing to draw.
    """
    point = float(improvement(first.point, second.point))
    varied = first.varied or second.varied
    estimates = improvement(first.drawn, second.drawn) if varied else np.zeros(0)
    seeds, tasks = min(len(first.point), len(second.point)), first.point.shape[1]
    found = interval(point, estimates, confidence, seeds)
    return Interval(found.mean, found.low, found.high, seeds, tasks)
