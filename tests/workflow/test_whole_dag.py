"""The real workflow on the test preset: it ends, it is deterministic, it survives being killed."""

from __future__ import annotations

import hashlib
import os
import re
import resource
import signal
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from pipeline import config as cf
from pipeline.dag import Plan
from tests.workflow.real_run import PRESET, ROOT, environment, snakemake, words

# One branch through every stage, with MuJoCo and PEARL's collection.
BRANCH = "results/cheetah-vel/smac/seed0/round1/evaluate/returns.zarr"

pytestmark = pytest.mark.workflow


def data_digests(folder: Path) -> dict[str, str]:
    """Hashes every data file: no manifests, logs or benchmarks, and nothing that tells the time."""
    found = {}
    for path in sorted((folder / "results").rglob("*")):
        name = path.relative_to(folder).as_posix()
        data = ".zarr/" in name or path.name in {"tasks.json", "metrics.csv"}
        data = data or path.suffix == ".safetensors"
        if path.is_file() and data and "/." not in name:
            found[name] = hashlib.sha256(path.read_bytes()).hexdigest()
    return found


@dataclass(frozen=True)
class Whole:
    """A finished run of the whole DAG, and the processor time that it took, s."""

    folder: Path
    seconds: float


@pytest.fixture(scope="session")
def whole(tmp_path_factory) -> Whole:
    folder = tmp_path_factory.mktemp("whole dag")  # a space in the path must do no harm
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    snakemake(folder)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    seconds = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return Whole(folder, seconds)


def test_the_whole_dag_ends_in_a_report(whole):
    results = whole.folder / "results"
    assert "</html>" in (results / "report.html").read_text()
    for name in ("summary", "comparison", "improvement", "costs"):
        assert (results / f"{name}.csv").stat().st_size > 0
    assert list((results / "figures").glob("*.svg"))
    run = cf.read_run(str(PRESET))
    for path in Plan(run).report_inputs():
        assert (whole.folder / path).exists(), path
    assert not list(results.rglob(".resume-*"))
    assert not list(results.rglob("*.tmp-*"))


def test_it_takes_about_two_minutes_of_two_cores(whole):
    busy = 1.5  # processor time swells where the machine's threads share cores with other work
    assert whole.seconds < 2 * 120 * busy


def test_a_second_run_has_nothing_to_do(whole):
    before = data_digests(whole.folder)
    said = snakemake(whole.folder)
    assert "Nothing to be done" in said, said
    assert data_digests(whole.folder) == before


def test_every_file_is_sound(whole):
    done = subprocess.run(
        [sys.executable, "-m", "pipeline.verify", str(whole.folder / "results")],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
        timeout=600,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert re.fullmatch(r"\d+ stores, checkpoints and manifests under .* are sound\n", done.stdout)


def test_every_job_left_its_log_and_benchmark(whole):
    manifests = [p for p in (whole.folder / "results").rglob("*manifest.json") if p.is_file()]
    of_two_seeds = [p for p in manifests if "/seed1/" in str(p)]
    logs = list((whole.folder / "results/logs").rglob("*.log"))
    benchmarks = list((whole.folder / "results/benchmarks").rglob("*.tsv"))
    assert len(logs) == len(benchmarks) == len(manifests) - len(of_two_seeds)


def test_no_rollout_of_smac_has_a_reward(whole):
    stores = list((whole.folder / "results").rglob("smac/seed0/round*/rollout/transitions.zarr"))
    assert len(stores) == 4
    assert not [path for path in stores if (path / "data/reward").exists()]


def test_one_core_and_one_seed_a_job_give_the_same_bytes(whole, tmp_path):
    snakemake(tmp_path, BRANCH, "--config", "seeds_per_job=1", "seeds_per_learner=1", cores=1)
    found, expected = data_digests(tmp_path), data_digests(whole.folder)
    assert len(found) > 100  # files
    assert found == {name: expected[name] for name in found}


@pytest.mark.slow
def test_one_core_gives_the_same_bytes_everywhere(whole, tmp_path):
    snakemake(tmp_path, cores=1)
    assert data_digests(tmp_path) == data_digests(whole.folder)


def cut_short(folder: Path, seconds: float, *, jobs_too: bool) -> bool:
    """Starts the workflow and kills it; tells whether work was left."""
    process = subprocess.Popen(
        words(folder, "--rerun-incomplete"),
        cwd=folder,
        env=environment(),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,  # a process group of its own, which can be killed as one
    )
    try:
        process.wait(seconds)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL) if jobs_too else process.kill()
        process.wait()
        return True
    return process.returncode != 0


@pytest.mark.slow
@pytest.mark.parametrize("jobs_too", [True, False])
def test_a_killed_workflow_is_taken_up_again(whole, tmp_path, jobs_too):
    # Where the knife falls depends on the machine: that it may fall anywhere is the point. A job
    # that outlives its Snakemake makes the next one fail, with a line about two writers.
    pause = max(10.0, whole.seconds / 12)
    cuts = 0
    while cut_short(tmp_path, pause, jobs_too=jobs_too):
        cuts += 1
        assert cuts < 30
        snakemake(tmp_path, "--unlock")
        pause *= 1.2
    assert cuts > 0
    assert "Nothing to be done" in snakemake(tmp_path)
    assert data_digests(tmp_path) == data_digests(whole.folder)
