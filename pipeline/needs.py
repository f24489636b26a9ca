"""What a method declares that it needs of the offline data, checked before it trains."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.schema import EPISODE_SOURCES
from pipeline.store import read_arrays
from smac_core.errors import StoreError

_FIX = "the stage collect makes it: pass results/<env>/collect/transitions.zarr"
_ENDS, _TASK, _SOURCE = "meta/episode_ends", "meta/episode_task_id", "meta/episode_source"
_SOUND = "meta/episode_ok"

Arrays = Mapping[str, np.ndarray]


def check_needs(method: str, needs: Sequence[str], path: Path, tasks: Sequence[int]) -> None:
    """Refuse a dataset that lacks what a method needs.

    Args:
        method: Its name, for the message.
        needs: Names of ``pipeline.sections.NEEDS``.
        path: A transitions store.
        tasks: The training tasks.

    Raises:
        StoreError: Something is missing.
    """
    if not needs:
        return
    attributes, arrays = read_arrays(path, "transitions", (_ENDS, _TASK, _SOURCE, _SOUND))
    for need in needs:
        expected, found, fix = _CHECKS[need](attributes, arrays, tasks)
        if found is not None:
            what = f"{method} needs {_MEANING[need]}"
            raise StoreError(what, where=path, expected=expected, found=found, fix=fix)


_MEANING = {
    "rewards": "the true reward of every step",
    "order": "the steps of an episode in their order",
    "experts": "expert episodes of every training task",
}
_Told = tuple[str, str | None, str]


def _rewards(attributes: Mapping[str, Any], arrays: Arrays, tasks: Sequence[int]) -> _Told:
    source = attributes["reward_source"]
    found = None if source == "environment" else f"reward_source {source}"
    return "data/reward with reward_source environment", found, _FIX


def _order(attributes: Mapping[str, Any], arrays: Arrays, tasks: Sequence[int]) -> _Told:
    lengths = np.diff(arrays[_ENDS], prepend=0)
    single = len(lengths) == 0 or int(lengths.max()) == 1
    found = "no episode of two steps, as if rows had been shuffled" if single else None
    return f"{_ENDS} of whole episodes", found, _FIX


def _experts(attributes: Mapping[str, Any], arrays: Arrays, tasks: Sequence[int]) -> _Told:
    # Where the simulator diverged, nobody was shown what to do.
    shown = (arrays[_SOURCE] == EPISODE_SOURCES["expert"]) & arrays[_SOUND]
    expert = arrays[_TASK][shown]
    lacking = sorted(set(tasks) - set(expert.tolist()))
    found = f"none for {len(lacking)} of {len(tasks)} tasks, task {min(lacking, default=0)} first"
    fix = "a module in place of the stage collect makes them: docs/plug-ins.md, A dataset"
    code = EPISODE_SOURCES["expert"]
    return f"episodes with {_SOURCE} {code} (expert)", found if lacking else None, fix


_CHECKS: dict[str, Callable[[Mapping[str, Any], Arrays, Sequence[int]], _Told]] = {
    "rewards": _rewards,
    "order": _order,
    "experts": _experts,
}
