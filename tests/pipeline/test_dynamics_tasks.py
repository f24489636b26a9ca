"""Every stage where dynamics differ between tasks, episodes end early, and contexts hold s'."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pipeline import config as cf
from pipeline.config import CONFIG_FOLDER
from pipeline.derived import next_obs
from pipeline.manifest import read_manifest
from pipeline.models import read_model
from pipeline.store import read_store
from smac_core.dataset import context_features
from smac_core.envs.hopper_param import HopperParam
from smac_core.envs.lookup import load_environment
from smac_core.envs.registration import DEFINITIONS
from smac_core.planning import LABEL, generator
from tests.pipeline.conftest import Run

ENV = "hopper-param"
PRESET = """
envs: [hopper-param]
methods: [smac]
rounds: 1
settings:
  all:
    tasks: {num_train: 3, num_test: 2}
    collect:
      initial_steps: 60
      iterations: 2
      tasks_per_iteration: 2
      updates_per_iteration: 3
      evaluate_every: 1
      visit: {prior_steps: 40, posterior_steps: 60, context_size: 8}
      networks: &tiny
        {encoder: [8], decoder: [8], critic: [8], policy: [8], context_next_obs: true}
      learner: &learner {num_tasks: 2, rows_per_task: 8, context_size: 4, log_every: 5}
    meta_train: {updates: 6, networks: *tiny, learner: *learner}
    rollout: {tasks_per_round: 2, visit: {prior_steps: 40, posterior_steps: 40, context_size: 8}}
    relabel: {context_size: 8}
    finetune: {updates: 6, learner: *learner}
    evaluate: {train_tasks: 2, adaptation: {repeats: 1, context_size: 8}}
"""


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    made = Run(tmp_path_factory.mktemp("hopper"))
    (made.root / "preset.yaml").write_text(PRESET)
    stages = ["tasks", "collect", "meta_train", "rollout", "relabel", "finetune", "evaluate"]
    for stage in stages:
        assert made.call(stage, env=ENV) == 0, stage
    return made


def arrays(path: Path) -> dict[str, np.ndarray]:
    return read_store(path, "transitions", env_id=ENV).arrays


def test_the_task_list_holds_named_multipliers(run):
    document = json.loads(run.path("tasks", env=ENV).read_text())
    assert document["fields"] == list(HopperParam.task_fields)
    assert document["fields"][0] == "mass_torso"
    parameters = np.array(document["parameters"])
    np.testing.assert_array_equal(parameters, HopperParam().sample_tasks(1337, 3, 2))


def test_early_ends_are_stored_as_terminal(run):
    found = arrays(run.path("collect", env=ENV))
    ends = found["meta/episode_ends"] - 1
    lengths = np.diff(found["meta/episode_ends"], prepend=0)
    assert (lengths < 200).all()  # an untrained hopper falls
    assert found["data/terminated"][ends].all()
    assert found["data/terminated"].sum() == len(ends)
    assert not found["data/truncated"].any()
    task = found["meta/episode_task_id"]
    initial = found["meta/episode_iteration"] == 0
    per_task = np.bincount(task[initial], lengths[initial])
    assert (per_task >= 60).all()
    assert (per_task < 60 + 200).all()


def test_the_manifest_counts_visits_and_sources(run):
    manifest = read_manifest(run.path("collect", env=ENV).with_name("manifest.json"))
    found = arrays(run.path("collect", env=ENV))
    lengths = np.diff(found["meta/episode_ends"], prepend=0)
    assert sum(manifest["visits_per_task"]) == 2 * 2
    assert len(manifest["visits_per_task"]) == 3
    assert manifest["transitions"] == lengths.sum() == len(found["data/obs"])
    for name, code in (("init", 0), ("prior", 1), ("posterior", 2)):
        chosen = found["meta/episode_source"] == code
        said = manifest["sources"][name]
        assert (said["episodes"], said["transitions"]) == (chosen.sum(), lengths[chosen].sum())
        assert said["mean_length"] == pytest.approx(lengths[chosen].mean())


@pytest.mark.parametrize("number", [0, 1])
def test_the_encoder_reads_the_next_observation(run, number):
    model = read_model(run.checkpoint(number, env=ENV), HopperParam())
    assert model.agent.context_next_obs
    assert model.agent.encoder.sizes[0] == 2 * 11 + 3 + 1


def test_labels_are_inferred_from_contexts_with_the_next_observation(run):
    """The only place where a missing s' would go unseen: the widths fit only with it."""
    agent = read_model(run.checkpoint(0, env=ENV), HopperParam()).agent
    store = read_store(run.path("collect", env=ENV), "transitions")
    offline, after = store.arrays, next_obs(store)
    rollout = arrays(run.path("rollout", env=ENV))
    labels = read_store(run.path("relabel", env=ENV), "rewards").arrays
    for episode, task in enumerate(rollout["meta/episode_task_id"]):
        rows = np.flatnonzero(offline["data/task_id"] == task)
        rng = generator((0, LABEL, 1, episode))
        rows = rows[rng.integers(0, len(rows), 8)]
        parts = (offline[f"data/{name}"][rows] for name in ("obs", "action", "reward"))
        posterior = agent.infer([context_features(*parts, after[rows])])
        noise = rng.standard_normal(agent.latent_dim, dtype=np.float32)
        expected = posterior.sample(noise[None])[0]
        np.testing.assert_allclose(labels["meta/episode_latent"][episode], expected, rtol=1e-5)


def test_rollouts_have_no_reward_and_other_dynamics_a_task(run):
    found = arrays(run.path("rollout", env=ENV))
    assert "data/reward" not in found
    assert len(np.unique(found["meta/episode_task_id"])) > 1


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (-1.0, "mass_torso out of range: in hopper-param, task 1, expected 0.296"),
        (float("nan"), "found NaN"),
        (1e3, "found 1000.0"),
    ],
)
def test_impossible_dynamics_are_one_line(run, tmp_path, capsys, value, message):
    document = json.loads(run.path("tasks", env=ENV).read_text())
    document["parameters"][1][0] = value
    tasks = tmp_path / "tasks.json"
    tasks.write_text(json.dumps(document))
    out = tmp_path / "collect" / "transitions.zarr"
    assert run.call("collect", env=ENV, changes={"tasks": tasks, "out": out}) == 2
    line = capsys.readouterr().err.splitlines()[-1]
    assert line.startswith("error: ")
    assert message in line


def test_a_policy_cannot_be_told_more_than_z_holds(run, tmp_path, capsys):
    config = yaml_with(run, tmp_path, "collect: {policy: task-conditioned}")
    out = tmp_path / "collect" / "transitions.zarr"
    assert run.call("collect", env=ENV, changes={"config": config, "out": out}) == 2
    line = capsys.readouterr().err.splitlines()[-1]
    assert "expected networks.latent_dim of at least 24, found 5" in line


def test_parameters_of_the_environment_are_checked(run, tmp_path, capsys):
    config = yaml_with(run, tmp_path, "env: {params: {timestep: 0.003}}")
    out = tmp_path / "tasks.json"
    assert run.call("tasks", env=ENV, changes={"config": config, "out": out}) == 2
    assert "expected 0.002 or 0.004, found 0.003" in capsys.readouterr().err


def yaml_with(run: Run, folder: Path, line: str) -> Path:
    path = folder / "preset.yaml"
    path.write_text((run.root / "preset.yaml").read_text() + f"  hopper-param: {{{line}}}\n")
    return path


def resolved(env: str) -> tuple[Any, Any]:
    preset = cf.load_run({"envs": [env], "methods": ["smac"]})
    return cf.env_config(preset, env), cf.stage_config(preset, "tasks", env)


def test_every_domain_has_its_file_and_its_place_in_the_presets():
    environments = [load_environment(definition) for definition in DEFINITIONS]
    for env, definition in zip(environments, DEFINITIONS, strict=True):
        config, tasks = resolved(env.env_id)
        assert config.definition == definition
        made = load_environment(config.definition, config.params)
        assert (tasks.num_train, tasks.num_test) == made.num_tasks
    of_gmps = ("ant-goal-ring", "sawyer-push", "sawyer-door")
    names = {env.env_id for env in environments if not env.env_id.startswith(of_gmps)}
    paper = cf.read_run(str(CONFIG_FOLDER / "paper.yaml"))
    assert names - {"point-robot"} <= set(paper.envs)
    assert names <= set(cf.read_run(str(CONFIG_FOLDER / "test.yaml")).envs)
