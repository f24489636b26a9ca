"""Sawyer Manipulation through the stages: what collect leaves, and what is refused."""

from __future__ import annotations

import importlib
import json
import os
import re
import signal
from pathlib import Path

import numpy as np
import pytest

from pipeline import cli
from pipeline import config as cf
from pipeline.manifest import read_manifest
from pipeline.store import read_store
from smac_core.envs.sawyer import crew as crews
from smac_core.envs.sawyer import tasks as k
from smac_core.errors import SmacError
from tests.smac_core.sawyer import needs_pybullet

pytestmark = [pytest.mark.sawyer, needs_pybullet]
PRESET = Path(__file__).resolve().parents[2] / "config/sawyer-test.yaml"
ENV = "sawyer-manipulation"


def call(stage: str, out: Path, *words: object, workers: int = 1) -> int:
    document = json.loads(cf.section_json(cf.read_run(str(PRESET)), stage, ENV))
    document["env"]["params"]["workers"] = workers
    module = importlib.import_module(f"pipeline.{stage}")
    given = ["--config", json.dumps(document), "--env", ENV, *map(str, words), "--out", str(out)]
    return cli.run(module.run, module.make_parser(), given)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Tasks, and the dataset of one worker."""
    root = tmp_path_factory.mktemp("sawyer")
    assert call("tasks", root / "tasks.json") == 0
    assert call("collect", root / "one/transitions.zarr", "--tasks", root / "tasks.json") == 0
    return root


def test_tasks_are_frozen_with_the_names_of_their_fields(folder: Path) -> None:
    written = json.loads((folder / "tasks.json").read_text())
    assert tuple(written["fields"]) == k.FIELDS
    np.testing.assert_array_equal(written["parameters"], k.draw_tasks(1337, 6, (0, 1, 2)))
    assert (written["train"], written["test"]) == ([0, 1, 2, 3], [4, 5])


def test_scripted_episodes_are_longer_than_online_ones_and_say_how_they_went(folder: Path) -> None:
    arrays = read_store(folder / "one/transitions.zarr", "transitions", env_id=ENV).arrays
    assert np.diff(arrays["meta/episode_ends"], prepend=0).tolist() == [75] * 8
    assert set(np.unique(arrays["data/reward"])) <= {-1.0, 0.0}
    assert not arrays["data/terminated"].any()
    said = read_manifest(folder / "one/manifest.json")
    success = (arrays["data/reward"] == 0).reshape(8, 75)
    assert said["success"] == {
        "episodes": 8.0,
        "per_transition": pytest.approx(success.mean()),
        "final_step": pytest.approx(success[:, -1].mean()),
        "any_step": pytest.approx(success.any(axis=1).mean()),
        "published": 0.46,
    }
    assert said["workers_replaced"] == 0


def test_workers_and_their_deaths_change_no_byte(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    step, calls = crews.Keeper.step, []

    def killing(keeper: crews.Keeper, slots: np.ndarray, actions: np.ndarray) -> np.ndarray:
        calls.append(len(slots))
        if len(calls) in {20, 90}:
            process = keeper.worker.process
            os.kill(process.pid, signal.SIGKILL)
            process.wait()
        return step(keeper, slots, actions)

    monkeypatch.setattr(crews.Keeper, "step", killing)
    out = folder / "two/transitions.zarr"
    assert call("collect", out, "--tasks", folder / "tasks.json", workers=2) == 0
    one, two = (read_manifest(folder / name / "manifest.json") for name in ("one", "two"))
    assert two["workers_replaced"] == 2
    assert len(one["array_digests"]["transitions"]) > 10
    assert two["array_digests"] == one["array_digests"]


def drop_field(document: dict[str, list[object]]) -> None:
    column = document["fields"].index("tray")
    for record in (document["fields"], *document["parameters"]):
        del record[column]  # type: ignore[attr-defined]


def ask_the_impossible(document: dict[str, list[list[float]]]) -> None:
    document["parameters"][1] = [1.0, 0, 0, 0, 0, 0, 0, 0, -1, -1, k.OPEN_BOTTOM]


@pytest.mark.parametrize(
    ("change", "line"),
    [
        (drop_field, "task records with other fields: .*found no tray; make it again"),
        (ask_the_impossible, "cannot hold the behaviour 'open bottom drawer': .*task 1, expected"),
    ],
)
def test_bad_tasks_are_one_line(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], change, line: str
) -> None:  # type: ignore[no-untyped-def]
    document = json.loads((folder / "tasks.json").read_text())
    change(document)
    (tmp_path / "tasks.json").write_text(json.dumps(document))
    out = tmp_path / "collect/transitions.zarr"
    assert call("collect", out, "--tasks", tmp_path / "tasks.json") == 2
    (said,) = capsys.readouterr().err.splitlines()
    assert said.startswith("error: ")
    assert re.search(line, said)
    assert not out.exists()


def test_without_pybullet_every_stage_says_how_to_get_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def missing() -> None:
        raise SmacError("PyBullet is not installed")

    monkeypatch.setattr(crews, "find_spec", lambda name: None)
    monkeypatch.setattr(crews, "load_bullet", missing)
    assert call("tasks", tmp_path / "tasks.json") == 2
    assert capsys.readouterr().err == "error: PyBullet is not installed\n"
    assert not (tmp_path / "tasks.json").exists()
