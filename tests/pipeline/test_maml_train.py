"""Stage `meta_train` of the methods that adapt by gradient, and its checkpoint at meta-test."""

from __future__ import annotations

import json
import re
from typing import ClassVar

import numpy as np
import pytest

from pipeline import cli, evaluate, maml_train
from pipeline.checkpoint import read_checkpoint
from pipeline.imports import code_digest
from pipeline.store import read_store, write_store
from smac_core.envs.point_robot import PointRobot
from smac_core.errors import StoreError
from tests.pipeline.tiny_stage import ROOT, TinyStage, check_goes_on, told

TINY = """
envs: [point-robot]
methods: [macaw, macaw-matched, maml-bc]
seeds: [0]
rounds: 0
settings:
  point-robot:
    evaluate: {{train_tasks: 3, adaptation: {{repeats: 2, context_size: 8}}}}
  point-robot/macaw: &tiny
    meta_train:
      updates: {updates}
      networks: {{policy: [8, 8], value: [8], advantage_head: 4, layer_latent_dim: 3}}
      learner:
        num_tasks: 2
        inner_rows: {inner_rows}
        outer_rows: 12
        initial_rate: {rate}
        log_every: 5
  point-robot/macaw-matched: *tiny
  point-robot/maml-bc: *tiny
"""


class Stage(TinyStage):
    """The methods that adapt by gradient, offline."""

    module, template, method = maml_train, TINY, "macaw"
    defaults: ClassVar = {"updates": 12, "inner_rows": 20, "rate": 0.01}


@pytest.fixture
def stage(finished, tmp_path):
    return Stage(finished, tmp_path)


@pytest.mark.parametrize("method", ["macaw", "macaw-matched", "maml-bc"])
def test_it_writes_what_evaluate_reads(stage, method, tmp_path):
    assert stage.call(method) == 0
    checkpoint = read_checkpoint(stage.out, env_id="point-robot")
    assert checkpoint.metadata["algorithm"] == "maml"
    assert checkpoint.metadata["method"] == method
    assert int(checkpoint.tensors["num_updates"][0]) == 12
    assert ("value/0.bias" in checkpoint.tensors) == (method == "macaw-matched")
    assert ("value/0.map" in checkpoint.tensors) == (method == "macaw")
    metrics = stage.out.with_name("metrics.csv").read_text().splitlines()
    assert [line.split(",")[0] for line in metrics] == ["update", "5", "10", "12"]
    page = (ROOT / "docs/metrics.md").read_text()
    named = set(re.findall(r"^\| `(\w+)` \|", page, re.MULTILINE))
    assert set(metrics[0].split(",")) <= named
    manifest = json.loads(stage.out.with_name("manifest.json").read_text())
    assert manifest["updates"] == 12
    assert manifest["code_digest"] == code_digest(
        "pipeline.maml_train", ("smac_core.envs.point_robot",)
    )
    assert not list(stage.out.parent.glob(".resume-*"))

    returns = tmp_path / "round0" / "returns.zarr"
    words = stage.words(method, checkpoint=stage.out, round=0, out=returns)
    assert cli.run(evaluate.run, evaluate.make_parser(), words) == 0
    arrays = read_store(returns, "evaluation").arrays
    assert arrays["arms/test_online/episode_return"].shape[-1] == 3
    for arm in ("test_online", "test_prior", "train_offline"):
        assert np.isfinite(arrays[f"arms/{arm}/episode_return"]).all()


def test_same_seed_same_bytes_and_other_seeds_differ(stage):
    first, again, both = (stage.folder / n / "a.safetensors" for n in ("first", "again", "both"))
    assert stage.call(out=first) == 0
    assert stage.call(out=again) == 0
    assert first.read_bytes() == again.read_bytes()
    other = stage.folder / "other" / "a.safetensors"
    assert stage.call(seed=[1, 0], out=[other, both]) == 0
    assert both.read_bytes() == first.read_bytes()
    assert other.read_bytes() != first.read_bytes()


DYING = """
import os, signal, sys
from pipeline import cli, maml_train, training
from smac_core.maml.data import MamlSampler

training.SAVE_SECONDS, training.SAVE_EVERY = 0.0, 2
draw = MamlSampler.draw

def draw_or_die(self, update):
    return os.kill(os.getpid(), signal.SIGKILL) if update == 9 else draw(self, update)

MamlSampler.draw = draw_or_die
cli.stage_main(maml_train.run, maml_train.make_parser(), sys.argv[1:])
"""


def test_a_killed_run_goes_on_and_ends_with_the_same_bytes(stage, monkeypatch):
    drawn = (maml_train.MamlSampler, "draw")
    steps = check_goes_on(stage, DYING, drawn, lambda _, update: update, monkeypatch)
    assert steps == [8, 9, 10, 11]


def test_divergence_is_one_line_and_leaves_the_earlier_checkpoint(stage, capsys):
    assert stage.call() == 0
    before = stage.out.read_bytes()
    wild = Stage(stage.finished, stage.folder, rate=1e12)
    assert wild.call() == 2
    assert re.match(
        r"error: \w+ is not finite: in update 5, found (nan|inf|-inf); lower", told(capsys)
    )
    assert stage.out.read_bytes() == before


def test_only_cloning_does_without_rewards(stage, capsys, tmp_path):
    found = read_store(stage.finished.path("collect"), "transitions")
    arrays = {name: array for name, array in found.arrays.items() if name != "data/reward"}
    silent = tmp_path / "silent.zarr"
    write_store(silent, "transitions", arrays, found.attributes | {"reward_source": "none"})
    assert stage.call("macaw", transitions=silent) == 2
    assert "macaw needs the true reward of every step" in told(capsys)
    assert stage.call("maml-bc", transitions=silent) == 0
    with pytest.raises(StoreError, match=r"without rewards: .*collect stage"):
        maml_train.read_episodes(silent, PointRobot(), rewards=True)


def test_tasks_with_too_few_rows_are_refused(stage, capsys):
    short = Stage(stage.finished, stage.folder, inner_rows=400)
    assert short.call() == 2
    line = told(capsys)
    assert "expected 400 consecutive rows" in line
    assert "lower inner_rows" in line


def test_a_diverged_simulator_ends_no_episode(finished, tmp_path):
    path, env = finished.path("collect"), "point-robot"
    store = read_store(path, "transitions", env_id=env)
    ok = store.arrays["meta/episode_ok"].copy()
    ok[1] = False
    broken = finished.rewrite(path, tmp_path / "a.zarr", meta__episode_ok=ok)

    rows, episodes = maml_train.read_episodes(broken, PointRobot(), rewards=True)
    ends = store.arrays["meta/episode_ends"]
    expected = np.zeros(len(rows), dtype=bool)
    expected[ends[np.arange(len(ends)) != 1] - 1] = True
    np.testing.assert_array_equal(episodes.ended, expected)
    np.testing.assert_array_equal(episodes.t[: ends[0]], np.arange(ends[0]))
    assert episodes.t[ends[0]] == 0


@pytest.mark.parametrize(
    ("learner", "said"),
    [
        ("inner: awac", "inner"),
        ("initial_rate: 0", "initial_rate"),
        ("target_mix: 1.5", "target_mix"),
        ("inner_rows: 0", "inner_rows"),
        ("ratio_limits: [0, 2]", "ratio_limits"),
        ("head_wieght: 1", "head_weight"),
        ("ratio_limits: [2, 0.5]", "the lower first"),
        ("weight_clip: both\n        max_weight: 0.5", "at least 1 with weight_clip: both"),
    ],
)
def test_bad_keys_are_refused(stage, capsys, learner, said):
    key = learner.split(":")[0]
    text = re.sub(rf"\n +{key}:.*", "", stage.preset.read_text())
    stage.preset.write_text(text.replace("log_every: 5", f"{learner}\n        log_every: 5"))
    assert stage.call() == 2
    assert said in told(capsys)


def test_an_advantage_head_needs_a_hidden_layer(stage, capsys):
    text = stage.preset.read_text()
    stage.preset.write_text(re.sub(r"policy: \[[^\]]*\]", "policy: []", text))
    assert stage.call() == 2
    assert "an advantage head without a hidden layer" in told(capsys)
