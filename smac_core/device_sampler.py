"""Meta-batches drawn on the learner's device, many updates at once; the twin of ``HostSampler``.

The same Philox streams as ``kernels.random``, written as whole-tensor operations, so that a GPU
draws K updates in a fixed number of kernels. Tasks and rows are the very same numbers as on the
host; normals agree to float32 rounding.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from kernels.sample import CONTEXT_ROWS, REPLAY_ROWS, TASK_DRAWS
from smac_core.config import LearnerConfig, PearlConfig
from smac_core.dataset import Dataset
from smac_core.learner import Batch
from smac_core.sampler import NOISES, batch_dims, stream_key

MASK = 0xFFFFFFFF
# Multipliers and Weyl increments of Philox4x32, as in kernels.random.
_M0, _M1 = 0xD2511F53, 0xCD9E8D57
_W0, _W1 = 0x9E3779B9, 0xBB67AE85
_ROUNDS = 10


def philox(counter: Sequence[Tensor], key: Sequence[Tensor]) -> Tensor:
    """Mix counters with keys.

    Args:
        counter: Four int64 tensors of 32-bit words, which broadcast together.
        key: Two int64 tensors of 32-bit words, which broadcast with them.

    Returns:
        ``[…, 4]`` int64 words below 2^32.

    Source: Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", SC 2011.
    """
    c0, c1, c2, c3 = torch.broadcast_tensors(*counter)  # type: ignore[no-untyped-call]
    k0, k1 = key
    for _ in range(_ROUNDS):
        # A 64-bit product may pass 2^63: its bits are right all the same, and the mask drops the
        # sign that the shift drags in.
        product0, product1 = c0 * _M0, c2 * _M1
        c0 = ((product1 >> 32) & MASK) ^ c1 ^ k0
        c2 = ((product0 >> 32) & MASK) ^ c3 ^ k1
        c1, c3 = product1 & MASK, product0 & MASK
        k0, k1 = (k0 + _W0) & MASK, (k1 + _W1) & MASK
    return torch.stack((c0, c1, c2, c3), dim=-1)


def normals(words: Tensor) -> Tensor:
    """Turn words into standard normals, two a pair.

    Args:
        words: ``[…, 2n]`` int64.

    Returns:
        ``[…, 2n]`` float32.

    Source: Box and Muller; the layout is that of ``kernels.random``.
    """
    pairs = words.view(*words.shape[:-1], -1, 2).double() * 2.0**-32
    radius = torch.sqrt(-2.0 * torch.log(pairs[..., 0] + 2.0**-32))
    angle = 2.0 * math.pi * pairs[..., 1]
    both = torch.stack((radius * torch.cos(angle), radius * torch.sin(angle)), dim=-1)
    return both.float().flatten(-2)


class _Tables:
    """The rows of all seeds on the device; a dataset that seeds share is there once."""

    def __init__(self, datasets: Sequence[Dataset], device: torch.device) -> None:
        unique = list({id(data): data for data in datasets}.values())
        sizes = [len(data.table) for data in unique]
        first_row = dict(zip(map(id, unique), np.cumsum([0, *sizes]).tolist(), strict=False))
        whole = unique[0].table if len(unique) == 1 else np.concatenate([d.table for d in unique])
        self.rows = torch.from_numpy(whole).to(device)
        slots = max(len(data.task_ids) for data in datasets)
        self.num_slots = torch.tensor([len(d.task_ids) for d in datasets], device=device)
        self.index: dict[str, Tensor] = {}
        self.starts: dict[str, Tensor] = {}
        self.counts: dict[str, Tensor] = {}
        for name in ("replay", "context"):
            index: list[np.ndarray] = []
            starts = np.zeros((len(datasets), slots), dtype=np.int64)
            counts = np.zeros((len(datasets), slots), dtype=np.int64)
            for place, data in enumerate(datasets):
                rows = getattr(data, name)
                num = len(rows.counts)
                starts[place, :num] = rows.starts[:-1] + sum(map(len, index))
                counts[place, :num] = rows.counts
                index.append(rows.index + first_row[id(data)])
            self.index[name] = torch.from_numpy(np.concatenate(index)).to(device)
            self.starts[name] = torch.from_numpy(starts).to(device)
            self.counts[name] = torch.from_numpy(counts).to(device)


def table_bytes(datasets: Sequence[Dataset]) -> int:
    """Tell how much device memory the rows of some datasets take.

    Args:
        datasets: One a seed; shared ones count once.

    Returns:
        Bytes.
    """
    unique = {id(data): data for data in datasets}.values()
    indices = sum(data.replay.index.nbytes + data.context.index.nbytes for data in datasets)
    return indices + sum(data.table.nbytes for data in unique)


class DeviceSampler:
    """Draws the meta-batches of K successive updates of S seeds on one device.

    Args:
        datasets: What each seed draws from.
        config: Meta-batch sizes.
        latent_dim: Length of z.
        seeds: Name the streams.
        device: Where.
        chunk: K.
    """

    def __init__(
        self,
        datasets: Sequence[Dataset],
        config: LearnerConfig | PearlConfig,
        latent_dim: int,
        seeds: Sequence[int],
        device: torch.device,
        chunk: int,
    ) -> None:
        dims = batch_dims(config, datasets[0], latent_dim)
        self.dims, self.device, self.chunk, self.num_seeds = dims, device, chunk, len(seeds)
        self.update = torch.zeros((), dtype=torch.int64, device=device)
        keys = [stream_key(seed) for seed in seeds]
        self._key = [
            torch.tensor([key >> shift & MASK for key in keys], device=device)[None, :, None]
            for shift in (0, 32)
        ]
        self._lengths = {
            TASK_DRAWS: dims["reward"][0],
            REPLAY_ROWS: math.prod(dims["reward"]),
            CONTEXT_ROWS: math.prod(dims["context"][:2]),
        } | {purpose: math.prod(dims[name]) for purpose, name in NOISES}
        self._blocks = [-(-length // 4) for length in self._lengths.values()]
        places = [torch.arange(count) for count in self._blocks]
        purposes = torch.tensor(list(self._lengths)).repeat_interleave(torch.tensor(self._blocks))
        self._counter = [torch.cat(places).to(device), purposes.to(device)]
        self._tables: _Tables | None = None
        self.set_datasets(datasets)

    def set_datasets(self, datasets: Sequence[Dataset]) -> None:
        """Draw from other datasets from now on.

        Args:
            datasets: What each seed draws from.

        Raises:
            ValueError: Not one a seed.
        """
        if len(datasets) != self.num_seeds:
            raise ValueError(f"{len(datasets)} datasets for {self.num_seeds} seeds")
        self._tables = None  # the old ones go before the new ones come
        self._tables = _Tables(datasets, self.device)

    @property
    def tables(self) -> _Tables:
        """The rows on the device."""
        assert self._tables is not None
        return self._tables

    def prepare(self, update: int) -> None:
        """Name the first update of the next chunk.

        Args:
            update: Its number since the beginning of training.
        """
        self.update.fill_(update)

    def fill(self) -> Batch:
        """Draw the chunk that was named; nothing here waits for the device.

        Returns:
            Batches of K updates ``[K, S, …]``.
        """
        words = self._words()
        tables, (tasks, rows) = self.tables, self.dims["reward"]
        task = _below(words[TASK_DRAWS][..., :tasks], tables.num_slots[None, :, None])
        records = tables.rows[self._rows("replay", words[REPLAY_ROWS], task, rows)]
        obs, action = self.dims["obs"][-1], self.dims["action"][-1]
        used = records[..., : 2 * obs + action + 2]  # without the padding
        parts = torch.split(used, [obs, action, 1, obs, 1], dim=-1)
        size, features = self.dims["context"][1:]
        context = tables.rows[self._rows("context", words[CONTEXT_ROWS], task, size)]
        lead = (self.chunk, self.num_seeds)
        noise = {
            name: normals(words[purpose])[..., : self._lengths[purpose]].reshape(
                *lead, *self.dims[name]
            )
            for purpose, name in NOISES
        }
        return Batch(
            task=task,
            obs=parts[0],
            action=parts[1],
            reward=parts[2][..., 0],
            next_obs=parts[3],
            terminated=parts[4][..., 0],
            context=context[..., :features],  # the encoder reads the first columns
            **noise,
        )

    def _words(self) -> dict[int, Tensor]:
        """Draw every word of the chunk at once: by purpose ``[K, S, whole blocks]``."""
        update = (self.update + torch.arange(self.chunk, device=self.device))[:, None, None]
        counter = (*self._counter, update & MASK, update >> 32)
        parts = torch.split(philox(counter, self._key), self._blocks, dim=2)
        return {
            purpose: part.flatten(2) for purpose, part in zip(self._lengths, parts, strict=True)
        }

    def _rows(self, name: str, words: Tensor, task: Tensor, size: int) -> Tensor:
        """Choose the rows of each drawn task: ``[K, S, M, size]`` row numbers."""
        tables = self.tables
        place = torch.arange(self.num_seeds, device=self.device)[None, :, None]
        start, count = tables.starts[name][place, task], tables.counts[name][place, task]
        drawn = words[..., : task.shape[-1] * size].reshape(*task.shape, size)
        index: Tensor = tables.index[name][start[..., None] + _below(drawn, count[..., None])]
        return index


def _below(words: Tensor, count: Tensor) -> Tensor:
    """Turn words into indices below ``count``, as ``kernels.random.index_below`` does."""
    return (words * count) >> 32
