"""Meta-training: on-policy exploration, many updates on it, and again."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from smac_core.envs.definition import Environment
from smac_core.envs.episodes import BatchDriver, Episodes
from smac_core.errors import ConfigError, NonFiniteError
from smac_core.gmps.config import GmpsConfig, GmpsNetworkConfig
from smac_core.gmps.convolution import encode
from smac_core.gmps.convolution_fit import fit_convolutions
from smac_core.gmps.learner import GmpsLearner, stacked
from smac_core.gmps.objective import ExpertRows, PolicyRows, TaskBatch
from smac_core.gmps.policy import ActingPolicies, acting_policies
from smac_core.gmps.rollouts import ROLLOUTS, play, policy_rows
from smac_core.networks import Shapes
from smac_core.planning import Key, flat_rows, generator

UPDATES = 0x75  # keeps the draws of rows and tasks apart from the episodes
SEE = 0x73  # keeps the draws of what convolutions are fitted to apart from both
EXPLORE, MEASURE, AGGREGATE = range(3)  # kinds of episodes of an iteration

Labeller = Callable[[int, np.ndarray], np.ndarray]
"""The expert's actions ``[N, action_dim]`` in a task, at what it reads of N states."""


@dataclass(frozen=True)
class Demonstrations:
    """What the expert does in one task.

    Args:
        obs: ``[N, obs_dim]`` float32.
        action: ``[N, action_dim]`` float32 in [-1, 1].
        position: ``[N, xy]`` float32 (m), which convolutions may learn to see; None: not known.
    """

    obs: np.ndarray
    action: np.ndarray
    position: np.ndarray | None = None

    def joined(self, obs: np.ndarray, action: np.ndarray) -> Demonstrations:
        """Return these and further rows."""
        return Demonstrations(
            np.concatenate([self.obs, obs]), np.concatenate([self.action, action])
        )


@dataclass(frozen=True)
class TrainingTasks:
    """The tasks that are trained on.

    Args:
        ids: Their numbers.
        parameters: ``[T, task_dim]``.
        demonstrations: One a task; none for a method without experts.
        expert: Labels further states; None: nobody does.
        privileged: Whether it reads what scripts are told, as observations do not show it.
    """

    ids: Sequence[int]
    parameters: np.ndarray
    demonstrations: tuple[Demonstrations, ...] = ()
    expert: Labeller | None = None
    privileged: bool = False


class GmpsTrainer:
    """One seed's meta-training; an iteration is a function of what the one before left.

    Args:
        env: The environment.
        networks: Widths.
        config: Hyperparameters.
        tasks: What is trained on.
        seed: Of parameters, episodes and draws.
        device: Where updates are computed.
    """

    def __init__(
        self,
        env: Environment,
        networks: GmpsNetworkConfig,
        config: GmpsConfig,
        tasks: TrainingTasks,
        seed: int,
        device: torch.device,
    ) -> None:
        self.env, self.config, self.tasks, self.seed = env, config, tasks, seed
        shapes = Shapes(env.obs_dim, env.action_dim, env.image_shape)
        self.learner = GmpsLearner(shapes, networks, config, seed, device)
        self.driver = BatchDriver(env)
        self.iteration = 0
        self.environment_steps = 0
        self.groups = np.repeat(np.arange(len(tasks.ids)), config.draws_per_task)
        self.encoder_error: float | None = None
        if networks.encoder_updates:
            self._learn_to_see(networks.encoder_updates)

    def _learn_to_see(self, updates: int) -> None:
        """Fit the convolutions to the demonstrations, and encode these.

        Raises:
            ConfigError: There is nothing to learn it from.
        """
        shown, policy = self.tasks.demonstrations, self.learner.meta["policy"]
        places = [d.position for d in shown if d.position is not None]
        picture = self.env.image_shape if "conv0.weight" in policy else None
        if picture is None or not shown or len(places) < len(shown):
            raise ConfigError(
                "nothing to learn to see from",
                where="meta_train.networks.encoder_updates",
                expected="networks.convolution, and demonstrations that tell positions",
                fix="set it to 0",
            )
        obs, place = np.concatenate([d.obs for d in shown]), np.concatenate(places)
        rng = generator((self.seed, SEE, 0, 1))
        fitted, self.encoder_error = fit_convolutions(policy, obs, place, picture, updates, rng)
        policy |= fitted
        told = tuple(Demonstrations(self._seen(d.obs), d.action) for d in shown)
        self.tasks = replace(self.tasks, demonstrations=told)

    def _seen(self, obs: np.ndarray) -> np.ndarray:
        """Encode pictures where convolutions stay as they are: ``[N, obs_dim]``."""
        if not self.learner.objective.frozen:
            return obs
        tensor = torch.from_numpy(obs).to(self.learner.device)
        points = encode(self.learner.meta["policy"], tensor, self.env.image_shape)
        array: np.ndarray = points.cpu().numpy()
        return array

    def iterate(self, tell: Callable[[int], None]) -> dict[str, float]:
        """Explore with the current policy, update on it, and aggregate where it is time to.

        Args:
            tell: Is told how many updates were taken.

        Returns:
            Metrics of the iteration.

        Raises:
            NonFiniteError: A loss or an adapted policy is not finite.
        """
        cfg, learner = self.config, self.learner
        self.iteration += 1
        unadapted = stacked(learner.meta)
        explored = self._play(unadapted, EXPLORE, cfg.exploration_episodes, shared=True)
        inner = policy_rows(explored, len(self.groups), learner.objective, unadapted)
        row = {"explored_return": mean_return(explored)}
        outer: PolicyRows | None = None
        if cfg.outer == "policy-gradient":
            adapted = self._adapted(inner)
            played = self._play(adapted, MEASURE, cfg.outer_episodes)
            outer = policy_rows(played, len(self.groups), learner.objective, adapted)
            row["adapted_return"] = mean_return(played)
        for _ in range(cfg.updates_per_batch):
            learner.update(self._batch(inner, outer))
            tell(1)
        row |= learner.read_metrics()[0]
        if cfg.aggregate_every and self.iteration % cfg.aggregate_every == 0:
            self._aggregate(self._adapted(inner))
        if self.encoder_error is not None:
            row["encoder_error"] = self.encoder_error
        if self.tasks.demonstrations:
            row["expert_rows"] = float(sum(len(d.obs) for d in self.tasks.demonstrations))
        counters = {"iteration": self.iteration, "update": learner.num_updates}
        steps = {"environment_steps": float(self.environment_steps)}
        return {name: float(number) for name, number in counters.items()} | steps | row

    def _batch(self, inner: PolicyRows, outer: PolicyRows | None) -> TaskBatch:
        """Draw the inner steps behind one update, and what each is measured on."""
        cfg, device = self.config, self.learner.device
        rng = generator((self.seed, UPDATES, self.learner.num_updates, 1))
        chosen = np.arange(len(self.groups))
        if cfg.num_tasks is not None and cfg.num_tasks < len(chosen):
            chosen = rng.permutation(len(chosen))[: cfg.num_tasks]
            picked = torch.from_numpy(chosen).to(device)
            inner = PolicyRows(*(part[picked] for part in inner))
            outer = outer and PolicyRows(*(part[picked] for part in outer))
        if outer is not None:
            return TaskBatch(inner, outer)
        return TaskBatch(inner, self._expert_rows(chosen, rng))

    def _expert_rows(self, chosen: np.ndarray, rng: np.random.Generator) -> ExpertRows:
        obs, action = [], []
        for group in chosen:
            shown = self.tasks.demonstrations[self.groups[group]]
            rows = rng.integers(0, len(shown.obs), self.config.outer_rows)
            obs.append(shown.obs[rows])
            action.append(np.clip(shown.action[rows], -1.0, 1.0))
        device = self.learner.device
        return ExpertRows(*(torch.from_numpy(np.stack(part)).to(device) for part in (obs, action)))

    def _adapted(self, inner: PolicyRows) -> dict[str, Tensor]:
        """Adapt to every group's exploration.

        Raises:
            NonFiniteError: An inner step diverged.
        """
        adapted = self.learner.objective.adapt_all(self.learner.meta, inner)
        if not acting_policies(adapted, self.env.image_shape).finite():
            raise NonFiniteError(
                "an inner step diverged",
                where=f"iteration {self.iteration}, update {self.learner.num_updates}",
                fix="train with a lower initial_rate or learning_rate, or narrower ratio_limits",
            )
        return adapted

    def _play(
        self,
        policies: Mapping[str, Tensor],
        kind: int,
        number: int,
        *,
        shared: bool = False,
        sample: bool = True,
    ) -> Episodes:
        """Play episodes of every group, by its own policy or a shared one, and count the steps."""
        owner = np.repeat(np.arange(len(self.groups)), number)
        keys: list[Key] = [
            (self.seed, ROLLOUTS, self.iteration, kind, place, int(group), 1)
            for place, group in enumerate(owner)
        ]
        acting = acting_policies(policies, self.env.image_shape)
        if not shared:
            acting = _each(acting, owner)
        tasks = self.tasks.parameters[self.groups[owner]]
        episodes = play(self.driver, acting, tasks, keys, sample=sample)
        self.environment_steps += int(episodes.length.sum())
        return episodes

    def _aggregate(self, adapted: Mapping[str, Tensor]) -> None:
        """Let the expert label where the adapted policies go."""
        expert = self.tasks.expert
        assert expert is not None, "the stage refuses aggregation without an expert"
        episodes = self._play(adapted, AGGREGATE, 1, sample=False)
        mask = flat_rows(episodes)
        told = episodes.privileged if self.tasks.privileged else episodes.obs
        assert told is not None, "only a script that is told more reads anything but observations"
        shown = list(self.tasks.demonstrations)
        for place, task in enumerate(self.groups):
            obs = self._seen(episodes.obs[place][mask[place]])
            shown[task] = shown[task].joined(obs, expert(int(task), told[place][mask[place]]))
        self.tasks = replace(self.tasks, demonstrations=tuple(shown))

    def state(self) -> dict[str, np.ndarray]:
        """Copy everything that the next iteration depends on."""
        out = self.learner.state()
        out["iteration"] = np.array([self.iteration], dtype=np.int64)
        out["environment_steps"] = np.array([self.environment_steps], dtype=np.int64)
        shown = self.tasks.demonstrations
        if self.config.aggregate_every and shown:
            out["shown/length"] = np.array([len(d.obs) for d in shown], dtype=np.int64)
            out["shown/obs"] = np.concatenate([d.obs for d in shown])
            out["shown/action"] = np.concatenate([d.action for d in shown])
        return out

    def load_state(self, state: Mapping[str, np.ndarray]) -> None:
        """Restore what ``state`` copied.

        Args:
            state: As returned by ``state``.
        """
        self.learner.load_state(state)
        self.iteration = int(state["iteration"][0])
        self.environment_steps = int(state["environment_steps"][0])
        if "shown/length" in state:
            cuts = np.cumsum(state["shown/length"])[:-1]
            parts = (np.split(state[f"shown/{name}"], cuts) for name in ("obs", "action"))
            shown = tuple(Demonstrations(o, a) for o, a in zip(*parts, strict=True))
            self.tasks = replace(self.tasks, demonstrations=shown)


def mean_return(episodes: Episodes) -> float:
    """Average the undiscounted return of some episodes."""
    return float(episodes.returns.mean(dtype=np.float64))


def _each(policies: ActingPolicies, owner: np.ndarray) -> ActingPolicies:
    """Give every episode the policy of its owner."""
    return ActingPolicies(
        tuple(weight[owner] for weight in policies.weight),
        tuple(bias[owner] for bias in policies.bias),
        policies.std[owner],
        policies.eye,
    )
