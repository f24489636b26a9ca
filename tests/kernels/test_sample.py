"""Meta-batches against a NumPy reading of the documented streams."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kernels.random import philox4x32
from kernels.sample import sample_meta_batch

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


def make(
    sizes, num_tasks=3, num_rows=5, num_context=4, *,
    obs_dim=3, action_dim=2, padding=0, context_next_obs=False, seed=0,
):  # fmt: skip
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
        "table": normal(total, 2 * obs_dim + action_dim + 2 + padding),
    }
    shapes = [(obs_dim,), (action_dim,), (), (obs_dim,), ()]
    outputs = [np.full(num_tasks, -1)]
    outputs += [np.full((num_tasks, num_rows, *s), np.nan, np.float32) for s in shapes]
    features = obs_dim * (1 + context_next_obs) + action_dim + 1
    outputs += [np.full((num_tasks, num_context, features), np.nan, np.float32)]
    return inputs, dict(zip(NAMES, outputs, strict=True))


def sample(update, inputs, outputs):
    sample_meta_batch(KEY, update, *inputs.values(), *outputs.values())
    return outputs


def columns(table, obs_dim, action_dim):
    """The parts of every record, by their names."""
    ends = np.cumsum([obs_dim, action_dim, 1, obs_dim, 1])
    parts = dict(zip(NAMES[1:6], np.split(table, ends, axis=1)[:5], strict=True))
    return parts | {name: parts[name][:, 0] for name in ("reward", "terminated")}


@given(
    sizes=st.lists(st.integers(0, 9), min_size=1, max_size=5).filter(any),
    shape=st.tuples(st.integers(1, 4), st.integers(1, 99), st.integers(0, 99)),
    dims=st.tuples(st.sampled_from([1, 3, 16, 27, 130, 376]), st.integers(1, 20)),
    padding=st.sampled_from([0, 1, 30]),
    context_next_obs=st.booleans(),
    update=st.integers(0, 2**40),
)
@settings(max_examples=120, deadline=None)
def test_equals_numpy(sizes, shape, dims, padding, context_next_obs, update):
    obs_dim, action_dim = dims
    inputs, outputs = make(
        sizes, *shape, obs_dim=obs_dim, action_dim=action_dim, padding=padding,
        context_next_obs=context_next_obs,
    )  # fmt: skip
    num_tasks, num_rows, num_context = shape
    expected = columns(inputs["table"], obs_dim, action_dim)
    sample(update, inputs, outputs)
    tasks = choose(update, 0, 0, num_tasks, inputs["task_pool"])
    np.testing.assert_array_equal(outputs["task"], tasks)
    for m, slot in enumerate(tasks):
        span = slice(*inputs["replay_starts"][slot : slot + 2])
        rows = choose(update, 1, m * num_rows, num_rows, inputs["replay_rows"][span])
        context = choose(update, 2, m * num_context, num_context, inputs["context_rows"][span])
        for name in ("obs", "action", "reward", "next_obs", "terminated"):
            np.testing.assert_array_equal(outputs[name][m], expected[name][rows])
        seen = inputs["table"][:, : outputs["context"].shape[2]]
        np.testing.assert_array_equal(outputs["context"][m], seen[context])


def test_one_transition_fills_everything():
    inputs, outputs = make([0, 1, 0])
    sample(5, inputs, outputs)
    assert (outputs["task"] == 1).all()
    assert (outputs["obs"] == inputs["table"][0, :3]).all()
    assert (outputs["context"] == inputs["table"][0, :6]).all()


def test_every_row_of_a_slot_is_drawn_and_no_other():
    inputs, outputs = make([4, 3], num_tasks=1, num_rows=7, num_context=1)
    inputs["task_pool"] = np.array([1])
    inputs["table"][:, 5] = np.arange(7)
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
        ({"table": np.zeros((6, 10), np.float32)}, "no such row"),
        ({"table": np.zeros((7, 9), np.float32)}, "too few columns"),
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
        ({"obs": np.empty((3, 4, 3), np.float32)}, "out_obs"),
        ({"action": np.empty((2, 5, 2), np.float32)}, "out_action"),
        ({"next_obs": np.empty((3, 5, 4), np.float32)}, "out_next_obs"),
        ({"context": np.empty((3, 4, 7), np.float32)}, "out_context"),
        ({"terminated": np.empty((3, 4), np.float32)}, "out_terminated"),
        ({"context": np.empty((2, 4, 6), np.float32)}, "out_context"),
    ],
)
def test_wrong_outputs(change, message):
    inputs, outputs = make([4, 3])
    with pytest.raises(ValueError, match=message):
        sample(0, inputs, outputs | change)


@pytest.mark.parametrize("name", ["table", "replay_rows"])
def test_wrong_dtype(name):
    inputs, outputs = make([4, 3])
    with pytest.raises(TypeError):
        sample(0, inputs | {name: inputs[name].astype(np.float16)}, outputs)
