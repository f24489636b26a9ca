"""The rows of study.csv: what each arm's checkpoints reach under every context, and its changes.

A row `seed=all` is a mean over seeds with the stratified bootstrap interval of docs/metrics.md.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from pipeline import config as cf
from pipeline.report_data import (
    DIAGNOSIS,
    EnvResults,
    Evaluation,
    MethodResults,
    Results,
    read_metrics,
)
from pipeline.report_quantities import last_episode, mean
from pipeline.report_statistics import Resamples, interval, mean_interval, resample
from pipeline.sections import ReportConfig

OWN, MATCHED, OFFLINE, GAP = "own", "own-matched", "offline", "offline-minus-own"
CHANGE, SHARE = "change", "share"  # in place of the round
CONTEXTS = {  # what the agent adapted to, by arm of the meta-test; `adapted` stands for its count
    "test_adapted": ("test", OWN),
    "test_prior": ("test", "prior"),
    "test_nothing": ("test", "nothing"),
    "test_random": ("test", "random"),
    "train_adapted": ("train", OWN),
    "train_matched": ("train", MATCHED),
    "train_offline": ("train", OFFLINE),
}
KEYS = ("environment", "arm", "seed", "round", "self_supervised_steps", "split", "context")
SCORES = ("return", "low", "high", "num_tasks", "num_repeats")
ADAPTED = ("posterior_kl", "decoder_mse", "start_value", "discounted_return")  # where measured
ERRORS = ("offline_decoder_mse", "adapted_decoder_mse")
LOGGED = ("effective_sample_size", "advantage", "own_action_value", "value")
_LAST_UPDATES = 500  # whose rows of metrics.csv are averaged
_DIGITS = 5
_VERSIONS = ("python", "torch", "numpy", "mujoco")

Scores = dict[tuple[int, str, str], np.ndarray]
"""``[S, T, R]`` returns by round, split and context; all of the same seeds."""


def study_rows(results: Results, config: ReportConfig) -> Iterator[tuple[object, ...]]:
    """List every number.

    Args:
        results: What was read.
        config: How intervals are made.

    Yields:
        The head, then the rows.
    """
    columns = _columns(results)
    yield columns
    for env in results.envs:
        scores = {m.name: _scores(m, results.run.seeds) for m in env.methods}
        for method in env.methods:
            for (seed, number), evaluation in sorted(method.evaluations.items()):
                for row in _seed_rows(evaluation):
                    found = {**row, "seed": seed, "round": number}
                    if (row["split"], row["context"]) == ("train", OWN):
                        found |= _diagnosis(results, env, method, seed, number)
                    yield _cells(env, method, found, columns)
            oracle = _oracle_of(results.run, env.name, method.name)
            for row in _rows_over_seeds(scores[method.name], scores.get(oracle, {}), config):
                yield _cells(env, method, row, columns)


def _columns(results: Results) -> tuple[str, ...]:
    names = dict.fromkeys(name for env in results.envs for name in env.definition.measure_units)
    explored = [f"exploration_{name}{end}" for name in names for end in ("", "_std")]
    return (*KEYS, *SCORES, *ADAPTED, *ERRORS, *DIAGNOSIS, *LOGGED, *explored)


def _cells(
    env: EnvResults, method: MethodResults, row: Mapping[str, Any], columns: Sequence[str]
) -> tuple[object, ...]:
    steps = row.get("self_supervised_steps")
    if steps is None and isinstance(row["round"], int):
        found = [e.steps for (_, n), e in method.evaluations.items() if n == row["round"]]
        steps = round(float(np.mean(found)))
    named = {
        **row,
        "environment": env.name,
        "arm": method.name,
        "self_supervised_steps": steps,
    }
    return tuple(_rounded(named.get(column, np.nan)) for column in columns)


def _rounded(value: object) -> object:
    if value is None:
        return ""
    if isinstance(value, float | np.floating):
        return float(f"{value:.{_DIGITS}g}")
    return value


def arm_of(evaluation: Evaluation, name: str) -> Mapping[str, np.ndarray] | None:
    """Find an arm of the meta-test.

    Args:
        evaluation: The meta-test.
        name: A key of CONTEXTS.

    Returns:
        Its arrays; None: not measured.
    """
    tasks, _, kind = name.partition("_")
    return evaluation.adapted(tasks) if kind == "adapted" else evaluation.arms.get(name)


def returns_of(arm: Mapping[str, np.ndarray]) -> np.ndarray:
    """Pick the return of the last episode of every meta-episode.

    Args:
        arm: Arrays of an arm of the meta-test.

    Returns:
        ``[T, R]`` float64.
    """
    return last_episode(arm["episode_return"], arm["episode_length"] > 0)


def _seed_rows(evaluation: Evaluation) -> Iterator[dict[str, Any]]:
    for name, (split, context) in CONTEXTS.items():
        arm = arm_of(evaluation, name)
        if arm is None:
            continue
        returns = returns_of(arm)
        floor = context in {"nothing", "random"}  # who does not adapt believes nothing
        yield {
            "self_supervised_steps": evaluation.steps,
            "split": split,
            "context": context,
            "return": float(mean(returns)),
            "num_tasks": returns.shape[0],
            "num_repeats": returns.shape[1],
            **{n: float(mean(arm[n])) for n in ADAPTED if n in arm and not floor},
        }


def _diagnosis(
    results: Results, env: EnvResults, method: MethodResults, seed: int, number: int
) -> dict[str, float]:
    """Collect what belongs to a checkpoint as a whole."""
    evaluation = method.evaluations[seed, number]
    adapted = evaluation.arms.get("train_offline", {}).get("decoder_mse", np.zeros(0))
    out = {
        "offline_decoder_mse": evaluation.offline_mse,
        "adapted_decoder_mse": float(mean(adapted)),
    }
    config = cf.stage_config(results.run, "evaluate", env.name, method.name).adaptation
    arm = arm_of(evaluation, "train_adapted")
    if arm is not None:
        explored = mean(arm["measure"][:, :, : config.exploration_episodes], axis=2)
        for place, name in enumerate(evaluation.measures):
            values = explored[..., place]
            known = values[np.isfinite(values)]
            out[f"exploration_{name}"] = float(mean(known))
            out[f"exploration_{name}_std"] = float(known.std()) if len(known) else np.nan
    return {**out, **evaluation.diagnosis, **_logged(results.root / env.name, method, seed, number)}


def _logged(folder: Path, method: MethodResults, seed: int, number: int) -> dict[str, float]:
    """Average what the phase before a checkpoint logged last."""
    phase = f"round{number}/finetune" if number else "meta_train"
    owner = method.name if number else method.offline_of
    path = folder / owner / f"seed{seed}" / phase / "metrics.csv"
    table = read_metrics(path) if path.exists() else {}
    if "update" not in table:
        return {}
    late = table["update"] > table["update"][-1:].sum() - _LAST_UPDATES
    return {name: float(mean(table[name][late])) for name in LOGGED if name in table}


def _scores(method: MethodResults, seeds: Sequence[int]) -> Scores:
    """Collect the returns that every seed has."""
    found: Scores = {}
    for number in sorted({n for _, n in method.evaluations}):
        for name, (split, context) in CONTEXTS.items():
            tables = []
            for seed in seeds:
                evaluation = method.evaluations.get((seed, number))
                arm = None if evaluation is None else arm_of(evaluation, name)
                tables += [] if arm is None else [returns_of(arm)]
            if len(tables) == len(seeds) and len({t.shape for t in tables}) == 1:
                found[number, split, context] = np.stack(tables)
        pair = [found.get((number, "train", context)) for context in (OFFLINE, MATCHED)]
        if pair[0] is not None and pair[1] is not None:
            found[number, "train", GAP] = pair[0] - pair[1]
    return found


def _rows_over_seeds(
    scores: Scores, oracle: Scores, config: ReportConfig
) -> Iterator[dict[str, Any]]:
    last = max((number for number, _, _ in scores), default=0)
    for (number, split, context), table in scores.items():
        yield _interval_row(table, number, split, context, config)
        if number != last or number == 0 or (0, split, context) not in scores:
            continue
        before = scores[0, split, context]
        yield _interval_row(table - before, CHANGE, split, context, config)
        if context == GAP:
            yield _share_row(before - table, before, split, context, config)
        ends = sorted(n for n, s, c in oracle if (s, c) == (split, context))
        whole_run = ends[:1] == [0] and ends[-1:] == [last]  # both from round 0 to the same round
        if context == OWN and whole_run:
            gained = oracle[ends[-1], split, context] - oracle[0, split, context]
            if gained.shape == table.shape:
                yield _share_row(table - before, gained, split, context, config)


def _interval_row(
    table: np.ndarray, number: int | str, split: str, context: str, config: ReportConfig
) -> dict[str, Any]:
    value = mean_interval(resample(table, config.bootstrap_samples), config.confidence)
    return {
        "seed": "all",
        "round": number,
        "split": split,
        "context": context,
        "return": value.mean,
        "low": value.low,
        "high": value.high,
        "num_tasks": table.shape[1],
        "num_repeats": table.shape[2],
    }


def _share_row(
    part: np.ndarray, whole: np.ndarray, split: str, context: str, config: ReportConfig
) -> dict[str, Any]:
    """Divide two means; the same seeds, tasks and repeats are drawn for both."""
    drawn = [resample(table, config.bootstrap_samples) for table in (part, whole)]
    with np.errstate(divide="ignore", invalid="ignore"):  # a whole of nothing has no share
        estimates = _draws(drawn[0]) / _draws(drawn[1]) if drawn[0].varied else np.zeros(0)
    whole_mean = float(mean(drawn[1].point))
    point = float(mean(drawn[0].point)) / whole_mean if whole_mean else np.nan
    value = interval(point, estimates, config.confidence, len(part))
    row = _interval_row(part, SHARE, split, context, config)
    return row | {"return": value.mean, "low": value.low, "high": value.high}


def _draws(resamples: Resamples) -> np.ndarray:
    out: np.ndarray = mean(resamples.drawn, axis=(1, 2))
    return out


def _oracle_of(run: cf.RunConfig, env: str, method: str) -> str:
    """Find the oracle that starts from the same offline checkpoint; the plain one without it."""
    offline = cf.offline_method(run, method)
    for name in cf.methods_of(run, env):
        root = cf.method_chain(run, name)[0]
        if root == "oracle" and cf.offline_method(run, name) == offline:
            return name
    return "oracle"


def arm_rows(results: Results) -> Iterator[tuple[object, ...]]:
    """Describe the arms.

    Args:
        results: What was read.

    Yields:
        The head, then a row an environment and arm.
    """
    yield (
        *("environment", "of_environment", "arm", "of", "label", "question", "offline_of"),
        *("rounds", "settings", "versions"),
    )
    run = results.run
    met = {name: " and ".join(sorted(found)) for name, found in results.versions.items()}
    versions = ", ".join(f"{name} {met[name]}" for name in _VERSIONS if name in met)
    for env in results.envs:
        for method in env.methods:
            arm = run.arms.get(method.name)
            settings = {} if arm is None else _settings(arm, cf.env_chain(run, env.name))
            known = method.evaluations
            measured = [n for n in method.rounds if all((s, n) in known for s in run.seeds)]
            yield (
                *(env.name, cf.env_chain(run, env.name)[0], method.name, arm.of if arm else ""),
                method.label,
                *(arm.question if arm else "", method.offline_of, max(measured, default=0)),
                json.dumps(settings, separators=(", ", ": ")).replace('"', "") if arm else "",
                versions,
            )


def _settings(arm: cf.ArmConfig, envs: Sequence[str]) -> dict[str, Any]:
    out: dict[str, Any] = {}
    for key in ("all", *envs):
        out = cf.deep_merge(out, arm.settings.get(key, {}))
    return out
