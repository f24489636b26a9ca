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

from kernels._jit import F4_1, F4_2, I8_1, OUT_F4_2, helper, inlined, jit
from kernels._simd import LANES, load, store
from kernels._tile import ROWS, VECTORS, make_tile

Floats: TypeAlias = npt.NDArray[np.float32]
Ints: TypeAlias = npt.NDArray[np.int64]

# Rows that pass through all layers together: their activations stay in the second-level cache while
# a layer's weights, read once for them all, stream by.
PANEL = 64
_WHOLE = make_tile(ROWS[VECTORS - 1], VECTORS, masked=False)
_EDGE1, _EDGE2, _EDGE3, _EDGE4 = (make_tile(ROWS[v - 1], v, masked=True) for v in (1, 2, 3, 4))


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


@inlined
def copy_row(source: Floats, at: int, length: int, out: Floats, into: int) -> None:
    """Copy values between flat arrays, by whole vectors where there is room for them.

    So it writes over what follows in ``out``: rows must be filled in order.

    Args:
        source: Flat.
        at: Where to begin reading.
        length: How many values.
        out: Flat, written.
        into: Where to begin writing.
    """
    if max(at - source.size, into - out.size) + length <= -LANES:
        for j in range(0, length, LANES):
            store(out, into + j, load(source, at + j))
    else:
        for j in range(length):
            out[into + j] = source[at + j]


@helper
def panel_width(sizes: Ints) -> int:
    """Floats from one row of a panel to the next: the widest layer, rounded up to whole vectors."""
    return int((sizes.max() + LANES - 1) // LANES * LANES)


@helper
def _layer(
    params: Floats, weight: int, ins: int, outs: int, x: Floats, y: Floats, rows: int, width: int,
    rectify: bool,
) -> None:  # fmt: skip
    """Compute one layer for the rows of a panel, a block of columns at a time."""
    bias, last, block = weight + ins * outs, rows - 1, VECTORS * LANES
    edge = outs // block * block
    for column in range(0, edge, block):
        for row in range(0, rows, ROWS[VECTORS - 1]):
            _WHOLE(params, weight, bias, ins, outs, x, y, column, row, last, width, rectify)
    vectors = (outs - edge + LANES - 1) // LANES
    for row in range(0, rows if vectors > 0 else 0, ROWS[max(vectors - 1, 0)]):
        if vectors == 1:
            _EDGE1(params, weight, bias, ins, outs, x, y, edge, row, last, width, rectify)
        elif vectors == 2:
            _EDGE2(params, weight, bias, ins, outs, x, y, edge, row, last, width, rectify)
        elif vectors == 3:
            _EDGE3(params, weight, bias, ins, outs, x, y, edge, row, last, width, rectify)
        else:
            _EDGE4(params, weight, bias, ins, outs, x, y, edge, row, last, width, rectify)


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
    width, ins, outs = panel_width(sizes), x.shape[1], out.shape[1]
    flat, flat_out = x.reshape(-1), out.reshape(-1)
    panel_a = np.empty(min(PANEL, len(x)) * width, np.float32)
    panel_b = np.empty_like(panel_a)
    for start in range(0, len(x), PANEL):
        rows = min(PANEL, len(x) - start)
        for i in range(rows):
            copy_row(flat, (start + i) * ins, ins, panel_a, i * width)
        result = forward_panel(params, sizes, panel_a, panel_b, rows, width)
        for i in range(rows):
            copy_row(result, i * width, outs, flat_out, (start + i) * outs)
