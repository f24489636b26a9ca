"""The collectors: what they gather, in which order, and what they say of it."""

from __future__ import annotations

import csv
import json
import re
from pathlib import Path

import numpy as np
import pytest

from pipeline.derived import next_obs
from pipeline.manifest import read_manifest
from pipeline.schema import EPISODE_SOURCES

HORIZON = 20


COLLECTORS = {"untrained": "init", "scripted": "scripted", "pearl": "init"}
COLLECTORS["task-conditioned"] = "init"


@pytest.fixture(scope="session")
def collected(finished, tmp_path_factory):
    """A dataset of each collector: 40 steps a task, then two iterations of two visits."""
    out = {}
    for policy in COLLECTORS:
        folder = tmp_path_factory.mktemp(policy)
        out[policy] = folder / "transitions.zarr"
        later = {"iterations": 2, "tasks_per_iteration": 2, "updates_per_iteration": 3}
        visit = {"prior_steps": 40, "posterior_steps": 60, "context_size": 8}
        config = finished.section(
            "collect", policy=policy, visit=visit, evaluate_every=1, seed=3, **later
        )
        assert finished.call("collect", changes={"config": config, "out": out[policy]}) == 0
    return out


@pytest.mark.parametrize("policy", COLLECTORS)
def test_collection_begins_with_every_training_task(finished, collected, policy):
    arrays = finished.transitions(collected[policy]).arrays
    first = arrays["meta/episode_iteration"] == 0
    # 40 steps of a horizon of 20: two episodes a task, task by task.
    assert arrays["meta/episode_task_id"][first].tolist() == [0, 0, 1, 1, 2, 2, 3, 3]
    assert set(arrays["meta/episode_source"][first]) == {EPISODE_SOURCES[COLLECTORS[policy]]}
    assert np.diff(arrays["meta/episode_ends"], prepend=0).tolist() == [HORIZON] * len(first)


@pytest.mark.parametrize("policy", COLLECTORS)
def test_collected_rewards_are_the_environments(finished, collected, policy):
    found = finished.transitions(collected[policy])
    goals = np.array(json.loads(finished.path("tasks").read_text())["parameters"])
    after = next_obs(found).astype(np.float64)
    distance = np.linalg.norm(after - goals[found.arrays["data/task_id"]], axis=1)
    np.testing.assert_allclose(found.arrays["data/reward"], -distance, atol=1e-6)
    assert found.attributes["reward_source"] == "environment"
    # This environment observes where it is.
    np.testing.assert_array_equal(found.arrays["data/position"], found.arrays["data/obs"])
    assert not found.arrays["data/terminated"].any()
    assert found.arrays["data/truncated"].sum() == len(found.arrays["meta/episode_ends"])


@pytest.mark.parametrize("policy", ["untrained", "scripted"])
def test_a_collector_that_does_not_learn_stops_there(finished, collected, policy):
    assert len(finished.transitions(collected[policy]).arrays["data/obs"]) == 4 * 40


@pytest.mark.parametrize(
    ("policy", "sources"),
    [
        # Each visit: 40 prior steps; then 60, of which PEARL's first episode has no context yet.
        ("pearl", ["prior", "prior", "prior", "posterior", "posterior"]),
        ("task-conditioned", ["prior", "prior", "posterior", "posterior", "posterior"]),
    ],
)
def test_a_learning_collector_visits_tasks(finished, collected, policy, sources):
    arrays = finished.transitions(collected[policy]).arrays
    assert len(arrays["data/obs"]) == 4 * 40 + 2 * 2 * 100
    codes = [EPISODE_SOURCES[name] for name in sources]
    assert arrays["meta/episode_source"][8:].tolist() == codes * 4
    assert arrays["meta/episode_iteration"][8:].tolist() == [1] * 10 + [2] * 10
    visits = arrays["meta/episode_task_id"][8:].reshape(4, 5)
    assert (visits == visits[:, :1]).all()


@pytest.mark.parametrize("policy", COLLECTORS)
def test_collection_leaves_its_statistics(finished, collected, policy):
    manifest = read_manifest(collected[policy].with_name("manifest.json"))
    arrays = finished.transitions(collected[policy]).arrays
    assert manifest["policy"] == policy
    assert manifest["transitions"] == len(arrays["data/obs"])
    by_source = {name: said["transitions"] for name, said in manifest["sources"].items()}
    lengths = np.diff(arrays["meta/episode_ends"], prepend=0)
    assert by_source == {
        name: int(lengths[arrays["meta/episode_source"] == code].sum())
        for name, code in EPISODE_SOURCES.items()
        if code in arrays["meta/episode_source"]
    }
    returns = np.add.reduceat(arrays["data/reward"], arrays["meta/episode_ends"] - lengths)
    name = COLLECTORS[policy]
    chosen = arrays["meta/episode_source"] == EPISODE_SOURCES[name]
    mean = manifest["sources"][name]["mean_return"]
    assert mean == pytest.approx(returns[chosen].mean(), rel=1e-5)
    learns = policy in {"pearl", "task-conditioned"}
    # Two visits an iteration, of five episodes each, also where both are to one task.
    visited = arrays["meta/episode_task_id"][arrays["meta/episode_iteration"] > 0][::5]
    assert manifest["visits_per_task"] == np.bincount(visited, minlength=4).tolist()
    assert len(visited) == (4 if learns else 0)
    with collected[policy].with_name("metrics.csv").open() as stream:
        rows = list(csv.DictReader(stream))
    assert [float(row["iteration"]) for row in rows] == ([0.0, 1.0, 2.0] if learns else [0.0])
    assert [float(row["update"]) for row in rows] == ([0.0, 3.0, 6.0] if learns else [0.0])
    steps = [160.0, 360.0, 560.0] if learns else [160.0]
    assert [float(row["environment_steps"]) for row in rows] == steps
    assert all(np.isfinite(float(row["test_return"])) for row in rows if learns)


@pytest.mark.parametrize("policy", ["pearl", "task-conditioned"])
def test_collecting_again_gives_the_same_bytes(finished, collected, tmp_path, tree, policy):
    section = read_manifest(collected[policy].with_name("manifest.json"))["config"]["section"]
    config = finished.section("collect", **section)
    out = tmp_path / "transitions.zarr"
    assert finished.call("collect", changes={"config": config, "out": out}) == 0
    assert tree(out) == tree(collected[policy])
    metrics = collected[policy].with_name("metrics.csv")
    assert out.with_name("metrics.csv").read_bytes() == metrics.read_bytes()


def test_the_store_records_the_parameters_of_the_environment(finished, tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(str(tmp_path))
    (tmp_path / "smac_wide_robot.py").write_text(
        "from smac_core.envs.point_robot import PointRobot\n\n\n"
        "class WideRobot(PointRobot):\n"
        "    def __init__(self, width=1.0):\n"
        "        self.width = width\n"
    )
    document = json.loads(finished.section("collect", "smac_wide_robot:WideRobot"))
    document["env"]["params"] = {"width": 2.5}
    out = tmp_path / "out" / "transitions.zarr"
    changes = {"config": json.dumps(document), "out": out}
    assert finished.call("collect", changes=changes) == 0
    assert finished.transitions(out).attributes["env_params"] == {"width": 2.5}


def test_the_metrics_page_names_what_the_stages_write(finished, collected):
    page = (Path(__file__).parents[2] / "docs/metrics.md").read_text()
    shared = page.split("\nBOReL (")[0]  # what follows belongs to other trainers, and the report
    explained = set(re.findall(r"^\| `(\w+)`", shared, re.MULTILINE))
    files = [path.with_name("metrics.csv") for path in collected.values()]
    files += (finished.root / "results").rglob("metrics.csv")
    written = {name for file in files for name in file.read_text().splitlines()[0].split(",")}
    assert written == explained
