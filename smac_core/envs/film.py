"""Episodes as pictures: a driver with one simulator that is drawn while it runs."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Container

import numpy as np

from smac_core.envs.definition import Environment
from smac_core.envs.episodes import (
    Adaptive,
    BatchDriver,
    Controller,
    Episodes,
    Plan,
    Scripted,
    run_batch,
)
from smac_core.envs.rendering import Image, make_renderer


class FilmDriver(BatchDriver):
    """Runs plans of one episode each, and keeps pictures of some of them.

    Args:
        env: The definition.
        every: Control steps between two pictures.
        wanted: Which runs are drawn, counted from 0.

    Raises:
        SmacError: This machine cannot draw the environment.
    """

    def __init__(self, env: Environment, every: int, wanted: Container[int]) -> None:
        super().__init__(env)
        self.every, self.wanted = every, wanted
        self.films: list[list[Image]] = []
        self.episodes: list[Episodes] = []
        self._simulator = env.make_physics(1)
        self._renderer = make_renderer(env, self._simulator, shadows=False)

    def run(
        self, controller: Controller | Scripted | Adaptive, plan: Plan, *, rewards: bool
    ) -> Episodes:
        """Run one episode, as any driver does.

        Args:
            controller: The policy, or what adapts; a script is not drawn while it acts.
            plan: Of one episode.
            rewards: Whether the true reward is computed at all.

        Returns:
            The episode; ``films`` has one more entry, empty where it was not wanted.
        """
        film: list[Image] = []
        draws = len(self.films) in self.wanted
        steps = 0

        def watch(
            policy: Callable[[np.ndarray, np.ndarray, np.ndarray], np.ndarray],
        ) -> Callable[[np.ndarray, np.ndarray, np.ndarray], np.ndarray]:
            def control(one: np.ndarray, two: np.ndarray, three: np.ndarray) -> np.ndarray:
                nonlocal steps
                if draws and steps % self.every == 0:
                    film.append(self._renderer.draw(plan.task))
                steps += 1
                return policy(one, two, three)

            return control

        watched: Controller | Scripted | Adaptive
        if isinstance(controller, Scripted):
            watched = controller
        elif isinstance(controller, Adaptive):
            watched = dataclasses.replace(controller, act=watch(controller.act))
        else:
            watched = watch(controller)
        episodes = run_batch(self.env, self._simulator, watched, plan, rewards=rewards)
        if draws:
            film.append(self._renderer.draw(plan.task))  # how it ended
        self.films.append(film)
        self.episodes.append(episodes)
        return episodes

    def close(self) -> None:
        """Free the renderer."""
        self._renderer.close()
