"""What the report measures: the quantities of one evaluation, per task, and what each means."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from pipeline.report_data import EnvResults, Evaluation
from pipeline.schema import EPISODE_ENDS

_REPORTED = {"test_return": "test", "train_return": "train"}
_RETURNS = {
    "test_episodes_return": "test_online",
    "test_transitions_return": "test_online_transitions",
    "test_prior_return": "test_prior",
    "own_context_return": "train_matched",
    "offline_context_return": "train_offline",
    "nothing_return": "test_nothing",
    "random_return": "test_random",
}
_ERRORS = {"test_decoder_mse": "test", "train_decoder_mse": "train"}
_KL = {"own_context_kl": "train_matched", "offline_context_kl": "train_offline"}
FLOORS = {"nothing_return": "do nothing", "random_return": "random actions"}
FALL_RATE = "fall_rate"
_SEEN = {  # where physical measures are taken, and of whom
    "test": "in the episodes of test_return",
    "nothing": "of zero actions",
    "random": "of random actions",
}
MEANINGS = {
    "test_return": "return of the last episode on held-out tasks, after the agent has adapted to "
    "its own exploration",
    "test_episodes_return": "test_return after exactly the configured number of episodes",
    "test_transitions_return": "test_return after whole episodes up to the configured number of "
    "transitions, as the released code counts; parts from the above where episodes end early",
    "test_prior_return": "return on held-out tasks with z drawn from the prior: no adaptation",
    "train_return": "as test_return, on training tasks",
    "own_context_return": "return on training tasks with z from a context of the agent's own "
    "exploration",
    "offline_context_return": "return on training tasks with z from an offline context of the same "
    "size",
    "nothing_return": "return of zero actions on the held-out tasks: a floor",
    "random_return": "return of random actions on the held-out tasks: a floor",
    "test_decoder_mse": "mean squared error of the decoded rewards in the last episode, held-out "
    "tasks (reward units squared)",
    "train_decoder_mse": "the same on training tasks",
    "offline_decoder_mse": "the same on the offline data of those training tasks",
    "own_context_kl": "KL of the posterior from the prior, own exploration (nats)",
    "offline_context_kl": "KL of the posterior from the prior, offline contexts (nats)",
    "kl_gap": "own_context_kl minus offline_context_kl (nats)",
}


def measured(env: EnvResults) -> list[str]:
    """List what an environment measures physically, episode by episode.

    Args:
        env: What was read.

    Returns:
        The environment's own measures, and the fall rate where an episode can end in a fall.
    """
    falls = [FALL_RATE] if env.can_end_early else []
    return [*env.definition.measure_units, *falls]


def physical(env: EnvResults) -> dict[str, str]:
    """Name the physical quantities of an environment: what its returns mean.

    Args:
        env: What was read.

    Returns:
        Meaning by name, such as ``test_forward_velocity``.
    """
    units = env.definition.measure_units
    out = {}
    for prefix, seen in _SEEN.items():
        for name in measured(env):
            what = (
                "share of episodes that ended in a terminal state, for a walker a fall,"
                if name == FALL_RATE
                else f"mean {in_words(name)} ({units[name]})"
            )
            out[f"{prefix}_{name}"] = f"{what} {seen}"
    return out


def in_words(name: str) -> str:
    """Write a measure's name for people."""
    return name.replace("_", " ")


def meanings(envs: Iterable[EnvResults]) -> dict[str, str]:
    """Explain every quantity of a report.

    Args:
        envs: The environments.

    Returns:
        Meaning by name.
    """
    out = dict(MEANINGS)
    for env in envs:
        out |= physical(env)
    return out


def mean(values: np.ndarray, axis: int | tuple[int, ...] | None = None) -> np.ndarray:
    """Average what is finite; nan where nothing is.

    Args:
        values: Any array.
        axis: As NumPy's.

    Returns:
        The means.
    """
    known = np.isfinite(values)
    count = np.asarray(known.sum(axis=axis))
    total = np.asarray(np.where(known, values, 0.0).sum(axis=axis, dtype=np.float64))
    out = np.full(count.shape, np.nan)
    np.divide(total, count, out=out, where=count > 0)
    return out


def last_episode(values: np.ndarray, played: np.ndarray) -> np.ndarray:
    """Pick the value of the last episode of every meta-episode.

    Args:
        values: ``[T, R, E]``.
        played: ``[T, R, E]`` whether there was such an episode; the first ones, without a gap.

    Returns:
        ``[T, R]`` float64; nan where there was no episode at all.
    """
    count = played.sum(axis=2)
    picked = np.take_along_axis(values, np.maximum(count - 1, 0)[:, :, None], axis=2)[:, :, 0]
    return np.where(count > 0, picked, np.nan).astype(np.float64)


def per_task(evaluation: Evaluation, quantity: str) -> np.ndarray | None:
    """Compute one quantity of an evaluation, averaged over repeats.

    Args:
        evaluation: The meta-test.
        quantity: A key of ``meanings``.

    Returns:
        ``[T]`` float64, or ``[1]`` for what has no tasks; None: not measured.
    """
    if quantity == "offline_decoder_mse":
        return np.array([evaluation.offline_mse])
    if quantity == "kl_gap":
        own, offline = (per_task(evaluation, name) for name in _KL)
        return None if own is None or offline is None else own - offline
    if quantity not in MEANINGS:
        return _physical_per_task(evaluation, *quantity.split("_", 1))
    tasks = _REPORTED.get(quantity) or _ERRORS.get(quantity)
    name = _RETURNS.get(quantity) or _KL.get(quantity, "")
    arm = evaluation.adapted(tasks) if tasks else evaluation.arms.get(name)
    if arm is None:
        return None
    if quantity in _ERRORS or quantity in _KL:
        return mean(arm["posterior_kl" if quantity in _KL else "decoder_mse"], axis=1)
    return mean(last_episode(arm["episode_return"], arm["episode_length"] > 0), axis=1)


def _physical_per_task(evaluation: Evaluation, prefix: str, name: str) -> np.ndarray | None:
    adapted = prefix == "test"
    arm = evaluation.adapted("test") if adapted else evaluation.arms.get(f"test_{prefix}")
    if arm is None:
        return None
    if name == FALL_RATE:
        values = (arm["episode_end"] == EPISODE_ENDS["terminal state"]).astype(np.float64)
    elif name in evaluation.measures:
        values = arm["measure"][..., evaluation.measures.index(name)]
    else:
        return None
    return mean(last_episode(values, arm["episode_length"] > 0), axis=1)
