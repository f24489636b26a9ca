"""How updates are fed and taken: one by one on the CPU, many a captured graph on a GPU.

An engine's updates are the same whichever it is: batch n is a function of (seed, n) alone, and the
learner's ``update`` is the same code. So a run may stop in one and go on in another.
"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor

from smac_core.config import LearnerConfig, PearlConfig
from smac_core.dataset import Dataset
from smac_core.device_sampler import DeviceSampler, table_bytes
from smac_core.learner import Batch
from smac_core.sampler import HostBuffers, HostSampler, allocate

MEMORY_SHARE = 0.5  # of the free device memory that the data may take before they stay on the host
WARM_UP = 3  # updates before a capture, in which the libraries allocate their workspaces


@runtime_checkable
class Updatable(Protocol):
    """A learner as an engine sees it."""

    device: torch.device
    num_updates: int
    metrics: dict[str, Tensor]

    def update(self, batch: Batch) -> None:
        """Take one gradient step."""


@runtime_checkable
class Engine(Protocol):
    """Takes updates."""

    def advance(self, limit: int) -> None:
        """Take at least one update and at most ``limit``."""

    def set_datasets(self, datasets: Sequence[Dataset]) -> None:
        """Draw from other datasets, one a seed, from now on."""


class HostEngine:
    """One update at a time, from batches that compiled code draws: the CPU's way.

    Args:
        learner: What is trained.
        sampler: Draws its batches.
    """

    def __init__(self, learner: Updatable, sampler: HostSampler) -> None:
        self.learner, self.sampler = learner, sampler

    def advance(self, limit: int) -> None:
        """Take one update.

        Args:
            limit: At least one.
        """
        self.learner.update(self.sampler.draw(self.learner.num_updates))

    def set_datasets(self, datasets: Sequence[Dataset]) -> None:
        """Draw from other datasets from now on.

        Args:
            datasets: One a seed.
        """
        self.sampler.set_datasets(datasets)


@runtime_checkable
class ChunkSource(Protocol):
    """Batches of K successive updates on the learner's device."""

    chunk: int

    def prepare(self, update: int) -> None:
        """Name the first update of the next chunk."""

    def fill(self) -> Batch:
        """Return its batches ``[K, S, …]``, without waiting for the device."""

    def set_datasets(self, datasets: Sequence[Dataset]) -> None:
        """Draw from other datasets, one a seed, from now on."""


@dataclass
class _Stage:
    """One of two places in which a chunk waits."""

    host: Batch
    device: Batch
    updates: list[HostBuffers]
    copied: torch.cuda.Event | None  # the copy to the device is over
    taken: torch.cuda.Event | None  # the learner has its own copy


class PrefetchSource:
    """Chunks of data that do not fit the device: drawn on the host by a thread, copied ahead.

    Args:
        sampler: Draws the batches.
        device: Where they go.
        chunk: K.
    """

    def __init__(self, sampler: HostSampler, device: torch.device, chunk: int) -> None:
        self.sampler, self.device, self.chunk = sampler, device, chunk
        self._cuda = device.type == "cuda"
        self._copies = torch.cuda.Stream(device) if self._cuda else None  # type: ignore[no-untyped-call]
        lead = (chunk, len(sampler.keys))
        self.batch = allocate(sampler.dims, lead, device)
        self._stages = [self._stage(lead) for _ in range(2)]
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="prefetch")
        self._pending: tuple[int, int, Future[None]] | None = None  # first update, stage, its job

    def _stage(self, lead: tuple[int, ...]) -> _Stage:
        host = allocate(self.sampler.dims, lead, torch.device("cpu"), pinned=self._cuda)
        event = [torch.cuda.Event(blocking=True) if self._cuda else None for _ in range(2)]  # type: ignore[no-untyped-call]
        device = allocate(self.sampler.dims, lead, self.device) if self._cuda else host
        updates = [HostBuffers(Batch(*(tensor[k] for tensor in host))) for k in range(self.chunk)]
        return _Stage(host, device, updates, *event)

    def set_datasets(self, datasets: Sequence[Dataset]) -> None:
        """Draw from other datasets from now on; what was drawn ahead is dropped.

        Args:
            datasets: One a seed.
        """
        self._drop()
        self.sampler.set_datasets(datasets)

    def _drop(self) -> None:
        pending, self._pending = self._pending, None
        if pending is not None:
            wait([pending[2]])  # a fault of what is dropped does not matter

    def _draw(self, first: int, stage: _Stage) -> None:
        """Fill one stage: the thread's work."""
        if stage.taken is not None:
            stage.taken.synchronize()
        for k, buffers in enumerate(stage.updates):
            self.sampler.draw(first + k, buffers)
        if self._copies is not None and stage.copied is not None:
            with torch.cuda.stream(self._copies):
                for target, source in zip(stage.device, stage.host, strict=True):
                    target.copy_(source, non_blocking=True)
                stage.copied.record(self._copies)
            stage.copied.synchronize()  # the host's buffers are free again

    def _begin(self, first: int, number: int) -> None:
        self._pending = (
            first,
            number,
            self._thread.submit(self._draw, first, self._stages[number]),
        )

    def prepare(self, update: int) -> None:
        """Bring the chunk to its fixed place, and begin with the one after it.

        Args:
            update: Number of its first update.
        """
        if self._pending is None or self._pending[0] != update:
            self._drop()
            self._begin(update, 0)
        assert self._pending is not None
        (_, number, job), self._pending = self._pending, None
        job.result()
        stage = self._stages[number]
        if stage.copied is not None:
            torch.cuda.current_stream(self.device).wait_event(stage.copied)
        for target, source in zip(self.batch, stage.device, strict=True):
            target.copy_(source, non_blocking=True)
        if stage.taken is not None:
            stage.taken.record(torch.cuda.current_stream(self.device))
        self._begin(update + self.chunk, 1 - number)

    def fill(self) -> Batch:
        """Return the chunk that was brought."""
        return self.batch


class ChunkEngine:
    """K updates at a time from batches drawn together; on a GPU as one captured CUDA graph.

    Args:
        learner: What is trained.
        source: Draws its batches.
        capture: Whether whole chunks are captured and replayed; the code is the same without.
    """

    def __init__(self, learner: Updatable, source: ChunkSource, *, capture: bool) -> None:
        self.learner, self.source, self.capture = learner, source, capture
        self.graph: torch.cuda.CUDAGraph | None = None
        self._graph_metrics: dict[str, Tensor] = {}  # where a replay leaves them
        self._warmed_up = 0

    def set_datasets(self, datasets: Sequence[Dataset]) -> None:
        """Draw from other datasets from now on.

        Args:
            datasets: One a seed.
        """
        self.graph = None  # it holds the addresses of the tables
        self.source.set_datasets(datasets)

    def advance(self, limit: int) -> None:
        """Take a chunk, or what is allowed of it.

        Args:
            limit: Most updates to take.
        """
        chunk = self.source.chunk
        self.source.prepare(self.learner.num_updates)
        if not self.capture or limit < chunk:
            self._take(min(limit, chunk))
        elif self._warmed_up < WARM_UP:
            self._warm_up(chunk)
        else:
            if self.graph is None:
                self.graph = self._captured()
            self.graph.replay()
            self.learner.num_updates += chunk
            self.learner.metrics = self._graph_metrics

    def _take(self, count: int) -> None:
        batches = self.source.fill()
        for k in range(count):
            self.learner.update(Batch(*(tensor[k] for tensor in batches)))

    def _warm_up(self, chunk: int) -> None:
        """Take real updates on a side stream, as a capture asks for."""
        side = torch.cuda.Stream(self.learner.device)  # type: ignore[no-untyped-call]
        side.wait_stream(torch.cuda.current_stream(self.learner.device))
        with torch.cuda.stream(side):
            self._take(chunk)
        torch.cuda.current_stream(self.learner.device).wait_stream(side)
        self._warmed_up += chunk

    def _captured(self) -> torch.cuda.CUDAGraph:
        """Record one chunk; recording computes nothing, so the count is put back."""
        before = self.learner.num_updates
        graph = torch.cuda.CUDAGraph()
        # The thread that draws ahead goes on meanwhile, and its waiting must not void the capture.
        # A stream of its own: workspaces of a shared one go with the first graph that does.
        stream = torch.cuda.Stream(self.learner.device)  # type: ignore[no-untyped-call]
        try:
            with torch.cuda.graph(graph, stream=stream, capture_error_mode="thread_local"):
                self._take(self.source.chunk)
        finally:
            self.learner.num_updates = before
        self._graph_metrics = self.learner.metrics
        return graph


def data_fit(datasets: Sequence[Dataset], device: torch.device) -> bool:
    """Tell whether the rows may live on the device.

    Args:
        datasets: One a seed.
        device: A CUDA device.

    Returns:
        True where they take less than half of its free memory.
    """
    free, _ = torch.cuda.mem_get_info(device)
    return table_bytes(datasets) < MEMORY_SHARE * free


def make_engine(
    learner: Updatable,
    datasets: Sequence[Dataset],
    config: LearnerConfig | PearlConfig,
    latent_dim: int,
    seeds: Sequence[int],
    log_every: int,
) -> Engine:
    """Choose how a learner is fed.

    Args:
        learner: On the device where it computes.
        datasets: What each of its seeds draws from.
        config: Meta-batch sizes, ``data_on`` and ``updates_per_graph``.
        latent_dim: Length of z.
        seeds: Name the streams of the batches.
        log_every: Most updates that one call of ``advance`` will be allowed.

    Returns:
        The engine.
    """
    device = learner.device
    if device.type == "cpu":
        return HostEngine(learner, HostSampler(datasets, config, latent_dim, seeds))
    # A chunk is never cut by a row of metrics, so that every update of a long run is captured.
    most = min(config.updates_per_graph, log_every)
    chunk = max(n for n in range(1, most + 1) if log_every % n == 0)
    source: ChunkSource
    if config.data_on == "device" or (config.data_on == "auto" and data_fit(datasets, device)):
        source = DeviceSampler(datasets, config, latent_dim, seeds, device, chunk)
    else:
        sampler = HostSampler(datasets, config, latent_dim, seeds)
        source = PrefetchSource(sampler, device, chunk)
    return ChunkEngine(learner, source, capture=True)
