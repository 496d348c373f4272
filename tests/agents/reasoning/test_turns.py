"""Episodes of a language model whose answers are scripted, so that what an episode does is known by hand."""

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch

from agents.reasoning.turn_config import TurnStyle
from agents.reasoning.turns import collect_turns, on_action, take_turn
from core.errors import InputError
from envs.pool import HomePool
from envs.simulator import Simulator
from envs.state import Sensors
from tests.agents.reasoning.scripted import Scripted, by_script, say  # noqa: F401  a fixture
from tests.envs.homes import lively_home, three_homes

pytestmark = pytest.mark.usefixtures("by_script")
STYLE = TurnStyle(history=2, max_new_tokens=12, image_size=16)


@pytest.fixture(scope="module")
def pool() -> HomePool:
    return HomePool(three_homes())


def simulator(pool: HomePool, num_envs: int = 3, **options) -> Simulator:
    return Simulator(pool, num_envs=num_envs, sensors=Sensors(16, 16), max_steps=4, **options)


def play(pool: HomePool, answer: Callable[[str], str], num_envs: int = 3, **options):
    sim = simulator(pool, num_envs)
    vlm = Scripted(answer)
    turns = collect_turns(
        vlm, sim, sim.reset(), STYLE, temperature=1.0, top_p=1.0, seed=0, numbers=range(num_envs), **options
    )
    return sim, vlm, turns


def test_an_episode_is_a_row_a_turn_with_what_the_action_earned(pool):
    sim, _, turns = play(pool, lambda asked: say("forward"))
    state, earned = sim.reset(), torch.zeros(3)
    for turn in range(4):
        state, step = sim.step(state, torch.full((3,), 1))
        torch.testing.assert_close(turns.reward[turns.turn == turn], step.reward)
        earned += step.reward
    assert turns.episode.tolist() == [0, 1, 2] * 4 and turns.turn.tolist() == [k for k in range(4) for _ in range(3)]
    torch.testing.assert_close(turns.metrics["return"], earned)
    assert turns.named.all() and turns.well_formed.all() and not turns.terminated.any()


def test_episodes_that_end_leave_the_batch_and_the_others_go_on(pool):
    def answer(asked: str) -> str:
        return say("stop" if asked.count("forward") > 2 else "forward")  # told of one in the question, and two done

    _, vlm, turns = play(pool, answer)
    assert vlm.batches == [3, 3, 3] and turns.terminated.tolist() == [False] * 6 + [True] * 3
    assert turns.metrics["turns"].tolist() == [3, 3, 3]
    lazy = {0: "stop", 2: "stop"}
    _, vlm, turns = play(pool, lambda asked: say(lazy.get(Scripted.row, "forward")))
    assert vlm.batches[:2] == [3, 1] and vlm.numbers == [1] and turns.episode.tolist()[:4] == [0, 1, 2, 1]


def test_a_question_tells_the_last_actions_alone(pool):
    _, vlm, _ = play(pool, lambda asked: say("turn right"))
    assert ["done:" in text for text in vlm.asked[::3]] == [False, True, True, True]
    assert "done: turn right. " in vlm.asked[3] and "done: turn right, turn right. " in vlm.asked[9]


def test_an_answer_that_names_nothing_turns_the_agent_to_the_left(pool):
    sim, _, turns = play(pool, lambda asked: "<answer> stop or forward </answer>")
    assert not turns.named.any() and not turns.well_formed.any() and not turns.terminated.any()
    sim, vlm, _ = play(pool, lambda asked: "")
    assert "done: turn left, turn left. " in vlm.asked[-1]


def test_equal_views_of_one_goal_have_one_anchor_and_others_have_not(pool):
    sim = Simulator(pool, num_envs=4, sensors=Sensors(16, 16), max_steps=2, env_ids=[0, 0, 0, 5])
    vlm = Scripted(lambda asked: say("turn left" if Scripted.row < 2 else "turn right"))
    turns = collect_turns(vlm, sim, sim.reset(), STYLE, temperature=1.0, top_p=1.0, seed=0, numbers=range(4))
    first, second = turns.anchor.view(2, 4).tolist()
    assert first[0] == first[1] == first[2] != first[3]
    assert second[0] == second[1] != second[2]


def test_in_tasks_with_hands_the_question_says_whether_they_are_full():
    sim = Simulator(HomePool([lively_home()], interactive=True), "rearrange", 2, sensors=Sensors(16, 16), max_steps=2)
    vlm = Scripted(lambda asked: say("pick"))
    state = sim.reset()
    assert state.world is not None
    held = state.merged(
        torch.tensor([False, True]),
        replace(state, world=replace(state.world, held=torch.zeros(2, dtype=torch.int64))),
    )
    turns = collect_turns(vlm, sim, held, STYLE, temperature=1.0, top_p=1.0, seed=0, numbers=[0, 1])
    assert ["hands: full" in asked for asked in vlm.asked[:2]] == [False, True] and turns.named.all()


def test_what_would_be_asked_next_is_made_for_episodes_that_were_cut_off(pool):
    lazy = {1: "stop"}
    _, vlm, turns = play(pool, lambda asked: say(lazy.get(Scripted.row, "forward")), ahead=True)
    assert turns.ahead is not None and turns.ahead_episode.tolist() == [0, 2]
    assert len(turns.ahead) == 2 and vlm.asked[-1].count("forward") == 3


def test_an_environment_draws_alike_whoever_stands_beside_it(pool):
    sim = simulator(pool)
    state = sim.reset()
    frame = sim.observe(state)
    vlm = Scripted(lambda asked: say("forward"))
    draws = {"temperature": 1.0, "top_p": 1.0, "seed": 7}
    take_turn(vlm, sim, STYLE, state, frame, [[], [], []], numbers=[4, 9, 6], **draws)
    assert vlm.numbers == [4, 9, 6]


def test_the_tokens_that_act_begin_with_the_answer_tag():
    vlm = Scripted(say)
    said = vlm.responses(["<think> a b </think> <answer> stop </answer>", "<answer> stop", "no tag here"])
    found = on_action(vlm, said)
    assert found.tolist() == [
        [False] * 4 + [True] * 4,  # the end token counts
        [True] * 3 + [False] * 5,
        [False] * 8,
    ]


def test_a_simulator_without_sensors_is_refused(pool):
    sim = Simulator(pool, num_envs=1, sensors=None)
    with pytest.raises(InputError, match="sensors"):
        collect_turns(Scripted(say), sim, sim.reset(), STYLE, temperature=1.0, top_p=1.0, seed=0, numbers=[0])
