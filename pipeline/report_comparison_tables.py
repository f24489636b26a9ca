"""The comparison as tables: comparison.csv and improvement.csv."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Iterator, Mapping

import numpy as np

from pipeline.report_comparison import PRIOR, Comparison, arm_scores
from pipeline.report_data import MethodResults, Results
from pipeline.report_quantities import last_episode, mean
from pipeline.report_statistics import iqm_interval, resample, seed_intervals
from pipeline.sections import ReportConfig

_COLUMNS = (
    *("environment", "method", "seed", "round", "arm", "environment_steps"),
    *("mean_return", "iqm", "iqm_low", "iqm_high"),
    *("first_return", "second_return", "last_return", "unadapted_return"),
    *("num_tasks", "num_repeats"),
)


def comparison_rows(results: Results, config: ReportConfig) -> Iterator[tuple[object, ...]]:
    """List every measured arm: a row a seed, and one, `all`, over the seeds.

    Args:
        results: What was read.
        config: How intervals are made.

    Yields:
        The head, then the rows.
    """
    yield _COLUMNS
    for env in results.envs:
        for method in env.methods:
            for number in sorted({number for _, number in method.evaluations}):
                arms = sorted(
                    {a for (_, n), e in method.evaluations.items() if n == number for a in e.arms}
                )
                for arm in arms:
                    yield from _arm_rows(env.name, method, (number, arm), results.run.seeds, config)


def _arm_rows(
    env: str,
    method: MethodResults,
    which: tuple[int, str],
    seeds: tuple[int, ...],
    config: ReportConfig,
) -> Iterator[tuple[object, ...]]:
    number, arm = which
    found = arm_scores(method, seeds, number, arm)
    if found is None:
        return
    known, scores = found
    drawn = resample(scores, config.bootstrap_samples)
    intervals = [*seed_intervals(drawn, config.confidence), iqm_interval(drawn, config.confidence)]
    evaluations = [method.evaluations[seed, number] for seed in known]
    episodes = np.array([_episode_means(e.arms[arm]) for e in evaluations])
    unadapted = [
        _episode_means(e.arms[PRIOR])[0] if arm.startswith("test_") and PRIOR in e.arms else np.nan
        for e in evaluations
    ]
    cells = np.array([mean(table) for table in scores])
    steps = np.array([e.steps for e in evaluations], dtype=np.float64)
    columns = np.column_stack([cells, episodes, unadapted])
    for place, seed in enumerate([*known, "all"]):
        over = slice(None) if seed == "all" else slice(place, place + 1)
        means = [float(value) for value in mean(columns[over], axis=0)]
        value = intervals[place]
        yield (
            *(env, method.name, seed, number, arm, float(steps[over].mean())),
            *(means[0], value.mean, value.low, value.high),
            *(*means[1:], scores.shape[1], scores.shape[2]),
        )


def _episode_means(arrays: Mapping[str, np.ndarray]) -> list[float]:
    """Average the first, the second and the last episode; nan: there is no second."""
    returns, played = arrays["episode_return"], arrays["episode_length"] > 0
    returns = np.where(played, returns, np.nan)
    second = float(mean(returns[:, :, 1])) if returns.shape[2] > 1 else np.nan
    last = float(mean(last_episode(returns, played)))
    return [float(mean(returns[:, :, 0])), second, last]


def improvement_rows(comparison: Comparison) -> Iterator[tuple[object, ...]]:
    """List the probability that each method improves on each other.

    Args:
        comparison: The comparison.

    Yields:
        The head, then the rows.
    """
    yield (
        *("environment", "when", "method", "other", "probability", "low", "high"),
        *("num_seeds", "num_tasks"),
    )
    for env in comparison.envs:
        for when, pairs in (("offline", env.offline), ("last", env.final)):
            for (name, other), value in sorted(pairs.items()):
                ends = (value.mean, value.low, value.high, value.num_seeds, value.num_tasks)
                yield (env.name, when, name, other, *ends)


def csv_text(rows: Iterable[Iterable[object]]) -> str:
    """Write a table; what is not known stays empty.

    Args:
        rows: The head, then the rows.

    Returns:
        CSV text.
    """
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    for row in rows:
        writer.writerow(
            ["" if isinstance(v, float) and not np.isfinite(v) else _plain(v) for v in row]
        )
    return stream.getvalue()


def _plain(value: object) -> object:
    return repr(float(value)) if isinstance(value, float) else value
