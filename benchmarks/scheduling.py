"""Rows ``dag-overhead``: what a run pays besides its work, by stage and as a whole."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator, Sequence

import numpy as np

from benchmarks import tiny_run
from benchmarks.measure import Effort, Label, Row, make_row
from benchmarks.tiny_run import ROOT, Job

PAPER = ROOT / "config/paper.yaml"
PATIENCE = 60.0  # s; how long a dry run of the largest preset may take


def rows(name: str, effort: Effort) -> Iterator[Row]:
    """Measure what Snakemake, process start and imports add to the work of a run.

    Args:
        name: ``dag-overhead``.
        effort: How long.

    Yields:
        Snakemake against a shell script; what each stage costs besides its work; the same of a
        whole run, of the tiny one and of that in ``results/``, where there is one; and the time to
        plan the paper's preset.
    """
    like, seconds, jobs = tiny_run.finished()
    samples = [(seconds, tiny_run.run_script(jobs, like, tiny_run.scratch()))]
    for _ in range(0 if effort.quick else 2):
        again = tiny_run.run_snakemake(tiny_run.scratch())
        samples.append((again, tiny_run.run_script(jobs, like, tiny_run.scratch())))
    pairs = np.array(samples) / len(jobs)
    label = Label(name, f"tiny, {len(jobs)} jobs", "s/job")
    yield make_row(label, "the same commands in a shell script", pairs[:, 0], pairs[:, 1])
    for rule in dict.fromkeys(job.rule for job in jobs):
        of_rule = [job for job in jobs if job.rule == rule]
        overhead = np.array([job.seconds - job.work for job in of_rule])
        work = np.array([job.work for job in of_rule])
        yield make_row(Label(name, f"tiny, {rule}", "s/job"), "its work", overhead, work)
    yield whole(name, "tiny", jobs)
    done = tiny_run.read_jobs(ROOT) if (ROOT / ".snakemake").is_dir() else []
    if done:
        yield whole(name, "results/", done)
    if not effort.quick:
        planned = np.array([_plan_seconds()])
        label = Label(name, f"{PAPER.name}, dry run", "s")
        yield make_row(label, "one minute", planned, np.array([PATIENCE]))


def whole(name: str, size: str, jobs: Sequence[Job]) -> Row:
    """Compare what a whole run pays besides its work with the work.

    Args:
        name: Of the row.
        size: Which run.
        jobs: All its jobs.

    Returns:
        The row; nine parts of work to one of overhead are a ratio of nine.
    """
    work = np.array([sum(job.work for job in jobs)])
    total = sum(job.seconds for job in jobs) + tiny_run.idle_seconds(jobs)
    return make_row(
        Label(name, f"{size}, all of {len(jobs)} jobs", "s"), "work", total - work, work
    )


def _plan_seconds() -> float:
    """Time a dry run of the paper's preset (s)."""
    folder = tiny_run.scratch()
    command = [sys.executable, "-m", "snakemake", "--dry-run", "--quiet", "--cores", "1"]
    command += ["--snakefile", str(ROOT / "Snakefile"), "--directory", str(folder)]
    started = time.perf_counter()
    subprocess.run(
        [*command, "--configfile", str(PAPER)],
        cwd=folder,
        env=tiny_run.environment(folder),
        capture_output=True,
        check=True,
    )
    return time.perf_counter() - started
