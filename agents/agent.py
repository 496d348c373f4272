"""A trained policy ready to act: its senses and its network behind one call."""

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from agents.features import FrameStatistics, TwoTowerSenses
from agents.networks import Policy
from agents.object_features import ObjectSenses
from agents.object_memory import SceneScores
from agents.pixels import PixelSenses
from agents.senses import Note, Senses
from agents.sentence_reward import score_every_goal, sentence_reward
from agents.subgoals.home_subgoals import HomeSubgoals
from agents.tuned import TunedPolicy
from core.errors import InputError, check_choice
from core.files import folder_fingerprint, read_json
from core.precision import uses_bfloat16
from envs import counter_random
from envs.goals import Goal
from envs.observation import task_name
from envs.simulator import Simulator
from envs.state import Sensors, SimState
from scene.grounder import Grounder
from scene.render import Frame
from vl.embedder import Embedder
from vl.model import VLModel
from vl.rewards import VLMReward

STATISTICS = "frame_statistics.safetensors"
FEATURES: dict[str, dict[str, Any]] = {
    "vl": {"kind": "recurrent"},
    "grounder": {"kind": "recurrent_objects"},
    "pixels": {"kind": "recurrent", "film": True, "text_width": 32},
}
"""Kinds of features, and the policy that reads them (agents/networks.py make_policy)."""
DESCRIBED = (
    "features", "task", "sensors", "max_steps", "precision", "actions", "vl", "grounder", "vocabulary", "tune",
)  # fmt: skip

__all__ = ["FEATURES", "Agent", "goal_reward", "make_senses", "read_description", "save_agent", "score_every_goal"]


def goal_reward(embedder: Embedder, goals: Sequence[Goal], alpha: float) -> VLMReward:
    """The reward model of a task's goals, read off their sentences."""
    return sentence_reward(embedder, [goal.text for goal in goals], alpha)


def make_senses(
    features: str,
    sensors: Sensors,
    max_steps: int,
    *,
    precision: str = "auto",
    model: VLModel | None = None,
    statistics: FrameStatistics | None = None,
    scores: SceneScores | None = None,
    vocabulary: Sequence[str] = (),
    tune: bool = False,
) -> Senses:
    """Senses by name, one of FEATURES.

    Raises:
        InputError: an unknown name, or what they need is missing.
    """
    check_choice("features", features, FEATURES)
    if features == "pixels":
        return PixelSenses(vocabulary, sensors, max_steps)
    if features == "grounder":
        if scores is None:
            raise InputError("features=grounder needs grounder=FOLDER, the model/ of a pretrain-grounding run")
        return ObjectSenses(scores, sensors, max_steps)
    if model is None or statistics is None:
        raise InputError("features=vl needs vl=FOLDER, the model/ of a pretrain-vl run")
    half = uses_bfloat16(precision, model.device.type)
    return TwoTowerSenses(model, statistics, sensors, max_steps, half=half, tune=tune)


class Agent:
    """A policy and its senses; a `PolicyFn` for envs.episodes.run_episodes.

    Actions are drawn by the policy's probabilities with numbers that depend on the seed, the episode and the step
    only, so an episode goes the same way whatever batch it runs in (up to the last bits of the network's sums).

    Args:
        senses: attached to the simulator whose episodes it is to act in.
        seed: of the draws.
        greedy: take the most probable action instead of drawing.

    Raises:
        InputError: the policy reads something else than these senses give.
    """

    def __init__(self, senses: Senses, policy: Policy, *, seed: int = 0, greedy: bool = False) -> None:
        spec = senses.spec
        for name, wanted in policy.config.observations.items():
            if name not in spec or spec[name].shape != wanted.shape:
                given = f"shape {spec[name].shape}" if name in spec else "nothing of that name"
                raise InputError(
                    f"the policy reads {name!r} of shape {wanted.shape}, its senses give {given}; use the models, the "
                    "camera and a task with the actions that the policy was trained with"
                )
        self.senses, self.policy, self.seed, self.greedy = senses, policy, seed, greedy
        self.note: Note = {}
        self.memory = policy.initial_memory(0)

    @property
    def sensors(self) -> Sensors:
        """The camera it looks through."""
        return self.senses.sensors

    @classmethod
    def from_pretrained(
        cls,
        folder: str | Path,
        simulator: Simulator,
        *,
        vl: str | Path | None = None,
        grounder: str | Path | None = None,
        seed: int = 0,
        greedy: bool = False,
    ) -> "Agent":
        """What `save_agent` wrote, for any simulator with the actions the agent was trained with.

        The caller gives the simulator the agent's camera afterwards: `simulator.sensors = agent.sensors`.

        Args:
            vl: folder of the two-tower model it was trained with; None = where that model was at training time.
            grounder: the same of the grounding model.

        Raises:
            MissingFileError, InputError: files are missing or damaged, another model, or other actions.
        """
        document = read_description(folder)
        trained, here = document["task"], task_name(simulator.task)
        other = f" (it was trained for the task {trained}, this is {here or 'another'})" if trained != here else ""
        actions = describe_actions(simulator)
        if document["actions"] != actions:
            raise InputError(
                f"{folder} was trained to act by {document['actions']}, this simulator offers {actions}{other}; "
                "use a task and a control with the same actions"
            )
        features, statistics, model, objects = document["features"], None, None, None
        if features == "vl":
            path = _same_model(folder, "vl", vl, document["vl"])
            model = VLModel.from_pretrained(path)
            statistics = FrameStatistics.load(Path(folder) / STATISTICS, model.dim)
        if document["tune"]:
            assert model is not None, "only the tower of features=vl is tuned"
            policy: Policy = TunedPolicy.load(folder, model)
        else:
            policy, _ = Policy.from_pretrained(folder)
        if features == "grounder":
            path = _same_model(folder, "grounder", grounder, document["grounder"])
            objects = SceneScores(Grounder.from_pretrained(path))
        senses = make_senses(
            features,
            Sensors(**document["sensors"]),
            document["max_steps"],
            precision=document["precision"],
            model=model,
            statistics=statistics,
            scores=objects,
            vocabulary=document["vocabulary"],
            tune=document["tune"],
        )
        if document.get("subgoals"):
            senses = HomeSubgoals.from_description(senses, document["subgoals"])
        try:
            senses.attach(simulator)
            return cls(senses, policy, seed=seed, greedy=greedy)
        except InputError as error:
            if not other:
                raise
            raise InputError(f"{folder} does not fit{other}: {error}") from error

    @torch.no_grad()
    def __call__(self, state: SimState, frame: Frame | None) -> Tensor:
        """An action for each environment; rows whose step is 0 begin an episode and forget the one before."""
        if frame is None:
            raise InputError("this policy looks at pictures; give the simulator sensors")
        rows, start = state.env, state.step == 0
        self._grow(int(rows.max()) + 1, state)
        note = {name: column[rows] for name, column in self.note.items()}
        if start.any():
            first = start.nonzero()[:, 0]
            for name, column in self.senses.begin(state.rows(first)).items():
                note[name][first] = column
        memory = self.memory[rows].masked_fill(start[:, None], 0.0)
        sight = self.senses.observe(frame, state, note)
        outputs, _, memory = self.policy(self.policy.normalise(sight.observation), memory)
        action = self._act(outputs, state)
        for name, column in {**sight.note, "action": action}.items():
            self.note[name][rows] = column
        self.memory[rows] = memory
        return action

    def _grow(self, count: int, state: SimState) -> None:
        """Room for the environments 0..count-1; new rows are filled where their episodes begin."""
        missing = count - len(self.memory)
        if missing <= 0:
            return
        like = self.senses.begin(state.rows(torch.zeros(1, dtype=torch.int64)))
        for name, column in like.items():
            old = self.note.get(name, column[:0])
            self.note[name] = torch.cat([old, column.new_zeros(missing, *column.shape[1:])])
        self.memory = torch.cat([self.memory, self.policy.initial_memory(missing)])

    def _act(self, outputs: Tensor, state: SimState) -> Tensor:
        actions = self.policy.distribution(outputs)
        if self.greedy:
            action = actions.mode()
        else:
            key = counter_random.episode_key(self.seed, state.key.cpu().numpy(), 1)
            step = state.step.cpu().numpy()
            if self.policy.config.action_size:
                draws = [counter_random.normal(key, step, draw) for draw in range(self.policy.config.action_size)]
                noise = torch.stack([torch.from_numpy(draw) for draw in draws], 1).float()
            else:
                noise = torch.from_numpy(counter_random.uniform(key, step, 0)).float()
            action = actions.sample(noise.to(outputs.device))
        return action.clamp(-1, 1) if self.policy.config.action_size else action


def read_description(folder: str | Path) -> dict[str, Any]:
    """What `save_agent` wrote beside a policy's weights: "task", "max_steps", "features", "actions" and so on.

    Raises:
        MissingFileError, InputError: it is not there, damaged, or of an older version.
    """
    document = read_json(Path(folder) / "policy.json", "policy description")
    for key in DESCRIBED:
        if key not in document:
            raise InputError(f"{folder}/policy.json lacks {key!r}; train the policy again")
    return document


def describe_actions(simulator: Simulator) -> list[str]:
    """The names of its discrete actions, or what its continuous ones are."""
    if simulator.control == "continuous":
        return ["speed", "turn", "tilt"][: simulator.action_size]
    return list(simulator.action_names)


def _same_model(folder: str | Path, name: str, given: str | Path | None, saved: dict[str, str]) -> Path:
    path = Path(given or saved["path"]).expanduser()
    if not path.is_dir():
        raise InputError(f"{name}={path} is not a folder; give {name}= the model that {folder} was trained with")
    if folder_fingerprint(path) != saved["fingerprint"]:
        raise InputError(
            f"{path} is not the model that {folder} was trained with (contents differ); give {name}= that one"
        )
    return path


def save_agent(
    folder: str | Path,
    policy: Policy,
    senses: Senses,
    *,
    features: str,
    task: str,
    simulator: Simulator,
    reward: str,
    max_steps: int,
    precision: str,
    vl: str | Path = "",
    grounder: str | Path = "",
) -> None:
    """Write all that `Agent.from_pretrained` needs but the models it sees with, which are named by fingerprint."""
    subgoals: dict[str, Any] = {}
    if isinstance(senses, HomeSubgoals):
        subgoals = senses.description if "subgoal" in policy.config.observations else {}
        senses = senses.inner
    if isinstance(senses, TwoTowerSenses):
        senses.statistics.save(Path(folder) / STATISTICS)
    needed = {"vl": vl if features == "vl" else "", "grounder": grounder if features == "grounder" else ""}
    policy.save_pretrained(
        folder,
        features=features,
        task=task,
        actions=describe_actions(simulator),
        reward=reward,
        sensors=asdict(senses.sensors),
        max_steps=max_steps,
        precision=precision,
        vocabulary=senses.vocabulary if isinstance(senses, PixelSenses) else [],
        tune=isinstance(policy, TunedPolicy),
        subgoals=subgoals,
        **{
            name: {"path": str(path), "fingerprint": folder_fingerprint(path)} if path else {}
            for name, path in needed.items()
        },
    )
