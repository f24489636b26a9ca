"""Meta-batches for the learner: drawn by compiled code into buffers that are allocated once.

Every draw is a function of (seed, update number) through a counter-based generator, so a resumed
run sees the same batches and any other path (a GPU) can compute the same draws.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from kernels.random import fill_normal
from kernels.sample import sample_meta_batch
from smac_core.config import LearnerConfig, PearlConfig
from smac_core.dataset import Dataset
from smac_core.learner import Batch
from smac_core.networks import Shapes

# Purposes 0-2 belong to kernels.sample: tasks, replay rows, context rows.
LATENT, NEXT_LATENT, ACTION, NEXT_ACTION = 3, 4, 5, 6


class HostSampler:
    """Draws meta-batches on the CPU.

    Args:
        dataset: What to draw from.
        config: Meta-batch sizes.
        shapes: Sizes of the environment.
        latent_dim: Length of z.
        seed: Names the stream.
        device: Where the batch goes.
    """

    def __init__(
        self,
        dataset: Dataset,
        config: LearnerConfig | PearlConfig,
        shapes: Shapes,
        latent_dim: int,
        seed: int,
        device: torch.device,
    ) -> None:
        tasks, rows, size = config.num_tasks, config.rows_per_task, config.context_size
        self.key = int(np.random.SeedSequence([seed, 0x5A]).generate_state(1, np.uint64)[0])
        self.device = device
        self.task = np.zeros(tasks, dtype=np.int64)
        flat = tasks * rows
        dims: dict[str, tuple[int, ...]] = {
            "obs": (tasks, rows, shapes.obs_dim),
            "action": (tasks, rows, shapes.action_dim),
            "reward": (tasks, rows),
            "next_obs": (tasks, rows, shapes.obs_dim),
            "terminated": (tasks, rows),
            "context": (tasks, size, dataset.features.shape[1]),
            "latent_noise": (tasks, latent_dim),
            "next_latent_noise": (tasks, latent_dim),
            "action_noise": (flat, shapes.action_dim),
            "next_action_noise": (flat, shapes.action_dim),
        }
        self.buffers = {name: np.zeros(shape, dtype=np.float32) for name, shape in dims.items()}
        self._batch = Batch(**{name: torch.from_numpy(a) for name, a in self.buffers.items()})
        self.set_dataset(dataset)

    def set_dataset(self, dataset: Dataset, task_pool: Sequence[int] | None = None) -> None:
        """Draw from another dataset from now on.

        Args:
            dataset: What to draw from.
            task_pool: Task slots to draw from; None: all.
        """
        self.dataset = dataset
        pool = range(len(dataset.task_ids)) if task_pool is None else task_pool
        self.pool = np.asarray(pool, dtype=np.int64)

    def draw(self, update: int) -> Batch:
        """Draw the meta-batch of one update; it is overwritten by the next draw.

        Args:
            update: Number of the update since the beginning of training.

        Returns:
            The batch, on the learner's device.
        """
        data, out = self.dataset, self.buffers
        rows = data.transitions
        sample_meta_batch(
            self.key,
            update,
            self.pool,
            data.replay.index,
            data.replay.starts,
            data.context.index,
            data.context.starts,
            rows.obs,
            rows.action,
            rows.reward,
            rows.next_obs,
            rows.terminated,
            data.features,
            self.task,
            out["obs"],
            out["action"],
            out["reward"],
            out["next_obs"],
            out["terminated"],
            out["context"],
        )
        for purpose, name in (
            (LATENT, "latent_noise"),
            (NEXT_LATENT, "next_latent_noise"),
            (ACTION, "action_noise"),
            (NEXT_ACTION, "next_action_noise"),
        ):
            fill_normal(self.key, update, purpose, out[name].reshape(-1))
        if self.device.type == "cpu":
            return self._batch
        return Batch(*(tensor.to(self.device) for tensor in self._batch))
