"""The forward pass against NumPy in float64, and the bits of a row under any batch."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kernels.mlp import mlp_forward, num_parameters


def oracle(params: np.ndarray, sizes: list[int], x: np.ndarray) -> np.ndarray:
    """A multilayer perceptron in plain NumPy, float64."""
    y, offset = x.astype(np.float64), 0
    for layer, (ins, outs) in enumerate(itertools.pairwise(sizes)):
        weight = params[offset : offset + ins * outs].reshape(ins, outs)
        bias = params[offset + ins * outs : offset + (ins + 1) * outs]
        y = y @ weight + bias
        if layer < len(sizes) - 2:
            y = np.maximum(y, 0)
        offset += (ins + 1) * outs
    assert offset == params.size
    return y


def network(sizes: list[int], seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Random parameters, and the widths as the kernels take them."""
    rng = np.random.default_rng(seed)
    widths = np.array(sizes, dtype=np.int64)
    params = rng.normal(size=num_parameters(widths)) / np.sqrt(max(sizes))
    return params.astype(np.float32), widths


def forward(params: np.ndarray, sizes: np.ndarray, x: np.ndarray) -> np.ndarray:
    out = np.full((len(x), sizes[-1]), np.nan, dtype=np.float32)
    mlp_forward(params, sizes, x, out)
    return out


def rows(num: int, width: int, seed: int = 1) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(num, width)).astype(np.float32)


@given(
    sizes=st.lists(st.integers(1, 70), min_size=2, max_size=5),
    num=st.integers(0, 135),
    seed=st.integers(0, 1000),
)
@settings(max_examples=80, deadline=None)
def test_equals_numpy(sizes, num, seed):
    params, widths = network(sizes, seed)
    x = rows(num, sizes[0], seed)
    np.testing.assert_allclose(
        forward(params, widths, x), oracle(params, sizes, x), rtol=2e-5, atol=2e-6
    )


@pytest.mark.parametrize("sizes", [[25, 300, 300, 300, 12], [40, 64, 64, 1], [3, 33, 17, 16]])
def test_bits_of_a_row_do_not_depend_on_the_batch(sizes):
    params, widths = network(sizes)
    x = rows(150, sizes[0])
    whole = forward(params, widths, x)
    for num in (1, 2, 3, 4, 5, 63, 64, 65, 128, 149):
        for start in (0, 1, 150 - num):
            part = forward(params, widths, x[start : start + num])
            np.testing.assert_array_equal(part, whole[start : start + num])


def test_works_on_read_only_inputs():
    params, widths = network([3, 8, 2])
    x = rows(4, 3)
    expected = forward(params, widths, x)
    for array in (params, widths, x):
        array.flags.writeable = False
    np.testing.assert_array_equal(forward(params, widths, x), expected)


def test_nan_stays_in_its_row():
    params, widths = network([3, 8, 2])
    x = rows(6, 3)
    clean = forward(params, widths, x)
    x[2, 1] = np.nan
    out = forward(params, widths, x)
    assert np.isnan(out[2]).all()
    np.testing.assert_array_equal(np.delete(out, 2, 0), np.delete(clean, 2, 0))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda p, s, x, o: (p[:-1], s, x, o), "params"),
        (lambda p, s, x, o: (p, s[:1], x, o), "sizes"),
        (lambda p, s, x, o: (p, s * 0, x, o), "sizes"),
        (lambda p, s, x, o: (p, s, np.ones((4, 2), np.float32), o), "first width"),
        (lambda p, s, x, o: (p, s, x, np.empty((4, 3), np.float32)), "last width"),
        (lambda p, s, x, o: (p, s, x, np.empty((3, 2), np.float32)), "one row"),
    ],
)
def test_wrong_shapes(change, message):
    params, widths = network([3, 8, 2])
    arguments = (params, widths, rows(4, 3), np.empty((4, 2), np.float32))
    mlp_forward(*arguments)
    with pytest.raises(ValueError, match=message):
        mlp_forward(*change(*arguments))


def test_wrong_dtype_or_order():
    params, widths = network([3, 8, 2])
    out = np.empty((4, 2), np.float32)
    with pytest.raises(TypeError):
        mlp_forward(params, widths, rows(4, 3).astype(np.float64), out)
    with pytest.raises(TypeError):
        mlp_forward(params, widths, np.asfortranarray(rows(4, 3)), out)
    with pytest.raises(TypeError):
        mlp_forward(params, widths.astype(np.int32), rows(4, 3), out)
