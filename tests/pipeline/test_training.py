"""The stages that learn: which rows they see, what they train, what they leave alone."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest

from pipeline.checkpoint import read_checkpoint
from pipeline.store import read_store, write_store


def sliced(finished, tmp_path, name: str, store: Path | None = None) -> Path:
    """Trains with 25 replay rows from the front and 10 context rows from the back of each task."""
    replay = {"take": "first", "rows": 25}
    context = {"take": "last", "rows": 10, "sources": ["scripted"]}
    config = finished.section("meta_train", replay=replay, context=context)
    out = tmp_path / name / "checkpoint.safetensors"
    changes = {"config": config, "out": out}
    changes |= {"transitions": store} if store else {}
    assert finished.call("meta_train", changes=changes) == 0
    return out


@pytest.mark.parametrize(("row", "used"), [(24, True), (27, False), (31, True)])
def test_meta_training_sees_its_slices_only(finished, tmp_path, row, used):
    # 40 rows a task: 0 to 24 are replay, 30 to 39 are context, 25 to 29 are nobody's. Row 25's
    # observation is also the next one of row 24.
    reward = finished.transitions(finished.path("collect")).arrays["data/reward"].copy()
    reward[row::40] += 5.0
    other = finished.rewrite(finished.path("collect"), tmp_path / "other.zarr", data__reward=reward)
    before = finished.tensors(sliced(finished, tmp_path, "before"))
    after = finished.tensors(sliced(finished, tmp_path, "after", other))
    assert any((before[name] != after[name]).any() for name in before) == used


def test_the_later_stages_take_over_the_slices(finished, tmp_path):
    checkpoint = sliced(finished, tmp_path, "sliced")
    reward = finished.transitions(finished.path("collect")).arrays["data/reward"].copy()
    reward[10::40] += 5.0  # replay, but no context
    other = finished.rewrite(finished.path("collect"), tmp_path / "other.zarr", data__reward=reward)
    found = []
    for name, store in (("a", finished.path("collect")), ("b", other)):
        out = tmp_path / name / "rewards.zarr"
        changes = {"checkpoint": checkpoint, "transitions": store, "out": out}
        assert finished.call("relabel", changes=changes) == 0
        found.append(read_store(out, "rewards").arrays["meta/episode_latent"])
    np.testing.assert_array_equal(*found)


def test_meta_bc_leaves_the_critics_alone(finished):
    import torch

    from pipeline.models import network_config
    from smac_core.config import LearnerConfig
    from smac_core.learner import Learner
    from smac_core.networks import Shapes

    checkpoint = read_checkpoint(finished.path("meta_train", method="meta-bc"))
    networks = network_config(checkpoint.metadata["networks"])
    config = LearnerConfig(actor="bc")
    initial = Learner(Shapes(2, 2), networks, config, [0], torch.device("cpu")).state()
    for name in ("critic", "target_critic"):
        np.testing.assert_array_equal(checkpoint.tensors[name], initial[name])
    for name in ("policy", "encoder", "decoder"):
        assert (checkpoint.tensors[name] != initial[name]).any()
    assert (finished.tensors(finished.path("meta_train"))["critic"] != initial["critic"]).any()


@pytest.mark.parametrize("stage", ["meta_train", "finetune"])
def test_metrics_have_a_row_an_interval(finished, stage):
    with finished.path(stage).with_name("metrics.csv").open() as stream:
        rows = list(csv.DictReader(stream))
    # 12 offline updates, then 10 more, a row every 5 and at the end.
    updates = {"meta_train": [5, 10, 12], "finetune": [15, 20, 22]}[stage]
    assert [int(row["update"]) for row in rows] == updates
    names = {"critic_loss", "imitation_loss", "effective_sample_size"}
    names |= {"reward_loss", "posterior_kl"} if stage == "meta_train" else {"own_action_value"}
    assert names <= set(rows[0])
    assert all(np.isfinite(float(value)) for row in rows for value in row.values())


def test_finetuning_freezes_the_model(finished):
    start, after = (
        finished.tensors(finished.path("meta_train")),
        finished.tensors(finished.path("finetune")),
    )
    for name in ("encoder", "decoder", "adam.model.exp_avg", "adam.model.exp_avg_sq"):
        assert start[name].tobytes() == after[name].tobytes()
    for name in ("policy", "critic", "target_critic"):
        assert (start[name] != after[name]).any()
    assert int(after["num_updates"][0]) == 22


def test_the_oracle_trains_its_model_on(finished):
    start = finished.tensors(finished.path("meta_train"))
    after = finished.tensors(finished.path("finetune", method="oracle"))
    assert (start["encoder"] != after["encoder"]).any()
    assert (start["decoder"] != after["decoder"]).any()


def test_checkpoints_say_where_they_come_from(finished):
    first, second = (read_checkpoint(finished.path("finetune", r)).metadata for r in (1, 2))
    assert [first["round"], second["round"]] == [1, 2]
    assert [first["self_supervised_steps"], second["self_supervised_steps"]] == [160, 320]
    stages = [entry["stage"] for entry in second["lineage"]]
    assert stages == ["meta_train", "finetune", "finetune"]
    assert second["lineage"][:2] == first["lineage"]


def test_finetuning_learns_from_the_labels(finished, tmp_path):
    path = finished.path("relabel")
    found = read_store(path, "rewards")
    arrays = found.arrays | {"data/generated_reward": found.arrays["data/generated_reward"] + 1.0}
    write_store(tmp_path / "rewards.zarr", "rewards", arrays, found.attributes)
    out = tmp_path / "out" / "checkpoint.safetensors"
    changes = {"rewards": [tmp_path / "rewards.zarr"], "out": out}
    assert finished.call("finetune", changes=changes) == 0
    before, after = finished.tensors(finished.path("finetune")), finished.tensors(out)
    assert (before["critic"] != after["critic"]).any()
