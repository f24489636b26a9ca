"""Small stores and broken disks that several tests share."""

from __future__ import annotations

import errno
import os
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pipeline import files, store

Arrays = dict[str, np.ndarray]


def make_transitions(lengths: tuple[int, ...] = (3, 1, 4), obs_dim: int = 2) -> Arrays:
    rng = np.random.default_rng(len(lengths))
    rows, episodes = sum(lengths), len(lengths)
    ends = np.cumsum(lengths, dtype=np.int64)
    task_id = np.arange(episodes, dtype=np.int32) % 2
    truncated = np.zeros(rows, dtype=bool)
    truncated[ends - 1] = True
    return {
        "data/obs": rng.normal(size=(rows, obs_dim)).astype(np.float32),
        "data/action": rng.uniform(-1, 1, (rows, 2)).astype(np.float32),
        "data/reward": rng.normal(size=rows).astype(np.float32),
        "data/terminated": np.zeros(rows, dtype=bool),
        "data/truncated": truncated,
        "data/task_id": np.repeat(task_id, lengths),
        "meta/episode_ends": ends,
        "meta/final_obs": rng.normal(size=(episodes, obs_dim)).astype(np.float32),
        "meta/episode_task_id": task_id,
        "meta/episode_source": np.ones(episodes, dtype=np.int8),
        "meta/episode_iteration": np.zeros(episodes, dtype=np.int32),
        "meta/episode_ok": np.ones(episodes, dtype=bool),
    }


def make_attributes(**changes: Any) -> dict[str, Any]:
    return {
        "env_id": "point-robot",
        "env_params": {"horizon": 20},
        "obs_dim": 2,
        "action_dim": 2,
        "reward_source": "environment",
    } | changes


@pytest.fixture
def transitions() -> Callable[..., Arrays]:
    return make_transitions


@pytest.fixture
def attributes() -> Callable[..., dict[str, Any]]:
    return make_attributes


@pytest.fixture
def written(tmp_path: Path) -> Path:
    """A sound transitions store."""
    store.write_store(tmp_path / "a.zarr", "transitions", make_transitions(), make_attributes())
    return tmp_path / "a.zarr"


def read_tree(folder: Path) -> dict[str, bytes]:
    paths = (path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in paths}


@pytest.fixture
def tree() -> Callable[[Path], dict[str, bytes]]:
    return read_tree


@pytest.fixture
def full_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder on a disk of 256 KiB; where nothing can be mounted, one whose fsync says so."""
    folder = tmp_path / "small"
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", str(folder)]
    try:
        mounted = subprocess.run(command, capture_output=True, check=False).returncode == 0
    except FileNotFoundError:
        mounted = False
    if not mounted:

        def full(path: Path) -> None:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))

        monkeypatch.setattr(files, "_sync", full)
    yield folder
    if mounted:
        subprocess.run(["umount", str(folder)], check=True)
