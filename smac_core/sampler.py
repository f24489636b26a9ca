"""Meta-batches for the learner: drawn by compiled code into buffers that are allocated once.

Every draw is a function of (seed, update number) through a counter-based generator, so a resumed
run sees the same batches and any other path (a GPU) can compute the same draws.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import torch

from kernels.random import fill_normal
from kernels.sample import sample_meta_batch
from smac_core.config import LearnerConfig, PearlConfig
from smac_core.dataset import Dataset
from smac_core.learner import Batch

# Purposes 0-2 belong to kernels.sample: tasks, replay rows, context rows.
LATENT, NEXT_LATENT, ACTION, NEXT_ACTION = 3, 4, 5, 6
NOISES = (
    (LATENT, "latent_noise"),
    (NEXT_LATENT, "next_latent_noise"),
    (ACTION, "action_noise"),
    (NEXT_ACTION, "next_action_noise"),
)


def stream_key(seed: int) -> int:
    """Derive the key of a seed's meta-batches.

    Args:
        seed: Of the run.

    Returns:
        64 bits.
    """
    return int(np.random.SeedSequence([seed, 0x5A]).generate_state(1, np.uint64)[0])


def batch_dims(
    config: LearnerConfig | PearlConfig, dataset: Dataset, latent_dim: int
) -> dict[str, tuple[int, ...]]:
    """List the shapes of one seed's meta-batch.

    Args:
        config: Meta-batch sizes.
        dataset: What is drawn from.
        latent_dim: Length of z.

    Returns:
        Shapes by field of ``Batch``, in its order.
    """
    tasks, rows, size = config.num_tasks, config.rows_per_task, config.context_size
    obs_dim, action_dim = dataset.transitions.obs.shape[1], dataset.transitions.action.shape[1]
    return {
        "task": (tasks,),
        "obs": (tasks, rows, obs_dim),
        "action": (tasks, rows, action_dim),
        "reward": (tasks, rows),
        "next_obs": (tasks, rows, obs_dim),
        "terminated": (tasks, rows),
        "context": (tasks, size, dataset.features.shape[1]),
        "latent_noise": (tasks, latent_dim),
        "next_latent_noise": (tasks, latent_dim),
        "action_noise": (tasks * rows, action_dim),
        "next_action_noise": (tasks * rows, action_dim),
    }


class HostBuffers:
    """Memory of one meta-batch of S seeds, seen by torch and by the kernels.

    Args:
        batch: CPU tensors ``[S, …]``, contiguous.
    """

    def __init__(self, batch: Batch) -> None:
        self.batch = batch
        self.arrays = [
            {name: tensor[place].numpy() for name, tensor in batch._asdict().items()}
            for place in range(len(batch.task))
        ]


def allocate(
    dims: Mapping[str, tuple[int, ...]],
    lead: tuple[int, ...],
    device: torch.device,
    *,
    pinned: bool = False,
) -> Batch:
    """Allocate a batch of zeros.

    Args:
        dims: See ``batch_dims``.
        lead: Leading axes: seeds, or updates and seeds.
        device: Where.
        pinned: Whether CPU memory is page-locked, for copies to a GPU that nobody waits for.

    Returns:
        The tensors.
    """
    return Batch(
        **{
            name: torch.zeros(
                (*lead, *shape),
                dtype=torch.int64 if name == "task" else torch.float32,
                device=device,
                pin_memory=pinned,
            )
            for name, shape in dims.items()
        }
    )


class HostSampler:
    """Draws the meta-batches of S seeds on the CPU.

    Args:
        datasets: What each seed draws from.
        config: Meta-batch sizes.
        latent_dim: Length of z.
        seeds: Name the streams.
    """

    def __init__(
        self,
        datasets: Sequence[Dataset],
        config: LearnerConfig | PearlConfig,
        latent_dim: int,
        seeds: Sequence[int],
    ) -> None:
        self.keys = [stream_key(seed) for seed in seeds]
        self.dims = batch_dims(config, datasets[0], latent_dim)
        self.buffers = HostBuffers(allocate(self.dims, (len(seeds),), torch.device("cpu")))
        self.set_datasets(datasets)

    def set_datasets(self, datasets: Sequence[Dataset]) -> None:
        """Draw from other datasets from now on.

        Args:
            datasets: What each seed draws from.

        Raises:
            ValueError: Not one a seed.
        """
        if len(datasets) != len(self.keys):
            raise ValueError(f"{len(datasets)} datasets for {len(self.keys)} seeds")
        self.datasets = list(datasets)
        self.pools = [np.arange(len(d.task_ids), dtype=np.int64) for d in datasets]

    def draw(self, update: int, into: HostBuffers | None = None) -> Batch:
        """Draw the meta-batch of one update.

        Args:
            update: Number of the update since the beginning of training.
            into: Where to; None: the sampler's own buffers, which the next draw overwrites.

        Returns:
            The batch, on the CPU.
        """
        buffers = self.buffers if into is None else into
        for place, out in enumerate(buffers.arrays):
            self.draw_rows(update, place, out)
            for purpose, name in NOISES:
                fill_normal(self.keys[place], update, purpose, out[name].reshape(-1))
        return buffers.batch

    def draw_rows(self, update: int, place: int, out: Mapping[str, np.ndarray]) -> None:
        """Draw the tasks, transitions and contexts of one seed, without the noise.

        Args:
            update: Number of the update since the beginning of training.
            place: Which seed, from 0.
            out: Arrays by field of ``Batch``, written.
        """
        data = self.datasets[place]
        sample_meta_batch(
            self.keys[place],
            update,
            self.pools[place],
            data.replay.index,
            data.replay.starts,
            data.context.index,
            data.context.starts,
            data.table,
            out["task"],
            out["obs"],
            out["action"],
            out["reward"],
            out["next_obs"],
            out["terminated"],
            out["context"],
        )
