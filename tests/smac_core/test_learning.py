"""Both learners solve the point-robot from a fixed seed: the floor is -20, the optimum near -5."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from smac_core.adaptation import MetaTest, do_nothing
from smac_core.agent import Agent, Posteriors, make_agent
from smac_core.config import AdaptationConfig, LearnerConfig, NetworkConfig, PearlConfig
from smac_core.dataset import Dataset, Transitions, build_dataset
from smac_core.envs.episodes import BatchDriver
from smac_core.envs.point_robot import PointRobot
from smac_core.learner import Learner
from smac_core.networks import Shapes, network_shapes
from smac_core.pearl import PearlLearner
from smac_core.planning import flat_rows, next_observations, plan_episodes
from smac_core.sampler import HostSampler

pytestmark = pytest.mark.slow

ENV = PointRobot()
DRIVER = BatchDriver(ENV)
SHAPES = Shapes(ENV.obs_dim, ENV.action_dim)
NETWORKS = NetworkConfig(encoder=(64, 64), decoder=(64, 64), critic=(64, 64), policy=(64, 64))
CPU = torch.device("cpu")
NUM_TRAIN, NUM_TEST, EPISODES = 30, 10, 20
TASKS = ENV.sample_tasks(0, NUM_TRAIN, NUM_TEST)
COMMON = {
    "num_tasks": 16,
    "rows_per_task": 16,
    "context_size": 32,
    "learning_rate": 1e-3,
    "kl_weight": 0.005,  # rewards are small: 0.1 collapses the posterior
    "discount": 0.9,
    "target_update_rate": 0.02,
}


def scripted_dataset() -> Dataset:
    """Noisy walks, every second one towards another task's goal.

    Were all walks towards the task's own goal, states alone would tell the reward, and no latent
    would be needed.
    """

    def control(obs: np.ndarray, latent: np.ndarray, noise: np.ndarray) -> np.ndarray:
        return ENV.scripted_action(obs, latent, noise).astype(np.float32)

    task_id = np.repeat(np.arange(NUM_TRAIN), EPISODES)
    others = np.random.default_rng(5).integers(0, NUM_TRAIN, len(task_id))
    heads_for = TASKS[np.where(np.arange(len(task_id)) % 2 == 0, task_id, others)]
    told = Posteriors(heads_for.astype(np.float32), np.zeros(heads_for.shape, np.float32))
    keys = [(1, row) for row in range(len(task_id))]
    plan = plan_episodes(ENV, keys, TASKS[task_id], told, resample_every_step=False)
    episodes = DRIVER.run(control, plan, rewards=True)
    mask = flat_rows(episodes)
    num = int(mask.sum())
    rows = Transitions(
        obs=episodes.obs[mask],
        action=episodes.action[mask],
        reward=episodes.reward[mask],
        next_obs=next_observations(episodes)[mask],
        terminated=np.zeros(num, np.float32),
        task_id=np.repeat(task_id, episodes.length),
        source=np.zeros(num, np.int64),
    )
    of_task = [np.flatnonzero(rows.task_id == t) for t in range(NUM_TRAIN)]
    return build_dataset(rows, range(NUM_TRAIN), of_task, of_task)


def agent_of(state: dict[str, np.ndarray]) -> Agent:
    layers = network_shapes(SHAPES, NETWORKS)
    names = ("policy", "encoder", "decoder")
    return make_agent(
        {n: state[n] for n in names}, {n: layers[n].sizes for n in names}, NETWORKS.latent_dim
    )


def held_out_returns(agent: Agent) -> dict[str, float]:
    ids = list(range(NUM_TRAIN, NUM_TRAIN + NUM_TEST))
    test = MetaTest(DRIVER, agent, AdaptationConfig(), ids, TASKS[ids], (3, 4))
    arm = test.online()[0]
    return {
        "before": float(arm.episode_return[:, :, 0].mean()),
        "adapted": float(arm.episode_return[:, :, -1].mean()),
        "floor": float(test.floor(do_nothing, 9).episode_return.mean()),
    }


def make_sampler(config: LearnerConfig | PearlConfig) -> HostSampler:
    return HostSampler([scripted_dataset()], config, NETWORKS.latent_dim, [0])


def test_offline_meta_training_adapts_to_new_goals() -> None:
    config = LearnerConfig(**COMMON, awac_temperature=5.0)
    learner = Learner(SHAPES, NETWORKS, config, [0], CPU)
    untrained = held_out_returns(agent_of(learner.state()))
    sampler = make_sampler(config)
    for update in range(4000):
        learner.update(sampler.draw(update))
    found = held_out_returns(agent_of(learner.state()))
    assert found["floor"] == pytest.approx(-20.0, abs=1e-3)
    assert untrained["adapted"] == pytest.approx(-20.0, abs=0.1)
    assert found["adapted"] > -16.5, found  # -13.1 when it was written
    assert found["adapted"] > found["before"] + 1.0, found
    assert learner.read_metrics()[0]["reward_loss"] < 0.03


def test_pearl_adapts_to_new_goals() -> None:
    config = PearlConfig(**COMMON)
    learner = PearlLearner(SHAPES, NETWORKS, config, 0, CPU)
    sampler = make_sampler(config)
    for update in range(4000):
        learner.update(sampler.draw(update))
    found = held_out_returns(agent_of(learner.state()))
    assert found["adapted"] > -14.0, found  # -11.5 when it was written
    assert found["adapted"] > found["before"] + 1.5, found
