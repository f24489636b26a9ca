"""The comparison of inner steps, and the expert that is cloned from a script."""

from __future__ import annotations

import csv
import json
import shutil

import numpy as np
import pytest

from pipeline import cli, experts, gmps_signal, gmps_train
from pipeline.checkpoint import read_checkpoint
from pipeline.expert_policy import read_expert
from pipeline.task_list import read_tasks
from smac_core.envs.point_robot import PointRobot

PRESET = """
envs: [point-robot]
methods: [maml-pg]
rounds: 0
settings:
  point-robot/maml-pg:
    meta_train:
      iterations: 1
      evaluate_every: 0
      networks: {policy: [8]}
      learner: {exploration_episodes: 2, updates_per_batch: 1, baseline: none}
"""


def test_steps_that_agree_have_cosine_one():
    rng = np.random.default_rng(0)
    steps = rng.normal(size=(4, 1000))
    same, other, own = gmps_signal.compare(steps, 2.0 * steps)
    assert same == pytest.approx(1.0)
    assert own == pytest.approx(1.0)
    assert abs(other) < 0.1


def test_a_step_that_all_tasks_share_is_no_signal():
    rng = np.random.default_rng(0)
    shared = 10.0 * rng.normal(size=1000)
    first, second = (shared + rng.normal(size=(20, 1000)) for _ in range(2))
    same, other, own = gmps_signal.compare(first, second)
    assert same > 0.9
    assert other > 0.9
    assert abs(own) < 0.05


def test_it_writes_a_row_a_seed_and_number(finished, tmp_path, capsys):
    root = tmp_path / "results"
    words = ["--results", root, "--out", tmp_path / "signal.csv", "--methods", "maml-pg"]
    words = [str(word) for word in [*words, "--episodes", 2, 3]]
    assert cli.run(gmps_signal.run, gmps_signal.make_parser(), words) == 2
    assert "no finished run" in capsys.readouterr().err
    preset, env = tmp_path / "preset.yaml", root / "point-robot"
    preset.write_text(PRESET)
    env.mkdir(parents=True)
    shutil.copy(finished.path("tasks"), env / "tasks.json")
    given = {
        **{"config": preset, "env": "point-robot", "method": "maml-pg", "seed": 0},
        **{"tasks": env / "tasks.json", "transitions": finished.path("collect")},
        "out": env / "maml-pg" / "seed0" / "meta_train" / "checkpoint.safetensors",
    }
    flat = [str(word) for name, value in given.items() for word in (f"--{name}", value)]
    assert cli.run(gmps_train.run, gmps_train.make_parser(), flat) == 0
    assert cli.run(gmps_signal.run, gmps_signal.make_parser(), words) == 0
    with (tmp_path / "signal.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [(r["seed"], r["episodes"]) for r in rows] == [
        *(("0", "2"), ("0", "3")),
        *(("all", "2"), ("all", "3")),
    ]
    assert all(-1.0 <= float(r["same"]) <= 1.0 for r in rows)
    assert rows[0]["same"] == rows[2]["same"]


def test_a_clone_does_what_the_script_does(finished, tmp_path, capsys):
    env, out = PointRobot(), tmp_path / "experts" / "checkpoint.safetensors"
    cloning = {"episodes": 4, "updates": 700, "rows": 64, "noise": 0.5, "learning_rate": 3e-3}
    networks = {"policy": [32, 32], "latent_dim": 2}
    words = finished.words(
        "experts",
        changes={
            "config": finished.section(
                "experts", policy="scripted", cloning=cloning, networks=networks
            ),
            "out": out,
        },
    )
    assert cli.run(experts.run, experts.make_parser(), words) == 0
    tasks = read_tasks(finished.path("tasks"), env)
    expert = read_expert(out, env, finished.path("tasks"), tasks.parameters, tasks.train)
    assert expert.metadata["environment_steps"] == len(tasks.train) * 4 * env.horizon
    task, rng = tasks.train[0], np.random.default_rng(0)
    on_the_way = rng.uniform(0.0, 0.7, (200, 1)) * tasks.parameters[task]
    obs = (on_the_way + 0.05 * rng.normal(size=(200, 2))).astype(np.float32)
    wanted = expert.env.scripted_action(
        obs, np.repeat(tasks.parameters[task][None], 200, axis=0), np.zeros((200, 2))
    )
    error = np.abs(expert.label(task, obs) - wanted)
    assert error.mean() < 0.4 * np.abs(wanted).mean()
    drawn = expert.agent.stochastic()(
        np.repeat(obs[:1], 4000, axis=0),
        np.repeat(expert.latents[task][None], 4000, axis=0),
        np.random.default_rng(1).standard_normal((4000, 2)).astype(np.float32),
    )
    spread = np.arctanh(np.clip(drawn, -0.9999, 0.9999)).std(axis=0)
    assert (np.abs(spread - 0.5) < 0.1).any()
    assert read_checkpoint(out).metadata["policy"] == "cloned"
    with (out.parent / "metrics.csv").open() as file:
        losses = [float(row["cloning_loss"]) for row in csv.DictReader(file)]
    assert losses[-1] < 0.5 * losses[0]
    assert json.loads((out.parent / "manifest.json").read_text())["updates"] == 700
    small = finished.section(
        "experts", policy="scripted", cloning=cloning, networks={"latent_dim": 1}
    )
    words = finished.words("experts", changes={"config": small, "out": out})
    assert cli.run(experts.run, experts.make_parser(), words) == 2
    assert "networks.latent_dim of at least 2" in capsys.readouterr().err
