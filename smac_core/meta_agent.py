"""The one interface of everything that adapts to an unknown task; the evaluator knows no other.

A meta-agent plays N meta-episodes side by side, each on a task of its own. ``rows`` names those
that an array's rows belong to. What it returns for a row must not depend on the other rows of a
call: how they are split into batches and threads is the driver's affair.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import numpy as np

from smac_core.envs.definition import Environment
from smac_core.envs.episodes import Episodes, Step
from smac_core.planning import flat_rows, next_observations

__all__ = ["Context", "Diagnosis", "Loader", "MetaAgent", "Step"]


@dataclass(frozen=True)
class Context:
    """Transitions of one task in collection order: whole episodes, or rows drawn from them.

    Args:
        obs: ``[K, obs_dim]`` float32.
        action: ``[K, action_dim]`` float32, in [-1, 1].
        reward: ``[K]`` float32, unscaled.
        next_obs: ``[K, obs_dim]`` float32.
        terminated: ``[K]`` bool; a time limit is False.
        episode: ``[K]`` int64, which episode of the context.
        t: ``[K]`` int64, the step in its episode, from 0.
    """

    obs: np.ndarray
    action: np.ndarray
    reward: np.ndarray
    next_obs: np.ndarray
    terminated: np.ndarray
    episode: np.ndarray
    t: np.ndarray

    def __len__(self) -> int:
        return len(self.reward)

    def take(self, rows: np.ndarray) -> Context:
        """Return some of the transitions, in the given order."""
        return Context(**{name: getattr(self, name)[rows] for name in Context.__dataclass_fields__})


def join_contexts(parts: Sequence[Context]) -> Context:
    """Put contexts of one task one after another; episodes are numbered on.

    Args:
        parts: At least one.

    Returns:
        All transitions.
    """
    names = Context.__dataclass_fields__
    joined = {n: np.concatenate([getattr(p, n) for p in parts]) for n in names}
    counts = [int(p.episode.max(initial=-1)) + 1 for p in parts]
    offsets = np.cumsum([0, *counts[:-1]])
    joined["episode"] = joined["episode"] + np.repeat(offsets, [len(p) for p in parts])
    return Context(**joined)


def episode_contexts(episodes: Episodes) -> list[Context]:
    """Lay each episode out as a context.

    Args:
        episodes: With true rewards.

    Returns:
        One an episode.
    """
    mask, after = flat_rows(episodes), next_observations(episodes)
    out = []
    for row, length in enumerate(episodes.length):
        valid = mask[row]
        t = np.arange(length)
        out.append(
            Context(
                episodes.obs[row][valid],
                episodes.action[row][valid],
                episodes.reward[row][valid],
                after[row][valid],
                (t == length - 1) & bool(episodes.terminated[row]),
                np.zeros(length, dtype=np.int64),
                t,
            )
        )
    return out


@dataclass(frozen=True)
class Diagnosis:
    """What a meta-agent believes of each task; nan throughout for one without a posterior.

    Args:
        mean: ``[N, latent_dim]`` float32.
        variance: ``[N, latent_dim]`` float32.
        kl: ``[N]`` float32, divergence from the prior (nats).
    """

    mean: np.ndarray
    variance: np.ndarray
    kl: np.ndarray


@runtime_checkable
class MetaAgent(Protocol):
    """N meta-episodes side by side.

    Subclass it to inherit what a method does not need. Per task the evaluator calls ``begin_task``,
    then per episode ``begin_episode``, ``act`` at every step, ``observe`` or ``observe_episodes``,
    ``end_episode``; ``adapt`` once exploration is over, and again before every later episode. In
    the offline-context arms ``given`` stands for the exploration, and ``adapt`` is not called.

    Attributes:
        needs_steps: Whether ``observe`` is called after every step; else ``observe_episodes`` once
            an episode, which is faster.
        needs_order: Whether a context must be whole episodes in collection order; else the
            evaluator draws as many rows as ``adaptation.context_size`` says, one by one.
    """

    needs_steps: bool = False
    needs_order: bool = True

    def begin_task(self, num: int) -> None:
        """Forget everything.

        Args:
            num: Meta-episodes, on as many unknown tasks.
        """
        ...

    def begin_episode(
        self, rows: np.ndarray, generators: Sequence[np.random.Generator], draws: int
    ) -> None:
        """Draw what an episode needs beyond its start and its action noise; nothing, by default.

        Args:
            rows: ``[n]`` meta-episodes that begin an episode.
            generators: One a row; the action noise is drawn from it afterwards.
            draws: How often an episode draws its latent: once, or once a step.
        """
        return

    def act(
        self, rows: np.ndarray, obs: np.ndarray, noise: np.ndarray, *, explore: bool
    ) -> np.ndarray:
        """Choose actions.

        Args:
            rows: ``[n]`` int64.
            obs: ``[n, obs_dim]`` float32.
            noise: ``[n, action_dim]`` float32 standard normal.
            explore: Whether the episode is there to find out about the task.

        Returns:
            ``[n, action_dim]`` float32 in [-1, 1].
        """
        ...

    def observe(self, rows: np.ndarray, step: Step) -> None:
        """Take in one step, where ``needs_steps``; ignored, by default.

        Args:
            rows: ``[n]`` int64; a simulator that diverged is left out.
            step: What happened, with the true reward.
        """
        return

    def observe_episodes(self, rows: np.ndarray, episodes: Episodes) -> None:
        """Take in one whole episode of each row, unless ``needs_steps``; ignored, by default.

        Args:
            rows: ``[n]`` int64.
            episodes: n of them, with true rewards.
        """
        return

    def end_episode(self, rows: np.ndarray) -> None:
        """Note that the episode of these rows is over; nothing to do, by default."""
        return

    def adapt(self, rows: np.ndarray) -> None:
        """Learn from everything that these rows observed since ``begin_task``."""
        ...

    def given(self, contexts: Sequence[Context]) -> None:
        """Begin anew and adapt to what somebody else collected in each task.

        Args:
            contexts: One a meta-episode.
        """
        ...

    def diagnosis(self) -> Diagnosis:
        """Tell what is believed of every task at this moment."""
        ...

    def predict_rewards(
        self, rows: np.ndarray, obs: np.ndarray, action: np.ndarray
    ) -> np.ndarray | None:
        """Predict rewards from what is believed; None, by default: there is no reward model.

        Args:
            rows: ``[K]`` int64 rising, the meta-episode of each transition.
            obs: ``[K, obs_dim]`` float32.
            action: ``[K, action_dim]`` float32.

        Returns:
            ``[K]`` float32, unscaled.
        """
        return None

    def judge(self, rows: np.ndarray, episodes: Episodes) -> tuple[np.ndarray, np.ndarray] | None:
        """Tell what a critic says of an episode's first step; None, by default: there is none.

        Args:
            rows: ``[n]`` int64 rising; whose last episode it was.
            episodes: n of them, with true rewards.

        Returns:
            ``[n]`` value of the first step, and ``[n]`` what was realised, in the same unit.
        """
        return None


@runtime_checkable
class Loader(Protocol):
    """What ``agent:`` of a method file names."""

    def __call__(
        self, tensors: Mapping[str, np.ndarray], metadata: Mapping[str, Any], env: Environment
    ) -> MetaAgent:
        """Build the acting side of a checkpoint.

        Args:
            tensors: Its arrays.
            metadata: What it says of itself.
            env: The environment that it belongs to.

        Returns:
            The agent.

        Raises:
            CheckpointError: It is no checkpoint of this method.
        """


def no_posterior(num: int) -> Diagnosis:
    """Build the diagnosis of a method without a posterior.

    Args:
        num: Meta-episodes.

    Returns:
        nan, of one dimension.
    """
    nothing = np.full((num, 1), np.nan, dtype=np.float32)
    return Diagnosis(nothing, nothing.copy(), nothing[:, 0].copy())
