"""PEARL from scratch: fresh weights, true rewards, the visit's own contexts, no offline data."""

from __future__ import annotations

import csv
import json

import numpy as np
import pytest

from pipeline import config as cf
from pipeline.checkpoint import read_checkpoint
from pipeline.manifest import read_manifest
from smac_core.config import NetworkConfig
from smac_core.networks import Shapes, network_shapes
from smac_core.pearl import PearlLearner

METHOD = "oracle-scratch"
TINY = {"encoder": (8,), "decoder": (8,), "critic": (8, 8), "policy": (8, 8)}
LEARNER = {"num_tasks": 2, "rows_per_task": 8, "context_size": 4, "log_every": 5}


@pytest.fixture(scope="module")
def played(finished, tmp_path_factory):
    """Two rounds of it on the tiny run; a stage's function, and the folder it wrote to."""
    import importlib

    from pipeline import cli

    root = tmp_path_factory.mktemp("scratch")
    networks = {name: list(widths) for name, widths in TINY.items()}
    preset = {
        "envs": ["point-robot"],
        "methods": [METHOD],
        "rounds": 2,
        "settings": {
            f"point-robot/{METHOD}": {
                "meta_train": {"networks": networks, "learner": LEARNER},
                "rollout": {
                    "tasks_per_round": 3,
                    "visit": {"prior_steps": 40, "posterior_steps": 40, "context_size": 8},
                },
                "finetune": {"updates": 12, "learner": LEARNER},
                "evaluate": {"train_tasks": 2, "adaptation": {"repeats": 1, "context_size": 8}},
            }
        },
    }
    run = cf.load_run(preset)

    def call(stage, number, **paths):
        module = importlib.import_module(cf.stage_module(run, stage, METHOD))
        words = ["--config", cf.section_json(run, stage, "point-robot", METHOD)]
        words += ["--env", "point-robot", "--method", METHOD, "--seed", "0"]
        words += [] if stage == "meta_train" else ["--round", str(number)]
        common = {"tasks": finished.path("tasks"), "transitions": finished.path("collect")}
        for name, value in (common | paths).items():
            many = value if isinstance(value, list) else [value]
            words += [f"--{name}", *map(str, many)]
        assert cli.run(module.run, module.make_parser(), words) == 0

    at = [root / "meta_train/c.safetensors"]
    rollouts, rewards = [], []
    call("meta_train", 0, out=at[0])
    for number in (1, 2):
        folder = root / f"round{number}"
        before = {"checkpoint": at[-1], "rollouts": list(rollouts), "rewards": list(rewards)}
        rollouts.append(folder / "rollout/transitions.zarr")
        rewards.append(folder / "relabel/rewards.zarr")
        call("rollout", number, **before, out=rollouts[-1])
        call("relabel", number, checkpoint=at[0], rollout=rollouts[-1], out=rewards[-1])
        at.append(folder / "finetune/c.safetensors")
        now = {"checkpoint": at[-2], "rollouts": rollouts, "rewards": rewards}
        call("finetune", number, **now, out=at[-1])
    call("evaluate", 2, checkpoint=at[-1], out=root / "round2/evaluate/returns.zarr")
    return root


def test_it_starts_from_fresh_weights_of_its_seed(played):
    import torch

    from smac_core.config import PearlConfig

    found = read_checkpoint(played / "meta_train/c.safetensors")
    networks = NetworkConfig(**TINY)
    learner = PearlLearner(Shapes(2, 2), networks, PearlConfig(), 0, torch.device("cpu"))
    for name, expected in learner.state().items():
        np.testing.assert_array_equal(found.tensors[name], expected)
    assert found.metadata["algorithm"] == "smac"
    assert set(found.metadata["sizes"]) == set(network_shapes(Shapes(2, 2), networks))
    assert read_manifest(played / "meta_train/manifest.json")["updates"] == 0


def test_it_learns_from_its_own_visits_alone(played, finished):
    manifest = read_manifest(played / "round2/finetune/manifest.json")
    names = {"tasks", "checkpoint", "rollout1", "rewards1", "rollout2", "rewards2"}
    assert set(manifest["inputs"]) == names
    assert manifest["updates"] == 12
    text = (played / "round2/finetune/metrics.csv").read_text()
    rows = list(csv.DictReader(text.splitlines()))
    assert [row["update"] for row in rows] == ["15", "20", "24"]
    states = [
        read_checkpoint(played / f"{at}/c.safetensors").tensors
        for at in ("meta_train", "round1/finetune", "round2/finetune")
    ]
    for name in ("policy", "encoder", "decoder", "critic", "value"):
        assert not np.array_equal(states[0][name], states[1][name]), name
        assert not np.array_equal(states[1][name], states[2][name]), name
    rollout = finished.transitions(played / "round1/rollout/transitions.zarr")
    assert rollout.attributes["reward_source"] == "environment"
    made = read_manifest(played / "round1/rollout/manifest.json")
    assert made["environment_steps"] == 3 * 80


def test_the_evaluator_takes_it_like_any_method(played):
    manifest = read_manifest(played / "round2/evaluate/manifest.json")
    assert np.isfinite(manifest["test_return"])
    assert manifest["config"]["section"]["agent"] == "smac_core.smac_agent:load"


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"record_rewards": False}, "context visit without record_rewards"),
        ({"visit": {"prior_steps": 0}}, "context visit without prior steps"),
    ],
)
def test_contexts_of_the_visit_need_rewards_and_prior_steps(finished, refused, change, words):
    document = json.loads(finished.section("rollout", context="visit", record_rewards=True))
    for key, value in change.items():
        inner = document["section"][key]
        document["section"][key] = inner | value if isinstance(inner, dict) else value
    assert words in refused("rollout", changes={"config": json.dumps(document)})
