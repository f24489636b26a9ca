"""What the stages of GMPS refuse: one line, exit code 2, and earlier checkpoints as they were."""

from __future__ import annotations

import json

import numpy as np
import pytest

from pipeline import cli, demonstrations, evaluate, experts, gmps_train
from pipeline.checkpoint import read_checkpoint, write_checkpoint
from pipeline.store import read_store, write_store
from smac_core.envs.point_robot import PointRobot
from smac_core.errors import ConfigError
from tests.pipeline.conftest import read_tree
from tests.pipeline.gmps_stage import GmpsStage
from tests.pipeline.tiny_stage import told


@pytest.fixture
def stage(finished, tmp_path):
    return GmpsStage(finished, tmp_path)


def test_divergence_is_one_line_and_leaves_the_earlier_checkpoint(stage, capsys):
    assert stage.call() == 0
    before = stage.out.read_bytes()
    assert GmpsStage(stage.finished, stage.folder, rate="1.0e+30").call() == 2
    assert "is not finite" in told(capsys)
    assert stage.out.read_bytes() == before


def test_an_inner_step_that_diverges_at_meta_test_leaves_its_output(stage, capsys, tmp_path):
    assert stage.call() == 0
    found = read_checkpoint(stage.out)
    wild = tmp_path / "wild" / "checkpoint.safetensors"
    wild.parent.mkdir()
    rates = {n: np.full_like(a, 1e38) for n, a in found.tensors.items() if n.startswith("rates/")}
    meta = {n: v for n, v in found.metadata.items() if n != "kind"}
    write_checkpoint(wild, found.tensors | rates, meta)
    returns = tmp_path / "round0" / "returns.zarr"
    words = {"round": 0, "out": returns}

    def evaluated(checkpoint) -> int:
        given = stage.words("gmps", checkpoint=checkpoint, **words)
        return cli.run(evaluate.run, evaluate.make_parser(), given)

    assert evaluated(stage.out) == 0
    before = read_tree(returns.parent)
    assert evaluated(wild) == 2
    line = told(capsys)
    assert "the inner steps diverged: in meta-episode" in line
    assert "train with a lower initial_rate or learning_rate" in line
    assert read_tree(returns.parent) == before


def test_an_expert_must_learn_something(refused, copied):
    for section in ({"iterations": 0}, {"updates_per_iteration": 0}):
        line = refused("experts", changes={"config": copied.section("experts", **section)})
        assert "an expert that learns nothing: in experts of point-robot" in line
        assert "set experts.iterations, or experts.policy: scripted" in line


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
    assert GmpsStage(stage.finished, stage.folder, shown=3).call() == 2
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
    assert GmpsStage(stage.finished, stage.folder, aggregate=0).call(transitions=alone) == 0


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
