"""SMAC, and every method with its networks, behind the interface of ``smac_core.meta_agent``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from smac_core.agent import Agent, Posteriors, make_agent, prior
from smac_core.critic import Critic, load_critic
from smac_core.dataset import context_features
from smac_core.envs.definition import Environment
from smac_core.envs.episodes import Episodes
from smac_core.errors import CheckpointError
from smac_core.meta_agent import Context, Diagnosis, MetaAgent
from smac_core.planning import flat_rows, next_observations


class SmacAgent(MetaAgent):
    """Explores under the prior, infers q(z|context), and acts on it deterministically.

    Args:
        agent: Policy, encoder, decoder.
        critic: What judges its episodes; None: nothing does.

    Source: smac-reference section 6.1.
    """

    needs_steps = False
    needs_order = False

    def __init__(self, agent: Agent, critic: Critic | None = None) -> None:
        self.agent = agent
        self.critic = critic
        self._control = agent.deterministic()
        self.begin_task(0)

    def begin_task(self, num: int) -> None:
        """Believe the prior of every task."""
        self.assume(prior(num, self.agent.latent_dim))

    def assume(self, posteriors: Posteriors) -> None:
        """Begin anew with given beliefs.

        Args:
            posteriors: One a meta-episode.
        """
        num = len(posteriors.mean)
        self._posteriors = posteriors
        self._bags: list[list[np.ndarray]] = [[] for _ in range(num)]
        self._latent = np.zeros((num, 1, self.agent.latent_dim), dtype=np.float32)
        self._taken = np.zeros(num, dtype=np.int64)

    def begin_episode(
        self, rows: np.ndarray, generators: Sequence[np.random.Generator], draws: int
    ) -> None:
        """Draw z, once or for every step."""
        noise = np.empty((len(rows), draws, self.agent.latent_dim), dtype=np.float32)
        for place, rng in enumerate(generators):
            rng.standard_normal(out=noise[place], dtype=np.float32)
        if self._latent.shape[1] != draws:
            shape = (len(self._taken), draws, self.agent.latent_dim)
            self._latent = np.zeros(shape, dtype=np.float32)
        self._latent[rows] = self._posteriors.select(rows).sample(noise)
        self._taken[rows] = 0

    def act(
        self, rows: np.ndarray, obs: np.ndarray, noise: np.ndarray, *, explore: bool
    ) -> np.ndarray:
        """Take the mean action; exploration is in z alone."""
        step = self._taken[rows] % self._latent.shape[1]
        self._taken[rows] += 1
        return self._control(obs, self._latent[rows, step], noise)

    def observe_episodes(self, rows: np.ndarray, episodes: Episodes) -> None:
        """Add the transitions to the contexts."""
        for row, features in zip(rows, self._features(episodes), strict=True):
            self._bags[row].append(features)

    def _features(self, episodes: Episodes) -> list[np.ndarray]:
        mask = flat_rows(episodes)
        after = next_observations(episodes)[mask] if self.agent.context_next_obs else None
        flat = context_features(
            episodes.obs[mask], episodes.action[mask], episodes.reward[mask], after
        )
        return np.split(flat, np.cumsum(episodes.length)[:-1])

    def adapt(self, rows: np.ndarray) -> None:
        """Infer the posterior from every transition so far."""
        inferred = self.agent.infer([np.concatenate(self._bags[row]) for row in rows])
        self._posteriors.mean[rows] = inferred.mean
        self._posteriors.variance[rows] = inferred.variance

    def given(self, contexts: Sequence[Context]) -> None:
        """Infer the posteriors from contexts."""
        wide = self.agent.context_next_obs
        self.assume(
            self.agent.infer(
                [
                    context_features(c.obs, c.action, c.reward, c.next_obs if wide else None)
                    for c in contexts
                ]
            )
        )

    def diagnosis(self) -> Diagnosis:
        """Tell the posteriors."""
        now = self._posteriors
        return Diagnosis(now.mean.copy(), now.variance.copy(), now.kl())

    def predict_rewards(self, rows: np.ndarray, obs: np.ndarray, action: np.ndarray) -> np.ndarray:
        """Decode rewards under the posteriors' means."""
        asked, which = np.unique(rows, return_inverse=True)
        return self.agent.decode(obs, action, self._posteriors.mean[asked], which)

    def judge(self, rows: np.ndarray, episodes: Episodes) -> tuple[np.ndarray, np.ndarray] | None:
        """Value the first step under the z that was drawn for it."""
        if self.critic is None:
            return None
        first = episodes.obs[:, 0], episodes.action[:, 0], self._latent[rows, 0]
        realised = self.critic.realised(episodes.reward, episodes.length)
        return self.critic.values(*first), realised


def load_agent(tensors: Mapping[str, np.ndarray], metadata: Mapping[str, Any]) -> Agent:
    """Build the networks of a checkpoint.

    Args:
        tensors: Its arrays.
        metadata: What it says of itself.

    Returns:
        Policy, encoder and decoder.
    """
    return make_agent(
        tensors,
        metadata["sizes"],
        int(metadata["latent_dim"]),
        context_next_obs=bool(metadata["networks"]["context_next_obs"]),
        softplus_is_std=metadata.get("posterior_variance") == "std",
    )


def load(
    tensors: Mapping[str, np.ndarray], metadata: Mapping[str, Any], env: Environment
) -> SmacAgent:
    """Build the acting side of a checkpoint of SMAC.

    Args:
        tensors: Its arrays.
        metadata: What it says of itself.
        env: The environment that it belongs to.

    Returns:
        The agent.

    Raises:
        CheckpointError: It is a checkpoint of another method.
    """
    if metadata.get("algorithm", "smac") != "smac":
        raise CheckpointError(
            "checkpoint of another algorithm",
            where=env.env_id,
            expected="smac",
            found=metadata.get("algorithm"),
            fix="name what loads it under `agent:` of the method file",
        )
    return SmacAgent(load_agent(tensors, metadata), load_critic(tensors, metadata))
