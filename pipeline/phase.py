"""One phase of training, from prepared data to checkpoint, metrics and manifest of each seed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch

from pipeline.checkpoint import write_checkpoint
from pipeline.manifest import path_digest
from pipeline.stage import StageRun, lock
from pipeline.training import Resume, resume_state, single_thread, train, write_metrics
from smac_core.config import LearnerConfig, NetworkConfig
from smac_core.dataset import Dataset
from smac_core.engine import make_engine
from smac_core.errors import CheckpointError
from smac_core.learner import Learner, resolve_device, seeds_together
from smac_core.networks import Shapes


@dataclass(frozen=True)
class SeedPhase:
    """One seed's part of a phase.

    Args:
        stage: The running stage; its section has ``updates`` and ``learner``.
        data: What this seed draws from; seeds that see the same rows should share the object.
        inputs: Every file and store that the result depends on, by name.
        metadata: What the checkpoint says of itself.
        state: The learner's state from which this phase starts; None: its initial parameters.
    """

    stage: StageRun
    data: Dataset
    inputs: Mapping[str, Path]
    metadata: Mapping[str, object]
    state: Mapping[str, np.ndarray] | None = None

    @property
    def seed(self) -> int:
        """The method's seed."""
        assert self.stage.seed is not None
        return self.stage.seed

    def resume(self) -> Resume:
        """Name where this seed's state goes during the phase."""
        key = {
            "section": asdict(self.stage.section),
            "seed": self.seed,
            "code": self.stage.code_digest,
            "inputs": {name: path_digest(path) for name, path in self.inputs.items()},
        }
        return resume_state(self.stage.args.out, key)


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
    phases: Sequence[SeedPhase],
    shapes: Shapes,
    networks: NetworkConfig,
    device: torch.device,
    label: str,
) -> None:
    """Take the configured updates, resuming where a killed run stopped, and write the outputs.

    Args:
        phases: One a seed, of the same stage and configuration.
        shapes: Sizes of the environment.
        networks: Hidden widths.
        device: Where to compute.
        label: For the progress line.

    Raises:
        CheckpointError: A state does not fit the networks.
        NonFiniteError: A loss is not finite.
        OutputError: A folder cannot be written, or another process writes there.
    """
    of_seed = {phase.seed: phase for phase in phases}
    for seeds in seeds_together(list(of_seed), device):
        together = [of_seed[seed] for seed in seeds]
        with ExitStack() as locks:
            for phase in together:
                locks.enter_context(lock(phase.stage.args.out.parent))
            _train_together(together, shapes, networks, device, label)


def _train_together(
    phases: Sequence[SeedPhase],
    shapes: Shapes,
    networks: NetworkConfig,
    device: torch.device,
    label: str,
) -> None:
    config = phases[0].stage.section
    seeds = [phase.seed for phase in phases]
    learner = Learner(shapes, networks, config.learner, seeds, device)
    for place, phase in enumerate(phases):
        if phase.state is not None:
            _load(learner, phase, place)
    _check_equally_far(phases)
    total = learner.num_updates + config.updates
    resumes = [phase.resume() for phase in phases]
    data = [phase.data for phase in phases]
    every = config.learner.log_every
    engine = make_engine(learner, data, config.learner, networks.latent_dim, seeds, every)
    train(learner, engine, total, every, resumes, label)
    for place, (phase, resume) in enumerate(zip(phases, resumes, strict=True)):
        _write(phase, resume, learner.state(place), device)
    for resume in resumes:  # only now: stacked seeds go on together or not at all
        resume.clear()


def _check_equally_far(phases: Sequence[SeedPhase]) -> None:
    """Refuse to stack seeds whose checkpoints took different numbers of updates."""
    found = {0 if p.state is None else int(p.state["num_updates"][0]) for p in phases}
    if len(found) > 1:
        raise CheckpointError(
            "stacked seeds whose checkpoints are not equally far",
            where=phases[0].inputs.get("checkpoint"),
            expected="the same number of updates",
            found=", ".join(map(str, sorted(found))),
            fix="set seeds_per_learner: 1, or make the older checkpoints again",
        )


def _load(learner: Learner, phase: SeedPhase, place: int) -> None:
    assert phase.state is not None
    try:
        learner.load_state(phase.state, place)
    except (KeyError, ValueError) as error:
        raise CheckpointError(
            "checkpoint without the learner's state",
            where=phase.inputs.get("checkpoint"),
            found=str(error).splitlines()[0],
            fix="pass a checkpoint of meta_train or finetune",
        ) from error


def _write(
    phase: SeedPhase, resume: Resume, state: Mapping[str, np.ndarray], device: torch.device
) -> None:
    """Write one seed's outputs."""
    out: Path = phase.stage.args.out
    metrics = out.parent / "metrics.csv"
    write_checkpoint(out, state, phase.metadata)
    write_metrics(metrics, resume.rows)
    phase.stage.finish(
        phase.inputs,
        {"checkpoint": out, "metrics": metrics},
        {"device": str(device), "updates": phase.stage.section.updates},
    )
