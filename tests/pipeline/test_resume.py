"""A long stage that is killed in the middle goes on, and ends with the bytes of a quiet run."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from pipeline import training
from pipeline.checkpoint import read_checkpoint
from smac_core.sampler import HostSampler

ROOT = Path(__file__).resolve().parents[2]

# Writes a state as often as it can, and dies either when update {update} begins or while the state
# file number {save} is put in its place.
DYING = """
import os, signal, sys
from pipeline import cli, files, training, {stage}
from smac_core.sampler import HostSampler

training.SAVE_SECONDS = 0.0
die = lambda: os.kill(os.getpid(), signal.SIGKILL)
draw, replace, saves = HostSampler.draw, files._replace, []

def draw_or_die(self, update, into=None):
    return die() if update == {update} else draw(self, update, into)

def replace_or_die(temporary, path):
    saves.append(path)
    return die() if len(saves) == {save} else replace(temporary, path)

HostSampler.draw, files._replace = draw_or_die, replace_or_die
cli.stage_main({stage}.run, {stage}.make_parser(), sys.argv[1:])
"""

PEARL = {
    "policy": "pearl",
    "iterations": 3,
    "tasks_per_iteration": 2,
    "updates_per_iteration": 4,
    "evaluate_every": 1,
    "visit": {"prior_steps": 40, "posterior_steps": 40, "context_size": 8},
}
LONG = {"meta_train": {"updates": 130}, "finetune": {"updates": 130}, "collect": PEARL}


def changes_of(run, stage: str, folder: Path, **more) -> dict[str, object]:
    config = run.section(stage, **LONG[stage], **more)
    return {"config": config, "out": folder / run.path(stage).name}


def die(run, stage: str, changes: dict[str, object], *, update: int = -1, save: int = -1) -> None:
    code = DYING.format(stage=stage, update=update, save=save)
    words = [sys.executable, "-c", code, *run.words(stage, changes=changes)]
    done = subprocess.run(words, cwd=ROOT, capture_output=True, check=False, timeout=300)
    assert done.returncode == -signal.SIGKILL, done.stderr.decode()


def outputs(folder: Path, tree) -> dict[str, bytes]:
    found = tree(folder)
    return {n: b for n, b in found.items() if n not in {".lock", "manifest.json"}}


@pytest.fixture(scope="session")
def quiet(finished, tmp_path_factory):
    """Runs of the long stages that nobody killed."""
    folders = {stage: tmp_path_factory.mktemp(stage) for stage in LONG}
    for stage, folder in folders.items():
        assert finished.call(stage, changes=changes_of(finished, stage, folder)) == 0
    return folders


@pytest.fixture
def drawn(monkeypatch):
    """The numbers of the updates that this process takes."""
    seen: list[int] = []
    draw = HostSampler.draw

    def recorded(self, update, into=None):
        seen.append(update)
        return draw(self, update, into)

    monkeypatch.setattr(HostSampler, "draw", recorded)
    return seen


@pytest.mark.parametrize(
    ("stage", "where", "first", "last"),
    [
        # A state every 50 updates; finetune begins at the 12 of the offline phase.
        ("meta_train", {"update": 110}, 100, 129),
        ("meta_train", {"save": 2}, 50, 129),
        ("finetune", {"update": 110}, 100, 141),
        # A state an iteration: 4 updates each, and the third was under way.
        ("collect", {"update": 10}, 8, 11),
    ],
)
def test_a_killed_stage_goes_on(finished, quiet, drawn, tree, tmp_path, stage, where, first, last):
    changes = changes_of(finished, stage, tmp_path)
    die(finished, stage, changes, **where)
    left = {path.parts[len(tmp_path.parts)] for path in tmp_path.rglob("*")}
    assert {name for name in left if not name.startswith(".")} == set()
    assert [name for name in left if name.startswith(".resume-")]
    assert finished.call(stage, changes=changes) == 0
    assert (drawn[0], drawn[-1]) == (first, last)
    assert outputs(tmp_path, tree) == outputs(quiet[stage], tree)


@pytest.fixture
def interrupt(finished, monkeypatch, tmp_path):
    """Presses Ctrl-C at update 60, after a state was written; gives the changes of that run."""
    changes = changes_of(finished, "meta_train", tmp_path)

    def press(self, update, into=None):
        if update == 60:
            raise KeyboardInterrupt
        return draw(self, update, into)

    draw = HostSampler.draw
    with monkeypatch.context() as patched:
        patched.setattr(training, "SAVE_SECONDS", 0.0)
        patched.setattr(HostSampler, "draw", press)
        assert finished.call("meta_train", changes=changes) == 130
    return changes


def test_an_interrupted_stage_goes_on(finished, quiet, interrupt, drawn, tree, tmp_path):
    assert finished.call("meta_train", changes=interrupt) == 0
    assert (drawn[0], drawn[-1]) == (50, 129)
    assert outputs(tmp_path, tree) == outputs(quiet["meta_train"], tree)


def test_a_state_of_another_run_is_not_taken_up(finished, interrupt, drawn, tmp_path):
    (state,) = tmp_path.glob(".resume-*")
    assert finished.call("meta_train", changes=interrupt | {"seed": 1}) == 0
    assert drawn[0] == 0
    assert not state.exists()


def test_a_damaged_state_is_named(finished, interrupt, capsys, tmp_path):
    capsys.readouterr()
    (state,) = tmp_path.glob(".resume-*/state.safetensors")
    data = bytearray(state.read_bytes())
    data[-9] ^= 1
    state.write_bytes(data)
    assert finished.call("meta_train", changes=interrupt) == 2
    line = capsys.readouterr().err
    assert f"the state of a killed run is damaged: in {state}; remove {state.parent}" in line
    assert line.count("\n") == 1


def test_a_loss_that_is_not_finite_keeps_the_last_output(refused, copied):
    config = copied.section("meta_train", learner={"learning_rate": 1e30})
    line = refused("meta_train", changes={"config": config})
    assert "is not finite" in line
    assert "lower learning_rate" in line


def test_states_are_rare():
    assert training.SAVE_SECONDS >= 10


def test_encoder_and_decoder_stop_early(finished, tree, tmp_path):
    """They end as they were then; the agent learns on; and a kill after it changes nothing."""

    def train(folder: str, **more) -> tuple[Path, dict[str, object]]:
        changes = changes_of(finished, "meta_train", tmp_path / folder) | {
            "config": finished.section("meta_train", **{**LONG["meta_train"], **more})
        }
        return tmp_path / folder, changes

    states = {}
    for name, more in {
        "short": {"updates": 60},
        "stopped": {"model_updates": 60},
        "never": {"model_updates": 130},
        "plain": {},
    }.items():
        folder, changes = train(name, **more)
        assert finished.call("meta_train", changes=changes) == 0
        states[name] = read_checkpoint(folder / "checkpoint.safetensors").tensors
    for network in ("encoder", "decoder"):
        short, stopped, plain = (states[n][network] for n in ("short", "stopped", "plain"))
        assert np.array_equal(stopped, short)
        assert not np.array_equal(stopped, plain)
    assert not np.array_equal(states["stopped"]["policy"], states["short"]["policy"])
    assert all(np.array_equal(a, states["plain"][n]) for n, a in states["never"].items())

    folder, changes = train("killed", model_updates=60)
    die(finished, "meta_train", changes, update=110)
    assert finished.call("meta_train", changes=changes) == 0
    assert outputs(folder, tree) == outputs(tmp_path / "stopped", tree)
