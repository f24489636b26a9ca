"""The agent that adapts by gradient: exploration, batching, and what it refuses."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest
import torch

from smac_core.envs.episodes import Episodes
from smac_core.envs.point_robot import PointRobot
from smac_core.errors import CheckpointError, NonFiniteError
from smac_core.macaw_agent import GradientAgent, load
from smac_core.maml.config import MamlConfig, MamlNetworkConfig
from smac_core.maml.learner import MamlLearner
from smac_core.maml.networks import policy_mean
from smac_core.meta_agent import Context
from smac_core.networks import Shapes

ENV = PointRobot()
NETWORKS = MamlNetworkConfig(policy=(8, 8), value=(8,), advantage_head=4, layer_latent_dim=3)
CONFIG = MamlConfig(initial_rate=0.05)
NUM = 4


def checkpoint(config: MamlConfig = CONFIG) -> tuple[dict[str, np.ndarray], dict[str, object]]:
    learner = MamlLearner(Shapes(2, 2), NETWORKS, config, 1, torch.device("cpu"))
    return learner.state(), {
        "algorithm": "maml",
        "obs_dim": 2,
        "action_dim": 2,
        "networks": asdict(NETWORKS),
        "learner": {n: list(v) if isinstance(v, tuple) else v for n, v in asdict(config).items()},
    }


def make_agent(config: MamlConfig = CONFIG) -> GradientAgent:
    return load(*checkpoint(config), ENV)


def episodes(num: int = NUM, *, steps: int = 20, seed: int = 0) -> Episodes:
    rng = np.random.default_rng(seed)

    def normal(*shape: int) -> np.ndarray:
        return rng.standard_normal((num, *shape)).astype(np.float32)

    return Episodes(
        obs=normal(steps, 2),
        action=np.tanh(normal(steps, 2)),
        reward=normal(steps),
        length=np.array([steps, 5, steps, 1][:num]),
        terminated=np.array([False, True, False, True][:num]),
        final_obs=normal(2),
        path=normal(steps + 1, 2),
        ok=np.ones(num, dtype=bool),
    )


def explored(agent: GradientAgent, rows: np.ndarray) -> np.ndarray:
    """Plays the protocol of some meta-episodes; what they do afterwards."""
    agent.begin_task(len(rows))
    own = np.arange(len(rows))
    for seed in (0, 1):
        agent.observe_episodes(own, episodes(seed=seed).select(rows))
    agent.adapt(own)
    obs = episodes(seed=7).obs[rows, 0]
    return agent.act(own, obs, np.zeros((len(rows), 2), np.float32), explore=False)


def test_adaptation_does_not_depend_on_what_is_beside_it():
    agent = make_agent()
    together = explored(agent, np.arange(NUM))
    for row in range(NUM):
        np.testing.assert_array_equal(explored(agent, np.array([row]))[0], together[row])
    mixed = explored(agent, np.array([3, 1]))
    np.testing.assert_array_equal(mixed, together[[3, 1]])


def test_acting_on_some_rows_equals_acting_on_all():
    agent = make_agent()
    explored(agent, np.arange(NUM))
    obs, noise = episodes(seed=7).obs[:, 0], episodes(seed=8).obs[:, 0]
    for explore in (False, True):
        everyone = agent.act(np.arange(NUM), obs, noise, explore=explore)
        some = agent.act(np.array([1, 3]), obs[[1, 3]], noise[[1, 3]], explore=explore)
        np.testing.assert_array_equal(some, everyone[[1, 3]])


def test_it_explores_with_the_unadapted_policy_and_its_noise():
    agent = make_agent()
    agent.begin_task(2)
    obs, rows = np.array([[0.3, -0.2], [0.1, 0.9]], np.float32), np.arange(2)
    noise = np.array([[1.0, -2.0], [0.5, 9.0]], np.float32)
    weights = {}
    for name, tensor in agent.meta["policy"].items():
        weights[name] = tensor
    from smac_core.maml.networks import layer_weights

    mean = policy_mean(layer_weights(weights), torch.from_numpy(obs))[0].numpy()
    still = agent.act(rows, obs, noise, explore=False)
    np.testing.assert_allclose(still, mean, atol=1e-6)
    found = agent.act(rows, obs, noise, explore=True)
    np.testing.assert_allclose(found, np.clip(mean + 0.2 * noise, -1, 1), atol=1e-6)
    assert found.dtype == np.float32
    np.testing.assert_array_equal(agent.act(rows, obs, 0 * noise, explore=True), still)


def test_adapting_changes_the_policy_and_a_new_task_forgets_it():
    agent = make_agent()
    obs, rows = episodes(seed=7).obs[:, 0], np.arange(NUM)
    agent.begin_task(NUM)
    before = agent.act(rows, obs, np.zeros((NUM, 2), np.float32), explore=False)
    after = explored(agent, rows)
    assert (np.abs(after - before).max(axis=1) > 1e-4).all()
    # A later adaptation starts from the meta-learned parameters again, on all that was observed.
    agent.adapt(rows)
    again = agent.act(rows, obs, np.zeros((NUM, 2), np.float32), explore=False)
    np.testing.assert_array_equal(again, after)
    agent.begin_task(NUM)
    forgot = agent.act(rows, obs, np.zeros((NUM, 2), np.float32), explore=False)
    np.testing.assert_array_equal(forgot, before)


def test_more_inner_steps_go_further():
    one, three, asked = (
        explored(make_agent(MamlConfig(initial_rate=0.05, **steps)), np.arange(NUM))
        for steps in ({}, {"inner_steps": 3}, {"test_steps": 3})
    )
    assert not np.allclose(one, three)
    np.testing.assert_array_equal(asked, three)


def context(steps: int = 20) -> Context:
    e = episodes(1, steps=steps)
    return Context(
        obs=e.obs[0],
        action=e.action[0],
        reward=e.reward[0],
        next_obs=np.concatenate([e.obs[0, 1:], e.final_obs]),
        terminated=np.zeros(steps, dtype=bool),
        episode=np.zeros(steps, dtype=np.int64),
        t=np.arange(steps),
    )


def test_given_episodes_count_like_own_ones():
    agent = make_agent()
    agent.begin_task(1)
    agent.observe_episodes(np.array([0]), episodes(1))
    agent.adapt(np.array([0]))
    obs, none = np.array([[0.3, 0.4]], np.float32), np.zeros((1, 2), np.float32)
    own = agent.act(np.array([0]), obs, none, explore=False)
    agent.given([context()])
    np.testing.assert_array_equal(agent.act(np.array([0]), obs, none, explore=False), own)


def test_an_episode_that_the_data_cut_is_bootstrapped():
    obs, none = np.array([[0.3, 0.4]], np.float32), np.zeros((1, 2), np.float32)
    acted = []
    for asked in (True, False):
        agent = make_agent(MamlConfig(initial_rate=0.05, bootstrap_cut=asked))
        agent.given([context(12)])
        acted.append(agent.act(np.array([0]), obs, none, explore=False))
    assert not np.array_equal(*acted)


def test_a_diverging_step_is_told_in_one_line():
    agent = make_agent(MamlConfig(initial_rate=1e18, inner_steps=3))
    agent.begin_task(1)
    agent.observe_episodes(np.array([0]), episodes(1))
    with pytest.raises(NonFiniteError, match=r"diverged: in meta-episode 0, 20 transitions; train"):
        agent.adapt(np.array([0]))


def test_no_posterior_to_speak_of():
    agent = make_agent()
    agent.begin_task(3)
    found = agent.diagnosis()
    assert np.isnan(found.kl).all()
    assert found.kl.shape == (3,)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"algorithm": "smac"}, "expected algorithm maml, found smac"),
        ({"obs_dim": 3}, "another obs_dim: expected 2, found 3"),
    ],
)
def test_other_checkpoints_are_refused(changes, said):
    tensors, metadata = checkpoint()
    with pytest.raises(CheckpointError, match=said):
        load(tensors, {**metadata, **changes}, ENV)


def test_torch_waits_until_an_agent_is_built():
    code = "import sys, smac_core.macaw_agent; sys.exit('torch' in sys.modules)"
    root = Path(__file__).resolve().parents[2]
    done = subprocess.run([sys.executable, "-c", code], cwd=root, check=False, timeout=120)
    assert done.returncode == 0
