"""Offline rows as the contexts that a meta-test is given."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from pipeline.data import OfflineEpisodes, offline_rows
from smac_core.config import SliceConfig
from smac_core.errors import StoreError
from smac_core.meta_agent import Context


def offline_contexts(
    offline: OfflineEpisodes,
    task_ids: Sequence[int],
    selection: SliceConfig,
    *,
    whole_episodes: bool,
) -> list[Context]:
    """Lay the offline rows of each task out as a context.

    Args:
        offline: The offline dataset.
        task_ids: Tasks.
        selection: The slice.
        whole_episodes: Whether episodes that the slice cuts are left out.

    Returns:
        One context a task.

    Raises:
        StoreError: A task has no such rows.
    """
    rows, out = offline.rows, []
    for task, every in zip(task_ids, offline_rows(rows, task_ids, selection), strict=True):
        chosen = every
        if whole_episodes:
            _, which, found = np.unique(
                offline.episode[every], return_inverse=True, return_counts=True
            )
            chosen = every[found[which] == offline.length[every]]
            if len(chosen) == 0:
                raise StoreError(
                    "the slice holds no whole episode",
                    where=f"task {task}",
                    expected="episodes from their first to their last step",
                    fix="widen the slice of meta_train in the config",
                )
        out.append(
            Context(
                rows.obs[chosen],
                rows.action[chosen],
                rows.reward[chosen],
                rows.next_obs[chosen],
                rows.terminated[chosen] > 0,
                np.unique(offline.episode[chosen], return_inverse=True)[1],
                offline.t[chosen],
            )
        )
    return out
