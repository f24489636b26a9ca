"""The loop around a learner, a resume state beside the declared output, and what is written."""

from __future__ import annotations

import hashlib
import shutil
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np
import torch

from pipeline.checkpoint import read_checkpoint, write_checkpoint
from pipeline.cli import Progress
from pipeline.files import json_bytes, write_text
from pipeline.stage import StageRun
from smac_core.errors import CheckpointError

SAVE_SECONDS = 30.0  # between resume states; what a kill can lose
SAVE_EVERY = 50  # updates between looks at the clock
COUNTERS = ("environment_steps", "iteration", "update")  # the first columns of metrics.csv


@runtime_checkable
class Updates(Protocol):
    """A learner of one seed or of several, as the loop sees it."""

    num_updates: int

    def read_metrics(self) -> list[dict[str, float]]:
        """Read the last update's metrics of each seed."""

    def state(self, seed: int = 0) -> dict[str, np.ndarray]:
        """Copy everything that the next update of one seed depends on."""

    def load_state(self, state: Mapping[str, np.ndarray], seed: int = 0) -> None:
        """Restore what ``state`` copied."""


class Advances(Protocol):
    """Takes updates: an engine of ``smac_core.engine``, or a learner that feeds itself."""

    def advance(self, limit: int) -> None:
        """Take at least one update and at most ``limit``."""


@dataclass
class Resume:
    """The state of a long stage, in a folder that Snakemake does not know and so does not delete.

    Args:
        folder: Where; named after everything that the run depends on.
        rows: Metrics so far.
        saved: ``time.monotonic()`` of the last state.
    """

    folder: Path
    rows: list[dict[str, float]] = field(default_factory=list)
    saved: float = field(default_factory=time.monotonic)

    @property
    def path(self) -> Path:
        """The state file."""
        return self.folder / "state.safetensors"

    def load(self) -> dict[str, np.ndarray] | None:
        """Read the state of a killed run.

        Returns:
            Its arrays, or None where there is none.

        Raises:
            CheckpointError: The state is damaged.
        """
        if not self.path.exists():
            return None
        try:
            checkpoint = read_checkpoint(self.path)
        except CheckpointError as error:
            raise CheckpointError(
                "the state of a killed run is damaged",
                where=self.path,
                fix=f"remove {self.folder} to begin anew",
            ) from error
        self.rows = list(checkpoint.metadata["rows"])
        return checkpoint.tensors

    def due(self) -> bool:
        """Tell whether the last state is old."""
        return time.monotonic() - self.saved >= SAVE_SECONDS

    def save(self, state: Mapping[str, np.ndarray]) -> None:
        """Write the state.

        Args:
            state: Arrays to restore from.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        write_checkpoint(self.path, state, {"rows": self.rows})
        self.saved = time.monotonic()

    def clear(self) -> None:
        """Forget the state, after the outputs are in place."""
        shutil.rmtree(self.folder, ignore_errors=True)


def resume_state(out: Path, key: Mapping[str, object]) -> Resume:
    """Name the resume folder of a run.

    Args:
        out: The declared output.
        key: Everything the result depends on: configuration, seed, code and input digests.

    Returns:
        The resume state, not yet loaded; states of other keys are removed.
    """
    digest = hashlib.sha256(json_bytes(dict(key))).hexdigest()[:16]
    folder = out.parent / f".resume-{digest}"
    for other in out.parent.glob(".resume-*"):
        if other != folder:
            shutil.rmtree(other, ignore_errors=True)
    return Resume(folder)


def single_thread(precision: str) -> None:
    """Compute with one thread a process; two seeds side by side use two cores.

    Args:
        precision: Of float32 matrix products: highest, high or medium.
    """
    torch.set_num_threads(1)
    torch.set_float32_matmul_precision(precision)


def train(
    learner: Updates,
    engine: Advances,
    total: int,
    log_every: int,
    resumes: Sequence[Resume],
    label: str,
) -> None:
    """Take updates until there are so many, from the resume states where there are any.

    Args:
        learner: What is trained.
        engine: Takes its updates; each is a function of its number alone.
        total: Number of updates at the end, counted since training began.
        log_every: Updates between rows of metrics.
        resumes: For each seed where its state goes, and its metrics.
        label: For the progress line.

    Raises:
        NonFiniteError: A loss is not finite, seen at the logging interval.
    """
    _go_on(learner, resumes)
    first = learner.num_updates
    with Progress(label, max(total - first, 0)) as progress:
        while learner.num_updates < total:
            before = learner.num_updates
            engine.advance(min(total, before + log_every - before % log_every) - before)
            done = learner.num_updates
            if done % log_every == 0 or done == total:
                for resume, row in zip(resumes, learner.read_metrics(), strict=True):
                    resume.rows.append({"update": done, **row})
            progress.update(done - first)
            if done // SAVE_EVERY > before // SAVE_EVERY and resumes[0].due():
                for place, resume in enumerate(resumes):
                    resume.save(learner.state(place))


def _go_on(learner: Updates, resumes: Sequence[Resume]) -> None:
    """Load the states of a killed run, where every stacked seed has one of the same update."""
    states = [state for resume in resumes if (state := resume.load()) is not None]
    updates = {int(state["num_updates"][0]) for state in states}
    if len(states) == len(resumes) and len(updates) == 1:
        for place, state in enumerate(states):
            learner.load_state(state, place)
    else:
        for resume in resumes:
            resume.rows.clear()


def forget(resumes: Sequence[Resume]) -> None:
    """Clear the states of a job that is done.

    Not sooner: of a job that fails, Snakemake deletes the outputs of finished seeds too.

    Args:
        resumes: Of all its seeds.
    """
    for resume in resumes:
        resume.clear()


def offline_origin(stage: StageRun, algorithm: str) -> dict[str, object]:
    """Say where the checkpoint of a method without an online phase comes from.

    Args:
        stage: The running stage.
        algorithm: What its loader asks for.

    Returns:
        JSON metadata, to which a method adds its own.
    """
    return {
        "algorithm": algorithm,
        "env_id": stage.env.env_id,
        "obs_dim": stage.env.obs_dim,
        "action_dim": stage.env.action_dim,
        "method": stage.args.method,
        "seed": stage.args.seed,
        "round": 0,
        "self_supervised_steps": 0,
    }


def write_outputs(
    stage: StageRun,
    state: Mapping[str, np.ndarray],
    metadata: Mapping[str, object],
    rows: Sequence[Mapping[str, Any]],
    inputs: Mapping[str, Path],
    extra: Mapping[str, object],
) -> None:
    """Write one seed's checkpoint, metrics and manifest.

    Args:
        stage: The running stage.
        state: The checkpoint's arrays.
        metadata: What it says of itself.
        rows: Metrics.
        inputs: Files and stores read, by name.
        extra: More fields of the manifest.
    """
    out: Path = stage.args.out
    metrics = out.parent / "metrics.csv"
    write_checkpoint(out, state, metadata)
    write_metrics(metrics, rows)
    stage.finish(inputs, {"checkpoint": out, "metrics": metrics}, extra)


def write_metrics(path: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    """Write metrics as CSV, one column a name, counters first.

    Args:
        path: Where.
        rows: Metrics by name; a missing one is left empty.
    """
    # Sorted, because rows that went through a resume state have lost the order of their names.
    found = {name for row in rows for name in row}
    names = sorted(found, key=lambda name: (name not in COUNTERS, name))
    lines = [",".join(names)]
    for row in rows:
        cells = [row.get(name, "") for name in names]
        lines.append(",".join(repr(c) if isinstance(c, float) else str(c) for c in cells))
    write_text(path, "\n".join(lines) + "\n")
