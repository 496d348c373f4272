import copy

import pytest
import torch

from agents.reasoning.episode_source import EpisodesSource
from agents.reasoning.small_vlm import PRESETS, SmallVLMConfig
from agents.reasoning.turn_config import EnvironmentConfig
from agents.reasoning.turn_credit import gigpo
from agents.reasoning.turn_critic import TurnCritic, prompt_states
from agents.reasoning.turns import ask
from agents.reasoning.vlm import VLM
from core.errors import InputError
from envs.expert import Expert
from tests.agents.reasoning.scripted import Scripted, by_script, say  # noqa: F401  a fixture
from tests.agents.tiny import make_scenes

pytestmark = pytest.mark.usefixtures("by_script")


@pytest.fixture(scope="module")
def scenes(tmp_path_factory) -> str:
    return str(make_scenes(tmp_path_factory.mktemp("scenes")))


def source(scenes: str, starts: int = 2, copies: int = 2, **options) -> EpisodesSource:
    config = EnvironmentConfig(scenes=scenes, max_turns=3, image_size=16, **options)
    return EpisodesSource(config, starts=starts, copies=copies, max_new_tokens=8, seed=5)


def collect(given: EpisodesSource, step: int = 0, answer=lambda asked: say("forward")):
    return given.collect(Scripted(answer), step, torch.Generator().manual_seed(1))


def test_copies_begin_alike_and_starts_differ_by_step(scenes):
    own, asked = source(scenes), {}
    for step in (0, 1, 0):
        vlm = Scripted(lambda question: say("turn left"))
        rows = own.collect(vlm, step, torch.Generator().manual_seed(1))
        first = rows.reward[:4].tolist(), vlm.asked[:4]
        assert vlm.asked[0] == vlm.asked[1] and vlm.asked[2] == vlm.asked[3]
        assert rows.group[:4].tolist() == [0, 0, 1, 1]
        assert asked.setdefault(step, first) == first
    begun = own.simulator.reset()
    assert torch.equal(begun.key[::2], begun.key[1::2]) and begun.key[0] != begun.key[2]


def test_advantages_are_those_of_gigpo_on_every_token_of_a_turn(scenes):
    def answer(asked: str) -> str:
        return say("stop" if Scripted.row == 1 else "turn left")

    rows = collect(source(scenes), answer=answer)
    # copies 0 and 1 see one view and part; 2 and 3 do the same, and nothing tells them apart
    assert rows.group.tolist() == [0, 0, 1, 1, 0, 1, 1, 0, 1, 1]
    episode, turn = torch.tensor([0, 1, 2, 3, 0, 2, 3, 0, 2, 3]), torch.tensor([0, 0, 0, 0, 1, 1, 1, 2, 2, 2])
    anchor = torch.tensor([0, 0, 1, 1, 2, 3, 3, 4, 5, 5])
    wanted = gigpo(rows.reward, episode, turn, rows.group, anchor, gamma=0.95)
    mask = rows.responses.mask
    torch.testing.assert_close(rows.advantage, wanted[:, None] * mask)
    assert rows.advantage[2:4].abs().max() < 1e-6 < rows.advantage[0].abs().max()
    assert rows.metrics["met_share"] == pytest.approx(8 / 10) and rows.metrics["turns"] == (3 + 1 + 3 + 3) / 4


def test_an_answer_that_is_not_well_formed_costs_what_was_said(scenes):
    good = collect(source(scenes), answer=lambda asked: say("turn left"))
    for answer, named in (("<answer> turn left </answer>", 1.0), ("left", 0.0)):
        bad = collect(source(scenes, malformed_cost=0.25), answer=lambda asked, said=answer: said)
        torch.testing.assert_close(bad.reward, good.reward - 0.25)
        assert (bad.metrics["named_share"], bad.metrics["well_formed_share"]) == (named, 0.0)
        assert bad.metrics["return"] == pytest.approx(good.metrics["return"])  # of the task alone


def test_thoughts_weigh_less_than_actions_where_asked_for(scenes):
    def answer(asked: str) -> str:
        return say("stop" if Scripted.row % 2 else "turn left")

    whole, light = (collect(source(scenes, thought_weight=weight), answer=answer) for weight in (1.0, 0.5))
    words = whole.responses.texts[0].split().index("<answer>")
    torch.testing.assert_close(light.advantage[:, :words], 0.5 * whole.advantage[:, :words])
    torch.testing.assert_close(light.advantage[:, words:], whole.advantage[:, words:])


def test_a_policy_that_follows_the_oracle_is_told_of_success(scenes):
    config = EnvironmentConfig(scenes=scenes, max_turns=60, image_size=16)
    own = EpisodesSource(config, starts=2, copies=2, max_new_tokens=8)
    expert, states = Expert(own.simulator), {}
    step, observe = own.simulator.step, own.simulator.observe

    def watched(state, mask=None):
        states["now"] = state
        return observe(state, mask)

    def stepped(state, action):
        after, led = step(state, action)
        states["now"] = after.rows(~led.done)
        return after, led

    own.simulator.observe, own.simulator.step = watched, stepped  # type: ignore[method-assign]
    place = {"row": 0}

    def answer(asked: str) -> str:
        actions = expert(states["now"])
        said = say(own.simulator.action_names[actions[place["row"]]])
        place["row"] = (place["row"] + 1) % len(actions)
        return said

    rows = collect(own, answer=answer)
    assert rows.metrics["success"] == 1.0 and rows.metrics["well_formed_share"] == 1.0
    assert rows.advantage.abs().max() < 1e-5  # copies did the same


def test_a_critic_learns_what_prompts_are_worth_and_goes_on_where_it_was():
    critic = TurnCritic(16, seed=0)
    states = torch.randn(32, 16, generator=torch.Generator().manual_seed(0))
    target = states[:, 0] + 1
    assert critic.values(states).abs().max() == 0
    errors = [critic.fit(states, target) for _ in range(10)]
    assert errors[-1] < 0.3 * errors[0]
    other = TurnCritic(16, seed=1)
    other.load_state_dict(copy.deepcopy(critic.state_dict()))  # as a file would
    assert critic.fit(states, target) == other.fit(states, target)
    assert torch.equal(critic.values(states), other.values(states))


def test_a_critic_reads_in_float32_whatever_the_model_runs_under():
    one, other = TurnCritic(16, seed=0), TurnCritic(16, seed=0)
    states = torch.randn(8, 16, generator=torch.Generator().manual_seed(0))
    with torch.autocast("cpu", torch.bfloat16):
        error, values = one.fit(states, states[:, 0]), one.values(states)
    assert error == other.fit(states, states[:, 0])
    assert values.dtype == torch.float32 and torch.equal(values, other.values(states))


def test_a_critics_estimates_bootstrap_from_the_next_turn_and_from_what_would_have_come(scenes, monkeypatch):
    class Known:
        def values(self, states):
            return states[:, 0]

        def fit(self, states, target):
            return 0.0

    first = iter((1.0, 100.0))  # values of the turns, then those of what cut episodes would have been asked next

    def states(vlm, prompts, rows):
        return torch.arange(float(len(prompts)))[:, None] + next(first)

    monkeypatch.setattr("agents.reasoning.episode_source.prompt_states", states)
    own = source(scenes, credit="gae", gamma=0.5, lam=0.0)
    own.critic = Known()  # type: ignore[assignment]
    rows = collect(own, answer=lambda asked: say("stop" if Scripted.row == 1 else "turn left"))
    value = torch.arange(1.0, 11.0)  # turn 0 of episodes 0 1 2 3, turn 1 of 0 2 3, turn 2 of 0 2 3
    later = torch.tensor([5.0, 0.0, 6.0, 7.0, 8.0, 9.0, 10.0, 100.0, 101.0, 102.0])
    earned = rows.reward + 0.5 * later - value
    wanted = (earned - earned.mean()) / earned.std()
    torch.testing.assert_close(rows.advantage, wanted[:, None] * rows.responses.mask)


def test_the_critic_reads_the_final_state_of_a_prompts_last_token(scenes):
    own = source(scenes, credit="gae")
    vlm = VLM.create(SmallVLMConfig(**PRESETS["tiny"]), own.texts(), seed=0)
    state = own.simulator.reset()
    prompts = ask(vlm, own.simulator, own.style, state, own.simulator.observe(state), [["stop"], [], [], ["stop"]])
    with torch.no_grad():
        wanted = vlm.model(**vlm.forward_inputs(prompts), output_hidden_states=True).hidden_states[-1][:, -1]
    torch.testing.assert_close(prompt_states(vlm, prompts, rows=3), wanted, rtol=1e-4, atol=1e-5)


def test_the_words_of_a_task_are_known_beforehand(scenes):
    own = source(scenes)
    words = {word for text in own.texts() for word in text.split()}
    for sample in own.worked(2).samples:
        assert set(f"{sample.prompt} {sample.worked}".split()) <= words


def test_processes_play_what_one_would(scenes, monkeypatch):
    monkeypatch.undo()  # answers of a model, not of a script
    vlm = VLM.create(SmallVLMConfig(**PRESETS["tiny"]), source(scenes).texts(), seed=0)

    def played(*parts: range) -> list[tuple]:
        found = []
        for part in parts:
            with pytest.MonkeyPatch.context() as patch:
                patch.setattr("core.distributed.share", lambda total, what, part=part: part)
                own = source(scenes)
            rows = own.collect(vlm, 0, torch.Generator().manual_seed(1))
            found += zip(rows.group.tolist(), rows.reward.tolist(), rows.responses.texts, rows.advantage[:, 0].tolist())
        return sorted(found)

    assert played(range(2)) == played(range(1), range(1, 2))


def test_one_copy_is_refused_where_copies_are_compared(scenes):
    with pytest.raises(InputError, match="samples=2 or more"):
        source(scenes, copies=1)
    source(scenes, copies=1, credit="gae")
