"""A tiny world with subgoals for tests of learning: fetch the key at the left end, then go to the door at the right.

`python -m tests.agents.subgoals.key_corridor OUT` trains on it, alone or as one process of several.
"""

import sys

import torch

from agents.encoders import ObservationSpec
from agents.networks import make_policy
from agents.rollout import EnvStep, EpisodeLog, Progress
from agents.subgoals.learner import Replay, SubgoalLearner
from agents.subgoals.objective import OBJECTIVES
from agents.subgoals.reference import ReferencePolicy
from agents.subgoals.update import PassSettings
from core import distributed

LENGTH, LIMIT = 5, 14
# objectives, memories and weights of replay; of binary worth, ties turn on last bits
SEVERAL = (("vsc", 6, 0.5), ("vsc-imitation", 0, 0.0))
SETTINGS = PassSettings(
    gamma=0.95,
    lam=0.9,
    epochs=2,
    minibatches=2,
    clip=0.2,
    entropy_coef=0.01,
    value_coef=0.5,
    max_grad_norm=0.5,
    max_kl=1,
)


class KeyCorridor:
    """Agents start in the middle; action 0 goes left, 1 right. Nothing shows whether the key is held but the subgoal.

    Environment e starts its episodes in cells that only its number and the episode's decide.
    """

    num_actions, action_size = 2, 0
    observation_spec = {  # noqa: RUF012
        "vector": ObservationSpec((LENGTH,)),  # where
        "subgoal": ObservationSpec((3,)),  # key, door, share done
    }

    def __init__(self, num_envs, first=0, limit=LIMIT):
        self.num_envs, self.limit = num_envs, limit
        self.number = torch.arange(first, first + num_envs)
        self.episode = torch.zeros(num_envs, dtype=torch.int64)

    def _begin(self, mask):
        start = 1 + (self.number + self.episode) % (LENGTH - 2)
        self.place = torch.where(mask, start, self.place)
        self.age = torch.where(mask, 0, self.age)
        self.key = self.key & ~mask

    def _observe(self, reached):
        key = self.key
        words = torch.stack([~key, key, key], 1).float() * torch.tensor([1.0, 1.0, 0.5])
        where = torch.nn.functional.one_hot(self.place, LENGTH).float()
        return {"vector": where, "subgoal": words, "reached": reached}

    def reset(self):
        self.episode[:] = 0
        self.place, self.age = torch.zeros_like(self.number), torch.zeros_like(self.number)
        self.key = torch.zeros(self.num_envs, dtype=torch.bool)
        every = torch.ones(self.num_envs, dtype=torch.bool)
        self._begin(every)
        return self._observe(~every)

    def step(self, action):
        self.place = (self.place + 2 * action - 1).clamp(0, LENGTH - 1)
        self.age = self.age + 1
        reached = (self.place == 0) & ~self.key
        self.key = self.key | reached
        won = self.key & (self.place == LENGTH - 1)
        late = (self.age >= self.limit) & ~won
        final = self._observe(reached)
        self.episode += won | late
        self._begin(won | late)
        return EnvStep(self._observe(reached), final, won.float(), won, late, {"success": won.float()})

    def teacher(self):
        """The right action everywhere."""
        return self.key.long()

    def state_dict(self):
        return {name: getattr(self, name).clone() for name in ("episode", "place", "age", "key")}

    def load_state_dict(self, saved):
        for name, column in saved.items():
            setattr(self, name, column.clone())


class Trainer:
    """All parts of a run on the corridor, as a job holds them."""

    def __init__(self, name, batch=8, first=0, memory=0, lr=1e-2, seed=0, settings=SETTINGS, replay=Replay()):  # noqa: B008
        self.env, self.objective = KeyCorridor(batch, first), OBJECTIVES[name]
        spec = dict(self.env.observation_spec)
        goal_only = {"vector": spec["vector"]}
        kinds = {"num_actions": 2, "width": 16, "memory": memory, "seed": seed}
        self.policy = make_policy("recurrent", spec if self.objective.reads_subgoal else goal_only, **kinds)
        follower = make_policy("recurrent", goal_only, **{**kinds, "seed": seed + 1})
        reference = ReferencePolicy(follower, batch, 0.1) if self.objective.divergence != "none" else None
        self.learner = SubgoalLearner(
            self.env, self.policy, self.objective, reference, teacher=self.env.teacher, cloned=1,
            clones_reference=True, settings=settings, lr=lr, seed=seed, replay=replay,
        )  # fmt: skip
        self.optimizer = torch.optim.Adam(self.policy.parameters(), lr=lr, eps=1e-5)
        self.generator = torch.Generator().manual_seed(seed)
        self.progress = Progress.begin(self.learner.env, self.policy)
        self.log = EpisodeLog(batch)

    def clone(self, steps=10):
        """An update in which the teacher acts."""
        return self._update(0, steps)

    def learn(self, steps=10, index=1):
        """An update in which the policy acts."""
        return self._update(index, steps)

    def _update(self, index, steps):
        return self.learner.update(
            index, self.policy, self.optimizer, self.progress, steps, self.generator, self.log
        )  # fmt: skip

    def state_dict(self):
        parts = ("env", "policy", "learner", "optimizer", "progress", "log")
        saved = {name: getattr(self, name).state_dict() for name in parts}
        return {**saved, "generator": self.generator.get_state()}

    def load_state_dict(self, saved):
        self.generator.set_state(saved["generator"])
        self.progress = Progress(**saved["progress"])
        for name in ("env", "policy", "learner", "optimizer", "log"):
            getattr(self, name).load_state_dict(saved[name])


def two_phases(name, memory, weight):
    """Weights of policy and reference and what was reported, after two updates of cloning and two of learning."""
    own = distributed.share(8)
    run = Trainer(name, len(own), own.start, memory, replay=Replay(weight, 1000, 4))
    stats = [run.clone(), run.clone(), run.learn(), run.learn()]
    reference = run.learner.reference
    found = {f"stats.{k}.{key}": torch.tensor(value) for k, row in enumerate(stats) for key, value in row.items()}
    found |= {f"reference.{key}": x for key, x in (reference.policy.state_dict() if reference else {}).items()}
    return {**found, **run.policy.state_dict()}


if __name__ == "__main__":
    torch.set_num_threads(1)
    with distributed.processes():
        for name, *rest in SEVERAL:
            torch.save(two_phases(name, *rest), f"{sys.argv[1]}/{name}-{distributed.rank()}.pt")
    distributed.leave()
