"""The learner of `train-agent algorithm=vsc`, from the job's configuration."""

from collections.abc import Callable

from agents.networks import Policy
from agents.subgoals.learner import SubgoalLearner
from agents.subgoals.reference import ReferencePolicy
from agents.subgoals.update import PassSettings
from agents.subgoals.vsc_config import DEMONSTRATIONS
from agents.task_env import TaskEnv
from agents.train_config import TrainAgentConfig
from envs.expert import Expert


def make_learner(
    cfg: TrainAgentConfig, env: TaskEnv, policy: Policy, goal_only: Callable[[], Policy]
) -> SubgoalLearner:
    """A learner in homes whose teacher is the shortest-path oracle.

    Args:
        goal_only: makes a fresh policy that reads no subgoal, to be cloned as the reference.

    Raises:
        InputError: a reference that does not fit the policy.
    """
    objective, reference = cfg.vsc.chosen, None
    if objective.divergence != "none" and cfg.vsc.reference == DEMONSTRATIONS:
        reference = ReferencePolicy(goal_only(), env.num_envs, cfg.vsc.spread)
    elif objective.divergence != "none":
        reference = ReferencePolicy.from_pretrained(
            cfg.vsc.reference, policy.config.observations, env.num_actions, env.num_envs, cfg.vsc.spread
        )
    settings = PassSettings(
        gamma=cfg.gamma,
        lam=cfg.lam,
        epochs=cfg.epochs,
        minibatches=cfg.minibatches,
        clip=cfg.clip,
        entropy_coef=cfg.entropy_coef,
        value_coef=cfg.value_coef,
        max_grad_norm=cfg.max_grad_norm,
        max_kl=cfg.max_kl,
    )
    return SubgoalLearner(
        env,
        policy,
        objective,
        reference,
        teacher=lambda: Expert(env.simulator)(env.state),
        cloned=cfg.cloned_updates,
        clones_reference=cfg.vsc.reference == DEMONSTRATIONS,
        settings=settings,
        lr=cfg.lr,
        seed=cfg.seed,
    )
