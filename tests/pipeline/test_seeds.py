"""Several seeds in one job: each gets what a job of its own would write."""

from __future__ import annotations

import importlib
from pathlib import Path

import pytest

from pipeline import cli
from pipeline.manifest import read_manifest
from pipeline.rounds import every_round
from smac_core.sampler import HostSampler

SEEDED = ["meta_train", "rollout", "relabel", "finetune", "evaluate"]
FROM_SEED = ("checkpoint", "rollout", "rollouts", "rewards")
NOT_COMPARED = {".lock", "manifest.json"}  # a manifest tells the time


def together(run, stage: str, outs: list[Path], *, number: int = 1, **changes) -> dict:
    """Options of one job for as many seeds as outputs, all on the files of seed 0."""
    given = run.options(stage, number)
    for name in FROM_SEED:
        if name in given:
            one = given[name] if isinstance(given[name], list) else [given[name]]
            given[name] = one * len(outs)
    return given | {"seed": list(range(len(outs))), "out": outs} | changes


def contents(tree, out: Path) -> dict[str, bytes]:
    return {n: data for n, data in tree(out.parent).items() if n not in NOT_COMPARED}


@pytest.mark.parametrize("stage", SEEDED)
def test_each_seed_gets_the_bytes_of_its_own_job(finished, tmp_path, tree, stage):
    name = finished.path(stage).name
    outs = [tmp_path / f"together{seed}" / name for seed in (0, 1)]
    number = 2 if stage == "finetune" else 1  # two stores a seed, in seed-major order
    assert finished.call(stage, number, changes=together(finished, stage, outs, number=number)) == 0
    for seed, out in enumerate(outs):
        alone = tmp_path / f"alone{seed}" / name
        assert finished.call(stage, number, changes={"seed": seed, "out": alone}) == 0
        assert contents(tree, out) == contents(tree, alone)
        manifests = [read_manifest(path.with_name("manifest.json")) for path in (out, alone)]
        timed = {"wall_time_s", "peak_memory_mib", "seal"}
        first, second = ({k: v for k, v in m.items() if k not in timed} for m in manifests)
        assert first == second


def test_the_store_of_the_last_round_stands_for_all(finished, tmp_path, tree):
    given = finished.options("finetune", 2)
    outs = [tmp_path / name / "checkpoint.safetensors" for name in ("all", "last")]
    assert finished.call("finetune", 2, changes={"out": outs[0]}) == 0
    last = {name: given[name][-1] for name in ("rollouts", "rewards")}
    assert finished.call("finetune", 2, changes=last | {"out": outs[1]}) == 0
    assert contents(tree, outs[0]) == contents(tree, outs[1])
    inputs = read_manifest(outs[1].with_name("manifest.json"))["inputs"]
    assert {"rollout1", "rollout2", "rewards1", "rewards2"} <= set(inputs)


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ([], []),
        (["a/x"], ["a/x"]),
        (["a/round3/x"], ["a/round1/x", "a/round2/x", "a/round3/x"]),
        (["round9/round2/x"], ["round9/round1/x", "round9/round2/x"]),  # the nearest counts
        (["a/round0/x"], ["a/round0/x"]),
        (["a/round1/x", "a/round2/x"], ["a/round1/x", "a/round2/x"]),
    ],
)
def test_rounds_before_the_last(given, expected):
    assert every_round([Path(path) for path in given]) == [Path(path) for path in expected]


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"seed": [1, 1]}, "twice the same seed: in --seed"),
        ({"out": ["a/x.zarr"]}, "in --out, expected one a seed, found 1 paths for 2 seeds"),
        ({"checkpoint": ["c"] * 3}, "in --checkpoint"),
        ({"rollouts": ["r"] * 3}, "in --rollouts, expected as many for each seed"),
    ],
)
def test_paths_that_do_not_go_round(finished, tmp_path, capsys, changes, words):
    outs = [tmp_path / f"seed{seed}/transitions.zarr" for seed in (0, 1)]
    given = together(finished, "rollout", outs, **changes)
    capsys.readouterr()
    assert finished.call("rollout", changes=given) == 2
    assert words in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_a_seed_that_was_done_is_not_trained_again(finished, tmp_path, tree, monkeypatch):
    """Snakemake deletes the outputs of a job that fails, so a finished seed keeps its state."""
    outs = [tmp_path / f"seed{seed}/checkpoint.safetensors" for seed in (0, 1)]
    given = together(finished, "meta_train", outs)
    drawn: list[int] = []
    draw = HostSampler.draw

    def interrupted(self, update, into=None):
        drawn.append(update)
        if len(drawn) == 17:  # of 12 updates a seed
            raise KeyboardInterrupt
        return draw(self, update, into)

    with monkeypatch.context() as patched:
        patched.setattr(HostSampler, "draw", interrupted)
        assert finished.call("meta_train", changes=given) == 130
    done = contents(tree, outs[0])
    for name in ("checkpoint.safetensors", "metrics.csv", "manifest.json"):
        outs[0].with_name(name).unlink()
    drawn.clear()
    monkeypatch.setattr(HostSampler, "draw", interrupted)
    assert finished.call("meta_train", changes=given) == 0
    assert drawn == list(range(12))  # those of the second seed
    wanted = {name: data for name, data in done.items() if not name.startswith(".resume")}
    assert contents(tree, outs[0]) == wanted


def test_a_stage_of_one_seed_takes_no_other(capsys):
    parser = cli.stage_parser("mine", "Swapped in.", ("seed",))
    assert parser.parse_args(["--config", "c", "--seed", "3", "--out", "x"]).seed == 3
    with pytest.raises(SystemExit):
        parser.parse_args(["--config", "c", "--seed", "3", "4", "--out", "x"])
    assert "unrecognized arguments: 4" in capsys.readouterr().err


@pytest.mark.parametrize("stage", SEEDED)
def test_stages_declare_that_they_take_several(stage):
    assert importlib.import_module(f"pipeline.{stage}").MANY_SEEDS is True
