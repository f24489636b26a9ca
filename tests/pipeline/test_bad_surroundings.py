"""Configurations, simulators, disks and rivals that a stage must refuse: one line each."""

from __future__ import annotations

import errno
import json
import os
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest

from pipeline import files
from pipeline.config import ENV_STAGES
from pipeline.manifest import read_manifest

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.parametrize(
    ("stage", "changes", "said"),
    [
        ("rollout", {"tasks_per_rond": 3}, "did you mean tasks_per_round?"),
        ("rollout", {"visit": {"prior_step": 3}}, "did you mean prior_steps?"),
        ("meta_train", {"learner": {"learning_rat": 0.1}}, "did you mean learning_rate?"),
        ("meta_train", {"updates": "many"}, "expected a valid integer, found 'many'"),
        ("finetune", {"context_growth": "some"}, "'frozen', 'separate' or 'online'"),
        ("evaluate", {"train_tasks": 0}, "value out of range"),
        ("evaluate", {"adaptation": {"exploration_episodes": 0}}, "nothing to adapt to"),
        ("collect", {"initial_steps": 0}, "no initial steps"),
        ("collect", {"policy": "pearl", "visit": {"prior_steps": 0}}, "no prior steps"),
    ],
)
def test_a_faulty_section(copied, refused, stage, changes, said):
    line = refused(stage, changes={"config": copied.section(stage, **changes)})
    assert said in line


def test_an_unknown_key_of_a_preset(copied, refused):
    preset = copied.root / "preset.yaml"
    preset.write_text(preset.read_text().replace("updates: 10,", "update: 10,"))
    line = refused("rollout")  # any stage: the whole preset is checked
    assert "unknown key" in line
    assert "settings.all.finetune.update; did you mean updates?" in line


@pytest.mark.parametrize(
    ("definition", "said"),
    [
        ("no_such_module:Robot", "unknown environment definition"),
        ("smac_core.envs.point_robot:Robot", "unknown environment definition"),
        ("smac_core.errors:SmacError", "not an environment"),
        ("smac_core.envs.point_robot", "not a name for a class"),
        ("smac_core.envs.point_robot:Point;Robot", "not a name for a class"),
    ],
)
def test_an_unknown_environment_definition(copied, refused, definition, said):
    config = copied.section("rollout", definition)
    assert said in refused("rollout", changes={"config": config})


def test_a_parameter_that_the_environment_refuses(copied, refused):
    document = json.loads(copied.section("rollout"))
    document["env"]["params"] = {"gravity": 9.81}
    line = refused("rollout", changes={"config": json.dumps(document)})
    assert "environment refuses its parameters" in line
    assert "correct env.params" in line


def test_a_config_of_another_stage_or_environment(copied, refused):
    config = copied.section("relabel")
    assert "made for something else" in refused("rollout", changes={"config": config})
    config = copied.section("rollout")
    line = refused("rollout", changes={"config": config, "env": "cheetah-vel"})
    assert "expected cheetah-vel, found point-robot" in line


FAULTY = """
import numpy as np
from smac_core.envs.point_robot import PointRobot


class Faulty(PointRobot):
    def __init__(self, limit=100.0, what="observation"):
        self.limit, self.what = limit, what

    def observe(self, state):
        obs = super().observe(state)
        far = np.abs(state).sum(axis=1, keepdims=True) > self.limit
        return np.where(far, np.nan, obs).astype("f4")

    def reward(self, before, action, after, task):
        return super().reward(before, action, after, task) * (
            np.nan if self.what == "reward" else 1.0
        )
"""


@pytest.fixture
def faulty(copied, tmp_path, monkeypatch):
    """Makes the configuration of a stage whose simulator goes wrong."""
    monkeypatch.syspath_prepend(str(tmp_path))
    (tmp_path / "smac_faulty_robot.py").write_text(FAULTY)

    def config(stage: str, **params) -> dict[str, str]:
        document = json.loads(copied.section(stage, "smac_faulty_robot:Faulty"))
        document["env"]["params"] = params
        return {"config": json.dumps(document)}

    yield config
    sys.modules.pop("smac_faulty_robot", None)


@pytest.mark.parametrize(
    ("stage", "params", "said"),
    [
        *(
            (stage, params, said)
            for stage in ("collect", "experts", "demonstrations", "rollout", "evaluate")
            for params, said in (
                ({"limit": -1.0}, "observation is not finite at the start of an episode"),
                ({"limit": 0.0}, "simulator diverged at the first step"),
            )
        ),
        *(
            (stage, {"what": "reward"}, "reward is not finite")
            for stage in ("collect", "experts", "demonstrations")
        ),
        ("evaluate", {"what": "reward"}, "reward is not finite"),
    ],
)
def test_nan_from_the_simulator(refused, faulty, stage, params, said):
    line = refused(stage, changes=faulty(stage, **params))
    assert said in line
    assert "point-robot" in line


def test_a_simulator_that_diverges_later_cuts_its_episode(copied, faulty):
    assert copied.call("rollout", changes=faulty("rollout", limit=0.25)) == 0
    found = copied.transitions(copied.path("rollout"))
    lengths = np.diff(found.arrays["meta/episode_ends"], prepend=0)
    cut = ~found.arrays["meta/episode_ok"]
    assert cut.any()
    np.testing.assert_array_equal(cut, lengths < 20)
    assert np.isfinite(found.arrays["data/obs"]).all()
    assert found.arrays["data/truncated"].sum() == len(lengths)
    assert not found.arrays["data/terminated"].any()
    manifest = read_manifest(copied.path("rollout").with_name("manifest.json"))
    assert manifest["diverged_episodes"] == cut.sum()


@pytest.mark.parametrize("seed", ["one", "-1", "1.5", "", "1e3"])
def test_a_seed_that_is_no_number(finished, seed, capsys):
    with pytest.raises(SystemExit) as ended:
        finished.call("rollout", changes={"seed": seed})
    assert ended.value.code == 2
    line = capsys.readouterr().err
    assert line.count("\n") == 1
    assert f"argument --seed: expected a non-negative integer, found {seed!r}" in line


WRITERS = [
    "tasks", "collect", "experts", "demonstrations", "meta_train", "rollout", "relabel",
    "finetune", "evaluate",
]  # fmt: skip


@pytest.mark.parametrize("stage", WRITERS)
def test_two_writers_at_once(copied, refused, stage):
    folder = copied.path(stage).parent
    with files.lock(folder):
        assert f"another process is writing here: in {folder}" in refused(stage)
    assert copied.call(stage) == 0


def fill(disk: Path) -> None:
    """Writes until the disk is full, be it a small one or a pretended one."""
    with suppress(OSError), (disk / "ballast").open("wb") as stream:
        while True:
            stream.write(bytes(4096))
            stream.flush()
            files._sync(disk)


@pytest.mark.parametrize("stage", WRITERS)
def test_no_space_left_at_the_start(copied, refused, stage, full_disk):
    # The first probe fails where the disk is full already.
    out = full_disk / "out" / copied.path(stage).name
    out.parent.mkdir()
    fill(full_disk)
    line = refused(stage, changes={"out": out})
    assert f"no space left on the disk: in {out.parent}" in line
    assert list(out.parent.iterdir()) == []


@pytest.mark.parametrize("stage", WRITERS)
def test_no_space_left_for_the_output(copied, refused, stage, monkeypatch):
    def full(path: Path) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))

    monkeypatch.setattr(files, "_sync_tree", full)
    line = refused(stage, changes=None if stage in ENV_STAGES else {"seed": 7})
    assert f"no space left on the disk: in {copied.path(stage)}" in line


def command(run, stage: str, **options) -> subprocess.CompletedProcess[str]:
    words = run.words(stage, **options)
    return subprocess.run(
        [sys.executable, "-m", f"pipeline.{stage}", *words],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )


def test_a_read_only_folder(copied, tree):
    # Root may write anywhere but to a read-only file system.
    folder = copied.path("relabel").parent
    mounted = subprocess.run(
        ["mount", "--bind", "-o", "ro", str(folder), str(folder)], capture_output=True, check=False
    )
    if mounted.returncode:
        folder.chmod(0o555)
        if os.access(folder, os.W_OK):
            pytest.skip("neither a read-only mount nor permissions bind this user")
    before = tree(copied.root)
    try:
        done = command(copied, "relabel")
    finally:
        if mounted.returncode == 0:
            subprocess.run(["umount", str(folder)], check=True)
        folder.chmod(0o755)
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert done.stderr.startswith("error: ")
    assert str(folder) in done.stderr
    assert tree(copied.root) == before


def test_a_file_where_the_results_belong(copied, refused):
    (copied.root / "file").write_text("mine")
    line = refused("tasks", changes={"out": copied.root / "file" / "tasks.json"})
    assert "a file stands where a folder is needed" in line


def test_a_real_process_says_the_same(copied):
    files.remove(copied.path("rollout"))
    done = command(copied, "relabel")
    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr.count("\n") == 1
    assert f"error: there is no such store: in {copied.path('rollout')}; " in done.stderr
    done = command(copied, "tasks", changes={"config": "{}"})
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
