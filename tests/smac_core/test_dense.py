"""The written-out backward pass against autograd, and the CPU's way against the GPU's."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from smac_core import dense
from smac_core.dense import Mlp, run_network
from smac_core.networks import MlpShape, spans_of_seed, stack_seeds, view_mlp

ROWS = 11
SHAPES = {
    "twins": MlpShape((7, 16, 12, 1), ensemble=2),
    "policy": MlpShape((7, 12, 16, 6)),
    "linear": MlpShape((7, 3)),
}


def make(shape: MlpShape, seeds: int) -> tuple[Mlp, torch.Tensor, torch.Tensor]:
    """A network, its flat gradient, and an input of each seed."""
    rng = np.random.default_rng(seeds)
    flat = torch.from_numpy(rng.normal(0.0, 0.5, seeds * shape.num_parameters).astype(np.float32))
    gradient = torch.zeros_like(flat)
    x = torch.from_numpy(rng.normal(size=(seeds, ROWS, shape.sizes[0])).astype(np.float32))
    return view_mlp(flat, shape, seeds, gradient), gradient, x


def plain(net: Mlp, x: torch.Tensor) -> tuple[torch.Tensor, list[torch.Tensor]]:
    """The same network as autograd sees it, with its leaves in flat order."""
    leaves = []
    h = x[:, None].expand(-1, net.weights[0].shape[1], -1, -1)
    for layer, (weight, bias) in enumerate(zip(net.weights, net.biases, strict=True)):
        w, b = weight.clone().requires_grad_(), bias.clone().requires_grad_()
        leaves += [w, b]
        h = h @ w + b[:, :, None]
        h = torch.relu(h) if layer < len(net.weights) - 1 else h
    return h, leaves


@pytest.mark.parametrize("batched", [False, True], ids=["one by one", "batched"])
@pytest.mark.parametrize("seeds", [1, 3])
@pytest.mark.parametrize("name", SHAPES)
def test_output_and_gradients_equal_autograd(name: str, seeds: int, batched: bool) -> None:
    net, gradient, x = make(SHAPES[name], seeds)
    x.requires_grad_(True)
    out = run_network(net, x, batched=batched)
    y = x.detach().clone().requires_grad_(True)
    expected, leaves = plain(net, y)
    torch.testing.assert_close(out, expected, rtol=1e-5, atol=1e-5)
    upstream = torch.randn(out.shape, generator=torch.Generator().manual_seed(0))
    out.backward(upstream)
    expected.backward(upstream)
    torch.testing.assert_close(x.grad, y.grad, rtol=1e-4, atol=1e-5)
    found = torch.cat([leaf.grad.flatten() for leaf in leaves if leaf.grad is not None])
    torch.testing.assert_close(gradient, found, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("batched", [False, True], ids=["one by one", "batched"])
def test_gradients_add_up_until_they_are_cleared(batched: bool) -> None:
    net, gradient, x = make(SHAPES["twins"], 1)
    run_network(net, x, batched=batched).sum().backward()
    once = gradient.clone()
    run_network(net, x, batched=batched).sum().backward()
    torch.testing.assert_close(gradient, 2.0 * once)


@pytest.mark.parametrize("batched", [False, True], ids=["one by one", "batched"])
def test_only_what_is_asked_for_gets_a_gradient(batched: bool) -> None:
    net, gradient, x = make(SHAPES["twins"], 2)
    assert not run_network(net.detached(), x, batched=batched).requires_grad
    with torch.no_grad():
        assert not run_network(net, x, batched=batched).requires_grad
    x.requires_grad_(True)
    run_network(net.detached(), x, batched=batched).sum().backward()
    assert x.grad is not None
    assert x.grad.abs().sum() > 0
    assert not gradient.any()


def test_a_seed_does_not_notice_its_neighbours() -> None:
    shape = SHAPES["twins"]
    net, gradient, x = make(shape, 3)
    out = run_network(net, x)
    out.sum().backward()
    flats = np.random.default_rng(3).normal(0.0, 0.5, 3 * shape.num_parameters).astype(np.float32)
    for seed in range(3):
        spans = list(spans_of_seed(shape, 3, seed))
        flat = torch.from_numpy(np.concatenate([flats[span] for span in spans]))
        own = torch.zeros_like(flat)
        alone = run_network(view_mlp(flat, shape, 1, own), x[seed : seed + 1])
        assert torch.equal(alone[0], out[seed])
        alone.sum().backward()
        assert torch.equal(own, torch.cat([gradient[span] for span in spans]))


def test_stacking_and_its_inverse() -> None:
    shape = MlpShape((2, 3, 1), ensemble=2)
    flats = [np.arange(shape.num_parameters, dtype=np.float32) + 100 * s for s in range(3)]
    stacked = stack_seeds(shape, flats)
    for seed, flat in enumerate(flats):
        spans = spans_of_seed(shape, 3, seed)
        np.testing.assert_array_equal(np.concatenate([stacked[s] for s in spans]), flat)
    np.testing.assert_array_equal(stack_seeds(shape, flats[:1]), flats[0])
    np.testing.assert_array_equal(stacked[:12], flats[0][:12])  # the first layer of seed 0
    np.testing.assert_array_equal(stacked[12:24], flats[1][:12])


@pytest.fixture
def precision(monkeypatch: pytest.MonkeyPatch):
    before = torch.get_float32_matmul_precision()
    yield torch.set_float32_matmul_precision
    torch.set_float32_matmul_precision(before)


def test_medium_precision_is_close_and_only_where_it_is_asked_for(precision) -> None:
    net, gradient, x = make(MlpShape((40, 64, 64, 8)), 1)
    run_network(net, x).sum().backward()
    exact, exact_gradient = run_network(net, x).detach(), gradient.clone()
    precision("medium")
    gradient.zero_()
    rough = run_network(net, x)
    rough.sum().backward()
    assert rough.dtype == torch.float32
    scale = exact.abs().max()
    assert (rough.detach() - exact).abs().max() < 0.05 * scale
    size = exact_gradient.abs().max()
    assert (gradient - exact_gradient).abs().max() < 0.1 * size
    if dense._use_bfloat16():
        assert not torch.equal(rough.detach(), exact)
    precision("highest")
    assert torch.equal(run_network(net, x).detach(), exact)


def test_without_the_fused_product_the_numbers_are_the_same(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    net, gradient, x = make(SHAPES["policy"], 1)
    x.requires_grad_(True)
    run_network(net, x).sum().backward()
    assert x.grad is not None
    kept, kept_x = gradient.clone(), x.grad.clone()
    gradient.zero_()
    x.grad = None
    monkeypatch.setattr(dense, "_fused_linear", lambda: None)
    run_network(net, x).sum().backward()
    torch.testing.assert_close(gradient, kept, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(x.grad, kept_x, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("batched", [False, True], ids=["one by one", "batched"])
def test_a_second_backward_pass_is_refused(batched: bool) -> None:
    net, _, x = make(SHAPES["policy"], 1)
    loss = run_network(net, x, batched=batched).sum()
    loss.backward(retain_graph=True)
    with pytest.raises(RuntimeError, match="can be taken once"):
        loss.backward()


def test_medium_precision_takes_any_width(precision) -> None:
    net, gradient, x = make(MlpShape((40, 1, 8, 2)), 1)
    precision("medium")
    run_network(net, x).sum().backward()
    assert gradient.isfinite().all()
