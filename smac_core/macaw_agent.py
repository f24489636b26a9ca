"""MACAW and its relatives behind ``smac_core.meta_agent``: a gradient step on what was explored.

Acting is NumPy; torch, which adaptation needs, is imported when an agent is built.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from smac_core.envs.definition import Environment
from smac_core.errors import CheckpointError
from smac_core.inner_step_agent import InnerStepAgent, diverged
from smac_core.loading import check_algorithm, from_json, grouped
from smac_core.maml.config import MamlConfig, MamlNetworkConfig
from smac_core.maml.data import Rows, episode_columns
from smac_core.meta_agent import Context

if TYPE_CHECKING:
    from smac_core.maml.objective import Meta, Objective


class GradientAgent(InnerStepAgent):
    """Explores with the meta-learned policy and noise, takes the inner steps, acts by the mean.

    The inner steps read all rows of a meta-episode.

    Args:
        meta: The meta-learned parameters.
        objective: The method's losses.
        env: Tells what a whole episode is.

    Source: baselines.md section 2, "SMAC-protocol adaptation".
    """

    def __init__(self, meta: Meta, objective: Objective, env: Environment) -> None:
        self.meta, self.objective, self.env = meta, objective, env
        from smac_core.maml.networks import layer_weights  # noqa: PLC0415

        self._unadapted = _acting_layers(layer_weights(meta["policy"]))
        self.begin_task(0)

    def begin_task(self, num: int) -> None:
        """Return to the meta-learned policy."""
        self._layers = [
            (np.repeat(weight[None], num, axis=0), np.repeat(bias[None], num, axis=0))
            for weight, bias in self._unadapted
        ]
        super().begin_task(num)

    def act(
        self, rows: np.ndarray, obs: np.ndarray, noise: np.ndarray, *, explore: bool
    ) -> np.ndarray:
        """Take the mean action, with the policy's own noise while exploring."""
        everyone = np.array_equal(rows, np.arange(len(self._memory)))
        x = obs[:, None, :].astype(np.float32)
        for number, (weight, bias) in enumerate(self._layers):
            own = (weight, bias) if everyone else (weight[rows], bias[rows])
            x = np.maximum(x, 0.0) if number else x
            x = np.matmul(x, own[0]) + own[1][:, None, :]
        action = np.tanh(x[:, 0])
        if explore:
            action = action + self.objective.action_std * noise
        clipped: np.ndarray = np.clip(action, -1.0, 1.0).astype(np.float32)
        return clipped

    def _adapt(self, row: int, context: Context) -> None:
        import torch  # noqa: PLC0415

        from smac_core.maml.learner import to_rows  # noqa: PLC0415

        cfg = self.objective.config
        columns = episode_columns(
            self._as_rows(context),
            cfg.discount,
            cfg.reward_scale,
            bootstrap_terminal=cfg.bootstrap_terminal,
        )
        rows = to_rows(columns, torch.device("cpu"))
        adapted = self.objective.adapt(self.meta, rows, cfg.test_steps)
        for held, new in zip(self._layers, _acting_layers(adapted.policy), strict=True):
            if not all(np.isfinite(array).all() for array in new):
                raise diverged(
                    row, context, "train with a lower initial_rate or rate_learning_rate"
                )
            held[0][row], held[1][row] = new

    def _as_rows(self, context: Context) -> Rows:
        # Sawyer's collected episodes are longer than those that the agent meets.
        whole = context.terminated | (context.t >= self.env.horizon - 1)
        fields = {name: getattr(context, name) for name in Context.__dataclass_fields__}
        return Rows(**fields, ended=whole)


def _acting_layers(weights: Mapping[str, Any]) -> list[tuple[np.ndarray, np.ndarray]]:
    """Take the policy's layers, without the advantage head."""
    layers: list[tuple[np.ndarray, np.ndarray]] = []
    while (name := f"{len(layers)}.weight") in weights:
        bias = weights[f"{len(layers)}.bias"]
        layers.append((weights[name].detach().numpy(), bias.detach().numpy()))
    return layers


def load(
    tensors: Mapping[str, np.ndarray], metadata: Mapping[str, Any], env: Environment
) -> GradientAgent:
    """Build the agent of a checkpoint.

    Args:
        tensors: Arrays as ``group/name``.
        metadata: What the checkpoint says of itself.
        env: The environment.

    Returns:
        The agent.

    Raises:
        CheckpointError: Made by another algorithm, or for another environment's shapes.
    """
    fix = "pass the checkpoint that pipeline.maml_train made for this environment"
    check_algorithm(metadata, "maml", "a MAML method", fix)
    for name, size in (("obs_dim", env.obs_dim), ("action_dim", env.action_dim)):
        if metadata.get(name) != size:
            found = metadata.get(name)
            raise CheckpointError(
                f"checkpoint of another {name}", expected=size, found=found, fix=fix
            )
    import torch  # noqa: PLC0415

    from smac_core.maml.learner import initial_meta  # noqa: PLC0415
    from smac_core.maml.meta_learner import to_groups  # noqa: PLC0415
    from smac_core.maml.objective import Objective  # noqa: PLC0415
    from smac_core.networks import Shapes  # noqa: PLC0415

    torch.set_num_threads(1)  # as every stage: two seeds side by side use two cores
    networks: MamlNetworkConfig = from_json(MamlNetworkConfig, metadata["networks"])
    config: MamlConfig = from_json(MamlConfig, metadata["learner"])
    drawn = initial_meta(Shapes(env.obs_dim, env.action_dim), networks, config, 0)
    groups = grouped(tensors, drawn, fix)
    objective = Objective(config, networks.action_std)
    return GradientAgent(to_groups(groups, torch.device("cpu")), objective, env)
