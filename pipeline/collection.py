"""What the ``collect`` stage has gathered, and how an untrained or scripted agent gathers."""

from __future__ import annotations

import numpy as np

from pipeline.schema import EPISODE_SOURCES
from pipeline.sections import CollectConfig
from pipeline.task_list import TaskList
from smac_core.agent import Agent, make_agent, prior
from smac_core.dataset import Dataset, build_dataset
from smac_core.envs.definition import Environment
from smac_core.envs.episodes import BatchDriver, Scripted
from smac_core.episode_rows import EpisodeRows, flatten, join_rows
from smac_core.networks import Shapes, initial_parameters, network_shapes
from smac_core.planning import COLLECT, plan_episodes

LABELS = ("task_id", "source", "iteration", "visit", "in_context")
INIT, SCRIPTED = EPISODE_SOURCES["init"], EPISODE_SOURCES["scripted"]


class Collection:
    """All episodes so far, in collection order.

    Args:
        env: The environment.
        config: The stage's section.
        tasks: All tasks; the training tasks are collected.
    """

    def __init__(self, env: Environment, config: CollectConfig, tasks: TaskList) -> None:
        self.env, self.config, self.tasks = env, config, tasks
        self.driver = BatchDriver(env)
        self.parts: list[EpisodeRows] = []
        self.task_id = np.zeros(0, dtype=np.int64)
        self.source = np.zeros(0, dtype=np.int64)
        self.iteration = np.zeros(0, dtype=np.int64)
        self.visit = np.zeros(0, dtype=np.int64)
        self.in_context = np.zeros(0, dtype=bool)

    def add(self, rows: EpisodeRows, **labels: np.ndarray) -> None:
        """Append episodes.

        Args:
            rows: With true rewards.
            labels: Each of ``LABELS``, ``[E]``: task, code of how they were collected, iteration (0
                is the initial collection), visit of the iteration, and whether they join the
                encoder buffer.
        """
        assert set(labels) == set(LABELS), "every label, and no other"
        self.parts.append(rows)
        for name in LABELS:
            setattr(self, name, np.concatenate([getattr(self, name), labels[name]]))

    def episodes(self) -> EpisodeRows:
        """Return all episodes, in collection order."""
        self.parts = [join_rows(self.parts)]
        return self.parts[0]

    def labels(self) -> dict[str, np.ndarray]:
        """Return what the store says of each episode."""
        return {"task_id": self.task_id, "source": self.source, "iteration": self.iteration}

    def clear_context(self, task_ids: np.ndarray) -> None:
        """Empty the encoder buffer of some tasks, as PEARL does before it visits them."""
        self.in_context &= ~np.isin(self.task_id, task_ids)

    def dataset(self) -> Dataset:
        """Assemble what a learner draws from: every row as replay, the encoder buffer as context.

        Returns:
            The dataset, one slot a training task.
        """
        rows = self.episodes()
        length = rows.length
        start = rows.ends - length
        replay, context = [], []
        for task in self.tasks.train:
            mine = np.flatnonzero(self.task_id == task)
            spans = [np.arange(start[e], start[e] + length[e]) for e in mine]
            kept = [s for e, s in zip(mine, spans, strict=True) if self.in_context[e]]
            replay.append(np.concatenate(spans))
            context.append(np.concatenate(kept))
        return build_dataset(
            rows.transitions(self.task_id, self.source),
            self.tasks.train,
            replay,
            context,
            context_next_obs=self.config.networks.context_next_obs,
        )

    def statistics(self) -> dict[str, object]:
        """Summarise for the manifest: returns per source, and visits per task."""
        episodes, names = self.episodes(), {v: k for k, v in EPISODE_SOURCES.items()}
        sources = {}
        for code in np.unique(self.source):
            chosen = self.source == code
            sources[names[int(code)]] = {
                "episodes": int(chosen.sum()),
                "transitions": int(episodes.length[chosen].sum()),
                "mean_return": float(episodes.returns[chosen].mean()),
                "mean_length": float(episodes.length[chosen].mean()),
            }
        later = self.iteration > 0
        # A task that is drawn twice in an iteration is visited twice.
        visits = np.stack([self.task_id[later], self.iteration[later], self.visit[later]])
        visited = np.unique(visits, axis=1)[0]
        return {
            "policy": self.config.policy,
            "transitions": int(episodes.length.sum()),
            "sources": sources,
            "visits_per_task": [int((visited == task).sum()) for task in self.tasks.train],
            "diverged_episodes": int((~episodes.ok).sum()),
            **self.env.summarise(
                episodes.reward, episodes.length, self.tasks.parameters[self.task_id]
            ),
        }


def untrained_agent(collection: Collection) -> Agent:
    """Build the freshly initialised agent of the untrained collector.

    Args:
        collection: Gives environment, widths and seed.

    Returns:
        The agent.
    """
    env, config = collection.env, collection.config
    layers = network_shapes(Shapes(env.obs_dim, env.action_dim), config.networks)
    rng = np.random.default_rng([config.seed, 0x9E])
    tensors = {n: initial_parameters(n, layers[n], rng) for n in layers}
    sizes = {n: layers[n].sizes for n in layers}
    return make_agent(tensors, sizes, config.networks.latent_dim)


def collect_initial(collection: Collection, agent: Agent | None = None) -> None:
    """Collect whole episodes of every training task until each has the initial steps.

    Args:
        collection: Is appended to, task by task, as the authors' loop has it.
        agent: Who acts; None: the environment's script.

    Source: smac-reference section 4, point 1.
    """
    env, config = collection.env, collection.config
    train = np.asarray(collection.tasks.train, dtype=np.int64)
    controller = Scripted(env) if agent is None else agent.stochastic()
    taken = np.zeros(len(train), dtype=np.int64)
    parts: list[EpisodeRows] = []  # without padding: that of a falling humanoid is nine tenths
    owners: list[np.ndarray] = []
    while (taken < config.initial_steps).any():
        slots = np.flatnonzero(taken < config.initial_steps)
        parameters = collection.tasks.parameters[train[slots]]
        plan = plan_episodes(
            env,
            [(config.seed, COLLECT, 0, int(train[s]), len(parts)) for s in slots],
            parameters,
            prior(len(slots), config.networks.latent_dim),
            resample_every_step=config.visit.resample_latent == "step",
            horizon=config.horizon,
        )
        parts.append(flatten(collection.driver.run(controller, plan, rewards=True)))
        owners.append(slots)
        taken[slots] += parts[-1].length
    owner = np.concatenate(owners)
    order = np.argsort(owner, kind="stable")
    num = len(order)
    rows = join_rows(parts)
    parts.clear()
    collection.add(
        rows.select(order),
        task_id=train[owner[order]],
        source=np.full(num, SCRIPTED if agent is None else INIT, dtype=np.int64),
        iteration=np.zeros(num, dtype=np.int64),
        visit=np.zeros(num, dtype=np.int64),
        in_context=np.ones(num, dtype=bool),
    )
