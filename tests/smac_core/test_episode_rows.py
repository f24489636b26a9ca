"""Episodes without padding hold what the padded ones do."""

from __future__ import annotations

import numpy as np

from smac_core.agent import prior
from smac_core.envs.episodes import BatchDriver, Episodes
from smac_core.episode_rows import EpisodeRows, flatten, join_rows
from smac_core.planning import flat_rows, next_observations, plan_episodes
from tests.smac_core.stairs import Stairs, stair_tasks


def climb(obs: np.ndarray, latent: np.ndarray, noise: np.ndarray) -> np.ndarray:
    return np.ones(noise.shape, dtype=np.float32)


def run(*tasks: tuple[float, float]) -> Episodes:
    env = Stairs()
    keys = [(0, 1, row) for row in range(len(tasks))]
    parameters = stair_tasks(*tasks)
    plan = plan_episodes(env, keys, parameters, prior(len(tasks), 3), resample_every_step=True)
    return BatchDriver(env).run(climb, plan, rewards=True)


TASKS = ((0, 0), (2, 0), (0, 3), (1, 0))  # to the limit, a terminal state, divergence, one step


def test_rows_hold_the_valid_part_in_order() -> None:
    episodes = run(*TASKS)
    rows, mask = flatten(episodes), flat_rows(episodes)
    assert rows.length.tolist() == [6, 2, 2, 1]
    assert len(rows.obs) == len(rows.action) == len(rows.reward) == len(rows.position) == 11
    np.testing.assert_array_equal(rows.obs, episodes.obs[mask])
    np.testing.assert_array_equal(rows.position[:, 0], rows.obs[:, 0])  # a step's place before it
    np.testing.assert_allclose(rows.returns, episodes.returns)
    assert rows.returns.tolist() == [21.0, 43.0, 3.0, 11.0]
    assert np.flatnonzero(rows.ended).tolist() == [7, 10]
    assert rows.ok.tolist() == [True, True, False, True]


def test_transitions_end_with_the_final_observation() -> None:
    episodes = run(*TASKS)
    found = flatten(episodes).transitions(np.array([5, 6, 7, 8]), np.array([1, 1, 2, 2]))
    mask = flat_rows(episodes)
    np.testing.assert_array_equal(found.next_obs, next_observations(episodes)[mask])
    assert found.terminated.tolist() == [0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 1]
    assert found.task_id.tolist() == [5] * 6 + [6] * 2 + [7] * 2 + [8]
    assert found.source.tolist() == [1] * 8 + [2] * 3


def test_parts_join_in_order() -> None:
    whole, parts = flatten(run(*TASKS)), [flatten(run(TASKS[0])), flatten(run(*TASKS[:2]))]
    joined = join_rows(parts)
    assert joined.length.tolist() == [6, 6, 2]
    for name in ("action", "reward"):
        np.testing.assert_array_equal(getattr(joined, name)[6:14], getattr(whole, name)[:8])
    assert joined.returns.tolist() == [21.0, 21.0, 43.0]
    assert join_rows([whole]) is whole


def test_rows_of_chosen_episodes_are_those_of_the_padded_ones() -> None:
    episodes, order = run(*TASKS), np.array([3, 0, 2])
    found, expected = flatten(episodes).select(order), flatten(episodes.select(order))
    for name in EpisodeRows.__dataclass_fields__:
        np.testing.assert_array_equal(getattr(found, name), getattr(expected, name), err_msg=name)
    none = flatten(episodes).select(np.array([], dtype=np.int64))
    assert len(none.obs) == len(none.length) == 0
