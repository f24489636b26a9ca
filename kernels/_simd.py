"""Sixteen float32 values as one vector: what a dense kernel needs to keep its sums in registers.

The operations are LLVM's own, so that they run on every processor; one with AVX-512 holds a vector
in one register. ``fma`` rounds once by definition, hence a chain of them has the same bits in every
lane, whatever the compiler does around it.
"""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import models, register_model

from kernels._jit import intrinsic

LANES = 16

_FLOAT = ir.FloatType()
VECTOR = ir.VectorType(_FLOAT, LANES)
_INT = ir.IntType(64)
_INTS = ir.VectorType(_INT, LANES)
_MASK = ir.VectorType(ir.IntType(1), LANES)


class _Float32x16(types.Type):
    """The numba type of a vector."""

    def __init__(self) -> None:
        super().__init__(name="float32x16")


_float32x16 = _Float32x16()


@register_model(_Float32x16)
class _Float32x16Model(models.PrimitiveModel):
    """A vector is one LLVM value."""

    def __init__(self, manager: Any, fe_type: types.Type) -> None:
        super().__init__(manager, fe_type, VECTOR)  # type: ignore[no-untyped-call]


def splat(builder: Any, value: Any, vector_type: Any) -> Any:
    """Copy a scalar to every lane."""
    lane0 = builder.insert_element(ir.Constant(vector_type, ir.Undefined), value, _INT(0))
    zeros = ir.Constant(ir.VectorType(ir.IntType(32), LANES), [0] * LANES)
    return builder.shuffle_vector(lane0, ir.Constant(vector_type, ir.Undefined), zeros)


def _pointer(context: Any, builder: Any, array_type: Any, array: Any, index: Any) -> Any:
    """Address sixteen values of a flat array."""
    data = context.make_array(array_type)(context, builder, array).data
    return builder.bitcast(builder.gep(data, [index]), VECTOR.as_pointer())


def mask_of(builder: Any, count: Any) -> Any:
    """Mask the first ``count`` lanes."""
    lanes = ir.Constant(_INTS, list(range(LANES)))
    return builder.icmp_signed("<", lanes, splat(builder, count, _INTS))


def _declare(builder: Any, name: str, returns: Any, arguments: list[Any]) -> Any:
    """Declare an LLVM intrinsic function."""
    function_type = ir.FunctionType(returns, arguments)
    return cgutils.get_or_insert_function(  # type: ignore[no-untyped-call]
        builder.module, function_type, name
    )


def load_masked(builder: Any, pointer: Any, mask: Any) -> Any:
    """Read the masked lanes; the others are 0 and their memory is not touched."""
    function = _declare(
        builder,
        "llvm.masked.load.v16f32.p0",
        VECTOR,
        [VECTOR.as_pointer(), ir.IntType(32), _MASK, VECTOR],
    )
    zero = ir.Constant(VECTOR, [0.0] * LANES)
    return builder.call(function, [pointer, ir.IntType(32)(4), mask, zero])


def fma_of(builder: Any, a: Any, b: Any, c: Any) -> Any:
    """Compute a · b + c with one rounding."""
    return builder.call(_declare(builder, "llvm.fma.v16f32", VECTOR, [VECTOR] * 3), [a, b, c])


def relu_of(builder: Any, a: Any) -> Any:
    """Replace negative values by 0; NaN stays NaN, as in torch."""
    zero = ir.Constant(VECTOR, [0.0] * LANES)
    return builder.select(builder.fcmp_ordered("<", a, zero), zero, a)


@intrinsic
def load(typingctx: Any, array: Any, index: Any) -> Any:
    """Read sixteen values of a flat array from an index on."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        pointer = _pointer(context, builder, signature.args[0], args[0], args[1])
        return builder.load(pointer, align=4)

    return _float32x16(array, types.int64), codegen


@intrinsic
def store(typingctx: Any, array: Any, index: Any, vector: Any) -> Any:
    """Write sixteen values into a flat array from an index on."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        pointer = _pointer(context, builder, signature.args[0], args[0], args[1])
        builder.store(args[2], pointer, align=4)

    return types.void(array, types.int64, vector), codegen


@intrinsic
def prefetch(typingctx: Any, array: Any, index: Any) -> Any:
    """Ask for the cache line of an element before it is read; any index will do."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        data = context.make_array(signature.args[0])(context, builder, args[0]).data
        byte, int32 = ir.IntType(8).as_pointer(), ir.IntType(32)
        function = cgutils.get_or_insert_function(  # type: ignore[no-untyped-call]
            builder.module,
            ir.FunctionType(ir.VoidType(), [byte, int32, int32, int32]),
            "llvm.prefetch.p0",
        )
        # To read, to be kept in every level, data.
        place = builder.bitcast(builder.gep(data, [args[1]]), byte)
        builder.call(function, [place, int32(0), int32(3), int32(1)])

    return types.void(array, types.int64), codegen


@intrinsic
def fma_value(typingctx: Any, a: Any, b: Any, c: Any) -> Any:
    """Compute a · b + c of single values with one rounding; the compiler may do many at once."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return builder.call(_declare(builder, "llvm.fma.f32", _FLOAT, [_FLOAT] * 3), args)

    return types.float32(types.float32, types.float32, types.float32), codegen


@intrinsic
def bits_of(typingctx: Any, value: Any) -> Any:
    """Return the bits of a float32 as an integer."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return builder.bitcast(args[0], ir.IntType(32))

    return types.int32(types.float32), codegen


@intrinsic
def value_of(typingctx: Any, bits: Any) -> Any:
    """Return the float32 that an integer's bits stand for."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return builder.bitcast(args[0], _FLOAT)

    return types.float32(types.int32), codegen
