"""Turns, medians, the direction of a ratio, and what the command writes."""

from __future__ import annotations

import base64
import json
import sys

import numpy as np
import pytest

from benchmarks import __main__ as command
from benchmarks import scheduling, tiny_run
from benchmarks.measure import Effort, Label, Work, interleave, make_row
from benchmarks.tiny_run import Job


def test_sides_take_turns_and_short_calls_repeat():
    calls = []

    def side(name: str) -> Work:
        return Work(lambda: calls.append(name) or 2)

    seconds = interleave([side("a"), side("b")], Effort(rounds=3, seconds=0.0))
    assert "".join(calls) == "aabb" + "ab" * 3
    assert seconds.shape == (3, 2)
    calls.clear()
    interleave([side("a")], Effort(rounds=1, seconds=0.01))
    assert len(calls) > 100


def test_seconds_are_per_unit_of_work():
    ticks = iter([0.0, 6.0])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("benchmarks.measure.time.perf_counter", lambda: next(ticks))
        assert Work(lambda: 4).seconds(3) == (2.0, 0.5)


def test_ratio_above_one_means_that_ours_is_faster():
    ours, baseline = np.array([1.0, 2.0, 4.0]), np.array([2.0, 8.0, 8.0])
    rate = make_row(Label("a", "1", "rows/s"), "b", ours, baseline)
    assert (rate.ours, rate.baseline, rate.ratio) == (0.5, 0.125, 2.0)
    assert rate.spread == pytest.approx(0.5)  # of 2, 4, 2: quartiles 2 and 3
    time = make_row(Label("a", "1", "s"), "b", ours, baseline)
    assert (time.ours, time.baseline, time.ratio) == (2.0, 8.0, 2.0)


def write_record(folder, output: str, **fields) -> None:
    path = folder / ".snakemake" / "metadata"
    name = base64.urlsafe_b64encode(output.encode()).decode()
    parts = [f"@{name[:40]}", name[40:]] if len(name) > 40 else [name]
    path = path.joinpath(*parts)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(fields))


def test_jobs_are_read_from_snakemakes_records(tmp_path):
    acting = "python -m pipeline.rollout --seed 1 --out x > log 2>&1"
    deep = "results/point-robot/smac/seed0/round1/rollout/manifest.json"
    for output, rule, started in ((deep, "rollout", 5.0), ("results/tasks.manifest.json", "t", 1)):
        fields = {"rule": rule, "shellcmd": acting if rule == "rollout" else "x"}
        write_record(tmp_path, output, starttime=started, endtime=9.0, **fields)
        (tmp_path / output).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / output).write_text('{"wall_time_s": 1.5}')
    for other in ("results/x.zarr", "gone/manifest.json"):
        write_record(tmp_path, other, rule="rollout", shellcmd=acting, starttime=5, endtime=9)
    jobs = tiny_run.read_jobs(tmp_path)
    assert [job.rule for job in jobs] == ["t", "rollout"]
    assert (jobs[1].seconds, jobs[1].work) == (4.0, 1.5)
    assert tiny_run.stage_words(jobs, "rollout") == "--seed 1 --out x"
    row = scheduling.whole("dag-overhead", "tiny", jobs)
    assert (row.ours, row.baseline) == (9.0, 3.0)
    assert row.ratio == pytest.approx(1 / 3)


def test_the_manifests_of_a_jobs_seeds_are_one_job(tmp_path):
    record = {"rule": "rollout", "shellcmd": "x"}
    for seed in (0, 1):
        manifest = f"results/seed{seed}/rollout/manifest.json"
        write_record(tmp_path, manifest, **record, starttime=5.0 + seed, endtime=9.0 + seed)
        (tmp_path / manifest).parent.mkdir(parents=True)
        (tmp_path / manifest).write_text('{"wall_time_s": 1.5}')
    assert [(job.seconds, job.work) for job in tiny_run.read_jobs(tmp_path)] == [(5.0, 3.0)]


def test_idle_time_counts_short_gaps_alone():
    jobs = [Job("r", "", start, end, 0.0) for start, end in ((0, 10), (2, 4), (12, 13), (99, 100))]
    assert tiny_run.idle_seconds(jobs) == 2.0


def run_command(monkeypatch, *words: str) -> int:
    monkeypatch.setattr(sys, "argv", ["benchmarks", *words])
    return command.main()


def test_command_writes_rows_machine_and_versions(monkeypatch, tmp_path, capsys):
    row = make_row(Label("learner-online", "300x3", "updates/s"), "b", np.ones(3), np.full(3, 1.5))
    monkeypatch.setattr(command, "RESULTS", tmp_path / "results.json")
    sections = {"learner-online": lambda effort: iter([row]), "sample": lambda effort: iter([])}
    monkeypatch.setattr(command, "sections", lambda: sections)
    assert run_command(monkeypatch, "--quick", "--only", "learner-*") == 0
    written = json.loads((tmp_path / "results.json").read_text())
    assert written["quick"] is True
    assert written["machine"]["cores"] >= 1
    assert written["versions"]["torch"] != "not installed"
    (found,) = written["rows"]
    needed = {"name", "size", "threads", "device", "ours", "baseline", "unit", "ratio", "spread"}
    assert needed <= set(found)
    assert found["ratio"] == 1.5
    assert "1.50x" in capsys.readouterr().out


def test_names_are_those_of_the_table(monkeypatch, capsys):
    names = list(command.sections())
    assert "rollout-cheetah-vel" in names
    assert "stage-start-relabel" in names
    assert run_command(monkeypatch, "--only", "learner-offlin") == 2
    assert "learner-offline" in capsys.readouterr().err
