"""The learner as a GPU runs it: operations an update, captured chunks, and stacked seeds.

Rows ``learner-operations`` count on any machine; rows ``learner-graph-…`` need CUDA and say nothing
without it.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any
from unittest.mock import patch

import torch
from torch.utils._python_dispatch import TorchDispatchMode

from benchmarks.learning import ANT, OFFLINE, ONLINE, PAPER, random_batch
from benchmarks.measure import Effort, Label, Row, Work, compare
from benchmarks.sampling import make_dataset
from benchmarks.transcription import Transcription
from smac_core.config import LearnerConfig
from smac_core.dense import run_network
from smac_core.device_sampler import DeviceSampler
from smac_core.engine import ChunkEngine
from smac_core.learner import Batch, Learner

CHUNK = 20  # updates a graph
SEEDS = (1, 4, 16)
# Operations that only describe memory anew; a GPU launches nothing for them.
VIEWS = {
    *("view", "_unsafe_view", "expand", "transpose", "t", "permute", "slice", "select", "split"),
    *("split_with_sizes", "unsqueeze", "squeeze", "detach", "alias", "as_strided", "unbind"),
}


class _Counter(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Counts operations that compute."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.operations: int = 0

    def __torch_dispatch__(
        self,
        func: Any,
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        self.operations += func.overloadpacket.__name__ not in VIEWS
        return func(*args, **(kwargs or {}))


def count_operations(update: Callable[[], None]) -> int:
    """Count the tensor operations of one update, about the kernels that a GPU would launch.

    Args:
        update: Takes it.

    Returns:
        How many, without views.
    """
    update()  # what happens once only
    with _Counter() as counter:
        update()
    return int(counter.operations)


def operation_rows(name: str, effort: Effort) -> Iterator[Row]:
    """Count what one update of each phase asks of the device.

    Args:
        name: ``learner-operations``.
        effort: Not needed: a count has no noise.

    Yields:
        One row a phase.
    """
    cpu = torch.device("cpu")
    for phase, config in (("offline", OFFLINE), ("online", ONLINE)):
        learner = Learner(ANT, PAPER, config, [0], cpu)
        plain = Transcription(ANT, PAPER, config, learner.state(), cpu)
        batch = random_batch(ANT, PAPER, config, seed=0)
        alone = Batch(*(x[0] for x in batch))
        with patch("smac_core.networks.run_network", partial(run_network, batched=True)):
            ours = count_operations(partial(learner.update, batch))  # as a GPU runs it
        theirs = count_operations(partial(plain.update, alone))
        yield Row(
            name,
            f"300x3, {phase}",
            1,
            "any",
            "published update",
            float(ours),
            float(theirs),
            "operations/update",
            theirs / ours,
            0.0,
        )


def make_chunks(
    config: LearnerConfig, seeds: int, device: torch.device, chunk: int, *, capture: bool
) -> ChunkEngine:
    """Build a learner of several seeds that draws its own batches.

    Args:
        config: Hyperparameters.
        seeds: How many are stacked.
        device: Where.
        chunk: Updates at a time.
        capture: Whether a chunk is one CUDA graph.

    Returns:
        The engine.
    """
    learner = Learner(ANT, PAPER, config, range(seeds), device)
    data = [make_dataset(ANT, tasks=100, rows_per_task=400)] * seeds
    source = DeviceSampler(data, config, PAPER.latent_dim, range(seeds), device, chunk)
    return ChunkEngine(learner, source, capture=capture)


def _advancing(engine: ChunkEngine, chunk: int, seeds: int) -> Work:
    def call() -> float:
        engine.advance(chunk)
        return float(chunk * seeds)

    def finish() -> None:
        if engine.learner.device.type == "cuda":
            torch.cuda.synchronize()

    return Work(call, finish)


def graph_rows(name: str, effort: Effort, device: torch.device | None = None) -> Iterator[Row]:
    """Measure captured chunks against the same updates taken one by one, batches included.

    Args:
        name: ``learner-graph-offline`` or ``learner-graph-online``.
        effort: How long.
        device: Where; None: CUDA where there is one, else nothing is measured.

    Yields:
        One row a number of stacked seeds and precision.
    """
    if device is None:
        if not torch.cuda.is_available():
            return
        device = torch.device("cuda")
    cuda = device.type == "cuda"
    config = OFFLINE if name.endswith("offline") else ONLINE
    if effort.quick:
        config = dataclasses.replace(config, rows_per_task=8, context_size=4)
    before = torch.get_float32_matmul_precision()
    try:
        for precision in ("highest", "high"):
            torch.set_float32_matmul_precision(precision)
            for seeds in SEEDS[:1] if effort.quick else SEEDS:
                captured = make_chunks(config, seeds, device, CHUNK, capture=cuda)
                eager = make_chunks(config, 1, device, 1, capture=False)
                for _ in range(3):  # warm-up and capture
                    captured.advance(CHUNK)
                where = torch.cuda.get_device_name(device) if cuda else "cpu"
                size = f"300x3, {config.rows_per_task} rows, {seeds} seeds, {precision}"
                label = Label(name, size, "seed-updates/s", device=where)
                against = {"one seed, eager": _advancing(eager, 1, 1)}
                yield from compare(label, _advancing(captured, CHUNK, seeds), against, effort)
    finally:
        torch.set_float32_matmul_precision(before)
