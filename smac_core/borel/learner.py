"""BOReL from the first update to the last: the belief, then SAC on the hyper-states it gives.

Updates are counted through both. Batch n is a function of (seed, n) alone, and the hyper-states of
a policy update one of (seed, n, belief); they are never stored, so none can be stale.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from smac_core.borel.config import BeliefConfig, HyperSacConfig
from smac_core.borel.sac import HyperBatch, HyperSac
from smac_core.borel.trajectories import (
    EpisodeTable,
    RewardOfRows,
    Trajectories,
    draw_latent_steps,
    draw_trajectories,
)
from smac_core.borel.vae import BeliefVae, TrajectoryBatch, trajectory_losses
from smac_core.envs.definition import Environment
from smac_core.networks import Shapes
from smac_core.parameters import read_scalars
from smac_core.planning import generator

BELIEF_BATCH, POOL, POLICY_BATCH = 0xB0, 0xB1, 0xB2  # keep the random streams apart


@dataclass(frozen=True)
class BorelData:
    """What BOReL learns from.

    Args:
        table: Episodes of the training tasks.
        episodes: Episodes a trajectory, as many as at meta-test.
        relabel: Probability of foreign episodes and the function of their rewards; None: never.
    """

    table: EpisodeTable
    episodes: int
    relabel: tuple[float, RewardOfRows] | None

    def draw(self, num_tasks: int, each: int, rng: np.random.Generator) -> Trajectories:
        """Draw tasks with replacement, and trajectories of each.

        Args:
            num_tasks: How many.
            each: Trajectories a task.
            rng: Source of the draw.

        Returns:
            ``num_tasks * each`` trajectories, task by task.
        """
        slots = np.repeat(rng.integers(0, len(self.table.of_slot), num_tasks), each)
        return draw_trajectories(self.table, slots, self.episodes, rng, self.relabel)


def choose_decoders(config: BeliefConfig, env: Environment) -> BeliefConfig:
    """Settle what ``decode: auto`` means.

    Args:
        config: Of the belief.
        env: The environment.

    Returns:
        The configuration, with the next observation decoded too where dynamics differ: rewards
        alone do not tell them.
    """
    if config.decode != "auto":
        return config
    return replace(config, decode="both" if env.dynamics_differ else "reward")


class BorelLearner:
    """Belief and policy of one seed, with their optimisers.

    Args:
        shapes: Sizes of the environment.
        belief: Of the belief.
        sac: Of the policy.
        data: What it learns from.
        seed: Seed of parameters and batches.
        device: Where to compute.
    """

    def __init__(
        self,
        shapes: Shapes,
        belief: BeliefConfig,
        sac: HyperSacConfig,
        data: BorelData,
        seed: int,
        device: torch.device,
    ) -> None:
        self.belief, self.data, self.seed, self.device = belief, data, seed, device
        self.vae = BeliefVae(shapes, belief, seed).to(device)
        self.adam = torch.optim.Adam(self.vae.parameters(), lr=belief.learning_rate)
        self.sac = HyperSac(shapes, belief.latent_dim, sac, seed, device)
        self.num_updates = 0
        self.metrics: dict[str, Tensor] = {}
        self._pool: tuple[int, _Pool] | None = None

    def advance(self, limit: int) -> None:
        """Take one update.

        Args:
            limit: At least one.
        """
        if self.num_updates < self.belief.updates:
            self._update_belief()
        else:
            self._update_policy(self.num_updates - self.belief.updates)
        self.num_updates += 1

    def _update_belief(self) -> None:
        cfg = self.belief
        rng = generator((self.seed, BELIEF_BATCH, self.num_updates, 1))
        drawn = self.data.draw(cfg.num_tasks, cfg.trajectories_per_task, rng)
        losses = trajectory_losses(self.vae, self._on_device(drawn, rng))
        loss = cfg.kl_weight * losses["belief_kl"]
        for name, term in losses.items():
            loss = loss if name == "belief_kl" else loss + term
        self.adam.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        self.adam.step()
        latents = float(drawn.length.mean()) + 1.0
        # A sum over hundreds of latents says little to a reader: the mean over them.
        self.metrics = {name: term.detach()[None] / latents for name, term in losses.items()}

    def _on_device(self, drawn: Trajectories, rng: np.random.Generator) -> TrajectoryBatch:
        steps, weight = draw_latent_steps(drawn.length, self.belief.latents_per_trajectory, rng)
        noise = rng.standard_normal((*steps.shape, self.belief.latent_dim), dtype=np.float32)
        parts = (drawn.obs, drawn.action, drawn.reward, drawn.next_obs, drawn.length)
        arrays = (*parts, steps, weight, noise)
        return TrajectoryBatch(*(torch.from_numpy(a).to(self.device) for a in arrays))

    def _update_policy(self, number: int) -> None:
        cfg = self.sac.config
        pool = self._pool_of(number // cfg.refresh_every)
        rng = generator((self.seed, POLICY_BATCH, number, 1))
        rows = pool.draw(cfg.rows_per_task, rng)
        shape = (1, len(rows), pool.action.shape[-1])
        noise = [rng.standard_normal(shape, dtype=np.float32) for _ in range(2)]
        chosen = torch.from_numpy(rows).to(self.device)
        parts = [part[chosen][None] for part in pool.tensors]
        parts += [torch.from_numpy(part).to(self.device) for part in noise]
        self.metrics = self.sac.update(HyperBatch(*parts))

    def _pool_of(self, epoch: int) -> _Pool:
        """Draw the trajectories of an epoch and filter them by the finished belief."""
        if self._pool is None or self._pool[0] != epoch:
            cfg = self.sac.config
            rng = generator((self.seed, POOL, epoch, 1))
            drawn = self.data.draw(cfg.num_tasks, cfg.trajectories_per_task, rng)
            self._pool = (epoch, make_pool(self.vae, drawn, cfg.num_tasks, self.device))
        return self._pool[1]

    def read_metrics(self) -> list[dict[str, float]]:
        """Read the last update's metrics.

        Returns:
            Of this seed, one mean a metric.

        Raises:
            NonFiniteError: A metric is not finite.
        """
        return read_scalars(self.metrics, self.num_updates)

    def state(self, seed: int = 0) -> dict[str, np.ndarray]:
        """Copy everything that the next update depends on.

        Args:
            seed: 0, the only one.

        Returns:
            Parameters and Adam's moments of belief and policy, and the update count.
        """
        out = {f"belief.{n}": _numpy(p) for n, p in self.vae.state_dict().items()}
        for name, parameter in self.vae.named_parameters():
            for key, moment in self.adam.state[parameter].items():
                out[f"adam.belief.{key}.{name}"] = np.atleast_1d(_numpy(moment))
        out["num_updates"] = np.array([self.num_updates], dtype=np.int64)
        return out | self.sac.state()

    @torch.no_grad()
    def load_state(self, state: Mapping[str, np.ndarray], seed: int = 0) -> None:
        """Restore what ``state`` copied, in place.

        Args:
            state: As returned by ``state``.
            seed: 0, the only one.
        """
        for name, parameter in self.vae.named_parameters():
            parameter.copy_(torch.from_numpy(state[f"belief.{name}"]))
            moments = {
                key: torch.from_numpy(np.array(state[f"adam.belief.{key}.{name}"]))
                for key in ("step", "exp_avg", "exp_avg_sq")
                if f"adam.belief.{key}.{name}" in state  # none before the first update
            }
            if moments:
                moments["step"] = moments["step"].view(())
                on_device = {k: m if k == "step" else m.to(self.device) for k, m in moments.items()}
                self.adam.state[parameter] = on_device
        self.sac.load_state(state)
        self.num_updates = int(state["num_updates"][0])
        self._pool = None


@dataclass(frozen=True)
class _Pool:
    """Rows of some trajectories, grouped by drawn task.

    Args:
        tensors: In the order of ``HyperBatch``, up to ``terminated``, each ``[N, …]``.
        starts: ``[M + 1]`` where each task begins.
    """

    tensors: tuple[Tensor, ...]
    starts: np.ndarray

    @property
    def action(self) -> Tensor:
        """Actions ``[N, action_dim]``."""
        return self.tensors[2]

    def draw(self, rows_per_task: int, rng: np.random.Generator) -> np.ndarray:
        """Draw rows with replacement, as many of each task."""
        counts = np.diff(self.starts)[:, None]
        chosen = rng.integers(0, counts, (len(counts), rows_per_task))
        rows: np.ndarray = (self.starts[:-1, None] + chosen).reshape(-1)
        return rows


@torch.no_grad()
def make_pool(vae: BeliefVae, drawn: Trajectories, num_tasks: int, device: torch.device) -> _Pool:
    """Turn trajectories into rows of hyper-states.

    Args:
        vae: The belief.
        drawn: Trajectories, task by task, equally many of each.
        num_tasks: How many tasks.
        device: Where the rows live.

    Returns:
        The rows.
    """
    mask = drawn.mask
    action, after, reward = (
        torch.from_numpy(a).to(device) for a in (drawn.action, drawn.next_obs, drawn.reward)
    )
    belief = torch.cat(vae.beliefs(action, after, reward), dim=-1)
    valid = torch.from_numpy(mask).to(device)

    def flat(array: np.ndarray) -> Tensor:
        return torch.from_numpy(array[mask]).to(device)

    obs = np.concatenate([drawn.obs, drawn.begins[..., None]], axis=2)
    follow = np.concatenate([drawn.follow_obs, drawn.follow_begins[..., None]], axis=2)
    tensors = (
        flat(obs),
        belief[:, :-1][valid],
        flat(drawn.action),
        flat(drawn.reward),
        flat(follow),
        belief[:, 1:][valid],
        flat(drawn.terminated),
    )
    rows = drawn.length.reshape(num_tasks, -1).sum(axis=1)
    return _Pool(tensors, np.concatenate([[0], np.cumsum(rows)]))


def _numpy(tensor: Tensor) -> np.ndarray:
    copied: np.ndarray = tensor.detach().cpu().numpy().copy()
    return copied
