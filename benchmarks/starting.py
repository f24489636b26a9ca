"""Rows ``stage-start-<stage>``: how long a process takes until it does what it is for."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from benchmarks import tiny_run
from benchmarks.measure import Effort, Label, Row, make_row

STAGES = ("rollout", "relabel", "evaluate", "meta_train", "finetune")
# What an acting script without the compiled core imports before it does anything.
TORCH_IMPORTS = "import time, torch, gymnasium, mujoco, zarr; print(time.monotonic())"


def _start_seconds(command: Sequence[str] | str, folder: Path) -> float:
    """Time from starting a process to the moment that it prints (s)."""
    started = time.monotonic()
    done = subprocess.run(
        command,
        shell=isinstance(command, str),
        cwd=folder,
        env=tiny_run.environment(folder),
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode != 0:
        raise RuntimeError(f"{command} failed:\n{done.stderr}")
    return float(done.stdout.split()[-1]) - started


def start_rows(name: str, effort: Effort) -> Iterator[Row]:
    """Measure how long a stage takes to its first work, with warm caches.

    Args:
        name: ``stage-start-<stage>``.
        effort: How long.

    Yields:
        One row.
    """
    folder, _, jobs = tiny_run.finished()
    stage = name.removeprefix("stage-start-")
    words = tiny_run.stage_words(jobs, stage)
    sides = (
        f"python -m benchmarks.first_work {stage} {words}",
        [sys.executable, "-c", TORCH_IMPORTS],
    )
    for side in sides:
        _start_seconds(side, folder)  # pages and compiled code into the cache
    seconds = np.array(
        [
            [_start_seconds(side, folder) for side in sides]
            for _ in range(1 if effort.quick else effort.rounds)
        ]
    )
    label = Label(name, "point-robot, to first work", "s")
    yield make_row(label, "import torch, gymnasium, mujoco, zarr", seconds[:, 0], seconds[:, 1])
