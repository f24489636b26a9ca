"""What agents share that adapt by gradient: every meta-episode takes its inner steps alone."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence

import numpy as np

from smac_core.envs.episodes import Episodes
from smac_core.errors import NonFiniteError
from smac_core.meta_agent import (
    Context,
    Diagnosis,
    MetaAgent,
    episode_contexts,
    join_contexts,
    no_posterior,
)


class InnerStepAgent(MetaAgent):
    """Remembers whole episodes, and takes the inner steps from the meta-learned parameters.

    What it does in a meta-episode does not depend on what is adapted beside it.
    """

    needs_steps = False
    needs_order = True

    def begin_task(self, num: int) -> None:
        """Forget every episode; subclasses return to the meta-learned policy too."""
        self._memory: list[list[Context]] = [[] for _ in range(num)]

    def observe_episodes(self, rows: np.ndarray, episodes: Episodes) -> None:
        """Remember the episodes."""
        for row, context in zip(rows, episode_contexts(episodes), strict=True):
            self._memory[row].append(context)

    def adapt(self, rows: np.ndarray) -> None:
        """Take the inner steps on everything that was remembered.

        Raises:
            NonFiniteError: The steps diverged.
        """
        for row in rows:
            self._adapt(int(row), join_contexts(self._memory[row]))

    def given(self, contexts: Sequence[Context]) -> None:
        """Begin anew and take the inner steps on these episodes.

        Raises:
            NonFiniteError: The steps diverged.
        """
        self.begin_task(len(contexts))
        for row, context in enumerate(contexts):
            self._adapt(row, context)

    @abstractmethod
    def _adapt(self, row: int, context: Context) -> None:
        """Put the adapted policy of one meta-episode in its place."""

    def diagnosis(self) -> Diagnosis:
        """Tell that there is no posterior."""
        return no_posterior(len(self._memory))


def diverged(row: int, context: Context, fix: str) -> NonFiniteError:
    """Build the error of inner steps that diverged.

    Args:
        row: Which meta-episode.
        context: What it adapted to.
        fix: What to do about it.

    Returns:
        The error.
    """
    where = f"meta-episode {row}, {len(context)} transitions"
    return NonFiniteError("the inner steps diverged", where=where, fix=fix)
