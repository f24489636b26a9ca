"""The MAML methods' losses, and which parameters receive which gradient."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest
import torch

from smac_core.errors import NonFiniteError
from smac_core.maml import losses
from smac_core.maml.config import MamlConfig, MamlNetworkConfig
from smac_core.maml.engine import meta_gradient
from smac_core.maml.learner import MamlLearner, initial_meta
from smac_core.maml.objective import Objective, TaskBatch, TaskRows
from smac_core.networks import Shapes

CPU = torch.device("cpu")
SHAPES = Shapes(3, 2)
NETWORKS = MamlNetworkConfig(policy=(6, 5), value=(5,), advantage_head=4, layer_latent_dim=3)
CONFIG = MamlConfig(num_tasks=3, inner_rows=8, outer_rows=9, initial_rate=0.05, head_weight=0.3)
METHODS = [
    (inner, outer)
    for inner in ("awr", "bc", "policy-gradient")
    for outer in ("awr", "bc", "policy-gradient")
]


def rows(seed: int, num: int, *, tasks: int = 3, tail: float = 0.5) -> TaskRows:
    rng = np.random.default_rng(seed)

    def normal(*dims: int) -> torch.Tensor:
        return torch.from_numpy(rng.standard_normal((tasks, num, *dims)))

    scaled = torch.full((tasks, num), tail, dtype=torch.float64)
    cut = torch.zeros(tasks, num, dtype=torch.float64)
    return TaskRows(normal(3), normal(2).tanh(), normal(), normal(3), scaled, cut)


def batch(seed: int = 0, **options) -> TaskBatch:
    return TaskBatch(rows(seed, 8, **options), rows(seed + 50, 9, **options))


def meta_of(config: MamlConfig, networks: MamlNetworkConfig = NETWORKS):
    arrays = initial_meta(SHAPES, networks, config, 0)
    return {
        g: {n: torch.tensor(a.astype(np.float64)) for n, a in part.items()}
        for g, part in arrays.items()
    }


def method(inner: str, outer: str, **changes) -> MamlConfig:
    return dataclasses.replace(CONFIG, inner=inner, outer=outer, **changes)


@pytest.mark.parametrize(("inner", "outer"), METHODS)
def test_every_combination_adapts_and_learns(inner, outer):
    config = method(inner, outer)
    objective, meta = Objective(config, NETWORKS.action_std), meta_of(config)
    gradient, loss, metrics = meta_gradient(objective.task_loss, meta, batch())
    by_loop, again, _ = meta_gradient(objective.task_loss, meta, batch(), "loop")
    torch.testing.assert_close(loss, again)
    assert ("value" in meta) == ((inner, outer) != ("bc", "bc"))
    assert ("head_weight" in meta) == (inner == "awr")
    for group, part in gradient.items():
        for name, found in part.items():
            torch.testing.assert_close(found, by_loop[group][name], rtol=1e-8, atol=1e-10)
            assert torch.isfinite(found).all(), (group, name)
    assert metrics["mean_shift"] > 0


# Advantages are taken as numbers, so that finite differences see what the gradient must not; what
# the policy and its step sizes change passes through no such stop.
@pytest.mark.parametrize("layer", ["plain", "weight-transform"])
@pytest.mark.parametrize(("inner", "outer"), [("awr", "awr"), ("bc", "bc"), ("awr", "bc")])
def test_policy_meta_gradient_against_finite_differences(inner, outer, layer):
    config = method(inner, outer)
    networks = dataclasses.replace(NETWORKS, layer=layer)
    objective, meta = Objective(config, networks.action_std), meta_of(config, networks)
    data, rng, eps = batch(), np.random.default_rng(3), 1e-6
    gradient, _, _ = meta_gradient(objective.task_loss, meta, data)
    groups = [g for g in ("policy", "policy_rates", "head_weight") if g in meta]
    for group in groups:
        for name, tensor in meta[group].items():
            direction = torch.tensor(rng.normal(size=tuple(tensor.shape)))
            found = (gradient[group][name] * direction).sum().item()
            values = []
            for sign in (eps, -eps):
                moved = {**meta, group: {**meta[group], name: tensor + sign * direction}}
                values.append(meta_gradient(objective.task_loss, moved, data)[1].item())
            expected = (values[0] - values[1]) / (2 * eps)
            assert found == pytest.approx(expected, rel=1e-4, abs=1e-7), (group, name)


def test_value_meta_gradient_against_finite_differences():
    objective, meta = Objective(CONFIG, NETWORKS.action_std), meta_of(CONFIG)
    data, rng, eps = batch(tail=0.0), np.random.default_rng(3), 1e-6
    gradient, _, _ = meta_gradient(objective.task_loss, meta, data)
    for group in ("value", "value_rates"):
        for name, tensor in meta[group].items():
            direction = torch.tensor(rng.normal(size=tuple(tensor.shape)))
            values = []
            for sign in (eps, -eps):
                moved = {**meta, group: {**meta[group], name: tensor + sign * direction}}
                _, _, metrics = meta_gradient(objective.task_loss, moved, data)
                values.append(metrics["value_loss"].item())
            expected = (values[0] - values[1]) / (2 * eps)
            found = (gradient[group][name] * direction).sum().item()
            assert found == pytest.approx(expected, rel=1e-4, abs=1e-8), (group, name)


def test_the_policy_loss_gives_no_gradient_to_the_value_function():
    objective, meta = Objective(CONFIG, NETWORKS.action_std), meta_of(CONFIG)

    def policy_only(shared, task):
        adapted = objective.adapt(shared, task.inner)
        return objective._outer_policy_loss(shared, adapted, task.outer)

    gradient, _, _ = meta_gradient(policy_only, meta, batch())
    for group, part in gradient.items():
        touched = any(found.abs().max() > 0 for found in part.values())
        assert touched == (group not in {"value", "value_rates"}), group
    # The head learns through the inner step alone.
    assert all(gradient["policy"][f"head{n}.shift"].abs().max() > 0 for n in (0, 1))


def test_inner_policy_step_is_weighted_regression_worked_out_by_hand():
    networks = dataclasses.replace(NETWORKS, policy=(), value=(), layer="plain")
    config = method("awr", "awr", head_weight=0.2)
    arrays = initial_meta(Shapes(1, 1), dataclasses.replace(networks, policy=(1,)), config, 0)
    policy = {"0.weight": np.array([[0.3]]), "0.bias": np.array([0.1])}
    head = {n: a for n, a in arrays["policy"].items() if n.startswith("head")}
    zero_head = {n: np.zeros_like(a, dtype=np.float64) for n, a in head.items()}
    obs, action = np.array([[1.0], [-2.0]]), np.array([[0.5], [0.2]])
    given = np.array([1.0, 4.0])
    rate = 0.05
    raw = math.log(math.expm1(rate))
    meta = {
        "policy": {n: torch.tensor(a) for n, a in {**policy, **zero_head}.items()},
        "policy_rates": {
            n: torch.tensor(raw, dtype=torch.float64) for n in {**policy, **zero_head}
        },
        "value": {"0.weight": torch.zeros(1, 1).double(), "0.bias": torch.zeros(1).double()},
        "value_rates": {n: torch.tensor(-40.0).double() for n in ("0.weight", "0.bias")},
        "head_weight": {"weight": torch.tensor(0.0).double()},
    }
    task = TaskRows(
        torch.tensor(obs),
        torch.tensor(action),
        torch.tensor(given),
        torch.tensor(obs),
        torch.zeros(2).double(),
        torch.zeros(2).double(),
    )
    found = Objective(config, 0.2).adapt(meta, task)
    # Advantages 1 and 4 are -1 and 1 when standardised; the weight of 1 is clamped at neither end.
    weight = np.exp(np.array([-1.0, 1.0]) * 1.5 / (1.5 + losses.SMALL))
    mean = np.tanh(obs[:, 0] * 0.3 + 0.1)
    # d(-mean w log π)/d(output) = -w (a - mean) / std² · (1 - mean²) / N; the zero head adds none.
    slope = -weight * (action[:, 0] - mean) / 0.2**2 * (1 - mean**2) / 2
    stepped = 0.3 - rate * (slope @ obs)
    np.testing.assert_allclose(found.policy["0.weight"][0], stepped, rtol=1e-10)
    np.testing.assert_allclose(found.policy["0.bias"][0], 0.1 - rate * slope.sum(), rtol=1e-10)
    # The head's own last bias moves towards the mean advantage: 2 · softplus(0) · (0 - 2.5).
    moved = rate * 2 * math.log(2.0) * 2.5
    np.testing.assert_allclose(found.policy["head1.bias"][0], moved, rtol=1e-10)


@pytest.mark.parametrize("inner", ["awr", "policy-gradient"])
def test_equal_advantages_give_no_nan(inner):
    config = method(inner, "awr")
    objective, meta = Objective(config, NETWORKS.action_std), meta_of(config)
    same = rows(0, 8)._replace(
        **{
            name: getattr(rows(0, 8), name)[:, :1].expand(
                -1, 8, *getattr(rows(0, 8), name).shape[2:]
            )
            for name in TaskRows._fields
        }
    )
    gradient, loss, metrics = meta_gradient(objective.task_loss, meta, TaskBatch(same, same))
    assert torch.isfinite(loss)
    assert all(torch.isfinite(g).all() for part in gradient.values() for g in part.values())
    assert metrics["effective_sample_size"] == pytest.approx(1.0)


def test_losses_by_hand():
    advantage = torch.tensor([-1.0, 0.0, 5.0])
    upper = losses.regression_weights(advantage, 20.0, lower=False)
    torch.testing.assert_close(upper, torch.tensor([math.exp(-1), 1.0, 20.0]))
    far = losses.regression_weights(torch.tensor([-9.0]), 20.0, lower=True)
    torch.testing.assert_close(far, torch.tensor([0.05]))
    normed = losses.standardised(torch.tensor([1.0, 3.0]))
    torch.testing.assert_close(normed, torch.tensor([-1.0, 1.0]), rtol=1e-5, atol=1e-5)
    log_prob = torch.tensor([0.0, 1.0, -3.0], requires_grad=True)
    behaviour = torch.tensor([0.0, 0.0, 0.0])
    ones = torch.tensor([1.0, 2.0, 1.0])
    found = losses.policy_gradient_loss(log_prob, behaviour, ones, (0.5, 2.0))
    # Ratios 1, e and e⁻³ are held to 1, 2 and 0.5; -(0 + 2 · 1 · 2 - 0.5 · 3) / 3.
    assert found.item() == pytest.approx(-2.5 / 3)
    found.backward()
    torch.testing.assert_close(log_prob.grad, -torch.tensor([1.0, 4.0, 0.5]) / 3)
    density = losses.gaussian_log_prob(torch.zeros(1, 2), 0.2, torch.tensor([[0.2, 0.0]]))
    assert density.item() == pytest.approx(-0.5 - 2 * math.log(0.2) - math.log(2 * math.pi))


def test_what_follows_a_cut_is_valued_in_the_inner_target_only_where_asked():
    meta, whole = meta_of(CONFIG), rows(1, 8, tasks=1)
    cut = whole._replace(cut=torch.ones_like(whole.cut))
    one = TaskRows(*(x[0] for x in cut))

    def inner_loss(config, task):
        return Objective(config, 0.2).adapt(meta, task).metrics["inner_value_loss"].item()

    off = dataclasses.replace(CONFIG, bootstrap_cut=False)
    untouched = inner_loss(off, one)
    assert inner_loss(CONFIG, TaskRows(*(x[0] for x in whole))) == pytest.approx(untouched)
    assert inner_loss(CONFIG, one) != pytest.approx(untouched)


def test_released_head_sees_no_negative_action():
    networks = dataclasses.replace(NETWORKS, layer="plain")
    meta = meta_of(CONFIG, networks)
    one = TaskRows(*(x[0] for x in rows(2, 8)))
    lower = one._replace(action=-one.action.abs() - 0.1)
    lowest = lower._replace(action=lower.action - 0.5)
    for relu, differs in (("all", False), ("hidden", True)):
        config = dataclasses.replace(CONFIG, head_relu=relu)
        found = [
            Objective(config, 0.2).adapt(meta, r).metrics["advantage_loss"].item()
            for r in (lower, lowest)
        ]
        assert (found[0] != pytest.approx(found[1], rel=1e-12)) == differs


def test_learner_goes_on_as_if_it_had_never_stopped():
    data = TaskBatch(*(TaskRows(*(x.float() for x in part)) for part in batch()))
    quiet = MamlLearner(SHAPES, NETWORKS, CONFIG, 5, CPU)
    for _ in range(6):
        quiet.update(data)
    first = MamlLearner(SHAPES, NETWORKS, CONFIG, 5, CPU)
    for _ in range(3):
        first.update(data)
    second = MamlLearner(SHAPES, NETWORKS, CONFIG, 6, CPU)
    second.load_state(first.state())
    for _ in range(3):
        second.update(data)
    expected, found = quiet.state(), second.state()
    assert expected.keys() == found.keys()
    for name, array in expected.items():
        np.testing.assert_array_equal(found[name], array)
    wrong = MamlLearner(Shapes(4, 2), NETWORKS, CONFIG, 5, CPU)
    with pytest.raises(ValueError, match=r"policy/0\.map"):
        wrong.load_state(first.state())


def test_diverging_inner_step_is_told_in_one_line():
    data = TaskBatch(*(TaskRows(*(x.float() for x in part)) for part in batch()))
    config = dataclasses.replace(CONFIG, initial_rate=500.0, inner_steps=3)
    learner = MamlLearner(SHAPES, NETWORKS, config, 0, CPU)
    learner.update(data)
    with pytest.raises(NonFiniteError, match=r"is not finite.*update 1"):
        learner.read_metrics()
