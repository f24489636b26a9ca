"""The comparison of methods: interquartile means, probability of improvement, normalised scores."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field

import numpy as np

from pipeline.intervals import Interval, bootstrap_interval
from pipeline.report_data import EnvResults, MethodResults, Results
from pipeline.report_numbers import MethodNumbers, Numbers
from pipeline.report_quantities import FLOORS, last_episode
from pipeline.report_statistics import (
    Resamples,
    improvement_interval,
    iqm_interval,
    mean_interval,
    percentiles,
    profile,
    resample,
)
from pipeline.sections import ReportConfig

ORACLES = ("oracle", "oracle-scratch")  # the first that was measured gives the scale
PRIOR = "test_prior"  # the arm without adaptation
_THRESHOLDS = 81  # points of a profile


@dataclass(frozen=True)
class Profile:
    """A performance profile.

    Args:
        thresholds: ``[K]`` scores.
        share: ``[K]`` share of seeds and tasks above each.
        low: ``[K]`` lower end of its interval.
        high: ``[K]`` upper end.
    """

    thresholds: np.ndarray
    share: np.ndarray
    low: np.ndarray
    high: np.ndarray


@dataclass(frozen=True)
class Scale:
    """What a normalised score of an environment means.

    Args:
        floor: Name of the better floor, which scores 0.
        low: Its mean return.
        oracle: Label of the oracle, which scores 1.
        high: Its mean return after its last round.
    """

    floor: str
    low: float
    oracle: str
    high: float


@dataclass
class MethodComparison:
    """One method in one environment.

    Args:
        name: Name of the method.
        label: For people.
        last: Its last evaluated round.
        resamples: By round, of the return on held-out tasks after adaptation.
        mean: Interval of its mean, by round; the tasks are kept, as everywhere here.
        iqm: Interval of its interquartile mean, by round.
        unadapted: Interval of the interquartile mean without adaptation, by round.
        above_unadapted: Last round's return minus that without adaptation, paired; None: one of
            the two was not measured.
        above_random: The same minus the return of random actions.
    """

    name: str
    label: str
    last: int
    resamples: dict[int, Resamples] = field(default_factory=dict)
    mean: dict[int, Interval] = field(default_factory=dict)
    iqm: dict[int, Interval] = field(default_factory=dict)
    unadapted: dict[int, Interval] = field(default_factory=dict)
    above_unadapted: Interval | None = None
    above_random: Interval | None = None


@dataclass
class EnvComparison:
    """All methods of one environment that were evaluated.

    Args:
        name: Name of the environment.
        methods: In the order of the run.
        offline: Probability of improvement after the offline phase, by pairs of names.
        final: The same after each method's last round.
        profiles: By method, of its last round.
        scale: What a normalised score means; None: no floor or no oracle, or they do not differ.
    """

    name: str
    methods: list[MethodComparison] = field(default_factory=list)
    offline: dict[tuple[str, str], Interval] = field(default_factory=dict)
    final: dict[tuple[str, str], Interval] = field(default_factory=dict)
    profiles: dict[str, Profile] = field(default_factory=dict)
    scale: Scale | None = None


@dataclass
class Comparison:
    """The comparison of a whole run.

    Args:
        envs: Each environment with an evaluation.
        normalised: Interquartile mean of the normalised scores of all environments that have a
            scale, by label, where the method was measured in each of them.
    """

    envs: list[EnvComparison] = field(default_factory=list)
    normalised: dict[str, Interval] = field(default_factory=dict)


def arm_scores(
    method: MethodResults, seeds: tuple[int, ...], number: int, arm: str
) -> tuple[list[int], np.ndarray] | None:
    """Collect the returns of the last episodes of one arm.

    Args:
        method: What was read.
        seeds: Seeds of the run.
        number: The round.
        arm: Name of the arm; ``test`` or ``train``: the one that the run reports.

    Returns:
        The seeds that have it, and ``[S, T, R]``; None: no seed has it.
    """
    known, tables = [], []
    for seed in seeds:
        evaluation = method.evaluations.get((seed, number))
        if evaluation is None:
            continue
        arrays = evaluation.adapted(arm) if arm in {"test", "train"} else evaluation.arms.get(arm)
        if arrays is not None:
            known.append(seed)
            played = arrays["episode_length"] > 0
            tables.append(last_episode(arrays["episode_return"], played))
    if not tables:
        return None
    repeats = max(table.shape[1] for table in tables)
    padded = [
        np.pad(table, ((0, 0), (0, repeats - table.shape[1])), constant_values=np.nan)
        for table in tables
    ]
    return known, np.stack(padded)


def compare(results: Results, numbers: Numbers) -> Comparison:
    """Compare all methods.

    Args:
        results: What was read.
        numbers: The means and floors of the report.

    Returns:
        The comparison.
    """
    out = Comparison()
    for place, env in enumerate(results.envs):
        found = _compare_env(env, numbers, results.run.seeds, place * len(results.run.methods))
        if found.methods:
            out.envs.append(found)
    out.normalised = _normalised(out.envs, numbers.config)
    return out


def _compare_env(
    env: EnvResults, numbers: Numbers, seeds: tuple[int, ...], streams: int
) -> EnvComparison:
    """Compare the methods in one environment, with random numbers from stream `streams` on."""
    config = numbers.config
    out = EnvComparison(env.name, scale=_scale(env.name, numbers))
    random = _random_table(numbers.methods[env.name])
    pairs = zip(env.methods, numbers.methods[env.name], strict=True)
    for stream, (method, known) in enumerate(pairs, start=streams):
        if known.rounds:
            out.methods.append(_compare_method(method, known, config, seeds, stream))
            _bars(out.methods[-1], known, random, config)
    out.offline = _improvements(out.methods, config, last=False)
    out.final = _improvements(out.methods, config, last=True)
    out.profiles = _profiles(out.methods, config)
    return out


def _compare_method(
    method: MethodResults,
    known: MethodNumbers,
    config: ReportConfig,
    seeds: tuple[int, ...],
    stream: int,
) -> MethodComparison:
    out = MethodComparison(method.name, method.label, known.rounds[-1])
    for number in known.rounds:
        found = arm_scores(method, seeds, number, "test")
        if found is not None:
            out.resamples[number] = resample(found[1], config.bootstrap_samples, stream)
            out.mean[number] = mean_interval(out.resamples[number], config.confidence)
            out.iqm[number] = iqm_interval(out.resamples[number], config.confidence)
        prior = arm_scores(method, seeds, number, PRIOR)
        if prior is not None:
            drawn = resample(prior[1], config.bootstrap_samples, stream)
            out.unadapted[number] = iqm_interval(drawn, config.confidence)
    return out


def _random_table(methods: list[MethodNumbers]) -> np.ndarray | None:
    tables = [m.tables[0, "random_return"] for m in methods if (0, "random_return") in m.tables]
    return tables[0] if tables else None


def _bars(
    out: MethodComparison, known: MethodNumbers, random: np.ndarray | None, config: ReportConfig
) -> None:
    """Tell how far a method ends above its un-adapted policy and above random actions."""
    adapted = known.tables.get((out.last, "test_return"))
    out.above_unadapted = difference(
        adapted, known.tables.get((out.last, "test_prior_return")), config
    )
    out.above_random = difference(adapted, random, config)


def difference(
    first: np.ndarray | None, second: np.ndarray | None, config: ReportConfig
) -> Interval | None:
    """Compute the mean of a difference with its interval, paired by seed and task.

    Args:
        first: ``[S, T]`` the one; None: not measured.
        second: ``[S, T]`` the other.
        config: How intervals are made.

    Returns:
        The interval of first minus second; None: they cannot be compared.
    """
    if first is None or second is None or first.shape != second.shape:
        return None
    if not np.isfinite(first - second).any():
        return None
    return bootstrap_interval(
        first - second, samples=config.bootstrap_samples, confidence=config.confidence
    )


def _improvements(
    methods: list[MethodComparison], config: ReportConfig, *, last: bool
) -> dict[tuple[str, str], Interval]:
    found = {m.name: m.resamples.get(m.last if last else 0) for m in methods}
    out: dict[tuple[str, str], Interval] = {}
    names = list(found)
    for place, name in enumerate(names):
        for other in names[place + 1 :]:
            one, two = found[name], found[other]
            if one is None or two is None or one.point.shape[1] != two.point.shape[1]:
                continue
            value = improvement_interval(one, two, config.confidence)
            out[name, other] = value
            out[other, name] = Interval(
                *(1.0 - value.mean, 1.0 - value.high, 1.0 - value.low),
                *(value.num_seeds, value.num_tasks),
            )
    return out


def _profiles(methods: list[MethodComparison], config: ReportConfig) -> dict[str, Profile]:
    known = {m.name: m.resamples[m.last] for m in methods if m.last in m.resamples}
    pooled = [r.point[np.isfinite(r.point)] for r in known.values()]
    values = np.concatenate(pooled) if pooled else np.zeros(0)
    if len(values) == 0:
        return {}
    # A few failures may lie far below; the profile is about the rest.
    low, high = np.quantile(values, [0.01, 1.0])
    thresholds = np.linspace(low, high, _THRESHOLDS)
    out = {}
    for name, drawn in known.items():
        flat = drawn.drawn.reshape(len(drawn.drawn), -1)
        ends = percentiles(profile(flat, thresholds), config.confidence)
        out[name] = Profile(thresholds, profile(drawn.point.ravel(), thresholds), *ends)
    return out


def _scale(env: str, numbers: Numbers) -> Scale | None:
    """Find what scores 0 and 1: the better floor, and the oracle after its last round."""
    floors = numbers.floors[env]
    methods = {m.name: m for m in numbers.methods[env]}
    for name in ORACLES:
        oracle = methods.get(name)
        if oracle is None or not floors or not oracle.rounds:
            continue
        high = oracle.at.get((oracle.rounds[-1], "test_return"))
        better = max(floors, key=lambda floor: floors[floor].mean)
        if high is not None and high.mean > floors[better].mean:
            return Scale(FLOORS[better], floors[better].mean, oracle.label, high.mean)
    return None


def _normalised(envs: list[EnvComparison], config: ReportConfig) -> dict[str, Interval]:
    """Pool the normalised scores of all environments that have a scale; each is its own stratum."""
    scaled = [(env, env.scale) for env in envs if env.scale is not None]
    pools: dict[str, list[Resamples]] = {}
    for env, scale in scaled:
        for method in env.methods:
            drawn = method.resamples.get(method.last)
            if drawn is not None:
                pools.setdefault(method.label, []).append(_rescaled(drawn, scale))
    return {
        label: _pooled(parts, config) for label, parts in pools.items() if len(parts) == len(scaled)
    }


def _rescaled(drawn: Resamples, scale: Scale) -> Resamples:
    def normal(returns: np.ndarray) -> np.ndarray:
        return (returns - scale.low) / (scale.high - scale.low)

    return dataclasses.replace(
        drawn,
        point=normal(drawn.point),
        by_seed=normal(drawn.by_seed),
        drawn=normal(drawn.drawn),
    )


def _pooled(parts: list[Resamples], config: ReportConfig) -> Interval:
    """Join environments as columns of one table, with as many seeds as all of them have."""
    seeds = min(len(part.point) for part in parts)

    def joined(name: str) -> np.ndarray:
        return np.concatenate([getattr(part, name)[..., :seeds, :] for part in parts], axis=-1)

    table = Resamples(
        joined("point"),
        joined("by_seed"),
        joined("drawn"),
        varied=any(part.varied for part in parts),
        few=any(part.few for part in parts),
    )
    return iqm_interval(table, config.confidence)
