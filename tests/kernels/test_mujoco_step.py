"""Compiled stepping against MuJoCo's own Python interface, bit for bit."""

import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import mujoco
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kernels.mujoco_step import MAX_STATE, copy_fields, silence_warnings, step_batch

ROOT = Path(__file__).resolve().parents[2]
# A two-link arm that falls on a floor: it has controls, contacts, and diverges when told to.
MODEL = """
<mujoco><option timestep="0.01"><flag autoreset="disable"/></option>
  <worldbody><geom type="plane" size="5 5 1"/>
    <body pos="0 0 .3"><joint name="a" axis="0 1 0"/>
      <geom type="capsule" fromto="0 0 0 .3 0 0" size=".05"/>
      <body pos=".3 0 0"><joint name="b" axis="0 1 0"/>
        <geom type="capsule" fromto="0 0 0 .3 0 0" size=".05"/></body></body></worldbody>
  <actuator><motor joint="a" gear="3"/><motor joint="b" gear="2"/></actuator></mujoco>
"""


class Simulators:
    """N simulators, and the arguments of the kernels for them."""

    def __init__(self, num: int, seed: int = 0) -> None:
        self.model = mujoco.MjModel.from_xml_string(MODEL)
        self.data = [mujoco.MjData(self.model) for _ in range(num)]
        rng = np.random.default_rng(seed)
        for data in self.data:
            data.qpos[:] = rng.uniform(-1, 1, self.model.nq)
            mujoco.mj_forward(self.model, data)
        self.views = [(d.qpos, d.qvel, d.xpos, d.cfrc_ext) for d in self.data]
        self.fields = np.array([[v.ctypes.data for v in row] for row in self.views], np.int64)
        self.fields = self.fields.reshape(num, 4)
        self.sizes = np.array([2, 2, 9, 18])
        self.state = np.full((num, 31), -1.0)
        self.ok = np.zeros(num, dtype=bool)

    def step(self, ctrl, active, frame_skip=5, post_constraint=True, part=slice(None)):
        num = len(self.data)
        model = np.full(num, self.model._address, dtype=np.int64)
        data = np.array([d._address for d in self.data], dtype=np.int64)
        target = np.array([d.ctrl.ctypes.data for d in self.data], dtype=np.int64)
        step_batch(
            model[part], data[part], active[part], ctrl[part], frame_skip, post_constraint,
            target[part], self.fields[part], self.sizes, self.state[part], self.ok[part],
        )  # fmt: skip

    def expected_step(self, ctrl, active, frame_skip=5, post_constraint=True):
        for data, row, on in zip(self.data, ctrl, active, strict=True):
            if on:
                data.ctrl[:] = row
                for _ in range(frame_skip):
                    mujoco.mj_step(self.model, data)
                if post_constraint:
                    mujoco.mj_rnePostConstraint(self.model, data)

    def expected_state(self) -> np.ndarray:
        return np.array([np.concatenate([v.ravel() for v in row]) for row in self.views])


def controls(num: int, seed: int = 1) -> np.ndarray:
    return np.random.default_rng(seed).uniform(-1, 1, (num, 2))


@given(
    active=st.lists(st.booleans(), min_size=1, max_size=5),
    frame_skip=st.integers(0, 5),
    post_constraint=st.booleans(),
)
@settings(max_examples=30, deadline=None)
def test_equals_mujoco_bit_for_bit(active, frame_skip, post_constraint):
    num = len(active)
    active = np.array(active)
    ours, theirs = Simulators(num), Simulators(num)
    for step in range(4):
        ctrl = controls(num, step)
        ours.step(ctrl, active, frame_skip, post_constraint)
        theirs.expected_step(ctrl, active, frame_skip, post_constraint)
    np.testing.assert_array_equal(ours.state[active], theirs.expected_state()[active])
    np.testing.assert_array_equal(ours.state[~active], -1)
    np.testing.assert_array_equal(ours.ok, active)


def test_post_constraint_fills_the_contact_forces():
    with_forces, without = Simulators(3), Simulators(3)
    active = np.ones(3, dtype=bool)
    for step in range(30):
        with_forces.step(controls(3, step), active)
        without.step(controls(3, step), active, post_constraint=False)
    assert np.abs(with_forces.state[:, 13:]).max() > 0.1
    np.testing.assert_array_equal(without.state[:, 13:], 0)
    np.testing.assert_array_equal(with_forces.state[:, :13], without.state[:, :13])


def test_bits_do_not_depend_on_the_split_or_on_threads():
    whole, split = Simulators(7), Simulators(7)
    active = np.ones(7, dtype=bool)
    parts = [slice(0, 1), slice(1, 5), slice(5, 7)]
    with ThreadPoolExecutor(3) as pool:
        for step in range(20):
            ctrl = controls(7, step)
            whole.step(ctrl, active)
            list(pool.map(lambda p, c=ctrl: split.step(c, active, part=p), parts))
    np.testing.assert_array_equal(split.state, whole.state)


def test_a_diverged_simulator_stays_local(capfd, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    silence_warnings()
    bad, good = Simulators(4), Simulators(4)
    active = np.ones(4, dtype=bool)
    bad.data[2].qvel[0] = np.inf
    bad.data[3].qpos[1] = np.nan
    for step in range(3):
        bad.step(controls(4, step), active)
        good.step(controls(4, step), active)
    np.testing.assert_array_equal(bad.ok, [True, True, False, False])
    np.testing.assert_array_equal(bad.state[:2], good.state[:2])
    assert capfd.readouterr() == ("", "")
    assert list(tmp_path.iterdir()) == []


def test_copy_fields():
    simulators = Simulators(3)
    active = np.array([True, False, True])
    copy_fields(active, simulators.fields, simulators.sizes, simulators.state, simulators.ok)
    np.testing.assert_array_equal(simulators.state[active], simulators.expected_state()[active])
    np.testing.assert_array_equal(simulators.state[1], -1)
    np.testing.assert_array_equal(simulators.ok, active)


def test_the_limit_is_that_of_mujoco():
    assert mujoco.mjMAXVAL == MAX_STATE


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 1.01 * MAX_STATE, -1.01 * MAX_STATE])
def test_one_value_that_is_not_sound_is_noticed(value):
    simulators = Simulators(2)
    simulators.data[1].qpos[0] = value
    active = np.ones(2, dtype=bool)
    copy_fields(active, simulators.fields, simulators.sizes, simulators.state, simulators.ok)
    np.testing.assert_array_equal(simulators.ok, [True, False])
    np.testing.assert_array_equal(simulators.state, simulators.expected_state())


def test_copy_fields_of_no_simulator_and_of_no_field():
    none = Simulators(0)
    copy_fields(np.ones(0, bool), none.fields, none.sizes, none.state, none.ok)
    one = Simulators(1)
    nothing = np.empty((1, 0), np.int64), np.empty(0, np.int64), np.empty((1, 0)), one.ok
    copy_fields(np.ones(1, bool), *nothing)
    assert one.ok.all()


def test_fresh_process_runs_cached_code_that_calls_mujoco(tmp_path):
    code = (
        "import mujoco, numpy as np, kernels.mujoco_step as m\n"
        "model = mujoco.MjModel.from_xml_string(XML); data = mujoco.MjData(model)\n"
        "def i(*v): return np.array(v, dtype=np.int64)\n"
        "out = np.empty((1, 2))\n"
        "m.step_batch(i(model._address), i(data._address), np.ones(1, bool), np.ones((1, 2)), 5,\n"
        "  True, i(data.ctrl.ctypes.data), i(data.qpos.ctypes.data)[:, None], i(2), out,\n"
        "  np.ones(1, bool))\n"
        "print(repr(out.tolist()), sum(m.step_batch.stats.cache_hits.values()))\n"
    ).replace("XML", repr(MODEL))
    environment = os.environ | {"SMAC_CACHE_DIR": str(tmp_path), "PYTHONPATH": str(ROOT)}
    lines = [
        subprocess.run(
            [sys.executable, "-c", code],
            env=environment,
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for _ in range(2)
    ]
    assert [line[-2] for line in lines] == ["0", "1"]
    assert lines[0][:-2] == lines[1][:-2]


def test_the_module_does_not_import_mujoco(tmp_path):
    code = "import sys, kernels.mujoco_step; print('mujoco' in sys.modules)"
    result = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert result.stdout == "False\n"


def test_wrong_shapes_and_dtypes():
    sim = Simulators(3)
    active = np.ones(3, dtype=bool)
    fields = (sim.fields, sim.sizes, sim.state, sim.ok)
    with pytest.raises(ValueError, match="field_address"):
        copy_fields(active[:2], *fields)
    with pytest.raises(ValueError, match="field_address"):
        copy_fields(active, sim.fields, sim.sizes[:3], sim.state, sim.ok)
    with pytest.raises(ValueError, match="out_state"):
        copy_fields(active, sim.fields, sim.sizes, sim.state[:2], sim.ok)
    with pytest.raises(ValueError, match="width"):
        copy_fields(active, sim.fields, sim.sizes + 1, sim.state, sim.ok)
    with pytest.raises(ValueError, match="negative"):
        copy_fields(active, sim.fields, -sim.sizes, sim.state, sim.ok)
    with pytest.raises(ValueError, match="ctrl"):
        sim.step(controls(2), active)
    with pytest.raises(ValueError, match="frame_skip"):
        sim.step(controls(3), active, frame_skip=-1)
    with pytest.raises(TypeError):
        sim.step(controls(3).astype(np.float32), active)
    with pytest.raises(TypeError):
        copy_fields(active.astype(np.int64), *fields)
