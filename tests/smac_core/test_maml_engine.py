"""The MAML engine: gradients against finite differences and against steps worked out by hand."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
import torch
from torch.func import functional_call, grad
from torch.utils import _pytree as pytree

from smac_core.maml.config import MamlNetworkConfig
from smac_core.maml.engine import adapt, meta_gradient
from smac_core.maml.networks import adapt_network, forward, initial_network, layer_weights

SIZES = (3, 5, 4, 2)


def network(layer: str, seed: int = 0, sizes: tuple[int, ...] = SIZES) -> dict[str, torch.Tensor]:
    config = MamlNetworkConfig(layer=layer, layer_latent_dim=6)
    arrays = initial_network(np.random.default_rng(seed), sizes, config)
    rng = np.random.default_rng([seed, 1])
    return {n: torch.tensor(a + 0.1 * rng.normal(size=a.shape)) for n, a in arrays.items()}


def rates_of(parameters, rates="tensor"):
    rng = np.random.default_rng(9)
    return {
        n: torch.tensor(rng.uniform(0.02, 0.2, p.shape if rates == "element" else ()))
        for n, p in parameters.items()
    }


def regression(seed: int, tasks: int = 4, rows: int = 7) -> dict[str, torch.Tensor]:
    rng = np.random.default_rng(seed)
    shapes = {"x": SIZES[0], "y": SIZES[-1], "x_after": SIZES[0], "y_after": SIZES[-1]}
    return {n: torch.tensor(rng.normal(size=(tasks, rows, dim))) for n, dim in shapes.items()}


def fit(weights, x, y):
    error = (forward(weights, x)[0] - y).square().mean()
    return error, {"error": error.detach()}


def task_loss_of(steps: int, *, factored: bool = True, second_order: bool = True):
    def task_loss(meta, task):
        x, y = task["x"], task["y"]
        if factored:
            weights, metrics = adapt_network(
                lambda w: fit(w, x, y),
                meta["net"],
                meta["rates"],
                steps,
                second_order=second_order,
            )
        else:
            after, metrics = adapt(
                lambda p: fit(layer_weights(p), x, y), meta["net"], meta["rates"], steps
            )
            weights = layer_weights(after)
        return fit(weights, task["x_after"], task["y_after"])[0], metrics

    return task_loss


@pytest.mark.parametrize("over_tasks", ["vmap", "loop"])
@pytest.mark.parametrize(
    ("layer", "rates", "steps"),
    [
        ("plain", "tensor", 1),
        ("plain", "element", 2),
        ("weight-transform", "tensor", 1),
        ("weight-transform", "tensor", 3),
        ("weight-transform", "element", 1),
    ],
)
def test_meta_gradient_against_finite_differences(layer, rates, steps, over_tasks):
    net = network(layer)
    meta = {"net": net, "rates": rates_of(net, rates)}
    tasks, task_loss = regression(1), task_loss_of(steps)
    gradient, loss, _ = meta_gradient(task_loss, meta, tasks, over_tasks)
    rng, eps = np.random.default_rng(2), 1e-6
    for group, parameters in meta.items():
        for name, tensor in parameters.items():
            direction = torch.tensor(rng.normal(size=tuple(tensor.shape)))
            losses = []
            for sign in (eps, -eps):
                moved = {**meta, group: {**parameters, name: tensor + sign * direction}}
                losses.append(meta_gradient(task_loss, moved, tasks)[1].item())
            expected = (losses[0] - losses[1]) / (2 * eps)
            found = (gradient[group][name] * direction).sum().item()
            assert found == pytest.approx(expected, rel=1e-5, abs=1e-9), (group, name)
    assert np.isfinite(loss.item())


@pytest.mark.parametrize("layer", ["plain", "weight-transform"])
def test_vmap_equals_a_loop_over_tasks(layer):
    net = network(layer)
    meta = {"net": net, "rates": rates_of(net)}
    found = meta_gradient(task_loss_of(2), meta, regression(3), "vmap")
    expected = meta_gradient(task_loss_of(2), meta, regression(3), "loop")
    for a, b in zip(pytree.tree_leaves(found), pytree.tree_leaves(expected), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("steps", [1, 2, 3])
def test_factored_weight_transform_equals_adapting_the_map_itself(steps):
    net = network("weight-transform")
    meta, tasks = {"net": net, "rates": rates_of(net)}, regression(4)
    found = meta_gradient(task_loss_of(steps), meta, tasks)
    expected = meta_gradient(task_loss_of(steps, factored=False), meta, tasks)
    for a, b in zip(pytree.tree_leaves(found), pytree.tree_leaves(expected), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-9, atol=1e-12)


def test_weight_transform_equals_a_plain_layer_when_its_map_is_constant():
    plain, transform = network("plain"), network("weight-transform")
    constant = {}
    for number, (inputs, outputs) in enumerate(pairwise(SIZES)):
        weight, bias = plain[f"{number}.weight"], plain[f"{number}.bias"]
        constant |= {
            f"{number}.latent": transform[f"{number}.latent"],
            f"{number}.map": torch.zeros(6, inputs + 1, outputs, dtype=torch.float64),
            f"{number}.shift": torch.cat([weight, bias[None]]),
        }
    x = regression(5)["x"][0]
    same = layer_weights(constant)
    torch.testing.assert_close(forward(same, x)[0], forward(plain, x)[0], rtol=0, atol=0)
    # The shift alone is adapted: a step is the plain layer's with one rate for weight and bias.
    rates = {n: torch.tensor(0.0 if "shift" not in n else 0.1).double() for n in constant}
    y = regression(5)["y"][0]
    found, _ = adapt_network(lambda w: fit(w, x, y), constant, rates, 2)
    tenth = {n: torch.tensor(0.1).double() for n in plain}
    expected, _ = adapt_network(lambda w: fit(w, x, y), plain, tenth, 2)
    for name in expected:
        torch.testing.assert_close(found[name], expected[name], rtol=1e-12, atol=1e-14)


def test_inner_step_is_sgd_worked_out_by_hand():
    # V(s) = 2 s + 1 on s = 1, 2 with returns 4, 4: errors -1, 1; d/dw = 1, d/db = 0.
    net = {"0.weight": torch.tensor([[2.0]]), "0.bias": torch.tensor([1.0])}
    rates = {"0.weight": torch.tensor(0.5), "0.bias": torch.tensor(0.25)}
    x, y = torch.tensor([[1.0], [2.0]]), torch.tensor([[4.0], [4.0]])
    after, metrics = adapt(lambda p: fit(p, x, y), net, rates, 1)
    assert metrics["error"].item() == 1.0
    assert after["0.weight"].item() == 1.5
    assert after["0.bias"].item() == 1.0
    # Then errors are -1.5, 0: d/dw = -1.5, d/db = -1.5.
    after, _ = adapt(lambda p: fit(p, x, y), net, rates, 2)
    assert after["0.weight"].item() == 1.5 + 0.5 * 1.5
    assert after["0.bias"].item() == 1.0 + 0.25 * 1.5


def test_what_has_no_rate_is_not_adapted():
    net = network("plain")
    rates = {"0.bias": torch.tensor(0.1)}
    task = {n: t[0] for n, t in regression(6).items()}
    after, _ = adapt(lambda p: fit(p, task["x"], task["y"]), net, rates, 1)
    changed = {name for name in net if not torch.equal(net[name], after[name])}
    assert changed == {"0.bias"}


@pytest.mark.parametrize("layer", ["plain", "weight-transform"])
def test_first_order_takes_the_inner_gradient_as_a_constant(layer):
    net, tasks = network(layer), regression(7, tasks=1)
    one = {n: t[0] for n, t in tasks.items()}
    rates = rates_of(net)
    meta = {"net": net, "rates": rates}
    found, _, _ = meta_gradient(task_loss_of(1, second_order=False), meta, tasks)
    full, _, _ = meta_gradient(task_loss_of(1), meta, tasks)
    if layer == "plain":
        after, _ = adapt(lambda p: fit(p, one["x"], one["y"]), net, rates, 1)
        expected = grad(lambda p: fit(p, one["x_after"], one["y_after"])[0])(after)
        for name in net:
            torch.testing.assert_close(found["net"][name], expected[name])
    first = next(iter(net))
    assert not torch.allclose(found["net"][first], full["net"][first])


def test_any_module_is_a_network_through_functional_call():
    module = torch.nn.Linear(2, 1)
    parameters = {n: p.detach() for n, p in module.named_parameters()}
    rates = {n: torch.tensor(0.1) for n in parameters}
    tasks = {"x": torch.randn(3, 5, 2, generator=torch.Generator().manual_seed(0))}

    def task_loss(meta, task):
        def loss(p):
            return functional_call(module, p, (task["x"],)).square().mean(), {}

        after, _ = adapt(loss, meta, rates, 1)
        return loss(after)

    gradient, loss, _ = meta_gradient(task_loss, parameters, tasks)
    assert set(gradient) == {"weight", "bias"}
    assert loss.item() > 0
