"""Stages `experts`, `demonstrations` and `meta_train` of GMPS."""

from __future__ import annotations

import json
import re
from types import SimpleNamespace

import numpy as np
import pytest

from pipeline import (
    cli,
    collect,
    collect_learning,
    config,
    demonstrations,
    evaluate,
    experts,
    gmps_train,
)
from pipeline.checkpoint import read_checkpoint
from pipeline.expert_policy import read_expert
from pipeline.sections_gmps import GmpsTrainConfig
from pipeline.store import read_store
from pipeline.task_list import read_tasks
from smac_core.envs.point_robot import PointRobot
from tests.pipeline.gmps_stage import GmpsStage
from tests.pipeline.tiny_stage import ROOT, check_goes_on


@pytest.fixture
def stage(finished, tmp_path):
    return GmpsStage(finished, tmp_path)


def test_demonstrations_are_the_experts(finished):
    env = PointRobot()
    tasks = read_tasks(finished.path("tasks"), env)
    store = read_store(finished.path("demonstrations"), "transitions", env_id=env.env_id)
    assert store.attributes["reward_source"] == "environment"
    assert set(store.arrays["meta/episode_source"].tolist()) == {4}
    owner = store.arrays["meta/episode_task_id"]
    np.testing.assert_array_equal(owner, np.repeat(tasks.train, 2))
    path = finished.path("demonstrations").parent / "manifest.json"
    told = json.loads(path.read_text())["by_task"]
    assert set(told) == {"return", *env.measure_units}
    returns = store.arrays["data/reward"].reshape(len(tasks.train), -1).sum(axis=1) / 2
    np.testing.assert_allclose(told["return"], returns, rtol=1e-5)
    end = store.arrays["meta/final_obs"].reshape(len(tasks.train), 2, -1)
    away = np.linalg.norm(end - tasks.parameters[list(tasks.train)][:, None], axis=-1)
    np.testing.assert_allclose(told["goal_distance"], away.mean(axis=1), rtol=1e-4)
    expert = read_expert(
        finished.path("experts"), env, finished.path("tasks"), tasks.parameters, tasks.train
    )
    for episode in (0, 5):
        rows = slice(episode * 20, episode * 20 + 20)
        labels = expert.label(int(owner[episode]), store.arrays["data/obs"][rows])
        np.testing.assert_array_equal(store.arrays["data/action"][rows], labels)


def test_a_script_may_be_the_expert(finished, tmp_path):
    env, folder = PointRobot(), tmp_path / "experts"
    out = folder / "checkpoint.safetensors"
    section = finished.section("experts", policy="scripted")
    words = finished.words("experts", changes={"config": section, "out": out})
    assert cli.run(experts.run, experts.make_parser(), words) == 0
    tasks = read_tasks(finished.path("tasks"), env)
    expert = read_expert(out, env, finished.path("tasks"), tasks.parameters, tasks.train)
    assert expert.metadata["environment_steps"] == 0
    obs = np.random.default_rng(0).normal(size=(5, 2)).astype(np.float32)
    drive = np.clip((tasks.parameters[2] - obs) / 0.1, -1.0, 1.0)
    np.testing.assert_allclose(expert.label(2, obs), drive, atol=1e-5)
    shown = tmp_path / "demonstrations" / "transitions.zarr"
    words = finished.words("demonstrations", changes={"checkpoint": out, "out": shown})
    assert cli.run(demonstrations.run, demonstrations.make_parser(), words) == 0
    assert set(read_store(shown, "transitions").arrays["meta/episode_source"].tolist()) == {4}


@pytest.mark.parametrize("method", ["gmps", "maml-pg"])
def test_it_writes_what_evaluate_reads(stage, method, tmp_path):
    assert stage.call(method) == 0
    checkpoint = read_checkpoint(stage.out, env_id="point-robot")
    assert checkpoint.metadata["algorithm"] == "gmps"
    assert int(checkpoint.tensors["num_updates"][0]) == 6
    # Four tasks: two episodes of 20 steps, three times, and beside them one to be labelled once,
    # or two of every adapted policy.
    steps = 3 * 4 * 40 + 4 * 20 if method == "gmps" else 3 * 4 * 80
    assert checkpoint.metadata["environment_steps"] == steps
    lines = stage.out.with_name("metrics.csv").read_text().splitlines()
    rows = [dict(zip(lines[0].split(","), line.split(","), strict=True)) for line in lines[1:]]
    assert [float(row["iteration"]) for row in rows] == [1, 2, 3]
    assert float(rows[-1]["environment_steps"]) == steps
    page = (ROOT / "docs/metrics.md").read_text()
    named = set(re.findall(r"^\| `(\w+)` \|", page, re.MULTILINE))
    assert set(rows[0]) <= named
    assert not list(stage.out.parent.glob(".resume-*"))

    returns = tmp_path / "round0" / "returns.zarr"
    words = stage.words(method, checkpoint=stage.out, round=0, out=returns)
    assert cli.run(evaluate.run, evaluate.make_parser(), words) == 0
    arrays = read_store(returns, "evaluation").arrays
    assert arrays["arms/test_online/episode_return"].shape[-1] == 3
    assert arrays["arms/test_explored_4/episode_return"].shape[-1] == 5
    for arm in ("test_online", "test_prior", "train_offline", "test_explored_4"):
        assert np.isfinite(arrays[f"arms/{arm}/episode_return"]).all()


def test_same_seed_same_bytes_and_other_seeds_differ(stage):
    first, both, other = (stage.folder / n / "a.safetensors" for n in ("first", "both", "other"))
    assert stage.call(out=first) == 0
    assert stage.call(seed=[1, 0], out=[other, both]) == 0
    assert both.read_bytes() == first.read_bytes()
    assert other.read_bytes() != first.read_bytes()


DYING = """
import os, signal, sys
from pipeline import cli, gmps_train, training

training.SAVE_SECONDS = 0.0
iterate = gmps_train.GmpsTrainer.iterate

def iterate_or_die(self, tell):
    return os.kill(os.getpid(), signal.SIGKILL) if self.iteration == 2 else iterate(self, tell)

gmps_train.GmpsTrainer.iterate = iterate_or_die
cli.stage_main(gmps_train.run, gmps_train.make_parser(), sys.argv[1:])
"""


def test_a_killed_run_goes_on_and_ends_with_the_same_bytes(stage, monkeypatch):
    iterated = (gmps_train.GmpsTrainer, "iterate")
    steps = check_goes_on(stage, DYING, iterated, lambda self, _: self.iteration, monkeypatch)
    assert steps == [2]


class Stopped(Exception):
    """Raised in place of training."""


def test_other_parameters_of_the_environment_do_not_resume(stage, finished, monkeypatch):
    keys = []

    def stop(out, key):
        keys.append(key)
        raise Stopped

    monkeypatch.setattr(gmps_train, "resume_state", stop)
    monkeypatch.setattr(collect_learning, "resume_state", stop)
    monkeypatch.setattr(collect_learning.LearningCollector, "__init__", take_collection)
    monkeypatch.setattr("pipeline.stage.load_environment", lambda *_: PointRobot())
    run = config.read_run(str(stage.preset))
    for module, name in ((gmps_train, "meta_train"), (experts, "experts"), (collect, "collect")):
        for width in (1.0, 2.5):
            document = json.loads(config.section_json(run, name, "point-robot", "gmps"))
            document["env"]["params"] = {"width": width}
            if name == "collect":
                document["section"]["policy"] = "pearl"
            if name == "experts":
                document["section"]["iterations"] = 1
            if name == "meta_train":
                words = stage.words(config=json.dumps(document))
            else:
                changes = {"config": json.dumps(document), "out": stage.out}
                words = finished.words(name, changes=changes)
            with pytest.raises(Stopped):
                module.run(module.make_parser().parse_args(words))
        first, second = keys[-2:]
        assert first != second
        assert {name: part for name, part in first.items() if name != "env"} == {
            name: part for name, part in second.items() if name != "env"
        }


def take_collection(self, collection):
    self.collection = collection


def test_a_point_of_the_curve_explores_as_often_as_told(monkeypatch):
    protocols = []

    class Told:
        def __init__(self, driver, agent, config, *others):
            protocols.append(config)

        def online(self):
            return [SimpleNamespace(episode_return=np.full((1, 1, 8), 3.0))]

        def unadapted(self, number):
            return SimpleNamespace(episode_return=np.full((1, 1, 1), 2.0))

    monkeypatch.setattr(gmps_train, "MetaTest", Told)
    monkeypatch.setattr(gmps_train, "PolicyGradientAgent", lambda *parts: None)
    learner = SimpleNamespace(meta=None, objective=None)
    trainer = SimpleNamespace(driver=None, learner=learner, seed=0)
    tasks = SimpleNamespace(test=(0,), parameters=np.zeros((1, 2)))
    config = GmpsTrainConfig(evaluate_repeats=3, evaluate_explored=7)
    found = gmps_train.measure(trainer, tasks, config)
    assert found == {"test_return": 3.0, "test_prior_return": 2.0}
    (told,) = protocols
    assert (told.repeats, told.episodes, told.exploration_episodes) == (3, 8, 7)
