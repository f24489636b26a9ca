"""Dense ReLU networks whose backward pass is written out, so that few large operations remain.

Autograd would record four operations a layer and, on the CPU, compute each product with the slower
of the two libraries that torch carries. Here a whole network is one node of the graph: products
with bias and ReLU are one call each, gradients of the parameters are added straight into the flat
vector that the optimiser reads, and nothing is computed that nobody asked for.

Two ways to the same numbers, chosen by where the tensors live: on the CPU member after member, so
that what one member computes does not depend on how many there are; elsewhere all in one batch.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache, cached_property
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

BFLOAT16 = torch.bfloat16


class _Layer(NamedTuple):
    """One layer of one member; gradients are those of weight and bias."""

    weight: Tensor
    transposed: Tensor
    bias: Tensor
    gradients: tuple[Tensor, Tensor] | None


@dataclass(frozen=True)
class Mlp:
    """The layers of S seeds times E members, as views of flat vectors.

    Args:
        weights: Per layer ``[S, E, in, out]``.
        biases: Per layer ``[S, E, out]``.
        weight_gradients: Where the gradient of each weight is added up; empty: none is computed.
        bias_gradients: The same for the biases.
        anchor: A scalar that asks autograd for a backward pass; None where there is no gradient.
    """

    weights: tuple[Tensor, ...]
    biases: tuple[Tensor, ...]
    weight_gradients: tuple[Tensor, ...] = ()
    bias_gradients: tuple[Tensor, ...] = ()
    anchor: Tensor | None = None

    @cached_property
    def members(self) -> tuple[tuple[_Layer, ...], ...]:
        """The layers of each member alone, seed after seed: sliced once, not at every use."""
        seeds, members = self.weights[0].shape[:2]
        places = [(s, e) for s in range(seeds) for e in range(members)]
        depth = len(self.weights)
        return tuple(tuple(self._layer(n, place) for n in range(depth)) for place in places)

    def _layer(self, number: int, place: tuple[int, int]) -> _Layer:
        weight, bias = self.weights[number][place], self.biases[number][place]
        if not self.weight_gradients:
            return _Layer(weight, weight.t(), bias, None)
        gradients = self.weight_gradients[number][place], self.bias_gradients[number][place]
        return _Layer(weight, weight.t(), bias, gradients)

    def detached(self) -> Mlp:
        """Return the same numbers without gradients of their own; one still flows to the input."""
        return Mlp(self.weights, self.biases)


Activations = list[Tensor]
"""Input of each layer, the network's own input first."""


@cache
def _fused_linear() -> Callable[..., Tensor] | None:
    """Find oneDNN's product with bias and ReLU in one pass; None where torch lacks it."""
    if not torch.backends.mkldnn.is_available():  # type: ignore[no-untyped-call]
        return None
    try:
        found: Callable[..., Tensor] = torch.ops.mkldnn._linear_pointwise.default
    except AttributeError:
        return None
    return found


@cache
def _has_bfloat16() -> bool:
    """Tell whether this CPU multiplies bfloat16 in hardware."""
    try:
        return bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())
    except AttributeError:
        return False


def _use_bfloat16() -> bool:
    return (
        torch.get_float32_matmul_precision() == "medium"
        and _has_bfloat16()
        and _fused_linear() is not None
    )


def _linear(x: Tensor, layer: _Layer, relu: bool, low: bool) -> Tensor:
    """Compute x·W + b and the ReLU after it, for one member."""
    fused = _fused_linear()
    weight, transposed, bias, _ = layer
    if fused is None or len(transposed) == 1:  # a column is a dot product: MKL's is faster
        out = torch.mm(x.float(), weight).add_(bias)
        return out.relu_() if relu else out
    kind = "relu" if relu else "none"
    if not low:
        return fused(x, transposed, bias, kind, [], "")
    out = fused(x.to(BFLOAT16), transposed.to(BFLOAT16), bias.to(BFLOAT16), kind, [], "")
    return out if relu else out.float()


def _product(a: Tensor, b: Tensor, low: bool) -> Tensor:
    """Compute a·b of two matrices of one member."""
    fused = _fused_linear()
    if fused is None or 1 in (a.shape[1], b.shape[1]):
        return torch.mm(a.float(), b.float())
    if low:
        return torch.mm(a.to(BFLOAT16), b.to(BFLOAT16))
    return fused(a, b.t(), None, "none", [], "")


def _member_forward(x: Tensor, layers: Sequence[_Layer], low: bool) -> Activations:
    """Run one member on ``[N, in]``; the last entry is its output."""
    activations = [x]
    for layer in layers:
        activations.append(_linear(activations[-1], layer, layer is not layers[-1], low))
    return activations


def _member_backward(
    grad: Tensor, inputs: Activations, layers: Sequence[_Layer], *, need_x: bool, low: bool
) -> Tensor | None:
    """Go back through one member; return the gradient of its input."""
    for number in range(len(layers) - 1, -1, -1):
        layer, x = layers[number], inputs[number]
        if layer.gradients is not None:
            weight_gradient, bias_gradient = layer.gradients
            weight_gradient.add_(_product(x.t(), grad, low))
            bias_gradient.add_(grad.sum(0, dtype=torch.float32))
        if number == 0 and not need_x:
            return None
        back = _product(grad, layer.transposed, low)
        if number == 0:
            return back.float()
        grad = torch.ops.aten.threshold_backward(back.to(x.dtype), x, 0)
    raise AssertionError("a network has at least one layer")


def _taken(ctx: Any) -> Any:
    """Take the activations: a second pass would add the parameters' gradients twice."""
    inputs, ctx.inputs = ctx.inputs, None
    if inputs is None:
        raise RuntimeError("the backward pass of a network can be taken once")
    return inputs


class _Members(torch.autograd.Function):
    """All members, one after the other: the CPU's way."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, anchor: Tensor | None, net: Mlp) -> Tensor:
        """Compute ``[S, E, N, out]`` from ``[S, N, in]``."""
        seeds, members = net.weights[0].shape[:2]
        low = _use_bfloat16()
        rows = x.unbind()
        runs = [
            _member_forward(rows[number // members], layers, low)
            for number, layers in enumerate(net.members)
        ]
        ctx.net, ctx.low = net, low
        ctx.inputs = [run[:-1] for run in runs]
        out = torch.stack([run[-1] for run in runs]) if len(runs) > 1 else runs[0][-1]
        return out.view(seeds, members, x.shape[1], -1)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, None, None]:
        """Add up the parameters' gradients; return the input's where it is asked for."""
        net, need_x, all_inputs = ctx.net, ctx.needs_input_grad[0], _taken(ctx)
        (grad,) = grads
        seeds, members = grad.shape[:2]
        back: list[Tensor] = []
        for s in range(seeds):
            total: Tensor | None = None
            for e in range(members):
                inputs, layers = all_inputs[s * members + e], net.members[s * members + e]
                part = _member_backward(grad[s, e], inputs, layers, need_x=need_x, low=ctx.low)
                total = part if total is None or part is None else total.add_(part)
            if total is not None:
                back.append(total)
        if not back:
            return None, None, None
        return (torch.stack(back) if len(back) > 1 else back[0][None]), None, None


def _merged(stacked: Tensor) -> Tensor:
    """View ``[S, E, …]`` as ``[S * E, …]``; never a copy, which would swallow a gradient."""
    return stacked.view(-1, *stacked.shape[2:])


class _Batched(torch.autograd.Function):
    """All seeds and members in one batched product a layer: the GPU's way."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, anchor: Tensor | None, net: Mlp) -> Tensor:
        """Compute ``[S, E, N, out]`` from ``[S, N, in]``."""
        seeds, members = net.weights[0].shape[:2]
        h = x[:, None].expand(-1, members, -1, -1).reshape(seeds * members, x.shape[1], -1)
        inputs = []
        last = len(net.weights) - 1
        for layer, (weight, bias) in enumerate(zip(net.weights, net.biases, strict=True)):
            inputs.append(h)
            h = torch.baddbmm(_merged(bias)[:, None], h, _merged(weight))
            h = h.relu_() if layer < last else h
        ctx.net, ctx.inputs = net, inputs
        return h.view(seeds, members, x.shape[1], -1)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, None, None]:
        """Add up the parameters' gradients; return the input's where it is asked for."""
        net, inputs, need_x = ctx.net, _taken(ctx), ctx.needs_input_grad[0]
        (grad,) = grads
        seeds, members, rows = grad.shape[:3]
        grad = grad.reshape(seeds * members, rows, -1)
        ones = grad.new_ones(1, 1, rows).expand(len(grad), -1, -1)
        for layer in range(len(inputs) - 1, -1, -1):
            x = inputs[layer]
            if net.weight_gradients:
                _merged(net.weight_gradients[layer]).baddbmm_(x.transpose(1, 2), grad)
                bias_gradient = _merged(net.bias_gradients[layer])[:, None]
                bias_gradient.baddbmm_(ones, grad)  # a sum over rows that adds up in one kernel
            if layer == 0 and not need_x:
                return None, None, None
            grad = torch.bmm(grad, _merged(net.weights[layer]).transpose(1, 2))
            if layer:
                grad = torch.ops.aten.threshold_backward(grad, x, 0)
        total = grad.view(seeds, members, rows, -1)
        return (total.sum(1) if members > 1 else total[:, 0]), None, None


def run_network(net: Mlp, x: Tensor, *, batched: bool | None = None) -> Tensor:
    """Run every member of every seed; each seed has its own input.

    Args:
        net: The layers.
        x: ``[S, N, in]``.
        batched: All members in one product a layer, or one after the other; None: by device.

    Returns:
        ``[S, E, N, out]``, linear outputs of the last layer. The backward pass, which can be taken
        once, adds the parameters' gradients into the network's own vectors.
    """
    function = _Batched if (x.is_cuda if batched is None else batched) else _Members
    anchor = net.anchor if torch.is_grad_enabled() else None
    out: Tensor = function.apply(x, anchor, net)  # type: ignore[no-untyped-call]
    return out
