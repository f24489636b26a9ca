"""Meta-batches against a NumPy reading of the documented streams."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kernels.random import fill_uniform_index, philox4x32
from kernels.sample import sample_context, sample_meta_batch

KEY = 0x123456789ABCDEF0
NAMES = ["task", "obs", "action", "reward", "next_obs", "terminated", "context"]


def words(update: int, purpose: int, first: int, num: int) -> np.ndarray:
    """Numbers ``first`` … of a stream as 32-bit words."""
    low = 0xFFFFFFFF
    blocks = [
        philox4x32(j, purpose, update & low, update >> 32, KEY & low, KEY >> 32)
        for j in range((first + num + 3) // 4)
    ]
    return np.array(blocks, dtype=np.uint64).reshape(-1)[first : first + num]


def choose(update, purpose, first, num, pool):
    drawn = words(update, purpose, first, num) * np.uint64(len(pool)) >> np.uint64(32)
    return np.asarray(pool)[drawn.astype(np.int64)]


def make(sizes, num_tasks=3, num_rows=5, num_context=4, seed=0):
    """Arguments of the kernel, inputs and outputs apart, for slots of the given sizes."""
    rng = np.random.default_rng(seed)
    total = max(sum(sizes), 1)

    def normal(*shape):
        return rng.normal(size=shape).astype(np.float32)

    starts = np.cumsum([0, *sizes])
    pool = np.flatnonzero(np.array(sizes) > 0)
    inputs = {
        "task_pool": pool,
        "replay_rows": rng.permutation(total)[: starts[-1]],
        "replay_starts": starts,
        "context_rows": rng.permutation(total)[: starts[-1]],
        "context_starts": starts.copy(),
        "obs": normal(total, 3),
        "action": normal(total, 2),
        "reward": normal(total),
        "next_obs": normal(total, 3),
        "terminated": (normal(total) > 0).astype(np.float32),
        "features": normal(total, 6),
    }
    shapes = [(3,), (2,), (), (3,), ()]
    outputs = [np.full(num_tasks, -1)]
    outputs += [np.full((num_tasks, num_rows, *s), np.nan, np.float32) for s in shapes]
    outputs += [np.full((num_tasks, num_context, 6), np.nan, np.float32)]
    return inputs, dict(zip(NAMES, outputs, strict=True))


def sample(update, inputs, outputs):
    sample_meta_batch(KEY, update, *inputs.values(), *outputs.values())
    return outputs


@given(
    sizes=st.lists(st.integers(0, 9), min_size=1, max_size=5).filter(any),
    shape=st.tuples(st.integers(1, 4), st.integers(1, 9), st.integers(0, 9)),
    update=st.integers(0, 2**40),
)
@settings(max_examples=60, deadline=None)
def test_equals_numpy(sizes, shape, update):
    inputs, outputs = make(sizes, *shape)
    num_tasks, num_rows, num_context = shape
    sample(update, inputs, outputs)
    tasks = choose(update, 0, 0, num_tasks, inputs["task_pool"])
    np.testing.assert_array_equal(outputs["task"], tasks)
    for m, slot in enumerate(tasks):
        span = slice(*inputs["replay_starts"][slot : slot + 2])
        rows = choose(update, 1, m * num_rows, num_rows, inputs["replay_rows"][span])
        context = choose(update, 2, m * num_context, num_context, inputs["context_rows"][span])
        for name in ("obs", "action", "reward", "next_obs", "terminated"):
            np.testing.assert_array_equal(outputs[name][m], inputs[name][rows])
        np.testing.assert_array_equal(outputs["context"][m], inputs["features"][context])


def test_one_transition_fills_everything():
    inputs, outputs = make([0, 1, 0])
    sample(5, inputs, outputs)
    assert (outputs["task"] == 1).all()
    assert (outputs["obs"] == inputs["obs"][0]).all()
    assert (outputs["context"] == inputs["features"][0]).all()


def test_every_row_of_a_slot_is_drawn_and_no_other():
    inputs, outputs = make([4, 3], num_tasks=1, num_rows=7, num_context=1)
    inputs["task_pool"] = np.array([1])
    inputs["reward"] = np.arange(7, dtype=np.float32)
    seen = {r for u in range(50) for r in sample(u, inputs, outputs)["reward"][0].tolist()}
    assert seen == set(inputs["replay_rows"][4:].tolist())


def test_updates_and_keys_differ_and_repeat():
    first = sample(1, *make([50], num_rows=20))["reward"]
    np.testing.assert_array_equal(sample(1, *make([50], num_rows=20))["reward"], first)
    assert not np.array_equal(sample(2, *make([50], num_rows=20))["reward"], first)
    inputs, outputs = make([50], num_rows=20)
    sample_meta_batch(KEY + 1, 1, *inputs.values(), *outputs.values())
    assert not np.array_equal(outputs["reward"], first)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"task_pool": np.array([], np.int64)}, "task_pool"),
        ({"task_pool": np.array([2])}, "no such slot"),
        ({"task_pool": np.array([-1])}, "no such slot"),
        ({"replay_starts": np.array([0, 0, 7])}, "no rows"),
        ({"context_starts": np.array([0, 4, 4])}, "no rows"),
        ({"context_starts": np.array([0, 4, 8])}, "outside"),
        ({"replay_starts": np.array([-1, 4, 7])}, "outside"),
        ({"replay_rows": np.full(7, 7)}, "no such row"),
        ({"context_rows": np.full(7, -1)}, "no such row"),
        ({"reward": np.zeros(6, np.float32)}, "lengths"),
        ({"action": np.zeros((6, 2), np.float32)}, "lengths"),
        ({"obs": np.zeros((7, 4), np.float32)}, "out_obs"),
        ({"action": np.zeros((7, 4), np.float32)}, "out_action"),
        ({"next_obs": np.zeros((7, 4), np.float32)}, "out_next_obs"),
        ({"features": np.zeros((7, 4), np.float32)}, "out_context"),
    ],
)
def test_wrong_inputs(change, message):
    inputs, outputs = make([4, 3])
    with pytest.raises(ValueError, match=message):
        sample(0, inputs | change, outputs)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"task": np.empty(2, np.int64)}, "out_task"),
        ({"terminated": np.empty((3, 4), np.float32)}, "out_terminated"),
        ({"context": np.empty((2, 4, 6), np.float32)}, "out_context"),
    ],
)
def test_wrong_outputs(change, message):
    inputs, outputs = make([4, 3])
    with pytest.raises(ValueError, match=message):
        sample(0, inputs, outputs | change)


@pytest.mark.parametrize("name", ["obs", "terminated", "features", "replay_rows"])
def test_wrong_dtype(name):
    inputs, outputs = make([4, 3])
    with pytest.raises(TypeError):
        sample(0, inputs | {name: inputs[name].astype(np.float16)}, outputs)


@given(size=st.integers(1, 9), num=st.integers(0, 9))
@settings(max_examples=30, deadline=None)
def test_context_of_one_task(size, num):
    features = np.arange(20, dtype=np.float32).reshape(10, 2)
    rows = np.arange(size) + 1
    out = np.full((num, 2), np.nan, np.float32)
    sample_context(KEY, 9, rows, features, out)
    drawn = np.empty(num, np.int64)
    fill_uniform_index(KEY, 9, 2, size, drawn)
    np.testing.assert_array_equal(out, features[rows[drawn]])


def test_context_of_one_task_refuses():
    features, out = np.zeros((3, 2), np.float32), np.empty((4, 2), np.float32)
    with pytest.raises(ValueError, match="rows"):
        sample_context(KEY, 0, np.array([], np.int64), features, out)
    with pytest.raises(ValueError, match="no such row"):
        sample_context(KEY, 0, np.array([3]), features, out)
    with pytest.raises(ValueError, match="out_context"):
        sample_context(KEY, 0, np.array([0]), features, np.empty((4, 3), np.float32))
    with pytest.raises(TypeError):
        sample_context(KEY, 0, np.array([0], np.int32), features, out)
