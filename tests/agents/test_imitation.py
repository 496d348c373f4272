import pytest
import torch

from agents.imitation import clone, demonstrate
from agents.networks import make_policy
from agents.rollout import EpisodeLog, Progress
from core.errors import InputError
from tests.agents.toy import Recall


class Session:
    """A learner, its teacher and all that a resume needs."""

    def __init__(self, memory: int = 16, seed: int = 0) -> None:
        self.env = Recall(32, seed=seed)
        self.policy = make_policy(
            "recurrent", self.env.observation_spec, num_actions=2, width=32, memory=memory, seed=seed
        )
        self.optimizer = torch.optim.Adam(self.policy.parameters(), lr=1e-2)
        self.generator = torch.Generator().manual_seed(seed)
        self.progress, self.log = Progress.begin(self.env, self.policy), EpisodeLog(32)

    def teacher(self) -> torch.Tensor:
        return (self.env.cue > 0).long()

    def update(self, beta: float = 1.0, value_coef: float = 0.0) -> dict:
        return clone(
            self.policy,
            self.env,
            self.teacher,
            optimizer=self.optimizer,
            progress=self.progress,
            steps=6,
            generator=self.generator,
            log=self.log,
            beta=beta,
            value_coef=value_coef,
            gamma=0.5,
            lam=1.0,
        )


@pytest.mark.parametrize("beta", [1.0, 0.0])
def test_a_recurrent_learner_copies_a_teacher_that_remembers(beta):
    session = Session()
    agreement = [session.update(beta)["agreement"] for _ in range(25)]
    assert agreement[-1] > 0.97 > agreement[0]


def test_without_memory_only_the_steps_that_show_the_cue_can_be_copied():
    session = Session(memory=0)
    agreement = [session.update()["agreement"] for _ in range(25)][-1]
    assert 0.55 < agreement < 0.8  # one step of three is known, the others are a coin's


@pytest.mark.parametrize(("beta", "share"), [(1.0, 1.0), (0.0, 0.5), (0.5, 0.75)])
def test_beta_says_how_often_the_teacher_acts(beta, share):
    session = Session()
    taken, labels = [], []
    step = session.env.step

    def watched(action):
        labels.append(session.teacher())
        taken.append(action)
        return step(action)

    session.env.step = watched  # type: ignore[method-assign]
    shown = demonstrate(
        session.env, session.policy, session.teacher, session.progress, 60, session.generator, session.log, beta=beta
    )
    assert torch.equal(shown.label, torch.stack(labels))  # the label is the teacher's, whoever acted
    assert (torch.stack(taken) == shown.label).float().mean().item() == pytest.approx(share, abs=0.04)


def test_a_resumed_clone_makes_the_same_weights():
    whole, first, second = Session(), Session(), Session(seed=1)
    for _ in range(4):
        whole.update(0.5)
    for _ in range(2):
        first.update(0.5)
    second.policy.load_state_dict(first.policy.state_dict())
    second.optimizer.load_state_dict(first.optimizer.state_dict())
    second.generator.set_state(first.generator.get_state())
    second.progress = Progress(**first.progress.state_dict())
    second.env = first.env
    for _ in range(2):
        second.update(0.5)
    one, two = whole.policy.state_dict(), second.policy.state_dict()
    assert all(torch.equal(one[name], two[name]) for name in one)


def test_a_teacher_that_names_an_unknown_action_is_refused():
    session = Session()
    session.teacher = lambda: torch.full((32,), 2)  # type: ignore[method-assign]
    with pytest.raises(InputError, match="numbers below 2"):
        session.update()
    with pytest.raises(InputError, match="beta=2"):
        session.update(beta=2)


@pytest.mark.parametrize("truncates", [False, True])
def test_the_critic_of_a_clone_knows_what_its_teacher_earns(truncates):
    session = Session()
    session.env = Recall(32, truncates=truncates)
    session.progress = Progress.begin(session.env, session.policy)
    untrained = session.policy.value_head.weight.clone()
    session.update()
    assert torch.equal(session.policy.value_head.weight, untrained)
    rows = [session.update(value_coef=1.0) for _ in range(60)]
    assert rows[-1]["agreement"] > 0.97 and rows[-1]["value_loss"] < 0.1 * rows[0]["value_loss"]
    shown = demonstrate(
        session.env, session.policy, session.teacher, session.progress, 6, session.generator, session.log, values=True
    )
    # the teacher earns 1 in the third step of each episode; where episodes end as truncated, it goes on for ever
    wanted = torch.tensor([0.25, 0.5, 1.0]).repeat(2)
    if not truncates:
        torch.testing.assert_close(shown.value.mean(1), wanted, atol=0.1, rtol=0)
        return
    assert (shown.value.mean(1) > wanted).all()
