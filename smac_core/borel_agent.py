"""BOReL at meta-test, without torch: the belief is filtered at every step and never reset.

Only ``begin_task`` forgets. The GRU is PyTorch's ``nn.GRU``; its products go through
``kernels.mlp``, whose rows do not depend on the batch around them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np

from kernels.mlp import mlp_forward
from kernels.policy import act_mean
from kernels.posterior import kl_to_prior
from smac_core.agent import PackedMlp
from smac_core.envs.definition import Environment
from smac_core.errors import CheckpointError
from smac_core.meta_agent import Context, Diagnosis, MetaAgent, Step

BELIEF = "belief."  # of the names of its tensors in a checkpoint
_FIX = "pass the checkpoint that the same environment and configuration made"


def pack_linear(weight: np.ndarray, bias: np.ndarray) -> PackedMlp:
    """Lay a linear layer of torch out as a network of one layer.

    Args:
        weight: ``[out, in]``.
        bias: ``[out]``.

    Returns:
        The network.
    """
    flat = np.concatenate([np.ascontiguousarray(weight.T).reshape(-1), bias]).astype(np.float32)
    return PackedMlp(flat, np.array(weight.shape[::-1], dtype=np.int64))


def run(net: PackedMlp, x: np.ndarray) -> np.ndarray:
    """Run a network.

    Args:
        net: The network.
        x: ``[N, in]``.

    Returns:
        ``[N, out]`` float32, linear.
    """
    out = np.empty((len(x), int(net.sizes[-1])), dtype=np.float32)
    mlp_forward(net.parameters, net.sizes, np.ascontiguousarray(x, dtype=np.float32), out)
    return out


@dataclass(frozen=True)
class BeliefFilter:
    """Embeddings, GRU and heads.

    Args:
        action: Embeds a.
        obs: Embeds s'.
        reward: Embeds r.
        of_input: The GRU's product with its input, three gates.
        of_hidden: The GRU's product with its state.
        mean: Head of the mean.
        log_variance: Head of the log variance.
        limit: The log variance is clamped to ± this.
    """

    action: PackedMlp
    obs: PackedMlp
    reward: PackedMlp
    of_input: PackedMlp
    of_hidden: PackedMlp
    mean: PackedMlp
    log_variance: PackedMlp
    limit: float

    @property
    def hidden_dim(self) -> int:
        """Length of the GRU's state."""
        return int(self.of_hidden.sizes[0])

    def step(
        self, hidden: np.ndarray, action: np.ndarray, next_obs: np.ndarray, reward: np.ndarray
    ) -> np.ndarray:
        """Advance by one transition.

        Args:
            hidden: ``[N, hidden_dim]`` float32.
            action: ``[N, action_dim]``.
            next_obs: ``[N, obs_dim]``.
            reward: ``[N]`` true rewards, unscaled.

        Returns:
            ``[N, hidden_dim]`` float32.

        Source: the equations of torch.nn.GRU.
        """
        parts = [run(self.action, action), run(self.obs, next_obs)]
        parts.append(run(self.reward, reward[:, None]))
        seen = run(self.of_input, np.maximum(np.concatenate(parts, axis=1), 0.0))
        kept = run(self.of_hidden, hidden)
        size = self.hidden_dim
        reset, update = np.split(_sigmoid(seen[:, : 2 * size] + kept[:, : 2 * size]), 2, axis=1)
        new = np.tanh(seen[:, 2 * size :] + reset * kept[:, 2 * size :])
        after: np.ndarray = (1.0 - update) * new + update * hidden
        return after

    def read(self, hidden: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Read the belief off the state.

        Args:
            hidden: ``[N, hidden_dim]``.

        Returns:
            Mean and log variance, each ``[N, latent_dim]`` float32.
        """
        log_variance = np.clip(run(self.log_variance, hidden), -self.limit, self.limit)
        return run(self.mean, hidden), log_variance


def _sigmoid(x: np.ndarray) -> np.ndarray:
    half: np.ndarray = np.float32(0.5) * (np.tanh(np.float32(0.5) * x) + np.float32(1.0))
    return half


class BorelAgent(MetaAgent):
    """Acts on the hyper-state: what it sees, whether an episode begins anew, what it believes.

    There is no difference between exploring and exploiting, and nothing is left to ``adapt``.

    Args:
        belief: The filter.
        policy: Maps hyper-states to actions.

    Source: baselines.md section 3, "SMAC-protocol adaptation".
    """

    needs_steps = True
    needs_order = True

    def __init__(self, belief: BeliefFilter, policy: PackedMlp) -> None:
        self.belief, self.policy = belief, policy
        self.begin_task(0)

    def begin_task(self, num: int) -> None:
        """Believe what is believed before the first step."""
        self._hidden = np.zeros((num, self.belief.hidden_dim), dtype=np.float32)
        self._begins = np.zeros((num, 1), dtype=np.float32)

    def act(
        self, rows: np.ndarray, obs: np.ndarray, noise: np.ndarray, *, explore: bool
    ) -> np.ndarray:
        """Take the policy's mean action."""
        mean, log_variance = self.belief.read(self._hidden[rows])
        out = np.empty(noise.shape, dtype=np.float32)
        seen = np.concatenate([obs, self._begins[rows]], axis=1)
        believed = np.concatenate([mean, log_variance], axis=1)
        act_mean(self.policy.parameters, self.policy.sizes, seen, believed, out)
        return out

    def observe(self, rows: np.ndarray, step: Step) -> None:
        """Filter one step."""
        self._hidden[rows] = self.belief.step(
            self._hidden[rows], step.action, step.next_obs, step.reward
        )
        self._begins[rows] = 0.0

    def end_episode(self, rows: np.ndarray) -> None:
        """Keep the belief; the next observation begins an episode anew."""
        self._begins[rows] = 1.0

    def adapt(self, rows: np.ndarray) -> None:
        """Do nothing: the belief followed every step."""

    def given(self, contexts: Sequence[Context]) -> None:
        """Filter what somebody else collected, step by step."""
        self.begin_task(len(contexts))
        length = np.array([len(context) for context in contexts], dtype=np.int64)
        for number in range(int(length.max(initial=0))):
            rows = np.flatnonzero(number < length)
            some = [contexts[int(row)] for row in rows]
            action = np.stack([context.action[number] for context in some])
            next_obs = np.stack([context.next_obs[number] for context in some])
            reward = np.stack([context.reward[number] for context in some])
            self._hidden[rows] = self.belief.step(self._hidden[rows], action, next_obs, reward)
        self._begins[length > 0] = 1.0

    def diagnosis(self) -> Diagnosis:
        """Tell the beliefs."""
        mean, log_variance = self.belief.read(self._hidden)
        variance = np.exp(log_variance)
        kl = np.empty(len(mean), dtype=np.float32)
        kl_to_prior(mean, variance, kl)
        return Diagnosis(mean, variance, kl)


def make_filter(tensors: Mapping[str, np.ndarray], limit: float) -> BeliefFilter:
    """Build the belief from a checkpoint's tensors.

    Args:
        tensors: Those of ``smac_core.borel.vae.BeliefVae``, with ``belief.`` before their names.
        limit: The log variance is clamped to ± this.

    Returns:
        The belief.
    """

    def packed(weight: str, bias: str) -> PackedMlp:
        return pack_linear(tensors[BELIEF + weight], tensors[BELIEF + bias])

    names = ("embed_action", "embed_obs", "embed_reward", "mean", "log_variance")
    action, obs, reward, mean, log_variance = (packed(f"{n}.weight", f"{n}.bias") for n in names)
    of_input, of_hidden = (packed(f"gru.weight_{n}_l0", f"gru.bias_{n}_l0") for n in ("ih", "hh"))
    return BeliefFilter(action, obs, reward, of_input, of_hidden, mean, log_variance, limit)


def load(
    tensors: Mapping[str, np.ndarray], metadata: Mapping[str, Any], env: Environment
) -> BorelAgent:
    """Build the acting side of a checkpoint of BOReL.

    Args:
        tensors: Its arrays.
        metadata: What it says of itself.
        env: The environment that it belongs to.

    Returns:
        The agent.

    Raises:
        CheckpointError: It is a checkpoint of another method, or its arrays do not fit together.
    """
    if metadata.get("algorithm") != "borel":
        raise CheckpointError(
            "checkpoint of another method",
            where="its metadata, algorithm",
            expected="borel",
            found=metadata.get("algorithm"),
            fix="pass the checkpoint that `python -m pipeline.borel_train` wrote",
        )
    belief, sizes = metadata["networks"]["belief"], metadata["sizes"]["policy"]
    _check_policy(sizes, int(belief["latent_dim"]), env)
    expected = {**belief_shapes(belief, env), "policy": (_count(sizes),)}
    for name, shape in expected.items():
        found = tensors[name].shape if name in tensors else "none"
        if found != shape or not np.isfinite(tensors[name]).all():
            raise CheckpointError(
                f"{name} does not fit, or is not finite", expected=shape, found=found, fix=_FIX
            )
    policy = np.ascontiguousarray(tensors["policy"], dtype=np.float32)
    return BorelAgent(
        make_filter(tensors, float(belief["log_variance_limit"])),
        PackedMlp(policy, np.asarray(sizes, dtype=np.int64)),
    )


def belief_shapes(belief: Mapping[str, Any], env: Environment) -> dict[str, tuple[int, ...]]:
    """Shapes of the arrays that acting reads, but the policy's.

    Args:
        belief: The fields of ``BeliefConfig``.
        env: The environment.

    Returns:
        By name in the checkpoint.
    """
    inputs = {"action": env.action_dim, "obs": env.obs_dim, "reward": 1}
    width = {name: int(belief[f"{name}_embedding"]) for name in inputs}
    hidden, latent = int(belief["hidden"]), int(belief["latent_dim"])
    linear = {f"embed_{name}": (width[name], inputs[name]) for name in inputs}
    linear |= {"mean": (latent, hidden), "log_variance": (latent, hidden)}
    shapes: dict[str, tuple[int, ...]] = {}
    for name, (outs, ins) in linear.items():
        shapes |= {f"{BELIEF}{name}.weight": (outs, ins), f"{BELIEF}{name}.bias": (outs,)}
    for name, ins in (("ih", sum(width.values())), ("hh", hidden)):
        shapes |= {f"{BELIEF}gru.weight_{name}_l0": (3 * hidden, ins)}
        shapes |= {f"{BELIEF}gru.bias_{name}_l0": (3 * hidden,)}
    return shapes


def _count(sizes: Sequence[int]) -> int:
    return sum((ins + 1) * outs for ins, outs in pairwise(sizes))


def _check_policy(sizes: Sequence[int], latent_dim: int, env: Environment) -> None:
    outer = (env.obs_dim + 1 + 2 * latent_dim, 2 * env.action_dim)
    if (sizes[0], sizes[-1]) != outer:
        raise CheckpointError(
            "policy of another shape",
            expected=f"{outer[0]} inputs and {outer[1]} outputs",
            found=f"{sizes[0]} and {sizes[-1]}",
            fix=_FIX,
        )
