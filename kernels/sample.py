"""Meta-batches for the learner: tasks, then transitions and contexts of each, gathered in one call.

The draws follow ``kernels.random`` with key = ``key`` and counter = ``update``. Purpose 0 draws the
tasks (number m for place m), purpose 1 the replay rows (number m · B + b) and purpose 2 the context
rows (number m · K + k). Everything is drawn uniformly and with replacement.
"""

from __future__ import annotations

from typing import TypeAlias

import numpy as np
import numpy.typing as npt
from numba import types

from kernels._jit import F4_1, F4_2, I8_1, OUT_F4_2, OUT_F4_3, OUT_I8_1, helper, jit
from kernels.random import block, index_below

Floats: TypeAlias = npt.NDArray[np.float32]
Ints: TypeAlias = npt.NDArray[np.int64]

TASK_DRAWS, REPLAY_ROWS, CONTEXT_ROWS = 0, 1, 2


@helper
def _draw(key: int, counter: int, purpose: int, number: int, pool: Ints, out: Ints) -> None:
    """Fill ``out`` from a pool with the numbers ``number``, ``number + 1``, … of a stream."""
    words = block(np.uint64(key), counter, purpose, number // 4)
    for i in range(out.size):
        place = number + i
        if place % 4 == 0:
            words = block(np.uint64(key), counter, purpose, place // 4)
        out[i] = pool[index_below(words[place % 4], pool.size)]


@helper
def _check_rows(rows: Ints, limit: int) -> None:
    """Raise ValueError unless all drawn rows exist."""
    for row in rows:
        if row < 0 or row >= limit:
            raise ValueError("replay_rows, context_rows or rows: no such row")


@helper
def _gather(source: Floats, rows: Ints, out: Floats) -> None:
    """Copy rows through one-dimensional views, which the compiler turns into vector copies."""
    width = source.shape[1]
    for i in range(rows.size):
        row, into = source[rows[i]], out[i]
        for j in range(width):
            into[j] = row[j]


@helper
def _gather_values(source: Floats, rows: Ints, out: Floats) -> None:
    """Copy single values."""
    for i in range(rows.size):
        out[i] = source[rows[i]]


@helper
def _check_slots(task_pool: Ints, rows: Ints, starts: Ints) -> None:
    """Raise ValueError unless every slot of the pool has rows."""
    for slot in task_pool:
        if slot < 0 or slot + 1 >= starts.size:
            raise ValueError("task_pool: no such slot")
        if starts[slot] < 0 or starts[slot + 1] > rows.size:
            raise ValueError("starts: outside the rows")
        if starts[slot] >= starts[slot + 1]:
            raise ValueError("starts: a slot of the pool has no rows")


@helper
def _check_transitions(
    obs: Floats, action: Floats, reward: Floats, next_obs: Floats, terminated: Floats
) -> None:
    """Raise ValueError unless all arrays are as long."""
    num = obs.shape[0]
    if (
        action.shape[0] != num
        or reward.size != num
        or next_obs.shape[0] != num
        or terminated.size != num
    ):
        raise ValueError("obs, action, reward, next_obs, terminated: lengths differ")


@helper
def _check_outputs(
    obs: Floats,
    action: Floats,
    next_obs: Floats,
    features: Floats,
    out_task: Ints,
    out_obs: Floats,
    out_action: Floats,
    out_reward: Floats,
    out_next_obs: Floats,
    out_terminated: Floats,
    out_context: Floats,
) -> None:
    """Raise ValueError unless the outputs agree on M and B, and with the inputs."""
    num_tasks, num_rows = out_reward.shape
    if out_task.size != num_tasks or out_context.shape[0] != num_tasks:
        raise ValueError("out_task, out_context: numbers of tasks differ")
    if out_obs.shape != (num_tasks, num_rows, obs.shape[1]):
        raise ValueError("out_obs: expected [M, B, obs_dim]")
    if out_action.shape != (num_tasks, num_rows, action.shape[1]):
        raise ValueError("out_action: expected [M, B, action_dim]")
    if out_next_obs.shape != (num_tasks, num_rows, next_obs.shape[1]):
        raise ValueError("out_next_obs: expected [M, B, obs_dim]")
    if out_terminated.shape != out_reward.shape:
        raise ValueError("out_terminated: expected [M, B]")
    if out_context.shape[2] != features.shape[1]:
        raise ValueError("out_context: expected [M, K, features]")


@jit(
    types.void(
        types.uint64, types.int64, I8_1, I8_1, I8_1, I8_1, I8_1,
        F4_2, F4_2, F4_1, F4_2, F4_1, F4_2,
        OUT_I8_1, OUT_F4_3, OUT_F4_3, OUT_F4_2, OUT_F4_3, OUT_F4_2, OUT_F4_3,
    )
)  # fmt: skip
def sample_meta_batch(
    key: int,
    update: int,
    task_pool: Ints,
    replay_rows: Ints,
    replay_starts: Ints,
    context_rows: Ints,
    context_starts: Ints,
    obs: Floats,
    action: Floats,
    reward: Floats,
    next_obs: Floats,
    terminated: Floats,
    features: Floats,
    out_task: Ints,
    out_obs: Floats,
    out_action: Floats,
    out_reward: Floats,
    out_next_obs: Floats,
    out_terminated: Floats,
    out_context: Floats,
) -> None:
    """Draw one meta-batch; equal arguments give equal batches.

    Args:
        key: Key of the generator, 64 bits.
        update: Number of the update, the generator's counter.
        task_pool: ``[P]`` task slots to draw from, each in 0 … T - 1.
        replay_rows: Rows of the transitions, slot by slot.
        replay_starts: ``[T + 1]`` where each slot's part of ``replay_rows`` starts.
        context_rows: Rows of ``features``, slot by slot.
        context_starts: ``[T + 1]`` where each slot's part of ``context_rows`` starts.
        obs: ``[N, obs_dim]``.
        action: ``[N, action_dim]``.
        reward: ``[N]``.
        next_obs: ``[N, obs_dim]``.
        terminated: ``[N]`` 0 or 1.
        features: ``[N, features]`` what the encoder sees of each transition.
        out_task: ``[M]`` the drawn slots, written.
        out_obs: ``[M, B, obs_dim]``, written.
        out_action: ``[M, B, action_dim]``, written.
        out_reward: ``[M, B]``, written.
        out_next_obs: ``[M, B, obs_dim]``, written.
        out_terminated: ``[M, B]``, written.
        out_context: ``[M, K, features]``, written.

    Raises:
        ValueError: The shapes do not fit together, the pool is empty or names a slot without rows,
            or a row is out of range.
    """
    if task_pool.size == 0:
        raise ValueError("task_pool: empty")
    _check_slots(task_pool, replay_rows, replay_starts)
    _check_slots(task_pool, context_rows, context_starts)
    _check_transitions(obs, action, reward, next_obs, terminated)
    _check_outputs(
        obs, action, next_obs, features, out_task, out_obs, out_action, out_reward, out_next_obs,
        out_terminated, out_context,
    )  # fmt: skip
    num_rows, num_context = out_reward.shape[1], out_context.shape[1]
    rows, context = np.empty(num_rows, np.int64), np.empty(num_context, np.int64)
    _draw(key, update, TASK_DRAWS, 0, task_pool, out_task)
    for m in range(out_task.size):
        slot = out_task[m]
        # All rows first, then array by array: many cache misses are then under way at once.
        pool = replay_rows[replay_starts[slot] : replay_starts[slot + 1]]
        _draw(key, update, REPLAY_ROWS, m * num_rows, pool, rows)
        _check_rows(rows, obs.shape[0])
        _gather(obs, rows, out_obs[m])
        _gather(action, rows, out_action[m])
        _gather_values(reward, rows, out_reward[m])
        _gather(next_obs, rows, out_next_obs[m])
        _gather_values(terminated, rows, out_terminated[m])
        pool = context_rows[context_starts[slot] : context_starts[slot + 1]]
        _draw(key, update, CONTEXT_ROWS, m * num_context, pool, context)
        _check_rows(context, features.shape[0])
        _gather(features, context, out_context[m])


@jit(types.void(types.uint64, types.int64, I8_1, F4_2, OUT_F4_2))
def sample_context(
    key: int, counter: int, rows: Ints, features: Floats, out_context: Floats
) -> None:
    """Draw the context of one task, uniformly and with replacement.

    Args:
        key: Key of the generator, 64 bits.
        counter: Tells the contexts of one key apart.
        rows: ``[n]`` the task's rows of ``features``.
        features: ``[N, features]`` what the encoder sees of each transition.
        out_context: ``[K, features]``, written; row k is number k of purpose 2.

    Raises:
        ValueError: The task has no rows, a row is out of range, or the widths differ.
    """
    if rows.size == 0:
        raise ValueError("rows: the task has none")
    if out_context.shape[1] != features.shape[1]:
        raise ValueError("out_context: expected [K, features]")
    drawn = np.empty(out_context.shape[0], np.int64)
    _draw(key, counter, CONTEXT_ROWS, 0, rows, drawn)
    _check_rows(drawn, features.shape[0])
    _gather(features, drawn, out_context)
