"""A tiny run of the real DAG, and what Snakemake recorded of each of its jobs."""

from __future__ import annotations

import base64
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from pipeline.launch import job_environment

ROOT = Path(__file__).resolve().parents[1]
PRESET = Path(__file__).with_name("tiny.yaml")
LONGEST_GAP = 30.0  # s; Snakemake was not running during a longer one


_FOLDERS: list[tempfile.TemporaryDirectory[str]] = []


@dataclass(frozen=True)
class Job:
    """One job that Snakemake ran.

    Args:
        rule: Its rule.
        command: The shell command.
        started: Unix time (s).
        ended: Unix time (s).
        work: What the manifests of its seeds call wall time: without start-up and exit (s).
    """

    rule: str
    command: str
    started: float
    ended: float
    work: float

    @property
    def seconds(self) -> float:
        """From start to finish, as Snakemake saw it (s)."""
        return self.ended - self.started


def scratch() -> Path:
    """Make a folder that lasts as long as this process.

    Returns:
        The folder.
    """
    _FOLDERS.append(tempfile.TemporaryDirectory(prefix="smac-bench-"))
    return Path(_FOLDERS[-1].name)


@cache
def finished() -> tuple[Path, float, list[Job]]:
    """Run the tiny DAG once for all rows.

    Returns:
        Its folder, its wall time (s), its jobs.
    """
    folder = scratch()
    seconds = run_snakemake(folder)
    return folder, seconds, read_jobs(folder)


def read_jobs(folder: Path) -> list[Job]:
    """Read what Snakemake recorded.

    Args:
        folder: Where it ran.

    Returns:
        One entry for every job whose manifests are still there, oldest first.
    """
    records = folder / ".snakemake" / "metadata"
    jobs: dict[str, Job] = {}
    for path in records.rglob("*"):
        # Long names are cut into folders whose names begin with @.
        name = "".join(part.removeprefix("@") for part in path.relative_to(records).parts)
        if not path.is_file():
            continue
        manifest = folder / base64.urlsafe_b64decode(name).decode()
        # Every output has a record; those of the manifests, one a seed, stand for the job.
        if not manifest.name.endswith("manifest.json") or not manifest.is_file():
            continue
        record = json.loads(path.read_text())
        work = float(json.loads(manifest.read_text())["wall_time_s"])
        command, started, ended = record["shellcmd"], record["starttime"], record["endtime"]
        if command in jobs:
            # Snakemake notes the times of each output by itself, a moment apart.
            other = jobs[command]
            started, ended = min(started, other.started), max(ended, other.ended)
            work += other.work
        jobs[command] = Job(record["rule"], command, started, ended, work)
    return sorted(jobs.values(), key=lambda job: job.started)


def idle_seconds(jobs: Sequence[Job]) -> float:
    """Add up the time between jobs, when Snakemake was deciding what comes next.

    Args:
        jobs: Of one run, oldest first.

    Returns:
        Seconds during which no job ran, without pauses between two calls of Snakemake.
    """
    idle, busy_until = 0.0, jobs[0].started
    for job in jobs:
        gap = job.started - busy_until
        if 0.0 < gap < LONGEST_GAP:
            idle += gap
        busy_until = max(busy_until, job.ended)
    return idle


def run_snakemake(folder: Path) -> float:
    """Run the tiny DAG from nothing, one job at a time.

    Args:
        folder: An empty folder.

    Returns:
        Wall time (s).

    Raises:
        RuntimeError: A job failed.
    """
    command = [sys.executable, "-m", "snakemake", "--nocolor", "--cores", "1"]
    command += ["--snakefile", str(ROOT / "Snakefile"), "--directory", str(folder)]
    command += ["--configfile", str(PRESET)]
    return _timed(command, folder)


def run_script(jobs: Sequence[Job], like: Path, folder: Path) -> float:
    """Run the same commands one after another, as a shell script would.

    Args:
        jobs: What to run.
        like: Where Snakemake ran them: gives the folders, which Snakemake makes by itself.
        folder: An empty folder.

    Returns:
        Wall time (s).

    Raises:
        RuntimeError: A command failed.
    """
    for path in (like / "results").rglob("*"):
        if path.is_dir() and ".zarr" not in str(path):
            (folder / path.relative_to(like)).mkdir(parents=True, exist_ok=True)
    script = "set -e\n" + "\n".join(job.command for job in jobs)
    return _timed(["bash", "-c", script], folder)


def stage_words(jobs: Sequence[Job], rule: str) -> str:
    """Return what follows the module's name on a stage's command line, before the redirection.

    Args:
        jobs: Of a run.
        rule: The stage.

    Returns:
        Shell words.
    """
    command = next(job.command for job in jobs if job.rule == rule)
    return command.removeprefix(f"python -m pipeline.{rule} ").rpartition(" > ")[0]


def environment(folder: Path) -> dict[str, str]:
    """Make the environment of a job.

    Args:
        folder: Where it runs.

    Returns:
        All variables.
    """
    variables = os.environ | job_environment(ROOT, os.environ)
    return variables | {"PWD": str(folder)}


def _timed(command: Sequence[str], folder: Path) -> float:
    started = time.perf_counter()
    done = subprocess.run(
        command, cwd=folder, env=environment(folder), capture_output=True, text=True, check=False
    )
    elapsed = time.perf_counter() - started
    if done.returncode != 0:
        raise RuntimeError(f"{command[0]} failed in {folder}:\n{done.stdout}{done.stderr}")
    return elapsed
