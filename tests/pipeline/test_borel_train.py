"""BOReL's stage: seeds, resuming, what it writes, and every input that it refuses."""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pipeline import borel_train, cli, tasks, training
from pipeline import config as cf
from pipeline.checkpoint import read_checkpoint
from pipeline.data import as_transitions
from pipeline.imports import code_digest
from pipeline.manifest import read_manifest
from pipeline.models import read_acting
from pipeline.store import read_store, write_store
from smac_core.envs.point_robot import PointRobot

PRESET = """
envs: [point-robot, ant-dir, walker-param]
methods: [borel, borel-no-rr]
seeds: [0, 1]
rounds: 0
settings:
  all/borel: &tiny
    meta_train:
      updates: 7
      belief: {updates: 4, hidden: 8, num_tasks: 2, latents_per_trajectory: 4}
      sac: {critic: [8], policy: [8], num_tasks: 2, rows_per_task: 8, refresh_every: 3}
      learner: {log_every: 3}
  all/borel-no-rr: *tiny
"""
Call = Callable[..., int]


@pytest.fixture(scope="session")
def borel(finished, tmp_path_factory) -> Any:
    """Calls the stage on the tiny run's data; keywords change options or keys of the section."""
    folder = tmp_path_factory.mktemp("borel")
    preset = folder / "preset.yaml"
    preset.write_text(PRESET)

    def call(*out: Path, env: str = "point-robot", method: str = "borel", **options: Any) -> int:
        given = {"env": env, "method": method, "seed": [0], "out": list(out)}
        given |= {n: finished.path(n, env="point-robot") for n in ("tasks",)}
        given["transitions"] = finished.path("collect", env="point-robot")
        changes = options.pop("section", {})
        document = json.loads(cf.section_json(cf.read_run(str(preset)), "meta_train", env, method))
        for key, value in changes.items():
            inner = document["section"].get(key)
            document["section"][key] = inner | value if isinstance(inner, dict) else value
        document |= {"needs": options.pop("needs", document["needs"])}
        words = ["--config", json.dumps(document)]
        for name, value in (given | options).items():
            words += [f"--{name}", *map(str, value if isinstance(value, list) else [value])]
        return cli.run(borel_train.run, borel_train.make_parser(), words)

    call.preset = preset  # type: ignore[attr-defined]
    return call


@pytest.fixture(scope="session")
def trained(borel: Any, tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("trained") / "seed0" / "checkpoint.safetensors"
    assert borel(out) == 0
    return out


def contents(out: Path) -> dict[str, bytes]:
    return {
        p.name: p.read_bytes() for p in out.parent.iterdir() if p.suffix in {".safetensors", ".csv"}
    }


def test_the_same_seed_gives_the_same_bytes_alone_or_not(borel, trained, tmp_path):
    outs = [tmp_path / f"seed{s}" / "checkpoint.safetensors" for s in (1, 0)]
    assert borel(*outs, seed=[1, 0]) == 0
    assert contents(outs[1]) == contents(trained)
    assert contents(outs[0]) != contents(trained)
    assert not list(tmp_path.glob("*/.resume-*"))


def test_the_checkpoint_says_what_it_is_and_acts(trained):
    checkpoint = read_checkpoint(trained, env_id="point-robot")
    meta = checkpoint.metadata
    assert (meta["algorithm"], meta["round"], meta["seed"]) == ("borel", 0, 0)
    assert meta["networks"]["belief"]["decode"] == "reward"
    assert int(checkpoint.tensors["num_updates"][0]) == 11
    model = read_acting(trained, PointRobot(), "smac_core.borel_agent:load", current_round=0)
    model.agent.begin_task(3)
    obs, noise = np.zeros((3, 2), np.float32), np.zeros((3, 2), np.float32)
    assert np.isfinite(model.agent.act(np.arange(3), obs, noise, explore=True)).all()


def test_metrics_are_those_of_the_phase_and_explained(trained):
    with trained.with_name("metrics.csv").open() as stream:
        rows = list(csv.DictReader(stream))
    assert [int(row["update"]) for row in rows] == [3, 6, 9, 11]
    belief = {"belief_kl", "reward_loss"}
    for row in rows:
        filled = {name for name, value in row.items() if value} - {"update"}
        assert (filled == belief) == (int(row["update"]) <= 4)
        assert all(np.isfinite(float(row[name])) for name in filled)
    page = (Path(__file__).parents[2] / "docs/metrics.md").read_text()
    explained = set(re.findall(r"^\|(?: belief \|| policy \|)? `(\w+)`", page, re.MULTILINE))
    assert set(rows[0]) <= explained


def test_the_manifest_names_everything(trained):
    manifest = read_manifest(trained.with_name("manifest.json"))
    assert (manifest["stage"], manifest["seed"], manifest["updates"]) == ("meta_train", 0, 11)
    assert set(manifest["inputs"]) == {"tasks", "transitions"}
    roots = ("smac_core.envs.point_robot",)
    assert manifest["code_digest"] == code_digest("pipeline.borel_train", roots)
    assert {e["path"] for e in manifest["outputs"].values()} == {trained.name, "metrics.csv"}


@pytest.mark.parametrize("killed_after", [3, 8])  # in the belief's phase; in the policy's
def test_a_killed_run_goes_on_to_the_same_bytes(
    borel, trained, tmp_path, monkeypatch, killed_after
):
    out = tmp_path / "seed0" / "checkpoint.safetensors"
    monkeypatch.setattr(training, "SAVE_SECONDS", 0.0)
    monkeypatch.setattr(training, "SAVE_EVERY", 1)
    advance, taken = borel_train.BorelLearner.advance, []

    def die(self: Any, limit: int) -> None:
        if len(taken) == killed_after:
            raise KeyboardInterrupt
        taken.append(limit)
        advance(self, limit)

    with monkeypatch.context() as patched:
        patched.setattr(borel_train.BorelLearner, "advance", die)
        assert borel(out) == 130
    assert not out.exists()
    assert list(out.parent.glob(".resume-*/state.safetensors"))
    more: list[int] = []

    def count(self: Any, limit: int) -> None:
        more.append(limit)
        advance(self, limit)

    monkeypatch.setattr(borel_train.BorelLearner, "advance", count)
    assert borel(out) == 0
    assert len(more) == 11 - killed_after
    assert contents(out) == contents(trained)


def test_relabelling_is_what_tells_the_methods_apart(borel, trained, tmp_path):
    out = tmp_path / "seed0" / "checkpoint.safetensors"
    assert borel(out, method="borel-no-rr") == 0
    one, other = read_checkpoint(trained).tensors, read_checkpoint(out).tensors
    assert (one["belief.mean.weight"] != other["belief.mean.weight"]).any()


@pytest.fixture
def refused(borel, tmp_path, capsys) -> Callable[..., str]:
    """Calls the stage, which must refuse with one line, exit code 2, and no output."""

    def call(**options: Any) -> str:
        out = tmp_path / "out" / "checkpoint.safetensors"
        capsys.readouterr()
        assert borel(out, **options) == 2
        (line,) = capsys.readouterr().err.splitlines()
        assert line.startswith("error: ")
        assert not [p for p in out.parent.rglob("*") if p.name != ".lock"]
        return line

    return call


@pytest.fixture
def inputs_of(borel, finished, tmp_path) -> Callable[[str], dict[str, Path]]:
    """Makes the task list of an environment, and a store that says it is of that environment."""

    def make(env: str) -> dict[str, Path]:
        paths = {"tasks": tmp_path / "tasks.json", "transitions": tmp_path / "data.zarr"}
        words = ["--config", str(borel.preset), "--env", env, "--out", str(paths["tasks"])]
        assert cli.run(tasks.run, tasks.make_parser(), words) == 0
        found = read_store(finished.path("collect"), "transitions")
        attributes = found.attributes | {"env_id": env}
        write_store(paths["transitions"], "transitions", found.arrays, attributes)
        return paths

    return make


def test_an_environment_whose_rows_hold_no_reward_names_the_other_method(refused, inputs_of):
    line = refused(env="ant-dir", **inputs_of("ant-dir"))
    assert "the torso's way over the step" in line
    assert "use the method borel-no-rr" in line


def test_where_dynamics_differ_relabelling_is_refused(refused, inputs_of):
    line = refused(env="walker-param", **inputs_of("walker-param"))
    assert "the dynamics" in line
    assert "borel-no-rr" in line


def test_data_without_rewards_name_what_makes_them(refused, finished, tmp_path):
    found = read_store(finished.path("collect"), "transitions")
    arrays = {n: a for n, a in found.arrays.items() if n != "data/reward"}
    write_store(
        tmp_path / "bare.zarr", "transitions", arrays, found.attributes | {"reward_source": "none"}
    )
    line = refused(transitions=tmp_path / "bare.zarr")
    assert "borel needs the true reward of every step" in line
    assert "results/<env>/collect/transitions.zarr" in line
    line = refused(transitions=tmp_path / "bare.zarr", needs=[])  # of a method that forgot to say
    assert "offline data without rewards" in line


def test_data_without_whole_episodes_are_refused(refused):
    line = refused(section={"replay": {"take": "last", "rows": 7}})  # of episodes of 20 steps
    assert "no whole episode" in line
    assert "widen meta_train.replay" in line


def test_data_of_another_environment_are_refused(refused, finished):
    line = refused(transitions=finished.path("collect", env="cheetah-vel"))
    assert "point-robot" in line


@pytest.mark.parametrize(
    ("section", "words"),
    [
        ({"relabel_probability": 1.5}, "section.relabel_probability, expected 0 to 1"),
        ({"episodes": 0}, "section.episodes, expected 1 to"),
        ({"belief": {"latents_per_trajectory": 0}}, "latents_per_trajectory, expected 1 to"),
        ({"belief": {"decoder": []}}, "without a hidden layer"),
        ({"sac": {"refresh_every": 0}}, "section.sac.refresh_every, expected 1 to"),
        ({"sac": {"actor_learning_rate": 0.0}}, "actor_learning_rate, expected more than 0"),
        ({"sac": {"tau": 0.1}}, "unknown key"),
    ],
)
def test_values_that_leave_nothing_to_train_are_refused(refused, section, words):
    assert words in refused(section=section)


def test_a_policy_that_blows_up_is_told(borel, tmp_path, capsys):
    out = tmp_path / "out" / "checkpoint.safetensors"
    wild = {"sac": {"reward_scale": 1e30}}
    assert borel(out, section=wild) == 2
    assert "is not finite: in update" in capsys.readouterr().err
    assert not out.exists()


def test_the_episodes_are_those_of_the_store(finished, borel):
    config = cf.stage_config(cf.read_run(str(borel.preset)), "meta_train", "point-robot", "borel")
    env = PointRobot()
    listed = borel_train.read_tasks(finished.path("tasks"), env)
    table = borel_train.read_table(finished.path("collect"), env, listed, config)
    store = finished.transitions(finished.path("collect"))
    rows = as_transitions(store)
    assert sum(map(len, table.of_slot)) == len(store.arrays["meta/episode_ends"])
    for slot, task in enumerate(listed.train):
        for episode in table.of_slot[slot]:
            start, length = table.start[episode], table.length[episode]
            assert (rows.task_id[start : start + length] == task).all()
            assert store.arrays["data/truncated"][start + length - 1]
