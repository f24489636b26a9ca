"""Every stage in this process on a tiny run: its options, its manifest, the same bytes again."""

from __future__ import annotations

import dataclasses
import importlib
import json
from types import ModuleType

import numpy as np
import pytest

from pipeline import cli
from pipeline import config as cf
from pipeline.manifest import read_manifest
from pipeline.store import read_store

STAGES = [stage for stage in cf.STAGES if stage != "report"]
SEEDED = ["meta_train", "rollout", "relabel", "finetune", "evaluate"]


@pytest.mark.parametrize("stage", cf.STAGES)
def test_help_lists_every_option(stage, capsys):
    module: ModuleType = importlib.import_module(f"pipeline.{stage}")
    with pytest.raises(SystemExit) as ended:
        cli.run(module.run, module.make_parser(), ["--help"])
    assert ended.value.code == 0
    text = capsys.readouterr().out
    assert text.startswith(f"usage: python -m pipeline.{stage} ")
    assert "--config" in text
    assert "--out" in text


@pytest.mark.parametrize("stage", STAGES)
def test_the_same_seed_gives_the_same_bytes(finished, tmp_path, tree, stage):
    out = tmp_path / "again" / finished.path(stage).name
    assert finished.call(stage, changes={"out": out}) == 0
    first = finished.path(stage)
    if first.is_dir():
        assert tree(out) == tree(first)
    else:
        assert out.read_bytes() == first.read_bytes()
    metrics = first.with_name("metrics.csv")
    if metrics.exists():
        assert out.with_name("metrics.csv").read_bytes() == metrics.read_bytes()
    assert list(out.parent.glob(".resume-*")) == []


@pytest.mark.parametrize("stage", SEEDED)
def test_another_seed_gives_other_numbers(finished, tmp_path, stage):
    out = tmp_path / "again" / finished.path(stage).name
    assert finished.call(stage, changes={"out": out, "seed": 1}) == 0
    if stage in {"meta_train", "finetune"}:
        ours, theirs = finished.tensors(finished.path(stage)), finished.tensors(out)
    else:
        kind = {"rollout": "transitions", "relabel": "rewards", "evaluate": "evaluation"}[stage]
        ours, theirs = (read_store(path, kind).arrays for path in (finished.path(stage), out))
    assert any((ours[name] != theirs[name]).any() for name in ours)


@pytest.mark.parametrize("stage", STAGES)
def test_the_manifest_names_everything(finished, stage):
    out = finished.path(stage)
    path = out.with_name("tasks.manifest.json" if stage == "tasks" else "manifest.json")
    manifest = read_manifest(path)
    assert manifest["stage"] == stage
    assert manifest["seed"] == (0 if stage in SEEDED else None)
    assert manifest["config"]["env"]["id"] == "point-robot"
    assert len(manifest["code_digest"]) == 64
    given = finished.options(stage)
    named = {(path.parent / entry["path"]).resolve() for entry in manifest["inputs"].values()}
    read = [given.get(name) for name in ("tasks", "transitions", "checkpoint", "rollout")]
    read += [*given.get("rollouts", []), *given.get("rewards", [])]
    assert named == {path for path in read if path is not None}
    assert out.name in {entry["path"] for entry in manifest["outputs"].values()}


def test_tasks_are_drawn_and_split(finished):
    from smac_core.envs.point_robot import PointRobot

    tasks = json.loads(finished.path("tasks").read_text())
    assert tasks["env_id"] == "point-robot"
    assert tasks["train"] == [0, 1, 2, 3]
    assert tasks["test"] == [4, 5]
    assert tasks["validation"] == [3]
    assert tasks["fields"] == ["goal_x", "goal_y"]
    np.testing.assert_array_equal(tasks["parameters"], PointRobot().sample_tasks(1337, 4, 2))


def test_the_environment_stages_ignore_the_method(finished):
    run = cf.read_run(str(finished.root / "preset.yaml"))
    one, other = (cf.stage_config(run, "collect", "point-robot", m) for m in ("smac", "oracle"))
    assert dataclasses.asdict(one) == dataclasses.asdict(other)
