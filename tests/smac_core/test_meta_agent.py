"""An agent that learns within an episode: what it is told, and that batches do not change it."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence

import numpy as np
import pytest

from smac_core.adaptation import MetaTest
from smac_core.config import AdaptationConfig
from smac_core.envs.cheetah_vel import CheetahVel
from smac_core.envs.definition import Environment
from smac_core.envs.episodes import Adaptive, BatchDriver, Plan
from smac_core.envs.point_robot import PointRobot
from smac_core.errors import SimulationError
from smac_core.meta_agent import Context, Diagnosis, MetaAgent, Step, join_contexts, no_posterior
from tests.smac_core.stairs import Stairs, stair_tasks

CONFIG = AdaptationConfig(episodes=3, exploration_episodes=2, repeats=2, min_transitions=18)


class Listener(MetaAgent):
    """Acts on the sum of the rewards that it was told since the task began."""

    needs_steps = True

    def begin_task(self, num: int) -> None:
        self.total = np.zeros(num)
        self.told: list[tuple[np.ndarray, Step]] = []
        self.calls: list[tuple[str, list[int]]] = []
        self.contexts: Sequence[Context] = []

    def act(
        self, rows: np.ndarray, obs: np.ndarray, noise: np.ndarray, *, explore: bool
    ) -> np.ndarray:
        wobble = 0.1 * noise if explore else 0.0
        action = np.tanh(0.1 * self.total[rows, None] + obs[:, :1] + wobble)
        return np.broadcast_to(action, noise.shape).astype(np.float32)

    def observe(self, rows: np.ndarray, step: Step) -> None:
        self.total[rows] += step.reward
        self.told.append((rows.copy(), step))

    def end_episode(self, rows: np.ndarray) -> None:
        self.calls.append(("end_episode", rows.tolist()))

    def adapt(self, rows: np.ndarray) -> None:
        self.calls.append(("adapt", rows.tolist()))

    def given(self, contexts: Sequence[Context]) -> None:
        self.begin_task(len(contexts))
        self.contexts = contexts
        self.total[:] = [c.reward.sum() for c in contexts]

    def diagnosis(self) -> Diagnosis:
        return no_posterior(len(self.total))


def stairs_test(agent: MetaAgent, **driver: int) -> MetaTest:
    env = Stairs()
    tasks = stair_tasks((0, 0), (2, 0), (0, 3))  # to the time limit, two steps, diverging
    return MetaTest(BatchDriver(env, **driver), agent, CONFIG, [0, 1, 2], tasks, (0, 2))


def test_every_step_is_told_with_its_true_reward() -> None:
    agent = Listener()
    arm, _ = stairs_test(agent).online()
    lengths = dict.fromkeys((0, 1), 6) | dict.fromkeys((2, 3, 4, 5), 2)
    for row, length in lengths.items():
        seen = [(s, rows.tolist().index(row)) for rows, s in agent.told if row in rows]
        assert len(seen) == 3 * length
        assert [int(s.t[i]) for s, i in seen] == 3 * list(range(length))
        last_step = {0: 0, 1: 2, 2: 0}[row // 2]
        expected = 3 * [10.0 * last_step + n + 1 for n in range(length)]
        assert [float(s.reward[i]) for s, i in seen] == expected
        ends = [bool(s.ended[i]) for s, i in seen]
        final = [False] * (length - 1) + [row < 4]  # one that diverged has no end to tell of
        assert ends == 3 * final
        assert [bool(s.terminated[i]) for s, i in seen] == 3 * (
            [False] * (length - 1) + [row in {2, 3}]
        )
        assert all(s.next_obs[i, 1] == s.obs[i, 1] + 1 for s, i in seen)
    for _, step in agent.told:
        assert step.reward.dtype == step.obs.dtype == step.action.dtype == np.float32
        assert step.t.dtype == np.int64
    assert np.isnan(arm.posterior_mean).all()
    assert np.isnan(arm.decoder_mse).all()


def test_the_unadapted_policy_is_told_nothing() -> None:
    agent = Listener()
    arm = stairs_test(agent).unadapted(0)
    assert agent.told == []
    assert (agent.total == 0.0).all()
    assert np.isfinite(arm.episode_return).all()
    first, _ = stairs_test(agent).online()  # whose first episode learns as it goes
    assert (first.episode_length[:, :, :1] == arm.episode_length).all()


def test_the_calls_come_in_order() -> None:
    agent = Listener()
    stairs_test(agent).online()
    every = list(range(6))
    names = ["end_episode", "end_episode", "adapt", "end_episode"]
    assert agent.calls == [(name, every) for name in names]


@pytest.mark.parametrize("driver", [{"batch": 1}, {"batch": 4}, {"batch": 2, "threads": 3}])
def test_batches_and_threads_change_no_bit(driver: dict[str, int]) -> None:
    one, other = (stairs_test(Listener(), **how).adapt() for how in ({}, driver))
    for arm in ("by_episodes", "by_transitions"):
        for field in dataclasses.fields(getattr(one, arm)):
            values = [getattr(getattr(a, arm), field.name) for a in (one, other)]
            np.testing.assert_array_equal(*values)


@pytest.mark.parametrize("make", [PointRobot, CheetahVel])
def test_rewards_step_by_step_are_those_of_whole_episodes(make: Callable[[], Environment]) -> None:
    env, rng = make(), np.random.default_rng(0)
    num, steps = 7, 12
    task = env.sample_tasks(0, num, 0)
    initial = np.stack([env.initial_state(rng) for _ in range(num)])
    noise = rng.standard_normal((num, steps, env.action_dim)).astype(np.float32)
    plan = Plan(task, np.zeros((num, steps, 0), np.float32), noise, initial, np.arange(num) + 5)
    act = lambda rows, obs, noise: np.tanh(noise)  # noqa: E731
    told: list[tuple[np.ndarray, Step]] = []
    watched = Adaptive(act, lambda rows, step: told.append((rows, step)))
    whole = BatchDriver(env, batch=4).run(Adaptive(act), plan, rewards=True)
    stepped = BatchDriver(env, batch=3).run(watched, plan, rewards=False)
    np.testing.assert_array_equal(stepped.reward, whole.reward)
    assert {int(row) for rows, _ in told for row in rows} == set(range(5, 5 + num))
    for rows, step in told:
        np.testing.assert_array_equal(step.reward, whole.reward[rows - 5, step.t])


def test_a_reward_that_is_not_finite_is_told_with_its_step() -> None:
    env = Stairs("reward")
    agent = Listener()
    test = MetaTest(BatchDriver(env), agent, CONFIG, [0], stair_tasks((0, 0)), (0, 2))
    with pytest.raises(SimulationError, match="reward is not finite: in stairs, step 0"):
        test.online()


def numbered(lengths: Sequence[int]) -> Context:
    episode = np.repeat(np.arange(len(lengths)), lengths)
    t = np.concatenate([np.arange(n) for n in lengths])
    obs = np.zeros((len(t), 2), np.float32)
    reward = (10 * episode + t).astype(np.float32)
    return Context(obs, obs[:, :1], reward, obs, np.zeros(len(t), bool), episode, t)


def test_an_agent_that_needs_order_is_given_whole_episodes() -> None:
    agent = Listener()
    test = stairs_test(agent)
    bags = [numbered((3, 2, 4, 1))] * 6
    drawn = test.resample(bags, 7)
    for context in drawn:
        assert sorted(set(context.episode.tolist())) == [0, 1]  # as many as are explored online
        starts = np.flatnonzero(context.t == 0)
        assert len(starts) == 2
        for part in np.split(np.arange(len(context)), starts[1:]):
            number = int(context.reward[part[0]]) // 10
            assert (context.reward[part] == 10 * number + np.arange(len(part))).all()
            assert len(part) == (3, 2, 4, 1)[number]
    assert len({tuple(c.reward) for c in drawn}) > 1
    kept = test.resample([numbered((3, 2))] * 6, 7)
    np.testing.assert_array_equal(kept[0].reward, numbered((3, 2)).reward)
    arm = test.given(drawn, 9)
    assert agent.contexts is drawn
    assert arm.episode_return.shape == (3, 2, 1)


def test_joined_contexts_number_their_episodes_on() -> None:
    joined = join_contexts([numbered((2, 1)), numbered((1,)), numbered((2,))])
    assert joined.episode.tolist() == [0, 0, 1, 2, 3, 3]
    assert joined.t.tolist() == [0, 1, 0, 0, 0, 1]
