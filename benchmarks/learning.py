"""Rows ``learner-offline`` and ``learner-online``: updates a second against the transcription."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Callable, Iterator

import numpy as np
import torch

from benchmarks.measure import Effort, Label, Row, Work, interleave, make_row
from benchmarks.transcription import Transcription
from smac_core.config import LearnerConfig, NetworkConfig
from smac_core.learner import Batch, Learner
from smac_core.networks import Shapes

ANT = Shapes(obs_dim=27, action_dim=8)  # smac-reference section 7
OFFLINE = LearnerConfig(rows_per_task=128, target_latent="fresh")
ONLINE = dataclasses.replace(
    OFFLINE, rows_per_task=256, policy_gradient_weight=1.0, train_model=False
)
PAPER = NetworkConfig()
SMALL = NetworkConfig(
    encoder=(64, 64), decoder=(64, 64), critic=(128, 128), policy=(128, 128)
)  # the default preset
PRECISIONS = ("highest", "medium")


def random_batch(
    shapes: Shapes, networks: NetworkConfig, config: LearnerConfig, seed: int
) -> Batch:
    """Draw a meta-batch of noise.

    Args:
        shapes: Sizes of the environment.
        networks: For the latent's length.
        config: Meta-batch sizes.
        seed: Of the draw.

    Returns:
        The batch, on the CPU.
    """
    rng = np.random.default_rng(seed)
    tasks, rows, size = config.num_tasks, config.rows_per_task, config.context_size
    obs, action, latent = shapes.obs_dim, shapes.action_dim, networks.latent_dim

    def normal(*dims: int) -> torch.Tensor:
        return torch.from_numpy(rng.standard_normal((1, *dims), dtype=np.float32))

    return Batch(
        task=torch.arange(tasks)[None],
        obs=normal(tasks, rows, obs),
        action=torch.tanh(normal(tasks, rows, action)),
        reward=normal(tasks, rows),
        next_obs=normal(tasks, rows, obs),
        terminated=(normal(tasks, rows) > 2.0).float(),
        context=normal(tasks, size, obs + action + 1),
        latent_noise=normal(tasks, latent),
        next_latent_noise=normal(tasks, latent),
        action_noise=normal(tasks * rows, action),
        next_action_noise=normal(tasks * rows, action),
    )


def _device_name(device: torch.device) -> str:
    return torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu"


def _work(update: Callable[[Batch], None], batch: Batch, precision: str) -> Work:
    """Take updates under one precision of float32 matrix products."""

    def call() -> int:
        torch.set_float32_matmul_precision(precision)
        update(batch)
        return 1

    def finish() -> None:
        if batch.obs.is_cuda:
            torch.cuda.synchronize()

    return Work(call, finish=finish)


def _compare(
    name: str,
    size: str,
    networks: NetworkConfig,
    config: LearnerConfig,
    device: torch.device,
    effort: Effort,
) -> Iterator[Row]:
    """Measure both updates under every precision, all in turns."""
    batch = Batch(*(x.to(device) for x in random_batch(ANT, networks, config, seed=0)))
    alone = Batch(*(x[0] for x in batch))  # the published code has no axis of seeds
    works = []
    for precision in PRECISIONS:
        learner = Learner(ANT, networks, config, [0], device)
        plain = Transcription(ANT, networks, config, learner.state(), device)
        works += [_work(learner.update, batch, precision), _work(plain.update, alone, precision)]
    before = torch.get_float32_matmul_precision()
    seconds = interleave(works, effort)
    torch.set_float32_matmul_precision(before)
    for mine, theirs in (("highest", "highest"), ("medium", "highest"), ("medium", "medium")):
        label = Label(
            name,
            f"{size}, {mine}",
            "updates/s",
            device=_device_name(device),
            series=f"{size.partition(',')[0]}, {mine}, rows a task",
            count=config.rows_per_task,
        )
        columns = (2 * PRECISIONS.index(mine), 2 * PRECISIONS.index(theirs) + 1)
        yield make_row(
            label, f"published update, {theirs}", seconds[:, columns[0]], seconds[:, columns[1]]
        )


def rows(name: str, effort: Effort) -> Iterator[Row]:
    """Measure the learner at the paper's sizes, at half of them, and at the default preset's.

    Args:
        name: ``learner-offline`` or ``learner-online``.
        effort: How long.

    Yields:
        One row a size, precision and device.
    """
    torch.set_num_threads(1)
    config = OFFLINE if name == "learner-offline" else ONLINE
    sizes = [("300x3", PAPER, config.rows_per_task)]
    if not effort.quick:
        sizes += [
            ("300x3", PAPER, config.rows_per_task // 4),
            ("300x3", PAPER, config.rows_per_task * 4),
            ("128x2", SMALL, 64),
        ]
    devices = [torch.device("cpu")]
    if torch.cuda.is_available():
        devices.append(torch.device("cuda"))
    for device, (widths, networks, count) in itertools.product(devices, sizes):
        sized = dataclasses.replace(config, rows_per_task=count)
        size = f"{widths}, {config.num_tasks} x {count} rows"
        yield from _compare(name, size, networks, sized, device, effort)
