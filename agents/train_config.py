"""What train-agent can be told: sightline train-agent --help"""

import math
from dataclasses import dataclass, field

from agents.agent import FEATURES
from agents.subgoals.vsc_config import VscConfig
from core.errors import InputError, check_choice
from core.job import JobConfig
from envs.controls import CONTROLS
from envs.observation import noise_of, task_max_steps
from envs.tasks import TASKS

ALGORITHMS = ("ppo", "bc", "vsc")
REWARDS = ("task", "vlm", "grounded", "mixture")
MODELS = ("vlm", "grounded")


@dataclass
class TrainAgentConfig(JobConfig):
    """An agent in homes: sightline train-agent scenes=SCENES vl=MODEL features=vl|grounder|pixels algorithm=ppo|vsc"""

    CUDA = True

    scenes: str = ""  # folder of homes made by build-scenes, or procedural = generated on the fly
    vl: str = ""  # folder of a trained two-tower model (model/ of pretrain-vl): for features=vl and reward=vlm
    reward_vl: str = ""  # towers of reward=vlm if others than vl: such a folder, or a CLIP / SigLIP folder or hub id
    grounder: str = ""  # folder of a trained grounding model: for features=grounder and reward=grounded
    task: str = "find_object"  # what to do in the homes
    features: str = "vl"  # what the policy sees through: vl, grounder, or pixels = from scratch
    algorithm: str = "ppo"  # ppo; bc = behaviour cloning of the shortest-path oracle; vsc = subgoals, see vsc.*
    vsc: VscConfig = field(default_factory=VscConfig)  # algorithm=vsc: subgoals, objective, reference
    tune: bool = False  # features=vl: the image tower learns on with the policy instead of staying frozen
    tune_share: float = 0.1  # its learning rate, as a share of the policy's
    warm_start: str = ""  # policy/ folder of an earlier run to begin with, e.g. one of algorithm=bc
    reward: str = "task"  # task = the task's own; vlm, grounded = a model's score, nothing else; mixture = both
    mixture_of: str = "vlm"  # reward=mixture: the model, vlm or grounded
    task_weight: float = 1.0  # reward=mixture: of the task's reward
    model_weight: float = 1.0  # reward=mixture: of the model's
    homes: int = 0  # train homes used, 0 = all; of procedural ones how many there are, 0 = 10,000 with stream=
    stream: int = 0  # train homes in memory at a time, 0 = all
    stream_every: int = 50_000  # environment steps, summed over environments, after which some of them change
    stream_replace: int = 0  # homes that change, 0 = an eighth
    stream_workers: int = 1  # processes that prepare the coming homes, 0 = none: training waits for them
    max_steps: int = 0  # actions after which an episode is cut off, 0 = the task's own limit
    control: str = "discrete"  # discrete actions, or continuous speeds
    tilt: bool = False  # the agent can look up and down
    noise: float = 0.0  # how far actions and depth stray: 0 = not at all, 1 = as on a real robot
    shut_doors: float = 0.0  # chance of each inner door to be shut at first; the agent can open them
    image_size: int = 64  # pixels of a side of its picture
    precision: str = "auto"  # of the image networks: float32, bfloat16, or auto = bfloat16 where native

    total_steps: int = 200_000  # environment steps, summed over environments
    num_envs: int = 64  # environments stepped together, summed over processes
    rollout: int = 32  # steps of each environment per update
    epochs: int = 4  # passes over each rollout
    minibatches: int = 4  # parts of each pass
    lr: float = 1e-3  # learning rate at the start, falling linearly to a tenth
    gamma: float = 0.99  # discount per step
    lam: float = 0.95  # GAE's lambda
    clip: float = 0.2  # PPO's limit on the change of an action's probability ratio
    entropy_coef: float = 0.02  # worth of a nat of entropy, to keep exploring
    value_coef: float = 0.5  # weight of the value loss
    scale_rewards: bool = False  # ppo: divide rewards by the running deviation of returns
    max_grad_norm: float = 0.5  # gradients are cut to this norm
    max_kl: float = 0.05  # mean KL to the old policy after which an update stops early
    beta: float = 1.0  # cloning: share of steps the oracle takes; below 1 the learner meets its own mistakes (DAgger)
    clone_value_coef: float = 0.0  # cloning: weight of fitting the value to what the steps returned, 0 = not fitted
    width: int = 128  # units of each hidden layer
    memory: int = 96  # units of the GRU, or width of the transformer
    window: int = 0  # steps that a transformer looks back on, in the GRU's place; 0 = the GRU
    initial_stop_logit: float = -3.0  # of stopping, before training; the other actions start at 0

    alpha: float = 0.25  # VLM reward: strength of the goal-baseline projection, 0..1
    calibration_frames: int = 2048  # unlabelled frames of train homes that set the scale of scores
    quantile: float = 0.97  # stopping pays half where a frame scores like this quantile of those frames
    temperature: float = 0.3  # softness of that threshold, in standard deviations of the score
    shaping_scale: float = 0.1  # worth of one standard deviation of progress in the score
    stop_weight: float = 3.0  # worth of stopping in a frame far above the threshold
    stop_penalty: float = 0.25  # share of stop_weight lost by any stop
    step_cost: float = 0.01  # cost of each step under a model's reward

    val_episodes: int = 100  # episodes on val homes after training, 0 = none
    checkpoint_every: int = 20  # updates between checkpoints

    def __post_init__(self) -> None:
        super().__post_init__()
        check_choice("reward", self.reward, REWARDS)
        check_choice("mixture_of", self.mixture_of, MODELS)
        check_choice("task", self.task, tuple(TASKS))
        check_choice("features", self.features, tuple(FEATURES))
        check_choice("algorithm", self.algorithm, ALGORITHMS)
        check_choice("control", self.control, CONTROLS)
        check_choice("precision", self.precision, ("auto", "float32", "bfloat16"))
        if self.device != "cpu" and (self.features != "pixels" or self.reward != "task"):
            raise InputError(
                f"device={self.device} goes with features=pixels and reward=task so far, not with "
                f"features={self.features} and reward={self.reward}; use device=cpu"
            )
        self.max_steps = self.max_steps or task_max_steps(self.task)
        noise_of(self.noise)
        for name in ("max_steps", "total_steps", "num_envs", "rollout", "epochs", "minibatches", "width", "image_size"):
            if getattr(self, name) < 1:
                raise InputError(f"{name}={getattr(self, name)} should be positive")
        if self.stream_every < 1 or not 0 <= self.stream_replace <= self.stream:
            raise InputError(
                f"stream_every={self.stream_every} starts at 1, stream_replace={self.stream_replace} lies in "
                f"0..{self.stream} (stream)"
            )
        for name in (
            "homes", "stream", "stream_workers", "memory", "window", "val_episodes", "value_coef", "clone_value_coef",
            "task_weight", "model_weight",
        ):  # fmt: skip
            if getattr(self, name) < 0:
                raise InputError(f"{name}={getattr(self, name)} should not be negative")
        for name in ("lr", "clip", "max_grad_norm", "max_kl", "temperature"):
            if not getattr(self, name) > 0:
                raise InputError(f"{name}={getattr(self, name)} should be positive")
        for name in ("gamma", "lam", "alpha", "beta", "tune_share"):
            if not 0 <= getattr(self, name) <= 1:
                raise InputError(f"{name}={getattr(self, name)} should be between 0 and 1")
        if not 0 < self.quantile < 1:
            raise InputError(f"quantile={self.quantile} should be between 0 and 1, e.g. 0.99")
        if self.calibration_frames < 2 or self.checkpoint_every < 1:
            raise InputError(
                f"calibration_frames={self.calibration_frames} should be at least 2 and "
                f"checkpoint_every={self.checkpoint_every} positive"
            )
        if self.minibatches > self.num_envs:
            raise InputError(
                f"minibatches={self.minibatches} is more than num_envs={self.num_envs}: some would be empty"
            )
        if self.tune and (self.features != "vl" or self.warm_start or self.reward != "task"):
            raise InputError(
                "tune=true is for features=vl with reward=task (a tower that learns would change what the VLM reward "
                "pays for), and starts from vl= alone: leave out warm_start"
            )
        if self.algorithm == "bc" and (self.reward != "task" or self.scale_rewards):
            raise InputError(
                f"algorithm=bc learns from the oracle and from no reward; leave out reward={self.reward} and "
                "scale_rewards"
            )
        if self.algorithm == "vsc":
            self.vsc.check()
        if self.algorithm == "vsc" and (self.scale_rewards or self.tune or self.control != "discrete"):
            raise InputError(
                "algorithm=vsc measures divergence in unscaled reward, of discrete actions; leave out scale_rewards, "
                "tune and control=continuous"
            )
        if self.reward_vl and self.reward_model != "vlm":
            raise InputError(f"reward_vl={self.reward_vl} pays nothing under this reward; use reward=vlm")

    @property
    def updates(self) -> int:
        """Rollouts to collect."""
        return math.ceil(self.total_steps / (self.num_envs * self.rollout))

    @property
    def cloned_updates(self) -> int:
        """Of algorithm=vsc, the first updates, in which the oracle acts."""
        return min(self.updates, math.ceil(self.vsc.demonstration_steps / (self.num_envs * self.rollout)))

    @property
    def reads_subgoal(self) -> bool:
        """Whether the policy is told which subgoal is under way."""
        return self.algorithm == "vsc" and self.vsc.chosen.reads_subgoal

    @property
    def reward_model(self) -> str:
        """Which model pays: one of MODELS, or none."""
        return {"task": "", "mixture": self.mixture_of}.get(self.reward, self.reward)

    @property
    def uses_vl(self) -> bool:
        """Whether the towers that `vl` names look at the frames."""
        return self.features == "vl" or (self.reward_model == "vlm" and not self.reward_vl)

    @property
    def uses_grounder(self) -> bool:
        """Whether a grounder scores the objects."""
        return self.features == "grounder" or self.reward_model == "grounded"
