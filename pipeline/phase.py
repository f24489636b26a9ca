"""One phase of training, from prepared data to checkpoint, metrics and manifest of each seed."""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch

from pipeline.sections import FinetuneConfig, MetaTrainConfig
from pipeline.stage import StageRun, begin_seeds, one_by_one
from pipeline.training import Resume, forget, resume_state, single_thread, train, write_outputs
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
        networks: Hidden widths.
        data: What this seed draws from; seeds that see the same rows should share the object.
        inputs: Every file and store that the result depends on, by name.
        metadata: What the checkpoint says of itself.
        state: The learner's state from which this phase starts; None: its initial parameters.
    """

    stage: StageRun
    networks: NetworkConfig
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
        return resume_state(self.stage.args.out, self.stage.key(self.inputs))


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


def train_seeds(
    stage: str, args: argparse.Namespace, read: Callable[[StageRun], SeedPhase], label: str
) -> None:
    """Take every seed's updates, resuming where a killed run stopped, and write the outputs.

    Args:
        stage: Name of the stage.
        args: The command line, parsed with ``many_seeds``.
        read: Reads what one seed's phase starts from.
        label: For the progress line.

    Raises:
        CheckpointError: A state does not fit the networks.
        NonFiniteError: A loss is not finite.
        OutputError: A folder cannot be written, or another process writes there.
    """
    with begin_seeds(stage, args) as runs:
        device = prepare(runs[0].section.learner)
        of_seed = {run.args.seed: run for run in runs}
        resumes: list[Resume] = []
        for number, seeds in enumerate(seeds_together(list(of_seed), device)):
            first, *others = (of_seed[seed] for seed in seeds)
            # What ran before the first group is the job's own start, and counts for its first seed.
            first = replace(first, started=time.monotonic()) if number else first
            turn = one_by_one([first, *others])
            keep = len(runs) > 1
            resumes += _train_together([read(run) for run in turn], device, label, keep=keep)
        forget(resumes)


def _train_together(
    phases: Sequence[SeedPhase], device: torch.device, label: str, *, keep: bool
) -> list[Resume]:
    """Train seeds in one learner and write their outputs; `keep` a state to write them again."""
    _check_equally_far(phases)
    resumes = [phase.resume() for phase in phases]
    spans = _spans(phases[0].stage.section)
    for number, (config, updates) in enumerate(spans):
        states = _train_span(phases, config, updates, device, resumes, label)
        # What follows begins from the resume state, wherever a run was killed.
        if keep or number + 1 < len(spans):
            for resume, state in zip(resumes, states, strict=True):
                resume.save(state)
    for phase, resume, state in zip(phases, resumes, states, strict=True):
        _write(phase, resume, state, device)
    return resumes


def _spans(section: MetaTrainConfig | FinetuneConfig) -> list[tuple[LearnerConfig, int]]:
    """Cut a phase where encoder and decoder stop learning: settings, and updates at the end."""
    whole = (section.learner, section.updates)
    stop = section.model_updates if isinstance(section, MetaTrainConfig) else None
    if stop is None or stop >= section.updates or not section.learner.train_model:
        return [whole]
    return [(section.learner, stop), (replace(section.learner, train_model=False), whole[1])]


def _train_span(
    phases: Sequence[SeedPhase],
    config: LearnerConfig,
    updates: int,
    device: torch.device,
    resumes: Sequence[Resume],
    label: str,
) -> list[dict[str, np.ndarray]]:
    """Train until the phase has had so many updates; return the state of each seed."""
    networks, env = phases[0].networks, phases[0].stage.env
    seeds, every = [phase.seed for phase in phases], config.log_every
    learner = Learner(Shapes(env.obs_dim, env.action_dim), networks, config, seeds, device)
    for place, phase in enumerate(phases):
        if phase.state is not None:
            _load(learner, phase, place)
    total = learner.num_updates + updates
    data = [phase.data for phase in phases]
    engine = make_engine(learner, data, config, networks.latent_dim, seeds, every)
    train(learner, engine, total, every, resumes, label)
    return [learner.state(place) for place in range(len(phases))]


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
    extra = {"device": str(device), "updates": phase.stage.section.updates}
    write_outputs(phase.stage, state, phase.metadata, resume.rows, phase.inputs, extra)
