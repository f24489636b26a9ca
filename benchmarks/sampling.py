"""Rows ``sample``: one meta-batch into the learner's tensors.

Ours: ``kernels.sample`` into buffers that the tensors share. Baseline: the authors' way. One ring
of float64 arrays a task; task by task, random rows of every array by fancy indexing; the results
stacked, and converted to float32 tensors.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from functools import partial

import numpy as np
import torch

from benchmarks.measure import Effort, Label, Row, Work, compare
from smac_core.config import LearnerConfig
from smac_core.dataset import Dataset, Transitions, build_dataset
from smac_core.networks import Shapes
from smac_core.sampler import HostSampler

CONFIG = LearnerConfig(num_tasks=4, rows_per_task=256, context_size=64)
TASKS, ROWS_PER_TASK = (1, 10, 100), 5000
AGAINST = "float64 buffers, fancy indexing"
SIZES = (Shapes(27, 8), Shapes(376, 17))  # ant, humanoid
LATENT_DIM = 5
FIELDS = ("obs", "action", "reward", "next_obs", "terminated")


def make_dataset(shapes: Shapes, tasks: int, rows_per_task: int) -> Dataset:
    """Fill a dataset with noise.

    Args:
        shapes: Sizes of the environment.
        tasks: Number of tasks.
        rows_per_task: Transitions of each.

    Returns:
        The dataset; every row is a replay row and a context row.
    """
    rng = np.random.default_rng(0)
    total = tasks * rows_per_task

    def noise(*dims: int) -> np.ndarray:
        return rng.random((total, *dims), dtype=np.float32)

    task_id = np.repeat(np.arange(tasks), rows_per_task)
    transitions = Transitions(
        obs=noise(shapes.obs_dim),
        action=noise(shapes.action_dim),
        reward=noise(),
        next_obs=noise(shapes.obs_dim),
        terminated=np.zeros(total, dtype=np.float32),
        task_id=task_id,
        source=np.zeros(total, dtype=np.int64),
    )
    rows = np.split(np.arange(total), tasks)
    return build_dataset(transitions, range(tasks), rows, rows)


class PlainSampler:
    """The authors' way: float64 arrays task by task, and NumPy's fancy indexing.

    Args:
        dataset: What to draw from; copied.
        config: Meta-batch sizes.
        seed: Of the draws.
    """

    def __init__(self, dataset: Dataset, config: LearnerConfig, seed: int = 0) -> None:
        self.config = config
        self.rng = np.random.RandomState(seed)
        rows = dataset.transitions
        self.buffers = [
            {name: getattr(rows, name)[dataset.replay.of(slot)].astype(float) for name in FIELDS}
            for slot in range(len(dataset.task_ids))
        ]

    def gather(self, tasks: np.ndarray, rows: Sequence[np.ndarray]) -> dict[str, np.ndarray]:
        """Index every task's arrays and stack the results.

        Args:
            tasks: ``[M]`` slots.
            rows: ``[B]`` numbers within each task.

        Returns:
            ``[M, B, ...]`` float64 by field.
        """
        batches = [
            {name: array[index] for name, array in self.buffers[task].items()}
            for task, index in zip(tasks, rows, strict=True)
        ]
        return {name: np.concatenate([b[name][None] for b in batches]) for name in FIELDS}

    def gather_context(self, tasks: np.ndarray, rows: Sequence[np.ndarray]) -> np.ndarray:
        """Index what the encoder sees.

        Args:
            tasks: ``[M]`` slots.
            rows: ``[K]`` numbers within each task.

        Returns:
            ``[M, K, obs_dim + action_dim + 1]`` float64.
        """
        found = self.gather(tasks, rows)
        parts = [found["obs"], found["action"], found["reward"][..., None]]
        return np.concatenate(parts, axis=2)

    def draw(self) -> list[torch.Tensor]:
        """Draw one meta-batch.

        Returns:
            Float32 tensors: the fields in order, then the context.
        """
        cfg = self.config
        tasks = self.rng.randint(0, len(self.buffers), cfg.num_tasks)
        drawn = self.gather(tasks, self._rows(tasks, cfg.rows_per_task))
        context = self.gather_context(tasks, self._rows(tasks, cfg.context_size))
        return [torch.from_numpy(array).float() for array in (*drawn.values(), context)]

    def _rows(self, tasks: np.ndarray, num: int) -> list[np.ndarray]:
        """Draw row numbers within each task."""
        return [self.rng.randint(0, len(self.buffers[task]["reward"]), num) for task in tasks]


class _Ours:
    """The compiled draw into the learner's buffers, without and with the learner's noise."""

    def __init__(self, dataset: Dataset) -> None:
        self.sampler = HostSampler([dataset], CONFIG, LATENT_DIM, [0])
        self.update = 0

    def rows(self) -> int:
        self.update += 1
        self.sampler.draw_rows(self.update, 0, self.sampler.buffers.arrays[0])
        return 1

    def everything(self) -> int:
        self.update += 1
        self.sampler.draw(self.update)
        return 1


def _plain_rows(sampler: PlainSampler) -> int:
    sampler.draw()
    return 1


def _plain_everything(sampler: PlainSampler, action_dim: int) -> int:
    """Also draw what the published update draws inside: two latents, two actions a row."""
    sampler.draw()
    cfg = sampler.config
    for shape in (
        (cfg.num_tasks, LATENT_DIM),
        (cfg.num_tasks * cfg.rows_per_task, action_dim),
    ):
        torch.randn(shape)
        torch.randn(shape)
    return 1


def rows(name: str, effort: Effort) -> Iterator[Row]:
    """Measure small and large observations, from tables that fit a cache to those that do not.

    Args:
        name: ``sample``.
        effort: How long.

    Yields:
        Two rows a size: transitions and contexts alone, and with the update's noise.
    """
    torch.set_num_threads(1)
    for shapes, tasks in itertools.product(SIZES, TASKS[1:2] if effort.quick else TASKS):
        dataset = make_dataset(shapes, tasks, ROWS_PER_TASK)
        ours, plain = _Ours(dataset), PlainSampler(dataset, CONFIG)
        size, count = f"obs {shapes.obs_dim}", tasks * ROWS_PER_TASK
        pairs = {
            "": (Work(ours.rows), partial(_plain_rows, plain)),
            ", with noise": (
                Work(ours.everything),
                partial(_plain_everything, plain, shapes.action_dim),
            ),
        }
        for text, (mine, theirs) in pairs.items():
            label = Label(
                name,
                f"{size}, {tasks} x {ROWS_PER_TASK} rows{text}",
                "meta-batches/s",
                series=f"{size}{text}, rows",
                count=count,
            )
            yield from compare(label, mine, {AGAINST: Work(theirs)}, effort)
        del dataset, ours, plain, pairs  # gigabytes, before the next size makes its own
