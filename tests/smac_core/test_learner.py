"""The learner against an independent re-implementation: separate modules, one Adam each."""

from __future__ import annotations

import dataclasses
from itertools import pairwise

import jaxtyping
import numpy as np
import pytest
import torch
from torch import Tensor, nn

from smac_core.config import LearnerConfig, NetworkConfig
from smac_core.encoder import infer_posterior, sample_latent
from smac_core.errors import ConfigError, NonFiniteError
from smac_core.learner import (
    ActorInputs,
    Batch,
    Learner,
    resolve_device,
    seeds_together,
    spread,
)
from smac_core.losses import critic_loss
from smac_core.networks import Shapes, critic_values

CPU = torch.device("cpu")
SHAPES = Shapes(obs_dim=3, action_dim=2)
NETWORKS = NetworkConfig(encoder=(16, 16), decoder=(8, 8), critic=(16, 12), policy=(12, 16))
LATENT = NETWORKS.latent_dim
OFFLINE = LearnerConfig(num_tasks=3, rows_per_task=7, context_size=5)
ONLINE = dataclasses.replace(OFFLINE, policy_gradient_weight=1.0, train_model=False)
VARIANTS = {
    "offline": OFFLINE,
    "online": ONLINE,
    "online with encoder": dataclasses.replace(ONLINE, train_model=True),
    "small temperature": dataclasses.replace(OFFLINE, awac_temperature=0.05, awac_weight=0.7),
    "weights": dataclasses.replace(ONLINE, awac_weight=0.5, policy_gradient_weight=0.25),
    "behaviour cloning": dataclasses.replace(OFFLINE, actor="bc"),
    "policy gradient": dataclasses.replace(OFFLINE, actor="policy-gradient"),
    "entropy": dataclasses.replace(OFFLINE, entropy_weight=0.3),
    "entropy online": dataclasses.replace(ONLINE, entropy_weight=0.3),
    "fresh target latent": dataclasses.replace(OFFLINE, target_latent="fresh"),
    "copied target": dataclasses.replace(OFFLINE, target_init="copy"),
    "softplus is std": dataclasses.replace(OFFLINE, posterior_variance="std"),
    "summed KL": dataclasses.replace(OFFLINE, kl_reduction="sum", kl_weight=0.3),
    # Large steps, with which the order of the four updates shows.
    "large steps": dataclasses.replace(ONLINE, train_model=True, learning_rate=0.01),
}


def random_batch(seed: int, config: LearnerConfig = OFFLINE) -> Batch:
    rng = np.random.default_rng(seed)
    m, b, k = config.num_tasks, config.rows_per_task, config.context_size
    o, a = SHAPES.obs_dim, SHAPES.action_dim

    def normal(*dims: int) -> torch.Tensor:
        return torch.from_numpy(rng.standard_normal((1, *dims)).astype(np.float32))

    return Batch(
        task=torch.arange(m)[None],
        obs=normal(m, b, o),
        action=torch.tanh(normal(m, b, a)),
        reward=normal(m, b),
        next_obs=normal(m, b, o),
        terminated=(normal(m, b) > 0.7).float(),
        context=normal(m, k, o + a + 1),
        latent_noise=normal(m, LATENT),
        next_latent_noise=normal(m, LATENT),
        action_noise=normal(m * b, a),
        next_action_noise=normal(m * b, a),
    )


def make_learner(config: LearnerConfig = OFFLINE, seed: int = 0) -> Learner:
    """A learner whose parameters are large enough for every term to matter."""
    learner = Learner(SHAPES, NETWORKS, config, [seed], CPU)
    rng = np.random.default_rng(seed + 99)
    with torch.no_grad():
        for flat in (learner.agent.flat, learner.model.flat, learner.target_flat):
            flat.add_(torch.from_numpy(rng.normal(0.0, 0.2, flat.shape).astype(np.float32)))
    return learner


# ---- the re-implementation -----------------------------------------------------------------------


def linear_stack(flat: np.ndarray, sizes: list[int]) -> nn.Sequential:
    """Rebuild one network from the documented layout: W [in, out] row by row, then b."""
    layers: list[nn.Module] = []
    offset = 0
    for fan_in, fan_out in pairwise(sizes):
        linear = nn.Linear(fan_in, fan_out)
        weight = flat[offset : offset + fan_in * fan_out].reshape(fan_in, fan_out)
        offset += fan_in * fan_out
        linear.weight.data = torch.from_numpy(weight.T.copy())
        linear.bias.data = torch.from_numpy(flat[offset : offset + fan_out].copy())
        offset += fan_out
        layers += [linear, nn.ReLU()]
    assert offset == len(flat)
    return nn.Sequential(*layers[:-1])


def flatten(net: nn.Sequential) -> np.ndarray:
    parts = []
    for layer in net:
        if isinstance(layer, nn.Linear):
            parts += [layer.weight.detach().numpy().T.ravel(), layer.bias.detach().numpy()]
    return np.concatenate(parts)


def split_twins(flat: np.ndarray, sizes: list[int]) -> tuple[np.ndarray, np.ndarray]:
    """Take the two members out of the ensemble's layout, a leading axis on every array."""
    members: tuple[list[np.ndarray], list[np.ndarray]] = ([], [])
    offset = 0
    for fan_in, fan_out in pairwise(sizes):
        for length in (fan_in * fan_out, fan_out):
            for member in members:
                member.append(flat[offset : offset + length])
                offset += length
    assert offset == len(flat)
    return np.concatenate(members[0]), np.concatenate(members[1])


class PlainSmac:
    """One gradient step written the long way, from smac-reference section 2."""

    def __init__(
        self, state: dict[str, np.ndarray], config: LearnerConfig, *, policy_last: bool = False
    ) -> None:
        self.policy_last = policy_last  # a wrong order: the actor's loss sees the stepped critics
        o, a = SHAPES.obs_dim, SHAPES.action_dim
        q_sizes = [o + a + LATENT, *NETWORKS.critic, 1]
        self.q_sizes = q_sizes
        self.config = config
        self.policy = linear_stack(state["policy"], [o + LATENT, *NETWORKS.policy, 2 * a])
        self.encoder = linear_stack(state["encoder"], [o + a + 1, *NETWORKS.encoder, 2 * LATENT])
        self.decoder = linear_stack(state["decoder"], [o + a + LATENT, *NETWORKS.decoder, 1])
        self.q = [linear_stack(p, q_sizes) for p in split_twins(state["critic"], q_sizes)]
        self.target = [
            linear_stack(p, q_sizes) for p in split_twins(state["target_critic"], q_sizes)
        ]
        lr = config.learning_rate
        self.policy_adam = torch.optim.Adam(self.policy.parameters(), lr=lr)
        self.q_adam = [torch.optim.Adam(q.parameters(), lr=lr) for q in self.q]
        model = [*self.encoder.parameters(), *self.decoder.parameters()]
        self.model_adam = torch.optim.Adam(model, lr=lr)

    def posterior(self, context: torch.Tensor) -> torch.distributions.Normal:
        means, variances = [], []
        for task in context:
            out = self.encoder(task)
            softplus = nn.functional.softplus(out[:, LATENT:])
            if self.config.posterior_variance == "std":
                softplus = softplus**2
            precision = 1.0 / torch.clamp(softplus, min=1e-7)
            variance = 1.0 / precision.sum(0)
            means.append(variance * (precision * out[:, :LATENT]).sum(0))
            variances.append(variance)
        return torch.distributions.Normal(torch.stack(means), torch.stack(variances).sqrt())

    def act(self, obs: torch.Tensor, z: torch.Tensor) -> torch.distributions.Distribution:
        mean, log_std = self.policy(torch.cat([obs, z], 1)).split(SHAPES.action_dim, 1)
        base = torch.distributions.Normal(mean, log_std.clamp(-20, 2).exp())
        squash = torch.distributions.TanhTransform(cache_size=1)
        squashed = torch.distributions.TransformedDistribution(base, [squash])
        return torch.distributions.Independent(squashed, 1)

    def draw(
        self, obs: torch.Tensor, z: torch.Tensor, noise: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        dist = self.act(obs, z)
        base = dist.base_dist.base_dist  # type: ignore[attr-defined]
        action = dist.base_dist.transforms[0](base.loc + base.scale * noise)  # type: ignore[attr-defined]
        return action, dist.log_prob(action)

    def min_q(
        self, nets: list[nn.Sequential], obs: torch.Tensor, action: torch.Tensor, z: torch.Tensor
    ) -> torch.Tensor:
        x = torch.cat([obs, action, z], 1)
        return torch.minimum(nets[0](x), nets[1](x))[:, 0]

    def update(self, stacked: Batch) -> None:
        batch = Batch(*(tensor[0] for tensor in stacked))
        cfg = self.config
        m, b = batch.reward.shape
        obs, action = batch.obs.reshape(m * b, -1), batch.action.reshape(m * b, -1)
        next_obs = batch.next_obs.reshape(m * b, -1)
        reward, done = batch.reward.reshape(-1), batch.terminated.reshape(-1)
        which = torch.arange(m).repeat_interleave(b)

        q_zh = self.posterior(batch.context)
        task_z = q_zh.loc + q_zh.scale * batch.latent_noise
        z_grad, z = task_z[which], task_z[which].detach()

        prior = torch.distributions.Normal(torch.zeros(LATENT), torch.ones(LATENT))
        kl = torch.distributions.kl_divergence(q_zh, prior).sum(1)
        predicted = self.decoder(torch.cat([obs, action, z_grad], 1))[:, 0]
        model_loss = nn.functional.mse_loss(predicted, reward)
        model_loss = model_loss + cfg.kl_weight * (
            kl.mean() if cfg.kl_reduction == "mean" else kl.sum()
        )

        with torch.no_grad():
            acting = z
            if cfg.target_latent == "fresh":
                acting = (q_zh.loc + q_zh.scale * batch.next_latent_noise)[which]
            next_action, next_log_prob = self.draw(next_obs, acting, batch.next_action_noise)
            value = self.min_q(self.target, next_obs, next_action, z)
            value = value - cfg.entropy_weight * next_log_prob
            y = cfg.reward_scale * reward + (1 - done) * cfg.discount * value
        x = torch.cat([obs, action, z], 1)
        q_losses = [nn.functional.mse_loss(q(x)[:, 0], y) for q in self.q]

        # The actor's gradient first, by hand: each parameter sees exactly its own loss.
        grads = self.policy_gradient(batch, obs, action, z)
        if cfg.actor != "bc":
            for loss, adam in zip(q_losses, self.q_adam, strict=True):
                adam.zero_grad()
                loss.backward()
                adam.step()
        if cfg.train_model:
            self.model_adam.zero_grad()
            model_loss.backward()
            self.model_adam.step()
        if self.policy_last:
            grads = self.policy_gradient(batch, obs, action, z)
        for parameter, grad in zip(self.policy.parameters(), grads, strict=True):
            parameter.grad = grad
        self.policy_adam.step()
        if cfg.actor != "bc":
            self.move_targets()

    def policy_gradient(self, *args: torch.Tensor | Batch) -> tuple[torch.Tensor, ...]:
        loss = self.policy_loss(*args)  # type: ignore[arg-type]
        return torch.autograd.grad(loss, list(self.policy.parameters()))

    def policy_loss(
        self, batch: Batch, obs: torch.Tensor, action: torch.Tensor, z: torch.Tensor
    ) -> torch.Tensor:
        cfg = self.config
        n = len(obs)
        log_pi = self.act(obs, z).log_prob(action.clamp(-0.999999, 0.999999))
        if cfg.actor == "bc":
            return -log_pi.mean()
        own, own_log_prob = self.draw(obs, z, batch.action_noise)
        own_value = self.min_q(self.q, obs, own, z)
        loss = cfg.entropy_weight * own_log_prob.mean()
        if cfg.actor == "policy-gradient":
            return loss - own_value.mean()
        with torch.no_grad():
            advantage = self.min_q(self.q, obs, action, z) - own_value
            exponent = (advantage - advantage.max()) / cfg.awac_temperature
            weights = n * exponent.exp() / exponent.exp().sum()
        loss = loss - cfg.awac_weight * (weights * log_pi).sum() / n
        return loss - cfg.policy_gradient_weight * own_value.mean()

    def move_targets(self) -> None:
        rate = self.config.target_update_rate
        with torch.no_grad():
            for target, q in zip(self.target, self.q, strict=True):
                for old, new in zip(target.parameters(), q.parameters(), strict=True):
                    old.copy_((1 - rate) * old + rate * new)

    def state(self) -> dict[str, np.ndarray]:
        return {
            "policy": flatten(self.policy),
            "encoder": flatten(self.encoder),
            "decoder": flatten(self.decoder),
            "q1": flatten(self.q[0]),
            "q2": flatten(self.q[1]),
            "t1": flatten(self.target[0]),
            "t2": flatten(self.target[1]),
        }


def by_member(state: dict[str, np.ndarray], q_sizes: list[int]) -> dict[str, np.ndarray]:
    out = {name: state[name] for name in ("policy", "encoder", "decoder")}
    out["q1"], out["q2"] = split_twins(state["critic"], q_sizes)
    out["t1"], out["t2"] = split_twins(state["target_critic"], q_sizes)
    return out


def largest_gap(one: dict[str, np.ndarray], other: dict[str, np.ndarray]) -> float:
    return max(float(np.abs(one[key] - other[key]).max()) for key in other)


@pytest.mark.parametrize("name", VARIANTS)
@pytest.mark.usefixtures("arithmetic")
def test_updates_equal_an_independent_implementation(name: str) -> None:
    config = VARIANTS[name]
    learner = make_learner(config)
    before = learner.state()
    plain = PlainSmac(before, config)
    for number in range(4):
        batch = random_batch(number)
        plain.update(batch)
        learner.update(batch)
    after, expected = by_member(learner.state(), plain.q_sizes), plain.state()
    start = by_member(before, plain.q_sizes)
    for key in expected:
        # Adam's first steps have size lr whatever the gradient, so the tolerance is a share of lr.
        gap = np.abs(after[key] - expected[key]).max()
        assert gap < 0.01 * config.learning_rate, (key, gap)
        frozen = key in {"encoder", "decoder"} and not config.train_model
        frozen |= key in {"q1", "q2", "t1", "t2"} and config.actor == "bc"
        assert np.array_equal(after[key], start[key]) == frozen, key


def test_that_comparison_notices_another_order_of_updates() -> None:
    config = VARIANTS["large steps"]
    learner = make_learner(config)
    plain = PlainSmac(learner.state(), config, policy_last=True)
    for number in range(4):
        plain.update(random_batch(number))
        learner.update(random_batch(number))
    gap = largest_gap(by_member(learner.state(), plain.q_sizes), plain.state())
    assert gap > 0.05 * config.learning_rate


# ---- which parameters receive which gradient -----------------------------------------------------


def gradients(config: LearnerConfig, batch: Batch | None = None) -> dict[str, np.ndarray]:
    """Gradients by network, caught where they would be applied."""
    learner = make_learner(config)
    caught: dict[str, np.ndarray] = {}
    groups = (learner.agent, learner.model)
    learner.agent.step = learner.model.step = lambda: None  # type: ignore[method-assign]
    learner.update(random_batch(0) if batch is None else batch)
    for group in groups:
        for name, span in group.spans.items():
            caught[name] = group.gradient[span].numpy().copy()
    assert learner.target_critic.anchor is None
    return caught


def test_every_network_learns_offline() -> None:
    assert all(np.abs(gradient).max() > 1e-4 for gradient in gradients(OFFLINE).values())


def test_nothing_but_kl_and_decoder_trains_the_encoder() -> None:
    base = gradients(OFFLINE)
    for change in (
        {"reward_scale": 50.0},
        {"discount": 0.5},
        {"policy_gradient_weight": 3.0},
        {"awac_weight": 0.0},
        {"entropy_weight": 1.0},
        {"actor": "policy-gradient"},
    ):
        changed = gradients(dataclasses.replace(OFFLINE, **change))
        assert np.array_equal(base["encoder"], changed["encoder"]), change
        assert np.array_equal(base["decoder"], changed["decoder"]), change
    more = gradients(dataclasses.replace(OFFLINE, kl_weight=1.0))
    assert not np.allclose(base["encoder"], more["encoder"])
    assert np.array_equal(base["decoder"], more["decoder"])


def test_the_actor_trains_no_critic() -> None:
    base = gradients(OFFLINE)
    for change in ({"policy_gradient_weight": 3.0}, {"awac_weight": 0.0}, {"awac_weight": 9.0}):
        changed = gradients(dataclasses.replace(OFFLINE, **change))
        assert np.array_equal(base["critic"], changed["critic"]), change
        assert not np.allclose(base["policy"], changed["policy"]), change


def test_the_bellman_error_trains_no_actor() -> None:
    config = dataclasses.replace(OFFLINE, actor="policy-gradient")
    base = gradients(config)
    changed = gradients(dataclasses.replace(config, reward_scale=50.0, discount=0.1))
    assert np.array_equal(base["policy"], changed["policy"])
    assert not np.allclose(base["critic"], changed["critic"])


def test_a_frozen_model_gets_no_gradient_and_still_gives_latents() -> None:
    caught = gradients(ONLINE)
    assert not caught["encoder"].any()
    assert not caught["decoder"].any()
    batch = random_batch(0)
    other = gradients(ONLINE, batch._replace(context=batch.context + 1.0))
    assert not np.allclose(caught["policy"], other["policy"])


def test_behaviour_cloning_trains_no_critic() -> None:
    caught = gradients(dataclasses.replace(OFFLINE, actor="bc"))
    assert not caught["critic"].any()
    assert np.abs(caught["policy"]).max() > 1e-4


def test_the_policy_gradient_is_off_offline() -> None:
    # With equal weights AWAC is behaviour cloning: nothing of Q may be left in the gradient.
    flat = gradients(dataclasses.replace(OFFLINE, awac_temperature=1e9))
    cloning = gradients(dataclasses.replace(OFFLINE, actor="bc"))
    np.testing.assert_allclose(flat["policy"], cloning["policy"], atol=1e-6)


def test_reward_scale_stays_in_the_bellman_target() -> None:
    batch = random_batch(0)
    scaled = batch._replace(reward=2.0 * batch.reward)
    twice = gradients(dataclasses.replace(OFFLINE, reward_scale=10.0), batch)
    double = gradients(dataclasses.replace(OFFLINE, reward_scale=5.0), scaled)
    np.testing.assert_allclose(twice["critic"], double["critic"], rtol=1e-5, atol=1e-6)
    assert not np.allclose(twice["decoder"], double["decoder"])


def test_with_a_large_temperature_smac_is_meta_bc_update_after_update() -> None:
    smac = make_learner(dataclasses.replace(OFFLINE, awac_temperature=1e12))
    cloning = make_learner(dataclasses.replace(OFFLINE, actor="bc"))
    start = cloning.state()["policy"]
    for number in range(30):
        for learner in (smac, cloning):
            learner.update(random_batch(number))
    one, other = smac.state(), cloning.state()
    for name in ("policy", "encoder", "decoder"):
        np.testing.assert_allclose(one[name], other[name], rtol=1e-4, atol=2e-6)
    assert np.abs(one["policy"] - start).max() > 1e-3
    assert smac.read_metrics()[0]["effective_sample_size"] == pytest.approx(1.0, abs=1e-6)


def climbing(inputs: ActorInputs, config: LearnerConfig) -> tuple[Tensor, dict[str, Tensor]]:
    """The policy-gradient actor again, as somebody else would plug it in."""
    own = torch.tanh(inputs.dist.mean + inputs.dist.log_std.exp() * inputs.noise)
    loss = -inputs.critic(inputs.obs, own, inputs.latent).min(dim=-2).values.mean(dim=-1)
    return loss, {"climbed": -loss}


def test_an_actor_loss_plugs_in_by_import_string() -> None:
    plugged = make_learner(dataclasses.replace(OFFLINE, actor=f"{__name__}:climbing"))
    own = make_learner(dataclasses.replace(OFFLINE, actor="policy-gradient"))
    for learner in (plugged, own):
        for number in range(3):
            learner.update(random_batch(number))
    one, other = plugged.state(), own.state()
    for name in one:
        np.testing.assert_allclose(one[name], other[name], rtol=1e-5, atol=1e-6)
    metrics = plugged.read_metrics()[0]
    assert metrics["climbed"] == pytest.approx(own.read_metrics()[0]["own_action_value"])
    with pytest.raises(ConfigError, match=r"nothing to import: in learner\.actor.*no_such"):
        make_learner(dataclasses.replace(OFFLINE, actor="smac_core.losses:no_such"))


def test_the_largest_q_of_the_batch_is_told() -> None:
    config = dataclasses.replace(OFFLINE, actor="policy-gradient")
    learner, batch = make_learner(config), random_batch(0)
    with torch.no_grad():
        posterior = infer_posterior(learner.model.networks["encoder"], batch.context)
        z = spread(sample_latent(posterior, batch.latent_noise), config.rows_per_task)
        obs, action = (x.view(1, -1, x.shape[-1]) for x in (batch.obs, batch.action))
        values = critic_values(learner.agent.networks["critic"], obs, action, z)
    learner.update(batch)
    metrics = learner.read_metrics()[0]
    assert metrics["largest_value"] == pytest.approx(float(values.abs().max()), rel=1e-5)
    assert metrics["largest_own_action_value"] >= abs(metrics["own_action_value"])


# ---- state, metrics, errors ----------------------------------------------------------------------


@pytest.mark.parametrize("config", [OFFLINE, ONLINE], ids=["offline", "online"])
def test_a_restored_learner_takes_the_identical_next_update(config: LearnerConfig) -> None:
    learner = make_learner(config)
    for number in range(3):
        learner.update(random_batch(number))
    saved = learner.state()
    kept = {key: value.copy() for key, value in saved.items()}
    other = Learner(SHAPES, NETWORKS, config, [7], CPU)
    other.update(random_batch(50))
    other.load_state(saved)
    learner.update(random_batch(3))
    other.update(random_batch(3))
    one, two = learner.state(), other.state()
    assert one.keys() == two.keys()
    assert all(np.array_equal(one[key], two[key]) for key in one)
    assert other.num_updates == 4
    # What was saved did not move with the learner.
    assert all(np.array_equal(saved[key], kept[key]) for key in kept)
    assert not np.array_equal(saved["policy"], one["policy"])


def test_equal_seeds_give_equal_learners() -> None:
    one, two, three = (Learner(SHAPES, NETWORKS, OFFLINE, [s], CPU).state() for s in (0, 0, 1))
    assert all(np.array_equal(one[key], two[key]) for key in one)
    assert not np.array_equal(one["encoder"], three["encoder"])


def test_targets_start_apart_or_as_a_copy() -> None:
    apart = Learner(SHAPES, NETWORKS, OFFLINE, [0], CPU).state()
    copied = Learner(SHAPES, NETWORKS, VARIANTS["copied target"], [0], CPU).state()
    assert not np.array_equal(apart["critic"], apart["target_critic"])
    assert np.array_equal(copied["critic"], copied["target_critic"])


def test_targets_move_towards_the_stepped_critic() -> None:
    learner = make_learner()
    before = learner.state()["target_critic"]
    learner.update(random_batch(0))
    after = learner.state()
    expected = before + 0.005 * (after["critic"] - before)
    np.testing.assert_allclose(after["target_critic"], expected, rtol=1e-6, atol=1e-8)


def test_metrics_are_what_the_losses_are() -> None:
    learner = make_learner(dataclasses.replace(OFFLINE, policy_gradient_weight=1.0))
    learner.update(random_batch(0))
    (metrics,) = learner.read_metrics()
    assert set(metrics) == {
        *("reward_loss", "posterior_kl", "critic_loss", "value", "imitation_loss", "advantage"),
        *("effective_sample_size", "own_action_value", "largest_value"),
        "largest_own_action_value",
    }
    assert 0.0 < metrics["effective_sample_size"] <= 1.0


def test_a_loss_that_is_not_finite_is_refused_by_name() -> None:
    learner = make_learner()
    batch = random_batch(0)
    learner.update(batch._replace(reward=torch.full_like(batch.reward, torch.inf)))
    with pytest.raises(NonFiniteError, match=r"reward_loss is not finite: in update 1, found inf"):
        learner.read_metrics()


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a GPU")
def test_no_silent_fallback_to_the_cpu() -> None:
    assert resolve_device("auto") == CPU
    assert resolve_device("cpu") == CPU
    with pytest.raises(ConfigError, match="no CUDA device"):
        resolve_device("cuda")


def test_latents_are_spread_task_by_task() -> None:
    latent = torch.tensor([[[1.0, 2.0], [3.0, 4.0]]])
    assert spread(latent, 2).tolist() == [[[1.0, 2.0], [1.0, 2.0], [3.0, 4.0], [3.0, 4.0]]]


def test_shapes_of_tensors_are_checked_under_pytest() -> None:
    with pytest.raises(jaxtyping.TypeCheckError):
        critic_loss(torch.zeros(2, 3), torch.zeros(3, 1))


# ---- several seeds in one learner ----------------------------------------------------------------

SEEDS = (3, 8, 11)


def stack(batches: list[Batch]) -> Batch:
    return Batch(*(torch.cat(parts) for parts in zip(*batches, strict=True)))


def large(learner: Learner) -> Learner:
    """Make every term matter, seed by seed."""
    for place, seed in enumerate(SEEDS if learner.num_seeds > 1 else ()):
        learner.load_state(make_learner(learner.config, seed).state(), place)
    return learner


@pytest.mark.parametrize("name", ["offline", "online", "entropy online", "behaviour cloning"])
@pytest.mark.usefixtures("arithmetic")
def test_a_stacked_seed_is_what_it_would_be_alone(name: str) -> None:
    config = VARIANTS[name]
    together = large(Learner(SHAPES, NETWORKS, config, SEEDS, CPU))
    alone = [make_learner(config, seed) for seed in SEEDS]
    for number in range(4):
        batches = [random_batch(10 * number + place, config) for place in range(len(SEEDS))]
        together.update(stack(batches))
        for learner, batch in zip(alone, batches, strict=True):
            learner.update(batch)
    metrics = together.read_metrics()
    for place, learner in enumerate(alone):
        found, expected = together.state(place), learner.state()
        assert found.keys() == expected.keys()
        for key, value in expected.items():
            np.testing.assert_allclose(found[key], value, rtol=1e-4, atol=1e-6, err_msg=key)
        for key, number in learner.read_metrics()[0].items():
            assert metrics[place][key] == pytest.approx(number, rel=1e-4, abs=1e-6)


def test_a_stacked_seed_begins_where_it_would_begin_alone() -> None:
    together = Learner(SHAPES, NETWORKS, OFFLINE, SEEDS, CPU)
    for place, seed in enumerate(SEEDS):
        expected = Learner(SHAPES, NETWORKS, OFFLINE, [seed], CPU).state()
        found = together.state(place)
        assert all(np.array_equal(found[key], expected[key]) for key in expected)


def test_restoring_one_seed_leaves_the_others_alone() -> None:
    together = Learner(SHAPES, NETWORKS, OFFLINE, SEEDS, CPU)
    before = [together.state(place) for place in range(3)]
    other = make_learner(seed=5).state()
    together.load_state(other, 1)
    for place, expected in enumerate((before[0], other, before[2])):
        found = together.state(place)
        assert all(np.array_equal(found[key], expected[key]) for key in expected)
    with pytest.raises(ValueError, match="numbers for"):
        together.load_state(other | {"policy": np.zeros(3, np.float32)})


def test_seeds_are_stacked_on_a_gpu_only() -> None:
    assert seeds_together([4, 5], CPU) == [(4,), (5,)]
    assert seeds_together([4, 5], torch.device("cuda")) == [(4, 5)]


def test_one_seed_that_diverges_is_named() -> None:
    together = large(Learner(SHAPES, NETWORKS, OFFLINE, SEEDS, CPU))
    batches = [random_batch(place) for place in range(3)]
    batches[1] = batches[1]._replace(reward=torch.full_like(batches[1].reward, torch.nan))
    together.update(stack(batches))
    with pytest.raises(NonFiniteError, match="reward_loss is not finite"):
        together.read_metrics()
