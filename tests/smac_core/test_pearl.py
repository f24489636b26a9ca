"""PEARL against an independent re-implementation, and which group receives which gradient."""

from __future__ import annotations

import dataclasses
from itertools import pairwise

import numpy as np
import pytest
import torch
from torch import nn

from smac_core.config import NetworkConfig, PearlConfig
from smac_core.errors import NonFiniteError
from smac_core.learner import Batch
from smac_core.networks import Shapes
from smac_core.pearl import PearlLearner

CPU = torch.device("cpu")
OBS, ACTION, LATENT = 3, 2, 4
NETWORKS = NetworkConfig(
    encoder=(16, 16), decoder=(8, 8), critic=(16, 12), policy=(12, 16), latent_dim=LATENT
)
CONFIG = PearlConfig(num_tasks=3, rows_per_task=7, context_size=5)
VARIANTS = {
    "rlkit": CONFIG,
    "without decoder": dataclasses.replace(CONFIG, train_decoder=False),
    "weights": dataclasses.replace(
        CONFIG, kl_weight=0.7, entropy_weight=0.2, mean_penalty=0.5, log_std_penalty=0.3
    ),
    "large steps": dataclasses.replace(CONFIG, learning_rate=0.01),
}
TASK = torch.tensor([2, 0, 2])


def random_batch(seed: int) -> Batch:
    rng = np.random.default_rng(seed)
    m, b, k = CONFIG.num_tasks, CONFIG.rows_per_task, CONFIG.context_size

    def normal(*dims: int) -> torch.Tensor:
        return torch.from_numpy(rng.standard_normal((1, *dims)).astype(np.float32))

    return Batch(
        task=TASK[None],
        obs=normal(m, b, OBS),
        action=torch.tanh(normal(m, b, ACTION)),
        reward=normal(m, b),
        next_obs=normal(m, b, OBS),
        terminated=(normal(m, b) > 0.7).float(),
        context=normal(m, k, OBS + ACTION + 1),
        latent_noise=normal(m, LATENT),
        next_latent_noise=normal(m, LATENT),
        action_noise=normal(m * b, ACTION),
        next_action_noise=normal(m * b, ACTION),
    )


def make_learner(
    config: PearlConfig = CONFIG, task_latents: np.ndarray | None = None
) -> PearlLearner:
    """A learner whose parameters are large enough for every term to matter."""
    learner = PearlLearner(Shapes(OBS, ACTION), NETWORKS, config, 0, CPU, task_latents)
    rng = np.random.default_rng(99)
    with torch.no_grad():
        for group in (learner.model, learner.value, learner.policy):
            noise = rng.normal(0.0, 0.2, group.flat.shape).astype(np.float32)
            group.flat.add_(torch.from_numpy(noise))
    return learner


class Net(nn.Module):
    """One network, or one member of an ensemble, rebuilt from the documented layout."""

    def __init__(self, flat: np.ndarray, sizes: list[int], member: int = 0, members: int = 1):
        super().__init__()
        self.layers = nn.ModuleList()
        offset = 0
        for fan_in, fan_out in pairwise(sizes):
            linear = nn.Linear(fan_in, fan_out)
            place = offset + member * fan_in * fan_out
            weight = flat[place : place + fan_in * fan_out].reshape(fan_in, fan_out)
            offset += members * fan_in * fan_out
            place = offset + member * fan_out
            linear.weight.data = torch.from_numpy(weight.T.copy())
            linear.bias.data = torch.from_numpy(flat[place : place + fan_out].copy())
            offset += members * fan_out
            self.layers.append(linear)
        assert offset == len(flat)

    def forward(self, *parts: torch.Tensor) -> torch.Tensor:
        x = torch.cat(parts, 1)
        for layer in self.layers[:-1]:
            x = torch.relu(layer(x))
        return self.layers[-1](x)

    def flat(self) -> np.ndarray:
        parts = [a for m in self.layers for a in (m.weight.T, m.bias)]
        return np.concatenate([p.detach().numpy().ravel() for p in parts])


class PlainPearl:
    """One gradient step written the long way, from smac-reference section 4."""

    def __init__(self, state: dict[str, np.ndarray], config: PearlConfig) -> None:
        self.config = config
        q_sizes = [OBS + ACTION + LATENT, *NETWORKS.critic, 1]
        v_sizes = [OBS + LATENT, *NETWORKS.critic, 1]
        self.q1, self.q2 = (Net(state["critic"], q_sizes, member, 2) for member in (0, 1))
        self.v, self.target_v = Net(state["value"], v_sizes), Net(state["target_value"], v_sizes)
        self.encoder = Net(state["encoder"], [OBS + ACTION + 1, *NETWORKS.encoder, 2 * LATENT])
        self.decoder = Net(state["decoder"], [OBS + ACTION + LATENT, *NETWORKS.decoder, 1])
        self.policy = Net(state["policy"], [OBS + LATENT, *NETWORKS.policy, 2 * ACTION])
        self.adams = {
            name: torch.optim.Adam(getattr(self, name).parameters(), lr=config.learning_rate)
            for name in ("q1", "q2", "v", "encoder", "decoder", "policy")
        }

    def step(self, loss: torch.Tensor, *names: str) -> None:
        parameters = [p for name in names for p in getattr(self, name).parameters()]
        grads = torch.autograd.grad(loss, parameters, allow_unused=True)
        for parameter, grad in zip(parameters, grads, strict=True):
            parameter.grad = grad
        for name in names:
            self.adams[name].step()

    def latent(self, batch: Batch, size: int) -> tuple[torch.Tensor, torch.Tensor]:
        zs, kls = [], []
        prior = torch.distributions.Normal(0.0, 1.0)
        for context, noise in zip(batch.context, batch.latent_noise, strict=True):
            out = self.encoder(context)
            precision = 1.0 / nn.functional.softplus(out[:, LATENT:]).clamp(min=1e-7)
            variance = 1.0 / precision.sum(0)
            q = torch.distributions.Normal(
                variance * (precision * out[:, :LATENT]).sum(0), variance.sqrt()
            )
            kls.append(torch.distributions.kl_divergence(q, prior).sum())
            zs.append((q.loc + q.scale * noise).expand(size, -1))
        return torch.cat(zs), torch.stack(kls).sum()

    def update(self, stacked: Batch, given: torch.Tensor | None = None) -> None:
        batch = Batch(*(tensor[0] for tensor in stacked))
        cfg, mse = self.config, nn.functional.mse_loss
        m, size = batch.reward.shape
        obs, action, next_obs = (
            x.reshape(m * size, -1) for x in (batch.obs, batch.action, batch.next_obs)
        )
        reward, done = batch.reward.reshape(-1), batch.terminated.reshape(-1)
        if given is None:
            z, kl = self.latent(batch, size)
        else:
            z, kl = given, torch.zeros(())
        y = cfg.reward_scale * reward
        y = y + (1 - done) * cfg.discount * self.target_v(next_obs, z)[:, 0]
        y = y.detach()
        loss = mse(self.q1(obs, action, z)[:, 0], y) + mse(self.q2(obs, action, z)[:, 0], y)
        loss = loss + cfg.kl_weight * kl
        names = ["q1", "q2"] + ([] if given is not None else ["encoder"])
        if cfg.train_decoder:
            loss = loss + mse(self.decoder(obs, action, z)[:, 0], reward)
            names.append("decoder")
        self.step(loss, *names)

        z = z.detach()
        mean, log_std = self.policy(obs, z).chunk(2, 1)
        log_std = log_std.clamp(-20, 2)
        normal = torch.distributions.Normal(mean, log_std.exp())
        pre = mean + log_std.exp() * batch.action_noise
        own = torch.tanh(pre)
        log_pi = (normal.log_prob(pre) - torch.log(1 - own**2)).sum(1)
        min_q = torch.minimum(self.q1(obs, own, z), self.q2(obs, own, z))[:, 0]
        soft = min_q - cfg.entropy_weight * log_pi
        penalty = cfg.mean_penalty * (mean**2).mean() + cfg.log_std_penalty * (log_std**2).mean()
        policy_loss = -soft.mean() + penalty
        self.step(mse(self.v(obs, z)[:, 0], soft.detach()), "v")
        with torch.no_grad():
            rate = cfg.target_update_rate
            pairs = zip(self.target_v.parameters(), self.v.parameters(), strict=True)
            for old, new in pairs:
                old.mul_(1 - rate).add_(rate * new)
        self.step(policy_loss, "policy")

    def gaps(self, state: dict[str, np.ndarray]) -> dict[str, float]:
        out = {}
        for name in ("encoder", "decoder", "policy"):
            out[name] = np.abs(state[name] - getattr(self, name).flat()).max()
        out["value"] = np.abs(state["value"] - self.v.flat()).max()
        out["target_value"] = np.abs(state["target_value"] - self.target_v.flat()).max()
        q_sizes = [OBS + ACTION + LATENT, *NETWORKS.critic, 1]
        for member, net in ((0, self.q1), (1, self.q2)):
            flat = Net(state["critic"], q_sizes, member, 2).flat()
            out[f"q{member + 1}"] = np.abs(flat - net.flat()).max()
        return out


@pytest.mark.parametrize("name", VARIANTS)
@pytest.mark.usefixtures("arithmetic")
def test_updates_equal_an_independent_implementation(name: str) -> None:
    config = VARIANTS[name]
    learner = make_learner(config)
    before = learner.state()
    plain = PlainPearl(before, config)
    for number in range(4):
        learner.update(random_batch(number))
        plain.update(random_batch(number))
    after = learner.state()
    for key, gap in plain.gaps(after).items():
        assert gap < 0.01 * config.learning_rate, (key, gap)
    moved = {key for key in before if not np.array_equal(before[key], after[key])}
    networks = {"critic", "value", "encoder", "policy", "target_value"}
    assert moved >= networks | ({"decoder"} if config.train_decoder else set())
    assert ("decoder" in moved) == config.train_decoder


def test_the_task_conditioned_variant_takes_the_task_for_its_latent() -> None:
    latents = np.random.default_rng(0).uniform(-1, 1, (3, LATENT)).astype(np.float32)
    learner = make_learner(task_latents=latents)
    before = learner.state()
    plain = PlainPearl(before, CONFIG)
    given = torch.from_numpy(np.repeat(latents[TASK], CONFIG.rows_per_task, axis=0))
    for number in range(2):
        learner.update(random_batch(number))
        plain.update(random_batch(number), given)
    assert max(plain.gaps(learner.state()).values()) < 0.01 * CONFIG.learning_rate
    assert np.array_equal(before["encoder"], learner.state()["encoder"])


def gradients(config: PearlConfig = CONFIG, batch: Batch | None = None) -> dict[str, np.ndarray]:
    """Gradients by network, caught where they would be applied."""
    learner = make_learner(config)
    groups = (learner.model, learner.value, learner.policy)
    for group in groups:
        group.step = lambda: None  # type: ignore[method-assign]
    learner.update(random_batch(0) if batch is None else batch)
    assert learner.target_value.anchor is None
    return {
        name: group.gradient[span].numpy().copy()
        for group in groups
        for name, span in group.spans.items()
    }


def same(one: dict[str, np.ndarray], other: dict[str, np.ndarray]) -> set[str]:
    return {name for name in one if np.array_equal(one[name], other[name])}


def test_the_bellman_error_trains_the_encoder() -> None:
    # Only the critics' error depends on terminated, so whatever moves is trained by it.
    batch = random_batch(0)
    other = batch._replace(terminated=1.0 - batch.terminated)
    assert same(gradients(), gradients(batch=other)) == {"decoder", "value", "policy"}


def test_the_actor_and_its_value_train_themselves_alone() -> None:
    batch = random_batch(0)
    other = batch._replace(action_noise=-batch.action_noise)
    assert same(gradients(), gradients(batch=other)) == {"critic", "encoder", "decoder"}
    penalty = dataclasses.replace(CONFIG, mean_penalty=1.0, log_std_penalty=1.0)
    unmoved = {"critic", "encoder", "decoder", "value"}
    assert same(gradients(), gradients(penalty)) == unmoved


def test_the_decoder_trains_the_encoder_and_itself() -> None:
    without = gradients(dataclasses.replace(CONFIG, train_decoder=False))
    assert not without["decoder"].any()
    assert same(gradients(), without) == {"critic", "value", "policy"}


def test_the_divergence_is_summed_over_tasks() -> None:
    # The same context three times: the KL's share of the encoder's gradient is three times as large
    # as that of one task, while every other loss is a mean.
    base = dataclasses.replace(CONFIG, kl_weight=0.0)
    weighted = dataclasses.replace(CONFIG, kl_weight=1.0)
    batch = random_batch(0)
    one = Batch(
        *(
            value[:, : value.shape[1] // 3] if name.endswith("action_noise") else value[:, :1]
            for name, value in zip(Batch._fields, batch, strict=True)
        )
    )
    three = Batch(*(value.repeat(1, 3, *([1] * (value.ndim - 2))) for value in one))
    share = [
        gradients(weighted, b)["encoder"] - gradients(base, b)["encoder"] for b in (one, three)
    ]
    assert np.abs(share[0]).max() > 0.01
    np.testing.assert_allclose(share[1], 3.0 * share[0], rtol=1e-3, atol=1e-4)


def test_the_target_value_starts_as_a_copy() -> None:
    state = PearlLearner(Shapes(OBS, ACTION), NETWORKS, CONFIG, 0, CPU).state()
    assert np.array_equal(state["value"], state["target_value"])


def test_a_restored_learner_takes_the_identical_next_update() -> None:
    learner, other = make_learner(), PearlLearner(Shapes(OBS, ACTION), NETWORKS, CONFIG, 5, CPU)
    for number in range(2):
        learner.update(random_batch(number))
    other.update(random_batch(9))
    other.load_state(learner.state())
    for item in (learner, other):
        item.update(random_batch(2))
    one, two = learner.state(), other.state()
    assert one.keys() == two.keys()
    assert all(np.array_equal(one[key], two[key]) for key in one)
    assert other.num_updates == 3


def test_metrics_and_a_loss_that_is_not_finite() -> None:
    learner = make_learner()
    learner.update(random_batch(0))
    assert set(learner.read_metrics()) == {
        *("posterior_kl", "critic_loss", "value", "reward_loss", "value_loss"),
        *("own_action_value", "policy_entropy"),
    }
    batch = random_batch(1)
    learner.update(batch._replace(reward=torch.full_like(batch.reward, torch.nan)))
    with pytest.raises(NonFiniteError, match="critic_loss is not finite: in update 2"):
        learner.read_metrics()
