"""Rows ``stage-start-<stage>`` and ``dag-overhead``: what a run pays besides its work."""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from functools import cache
from pathlib import Path

import numpy as np

from benchmarks import tiny_run
from benchmarks.measure import Effort, Label, Row, make_row
from benchmarks.tiny_run import ROOT, Job

ACTING = ("rollout", "relabel", "evaluate")
# What an acting script without the compiled core imports before it does anything.
TORCH_IMPORTS = "import time, torch, gymnasium, mujoco, zarr; print(time.monotonic())"
_FOLDERS: list[tempfile.TemporaryDirectory[str]] = []


def _scratch() -> Path:
    """Make a folder that lasts as long as this process."""
    _FOLDERS.append(tempfile.TemporaryDirectory(prefix="smac-bench-"))
    return Path(_FOLDERS[-1].name)


@cache
def _finished() -> tuple[Path, float, list[Job]]:
    """Run the tiny DAG once for all rows: its folder, its wall time, its jobs."""
    folder = _scratch()
    seconds = tiny_run.run_snakemake(folder)
    return folder, seconds, tiny_run.read_jobs(folder)


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
    """Measure how long an acting stage takes to its first work, with warm caches.

    Args:
        name: ``stage-start-<stage>``.
        effort: How long.

    Yields:
        One row.
    """
    folder, _, jobs = _finished()
    stage = name.removeprefix("stage-start-")
    words = tiny_run.stage_words(jobs, stage)
    sides = (
        f"python -m benchmarks.first_work {stage} {words}",
        [sys.executable, "-c", TORCH_IMPORTS],
    )
    for side in sides:
        _start_seconds(side, folder)  # pages and compiled code into the cache
    seconds = np.array([[_start_seconds(side, folder) for side in sides] for _ in _rounds(effort)])
    label = Label(name, "point-robot, to first work", "s")
    yield make_row(label, "import torch, gymnasium, mujoco, zarr", seconds[:, 0], seconds[:, 1])


def dag_rows(name: str, effort: Effort) -> Iterator[Row]:
    """Measure what Snakemake, process start and imports add to the work of a run.

    Args:
        name: ``dag-overhead``.
        effort: How long.

    Yields:
        Snakemake against a shell script; each stage against its work alone; a whole run against its
        work alone, for the tiny run and for the run in ``results/``, where there is one.
    """
    like, seconds, jobs = _finished()
    samples = [(seconds, tiny_run.run_script(jobs, like, _scratch()))]
    for _ in _rounds(effort)[1:3]:
        again = tiny_run.run_snakemake(_scratch())
        samples.append((again, tiny_run.run_script(jobs, like, _scratch())))
    pairs = np.array(samples) / len(jobs)
    yield make_row(
        Label(name, f"tiny, {len(jobs)} jobs", "s/job"),
        "the same commands in a shell script",
        pairs[:, 0],
        pairs[:, 1],
    )
    for rule in dict.fromkeys(job.rule for job in jobs):
        of_rule = [job for job in jobs if job.rule == rule]
        yield make_row(Label(name, f"tiny, {rule}", "s/job"), "work alone", *_sides(of_rule))
    yield _whole(name, "tiny", jobs)
    done = tiny_run.read_jobs(ROOT) if (ROOT / ".snakemake").is_dir() else []
    if done:
        yield _whole(name, "results/", done)


def _rounds(effort: Effort) -> range:
    return range(1 if effort.quick else effort.rounds)


def _sides(jobs: Sequence[Job]) -> tuple[np.ndarray, np.ndarray]:
    return np.array([job.seconds for job in jobs]), np.array([job.work for job in jobs])


def _whole(name: str, size: str, jobs: Sequence[Job]) -> Row:
    """Compare a whole run with its work: the ratio is the share of time that is work."""
    total, work = (side.sum(keepdims=True) for side in _sides(jobs))
    label = Label(name, f"{size}, all of {len(jobs)} jobs", "s")
    return make_row(label, "work alone", total + tiny_run.idle_seconds(jobs), work)
