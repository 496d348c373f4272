import json
from pathlib import Path

import pytest

from agents.evaluate import EvaluateAgentConfig, run
from agents.reasoning.action_text import turn_prompt
from agents.reasoning.sim_policy import VLMAgent
from agents.reasoning.small_vlm import PRESETS, SmallVLMConfig
from agents.reasoning.turn_config import TurnStyle, is_language_policy, read_style, save_style
from agents.reasoning.vlm import VLM
from core.errors import InputError
from envs.episodes import make_episodes, run_episodes
from envs.pool import HomePool
from envs.simulator import Simulator
from tests.agents.reasoning.scripted import Scripted, by_script, say  # noqa: F401  a fixture
from tests.agents.tiny import make_scenes
from tests.envs.homes import three_homes

STYLE = TurnStyle("find_object", history=1, max_new_tokens=6, image_size=32, max_turns=4)


@pytest.fixture(scope="module")
def sim() -> Simulator:
    return Simulator(HomePool(three_homes()), num_envs=3, sensors=STYLE.sensors, max_steps=4)


@pytest.fixture(scope="module")
def vlm(sim) -> VLM:
    texts = [turn_prompt(goal, sim.action_names) for goal in sim.texts]
    return VLM.create(SmallVLMConfig(**PRESETS["tiny"]), [*texts, say("stop")], seed=0)


@pytest.mark.usefixtures("by_script")
def test_an_agent_does_what_it_says_and_forgets_between_episodes(sim):
    model = Scripted(lambda asked: say("forward" if "done: turn left" in asked else "turn left"))
    agent = VLMAgent(model, sim, STYLE)
    found = run_episodes(sim, agent, make_episodes(sim.homes, sim.task, 5, seed=0))
    assert [actions.tolist() for actions in found.actions] == [[2, 1, 2, 1]] * 5  # each begins with a turn
    assert agent.answers == 20 and agent.unreadable == 0


@pytest.mark.usefixtures("by_script")
def test_answers_that_name_nothing_turn_left_are_counted_and_never_succeed(sim):
    agent = VLMAgent(Scripted(lambda asked: "stop"), sim, STYLE)
    found = run_episodes(sim, agent, make_episodes(sim.homes, sim.task, 3, seed=0))
    assert all(actions.tolist() == [2] * 4 for actions in found.actions)
    assert agent.unreadable_share == 1.0 and not found.stopped.any() and not found.metrics["success"].any()


def test_drawn_answers_do_not_depend_on_the_batch(sim, vlm):
    episodes = make_episodes(sim.homes, sim.task, 3, seed=1)
    alone = Simulator(sim.homes, sim.task, 1, sensors=STYLE.sensors, max_steps=4)
    said: dict[int, list] = {1: [], 3: []}
    for one in (alone, sim):
        agent = VLMAgent(vlm, one, STYLE, seed=3)

        def noted(state, frame, agent=agent, width=one.num_envs):
            action = agent(state, frame)
            said[width] += zip(state.episode.tolist(), state.step.tolist(), agent.last.responses.texts)
            return action

        run_episodes(one, noted, episodes)
    assert sorted(said[1]) == sorted(said[3]) and len({text for *_, text in said[1]}) > 6


def test_a_folder_says_how_its_model_is_asked(tmp_path, vlm):
    folder = tmp_path / "model"
    vlm.save_pretrained(folder)
    assert is_language_policy(folder) and read_style(folder) == TurnStyle()
    save_style(folder, STYLE)
    assert read_style(folder) == STYLE
    (folder / "turns.json").write_text(json.dumps({"history": "long"}))
    with pytest.raises(InputError, match="does not describe how"):
        read_style(folder)
    with pytest.raises(InputError, match="history=-1"):
        TurnStyle(history=-1)


def test_evaluate_agent_runs_a_models_folder_and_tells_what_it_could_not_read(tmp_path, vlm):
    scenes = str(make_scenes(tmp_path / "scenes"))
    vlm.save_pretrained(tmp_path / "model")
    save_style(tmp_path / "model", STYLE)
    options = {"scenes": scenes, "policy": str(tmp_path / "model"), "episodes": 3}
    found = run(EvaluateAgentConfig(out=str(tmp_path / "run"), greedy=True, **options))
    assert found["unreadable_share"] == 1.0 and found["metrics"]["success"]["mean"] == 0.0
    assert found["metrics"]["steps"]["mean"] == 4.0  # as many turns as it was trained with
    with pytest.raises(InputError, match="leave out vl="):
        run(EvaluateAgentConfig(out=str(tmp_path / "other"), vl="towers", **options))
    with pytest.raises(InputError, match="discrete"):
        run(EvaluateAgentConfig(out=str(tmp_path / "third"), control="continuous", **options))
    assert not Path(tmp_path / "third").exists()


def test_pictures_are_needed(sim):
    with pytest.raises(InputError, match="sensors"):
        VLMAgent(Scripted(say), sim, STYLE)(sim.reset(), None)
