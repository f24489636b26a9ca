"""The target `study`: its preset, its arms, and its table from a real, tiny run."""

from __future__ import annotations

import csv
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from pipeline.launch import default_preset

ROOT = Path(__file__).resolve().parents[2]

pytestmark = pytest.mark.workflow

STUDY = """
envs: [point-robot]
methods: [smac]
results: results/study
rounds: 2
arms:
  again: {of: smac, offline_of: smac, settings: {all: {relabel: {context_size: 3}}}}
  there: {of: smac, envs: [cheetah-vel]}
"""
# smac's offline phase and round 0 serve the arm; the arm for cheetah-vel makes nothing here.
JOBS = {
    "tasks": 1,
    "collect": 1,
    "meta_train": 1,
    "rollout": 4,
    "relabel": 4,
    "finetune": 4,
    "evaluate": 5,
    "study": 1,
}


@pytest.fixture
def study(fresh):
    tree = fresh()
    (tree.root / "config/study.yaml").write_text(STUDY)
    return tree


def test_the_target_brings_its_preset(study):
    assert study.would_run("study") == JOBS
    study.snakemake("--cores", "2", "study")
    assert (study.root / "results/study/study.csv").exists()
    label = study.root / "results/study/point-robot/again/seed0/round1/relabel/rewards.zarr"
    assert 'context_size":3' in (label / "zarr.json").read_text().replace(" ", "")
    assert study.would_run("study") == {}
    assert not (study.root / "results/point-robot").exists()


def test_a_preset_on_the_command_line_wins(study):
    jobs = study.would_run("study", "--configfile", "config/config.yaml")
    assert jobs["evaluate"] == 12
    said = study.snakemake("-n", "study", "--configfile", "config/config.yaml")
    assert "results/study.csv" in said
    assert "results/study/" not in said


def test_jobs_that_snakemake_starts_see_the_same_preset(study):
    # A job of a cluster is a Snakemake of its own, which is not told the target.
    with (study.root / "Snakefile").open("a") as stream:
        stream.write("print('TOLD', workflow.spawned_job_args_factory.get_configfiles_arg())\n")
    assert re.search(r"TOLD --configfiles \S+config/study.yaml\n", study.snakemake("-n", "study"))
    assert "TOLD \n" in study.snakemake("-n")


@pytest.mark.parametrize("words", [["--cores", "2"], ["--directory", "study"], ["--no-such"], []])
def test_another_target_takes_the_default_preset(words):
    assert default_preset(words) == "config/config.yaml"


@pytest.mark.parametrize("words", ["study", "-n study", "--cores 2 study", "-c 1 -- study verify"])
def test_the_target_is_found_wherever_it_stands(words):
    assert default_preset(words.split()) == "config/study.yaml"


@pytest.fixture(scope="module")
def table(tmp_path_factory):
    """Rows of study.csv of config/study-test.yaml."""
    folder = tmp_path_factory.mktemp("study")
    options = {
        "--cores": "2",
        "--snakefile": ROOT / "Snakefile",
        "--configfile": ROOT / "config/study-test.yaml",
        "--directory": folder,
    }
    words = [str(word) for option in options.items() for word in option]
    done = subprocess.run(
        [sys.executable, "-m", "snakemake", "study", "--nocolor", *words],
        cwd=folder,
        env={name: value for name, value in os.environ.items() if name != "PYTHONPATH"},
        capture_output=True,
        text=True,
        check=False,
        timeout=1200,
    )
    assert done.returncode == 0, (done.stdout + done.stderr)[-10000:]
    with (folder / "results/study/study.csv").open() as stream:
        return list(csv.DictReader(stream))


def test_every_arm_that_was_run_is_in_the_table(table):
    found = {(row["environment"], row["arm"]) for row in table}
    assert found == {
        *(("point-robot", arm) for arm in ("smac", "oracle", "meta-bc", "mean-labels")),
        ("point-robot-3-tasks", "smac"),
    }
    of_arm = [row for row in table if row["arm"] == "mean-labels" and row["seed"] != "all"]
    assert {row["seed"] for row in of_arm} == {"0", "1"}
    assert {(row["round"], row["self_supervised_steps"]) for row in of_arm} == {
        ("0", "0"),
        ("1", "160"),
    }
    contexts = {"own", "prior", "nothing", "random", "own-matched", "offline"}
    assert {row["context"] for row in of_arm} == contexts
    changes = [row for row in table if row["round"] == "change"]
    assert all(float(r["low"]) <= float(r["return"]) <= float(r["high"]) for r in changes)
