"""Orderings that must come out, each checked on the numbers of the run.

Source: the issue of the comparisons of the paper's Figure 5: what theory and the paper lead one to
expect of methods that share data and evaluator.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from pipeline import config as cf
from pipeline.intervals import Interval
from pipeline.report_comparison import ORACLES, difference
from pipeline.report_data import Columns, EnvResults, MethodResults, Results
from pipeline.report_numbers import MethodNumbers, Numbers
from pipeline.report_quantities import last_episode, mean
from pipeline.report_text import number, percent, written
from pipeline.schema import EPISODE_ENDS
from pipeline.sections import ReportConfig

HOLDS, FAILS, UNKNOWN = "holds", "does not hold", "not measured"
_UNIFORM = 0.9  # effective sample size from which weights count as near uniform
_ALIKE = 0.1  # of the way from the floor to the oracle: returns that near count as alike
_ABLATIONS = ("smac-sac", "smac-sac-entropy")
_OFFLINE = (0, "test_return")
_LARGEST = "largest_own_action_value"
_OWN, _DATA = "own_action_value", "value"


@dataclass(frozen=True)
class Ordering:
    """One expectation and what became of it.

    Args:
        env: Environment.
        claim: In words.
        verdict: One of the three.
        evidence: The numbers, in words.
        value: What decided it; None: nothing was measured.
    """

    env: str
    claim: str
    verdict: str
    evidence: str
    value: Interval | None = None


def orderings(results: Results, numbers: Numbers) -> list[Ordering]:
    """Check every expectation in every environment.

    Args:
        results: What was read.
        numbers: What was computed.

    Returns:
        The outcomes.
    """
    checks: tuple[Callable[[Results, EnvResults, Numbers], list[Ordering]], ...]
    checks = (_oracle, _imitation, _overestimation)
    return [it for env in results.envs for check in checks for it in check(results, env, numbers)]


def _method(env: EnvResults, numbers: Numbers, name: str) -> MethodNumbers | None:
    found = [m for m in numbers.methods[env.name] if m.name == name and m.rounds]
    return found[0] if found else None


def _last(method: MethodNumbers | None) -> np.ndarray | None:
    return None if method is None else method.tables.get((method.rounds[-1], "test_return"))


def _oracle(results: Results, env: EnvResults, numbers: Numbers) -> list[Ordering]:
    """The oracle sees true rewards where SMAC sees generated ones, so it should not be below."""
    # One from scratch at a small budget need not reach what starts from the offline weights.
    present = [name for name in ORACLES if name in cf.methods_of(results.run, env.name)][:1]
    smac = _method(env, numbers, "smac")
    out = []
    for name in present or ORACLES[:1]:
        oracle = _method(env, numbers, name)
        label = oracle.label if oracle else name
        claim = f"{label} ≥ SMAC, after the last round of each"
        value = difference(_last(oracle), _last(smac), numbers.config)
        if value is None:
            out.append(Ordering(env.name, claim, UNKNOWN, "one of the two was not evaluated"))
            continue
        below = value.high < 0 if value.known else value.mean < 0
        told = f"difference {written(value, sign=True)}"
        if not below and value.includes_zero:
            told += "; the interval includes zero: the two are not told apart"
        out.append(Ordering(env.name, claim, FAILS if below else HOLDS, told, value))
    return out


def _imitation(_: Results, env: EnvResults, numbers: Numbers) -> list[Ordering]:
    """With near uniform weights, AWAC is behaviour cloning."""
    claim = "SMAC ≈ meta-BC after the offline phase, while the AWAC weights are near uniform"
    smac, cloned = (_method(env, numbers, name) for name in ("smac", "meta-bc"))
    first, second = (None if m is None else m.tables.get(_OFFLINE) for m in (smac, cloned))
    value = difference(first, second, numbers.config)
    effective = _logged(env, "smac", "effective_sample_size", np.mean)
    if value is None or effective is None:
        lacks = "one of the two was not evaluated" if value is None else "no weights were logged"
        return [Ordering(env.name, claim, UNKNOWN, lacks, value)]
    told = (
        f"effective sample size {number(float(effective.mean()))} (mean of the offline phase), "
        f"SMAC − meta-BC {written(value, sign=True)}"
    )
    if effective.mean() < _UNIFORM:
        told += f"; below {_UNIFORM} the weights are not near uniform, so nothing follows"
        return [Ordering(env.name, claim, UNKNOWN, told, value)]
    reach = _reach(env.name, numbers)
    if reach is not None:
        share = abs(value.mean) / reach
        told += f", {percent(share)} of the way from the floor to the best return"
        if share <= _ALIKE:
            return [Ordering(env.name, claim, HOLDS, told, value)]
    if value.includes_zero:
        told += "; the interval includes zero, so neither is shown"
        return [Ordering(env.name, claim, UNKNOWN, told, value)]
    return [Ordering(env.name, claim, FAILS, told, value)]


def _reach(env: str, numbers: Numbers) -> float | None:
    """How far the best method's last return is above the better floor."""
    floors = [interval.mean for interval in numbers.floors[env].values()]
    tops = [
        m.at[m.rounds[-1], "test_return"].mean
        for m in numbers.methods[env]
        if m.rounds and (m.rounds[-1], "test_return") in m.at
    ]
    if not floors or not tops or max(tops) <= max(floors):
        return None
    return max(tops) - max(floors)


def _logged(
    env: EnvResults, name: str, column: str, of: Callable[[np.ndarray], Any]
) -> np.ndarray | None:
    """Collect one number a seed of the offline phase's log; None: nobody logged it."""
    methods = {m.name: m for m in env.methods}
    method = methods.get(name)
    if method is None:
        return None
    curves = methods.get(method.offline_of, method).offline_metrics
    values = [float(of(v)) for table in curves.values() if len(v := _known(table, column))]
    return np.array(values) if values else None


def _known(table: Columns, column: str) -> np.ndarray:
    values = table.get(column, np.zeros(0))
    known: np.ndarray = values[np.isfinite(values)]
    return known


def _overestimation(results: Results, env: EnvResults, numbers: Numbers) -> list[Ordering]:
    """Without a constraint to the data, the actor seeks the critic's errors."""
    out = []
    present = cf.methods_of(results.run, env.name)
    for name in [n for n in _ABLATIONS if n in present] or _ABLATIONS[:1]:
        method = next((m for m in env.methods if m.name == name), None)
        claim = f"{method.label if method else name} overestimates Q after the offline phase"
        if method and _entropy_weight(results, env, method):
            lacks = "its Q has the entropy bonus in it, which returns have not"
            out.append(Ordering(env.name, claim, UNKNOWN, lacks))
            continue
        found = _excess(results, env, name, numbers.config) if method else None
        if found is None:
            lacks = "no logged Q, or no returns on training tasks"
            out.append(Ordering(env.name, claim, UNKNOWN, lacks))
            continue
        value, logged, realised, column = found
        told = (
            f"last logged Q {number(logged)} ({column}), realised {number(realised)}, "
            f"excess {written(value, sign=True)} in units of scaled reward"
        )
        largest = _logged(env, name, _LARGEST, np.max)
        told += f"; largest |Q| {number(float(largest.max()))}" if largest is not None else ""
        other = _excess(results, env, "smac", numbers.config)
        told += f"; SMAC's excess {written(other[0], sign=True)} ({other[3]})" if other else ""
        above = value.low > 0 if value.known else value.mean > 0
        out.append(Ordering(env.name, claim, HOLDS if above else FAILS, told, value))
    return out


def _entropy_weight(results: Results, env: EnvResults, method: MethodResults) -> float:
    """Weight of the entropy in the critic's target of a method's offline phase."""
    section: Any = cf.stage_config(results.run, "meta_train", env.name, method.offline_of)
    weight: float = getattr(getattr(section, "learner", None), "entropy_weight", 0.0)
    return weight


def _excess(
    results: Results, env: EnvResults, name: str, config: ReportConfig
) -> tuple[Interval, float, float, str] | None:
    """Subtract what the policy earns from what its critic says, by seed and training task."""
    method = next((m for m in env.methods if m.name == name), None)
    if method is None:
        return None
    section: Any = cf.stage_config(results.run, "meta_train", env.name, method.offline_of)
    learner = getattr(section, "learner", None)
    discount, scale = (getattr(learner, key, None) for key in ("discount", "reward_scale"))
    if discount is None or scale is None or not discount < 1.0:
        return None
    owner = next((m for m in env.methods if m.name == method.offline_of), method)
    realised, logged = [], []
    for seed in results.run.seeds:
        table = owner.offline_metrics.get(seed, {})
        column = _OWN if len(_known(table, _OWN)) else _DATA
        values = _known(table, column)
        row = _realised(method, seed, discount)
        if len(values) and row is not None:
            logged.append(np.full(len(row), values[-1]))
            realised.append(scale * row)
    if not logged or len({len(row) for row in realised}) > 1:
        return None
    said, earned = np.stack(logged), np.stack(realised)
    value = difference(said, earned, config)
    if value is None:
        return None
    return value, float(said.mean()), float(mean(earned)), column


def _realised(method: MethodResults, seed: int, discount: float) -> np.ndarray | None:
    """Discounted return of a stream of the mean reward that the adapted policy earned, ``[T]``.

    A critic looks past a time limit, so the stream goes on for ever after one: 1 / (1 − γ) mean
    rewards; it ends with the episode where a terminal state ended it.
    """
    evaluation = method.evaluations.get((seed, 0))
    arm = None if evaluation is None else evaluation.adapted("train")
    if arm is None:
        return None
    played = arm["episode_length"] > 0
    length = last_episode(arm["episode_length"].astype(np.float64), played)
    reward = last_episode(arm["episode_return"], played) / np.maximum(length, 1.0)
    ended = (
        last_episode(
            (arm["episode_end"] == EPISODE_ENDS["terminal state"]).astype(np.float64), played
        )
        == 1.0
    )
    horizon = np.where(ended, 1.0 - discount**length, 1.0) / (1.0 - discount)
    return mean(reward * horizon, axis=1)
