"""The meta-test protocol: what is counted, what the posterior is made of, and the arms' shapes."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from smac_core.adaptation import (
    MetaTest,
    act_at_random,
    do_nothing,
)
from smac_core.agent import Agent, Posteriors
from smac_core.arms import DIVERGED, NO_EPISODE, TERMINATED, TIME_LIMIT
from smac_core.config import AdaptationConfig
from smac_core.dataset import context_features
from smac_core.envs.episodes import BatchDriver, Controller
from smac_core.meta_agent import Context
from smac_core.planning import generator
from smac_core.smac_agent import SmacAgent
from tests.smac_core.stairs import Stairs, random_agent, stair_tasks

LATENT = 3
REPEATS = 2
TASKS = stair_tasks((0, 0), (2, 0), (0, 0))  # episodes of six and of two steps
TASK_IDS = [0, 1]
CONFIG = AdaptationConfig(
    episodes=3, exploration_episodes=2, repeats=REPEATS, min_transitions=18, context_size=8
)


class SizeAgent(Agent):
    """Its posterior's mean is the size of the context, with next to no variance."""

    def watch(self) -> SizeAgent:
        object.__setattr__(self, "latents", [])
        return self

    def deterministic(self) -> Controller:
        act = super().deterministic()

        def control(obs: np.ndarray, latent: np.ndarray, noise: np.ndarray) -> np.ndarray:
            self.latents.append(latent.copy())
            return act(obs, latent, noise)

        return control

    def infer(self, contexts) -> Posteriors:  # type: ignore[no-untyped-def]
        sizes = np.array([len(c) for c in contexts], np.float32)
        mean = np.repeat(sizes[:, None], self.latent_dim, axis=1)
        return Posteriors(mean, np.full_like(mean, 1e-8))


def size_agent() -> SizeAgent:
    agent = random_agent(2, 1)
    return SizeAgent(**{f.name: getattr(agent, f.name) for f in dataclasses.fields(Agent)}).watch()


def meta_test(
    config: AdaptationConfig = CONFIG, agent: Agent | None = None, env: Stairs | None = None
) -> MetaTest:
    env = Stairs() if env is None else env
    agent = size_agent() if agent is None else agent
    return MetaTest(BatchDriver(env), SmacAgent(agent), config, TASK_IDS, TASKS, (0, 2))


def numbered(num: int, row: int = 0, length: int = 5) -> Context:
    """A context of episodes of so many steps, whose rewards number its transitions."""
    rows = np.arange(num)
    obs = np.zeros((num, 2), np.float32)
    reward = (1000 * row + rows).astype(np.float32)
    ends = rows % length == length - 1
    return Context(obs, obs[:, :1], reward, obs, ends, rows // length, rows % length)


def test_episodes_are_counted_plainly() -> None:
    adapted = meta_test().adapt()
    arm, explored = adapted.by_episodes, adapted.explored
    assert arm.task_id.tolist() == TASK_IDS
    assert arm.episode_length.tolist() == [[[6, 6, 6]] * REPEATS, [[2, 2, 2]] * REPEATS]
    # Rewards of an episode: 10 · last_step + 1, + 2, …
    assert arm.episode_return.tolist() == [[[21.0] * 3] * REPEATS, [[43.0] * 3] * REPEATS]
    # The posterior of the last episode is made of the two before it.
    assert arm.posterior_mean[:, :, 0].tolist() == [[12.0] * REPEATS, [4.0] * REPEATS]
    assert [len(bag) for bag in explored] == [12, 12, 4, 4]
    # The horizon ends an episode otherwise than a terminal state does.
    assert arm.episode_end.dtype == np.int8
    assert arm.episode_end.tolist() == [[[TIME_LIMIT] * 3] * REPEATS, [[TERMINATED] * 3] * REPEATS]
    only, again = meta_test().online()
    assert [len(bag) for bag in again] == [12, 12, 4, 4]
    for field in dataclasses.fields(only):
        np.testing.assert_array_equal(getattr(only, field.name), getattr(arm, field.name))


def test_transitions_are_counted_as_in_the_released_code() -> None:
    adapted = meta_test(dataclasses.replace(CONFIG, min_transitions=13)).adapt()
    arm = adapted.by_transitions
    # Three episodes of six, seven of two; the posterior is made of everything before the last.
    assert arm.episode_length[0, 0].tolist() == [6, 6, 6, 0, 0, 0, 0]
    assert arm.episode_length[1, 0].tolist() == [2] * 7
    assert np.isnan(arm.episode_return[0, :, 3:]).all()
    assert np.isnan(arm.measure[0, :, 3:]).all()
    assert (arm.episode_end[0, :, 3:] == NO_EPISODE).all()
    assert np.isfinite(arm.episode_return[1]).all()
    assert arm.posterior_mean[:, :, 0].tolist() == [[12.0] * REPEATS, [12.0] * REPEATS]
    # What was explored is still the first two episodes, and both counts begin alike.
    assert [len(bag) for bag in adapted.explored] == [12, 12, 4, 4]
    np.testing.assert_array_equal(arm.measure[:, :, :3], adapted.by_episodes.measure)
    np.testing.assert_array_equal(arm.first_path, adapted.by_episodes.first_path)
    assert (arm.final_path[1] != adapted.by_episodes.final_path[1]).any()


def test_the_counts_agree_where_no_episode_ends_early() -> None:
    env = Stairs()
    config = dataclasses.replace(CONFIG, min_transitions=3 * env.horizon)
    tasks = stair_tasks((0, 0), (0, 0))
    adapted = MetaTest(
        BatchDriver(env), SmacAgent(size_agent()), config, TASK_IDS, tasks, (0, 2)
    ).adapt()
    for field in dataclasses.fields(adapted.by_episodes):
        of_both = [
            getattr(arm, field.name) for arm in (adapted.by_episodes, adapted.by_transitions)
        ]
        np.testing.assert_array_equal(*of_both)


def test_a_meta_episode_may_be_over_before_it_adapts() -> None:
    adapted = meta_test(dataclasses.replace(CONFIG, min_transitions=5)).adapt()
    arm = adapted.by_transitions
    assert (arm.episode_length > 0).sum(axis=2).tolist() == [[1] * REPEATS, [3] * REPEATS]
    assert [len(bag) for bag in adapted.explored] == [12, 12, 4, 4]
    assert arm.posterior_kl[0].tolist() == [0.0] * REPEATS
    assert adapted.by_episodes.episode_length.shape == (2, REPEATS, 3)


def test_measures_follow_the_path_and_a_diverged_episode_is_told() -> None:
    tasks = stair_tasks((0, 0), (0, 3))  # the second diverges in its third step
    test = MetaTest(
        BatchDriver(Stairs()), SmacAgent(random_agent(2, 1)), CONFIG, TASK_IDS, tasks, (0, 2)
    )
    arm, _ = test.online()
    assert arm.episode_end.tolist() == [[[TIME_LIMIT] * 3] * REPEATS, [[DIVERGED] * 3] * REPEATS]
    for task, length in ((0, 6), (1, 2)):
        assert (arm.episode_length[task] == length).all()
        climbed = arm.final_path[task, length, 0] - arm.final_path[task, 0, 0]
        velocity, distance = arm.measure[task, 0, 2]
        assert velocity == pytest.approx(climbed / (length * Stairs.control_seconds), rel=1e-5)
        assert distance == pytest.approx(abs(climbed), rel=1e-5)
    assert (arm.first_path != arm.final_path).any()


def test_the_first_episodes_are_the_prior_and_later_ones_use_all_so_far() -> None:
    agent = size_agent()
    meta_test(dataclasses.replace(CONFIG, episodes=4), agent).online()
    steps = agent.latents  # 4 · 6 of [meta-episodes that go on, latent]
    assert [len(z) for z in steps] == [4, 4, 2, 2, 2, 2] * 4
    assert np.abs(np.concatenate(steps[:12])).max() < 6.0  # standard normal
    np.testing.assert_allclose([z[0] for z in steps[12:18]], 12.0, atol=1e-2)
    np.testing.assert_allclose([z[0] for z in steps[18:]], 18.0, atol=1e-2)
    np.testing.assert_allclose(steps[12][2], 4.0, atol=1e-2)
    np.testing.assert_allclose(steps[18][2], 6.0, atol=1e-2)


@pytest.mark.parametrize("resample", ["episode", "step"])
def test_the_latent_is_drawn_once_or_at_every_step_but_the_posterior_stands(resample: str) -> None:
    agent = size_agent()
    meta_test(dataclasses.replace(CONFIG, resample_latent=resample), agent).online()
    explore, adapted = ([z[0] for z in steps] for steps in (agent.latents[:6], agent.latents[12:]))
    assert (len({z[0] for z in explore}) == 1) == (resample == "episode")
    np.testing.assert_allclose(adapted, 12.0, atol=1e-2)


def test_contexts_hold_true_rewards_in_the_order_of_time() -> None:
    explored = meta_test(dataclasses.replace(CONFIG, repeats=1)).adapt().explored
    short = explored[1]
    assert short.obs[:, 1].tolist() == [0, 1, 0, 1]
    assert short.reward.tolist() == [21, 22, 21, 22]
    assert short.next_obs[:, 1].tolist() == [1, 2, 1, 2]
    assert short.terminated.tolist() == [False, True, False, True]
    assert short.t.tolist() == [0, 1, 0, 1]
    assert short.episode.tolist() == [0, 0, 1, 1]
    assert not explored[0].terminated.any()  # a time limit is not the end of the task


def test_the_decoder_is_measured_on_the_last_episode_under_the_posteriors_mean() -> None:
    agent = random_agent(2, 1)
    test = meta_test(CONFIG, agent)
    adapted = test.adapt()
    contexts = [context_features(c.obs, c.action, c.reward, None) for c in adapted.explored]
    arm, posterior = adapted.by_episodes, agent.infer(contexts)
    keys = [(0, 2, TASK_IDS[row // REPEATS], row % REPEATS, 2) for row in range(4)]
    for row, key in enumerate(keys):
        rng = generator(key)
        place = test.driver.env.initial_state(rng)[0]
        z = posterior.mean[row] + np.sqrt(posterior.variance[row]) * rng.standard_normal(
            LATENT, dtype=np.float32
        )
        errors = []
        length = 6 if row < REPEATS else 2
        for step in range(length):
            obs = np.array([[place, step]], np.float32)
            action = agent.deterministic()(obs, z[None].astype(np.float32), np.zeros((1, 1), "f4"))
            predicted = agent.decode(obs, action, posterior.mean[row][None], np.zeros(1, np.int64))
            true = 10 * TASKS[TASK_IDS[row // REPEATS], 0] + step + 1
            errors.append((float(predicted[0]) - true) ** 2)
            place += float(action[0, 0])
        found = arm.decoder_mse.reshape(-1)[row]
        assert found == pytest.approx(np.mean(errors), rel=1e-3)


def test_every_arm_has_the_same_fields_and_shapes() -> None:
    agent = random_agent(2, 1)
    test = meta_test(CONFIG, agent)
    adapted = test.adapt()
    matched = test.given(test.resample(adapted.explored, 3), 5)
    arms = {
        "online": (adapted.by_episodes, 3),
        "prior": (test.unadapted(6), 1),
        "matched": (matched, 1),
        "floor": (test.floor(do_nothing, 7), 1),
        "random": (test.floor(act_at_random, 8), 1),
    }
    for name, (arm, episodes) in arms.items():
        shape = (len(TASK_IDS), REPEATS)
        assert arm.episode_return.shape == (*shape, episodes), name
        assert arm.episode_length.shape == (*shape, episodes)
        assert arm.episode_length.dtype == np.int32
        assert arm.measure.shape == (*shape, episodes, 2)
        assert arm.posterior_mean.shape == arm.posterior_variance.shape == (*shape, LATENT)
        assert arm.posterior_kl.shape == arm.decoder_mse.shape == shape
        assert arm.final_path.shape == (len(TASK_IDS), Stairs.horizon + 1, 2)
        if episodes == 1:
            np.testing.assert_array_equal(arm.first_path, arm.final_path)
        assert np.isnan(arm.final_path[1, 3:]).all()
    assert np.array_equal(arms["prior"][0].posterior_kl, np.zeros((2, REPEATS), np.float32))
    assert (matched.posterior_kl > 0).all()


def test_doing_nothing_stays_where_it_started() -> None:
    arm = meta_test().floor(do_nothing, 0)
    assert (arm.final_path[0, :, 0] == arm.final_path[0, 0, 0]).all()
    moving = meta_test().floor(act_at_random, 0)
    assert len(np.unique(moving.final_path[0, :, 0])) == Stairs.horizon + 1


def test_offline_and_online_contexts_get_the_same_size() -> None:
    test = meta_test()
    bags = [numbered(n, row) for row, n in enumerate((3, 500, 8, 1))]
    drawn = test.resample(bags, purpose=4)
    assert [len(d) for d in drawn] == [CONFIG.context_size] * 4
    assert all((d.reward // 1000 == row).all() for row, d in enumerate(drawn))
    same = [numbered(50)] * 4
    one, two, again = (
        [bag.reward for bag in test.resample(same, purpose)] for purpose in (4, 5, 4)
    )
    assert not np.array_equal(one[0], one[1])
    assert not np.array_equal(one[0], two[0])
    assert all(np.array_equal(a, b) for a, b in zip(one, again, strict=True))


def test_rounds_share_their_randomness_and_repeats_do_not() -> None:
    one, two = meta_test().online()[0], meta_test().online()[0]
    for field in dataclasses.fields(one):
        np.testing.assert_array_equal(getattr(one, field.name), getattr(two, field.name))
    arm = meta_test(dataclasses.replace(CONFIG, repeats=3), random_agent(2, 1)).unadapted(0)
    assert len(np.unique(arm.decoder_mse[0])) == 3
