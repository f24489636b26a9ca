"""Environments that need more than the project does are left out where that is not installed."""

from __future__ import annotations

import pytest

from pipeline import config as cf
from pipeline.launch import load_preset
from pipeline.strict import read_yaml
from smac_core.errors import ConfigError

PRESET = {"envs": ["point-robot"], "methods": ["smac"], "rounds": 0}


def test_an_environment_is_there_only_with_its_module():
    run = cf.load_run(
        PRESET | {"envs_with": {"cheetah-vel": "mujoco", "ant-dir": "no_such_module"}}
    )
    assert run.envs == ("point-robot", "cheetah-vel")
    assert cf.left_out(run) == {"ant-dir": "no_such_module"}
    # What the jobs are told says the same again.
    assert cf.read_run(cf.to_json(run)) == run


def test_its_name_and_its_module_are_checked():
    with pytest.raises(ConfigError, match=r"unknown env: .*nowhere"):
        cf.load_run(PRESET | {"envs_with": {"nowhere": "numpy"}})
    with pytest.raises(ConfigError, match="envs_with"):
        cf.load_run(PRESET | {"envs_with": {"ant-dir": "os; rm"}})


def test_the_shipped_presets_resolve():
    folder = cf.CONFIG_FOLDER
    for name in ("figure8", "paper", "sawyer-test"):
        path = folder / f"{name}.yaml"
        assert load_preset([path], read_yaml(path), {}).envs
