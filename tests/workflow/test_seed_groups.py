"""Jobs of several seeds: which there are, what they make, and what they declare."""

from __future__ import annotations

import re
import shutil

import pytest

pytestmark = pytest.mark.workflow

PAIRS = ("--config", "seeds_per_job=2", "seeds_per_learner=2")
# point-robot; smac, oracle and meta-bc; two seeds in one job; two rounds of two online methods.
GROUPED = {
    "tasks": 1,
    "collect": 1,
    "meta_train": 2,
    "rollout": 4,
    "relabel": 4,
    "finetune": 4,
    "evaluate": 6,
    "report": 1,
}


@pytest.fixture
def grouped(fresh):
    """A finished run with two seeds a job."""
    tree = fresh()
    tree.edit(
        "config/config.yaml", "rounds: 2", "rounds: 2\nseeds_per_job: 2\nseeds_per_learner: 2"
    )
    tree.snakemake("--cores", "2")
    return tree


def files(tree) -> set[str]:
    found = (tree.root / "results").rglob("*")
    names = {path.relative_to(tree.root).as_posix() for path in found if path.is_file()}
    return {name for name in names if "/logs/" not in name and "/benchmarks/" not in name}


def test_a_job_of_two_seeds_makes_the_files_of_both(grouped, finished):
    assert files(grouped) == files(finished)
    assert grouped.would_run() == {}
    assert (grouped.root / "results/logs/point-robot/smac/seed0+1/round1/rollout.log").exists()
    assert grouped.would_run("--forceall") == GROUPED


def test_asking_for_one_seed_makes_its_mate_and_says_so(fresh):
    tree = fresh()
    target = "results/point-robot/smac/seed1/meta_train/checkpoint.safetensors"
    said = tree.snakemake("--cores", "2", target, *PAIRS)
    assert "seeds 0 and 1 of meta_train, rollout, relabel, finetune, evaluate" in said
    assert "Asking for a file of one makes the others'" in said
    assert (tree.root / target).exists()
    assert (tree.root / target.replace("seed1", "seed0")).exists()


def test_seeds_outside_the_groups_have_their_own_jobs(fresh):
    tree = fresh()
    jobs = tree.would_run("--config", "seeds=[0,1,2]", "seeds_per_job=2")
    assert (jobs["rollout"], jobs["rollout_one_seed"]) == (4, 4)
    assert jobs["meta_train"] == 6
    said = tree.snakemake(
        "-n", "results/point-robot/smac/seed7/round1/rollout/manifest.json", *PAIRS
    )
    assert "rule rollout_one_seed" in said


def test_a_seed_added_at_the_end_leaves_full_groups_alone(grouped):
    assert grouped.would_run("--config", "seeds=[0,1,2]") == {
        "meta_train_one_seed": 2,
        "rollout_one_seed": 4,
        "relabel_one_seed": 4,
        "finetune_one_seed": 4,
        "evaluate_one_seed": 6,
        "report": 1,
    }


def test_a_stage_that_does_not_declare_it_has_one_job_a_seed(fresh):
    tree = fresh()
    package = tree.root / "my_package"
    package.mkdir()
    (package / "__init__.py").write_text("")
    source = (tree.root / "pipeline/relabel.py").read_text()
    (package / "my_relabel.py").write_text(
        source.replace("MANY_SEEDS = True", "MANY_SEEDS = False")
    )
    swap = "stages={'relabel':'my_package.my_relabel'}"
    tree.snakemake("--cores", "2", *PAIRS, swap)
    jobs = tree.would_run("--forceall", *PAIRS, swap)
    assert jobs == GROUPED | {"relabel": 8}


def test_a_replaced_store_of_an_early_round_reruns_what_follows_it(tree):
    store = tree.root / "results/point-robot/smac/seed0/round1/rollout/transitions.zarr"
    shutil.rmtree(store)
    store.mkdir()
    (store / "zarr.json").write_text("mine")
    # Round 1 from its labels on, and round 2, of this method and seed alone.
    expected = {"rollout": 1, "relabel": 2, "finetune": 2, "evaluate": 2, "report": 1}
    assert tree.would_run() == expected


def test_jobs_declare_the_last_round_alone_where_files_are_shared(fresh):
    tree = fresh()
    target = "results/point-robot/smac/seed0/round40/finetune/checkpoint.safetensors"

    def stores(*options: str) -> list[int]:
        said = tree.snakemake("-n", target, "--config", "rounds=40", *options)
        inputs = re.findall(r"^rule (?:finetune|rollout):\n    input: (.*)$", said, re.MULTILINE)
        assert len(inputs) == 80
        return sorted(line.count("/round") for line in inputs)

    # Checkpoint, rollout and rewards; the first rounds begin from the offline phase.
    assert stores() == [0, 2, *[3] * 78]
    assert stores("--shared-fs-usage", "none")[-1] == 1 + 2 * 40
