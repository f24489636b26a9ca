"""Gradients through gradient steps, for any losses: the core that MACAW, MAML-BC and GMPS share.

Parameters are dictionaries of tensors and losses are pure functions of them, so that `torch.func`
differentiates through the inner steps and maps them over tasks. A method is a task loss: it adapts
parameters with ``adapt`` on one batch of a task, and measures them on another.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Literal

import torch
from torch import Tensor
from torch.func import grad, grad_and_value, vmap
from torch.utils import _pytree as pytree

Parameters = dict[str, Tensor]
Metrics = dict[str, Tensor]
InnerLoss = Callable[[Parameters], tuple[Tensor, Metrics]]
TaskLoss = Callable[[Any, Any], tuple[Tensor, Metrics]]


def adapt(
    loss: InnerLoss,
    parameters: Mapping[str, Tensor],
    rates: Mapping[str, Tensor],
    steps: int,
    *,
    second_order: bool = True,
) -> tuple[Parameters, Metrics]:
    """Take gradient steps on some parameters, differentiably.

    Args:
        loss: Of the parameters, on the task's own data; returns the loss and metrics.
        parameters: All that the loss reads.
        rates: Step size by name, a scalar or one number an element; what has none is not adapted.
        steps: How many.
        second_order: Differentiate through the gradients as well; else take them as constants.

    Returns:
        The adapted parameters, and the metrics before the first step.

    Source: p' = p - rate * dL/dp; baselines.md sections 2 and 4.
    """
    current, first = dict(parameters), None
    for _ in range(steps):
        moving = {name: current[name] for name in rates}
        still = {name: value for name, value in current.items() if name not in rates}

        def of_moving(chosen: Parameters, rest: Parameters = still) -> tuple[Tensor, Metrics]:
            return loss({**rest, **chosen})

        gradients, metrics = grad(of_moving, has_aux=True)(moving)
        first = first or metrics
        for name, gradient in gradients.items():
            slope = gradient if second_order else gradient.detach()
            current[name] = moving[name] - rates[name] * slope
    return current, first or {}


def meta_gradient(
    task_loss: TaskLoss, meta: Any, tasks: Any, over_tasks: Literal["vmap", "loop"] = "vmap"
) -> tuple[Any, Tensor, Metrics]:
    """Differentiate the mean task loss.

    Args:
        task_loss: Of the meta-parameters and one task's batches; returns the loss and metrics.
        meta: Nested containers of tensors.
        tasks: Nested containers of tensors whose first axis is the task.
        over_tasks: All tasks in one vectorised call, or one after another in the memory of one.

    Returns:
        The gradient, shaped like ``meta``; the mean loss; metrics as means over tasks.
    """
    if over_tasks == "vmap":

        def mean_loss(shared: Any) -> tuple[Tensor, Metrics]:
            losses, metrics = vmap(lambda task: task_loss(shared, task))(tasks)
            return losses.mean(), {name: values.mean(0) for name, values in metrics.items()}

        gradient, (loss, metrics) = grad_and_value(mean_loss, has_aux=True)(meta)
        return gradient, loss, metrics
    number = len(pytree.tree_leaves(tasks)[0])
    results = []
    for index in range(number):
        task = pytree.tree_map(lambda values, at=index: values[at], tasks)
        gradient, (loss, metrics) = grad_and_value(
            lambda shared, one=task: task_loss(shared, one), has_aux=True
        )(meta)
        results.append((gradient, loss, metrics))
    mean: tuple[Any, Tensor, Metrics] = pytree.tree_map(
        lambda *values: torch.stack(values).mean(0), *results
    )
    return mean
