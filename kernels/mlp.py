"""Forward pass of a multilayer perceptron: ReLU between the layers, the last one linear.

Parameters are one flat float32 vector: for each layer the weight ``[in, out]`` row by row, then the
bias ``[out]``. Every output is one chain of fused multiply-adds over the inputs in order, started
from the bias; so the bits of a row depend on that row alone, not on the batch around it.
"""

from __future__ import annotations

from typing import TypeAlias

import numpy as np
import numpy.typing as npt
from numba import types

from kernels._jit import F4_1, F4_2, I8_1, OUT_F4_2, helper, jit
from kernels._simd import LANES, broadcast, fma, load, load_first, relu, store

Floats: TypeAlias = npt.NDArray[np.float32]
Ints: TypeAlias = npt.NDArray[np.int64]

# Rows that pass through all layers together: their activations stay in the second-level cache while
# a layer's weights, read once for them all, stream by.
PANEL = 64
# A tile of 4 rows by 32 columns is 8 sums in registers: enough to hide the latency of two
# multiply-add units, and few enough for 32 registers.
_ROWS = 4


@jit(types.int64(I8_1))
def num_parameters(sizes: Ints) -> int:
    """Count the parameters of a network.

    Args:
        sizes: ``[num_layers + 1]`` layer widths, int64.

    Returns:
        Length of its parameter vector.
    """
    total = 0
    for layer in range(sizes.size - 1):
        total += (sizes[layer] + 1) * sizes[layer + 1]
    return total


@helper
def check_network(params: Floats, sizes: Ints, inputs: int, outputs: int) -> None:
    """Raise ValueError unless the parameters and the widths describe one network.

    Args:
        params: Flat parameters.
        sizes: Layer widths.
        inputs: Expected width of the first layer.
        outputs: Expected width of the last layer.
    """
    if sizes.size < 2 or sizes.min() < 1:
        raise ValueError("sizes: expected at least two positive layer widths")
    if params.size != num_parameters(sizes):
        raise ValueError("params: length differs from the sum of (in + 1) * out over the layers")
    if sizes[0] != inputs:
        raise ValueError("sizes: first width differs from the width of the inputs")
    if sizes[-1] != outputs:
        raise ValueError("sizes: last width differs from the width of the outputs")


@helper
def panel_width(sizes: Ints) -> int:
    """Floats from one row of a panel to the next: the widest layer, rounded up to whole vectors."""
    return int((sizes.max() + LANES - 1) // LANES * LANES)


@helper
def _tile(
    params: Floats, weight: int, bias: int, ins: int, outs: int, column: int,
    x: Floats, y: Floats, r0: int, r1: int, r2: int, r3: int, rectify: bool,
) -> None:  # fmt: skip
    """Fill 4 rows by 32 columns of a layer's output; r0..r3 are offsets of the rows."""
    a0 = b0 = c0 = d0 = load(params, bias + column)
    a1 = b1 = c1 = d1 = load(params, bias + column + LANES)
    for k in range(ins):
        w = weight + k * outs + column
        w0, w1 = load(params, w), load(params, w + LANES)
        xa, xb = broadcast(x[r0 + k]), broadcast(x[r1 + k])
        xc, xd = broadcast(x[r2 + k]), broadcast(x[r3 + k])
        a0, a1 = fma(xa, w0, a0), fma(xa, w1, a1)
        b0, b1 = fma(xb, w0, b0), fma(xb, w1, b1)
        c0, c1 = fma(xc, w0, c0), fma(xc, w1, c1)
        d0, d1 = fma(xd, w0, d0), fma(xd, w1, d1)
    if rectify:
        a0, b0, c0, d0 = relu(a0), relu(b0), relu(c0), relu(d0)
        a1, b1, c1, d1 = relu(a1), relu(b1), relu(c1), relu(d1)
    store(y, r0 + column, a0)
    store(y, r0 + column + LANES, a1)
    store(y, r1 + column, b0)
    store(y, r1 + column + LANES, b1)
    store(y, r2 + column, c0)
    store(y, r2 + column + LANES, c1)
    store(y, r3 + column, d0)
    store(y, r3 + column + LANES, d1)


@helper
def _edge_tile(
    params: Floats, weight: int, bias: int, ins: int, outs: int, column: int,
    x: Floats, y: Floats, r0: int, r1: int, r2: int, r3: int, rectify: bool,
) -> None:  # fmt: skip
    """Fill 4 rows by at most 16 columns, those that are left of the layer's output."""
    left = min(LANES, outs - column)
    a = b = c = d = load_first(params, bias + column, left)
    for k in range(ins):
        w = load_first(params, weight + k * outs + column, left)
        a, b = fma(broadcast(x[r0 + k]), w, a), fma(broadcast(x[r1 + k]), w, b)
        c, d = fma(broadcast(x[r2 + k]), w, c), fma(broadcast(x[r3 + k]), w, d)
    if rectify:
        a, b, c, d = relu(a), relu(b), relu(c), relu(d)
    # Rows of a panel end on whole vectors, so that storing all lanes stays inside the row.
    store(y, r0 + column, a)
    store(y, r1 + column, b)
    store(y, r2 + column, c)
    store(y, r3 + column, d)


@helper
def _layer(
    params: Floats, offset: int, ins: int, outs: int, x: Floats, y: Floats, rows: int, width: int,
    rectify: bool,
) -> None:  # fmt: skip
    """Compute one layer for the rows of a panel."""
    bias = offset + ins * outs
    for column in range(0, outs, 2 * LANES):
        for row in range(0, rows, _ROWS):
            # The last block repeats the last row; what it writes twice is the same.
            r0 = row * width
            r1, r2, r3 = (
                min(row + 1, rows - 1) * width,
                min(row + 2, rows - 1) * width,
                min(row + 3, rows - 1) * width,
            )
            if column + 2 * LANES <= outs:
                _tile(params, offset, bias, ins, outs, column, x, y, r0, r1, r2, r3, rectify)
                continue
            for edge in range(column, outs, LANES):
                _edge_tile(params, offset, bias, ins, outs, edge, x, y, r0, r1, r2, r3, rectify)


@helper
def forward_panel(
    params: Floats, sizes: Ints, x: Floats, y: Floats, rows: int, width: int
) -> Floats:
    """Run a panel of rows through the network.

    Args:
        params: Flat parameters.
        sizes: Layer widths.
        x: Flat ``[rows * width]``; holds the inputs, and is overwritten.
        y: Scratch of the same size.
        rows: Rows in use, at most ``PANEL``.
        width: ``panel_width(sizes)``.

    Returns:
        x or y, whichever holds the outputs.
    """
    offset = 0
    for layer in range(sizes.size - 1):
        ins, outs = sizes[layer], sizes[layer + 1]
        _layer(params, offset, ins, outs, x, y, rows, width, layer < sizes.size - 2)
        offset += (ins + 1) * outs
        x, y = y, x
    return x


@jit(types.void(F4_1, I8_1, F4_2, OUT_F4_2))
def mlp_forward(params: Floats, sizes: Ints, x: Floats, out: Floats) -> None:
    """Run rows through a network.

    Args:
        params: Flat parameters.
        sizes: ``[num_layers + 1]`` layer widths.
        x: ``[N, in]`` inputs.
        out: ``[N, out]`` outputs, written.

    Raises:
        ValueError: The shapes do not fit together.
    """
    check_network(params, sizes, x.shape[1], out.shape[1])
    if x.shape[0] != out.shape[0]:
        raise ValueError("out: expected one row for each row of x")
    width = panel_width(sizes)
    panel_a = np.empty(min(PANEL, len(x)) * width, np.float32)
    panel_b = np.empty_like(panel_a)
    for start in range(0, len(x), PANEL):
        rows = min(PANEL, len(x) - start)
        for i in range(rows):
            panel_a[i * width : i * width + x.shape[1]] = x[start + i]
        result = forward_panel(params, sizes, panel_a, panel_b, rows, width)
        for i in range(rows):
            out[start + i] = result[i * width : i * width + out.shape[1]]
