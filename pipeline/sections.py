"""The sections of the configuration: one frozen dataclass per stage, and the top of a preset.

Defaults are the paper's common values; `pipeline.config` lays YAML over them and checks the result.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from pydantic import JsonValue

from smac_core.config import (
    ACTORS,
    AdaptationConfig,
    LearnerConfig,
    NetworkConfig,
    PearlConfig,
    SliceConfig,
    VisitConfig,
)


@dataclass(frozen=True)
class EnvConfig:
    """Which environment: the import string of its definition and the arguments of its class."""

    id: str = ""
    definition: str = ""
    params: dict[str, str | int | float | bool | None] = field(default_factory=dict)


@dataclass(frozen=True)
class TasksConfig:
    """The list of tasks, drawn once: training tasks first, then held-out ones."""

    seed: int = 1337  # of the authors' published lists
    num_train: int = 100
    num_test: int = 20
    num_validation: int = 0  # the last so many training tasks are also listed as validation
    held_out: Literal["test", "validation"] = "test"  # validation: for choosing hyperparameters
    used: int = 0  # training tasks, the first so many; 0: all. Which are held out stays as it is


@dataclass(frozen=True)
class CollectConfig:
    """How the offline data come about."""

    policy: Literal["untrained", "pearl", "task-conditioned", "scripted"] = "pearl"
    seed: int = 0
    initial_steps: int = 2000  # per training task, before the first iteration
    horizon: int | None = None  # steps of those episodes; None: the environment's
    iterations: int = 0
    tasks_per_iteration: int = 5
    updates_per_iteration: int = 16000
    final_visits: int = 0  # passes over all training tasks by the finished collector
    evaluate_every: int = 0  # iterations between points of the learning curve; 0: none
    visit: VisitConfig = field(default_factory=VisitConfig)
    networks: NetworkConfig = field(default_factory=NetworkConfig)
    learner: PearlConfig = field(default_factory=PearlConfig)


@dataclass(frozen=True)
class CloningConfig:
    """How a network that is told its task learns to do what the environment's script does."""

    episodes: int = 5  # of the script, a training task
    noise: float = 0.3  # added to its actions, so that the network sees how to come back
    updates: int = 3000
    rows: int = 512  # of an update
    learning_rate: float = 1e-3  # falls linearly to a twentieth


@dataclass(frozen=True)
class ExpertsConfig(CollectConfig):
    """How the expert learns that shows the training tasks to methods which need one."""

    policy: Literal["task-conditioned", "scripted"] = "task-conditioned"
    cloning: CloningConfig | None = None  # scripted: into a network; None: the script itself


@dataclass(frozen=True)
class DemonstrationsConfig:
    """What the expert shows of every training task."""

    seed: int = 0
    episodes: int = 20  # a training task
    sample: bool = False  # draw the expert's actions; else take their means


@dataclass(frozen=True)
class MetaTrainConfig:
    """The offline phase."""

    updates: int = 50000
    model_updates: int | None = None  # then encoder and decoder stop learning; None: they never do
    replay: SliceConfig = field(default_factory=SliceConfig)
    context: SliceConfig | None = None  # None: the same rows as replay
    networks: NetworkConfig = field(default_factory=NetworkConfig)
    learner: LearnerConfig = field(default_factory=LearnerConfig)


@dataclass(frozen=True)
class RolloutConfig:
    """One round of acting without rewards."""

    tasks_per_round: int = 5
    visit: VisitConfig = field(default_factory=VisitConfig)
    # Of the posterior episodes: the offline data, these and earlier rounds, or as in PEARL the
    # visit's own prior episodes with their true rewards.
    context: Literal["growing", "offline", "visit"] = "growing"
    exploration_tasks: Literal["train", "test"] = "train"  # test: the experiment of Figure 8
    record_rewards: bool = False  # the oracle only


@dataclass(frozen=True)
class RelabelConfig:
    """Where the rewards of a round come from."""

    rewards: Literal["decoder", "environment"] = "decoder"
    context_size: int = 256
    latent: Literal["sample", "mean"] = "sample"
    # Several seeds' encoders and decoders label together: by their mean, or the lowest of them.
    ensemble: Literal["none", "mean", "lowest"] = "none"
    # seen: labels are clipped to the rewards of the offline data, beyond which none is climbed
    reward_range: Literal["any", "seen"] = "any"


def _online_learner() -> LearnerConfig:
    return LearnerConfig(rows_per_task=256, policy_gradient_weight=1.0, train_model=False)


@dataclass(frozen=True)
class FinetuneConfig:
    """The updates that follow one round."""

    updates: int = 16000  # released code: 4 x 4000 an iteration
    # Which rollouts join the context: all; those under the prior; none; all, in contexts of their
    # own that no offline row is in; or all, and the offline rows leave.
    context_growth: Literal["all", "prior", "frozen", "separate", "online"] = "all"
    learner: LearnerConfig = field(default_factory=_online_learner)


@dataclass(frozen=True)
class EvaluateConfig:
    """The meta-test."""

    adaptation: AdaptationConfig = field(default_factory=AdaptationConfig)
    agent: str = "smac_core.smac_agent:load"  # builds the acting side; a method's `agent` sets it
    train_tasks: int = 30  # how many training tasks are measured too
    save_paths: bool = True
    # Also measured after so many exploration episodes, each number from scratch.
    exploration_curve: tuple[int, ...] = ()


@dataclass(frozen=True)
class ReportConfig:
    """Tables and figures."""

    bootstrap_samples: int = 2000
    confidence: float = 0.95
    video_frames: int = 67  # a scene, at most, of the video of each environment; 0: no videos


@dataclass(frozen=True)
class MethodConfig:
    """The head of a method file; its sections per stage stand beside these keys."""

    label: str = ""
    rounds: Literal["online", "none"] = "online"
    offline_of: str | None = None  # round 0 is that method's offline checkpoint
    stages: dict[str, str] = field(default_factory=dict)  # the preset's `stages` win
    sections: dict[str, str] = field(default_factory=dict)  # stage -> the dataclass of its section
    agent: str = ""  # package.module:function for `evaluate`; empty: SMAC's
    needs: tuple[str, ...] = ()  # of the offline data, checked before training: NEEDS


@dataclass(frozen=True)
class ArmConfig:
    """A method written in the preset: another method, or another arm, and what differs."""

    of: str
    label: str = ""
    question: str = ""  # what it asks, in one line; the study's page groups the arms by it
    offline_of: str | None = None  # round 0 is the offline checkpoint of that method or arm
    envs: tuple[str, ...] = ()  # where it runs; empty: in all environments of the preset
    settings: dict[str, dict[str, dict[str, JsonValue]]] = field(default_factory=dict)  # all, <env>


@dataclass(frozen=True)
class RunConfig:
    """The top of a preset."""

    envs: tuple[str, ...]
    methods: tuple[str, ...]
    seeds: tuple[int, ...] = (0,)
    seeds_per_job: int = 1  # of rollout, relabel and evaluate; in the order of `seeds`
    seeds_per_learner: int = 1  # of meta_train and finetune
    arms: dict[str, ArmConfig] = field(default_factory=dict)  # further methods, by name
    methods_in: dict[str, tuple[str, ...]] = field(default_factory=dict)  # <env>: only these there
    rounds: int | dict[str, int] = 1  # of the online phase; or by <env>, and by <env>/<method>
    envs_with: dict[str, str] = field(default_factory=dict)  # only where this module is installed
    evaluate_rounds: Literal["all"] | int = "all"  # every n-th; the first and last always
    stages: dict[str, str] = field(default_factory=dict)  # stage -> module that replaces it
    results: str = "results"
    gpu: bool = False  # the learners' jobs ask the scheduler for a GPU
    config_folders: tuple[str, ...] = ()  # of env/ and method/ files, before the shipped ones
    settings: dict[str, dict[str, dict[str, JsonValue]]] = field(default_factory=dict)


StageConfig = (
    TasksConfig
    | CollectConfig
    | DemonstrationsConfig
    | MetaTrainConfig
    | RolloutConfig
    | RelabelConfig
    | FinetuneConfig
    | EvaluateConfig
    | ReportConfig
)
STAGES: dict[str, type[StageConfig]] = {
    "tasks": TasksConfig,
    "collect": CollectConfig,
    "experts": ExpertsConfig,
    "demonstrations": DemonstrationsConfig,
    "meta_train": MetaTrainConfig,
    "rollout": RolloutConfig,
    "relabel": RelabelConfig,
    "finetune": FinetuneConfig,
    "evaluate": EvaluateConfig,
    "report": ReportConfig,
}
# Their outputs belong to an environment, not to a method.
ENV_STAGES = ("tasks", "collect", "experts", "demonstrations")

NEEDS = ("rewards", "order", "experts")  # what a method may declare that it needs
SOURCES = ("init", "prior", "posterior", "scripted", "expert")  # names in pipeline.store's order


def disagreement(section: object) -> str | None:
    """Finds values that are fine one by one but not together.

    Args:
        section: A dataclass of the configuration; others have nothing to disagree about.

    Returns:
        The fault as a clause, or None.
    """
    return (
        _disagreement_of_data(section)
        or _disagreement_of_learning(section)
        or _disagreement_of_protocol(section)
    )


def without_effect(section: object) -> str | None:
    """Finds values of a whole section that nothing would take up; a layer alone cannot tell.

    Args:
        section: A dataclass of the configuration.

    Returns:
        The fault as a clause, or None.
    """
    match section:
        case MetaTrainConfig(updates=updates, model_updates=int(stop)) if stop > updates:
            return f"model_updates {stop} of {updates} updates: encoder and decoder never stop"
    return None


def _disagreement_of_data(section: object) -> str | None:
    fault = None
    match section:
        case TasksConfig(num_train=train, num_validation=validation) if validation > train:
            fault = f"{validation} validation tasks of {train} training tasks"
        case TasksConfig(num_train=train, num_validation=n, held_out="validation") if n in {
            0,
            train,
        }:
            fault = f"held_out validation with {n} validation tasks of {train} training tasks"
        case TasksConfig(used=used) if used > _num_training(section):
            fault = f"{used} used of {_num_training(section)} training tasks"
        case CollectConfig(initial_steps=0) | CollectConfig(horizon=0):
            fault = "no initial steps: no data to begin with"
        case CollectConfig(policy="pearl" | "task-conditioned", visit=VisitConfig(prior_steps=0)):
            fault = "no prior steps: the visits of a collector that learns have no context"
        case MethodConfig(needs=needs) if not set(needs) <= set(NEEDS):
            fault = f"needs {', '.join(needs)}; known are {', '.join(NEEDS)}"
        case SliceConfig(take="first" | "last", rows=0):
            fault = f"take {section.take} of 0 rows"
        case SliceConfig(sources=sources) if not set(sources) <= set(SOURCES):
            fault = f"sources {', '.join(sources)}; known are {', '.join(SOURCES)}"
    return fault


def _disagreement_of_learning(section: object) -> str | None:
    fault = None
    match section:
        case ExpertsConfig(policy="task-conditioned", cloning=CloningConfig()):
            fault = "cloning of an expert that is no script: set policy: scripted, or drop cloning"
        case CloningConfig(updates=0) | CloningConfig(rows=0):
            fault = "no updates, or updates of no rows: the clone would learn nothing"
        case MetaTrainConfig(model_updates=0):
            fault = "model_updates 0: encoder and decoder would learn nothing"
    return fault


def _num_training(tasks: TasksConfig) -> int:
    held_out = tasks.num_validation if tasks.held_out == "validation" else 0
    return tasks.num_train - held_out


def _disagreement_of_protocol(section: object) -> str | None:
    fault = None
    match section:
        case VisitConfig(prior_steps=0, posterior_steps=0):
            fault = "a visit of no steps"
        case RolloutConfig(context="visit", record_rewards=False):
            fault = "context visit without record_rewards: such a context has true rewards"
        case RolloutConfig(context="visit", visit=VisitConfig(prior_steps=0)):
            fault = "context visit without prior steps: the context would be empty"
        case AdaptationConfig(episodes=n, exploration_episodes=exploration) if exploration >= n:
            fault = f"{exploration} exploration episodes of {n}: none is left to measure"
        case AdaptationConfig(exploration_episodes=0):
            fault = "no exploration episodes: nothing to adapt to"
        case AdaptationConfig(min_transitions=0):
            fault = "min_transitions 0: no episode is run by the count of transitions"
        case LearnerConfig(actor=actor) if actor not in ACTORS and ":" not in actor:
            fault = f"actor {actor}; known are {', '.join(ACTORS)}, or package.module:function"
    return fault
