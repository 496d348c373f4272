import math
from types import SimpleNamespace

import pytest
import torch

from agents.grounded_reward import BeliefReward, GroundedReward, GroundedWatcher, SeenObjects, belief_score
from agents.object_features import ObjectSenses
from agents.object_memory import SceneScores
from agents.sentence_reward import sentence_reward
from agents.shaping import Calibration, FrameReward
from core.errors import InputError
from envs.goals import Goal, Stage
from envs.pool import HomePool
from envs.simulator import Simulator
from envs.state import FORWARD, Sensors, SimState
from envs.tasks.find_referral import FindReferral
from tests.agents.tiny import make_towers
from tests.envs.homes import make_home
from vl.model import VLModel
from vl.rewards import StepBatch

BY_TABLE, BY_SOFA = "go to the armchair next to the table", "go to the armchair next to the sofa"
# two armchairs alike in the east and west ends of a room; a table stands behind who looks at the first, a sofa behind
# who looks at the other one
THINGS = [
    ("armchair", "red", 7.5, 2.0, 0.8, 0.8, 0.9),
    ("armchair", "red", 0.5, 2.0, 0.8, 0.8, 0.9),
    ("table", "blue", 5.5, 3.5, 0.6, 0.6, 0.7),
    ("sofa", "green", 2.5, 0.5, 0.6, 0.6, 0.7),
]
EAST, WEST = (6.1, 2.0, 0.0), (1.9, 2.0, math.pi)  # 1 m before each armchair's footprint, facing it


class ReadsLayout:
    """Stands in for a grounder: knows which armchair each sentence means, and is sure of it at e^3 to 1."""

    MEANT = {f"the {text.removeprefix('go to the ')}": k for k, text in enumerate((BY_TABLE, BY_SOFA))}

    def check_sentence(self, sentence):
        return ()

    def objects(self, scene, *, room=-1, seed=0):
        return SimpleNamespace(ids=torch.arange(len(scene.objects)))

    def score(self, objects, sentences):
        logits = torch.full((len(sentences), len(objects.ids)), -30.0)
        logits[:, :2] = 0.0
        for row, sentence in enumerate(sentences):
            logits[row, self.MEANT[sentence]] = 3.0
        return logits


class TwoSentences(FindReferral):
    """The two sentences, in that order."""

    def goals(self, home):
        return [Goal(text, (Stage("reach", (k,)),), "armchair", "red") for k, text in enumerate((BY_TABLE, BY_SOFA))]


@pytest.fixture(scope="module")
def simulator() -> Simulator:
    pool = HomePool([make_home("room", 8.0, 4.0, THINGS)], goal_labels=["armchair"])
    return Simulator(pool, TwoSentences(), num_envs=2, seed=0, sensors=Sensors())


def standing(simulator: Simulator, *poses: tuple[float, float, float]) -> SimState:
    """Environment k asks for sentence k."""
    state = simulator.reset()
    place = torch.tensor(poses, dtype=state.position.dtype)
    state.position[:], state.yaw[:] = place[:, :2], place[:, 2]
    state.text[:] = torch.tensor([simulator.texts.index(BY_TABLE), simulator.texts.index(BY_SOFA)])
    return state


def test_the_score_is_the_best_belief_times_nearness_among_objects_seen():
    belief, gap = torch.tensor([[0.7, 0.3, 0.0]]), torch.tensor([[2.0, 0.5, 0.0]])
    for seen, expected in (
        ([True, True, True], 0.3 * math.exp(-0.5)),  # 0.7 e^-2 = 0.095 is less
        ([True, False, True], 0.7 * math.exp(-2.0)),
        ([False, False, False], 0.0),
    ):
        assert belief_score(belief, torch.tensor([seen]), gap).item() == pytest.approx(expected)


def test_it_tells_which_of_two_chairs_where_a_score_of_the_picture_cannot(simulator, tmp_path):
    # both stand before the eastern armchair, one asks for it, the other one for its twin
    state = standing(simulator, EAST, EAST)
    frame = simulator.observe(state)
    assert torch.equal(frame.rgb[0], frame.rgb[1])
    watcher, model = GroundedWatcher(simulator, ReadsLayout()), GroundedReward()
    right, wrong = model.score(StepBatch(state=watcher.look(frame, state)), state.text).tolist()
    sure = 1 / (1 + math.exp(-3.0))
    assert right == pytest.approx(sure * math.exp(-1.0), rel=1e-4)
    assert wrong == pytest.approx((1 - sure) * math.exp(-1.0), rel=1e-4)

    towers = VLModel.from_pretrained(make_towers(tmp_path / "towers"))
    picture = sentence_reward(towers, [BY_TABLE, BY_SOFA], alpha=0.5)
    same = picture.score(StepBatch(frame=frame.rgb), torch.tensor([0, 1]))
    assert same[0].item() == pytest.approx(same[1].item())  # one noun, one score: both chairs are "an armchair"


def test_an_object_pays_from_the_moment_it_was_seen_until_the_episode_ends(simulator):
    watcher, model = GroundedWatcher(simulator, ReadsLayout()), GroundedReward()

    def score(state) -> list[float]:
        return model.score(StepBatch(state=watcher.look(simulator.observe(state), state)), state.text).tolist()

    turned = (EAST[0], EAST[1], math.pi / 2)
    first = standing(simulator, turned, EAST)
    assert score(first)[0] == pytest.approx(0, abs=1e-9)  # the armchair is beside the view
    facing = standing(simulator, EAST, EAST)
    facing.step.add_(1)
    assert score(facing)[0] == pytest.approx(0.9526 * math.exp(-1.0), rel=1e-3)
    away = standing(simulator, turned, EAST)
    away.step.add_(2)
    assert score(away)[0] == pytest.approx(0.9526 * math.exp(-1.0), rel=1e-3)  # remembered
    again = standing(simulator, turned, turned)
    again.key.add_(1)  # other episodes
    assert score(again) == pytest.approx([0, 0], abs=1e-9)


def test_environments_watched_together_score_as_each_alone(simulator):
    together, model = GroundedWatcher(simulator, ReadsLayout()), GroundedReward()
    alone = [GroundedWatcher(simulator, ReadsLayout()) for _ in range(2)]
    for step, poses in enumerate([(EAST, WEST), (WEST, EAST), (EAST, EAST)]):
        state = standing(simulator, *poses)
        state.step.add_(step)
        frame = simulator.observe(state)
        scores = model.score(StepBatch(state=together.look(frame, state)), state.text)
        for row, watcher in enumerate(alone):
            only = state.rows(torch.tensor([row]))
            seen = watcher.look(simulator.observe(only), only)
            assert model.score(StepBatch(state=seen), only.text).item() == pytest.approx(scores[row].item())


def test_other_sentences_can_be_asked_about_what_was_seen(simulator):
    state = standing(simulator, EAST, WEST)
    watcher, model = GroundedWatcher(simulator, ReadsLayout()), GroundedReward()
    seen = watcher.look(simulator.observe(state), state)
    swapped = watcher.asking(seen, state.text.flip(0))
    own = model.score(StepBatch(state=seen), state.text)
    other = model.score(StepBatch(state=swapped), state.text.flip(0))
    assert (own > 10 * other).all()
    with pytest.raises(InputError, match="goals differ"):
        model.score(StepBatch(state=seen), state.text.flip(0))


def test_nothing_the_simulator_knows_of_the_goal_enters(simulator):
    state = standing(simulator, EAST, WEST)
    frame, model = simulator.observe(state), GroundedReward()
    before = model.score(StepBatch(state=GroundedWatcher(simulator, ReadsLayout()).look(frame, state)), state.text)
    for name in ("distance", "start_distance", "goal", "stage", "path_length"):
        getattr(state, name).add_(1)
    after = model.score(StepBatch(state=GroundedWatcher(simulator, ReadsLayout()).look(frame, state)), state.text)
    assert torch.equal(before, after)


@pytest.mark.parametrize("shared", [True, False])
def test_the_senses_memory_gives_the_reward_that_a_memory_of_its_own_gives(simulator, shared):
    shaping = FrameReward(Calibration(*torch.zeros(3, 0)), 0.99, 0.1, 3.0, 0.3, 0.25, 0.01)
    scores = SceneScores(ReadsLayout())
    senses, reward = ObjectSenses(scores, Sensors(), 50), BeliefReward(scores, shaping, shared=shared)
    senses.attach(simulator), reward.attach(simulator)
    state = standing(simulator, EAST, WEST)
    frame = simulator.observe(state)
    sight = senses.observe(frame, state, senses.begin(state))
    start, note = reward.potential(frame, state, sight, reward.begin(state))
    assert start.tolist() == pytest.approx([4 * 0.9526 * math.exp(-1.0)] * 2, rel=1e-3)  # 1 is four deviations
    note_of_senses = {**sight.note, "action": torch.full((2,), FORWARD)}
    closer = standing(simulator, (6.6, 2.0, 0.0), (1.4, 2.0, math.pi))  # half a metre from the footprint
    closer.step.add_(1)
    frame = simulator.observe(closer)
    sight = senses.observe(frame, closer, note_of_senses)
    end, _ = reward.potential(frame, closer, sight, note)
    assert end.tolist() == pytest.approx([4 * 0.9526 * math.exp(-0.5)] * 2, rel=1e-3)
    # arrived = 2 deviations: the stop pays 3 (sigmoid(0.311 / 0.3) - 0.25), the progress goes back to 0
    paid = reward(start, end, closer.text, torch.tensor([True, False]))
    stop = 3 * (1 / (1 + math.exp(-(end[0].item() - 2) / 0.3)) - 0.25) - 0.1 * start[0].item() - 0.01
    walk = 0.1 * (0.99 * end[1].item() - start[1].item()) - 0.01
    assert paid.tolist() == pytest.approx([stop, walk], abs=1e-5)


def test_what_cannot_be_scored_says_so(simulator):
    model, text = GroundedReward(), torch.zeros(1, dtype=torch.int64)
    with pytest.raises(InputError, match="GroundedWatcher"):
        model.score(StepBatch(frame=torch.zeros(1, 4, 4, 3, dtype=torch.uint8)), text)
    one = torch.ones(1, 1)
    with pytest.raises(InputError, match="no numbers"):
        model.score(StepBatch(state=SeenObjects(text, text, one * torch.nan, one > 0, one)), text)
    watcher, state = GroundedWatcher(simulator, ReadsLayout()), standing(simulator, EAST, WEST)
    frame = simulator.observe(state)
    watcher.look(frame, state)
    with pytest.raises(InputError, match="frames for a state"):
        watcher.look(frame, state.rows(torch.tensor([0])))
    with pytest.raises(InputError, match="at the last call 2"):
        watcher.look(simulator.observe(state.rows(torch.tensor([0]))), state.rows(torch.tensor([0])))
