"""Trajectories of several episodes: boundaries, padding, foreign episodes and their rewards."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from smac_core.borel.trajectories import (
    draw_latent_steps,
    draw_trajectories,
    table_of_episodes,
)
from smac_core.dataset import Transitions
from smac_core.envs.point_robot import PointRobot
from smac_core.errors import StoreError

LENGTHS = np.array([3, 2, 4, 3, 1, 2])  # episodes of tasks 0, 0, 0, 1, 1, 1
TASKS = np.array([[1.0, 0.0], [0.0, 1.0]])


def make_table(lengths=LENGTHS, used=None):
    rng = np.random.default_rng(0)
    num = int(lengths.sum())
    ends = np.cumsum(lengths)
    obs = rng.normal(size=(num, 2)).astype(np.float32)
    terminated = np.zeros(num, dtype=np.float32)
    terminated[ends[0] - 1] = 1.0
    task_id = np.repeat(np.arange(len(lengths)) // 3, lengths)
    rows = Transitions(
        obs=obs,
        action=rng.uniform(-1, 1, (num, 2)).astype(np.float32),
        reward=np.arange(num, dtype=np.float32),
        next_obs=obs + 0.5,
        terminated=terminated,
        task_id=task_id,
        source=np.zeros(num, dtype=np.int64),
    )
    used = used or [np.flatnonzero(task_id == t) for t in range(2)]
    return table_of_episodes(rows, ends, used, TASKS, (0, 1))


def test_only_whole_episodes_are_used():
    # The last 5 rows of task 0 are half of episode 1 and all of episode 2.
    table = make_table(used=[np.arange(4, 9), np.arange(9, 15)])
    assert [episodes.tolist() for episodes in table.of_slot] == [[2], [3, 4, 5]]


def test_a_task_without_a_whole_episode_is_refused():
    with pytest.raises(StoreError, match=r"no whole episode: in the slice of task 1.*2 rows of 1"):
        make_table(used=[np.arange(9), np.array([10, 11])])


def test_rows_that_are_not_finite_are_refused():
    table = make_table()
    table.rows.reward[4] = np.nan
    with pytest.raises(StoreError, match="reward is not finite"):
        table_of_episodes(
            table.rows, np.cumsum(LENGTHS), [np.arange(9), np.arange(9, 15)], TASKS, (0, 1)
        )


def test_a_trajectory_is_episodes_of_its_task_one_after_another():
    table = make_table()
    drawn = draw_trajectories(table, np.array([0, 1, 0]), 3, np.random.default_rng(3), None)
    assert drawn.length.tolist() == [9, 6, 9]  # all three episodes, once each
    for place, slot in enumerate((0, 1, 0)):
        rows = drawn.reward[place, : drawn.length[place]].astype(int)  # rewards are row numbers
        assert sorted(rows) == (list(range(9)) if slot == 0 else list(range(9, 15)))
        starts = np.flatnonzero(np.diff(rows, prepend=-9) != 1)
        boundaries = set(np.flatnonzero(drawn.begins[place]))
        # Episodes that happen to lie one behind the other in the data have a boundary too.
        assert set(starts[1:]) <= boundaries
        assert len(boundaries) == 2
        np.testing.assert_array_equal(drawn.obs[place, : len(rows)], table.rows.obs[rows])


def test_behind_an_episode_follows_the_start_of_the_next():
    drawn = draw_trajectories(make_table(), np.array([0, 1]), 3, np.random.default_rng(0), None)
    for place, length in enumerate(drawn.length):
        for t in range(length):
            last, boundary = t == length - 1, t + 1 < length and drawn.begins[place, t + 1] == 1.0
            expected = drawn.next_obs[place, t] if last else drawn.obs[place, t + 1]
            np.testing.assert_array_equal(drawn.follow_obs[place, t], expected)
            assert drawn.follow_begins[place, t] == float(boundary)
            np.testing.assert_array_equal(
                drawn.next_obs[place, t], drawn.obs[place, t] + np.float32(0.5)
            )
    assert not drawn.mask[1, drawn.length[1] :].any()


def test_too_few_episodes_repeat():
    table = make_table(used=[np.arange(0, 3), np.arange(9, 15)])
    drawn = draw_trajectories(table, np.array([0]), 3, np.random.default_rng(0), None)
    assert drawn.reward[0].tolist() == [0, 1, 2] * 3


def test_foreign_episodes_have_the_rewards_of_the_own_task():
    table, env = make_table(), PointRobot()
    relabel = (1.0, env.reward_of_rows)
    slots = np.array([0, 1, 1])
    drawn = draw_trajectories(table, slots, 3, np.random.default_rng(1), relabel)
    own = {0: set(range(9)), 1: set(range(9, 15))}
    row_of = {tuple(obs): row for row, obs in enumerate(table.rows.obs.tolist())}
    for place, slot in enumerate(slots):
        ends = [*np.flatnonzero(drawn.begins[place]), drawn.length[place]]
        for t in range(drawn.length[place]):
            row = row_of[tuple(drawn.obs[place, t].tolist())]
            last_episode = t >= ends[-2]
            assert (row in own[slot]) == last_episode
            goal = np.linalg.norm(drawn.next_obs[place, t].astype(np.float64) - TASKS[slot])
            expected = row if last_episode else -goal
            assert drawn.reward[place, t] == pytest.approx(expected, abs=1e-6)


def test_no_more_than_the_share_is_relabelled():
    table, env = make_table(), PointRobot()
    slots = np.zeros(2000, dtype=np.int64)
    relabel = (0.25, env.reward_of_rows)
    drawn = draw_trajectories(table, slots, 2, np.random.default_rng(1), relabel)
    foreign = np.array(
        [tuple(o) in {tuple(x) for x in table.rows.obs[9:]} for o in drawn.obs[:, 0]]
    )
    assert foreign.mean() == pytest.approx(0.25, abs=0.03)


def test_the_data_are_left_as_they_are():
    table, env = make_table(), PointRobot()
    before = table.rows.reward.copy()
    draw_trajectories(table, np.arange(2), 3, np.random.default_rng(1), (1.0, env.reward_of_rows))
    np.testing.assert_array_equal(table.rows.reward, before)


def test_drawn_latents_are_those_of_the_trajectory():
    length = np.array([5, 2, 9])
    steps, weight = draw_latent_steps(length, 4, np.random.default_rng(0))
    assert steps.shape == weight.shape == (3, 4)
    for place, last in enumerate(length):
        drawn = steps[place][weight[place] > 0]
        assert len(set(drawn)) == len(drawn) == min(last + 1, 4)
        assert drawn.max() <= last
        assert weight[place].sum() == pytest.approx(last + 1)


def test_the_estimate_from_drawn_latents_is_unbiased():
    # Over all subsets of equal size, which are equally likely, the estimates average to the sum.
    values = np.random.default_rng(0).normal(size=6)
    subsets = list(itertools.combinations(range(6), 2))
    estimates = [6 / 2 * values[list(subset)].sum() for subset in subsets]
    assert np.mean(estimates) == pytest.approx(values.sum())
    # The draw is that: its weight is 6 / 2, and every subset is as frequent as the others.
    length = np.full(30_000, 5)
    steps, weight = draw_latent_steps(length, 2, np.random.default_rng(1))
    assert (weight == 3.0).all()
    drawn = [tuple(sorted(row)) for row in steps.tolist()]
    counts = np.array([drawn.count(subset) for subset in subsets])
    assert counts.sum() == 30_000
    assert abs(counts - 2000).max() < 5 * np.sqrt(2000)
