"""One phase of training, from a prepared learner to checkpoint, metrics and manifest."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path

import torch

from pipeline.checkpoint import write_checkpoint
from pipeline.manifest import path_digest
from pipeline.stage import StageRun, lock
from pipeline.training import resume_state, single_thread, train, write_metrics
from smac_core.config import LearnerConfig
from smac_core.learner import Learner, resolve_device
from smac_core.sampler import HostSampler


def prepare(config: LearnerConfig) -> torch.device:
    """Set torch up for this process.

    Args:
        config: Asks for a device and a precision.

    Returns:
        The device.

    Raises:
        ConfigError: ``cuda`` was asked for and there is none.
    """
    single_thread(config.matmul_precision)
    return resolve_device(config.device)


def train_phase(
    stage: StageRun,
    learner: Learner,
    sampler: HostSampler,
    *,
    label: str,
    inputs: Mapping[str, Path],
    metadata: Mapping[str, object],
) -> None:
    """Take the configured updates, resuming where a killed run stopped, and write the outputs.

    Args:
        stage: The running stage; its section has ``updates`` and ``learner``.
        learner: At the state from which this phase starts.
        sampler: Draws its batches.
        label: For the progress line.
        inputs: Every file and store that the result depends on, by name.
        metadata: What the checkpoint says of itself.

    Raises:
        NonFiniteError: A loss is not finite.
        OutputError: The folder cannot be written, or another process writes there.
    """
    out: Path = stage.args.out
    config = stage.section
    total = learner.num_updates + config.updates
    key = {
        "section": asdict(config),
        "seed": stage.seed,
        "code": stage.code_digest,
        "inputs": {name: path_digest(path) for name, path in inputs.items()},
    }
    with lock(out.parent):
        resume = resume_state(out, key)
        train(
            learner,
            lambda update: learner.update(sampler.draw(update)),
            total,
            config.learner.log_every,
            resume,
            label,
        )
        write_checkpoint(out, learner.state(), metadata)
        metrics = out.parent / "metrics.csv"
        write_metrics(metrics, resume.rows)
        stage.finish(
            inputs,
            {"checkpoint": out, "metrics": metrics},
            {"device": str(learner.device), "updates": config.updates},
        )
        resume.clear()
