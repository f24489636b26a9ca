"""The collectors that learn while they collect: PEARL, and its variant that is told the task."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path

import numpy as np

from pipeline.cli import Progress
from pipeline.collection import LABELS, Collection, collect_initial, untrained_agent
from pipeline.expert_policy import told_latents
from pipeline.sections import ExpertsConfig
from pipeline.training import Resume, resume_state, single_thread
from smac_core.adaptation import MetaTest
from smac_core.agent import Agent, Posteriors, make_agent
from smac_core.config import AdaptationConfig
from smac_core.dataset import context_features
from smac_core.engine import Engine, make_engine
from smac_core.envs.episodes import Episodes
from smac_core.episode_rows import EpisodeRows, flatten
from smac_core.errors import ConfigError
from smac_core.learner import resolve_device
from smac_core.networks import Shapes, network_shapes
from smac_core.pearl import PearlLearner
from smac_core.planning import (
    COLLECT,
    EVALUATE_TEST,
    Key,
    flat_rows,
    generator,
    next_observations,
    plan_episodes,
)
from smac_core.smac_agent import SmacAgent
from smac_core.visits import POSTERIOR, PRIOR, VisitedEpisodes, run_visits


class LearningCollector:
    """PEARL (or the task-conditioned variant), its buffers and its learning curve.

    Args:
        collection: Receives the episodes.
    """

    def __init__(self, collection: Collection) -> None:
        env, config = collection.env, collection.config
        self.collection, self.config, self.env = collection, config, env
        single_thread(config.learner.matmul_precision)
        self.device = resolve_device(config.learner.device)
        self.shapes = Shapes(env.obs_dim, env.action_dim)
        told = config.policy == "task-conditioned"
        self.latents = self._task_latents() if told else None
        slots = np.asarray(collection.tasks.train)
        self.learner = PearlLearner(
            self.shapes,
            config.networks,
            config.learner,
            config.seed,
            self.device,
            None if self.latents is None else self.latents[slots],
        )
        self.engine: Engine | None = None

    def _task_latents(self) -> np.ndarray:
        """Scale every task's parameters and pad them to the latent's length."""
        scaled = self.env.latent_of_task(self.collection.tasks.parameters)
        if scaled.shape[1] > self.config.networks.latent_dim:
            own, other = self._section()
            raise ConfigError(
                "the policy cannot be told its task",
                where=f"{own} of {self.env.env_id}",
                expected=f"networks.latent_dim of at least {scaled.shape[1]}",
                found=self.config.networks.latent_dim,
                fix=f"raise {own}.networks.latent_dim, or set {own}.policy: {other}",
            )
        parameters = self.collection.tasks.parameters
        return told_latents(self.env, parameters, self.config.networks.latent_dim)

    def _section(self) -> tuple[str, str]:
        """Name the section that the configuration is of, and its policy that is told no task."""
        if isinstance(self.config, ExpertsConfig):
            return "experts", "scripted"
        return "collect", "pearl"

    def agent(self) -> Agent:
        """Return the acting side of the learner."""
        layers = network_shapes(self.shapes, self.config.networks)
        return make_agent(
            self.learner.state(),
            {n: layers[n].sizes for n in layers},
            self.config.networks.latent_dim,
            context_next_obs=self.config.networks.context_next_obs,
        )

    def visit(self, iteration: int) -> None:
        """Collect from some training tasks, drawn with replacement.

        Args:
            iteration: From 1.

        Source: smac-reference section 4, point 2.
        """
        train = np.asarray(self.collection.tasks.train, dtype=np.int64)
        rng = generator((self.config.seed, COLLECT, iteration))
        drawn = rng.integers(0, len(train), self.config.tasks_per_iteration)
        self._visit_tasks(train[drawn], iteration, explore=self.latents is None)

    def visit_all(self, iteration: int) -> None:
        """Collect from every training task once, with the finished collector.

        Args:
            iteration: Number that the store gives to these episodes.
        """
        train = np.asarray(self.collection.tasks.train, dtype=np.int64)
        self._visit_tasks(train, iteration, explore=True)

    def _visit_tasks(self, task_ids: np.ndarray, iteration: int, *, explore: bool) -> None:
        keys: list[Key] = [
            (self.config.seed, COLLECT, iteration, int(task), visit)
            for visit, task in enumerate(task_ids)
        ]
        if self.latents is None:
            episodes, visit, source = self._visit_as_pearl(task_ids, keys)
        else:
            episodes, visit, source = self._visit_as_told(task_ids, keys, explore=explore)
        collection = self.collection
        collection.clear_context(task_ids)
        collection.add(
            flatten(episodes),
            task_id=task_ids[visit],
            source=source,
            iteration=np.full(len(visit), iteration),
            visit=visit,
            in_context=source == PRIOR,
        )

    def _visit_as_pearl(
        self, task_ids: np.ndarray, keys: list[Key]
    ) -> tuple[Episodes, np.ndarray, np.ndarray]:
        """Prior episodes fill the cleared encoder buffer; the posterior ones draw from it."""
        bags: dict[int, np.ndarray] = {}
        size = self.config.visit.context_size

        def keep(block: VisitedEpisodes) -> None:
            for visit in range(len(task_ids)):
                mine = block.episodes.select(np.flatnonzero(block.visit == visit))
                bags[visit] = self._features(mine)

        def context_of(visit: int, key: Key) -> np.ndarray:
            bag = bags[visit]
            drawn: np.ndarray = bag[generator(key).integers(0, len(bag), size)]
            return drawn

        result = run_visits(
            self.collection.driver,
            self.agent(),
            self.config.visit,
            self.collection.tasks.parameters[task_ids],
            keys,
            context_of,
            rewards=True,
            on_prior_block=keep,
        )
        return result.episodes, result.visit, result.source.astype(np.int64)

    def _visit_as_told(
        self, task_ids: np.ndarray, keys: list[Key], *, explore: bool
    ) -> tuple[Episodes, np.ndarray, np.ndarray]:
        """Act on the true task; where exploration is asked for, first on random training tasks.

        The exploration block stands for PEARL's episodes under the prior: the data then hold both
        what exploration looks like and what adapted behaviour looks like.
        """
        assert self.latents is not None
        visit_config = self.config.visit
        prior_count = -(-visit_config.prior_steps // self.env.horizon)
        count = prior_count + -(-visit_config.posterior_steps // self.env.horizon)
        visit = np.repeat(np.arange(len(task_ids)), count)
        number = np.tile(np.arange(count), len(task_ids))
        train = np.asarray(self.collection.tasks.train, dtype=np.int64)
        others = generator((*keys[0], 1_000_000)).integers(0, len(train), len(visit))
        told = np.where(explore & (number < prior_count), train[others], task_ids[visit])
        latents = self.latents[told]
        plan = plan_episodes(
            self.env,
            [(*keys[v], int(n)) for v, n in zip(visit, number, strict=True)],
            self.collection.tasks.parameters[task_ids[visit]],
            Posteriors(latents, np.zeros_like(latents)),
            resample_every_step=False,
        )
        episodes = self.collection.driver.run(self.agent().stochastic(), plan, rewards=True)
        source = np.where(number < prior_count, PRIOR, POSTERIOR)
        return episodes, visit, source.astype(np.int64)

    def _features(self, episodes: Episodes) -> np.ndarray:
        mask = flat_rows(episodes)
        seen = self.config.networks.context_next_obs
        after = next_observations(episodes)[mask] if seen else None
        return context_features(
            episodes.obs[mask], episodes.action[mask], episodes.reward[mask], after
        )

    def train(self, progress: Progress) -> None:
        """Take this iteration's updates.

        Args:
            progress: Is told of every update.

        Source: smac-reference section 4, point 3.
        """
        datasets = [self.collection.dataset()]
        if self.engine is None:
            self.engine = make_engine(
                self.learner,
                datasets,
                self.config.learner,
                self.config.networks.latent_dim,
                [self.config.seed],
                max(self.config.updates_per_iteration, 1),
            )
        else:
            self.engine.set_datasets(datasets)
        last = self.learner.num_updates + self.config.updates_per_iteration
        while (before := self.learner.num_updates) < last:
            self.engine.advance(last - before)
            progress.advance(self.learner.num_updates - before)

    def measure(self, iteration: int) -> dict[str, float]:
        """Take one point of the learning curve: returns of the newest visits and at meta-test.

        Args:
            iteration: From 0.

        Returns:
            Metrics of the iteration.
        """
        episodes = self.collection.episodes()
        newest = self.collection.iteration == iteration
        row = {
            "iteration": float(iteration),
            "environment_steps": float(episodes.length.sum()),
            "update": float(self.learner.num_updates),
            "collected_return": float(episodes.returns[newest].mean()),
        }
        if self.learner.metrics:
            row |= self.learner.read_metrics()
        every = self.config.evaluate_every
        if every and (iteration % every == 0 or iteration == self.config.iterations):
            row |= self._meta_test()
        return row

    def _meta_test(self) -> dict[str, float]:
        """Measure adaptation on held-out tasks; nothing is chosen by it."""
        tasks = self.collection.tasks
        ids = list(tasks.test)
        config = AdaptationConfig(repeats=1)
        key = (self.config.seed, EVALUATE_TEST)
        agent, parameters = SmacAgent(self.agent()), tasks.parameters[ids]
        test = MetaTest(self.collection.driver, agent, config, ids, parameters, key)
        if self.latents is not None:
            told = Posteriors(self.latents[ids], np.zeros_like(self.latents[ids]))
            agent.assume(told)
            return {"test_return": float(test.once(0).episode_return.mean())}
        returns = test.online()[0].episode_return
        return {
            "test_return": float(np.nanmean(returns[:, :, -1])),
            "test_prior_return": float(np.nanmean(returns[:, :, 0])),
        }

    def state(self) -> dict[str, np.ndarray]:
        """Copy the learner and everything collected."""
        collection = self.collection
        out = {f"learner.{name}": a for name, a in self.learner.state().items()}
        episodes = collection.episodes()
        out |= {f"episodes.{n}": getattr(episodes, n) for n in EpisodeRows.__dataclass_fields__}
        return out | {name: getattr(collection, name) for name in LABELS}

    def load_state(self, state: Mapping[str, np.ndarray]) -> None:
        """Restore what ``state`` copied.

        Args:
            state: As returned by ``state``.
        """
        prefix = "learner."
        self.learner.load_state(
            {n.removeprefix(prefix): a for n, a in state.items() if n.startswith(prefix)}
        )
        names = EpisodeRows.__dataclass_fields__
        episodes = EpisodeRows(**{name: state[f"episodes.{name}"] for name in names})
        self.collection.add(episodes, **{name: state[name] for name in LABELS})


def collect_with_learner(collection: Collection, out: Path, key: Mapping[str, object]) -> Resume:
    """Collect initial data, then alternate visits and updates.

    Args:
        collection: Is appended to.
        out: The declared output; the resume state lives beside it.
        key: What else the result depends on.

    Returns:
        The resume state: its rows are the learning curve.
    """
    return learn(LearningCollector(collection), out, key)


def learn(collector: LearningCollector, out: Path, key: Mapping[str, object]) -> Resume:
    """Train a collector, from where a killed run stopped.

    Args:
        collector: Is trained, and its collection is appended to.
        out: The declared output; the resume state lives beside it.
        key: What else the result depends on.

    Returns:
        The resume state: its rows are the learning curve.
    """
    collection = collector.collection
    config = collection.config
    resume = resume_state(out, {**key, "section": asdict(config)})
    saved = resume.load()
    if saved is None:
        told = collector.latents is not None
        collect_initial(collection, untrained_agent(collection) if not told else collector.agent())
        resume.rows.append(collector.measure(0))
    else:
        collector.load_state(saved)
    first = int(collection.iteration.max()) + 1
    last = config.iterations + config.final_visits
    total = (config.iterations - first + 1) * config.updates_per_iteration
    with Progress("collector's updates", max(total, 0)) as progress:
        for iteration in range(first, config.iterations + 1):
            collector.visit(iteration)
            collector.train(progress)
            resume.rows.append(collector.measure(iteration))
            if resume.due():
                resume.save(collector.state())
    for iteration in range(max(first, config.iterations + 1), last + 1):
        collector.visit_all(iteration)
    return resume
