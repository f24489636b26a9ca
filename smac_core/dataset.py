"""The multi-task dataset in memory: flat rows, and for each task which rows a phase may draw.

The offline data and the self-supervised rollouts are one table; a task's replay rows feed critic,
actor and decoder (h'), its context rows feed the encoder (h). Zarr is only the hand-over between
stages: batches are never sampled from it.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from smac_core.config import SliceConfig
from smac_core.errors import StoreError

CACHE_LINE = 16  # float32 values


@dataclass(frozen=True)
class Transitions:
    """Rows of one store in collection order.

    Args:
        obs: ``[N, obs_dim]`` float32.
        action: ``[N, action_dim]`` float32, in [-1, 1].
        reward: ``[N]`` float32, unscaled.
        next_obs: ``[N, obs_dim]`` float32.
        terminated: ``[N]`` float32, 1 at a terminal state; a time limit is 0.
        task_id: ``[N]`` int64.
        source: ``[N]`` names' codes of how the row was collected, int64.
    """

    obs: np.ndarray
    action: np.ndarray
    reward: np.ndarray
    next_obs: np.ndarray
    terminated: np.ndarray
    task_id: np.ndarray
    source: np.ndarray

    def __len__(self) -> int:
        return len(self.reward)


@dataclass(frozen=True)
class Rows:
    """For each task slot, the rows that may be drawn.

    Args:
        index: Row numbers, grouped by task slot, int64.
        starts: ``[T + 1]`` where each slot begins in ``index``, int64.
    """

    index: np.ndarray
    starts: np.ndarray

    def of(self, slot: int) -> np.ndarray:
        """Return the row numbers of one task slot."""
        return self.index[self.starts[slot] : self.starts[slot + 1]]

    @property
    def counts(self) -> np.ndarray:
        """Number of rows of each slot."""
        return np.diff(self.starts)


@dataclass(frozen=True)
class Dataset:
    """Everything a learner draws from.

    Args:
        table: ``[N, W]`` float32, one record a row: obs, action, reward, next_obs, terminated, then
            padding to whole cache lines. A row drawn at random is then one run of memory.
        transitions: All rows; its float32 arrays are columns of the table.
        features: ``[N, features]`` float32, what the encoder sees, [s, a, r] or [s, a, r, s']: the
            table's first columns.
        replay: Rows for critic, actor and decoder.
        context: Rows for the encoder.
        task_ids: Task of each slot.
    """

    table: np.ndarray
    transitions: Transitions
    features: np.ndarray
    replay: Rows
    context: Rows
    task_ids: tuple[int, ...]


def context_features(
    obs: np.ndarray, action: np.ndarray, reward: np.ndarray, next_obs: np.ndarray | None
) -> np.ndarray:
    """Lay transitions out as the encoder reads them.

    Args:
        obs: ``[N, obs_dim]``.
        action: ``[N, action_dim]``.
        reward: ``[N]`` unscaled.
        next_obs: ``[N, obs_dim]``, or None for [s, a, r].

    Returns:
        ``[N, obs_dim + action_dim + 1 (+ obs_dim)]`` float32.
    """
    parts = [obs, action, reward[:, None]]
    if next_obs is not None:
        parts.append(next_obs)
    return np.ascontiguousarray(np.concatenate(parts, axis=1), dtype=np.float32)


def pack_records(transitions: Transitions) -> np.ndarray:
    """Copy transitions into one table, as ``Dataset`` describes it.

    Args:
        transitions: All rows.

    Returns:
        ``[N, W]`` float32; rows begin on cache lines.
    """
    t = transitions
    columns = np.cumsum([0, t.obs.shape[1], t.action.shape[1], 1, t.obs.shape[1], 1])
    num, width = len(t), -(-int(columns[-1]) // CACHE_LINE) * CACHE_LINE
    memory = np.zeros(num * width + CACHE_LINE, dtype=np.float32)
    start = -memory.ctypes.data // memory.itemsize % CACHE_LINE
    table = memory[start : start + num * width].reshape(num, width)
    parts = (t.obs, t.action, t.reward[:, None], t.next_obs, t.terminated[:, None])
    for begin, end, part in zip(columns[:-1], columns[1:], parts, strict=True):
        table[:, begin:end] = part
    return table


def _view_records(table: np.ndarray, like: Transitions) -> Transitions:
    """Return the columns of a table of ``like``."""
    obs_dim, middle = like.obs.shape[1], like.obs.shape[1] + like.action.shape[1]
    return dataclasses.replace(
        like,
        obs=table[:, :obs_dim],
        action=table[:, obs_dim:middle],
        reward=table[:, middle],
        next_obs=table[:, middle + 1 : middle + 1 + obs_dim],
        terminated=table[:, middle + 1 + obs_dim],
    )


def slice_rows(
    transitions: Transitions, task_id: int, selection: SliceConfig, source_codes: Sequence[int]
) -> np.ndarray:
    """Choose the rows of one task that a phase sees.

    Args:
        transitions: Rows in collection order.
        task_id: The task.
        selection: All, the first or the last so many rows.
        source_codes: Codes of the sources that count; empty: every source.

    Returns:
        Row numbers in collection order, int64.

    Source: smac-reference section 4, "Saved slices".
    """
    mask = transitions.task_id == task_id
    if source_codes:
        mask &= np.isin(transitions.source, source_codes)
    rows = np.flatnonzero(mask)
    if selection.take == "first":
        rows = rows[: selection.rows]
    elif selection.take == "last":
        rows = rows[max(len(rows) - selection.rows, 0) :]
    return rows.astype(np.int64)


def group_rows(per_slot: Sequence[np.ndarray]) -> Rows:
    """Pack one row list a slot into one index.

    Args:
        per_slot: Row numbers of each slot.

    Returns:
        The packed rows.
    """
    starts = np.zeros(len(per_slot) + 1, dtype=np.int64)
    np.cumsum([len(rows) for rows in per_slot], out=starts[1:])
    index = np.concatenate(per_slot) if per_slot else np.zeros(0)
    return Rows(index.astype(np.int64), starts)


def take_rows(transitions: Transitions, rows: np.ndarray) -> Transitions:
    """Copy some rows.

    Args:
        transitions: All rows.
        rows: Which, int64.

    Returns:
        Those rows, in that order.
    """
    names = Transitions.__dataclass_fields__
    return Transitions(**{name: getattr(transitions, name)[rows] for name in names})


def join(parts: Sequence[Transitions]) -> Transitions:
    """Concatenate the rows of several stores, oldest first.

    Args:
        parts: Rows of each store.

    Returns:
        One table.
    """
    if len(parts) == 1:
        return parts[0]
    names = Transitions.__dataclass_fields__
    return Transitions(**{n: np.concatenate([getattr(p, n) for p in parts]) for n in names})


def build_dataset(
    transitions: Transitions,
    task_ids: Sequence[int],
    replay: Sequence[np.ndarray],
    context: Sequence[np.ndarray],
    *,
    context_next_obs: bool = False,
) -> Dataset:
    """Assemble a dataset from rows and per-task row lists.

    Args:
        transitions: All rows.
        task_ids: Task of each slot.
        replay: Replay rows of each slot.
        context: Context rows of each slot.
        context_next_obs: Whether the encoder sees s'.

    Returns:
        The dataset; the rows are copied.

    Raises:
        StoreError: A task has no replay or no context rows, or a reward is not finite.
    """
    for name, lists in (("replay", replay), ("context", context)):
        empty = [task_ids[slot] for slot, rows in enumerate(lists) if len(rows) == 0]
        if empty:
            raise StoreError(
                f"no {name} transitions for {len(empty)} task(s)",
                where=f"task {empty[0]}",
                expected="at least one row a training task",
                fix="collect every training task, or widen the slice of meta_train in the config",
            )
    used = np.unique(np.concatenate([*replay, *context]))
    for field in ("obs", "action", "reward", "next_obs"):
        values = getattr(transitions, field)
        if not np.isfinite(values[used]).all():
            raise StoreError(
                f"{field} is not finite in the rows of this phase",
                expected="finite numbers",
                fix="run `python -m pipeline.verify` and collect the damaged store again",
            )
    table = pack_records(transitions)
    seen = transitions.obs.shape[1] * (1 + context_next_obs) + transitions.action.shape[1] + 1
    return Dataset(
        table,
        _view_records(table, transitions),
        table[:, :seen],
        group_rows(replay),
        group_rows(context),
        tuple(task_ids),
    )
