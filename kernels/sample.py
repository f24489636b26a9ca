"""Meta-batches for the learner: tasks, then transitions and contexts of each, gathered in one call.

The draws follow ``kernels.random`` with key = ``key`` and counter = ``update``. Purpose 0 draws the
tasks (number m for place m), purpose 1 the replay rows (number m · B + b) and purpose 2 the context
rows (number m · K + k). Everything is drawn uniformly and with replacement.

A transition is one record of a table: obs, action, reward, next_obs, terminated, then padding. Rows
drawn at random are read from memory, not from a cache; as one record a row is one run of cache
lines, which are asked for some rows ahead. What the encoder sees, [s, a, r] or [s, a, r, s'], is
the beginning of the record.
"""

from __future__ import annotations

from typing import TypeAlias

import numpy as np
import numpy.typing as npt
from numba import types

from kernels._jit import F4_2, I8_1, OUT_F4_2, OUT_F4_3, OUT_I8_1, helper, inlined, jit
from kernels._simd import LANES, load, prefetch, store
from kernels.random import fill_chunk, index_below

Floats: TypeAlias = npt.NDArray[np.float32]
Ints: TypeAlias = npt.NDArray[np.int64]

TASK_DRAWS, REPLAY_ROWS, CONTEXT_ROWS = 0, 1, 2

LINE = 16  # float32 values of a cache line
# Small records are copied whole to a scratch that stays in the first-level cache, and cut up there:
# reads across two cache lines that are still on their way cost a multiple. So many values a turn.
_SCRATCH = 1024
_SMALL = 256  # values; larger records are cut up on the way
_AHEAD = 2  # turns, or large records, between asking for a line and reading it


@helper
def _draw(key: int, counter: int, purpose: int, number: int, pool: Ints, out: Ints) -> None:
    """Fill ``out`` from a pool with the numbers ``number``, ``number + 1``, … of a stream."""
    words = np.empty((4, LANES), np.uint32)
    skip, step = number % 4, 4 * LANES
    for first in range(0, skip + out.size, step):
        fill_chunk(np.uint64(key), counter, purpose, (number + first) // 4, words)
        for place in range(max(first, skip), min(first + step, skip + out.size)):
            word = np.uint64(words[place % 4, (place - first) // 4])
            out[place - skip] = index_below(word, pool.size)
    # A loop of its own: the more reads of the pool are under way at once, the better.
    for i in range(out.size):
        out[i] = pool[out[i]]


@helper
def _check_rows(rows: Ints, limit: int) -> None:
    """Raise ValueError unless all drawn rows exist."""
    for row in rows:
        if row < 0 or row >= limit:
            raise ValueError("replay_rows or context_rows: no such row")


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


@inlined
def _ask_for(source: Floats, at: int, length: int) -> None:
    """Ask for cache lines that will be read."""
    for j in range(0, length, LINE):
        prefetch(source, at + j)


@inlined
def _copy(source: Floats, at: int, length: int, out: Floats, into: int, then: int) -> None:
    """Copy values, and ask for as many from ``then`` on, which are read some rows later.

    Whole vectors are written, also over what follows in ``out``: rows are filled in order, so that
    it is written again.
    """
    if max(at - source.size, into - out.size) + length <= -LANES:
        for j in range(0, length, LANES):
            prefetch(source, then + j)
            store(out, into + j, load(source, at + j))
    else:
        for j in range(length):
            out[into + j] = source[at + j]


@inlined
def _cut(
    source: Floats,
    at: int,
    then: int,
    i: int,
    obs: Floats,
    action: Floats,
    reward: Floats,
    next_obs: Floats,
    terminated: Floats,
    obs_dim: int,
    action_dim: int,
) -> None:
    """Copy the parts of the record at ``at`` into row i of flat arrays."""
    middle = obs_dim + action_dim
    _copy(source, at, obs_dim, obs, i * obs_dim, then)
    _copy(source, at + obs_dim, action_dim, action, i * action_dim, then + obs_dim)
    reward[i] = source[at + middle]
    _copy(source, at + middle + 1, obs_dim, next_obs, i * obs_dim, then + middle + 1)
    terminated[i] = source[at + middle + 1 + obs_dim]


@helper
def _copy_records(
    table: Floats,
    rows: Ints,
    out_obs: Floats,
    out_action: Floats,
    out_reward: Floats,
    out_next_obs: Floats,
    out_terminated: Floats,
) -> None:
    """Copy every drawn record into its places."""
    width, obs_dim, action_dim = table.shape[1], out_obs.shape[2], out_action.shape[2]
    source, obs, action = table.reshape(-1), out_obs.reshape(-1), out_action.reshape(-1)
    reward, next_obs = out_reward.reshape(-1), out_next_obs.reshape(-1)
    terminated = out_terminated.reshape(-1)
    small = width <= _SMALL
    turn = max(1, _SCRATCH // width) if small else 1
    scratch = np.empty(turn * width + LANES if small else 0, np.float32)
    last = rows.size - 1
    for i in range(min(_AHEAD * turn, rows.size)):
        _ask_for(source, rows[i] * width, width)
    for start in range(0, rows.size, turn):
        end = min(start + turn, rows.size)
        for i in range(start, end):
            at, then = rows[i] * width, rows[min(i + _AHEAD * turn, last)] * width
            if small:
                _copy(source, at, width, scratch, (i - start) * width, then)
                continue
            _cut(
                source, at, then, i, obs, action, reward, next_obs, terminated, obs_dim, action_dim
            )
        for i in range(start, end if small else start):
            at = (i - start) * width
            _cut(scratch, at, at, i, obs, action, reward, next_obs, terminated, obs_dim, action_dim)


@helper
def _copy_beginnings(table: Floats, rows: Ints, out: Floats) -> None:
    """Copy the beginnings of the drawn records."""
    width, length = table.shape[1], out.shape[2]
    source, flat = table.reshape(-1), out.reshape(-1)
    ahead = 1 + _AHEAD * _SCRATCH // (2 * width)
    last = rows.size - 1
    for i in range(min(ahead, rows.size)):
        _ask_for(source, rows[i] * width, length)
    for i in range(rows.size):
        then = rows[min(i + ahead, last)] * width
        _copy(source, rows[i] * width, length, flat, i * length, then)


@helper
def _check_records(
    table: Floats,
    out_task: Ints,
    out_obs: Floats,
    out_action: Floats,
    out_reward: Floats,
    out_next_obs: Floats,
    out_terminated: Floats,
    out_context: Floats,
) -> None:
    """Raise ValueError unless the outputs agree on M and B, and fit the records."""
    batch = out_reward.shape
    if out_task.size != batch[0] or out_context.shape[0] != batch[0]:
        raise ValueError("out_task, out_context: numbers of tasks differ")
    if out_obs.shape[:2] != batch or out_action.shape[:2] != batch:
        raise ValueError("out_obs, out_action: expected [M, B, ...]")
    if out_next_obs.shape != out_obs.shape or out_terminated.shape != batch:
        raise ValueError("out_next_obs, out_terminated: expected [M, B, obs_dim] and [M, B]")
    obs_dim, action_dim = out_obs.shape[2], out_action.shape[2]
    if table.shape[1] < 2 * obs_dim + action_dim + 2:
        raise ValueError("table: too few columns for obs, action, reward, next_obs, terminated")
    features = out_context.shape[2] - obs_dim - action_dim - 1
    if features not in (0, obs_dim):
        raise ValueError("out_context: expected [M, K, features], [s, a, r] or [s, a, r, s']")


@jit(
    types.void(
        types.uint64, types.int64, I8_1, I8_1, I8_1, I8_1, I8_1, F4_2,
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
    table: Floats,
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
        context_rows: Rows of the contexts, slot by slot.
        context_starts: ``[T + 1]`` where each slot's part of ``context_rows`` starts.
        table: ``[N, W]`` one record a transition; fastest where rows begin on a cache line.
        out_task: ``[M]`` the drawn slots, written.
        out_obs: ``[M, B, obs_dim]``, written.
        out_action: ``[M, B, action_dim]``, written.
        out_reward: ``[M, B]``, written.
        out_next_obs: ``[M, B, obs_dim]``, written.
        out_terminated: ``[M, B]``, written.
        out_context: ``[M, K, features]`` beginnings of records, written.

    Raises:
        ValueError: The shapes do not fit together, the pool is empty or names a slot without rows,
            or a row is out of range.
    """
    if task_pool.size == 0:
        raise ValueError("task_pool: empty")
    _check_slots(task_pool, replay_rows, replay_starts)
    _check_slots(task_pool, context_rows, context_starts)
    _check_records(
        table, out_task, out_obs, out_action, out_reward, out_next_obs, out_terminated, out_context
    )
    num_rows, num_context = out_reward.shape[1], out_context.shape[1]
    rows = np.empty(out_task.size * num_rows, np.int64)
    picks = np.empty(out_task.size * num_context, np.int64)
    _draw(key, update, TASK_DRAWS, 0, task_pool, out_task)
    for m in range(out_task.size):
        slot, number = out_task[m], m * num_rows
        pool = replay_rows[replay_starts[slot] : replay_starts[slot + 1]]
        _draw(key, update, REPLAY_ROWS, number, pool, rows[number : number + num_rows])
        number = m * num_context
        pool = context_rows[context_starts[slot] : context_starts[slot + 1]]
        _draw(key, update, CONTEXT_ROWS, number, pool, picks[number : number + num_context])
    _check_rows(rows, table.shape[0])
    _check_rows(picks, table.shape[0])
    _copy_records(table, rows, out_obs, out_action, out_reward, out_next_obs, out_terminated)
    _copy_beginnings(table, picks, out_context)
