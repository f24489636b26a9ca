"""The evaluator drives whatever a method file names, and says what is wrong with what it names."""

from __future__ import annotations

import json
import sys

import numpy as np
import pytest

from pipeline import config as cf
from pipeline import store
from pipeline.checkpoint import read_checkpoint, write_checkpoint
from pipeline.dag import Plan
from pipeline.manifest import read_manifest

AGENT = """
import numpy as np
from smac_core.meta_agent import MetaAgent, no_posterior


class Pushes(MetaAgent):
    needs_steps = True

    def begin_task(self, num):
        self.best = np.zeros(num)

    def act(self, rows, obs, noise, *, explore):
        return np.tanh(noise) if explore else np.full(noise.shape, STRENGTH, np.float32)

    def observe(self, rows, step):
        self.best[rows] = np.maximum(self.best[rows], step.reward)

    def adapt(self, rows):
        assert len(rows)

    def given(self, contexts):
        self.begin_task(len(contexts))
        assert all((np.diff(c.t) == 1).sum() == 2 * 19 for c in contexts)  # two whole episodes

    def diagnosis(self):
        return no_posterior(len(self.best))


def load(tensors, metadata, env):
    assert metadata["algorithm"] == "pushes"
    return Pushes()
"""


@pytest.fixture
def plug(tmp_path, monkeypatch):
    """Writes the agent's module, of this strength."""
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, "smac_pushing_agent", raising=False)  # of the test before

    def write(strength="0.5"):
        text = AGENT.replace("STRENGTH", strength)
        (tmp_path / "smac_pushing_agent.py").write_text(text)

    write()
    return write


@pytest.fixture
def pushed(finished, tmp_path):
    """A checkpoint of another algorithm."""
    kept = ("env_id", "obs_dim", "action_dim", "lineage", "self_supervised_steps")
    found = read_checkpoint(finished.checkpoint(0)).metadata
    own = {"algorithm": "pushes", "round": 0} | {name: found[name] for name in kept}
    path = tmp_path / "other.safetensors"
    write_checkpoint(path, {"nothing": np.zeros(1, np.float32)}, own)
    return path


def test_a_method_without_posteriors_is_measured_like_any_other(finished, plug, pushed, tmp_path):
    config = finished.section("evaluate", agent="smac_pushing_agent:load")
    out = tmp_path / "out/returns.zarr"
    changes = {"config": config, "checkpoint": pushed, "out": out}
    assert finished.call("evaluate", 0, changes=changes) == 0
    found = store.read_store(out, "evaluation")
    names = ["test_nothing", "test_online", "test_online_transitions", "test_prior", "test_random"]
    names += ["train_matched", "train_offline", "train_online", "train_online_transitions"]
    assert sorted(found.attributes["arms"]) == sorted(names)
    for arm in names:
        of = {name: found.arrays[f"arms/{arm}/{name}"] for name in ("posterior_mean", "measure")}
        assert np.isnan(of["posterior_mean"]).all()
        assert np.isfinite(of["measure"]).all()
        assert np.isfinite(found.arrays[f"arms/{arm}/episode_return"]).all()
        assert np.isnan(found.arrays[f"arms/{arm}/posterior_kl"]).all()
        assert np.isnan(found.arrays[f"arms/{arm}/decoder_mse"]).all()
    assert found.arrays["arms/test_online/episode_return"].shape == (2, 2, 3)
    assert read_manifest(tmp_path / "out/manifest.json")["offline_decoder_mse"] is None


def test_half_a_posterior_is_refused(finished, tmp_path):
    found = store.read_store(finished.path("evaluate", 0), "evaluation")
    mean = found.arrays["arms/test_online/posterior_mean"].copy()
    mean[0] = np.nan
    arrays = found.arrays | {"arms/test_online/posterior_mean": mean}
    with pytest.raises(store.StoreError, match="a value is not finite"):
        store.write_store(tmp_path / "a.zarr", "evaluation", arrays, found.attributes)


def test_the_agents_code_is_code_of_evaluate_alone(plug, tmp_path):
    (tmp_path / "method").mkdir()
    (tmp_path / "method/own.yaml").write_text("agent: 'smac_pushing_agent:load'\nrounds: none\n")
    preset = {"envs": ["point-robot"], "methods": ["own"], "config_folders": [str(tmp_path)]}

    def digests():
        plan = Plan(cf.load_run(preset))
        plan.check()
        return {s: plan._digest(s, "point-robot", "own") for s in ("meta_train", "evaluate")}

    before = digests()
    plug("0.25")
    after = digests()
    assert before["meta_train"] == after["meta_train"]
    assert before["evaluate"] != after["evaluate"]


@pytest.mark.parametrize(
    ("agent", "words"),
    [
        ("smac_no_such_package:load", "nothing to import: in agent of the method"),
        ("smac_core.smac_agent:lode", "'smac_core.smac_agent:lode'"),
        ("load", "package.module:name"),
    ],
)
def test_what_cannot_be_imported_is_told(refused, finished, agent, words):
    config = finished.section("evaluate", agent=agent)
    changes = {"config": config, "checkpoint": finished.checkpoint(1)}
    assert words in refused("evaluate", 1, changes=changes)


def test_smacs_networks_are_not_read_from_another_algorithm(refused, pushed):
    line = refused("evaluate", 0, changes={"checkpoint": pushed})
    assert "checkpoint of another algorithm" in line
    assert "found pushes" in line
    assert "`agent:` of the method file" in line
    line = refused("rollout", 1, changes={"checkpoint": pushed})
    assert "checkpoint of another algorithm" in line
    assert "`rounds: none`" in line


def test_a_checkpoint_before_the_key_is_smacs(finished, tmp_path):
    found = read_checkpoint(finished.checkpoint(0))
    old = {name: value for name, value in found.metadata.items() if name != "algorithm"}
    path = tmp_path / "old.safetensors"
    write_checkpoint(path, found.tensors, old)
    assert json.dumps(old) != json.dumps(found.metadata)
    changes = {"checkpoint": path, "out": tmp_path / "out/returns.zarr"}
    assert finished.call("evaluate", 0, changes=changes) == 0
