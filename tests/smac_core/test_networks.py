"""Shapes, initial ranges and the flat layout that the acting side shares."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from kernels.mlp import mlp_forward, num_parameters
from smac_core.config import NetworkConfig
from smac_core.dense import run_network
from smac_core.networks import (
    MlpShape,
    Shapes,
    critic_values,
    forward,
    initial_parameters,
    network_shapes,
    view_mlp,
)


def layers(flat: np.ndarray, shape: MlpShape) -> list[tuple[np.ndarray, np.ndarray]]:
    net = view_mlp(torch.from_numpy(flat), shape)
    place = (0,) if shape.ensemble else (0, 0)  # an ensemble keeps its axis
    pairs = zip(net.weights, net.biases, strict=True)
    return [(weight[place].numpy(), bias[place].numpy()) for weight, bias in pairs]


def random_flat(shape: MlpShape, seed: int = 0) -> torch.Tensor:
    rng = np.random.default_rng(seed)
    return torch.from_numpy(rng.normal(0.0, 0.5, shape.num_parameters).astype(np.float32))


def test_input_widths_of_the_published_environments() -> None:
    # smac-reference section 1: ant 27/8 gives encoder 36, critics and decoder 40, policy 32.
    shapes = network_shapes(Shapes(27, 8), NetworkConfig())
    assert shapes["encoder"].sizes == (36, 200, 200, 200, 10)
    assert shapes["decoder"].sizes == (40, 64, 64, 1)
    assert shapes["critic"].sizes == (40, 300, 300, 300, 1)
    assert shapes["critic"].ensemble == 2
    assert shapes["policy"].sizes == (32, 300, 300, 300, 16)
    assert shapes["value"].sizes == (32, 300, 300, 300, 1)
    with_next = network_shapes(Shapes(27, 8), NetworkConfig(context_next_obs=True))
    assert with_next["encoder"].sizes[0] == 36 + 27


@pytest.mark.parametrize("name", ["policy", "critic", "value", "encoder", "decoder"])
def test_initial_ranges(name: str) -> None:
    shape = network_shapes(Shapes(20, 6), NetworkConfig())[name]
    drawn = layers(initial_parameters(name, shape, np.random.default_rng(0)), shape)
    for weight, bias in drawn[:-1]:
        bound = 1.0 / np.sqrt(weight.shape[-1])  # k is the output width
        assert 0.97 * bound < np.abs(weight).max() <= bound
        assert abs(weight.mean()) < 0.05 * bound
        assert not bias.any()
    weight, bias = drawn[-1]
    bound = 1e-3 if name == "policy" else 3e-3
    assert 0.9 * bound < np.abs(weight).max() <= bound * (1 + 1e-6)
    if name == "policy":
        assert not bias[:6].any()
        assert 0 < np.abs(bias[6:]).max() <= bound
    else:
        assert not bias.any()


def test_twins_and_seeds_differ() -> None:
    shape = network_shapes(Shapes(3, 2), NetworkConfig())["critic"]
    one = initial_parameters("critic", shape, np.random.default_rng(0))
    weight, _ = layers(one, shape)[0]
    assert not np.array_equal(weight[0], weight[1])
    assert not np.array_equal(one, initial_parameters("critic", shape, np.random.default_rng(1)))
    assert np.array_equal(one, initial_parameters("critic", shape, np.random.default_rng(0)))


@pytest.mark.parametrize("sizes", [(3, 5), (4, 16, 2), (7, 24, 24, 10)])
def test_layout_is_that_of_the_kernels(sizes: tuple[int, ...]) -> None:
    shape = MlpShape(sizes)
    assert shape.num_parameters == num_parameters(np.array(sizes))
    flat = random_flat(shape)
    x = np.random.default_rng(1).normal(size=(19, sizes[0])).astype(np.float32)
    out = np.empty((19, sizes[-1]), np.float32)
    mlp_forward(flat.numpy(), np.array(sizes), x, out)
    expected = forward(view_mlp(flat, shape), torch.from_numpy(x)[None])[0]
    np.testing.assert_allclose(out, expected, rtol=1e-4, atol=1e-5)


def test_an_ensemble_equals_two_single_networks() -> None:
    sizes = (4, 8, 6, 1)
    twin, single = MlpShape(sizes, ensemble=2), MlpShape(sizes)
    assert twin.num_parameters == 2 * single.num_parameters
    net = view_mlp(random_flat(twin), twin)
    x = torch.randn(9, 4, generator=torch.Generator().manual_seed(0))
    together = run_network(net, x[None])[0]
    assert together.shape == (2, 9, 1)
    for member in range(2):
        h = x
        for layer, (w, b) in enumerate(zip(net.weights, net.biases, strict=True)):
            h = h @ w[0, member] + b[0, member]
            h = torch.relu(h) if layer < 2 else h
        torch.testing.assert_close(together[member], h)


def test_critic_reads_obs_action_latent_in_this_order() -> None:
    shape = MlpShape((6, 1), ensemble=2)
    flat = torch.zeros(14)
    net = view_mlp(flat, shape)
    net.weights[0][0, 0, :, 0] = torch.tensor([1.0, 10.0, 100.0, 1e3, 1e4, 1e5])
    net.biases[0][0, 1] = 7.0
    obs, action, latent = (
        torch.tensor([[[1.0, 2.0, 3.0]]]),
        torch.tensor([[[4.0, 5.0]]]),
        torch.tensor([[[6.0]]]),
    )
    values = critic_values(net, obs, action, latent)
    assert values.tolist() == [[[654321.0], [7.0]]]


def test_views_share_memory_and_gradient() -> None:
    shape = MlpShape((2, 3, 1))
    flat, gradient = random_flat(shape), torch.zeros(shape.num_parameters)
    net = view_mlp(flat, shape, gradient=gradient)
    forward(net, torch.ones(1, 4, 2)).sum().backward()
    assert gradient.abs().sum() > 0
    assert gradient[-1].item() == 4.0  # the last bias counts the rows
    flat[-1] = 5.0
    assert net.biases[-1].item() == 5.0
    gradient.zero_()
    for frozen in (net.detached(), view_mlp(flat, shape)):
        assert not forward(frozen, torch.ones(1, 4, 2)).requires_grad
    x = torch.ones(1, 4, 2, requires_grad=True)
    forward(net.detached(), x).sum().backward()
    assert x.grad is not None
    assert x.grad.abs().sum() > 0
    assert not gradient.any()


def test_the_forward_pass_leaves_its_input_alone() -> None:
    shape = MlpShape((3, 4, 1))
    x = torch.randn(1, 5, 3)
    kept = x.clone()
    forward(view_mlp(random_flat(shape), shape), x)
    run_network(view_mlp(random_flat(MlpShape((3, 4, 1), 2)), MlpShape((3, 4, 1), 2)), x)
    assert torch.equal(x, kept)
