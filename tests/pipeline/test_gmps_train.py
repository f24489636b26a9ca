"""Stages `experts`, `demonstrations` and `meta_train` of GMPS, and what they refuse."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import ClassVar

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
from pipeline.checkpoint import read_checkpoint, write_checkpoint
from pipeline.expert_policy import read_expert
from pipeline.sections_gmps import GmpsTrainConfig
from pipeline.store import read_store, write_store
from pipeline.task_list import read_tasks
from smac_core.envs.point_robot import PointRobot
from smac_core.errors import ConfigError
from tests.pipeline.tiny_stage import TinyStage

ROOT = Path(__file__).resolve().parents[2]
TINY = """
envs: [point-robot]
methods: [gmps, maml-pg]
rounds: 0
settings:
  point-robot:
    demonstrations: {{episodes: 2}}
    evaluate:
      train_tasks: 3
      exploration_curve: [4]
      adaptation: {{repeats: 2, context_size: 8}}
  point-robot/gmps: &tiny
    meta_train:
      iterations: 3
      demonstrations: {shown}
      networks: {{policy: [8, 8]}}
      learner:
        exploration_episodes: 2
        updates_per_batch: 2
        outer_rows: 5
        aggregate_every: {aggregate}
        initial_rate: {rate}
  point-robot/maml-pg:
    meta_train:
      iterations: 3
      networks: {{policy: [8, 8]}}
      learner: {{exploration_episodes: 2, updates_per_batch: 2, initial_rate: 0.1}}
"""


class Stage(TinyStage):
    """GMPS and MAML-PG."""

    module, template, method = gmps_train, TINY, "gmps"
    defaults: ClassVar = {"shown": 2, "aggregate": 2, "rate": 0.1}

    def data(self, method: str) -> Path:
        return self.finished.path("demonstrations" if method == "gmps" else "collect")


@pytest.fixture
def stage(finished, tmp_path):
    return Stage(finished, tmp_path)


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
    quiet = stage.folder / "quiet" / stage.out.name
    assert stage.call(out=quiet) == 0
    words = [sys.executable, "-c", DYING, *stage.words()]
    done = subprocess.run(words, cwd=ROOT, capture_output=True, check=False, timeout=300)
    assert done.returncode == -signal.SIGKILL, done.stderr.decode()
    assert not stage.out.exists()
    seen = []
    iterate = gmps_train.GmpsTrainer.iterate
    monkeypatch.setattr(
        gmps_train.GmpsTrainer,
        "iterate",
        lambda self, tell: (seen.append(self.iteration), iterate(self, tell))[1],
    )
    assert stage.call() == 0
    assert seen == [2]
    assert stage.out.read_bytes() == quiet.read_bytes()
    found, expected = (path.with_name("metrics.csv") for path in (stage.out, quiet))
    assert found.read_text() == expected.read_text()


def told(capsys) -> str:
    line = capsys.readouterr().err.splitlines()[-1]
    assert line.startswith("error: ")
    return line


def test_divergence_is_one_line_and_leaves_the_earlier_checkpoint(stage, capsys):
    assert stage.call() == 0
    before = stage.out.read_bytes()
    assert Stage(stage.finished, stage.folder, rate="1.0e+30").call() == 2
    assert "is not finite" in told(capsys)
    assert stage.out.read_bytes() == before


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


def test_a_diverged_episode_shows_nothing(stage, capsys, tmp_path):
    path = stage.finished.path("demonstrations")
    ok = read_store(path, "transitions").arrays["meta/episode_ok"].copy()
    ok[0] = False
    shown = stage.finished.rewrite(path, tmp_path / "diverged.zarr", meta__episode_ok=ok)
    assert stage.call(transitions=shown) == 2
    line = told(capsys)
    assert "expected 2 expert episodes of task 0" in line
    assert "found 1" in line


def test_what_was_made_for_other_tasks_is_refused(stage, capsys, tmp_path):
    other = tmp_path / "tasks.json"
    document = json.loads(stage.finished.path("tasks").read_text())
    other.write_text(json.dumps(document, indent=3))
    assert stage.call(tasks=other) == 2
    assert "demonstrations of other tasks" in told(capsys)
    words = stage.finished.words(
        "demonstrations", changes={"tasks": other, "out": tmp_path / "no" / "a.zarr"}
    )
    assert cli.run(demonstrations.run, demonstrations.make_parser(), words) == 2
    assert "expert of other tasks" in told(capsys)


def test_demonstrations_tell_their_tasks(stage, capsys, tmp_path):
    found = read_store(stage.finished.path("demonstrations"), "transitions")
    silent = tmp_path / "silent.zarr"
    attributes = {name: value for name, value in found.attributes.items() if name != "tasks"}
    write_store(silent, "transitions", found.arrays, attributes)
    assert stage.call(transitions=silent) == 2
    line = told(capsys)
    assert "demonstrations that do not tell their tasks" in line
    assert "expected attribute tasks" in line
    assert "make the demonstrations again with this tasks.json" in line


def test_a_script_that_cannot_be_asked_refuses_before_training(
    stage, capsys, tmp_path, monkeypatch
):
    def remembers(self, obs, task, noise):
        raise ConfigError("the script remembers its episode")

    def never(self, tell):
        raise AssertionError("trained")

    out = tmp_path / "experts" / "checkpoint.safetensors"
    section = stage.finished.section("experts", policy="scripted")
    words = stage.finished.words("experts", changes={"config": section, "out": out})
    assert cli.run(experts.run, experts.make_parser(), words) == 0
    found = read_store(stage.finished.path("demonstrations"), "transitions")
    shown = tmp_path / "demonstrations" / "transitions.zarr"
    shown.parent.mkdir()
    write_store(shown, "transitions", found.arrays, found.attributes)
    monkeypatch.setattr(PointRobot, "scripted_action", remembers)
    monkeypatch.setattr(gmps_train.GmpsTrainer, "iterate", never)
    assert stage.call(transitions=shown) == 2
    assert "the script remembers its episode" in told(capsys)


def test_the_error_names_the_section_of_the_expert(stage, capsys):
    networks = {"latent_dim": 1}
    section = stage.finished.section("experts", networks=networks)
    words = stage.finished.words("experts", changes={"config": section, "out": stage.out})
    assert cli.run(experts.run, experts.make_parser(), words) == 2
    line = told(capsys)
    assert "experts of point-robot" in line
    assert "raise experts.networks.latent_dim, or set experts.policy: scripted" in line


def test_data_without_experts_of_a_task_are_refused(stage, capsys, tmp_path):
    assert stage.call(transitions=stage.finished.path("collect")) == 2
    assert "gmps needs expert episodes of every training task" in told(capsys)
    assert Stage(stage.finished, stage.folder, shown=3).call() == 2
    assert "too few demonstrations of a task" in told(capsys)
    found = read_checkpoint(stage.finished.path("experts"))
    meta = {n: v for n, v in found.metadata.items() if n != "experts_of"}
    partial = tmp_path / "partial" / "checkpoint.safetensors"
    partial.parent.mkdir()
    write_checkpoint(partial, found.tensors, meta | {"experts_of": [0, 2, 3]})
    words = stage.finished.words(
        "demonstrations", changes={"checkpoint": partial, "out": tmp_path / "no" / "a.zarr"}
    )
    assert cli.run(demonstrations.run, demonstrations.make_parser(), words) == 2
    assert "none for 1, task 1 first" in told(capsys)


def test_demonstrations_of_another_environment_are_refused(stage, capsys, tmp_path):
    found = read_store(stage.finished.path("demonstrations"), "transitions")
    other = tmp_path / "other.zarr"
    write_store(other, "transitions", found.arrays, found.attributes | {"env_id": "ant-dir"})
    assert stage.call(transitions=other) == 2
    assert "expected point-robot" in told(capsys)


def test_demonstrations_of_another_horizon_are_refused(stage, capsys, tmp_path):
    found = read_store(stage.finished.path("demonstrations"), "transitions")
    ends, cut = found.arrays["meta/episode_ends"].copy(), found.arrays["data/truncated"].copy()
    ends[0] = 15
    cut[14], cut[19] = True, False
    short = stage.finished.rewrite(
        stage.finished.path("demonstrations"),
        tmp_path / "short.zarr",
        meta__episode_ends=ends,
        data__truncated=cut,
    )
    assert stage.call(transitions=short) == 2
    line = told(capsys)
    assert "demonstrations of another horizon" in line
    assert "expected episodes of 20 steps" in line
    assert "found 15 steps in episode 0" in line


def test_labels_need_an_expert_that_can_be_asked(stage, capsys, tmp_path):
    arrays = read_store(stage.finished.path("demonstrations"), "transitions")
    alone = tmp_path / "alone" / "demonstrations" / "transitions.zarr"
    alone.parent.mkdir(parents=True)
    write_store(alone, "transitions", arrays.arrays, arrays.attributes)
    assert stage.call(transitions=alone) == 2
    assert "there is no such checkpoint" in told(capsys)
    assert Stage(stage.finished, stage.folder, aggregate=0).call(transitions=alone) == 0


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("aggregate_every: 2", "ratio_limits: [2.0, 0.5]", "the lower first"),
        ("exploration_episodes: 2", "exploration_episodes: 0", "nothing to learn from"),
        ("aggregate_every: 2", "aggregate_every: 2\n        outer: policy-gradient", "aggregation"),
        ("outer_rows: 5", "outer_rows: 0", "outer_rows"),
        ("outer_rows: 5", "outer_row: 5", "outer_rows"),
        ("outer_rows: 5", "rates: tensor", "rates"),
    ],
)
def test_bad_keys_are_refused(stage, capsys, old, new, said):
    stage.preset.write_text(stage.preset.read_text().replace(old, new, 1))
    assert stage.call() == 2
    assert said in told(capsys)


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
