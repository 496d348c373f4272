"""What a run of train-agent is made of, by its configuration: environment, reward and policy."""

from collections.abc import Sequence

import torch
from jaxtyping import UInt8
from torch import Tensor

from agents.agent import FEATURES, make_senses
from agents.features import FrameStatistics, TwoTowerSenses
from agents.grounded_reward import BeliefReward
from agents.networks import Policy, make_policy
from agents.object_features import ObjectSenses
from agents.object_memory import SceneScores
from agents.pixels import vocabulary_of
from agents.senses import Senses
from agents.sentence_reward import SentenceReward, unlabelled_frames
from agents.shaping import Calibration, FrameReward
from agents.subgoals.home_subgoals import HomeSubgoals
from agents.task_env import StepReward, TaskEnv
from agents.train_config import TrainAgentConfig
from agents.tuned import TunedPolicy
from core.errors import InputError
from core.precision import uses_bfloat16
from envs.home_stream import HomeStream
from envs.simulator import Simulator
from envs.state import STOP
from scene.grounder import Grounder
from vl.embedder import load_embedder
from vl.model import VLModel


def make_env(
    cfg: TrainAgentConfig, simulator: Simulator, stream: HomeStream | None = None, words: Sequence[str] = ()
) -> TaskEnv:
    """The simulator seen through the senses that the config names, paid by the reward it names.

    Args:
        stream: whose first pool the simulator has.
        words: of subgoals, where a run knows them already.
    """
    assert simulator.sensors is not None
    model, statistics, frames = None, None, None
    if cfg.features == "vl" or cfg.reward_model == "vlm":
        frames = unlabelled_frames(simulator, cfg.calibration_frames, seed=cfg.seed + 1)
    if cfg.features == "vl":
        assert frames is not None
        model = VLModel.from_pretrained(cfg.vl)
        statistics = FrameStatistics.fit(model.encode_image_map(frames))
    scores = SceneScores(Grounder.from_pretrained(cfg.grounder)) if cfg.uses_grounder else None
    senses = make_senses(
        cfg.features,
        simulator.sensors,
        cfg.max_steps,
        precision=cfg.precision,
        model=model,
        statistics=statistics,
        scores=scores,
        vocabulary=vocabulary_of(simulator.texts) if cfg.features == "pixels" else (),
        tune=cfg.tune,
    )
    paying = make_reward(cfg, senses, frames, scores)
    if cfg.algorithm == "vsc":
        senses = HomeSubgoals(senses, cfg.vsc.settings(cfg.seed), words)
    weights = {"task": (1.0, 0.0), "mixture": (cfg.task_weight, cfg.model_weight)}.get(cfg.reward, (0.0, 1.0))
    return TaskEnv(simulator, senses, paying, task_weight=weights[0], model_weight=weights[1], stream=stream)


def make_reward(
    cfg: TrainAgentConfig, senses: Senses, frames: UInt8[Tensor, "M H W 3"] | None, scores: SceneScores | None
) -> StepReward | None:
    """The model that pays, if one does.

    Args:
        senses: whose work it uses where it looks through the same model.
        frames: unlabelled ones, for reward=vlm.
        scores: of the grounder, for reward=grounded.
    """
    shaping = FrameReward(
        Calibration(*torch.zeros(3, 0)),  # each kind of reward puts in its own
        gamma=cfg.gamma,
        scale=cfg.shaping_scale,
        stop_weight=cfg.stop_weight,
        temperature=cfg.temperature,
        penalty=cfg.stop_penalty,
        step_cost=cfg.step_cost,
    )
    if cfg.reward_model == "grounded":
        assert scores is not None
        return BeliefReward(scores, shaping, shared=isinstance(senses, ObjectSenses))
    if cfg.reward_model == "vlm":
        assert frames is not None
        shared = isinstance(senses, TwoTowerSenses) and not cfg.reward_vl
        embedder = senses.model if isinstance(senses, TwoTowerSenses) and shared else None
        return SentenceReward(
            embedder or load_embedder(cfg.reward_vl or cfg.vl),
            frames,
            cfg.alpha,
            cfg.quantile,
            shaping,
            shared=shared,
            half=uses_bfloat16(cfg.precision, "cpu"),
        )
    return None


def make_agent_policy(cfg: TrainAgentConfig, env: TaskEnv, *, goal_only: bool = False) -> Policy:
    """A fresh policy for what the environment shows, or the one to begin with.

    Args:
        goal_only: a fresh one that is not told of subgoals, whatever the config says.

    Raises:
        InputError: that one is of another kind.
    """
    settings = dict(FEATURES[cfg.features])
    shown = dict(env.observation_spec)
    if goal_only or not cfg.reads_subgoal:
        shown.pop("subgoal", None)
    policy = make_policy(
        settings.pop("kind"),
        shown,
        num_actions=env.num_actions,
        action_size=env.action_size,
        seed=cfg.seed,
        width=cfg.width,
        memory=cfg.memory,
        window=cfg.window,
        precision=cfg.precision,
        **settings,
    )
    if cfg.tune:
        assert isinstance(env.senses, TwoTowerSenses), "tune is refused for other features"
        policy = TunedPolicy.of(policy.config, env.senses.model, cfg.seed)
    warm_start = "" if goal_only else cfg.warm_start
    if warm_start:
        earlier, _ = Policy.from_pretrained(warm_start)
        if earlier.config != policy.config:
            raise InputError(
                f"warm_start={cfg.warm_start} holds another kind of policy; train it with the same features, task, "
                "width and memory"
            )
        policy.load_state_dict(earlier.state_dict())
    if env.num_actions and not warm_start:
        # an untrained agent that stops at every fourth step would never see how episodes go on
        with torch.no_grad():
            policy.action_head.bias[STOP] = cfg.initial_stop_logit
    return policy
