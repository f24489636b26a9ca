"""From a script that is told where the cube is to a policy that adapts from pictures."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from pipeline import cli, collect, demonstrations, evaluate, experts, gmps_train, tasks
from pipeline.checkpoint import read_checkpoint
from pipeline.store import read_store
from smac_core.envs import rendering
from tests.pipeline.tiny_stage import ROOT, told

PRESET = """
envs: [sawyer-push-pixels]
methods: [gmps]
rounds: 0
settings:
  all:
    tasks: {num_train: 2, num_test: 1}
    collect: {initial_steps: 50}
    experts: {policy: scripted}
    demonstrations: {episodes: 1}
    evaluate: {train_tasks: 1, adaptation: {repeats: 1}}
  all/gmps:
    meta_train:
      iterations: 1
      evaluate_every: 0
      networks: {policy: [8, 8], initial_std: 0.3, convolution: true}
      learner:
        exploration_episodes: 1
        updates_per_batch: 2
        outer_rows: 5
        aggregate_every: 1
        baseline: none
        initial_rate: 0.1
"""


class Stages:
    """The stages, called one after another in a folder."""

    def __init__(self, folder: Path, preset: str = PRESET) -> None:
        self.folder = folder / "results"
        self.preset = folder / "preset.yaml"
        self.preset.write_text(preset)
        self.tasks = self.folder / "tasks.json"
        self.expert = self.folder / "experts" / "checkpoint.safetensors"
        self.shown = self.folder / "demonstrations" / "transitions.zarr"
        self.collected = self.folder / "collect" / "transitions.zarr"
        self.trained = self.folder / "meta_train" / "checkpoint.safetensors"
        self.returns = self.folder / "round0" / "returns.zarr"

    def call(self, module, **options) -> int:
        named = {"config": self.preset, "env": "sawyer-push-pixels"} | options
        words = [part for name, value in named.items() for part in (f"--{name}", str(value))]
        return cli.run(module.run, module.make_parser(), words)

    def train(self) -> int:
        who = {"method": "gmps", "seed": 0, "tasks": self.tasks}
        return self.call(gmps_train, **who, transitions=self.shown, out=self.trained)


@pytest.mark.usefixtures("graphics")
def test_pictures_from_script_to_meta_test(tmp_path: Path, capsys) -> None:
    run = Stages(tmp_path)
    assert run.call(tasks, out=run.tasks) == 0
    assert run.call(experts, tasks=run.tasks, out=run.expert) == 0
    assert run.call(demonstrations, tasks=run.tasks, checkpoint=run.expert, out=run.shown) == 0
    assert run.call(collect, tasks=run.tasks, out=run.collected) == 0
    assert run.train() == 0
    arrays = read_store(run.shown, "transitions").arrays
    assert arrays["data/obs"].shape == (2 * 50, 48 * 64 * 3 + 3)
    assert arrays["data/reward"].reshape(2, 50).sum(axis=1).min() > 400.0, "the script pushes"
    assert read_store(run.collected, "transitions").arrays["meta/episode_source"].tolist() == [3, 3]

    found = read_checkpoint(run.trained, env_id="sawyer-push-pixels")
    assert found.metadata["networks"]["convolution"] is True
    assert found.tensors["policy/conv0.weight"].shape == (16, 3, 5, 5)
    assert "rates/conv0.weight" not in found.tensors
    assert found.metadata["environment_steps"] == 2 * 50 + 2 * 50, "explored, and labelled"
    lines = run.trained.with_name("metrics.csv").read_text().splitlines()
    row = dict(zip(lines[0].split(","), lines[1].split(","), strict=True))
    assert float(row["expert_rows"]) == 2 * 50 + 2 * 50, "the script labels what it cannot see"

    which = {"method": "gmps", "seed": 0, "round": 0, "tasks": run.tasks}
    where = {"transitions": run.collected, "checkpoint": run.trained, "out": run.returns}
    assert run.call(evaluate, **which, **where) == 0
    for arm in ("test_online", "test_prior", "train_offline"):
        measured = read_store(run.returns, "evaluation").arrays[f"arms/{arm}/episode_return"]
        assert np.isfinite(measured).all()

    before = run.trained.read_bytes()
    linear = PRESET.replace("baseline: none", "baseline: linear")
    run.preset.write_text(linear.replace("convolution: true", "convolution: false"))
    assert run.train() == 2
    assert "a linear baseline of pictures" in told(capsys)
    assert run.trained.read_bytes() == before


def test_without_graphics_it_is_one_line(tmp_path, capsys, monkeypatch) -> None:
    run = Stages(tmp_path)
    assert run.call(tasks, out=run.tasks) == 0
    assert run.call(experts, tasks=run.tasks, out=run.expert) == 0
    monkeypatch.delenv("MUJOCO_GL", raising=False)
    monkeypatch.setattr(rendering.ctypes.util, "find_library", lambda name: None)
    assert run.call(demonstrations, tasks=run.tasks, checkpoint=run.expert, out=run.shown) == 2
    assert "cannot draw MuJoCo without a screen" in told(capsys)


def test_acting_from_pictures_imports_no_torch() -> None:
    code = "import sys, pipeline.evaluate, smac_core.gmps_agent; print('torch' in sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "False"
