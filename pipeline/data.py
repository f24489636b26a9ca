"""Between Zarr stores and the arrays of smac_core."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from pipeline.derived import next_obs
from pipeline.store import EPISODE_SOURCES, Store, read_store, write_store
from smac_core.config import SliceConfig
from smac_core.dataset import (
    Dataset,
    Transitions,
    build_dataset,
    join,
    slice_rows,
    take_rows,
)
from smac_core.envs.definition import Environment
from smac_core.episode_rows import EpisodeRows
from smac_core.errors import ConfigError, StoreError


def write_episodes(
    path: Path,
    env: Environment,
    rows: EpisodeRows,
    labels: Mapping[str, np.ndarray],
    *,
    params: Mapping[str, object],
    rewards: bool,
    tasks: str | None = None,
) -> None:
    """Write episodes as a transitions store.

    Args:
        path: Where.
        env: The environment.
        rows: Episodes in collection order.
        labels: Per episode ``task_id``, ``source`` and ``iteration``; ``buffer`` where it joins the
            data of another task.
        params: What the environment was built with.
        rewards: Whether the store has a reward array.
        tasks: Digest of the task list, where whoever reads the store is to compare it.
    """
    ends = rows.ends
    last = np.zeros(len(rows.obs), dtype=bool)
    last[ends - 1] = True
    task_id = labels["task_id"].astype(np.int32)
    arrays = {
        "data/obs": rows.obs,
        "data/action": rows.action,
        "data/position": rows.position,
        "data/terminated": rows.ended,
        "data/truncated": last & ~rows.ended,
        "data/task_id": np.repeat(task_id, rows.length),
        "meta/episode_ends": ends.astype(np.int64),
        "meta/final_obs": rows.final_obs,
        "meta/episode_task_id": task_id,
        "meta/episode_source": labels["source"].astype(np.int8),
        "meta/episode_iteration": labels["iteration"].astype(np.int32),
        "meta/episode_ok": rows.ok,
    }
    if "buffer" in labels:
        arrays["meta/episode_buffer"] = labels["buffer"].astype(np.int32)
    if rewards:
        arrays["data/reward"] = rows.reward
    write_store(
        path,
        "transitions",
        arrays,
        {
            "env_id": env.env_id,
            "env_params": dict(params),
            "obs_dim": env.obs_dim,
            "action_dim": env.action_dim,
            "reward_source": "environment" if rewards else "none",
            **({} if tasks is None else {"tasks": tasks}),
        },
    )


def as_transitions(store: Store, reward: np.ndarray | None = None) -> Transitions:
    """Turn a store into rows.

    Args:
        store: A transitions store.
        reward: ``[N]`` labels, where the store has no reward.

    Returns:
        The rows; nan rewards where there are none.
    """
    arrays = store.arrays
    ends = arrays["meta/episode_ends"]
    lengths = np.diff(ends, prepend=0)
    if reward is None:
        reward = arrays.get("data/reward", np.full(len(arrays["data/obs"]), np.nan, np.float32))
    return Transitions(
        obs=np.ascontiguousarray(arrays["data/obs"], dtype=np.float32),
        action=np.ascontiguousarray(arrays["data/action"], dtype=np.float32),
        reward=np.ascontiguousarray(reward, dtype=np.float32),
        next_obs=np.ascontiguousarray(next_obs(store), dtype=np.float32),
        terminated=arrays["data/terminated"].astype(np.float32),
        task_id=np.repeat(episode_buffers(store).astype(np.int64), lengths),
        source=np.repeat(arrays["meta/episode_source"].astype(np.int64), lengths),
    )


def episode_buffers(store: Store) -> np.ndarray:
    """Tell whose data each episode joins: its own task's, unless the store says otherwise.

    Args:
        store: A transitions store.

    Returns:
        ``[N]`` tasks.
    """
    return store.arrays.get("meta/episode_buffer", store.arrays["meta/episode_task_id"])


def read_offline(
    path: Path, env: Environment, task_ids: Sequence[int], slices: Sequence[SliceConfig]
) -> Transitions:
    """Read what a stage uses of the offline dataset: at the paper's size a tenth of it.

    Args:
        path: A transitions store with true rewards.
        env: The environment that it must belong to.
        task_ids: The tasks that are used.
        slices: The slices that are taken of each; they take the same rows of what is kept.

    Returns:
        The rows of those slices in collection order.

    Raises:
        StoreError: Damaged, of another environment, or without rewards.
    """
    return read_offline_episodes(path, env, task_ids, slices).rows


@dataclass(frozen=True)
class OfflineEpisodes:
    """Offline rows that know their episodes.

    Args:
        rows: In collection order.
        episode: ``[N]`` int64, number of its episode in the store.
        t: ``[N]`` int64, step in its episode, from 0.
        length: ``[N]`` int64, steps of its episode in the store.
    """

    rows: Transitions
    episode: np.ndarray
    t: np.ndarray
    length: np.ndarray


def read_offline_episodes(
    path: Path, env: Environment, task_ids: Sequence[int], slices: Sequence[SliceConfig]
) -> OfflineEpisodes:
    """Read the same as ``read_offline``, with the place of every row in its episode.

    Args:
        path: A transitions store with true rewards.
        env: The environment that it must belong to.
        task_ids: The tasks that are used.
        slices: The slices that are taken of each.

    Returns:
        The rows of those slices.

    Raises:
        StoreError: Damaged, of another environment, or without rewards.
    """
    store = read_store(path, "transitions", env_id=env.env_id)
    if "data/reward" not in store.arrays:
        raise StoreError(
            "offline data without rewards",
            where=path,
            expected="a store of the collect stage",
            found=f"reward_source {store.attributes.get('reward_source')!r}",
            fix="pass results/<env>/collect/transitions.zarr",
        )
    rows = as_transitions(store)
    used = [chosen for selection in slices for chosen in offline_rows(rows, task_ids, selection)]
    kept = np.unique(np.concatenate(used))
    ends = store.arrays["meta/episode_ends"]
    lengths = np.diff(ends, prepend=0)
    episode = np.repeat(np.arange(len(ends)), lengths)[kept]
    t = kept - (ends - lengths)[episode]
    return OfflineEpisodes(take_rows(rows, kept), episode, t, lengths[episode])


def read_labelled(
    rollouts: Sequence[Path], rewards: Sequence[Path], env: Environment, current_round: int
) -> list[Transitions]:
    """Read rollouts 1..r with the rewards that relabelling gave them.

    Args:
        rollouts: Transitions stores, oldest first.
        rewards: Rewards stores, in the same order.
        env: The environment that they must belong to.
        current_round: How many of each there must be.

    Returns:
        Rows of each round.

    Raises:
        StoreError: Damaged, a round is missing, or rewards of another rollout.
    """
    for name, paths in (("rollouts", rollouts), ("rewards", rewards)):
        if len(paths) != current_round:
            raise StoreError(
                f"{name} do not cover every round",
                where=f"--{name}",
                expected=f"{current_round} stores, rounds 1 to {current_round} in order",
                found=len(paths),
                fix="pass the stores of all earlier rounds, or let Snakemake do it",
            )
    out = []
    for number, (rollout_path, reward_path) in enumerate(zip(rollouts, rewards, strict=True), 1):
        rollout = read_store(rollout_path, "transitions", env_id=env.env_id)
        labels = read_store(reward_path, "rewards", env_id=env.env_id)
        check_round(rollout, number)
        if labels.attributes["rollout_digest"] != rollout.digest:
            raise StoreError(
                "rewards of another rollout",
                where=reward_path,
                expected=f"labels of {rollout_path}",
                found="another digest",
                fix="run `python -m pipeline.relabel` on this rollout again",
            )
        out.append(as_transitions(rollout, labels.arrays["data/generated_reward"]))
    return out


def check_round(rollout: Store, number: int) -> None:
    """Refuse the rollout of another round.

    Args:
        rollout: A transitions store.
        number: The round that it must be of.

    Raises:
        StoreError: It is of another round, or empty.
    """
    found = np.unique(rollout.arrays["meta/episode_iteration"]).tolist()
    if found != [number]:
        raise StoreError(
            "rollout of another round",
            where=rollout.path,
            expected=f"round {number}",
            found=f"round {', '.join(map(str, found)) or 'of no episode'}",
            fix="pass the rounds in order, none skipped",
        )


def source_codes(selection: SliceConfig) -> list[int]:
    """Translate source names to the store's codes.

    Args:
        selection: With names in ``sources``.

    Returns:
        Codes.

    Raises:
        ConfigError: A name is unknown.
    """
    codes: Mapping[str, int] = EPISODE_SOURCES
    for name in selection.sources:
        if name not in codes:
            raise ConfigError(
                "unknown episode source",
                where="meta_train slice",
                expected=", ".join(codes),
                found=name,
                fix="correct `sources` in the config",
            )
    return [codes[name] for name in selection.sources]


def offline_rows(
    offline: Transitions, task_ids: Sequence[int], selection: SliceConfig
) -> list[np.ndarray]:
    """Choose each task's offline rows for one use.

    Args:
        offline: The offline dataset.
        task_ids: Tasks.
        selection: The slice.

    Returns:
        Row numbers of each task.

    Raises:
        StoreError: A task has no such rows.
    """
    codes = source_codes(selection)
    rows = [slice_rows(offline, task, selection, codes) for task in task_ids]
    empty = [task for task, chosen in zip(task_ids, rows, strict=True) if len(chosen) == 0]
    if empty:
        raise StoreError(
            f"no offline transitions for {len(empty)} task(s)",
            where=f"task {empty[0]}",
            expected="at least one row a training task",
            fix="collect every training task, or widen the slice of meta_train in the config",
        )
    return rows


def phase_dataset(
    offline: Transitions,
    rounds: Sequence[Transitions],
    task_ids: Sequence[int],
    slices: tuple[SliceConfig, SliceConfig],
    growth: str,
    *,
    context_next_obs: bool,
) -> Dataset:
    """Assemble what a phase draws from: the offline slices plus every labelled round.

    Args:
        offline: The offline dataset.
        rounds: Labelled rows of rounds 1..r.
        task_ids: Training tasks, one slot each; the tasks that only the rounds have come after.
        slices: Which offline rows are replay and which are context.
        growth: Which online rows join the context: all, prior or frozen (none). With separate,
            a task with both has two slots, one whose contexts are offline rows and one whose
            contexts are online ones; with online, the offline rows of explored tasks leave.
        context_next_obs: Whether the encoder sees s'.

    Returns:
        The dataset.

    Source: smac-reference sections 3 and 5.2.
    """
    explored = {int(task) for part in rounds for task in np.unique(part.task_id)}
    slots = (*task_ids, *sorted(explored - set(task_ids)))
    none = [np.zeros(0, dtype=np.int64)] * (len(slots) - len(task_ids))
    replay, context = ([*offline_rows(offline, task_ids, s), *none] for s in slices)
    online = [np.zeros(0, dtype=np.int64)] * len(slots)
    base = len(offline)
    for part in rounds:
        for slot, task in enumerate(slots):
            rows = base + slice_rows(part, task, SliceConfig(), ())
            replay[slot] = np.concatenate([replay[slot], rows])
            if growth == "prior":
                rows = base + slice_rows(part, task, SliceConfig(), [EPISODE_SOURCES["prior"]])
            if growth != "frozen" or slot >= len(task_ids):  # there are no offline rows to keep to
                online[slot] = np.concatenate([online[slot], rows])
        base += len(part)
    slots, replay, context = _mixed_contexts(slots, replay, context, online, growth)
    return build_dataset(
        join([offline, *rounds]), slots, replay, context, context_next_obs=context_next_obs
    )


def _mixed_contexts(
    slots: tuple[int, ...],
    replay: list[np.ndarray],
    context: list[np.ndarray],
    online: list[np.ndarray],
    growth: str,
) -> tuple[tuple[int, ...], list[np.ndarray], list[np.ndarray]]:
    """Put offline and online context rows into one bag a task, or keep them apart."""
    if growth == "separate":
        second = [s for s in range(len(slots)) if len(context[s]) and len(online[s])]
        only = [on if len(off) == 0 else off for off, on in zip(context, online, strict=True)]
        return (
            (*slots, *(slots[s] for s in second)),
            [*replay, *(replay[s] for s in second)],
            [*only, *(online[s] for s in second)],
        )
    if growth == "online":
        bags = [on if len(on) else off for off, on in zip(context, online, strict=True)]
        return slots, replay, bags
    bags = [np.concatenate(pair) for pair in zip(context, online, strict=True)]
    return slots, replay, bags
