"""What the report draws of tasks and behaviour, and its videos."""

from __future__ import annotations

import io
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pipeline import cli, report_video
from pipeline import config as cf
from pipeline.manifest import read_manifest
from pipeline.report import make_parser, run
from pipeline.report_behaviour import Paths, _draw_routes
from pipeline.report_data import EnvResults, Evaluation, MethodResults
from pipeline.report_numbers import summarise
from pipeline.report_paths import (
    context_paths,
    draw_context_paths,
    draw_tasks,
    draw_tracking,
    task_kind,
    velocities,
)
from pipeline.report_quantities import measured, per_task, physical
from pipeline.report_style import grid, styled
from pipeline.report_tables import physical_table, returns_table
from pipeline.report_text import physical_meaning
from pipeline.report_video import Scene, encode
from pipeline.sections import ReportConfig
from pipeline.task_list import TaskList
from smac_core.envs.ant_dir import AntDir
from smac_core.envs.cheetah_vel import CheetahVel
from smac_core.envs.point_robot import PointRobot
from smac_core.errors import SmacError
from tests.smac_core.stairs import Stairs

STEPS = 6
ENVS = {"ant-dir": AntDir, "cheetah-vel": CheetahVel, "point-robot": PointRobot, "stairs": Stairs}


@pytest.fixture(autouse=True)
def style():
    with styled():
        yield


def made_up(name: str, *, rounds: tuple[int, ...] = (0, 2)) -> EnvResults:
    """Two training tasks and two held-out ones; half of the meta-episodes end in a fall."""
    definition = ENVS[name]()
    tasks = TaskList(
        name, 0, definition.task_fields, definition.sample_tasks(0, 2, 2), (0, 1), (2, 3)
    )
    env = EnvResults(name, tasks, definition)
    method = MethodResults("smac", "SMAC", "smac", list(rounds))
    for number in rounds:
        arms = {}
        for arm in ("train_online", "test_online", "train_matched", "train_offline"):
            path = np.full((2, STEPS + 1, 2), np.nan, np.float32)
            path[:, :4] = np.arange(1.0, 9.0).reshape(2, 4, 1)  # ends after three steps
            num = 3 if arm.endswith("online") else 1
            arms[arm] = {
                "task_id": np.array([2, 3] if arm.startswith("test") else [0, 1]),
                "episode_return": np.full((2, 2, num), 5.0 + number),
                "episode_length": np.full((2, 2, num), 3),
                "episode_end": np.broadcast_to(np.array([2, 1])[:, None, None], (2, 2, num)),
                "measure": np.full((2, 2, num, len(definition.measure_units)), 0.5 + number),
                "posterior_kl": np.ones((2, 2)),
                "decoder_mse": np.ones((2, 2)),
                "final_path": path,
            }
            arms[arm] |= {"first_path": -path} if num == 3 else {}
        names = tuple(definition.measure_units)
        method.evaluations[0, number] = Evaluation(100 * number, arms, names, np.nan)
    env.methods.append(method)
    return env


def numbers_of(env: EnvResults):
    from pipeline.report_data import Results

    preset = {"envs": ["point-robot"], "methods": ["smac"], "rounds": 2}
    results = Results(cf.load_run(preset), Path(), [env])
    return summarise(results, ReportConfig(bootstrap_samples=50))


def test_tasks_are_drawn_where_they_can_be():
    envs = [made_up(name) for name in ENVS]
    assert [task_kind(env) for env in envs] == ["direction", "velocity", "goal", ""]
    figure = draw_tasks(envs)
    assert [axes.get_title(loc="left") for axes in figure.axes] == [*ENVS][:3]
    assert draw_tasks(envs[3:]) is None
    ant, cheetah, point = figure.axes
    drawn = [line.get_xydata() for line in ant.lines if line.get_marker() == "o"]
    ahead = envs[0].definition.forward(envs[0].tasks.parameters)
    np.testing.assert_allclose(drawn[0], ahead[:2])
    np.testing.assert_allclose(drawn[2], 1.18 * ahead[2:])  # held-out ones stand out
    segments = [c.get_segments() for c in cheetah.collections]
    assert [s[0][0] for s in segments[1]] == envs[1].tasks.parameters[2:, 0].tolist()
    np.testing.assert_array_equal(point.lines[0].get_xydata(), envs[2].tasks.parameters[:2])


def test_paths_under_both_contexts_are_drawn_before_and_after():
    env = made_up("ant-dir")
    env.offline_paths = [np.zeros((9, 2)), np.ones((3, 2)), np.full((3, 2), 7.0)]
    paths = context_paths(env)
    assert (paths.label, paths.seed, paths.rounds) == ("SMAC", 0, [0, 2])
    np.testing.assert_array_equal(paths.exploration[0], -paths.own[0])
    figure = draw_context_paths(env)
    assert len(figure.axes) == 4
    lines = [
        len([line for line in axes.lines if len(line.get_xdata()) > 1]) for axes in figure.axes
    ]
    assert lines == [4, 4, 8, 8]  # two tasks each: offline and own; then exploration and data too
    assert figure.axes[0].get_xlim() == figure.axes[1].get_xlim() == figure.axes[1].get_ylim()
    assert {text.get_text() for text in figure.legends[0].get_texts()} == {
        *("offline data", "exploration"),
        *("adapted to offline contexts", "adapted to own exploration"),
    }
    only = draw_context_paths(made_up("ant-dir", rounds=(0,)))
    assert len(only.axes) == 2


@pytest.mark.parametrize("name", ["cheetah-vel", "stairs"])
def test_what_is_not_seen_from_above_has_no_map(name):
    assert draw_context_paths(made_up(name)) is None


def test_no_map_without_paths():
    env = made_up("ant-dir")
    del env.methods[0].evaluations[0, 2].arms["train_offline"]["final_path"]
    assert draw_context_paths(env) is None


def test_velocities_are_averaged_over_half_a_second():
    position = np.arange(21) * 0.1  # 0.1 m in 0.05 s
    position[15:] = np.nan
    times, velocity = velocities(position, 0.05)
    np.testing.assert_allclose(velocity[:5], 2.0)
    assert np.isnan(velocity[5:]).all()
    assert times[0] == pytest.approx(0.25)
    assert velocities(position[:2], 1.0)[1] == pytest.approx([0.1])  # a path shorter than that


def test_velocities_are_drawn_with_their_targets():
    env = made_up("cheetah-vel")
    figure = draw_tracking(env)
    assert [axes.get_title(loc="left") for axes in figure.axes] == [
        "SMAC, seed 0, after the offline phase",
        "SMAC, seed 0, after round 2",
    ]
    targets = sorted(env.tasks.parameters[2:, 0])
    dashed = [line for line in figure.axes[0].lines if line.get_linestyle() == "--"]
    assert [line.get_ydata()[0] for line in dashed] == targets
    assert draw_tracking(made_up("ant-dir")) is None


def test_routes_show_where_they_should_go():
    env = made_up("ant-dir")
    figure, (axes,) = grid(1, 1, 3.0)
    path = np.zeros((2, 3, 2), np.float32)
    path[0, 1:, 0], path[1, 1:, 1] = 2.0, 1.0
    _draw_routes(axes, env, Paths("", 0, 0, np.array([[0.0], [90.0]]), path))
    bars = [line.get_xydata() for line in axes.lines if line.get_linewidth() == 2.4]
    np.testing.assert_allclose(bars[0], [[2.08, 0], [2.32, 0]], atol=1e-9)  # beyond the longest
    np.testing.assert_allclose(bars[1], [[0, 2.08], [0, 2.32]], atol=1e-9)
    assert figure.axes


def test_falls_are_counted_and_told():
    env = made_up("ant-dir")
    assert measured(env) == ["forward_velocity", "distance", "fall_rate"]
    assert "nothing_fall_rate" in physical(env)
    evaluation = env.methods[0].evaluations[0, 0]
    assert per_task(evaluation, "test_fall_rate").tolist() == [1.0, 0.0]
    assert per_task(evaluation, "test_distance").tolist() == [0.5, 0.5]
    assert per_task(evaluation, "test_no_such_measure") is None
    assert per_task(evaluation, "random_fall_rate") is None
    numbers = numbers_of(env)
    told = physical_meaning(env, numbers.methods["ant-dir"][0])
    assert told == (
        "SMAC: forward velocity 0.500 m/s → 2.50 m/s, distance 0.500 m → 2.50 m, falls 50 % → 50 %."
    )
    assert "episodes that fell" in physical_table(env, numbers)
    assert "by both counts" in returns_table(env, numbers)
    point = made_up("point-robot")
    assert measured(point) == ["goal_distance", "distance"]
    assert "by both counts" not in returns_table(point, numbers_of(point))


def test_scenes_stand_still_and_pale_after_their_end():
    red = np.zeros((30, 40, 3), np.uint8)
    red[:, :, 0] = 255
    scenes = [Scene("long", [red] * 5, "over"), Scene("short", [red] * 2, "fell")]
    # Frames that differ in nothing become one; the first picture tells the halves apart.
    blue = red[:, :, ::-1].copy()
    scenes[0].pictures[-1] = blue
    film = Image.open(io.BytesIO(encode(scenes, 100)))
    assert film.format == "WEBP"
    film.seek(film.n_frames - 1)
    left, right = (film.convert("RGB").getpixel((x, film.height - 20)) for x in (120, 366))
    assert left[2] > 200 > left[0]
    assert right[0] > 200
    assert right[1] > 100  # pale


def films(finished, tmp_path: Path, **settings) -> Path:
    root = tmp_path / "results"
    shutil.copytree(finished.root / "results", root)
    preset = {"envs": ["point-robot"], "methods": ["smac"], "rounds": 2, "evaluate_rounds": 1}
    sections = {"report": {"bootstrap_samples": 20, **settings}}
    sections["evaluate"] = {"adaptation": {"repeats": 2}}
    preset["settings"] = {"all": sections}
    argv = ["--config", json.dumps(preset), "--results", str(root)]
    assert cli.run(run, make_parser(), [*argv, "--out", str(root / "report.html")]) == 0
    return root


def test_a_video_shows_the_episodes_that_were_evaluated(finished, tmp_path):
    root = films(finished, tmp_path, video_frames=10)
    path = root / "figures" / "video_point-robot.webp"
    with Image.open(path) as film:
        assert 2 < film.n_frames <= 11
    assert path.stat().st_size < 200_000
    page = (root / "report.html").read_text()
    assert page.count("data:image/webp;base64,") == 1
    assert 'href="figures/video_point-robot.webp"' in page
    assert "SMAC, seed 0, after round 2, on held-out task 4" in page
    manifest = read_manifest(root / "manifest.json")
    assert "point-robot/smac/seed0/round2/finetune/checkpoint.safetensors" in manifest["inputs"]


def test_a_machine_that_cannot_draw_still_reports(finished, tmp_path, monkeypatch):
    def refuse(*_):
        raise SmacError("cannot draw MuJoCo without a screen", fix="install libegl1")

    monkeypatch.setattr(report_video, "FilmDriver", refuse)
    root = films(finished, tmp_path)
    page = (root / "report.html").read_text()
    assert "point-robot: no video, because: cannot draw MuJoCo without a screen" in page
    assert not list((root / "figures").glob("*.webp"))


def test_no_videos_are_made_where_none_are_asked_for(finished, tmp_path):
    root = films(finished, tmp_path, video_frames=0)
    page = (root / "report.html").read_text()
    assert "image/webp" not in page
    assert "no video" not in page
    inputs = read_manifest(root / "manifest.json")["inputs"]
    assert not any("checkpoint" in name for name in inputs)
