"""Stores, checkpoints and task lists that a stage must refuse: one line, and nothing is lost."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from pipeline import files
from pipeline.checkpoint import read_checkpoint, write_checkpoint
from pipeline.store import read_store, write_store


def edit_store(path: Path, kind: str, *, drop: tuple[str, ...] = (), **attributes) -> None:
    """Writes a store again, sound, with other attributes or without some arrays."""
    found = read_store(path, kind)
    arrays = {name: array for name, array in found.arrays.items() if name not in drop}
    write_store(path, kind, arrays, found.attributes | attributes)


def edit_checkpoint(path: Path, change) -> None:
    """Writes a checkpoint again, sound; `change` works on its tensors and metadata."""
    found = read_checkpoint(path)
    tensors, metadata = dict(found.tensors), dict(found.metadata)
    change(tensors, metadata)
    write_checkpoint(path, tensors, metadata)


def flip(path: Path, place: float = 0.5) -> None:
    """Flips one bit of a file."""
    data = bytearray(path.read_bytes())
    data[int(place * (len(data) - 1))] ^= 1
    path.write_bytes(data)


def largest(folder: Path) -> Path:
    return max(folder.rglob("c/*"), key=lambda p: p.stat().st_size if p.is_file() else 0)


# Which stage reads which store, as (stage, option, the stage that wrote it).
READERS = [
    ("meta_train", "collect"),
    ("rollout", "collect"),
    ("relabel", "collect"),
    ("relabel", "rollout"),
    ("finetune", "collect"),
    ("finetune", "rollout"),
    ("finetune", "relabel"),
    ("evaluate", "collect"),
]


def break_store(path: Path, how: str) -> None:
    if how == "missing":
        files.remove(path)
    elif how == "bit flip":
        flip(largest(path))
    elif how == "lost chunk":
        largest(path).unlink()
    elif how == "without its end":
        (path / "zarr.json").unlink()
    else:
        document = json.loads((path / "zarr.json").read_bytes())
        changes = {"half written": ("complete", False), "old schema": ("schema_version", 0)}
        key, value = changes[how]
        document["attributes"][key] = value
        (path / "zarr.json").write_bytes(files.json_bytes(document))


@pytest.mark.parametrize(("stage", "source"), READERS)
@pytest.mark.parametrize(
    ("how", "said"),
    [
        ("missing", "there is no such store"),
        ("without its end", "the store is half written"),
        ("half written", "the store is half written"),
        ("old schema", "expected version 1, found version 0"),
        ("bit flip", "the file is damaged"),
        ("lost chunk", "a chunk is missing"),
    ],
)
def test_a_broken_store(copied, refused, stage, source, how, said):
    break_store(copied.path(source), how)
    line = refused(stage)
    assert said in line
    assert str(copied.path(source)) in line
    assert "snakemake --cores all --forcerun" in line


@pytest.mark.parametrize("stage", ["collect", "meta_train", "rollout", "relabel", "evaluate"])
def test_tasks_of_another_environment(copied, refused, stage):
    other = copied.path("tasks", env="cheetah-vel")
    line = refused(stage, changes={"tasks": other})
    assert f"another env_id: in {other}, expected point-robot, found cheetah-vel" in line


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (None, "there is no such file"),
        ("", "the file is damaged"),
        ("[]", "not a task list"),
        ({"train": [0, 1]}, "train and test do not split the tasks"),
        ({"parameters": [[0.0, 9.0]] * 6}, "task parameter goal_y out of range"),
        ({"parameters": [[0.0]] * 6}, "task parameters of the wrong width"),
        ({"parameters": "abc"}, "unreadable task list"),
        ({"schema_version": 9}, "another schema_version"),
    ],
)
def test_broken_tasks(copied, refused, content, said):
    path = copied.path("tasks")
    if content is None:
        path.unlink()
    elif isinstance(content, dict):
        path.write_text(json.dumps(json.loads(path.read_text()) | content))
    else:
        path.write_text(content)
    assert said in refused("collect")


@pytest.mark.parametrize("stage", ["rollout", "relabel", "finetune", "evaluate"])
def test_a_checkpoint_of_another_environment(copied, refused, stage):
    other = copied.path("meta_train", env="cheetah-vel")
    line = refused(stage, changes={"checkpoint": other})
    assert f"wrong environment: in {other}, expected point-robot, found cheetah-vel" in line


def shorten(name):
    def change(tensors, metadata):
        tensors[name] = tensors[name][:-1]

    return change


def widen(name, index, value):
    def change(tensors, metadata):
        sizes = dict(metadata["sizes"])
        sizes[name] = [*sizes[name]]
        sizes[name][index] = value
        pairs = zip(sizes[name][:-1], sizes[name][1:], strict=True)
        tensors[name] = np.zeros(sum((i + 1) * o for i, o in pairs), np.float32)
        metadata["sizes"] = sizes

    return change


def poison(name):
    def change(tensors, metadata):
        tensors[name] = tensors[name].copy()
        tensors[name][3] = np.nan

    return change


def forget(key):
    def change(tensors, metadata):
        (tensors if key in tensors else metadata).pop(key)

    return change


def say(**values):
    def change(tensors, metadata):
        metadata.update(values)

    return change


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (say(obs_dim=3), "checkpoint of another obs_dim"),
        (say(action_dim=6), "checkpoint of another action_dim"),
        (shorten("policy"), "parameters of policy do not fit their layers"),
        (widen("policy", 0, 9), "policy of another shape"),
        (widen("encoder", -1, 4), "encoder of another shape"),
        (widen("decoder", 0, 3), "decoder of another shape"),
        (poison("policy"), "parameters of policy are not finite"),
        (poison("encoder"), "parameters of encoder are not finite"),
        (poison("critic"), "parameters of critic are not finite"),
        (forget("decoder"), "parameters of decoder do not fit their layers"),
        (forget("slices"), "no checkpoint of a learner"),
    ],
)
@pytest.mark.parametrize("stage", ["rollout", "finetune"])
def test_a_checkpoint_that_does_not_fit(copied, refused, stage, change, said):
    edit_checkpoint(copied.path("meta_train"), change)
    line = refused(stage)
    assert said in line
    assert str(copied.path("meta_train")) in line


@pytest.mark.parametrize("change", [shorten("critic"), forget("target_critic")])
def test_a_checkpoint_that_only_the_learner_needs_whole(copied, refused, change):
    edit_checkpoint(copied.path("meta_train"), change)
    assert "checkpoint without the learner's state" in refused("finetune")


@pytest.mark.parametrize("stage", ["rollout", "relabel", "finetune", "evaluate"])
def test_a_damaged_checkpoint(copied, refused, stage):
    path = copied.checkpoint(1 if stage == "evaluate" else 0)
    flip(path, 0.9)
    assert f"the checkpoint is damaged: in {path}" in refused(stage)
    path.write_bytes(path.read_bytes()[:100])
    assert f"the checkpoint is damaged: in {path}" in refused(stage)
    path.unlink()
    assert f"there is no such checkpoint: in {path}" in refused(stage)


@pytest.mark.parametrize(
    ("stage", "changes", "said"),
    [
        ("rollout", {"checkpoint": 0}, "expected round 1, found round 0"),
        ("finetune", {"checkpoint": 0}, "expected round 1, found round 0"),
        ("finetune", {"checkpoint": 2}, "expected round 1, found round 2"),
        ("relabel", {"checkpoint": 1}, "expected round 0, found round 1"),
        ("evaluate", {"checkpoint": 1}, "expected round 2, found round 1"),
        ("relabel", {"rollout": 1}, "rollout of another round"),
        ("rollout", {"rollouts": []}, "rollouts do not cover every round"),
        ("rollout", {"rewards": []}, "rewards do not cover every round"),
        ("finetune", {"rollouts": [1]}, "expected 2 stores, rounds 1 to 2 in order, found 1"),
        ("finetune", {"rewards": [1]}, "rewards do not cover every round"),
        ("finetune", {"rollouts": [2, 1], "rewards": [2, 1]}, "expected round 1, found round 2"),
        ("finetune", {"rollouts": [1, 1], "rewards": [1, 1]}, "expected round 2, found round 1"),
        ("finetune", {"rewards": [2, 1]}, "rewards of another rollout"),
    ],
)
def test_a_round_that_is_skipped_or_mixed_up(copied, refused, stage, changes, said):
    stores = {"rollout": "rollout", "rollouts": "rollout", "rewards": "relabel"}
    given = {}
    for name, value in changes.items():
        if name == "checkpoint":
            given[name] = copied.checkpoint(value)
        elif isinstance(value, list):
            given[name] = [copied.path(stores[name], r) for r in value]
        else:
            given[name] = copied.path(stores[name], value)
    assert said in refused(stage, 2, changes=given)


def test_offline_data_without_rewards(copied, refused):
    path = copied.path("collect")
    edit_store(path, "transitions", drop=("data/reward",), reward_source="none")
    for stage in ("meta_train", "rollout", "relabel", "finetune", "evaluate"):
        assert f"offline data without rewards: in {path}" in refused(stage)


def test_offline_data_of_another_environment(copied, refused):
    other = copied.path("collect", env="cheetah-vel")
    line = refused("meta_train", changes={"transitions": other})
    assert f"wrong environment: in {other}, expected point-robot, found cheetah-vel" in line


def test_a_store_of_another_kind(copied, refused):
    line = refused("relabel", changes={"rollout": copied.path("relabel")})
    assert "wrong kind of store" in line


def test_rewards_of_another_method(copied, refused):
    edit_store(copied.path("relabel"), "rewards", rollout_digest="0" * 64)
    assert "rewards of another rollout" in refused("finetune")


def test_an_oracle_whose_rollout_has_no_rewards(copied, refused):
    rollout = copied.path("rollout")
    line = refused("relabel", method="oracle", changes={"rollout": rollout})
    assert f"rollout without true rewards: in {rollout}" in line
    assert "record_rewards: true" in line


def without_task(run, task: int) -> None:
    """Drops the episodes of a task from the offline data."""
    path = run.path("collect")
    found = read_store(path, "transitions")
    kept = found.arrays["meta/episode_task_id"] != task
    rows = found.arrays["data/task_id"] != task
    arrays = {n: a[kept if n.startswith("meta/") else rows] for n, a in found.arrays.items()}
    arrays["meta/episode_ends"] = np.arange(1, kept.sum() + 1, dtype=np.int64) * 20
    write_store(path, "transitions", arrays, found.attributes)


@pytest.mark.parametrize("stage", ["meta_train", "rollout", "relabel", "finetune", "evaluate"])
def test_a_training_task_without_data(copied, refused, stage):
    without_task(copied, 2)
    line = refused(stage)
    assert "no offline transitions for 1 task(s): in task 2" in line
    assert "widen the slice" in line


def test_a_slice_that_leaves_nothing(copied, refused):
    config = copied.section("meta_train", replay={"sources": ["expert"]})
    line = refused("meta_train", changes={"config": config})
    assert "no offline transitions for 4 task(s): in task 0" in line


def test_a_rollout_on_a_held_out_task(copied, refused):
    path = copied.path("rollout")
    found = read_store(path, "transitions")
    arrays = dict(found.arrays)
    arrays["meta/episode_task_id"] = np.full(8, 5, dtype=np.int32)
    arrays["data/task_id"] = np.full(160, 5, dtype=np.int32)
    write_store(path, "transitions", arrays, found.attributes)
    assert "rollout on a task without offline data" in refused("relabel")
