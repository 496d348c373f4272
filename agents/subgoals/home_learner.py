"""The learner of `train-agent algorithm=vsc`, from the job's configuration."""

from collections.abc import Callable

from agents.networks import Policy
from agents.subgoals.learner import SubgoalLearner
from agents.subgoals.reference import Onlooker
from agents.subgoals.update import PassSettings
from agents.subgoals.vsc_config import DEMONSTRATIONS, reference_of
from agents.task_env import TaskEnv
from agents.train_config import TrainAgentConfig
from core import distributed
from envs.expert import Expert


def make_learner(
    cfg: TrainAgentConfig, env: TaskEnv, policy: Policy, goal_only: Callable[[], Policy]
) -> SubgoalLearner:
    """A learner in homes whose teacher is the shortest-path oracle.

    Args:
        goal_only: makes a fresh policy that reads no subgoal, on the policy's device, to be cloned as the reference.

    Raises:
        InputError: a reference that does not fit the policy.
    """

    def asked() -> Onlooker:
        from agents.subgoals.language_reference import LanguageReference  # needs transformers

        thoughts = cfg.vsc.reference_thoughts
        return LanguageReference.from_pretrained(
            cfg.vsc.reference, env, cfg.vsc.spread, thoughts=thoughts, seed=cfg.seed
        )

    shown, size = policy.config.observations, (env.num_actions, env.num_envs)
    reference = reference_of(cfg.vsc, shown, *size, goal_only, asked, policy.device)
    return SubgoalLearner(
        env,
        policy,
        cfg.vsc.chosen,
        reference,
        teacher=lambda: Expert(env.simulator)(env.state),
        cloned=cfg.cloned_updates,
        clones_reference=cfg.vsc.reference == DEMONSTRATIONS,
        settings=PassSettings.of(cfg),
        lr=cfg.lr,
        seed=cfg.seed,
        replay=cfg.vsc.replay_of(cfg.updates - cfg.cloned_updates, distributed.world_size()),
    )
