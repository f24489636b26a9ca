"""Films: the pictures of a run, which must be the run that anyone else would see."""

from __future__ import annotations

import numpy as np

from smac_core.adaptation import MetaTest
from smac_core.config import AdaptationConfig
from smac_core.envs.episodes import BatchDriver
from smac_core.envs.film import FilmDriver
from smac_core.envs.point_robot import PointRobot
from smac_core.envs.rendering import PositionRaster
from smac_core.smac_agent import SmacAgent
from tests.smac_core.stairs import Stairs, random_agent, stair_tasks

GOAL = np.array([[0.6, 0.8]])


def meta_test(driver: BatchDriver) -> MetaTest:
    config = AdaptationConfig(repeats=1, min_transitions=60)
    return MetaTest(driver, SmacAgent(random_agent(2, 2)), config, [3], GOAL, (0, 1))


def test_a_film_shows_the_episodes_of_any_other_driver() -> None:
    env = PointRobot()
    driver = FilmDriver(env, every=7, wanted={0, 2})
    arm, _ = meta_test(driver).online()
    plain, _ = meta_test(BatchDriver(env)).online()
    np.testing.assert_array_equal(arm.episode_return, plain.episode_return)
    np.testing.assert_array_equal(arm.final_path, plain.final_path)
    # Of 20 steps the pictures before steps 1, 8 and 15, and that after the last.
    assert [len(film) for film in driver.films] == [4, 0, 4]
    physics = env.make_physics(1)
    raster = PositionRaster(env, physics)
    for picture, step in zip(driver.films[2], (0, 7, 14, 20), strict=True):
        physics.state[:] = plain.final_path[0, step]
        np.testing.assert_array_equal(picture, raster.draw(GOAL))
    driver.close()


def test_a_film_ends_with_its_episode() -> None:
    driver = FilmDriver(Stairs(), every=1, wanted={0})
    config = AdaptationConfig(repeats=1)
    tasks = stair_tasks((2, 0))  # ends after two steps
    MetaTest(driver, SmacAgent(random_agent(2, 1)), config, [0], tasks, (0, 1)).online()
    assert [len(film) for film in driver.films] == [3, 0, 0]
    assert driver.episodes[0].terminated.all()
