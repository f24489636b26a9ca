"""Each baseline computes what our side computes: otherwise their times say nothing."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import zarr

from benchmarks.plain_envs import make_lean, make_plain
from benchmarks.relabelling import Labels, plain_store_to_store, store_to_store, write_rollout
from benchmarks.rollouts import LeanActor, TorchActor, make_actor, run_ours, run_plain
from benchmarks.sampling import FIELDS, PlainSampler, make_dataset
from pipeline.store import read_store
from smac_core.config import LearnerConfig
from smac_core.envs.episodes import BatchDriver
from smac_core.envs.gym_driver import SmacEnv
from smac_core.envs.lookup import load_environment
from smac_core.envs.registration import DEFINITIONS
from smac_core.learner import Batch
from smac_core.networks import Shapes
from smac_core.sampler import HostSampler


def test_plain_environment_is_made_as_users_make_it():
    made = make_plain(load_environment(DEFINITIONS[0]), np.array([1.0, 0.0]))
    wrappers = []
    while made is not made.unwrapped:
        wrappers.append(type(made).__name__)
        made = made.env
    assert wrappers == ["TimeLimit", "OrderEnforcing", "PassiveEnvChecker"]


@pytest.mark.parametrize("definition", DEFINITIONS)
def test_plain_environment_steps_the_same(definition):
    env = load_environment(definition)
    task = env.sample_tasks(1337, 3, 0)[1]
    ours, plain = SmacEnv(env, task=task), make_plain(env, task)
    rng = np.random.default_rng(0)
    np.testing.assert_allclose(ours.reset(seed=5)[0], plain.reset(seed=5)[0], atol=1e-6)
    for step in range(1, env.horizon + 1):
        action = rng.uniform(-1.0, 1.0, env.action_dim).astype(np.float32)
        mine, theirs = ours.step(action), plain.step(action)
        np.testing.assert_allclose(mine[0], theirs[0], rtol=1e-5, atol=1e-5)
        assert mine[1] == pytest.approx(theirs[1], rel=1e-5, abs=1e-5)
        assert mine[2] == theirs[2]
        assert theirs[3] == (step == env.horizon)
        if mine[2]:
            break
    plain.close()


@pytest.mark.parametrize("definition", DEFINITIONS)
def test_torch_policy_is_the_compiled_one(definition):
    env = load_environment(definition)
    agent, policy = make_actor(env)
    rng = np.random.default_rng(0)
    obs = rng.standard_normal((6, env.obs_dim), dtype=np.float32)
    latent = rng.standard_normal((6, agent.latent_dim), dtype=np.float32)
    noise = rng.standard_normal((6, env.action_dim), dtype=np.float32)
    with torch.no_grad():
        mean, std = policy(torch.from_numpy(np.concatenate([obs, latent], axis=1)))
    expected = np.tanh(mean.numpy() + std.numpy() * noise)
    np.testing.assert_allclose(agent.stochastic()(obs, latent, noise), expected, atol=1e-5)
    for actor in (TorchActor, LeanActor):
        action = actor(policy, 6).act(obs)
        assert action.shape == noise.shape
        assert (np.abs(action) <= 1).all()


def test_both_rollouts_run_whole_episodes():
    env = load_environment(DEFINITIONS[0])
    agent, policy = make_actor(env)
    tasks = env.sample_tasks(1337, 3, 0)
    assert run_ours(BatchDriver(env), agent, tasks) == 3 * env.horizon
    for make, actor in ((make_plain, TorchActor), (make_lean, LeanActor)):
        assert run_plain(make(env, tasks[0]), actor(policy, 1)) == env.horizon


def test_plain_sampler_gathers_the_rows_that_ours_drew():
    shapes, config = Shapes(3, 2), LearnerConfig(num_tasks=4, rows_per_task=16, context_size=8)
    dataset = make_dataset(shapes, tasks=5, rows_per_task=30)
    row = np.arange(150, dtype=np.float32)
    dataset.transitions.obs[:, 0] = row  # tells which row was drawn
    dataset.features[:, 0] = row
    sampler = HostSampler([dataset], config, 5, [0])
    batch = Batch(*(tensor[0] for tensor in sampler.draw(7)))
    plain = PlainSampler(dataset, config)
    tasks = batch.task.numpy()
    drawn = batch.obs[..., 0].numpy().astype(int)
    found = plain.gather(tasks, drawn - 30 * tasks[:, None])
    for name in FIELDS:
        np.testing.assert_array_equal(getattr(batch, name).numpy(), found[name].astype(np.float32))
    picked = batch.context[..., 0].numpy().astype(int)
    context = plain.gather_context(tasks, picked - 30 * tasks[:, None])
    np.testing.assert_array_equal(batch.context.numpy(), context.astype(np.float32))
    assert [t.shape for t in plain.draw()] == [
        *(getattr(batch, name).shape for name in FIELDS),
        batch.context.shape,
    ]


def test_both_label_the_same_rewards(tmp_path):
    labels = Labels(5000)
    assert labels.torch() == 5000
    expected = labels.out.copy()
    for length in (200, 1):
        labels.out[:] = np.nan
        assert labels.by_rows(length, 1000) == 1000
        np.testing.assert_allclose(labels.out[:1000], expected[:1000], rtol=1e-4, atol=1e-6)
    for threads in (1, 2):
        labels.out[:] = np.nan
        labels.ours(threads)
        np.testing.assert_allclose(labels.out, expected, rtol=1e-4, atol=1e-6)
    write_rollout(tmp_path / "rollout.zarr", labels)
    paths = tmp_path / "ours.zarr", tmp_path / "plain.zarr"
    store_to_store(tmp_path / "rollout.zarr", paths[0], labels)
    mine = read_store(paths[0], "rewards").arrays["data/generated_reward"]
    np.testing.assert_allclose(mine, expected, rtol=1e-4, atol=1e-6)
    plain_store_to_store(tmp_path / "rollout.zarr", paths[1], labels)
    theirs = zarr.open_group(paths[1], mode="r")["data/generated_reward"][:]
    np.testing.assert_allclose(theirs, expected, rtol=1e-4, atol=1e-6)
