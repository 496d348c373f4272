"""A language model that sees as the reference: what it is asked and answers for, and a run with it that goes on."""

import pytest
import torch

import agents.subgoals.language_reference as language_reference
import agents.train as train
from agents.pixels import PixelSenses, vocabulary_of
from agents.reasoning.action_choice import action_log_probs
from agents.reasoning.action_text import turn_prompt
from agents.reasoning.small_vlm import PRESETS, SmallVLMConfig
from agents.reasoning.turn_config import TurnStyle, save_style
from agents.reasoning.vlm import VLM
from agents.subgoals.language_reference import LanguageReference
from agents.subgoals.reference import spread_evenly
from agents.subgoals.vsc_config import ObjectiveConfig, reference_of
from agents.task_env import TaskEnv
from core.errors import InputError, MissingFileError
from envs.pool import HomePool
from envs.simulator import Simulator
from envs.state import FORWARD, STOP, TURN_LEFT, Sensors
from tests.agents.subgoals.test_train_subgoals import config
from tests.agents.test_train import losses, same_policies
from tests.agents.tiny import make_scenes
from tests.envs.homes import three_homes

STYLE = TurnStyle("find_object", history=2, max_new_tokens=8, image_size=32, max_turns=4)
SAID = "<think> </think> <answer> stop </answer>"


def make_env(num_envs=3, **options):
    simulator = Simulator(HomePool(three_homes()), num_envs=num_envs, sensors=Sensors(20, 20), max_steps=4, **options)
    env = TaskEnv(simulator, PixelSenses(vocabulary_of(simulator.texts), Sensors(20, 20), 4))
    env.reset()
    return env


@pytest.fixture(scope="module")
def vlm():
    env = make_env()
    texts = [turn_prompt(goal, env.simulator.action_names, ("forward",)) for goal in env.simulator.texts]
    return VLM.create(SmallVLMConfig(**PRESETS["tiny"]), [*texts, SAID], seed=0)


@pytest.fixture
def folder(vlm, tmp_path):
    vlm.save_pretrained(tmp_path / "model")
    save_style(tmp_path / "model", STYLE)
    return str(tmp_path / "model")


def test_it_answers_for_the_state_before_each_step_through_its_own_camera(vlm):
    env = make_env()
    reference = LanguageReference(vlm, STYLE, env, 0.1, thoughts=0)
    wanted, done = [], [[], [], []]
    for action in ([FORWARD, TURN_LEFT, FORWARD], [TURN_LEFT, FORWARD, STOP], [FORWARD, FORWARD, FORWARD]):
        simulator, state = env.simulator, env.state
        for row, step in enumerate(state.step.tolist()):
            done[row] = done[row][-2:] if step else []
        names = simulator.action_names
        prompts = [turn_prompt(simulator.texts[t], names, past) for t, past in zip(state.text.tolist(), done)]
        pictures = simulator.observe(state, sensors=Sensors(32, 32)).rgb.numpy()
        asked = vlm.encode(prompts, [[picture] for picture in pictures])
        wanted.append(action_log_probs(vlm, asked, names, [""] * 3))
        reference.watch(torch.tensor(action), asked=True)
        env.step(torch.tensor(action))
        done = [[*past, names[number]] for past, number in zip(done, action)]
    found = reference.follow({}, torch.zeros(3, 3, dtype=torch.bool))
    torch.testing.assert_close(found, spread_evenly(torch.stack(wanted), 0.1), rtol=1e-4, atol=1e-5)
    assert reference.summary() == {**reference.summary(), "asked": 9, "thoughts": 0}
    assert done[2] == ["forward"], "the third agent stopped and began anew"


def test_what_it_says_depends_on_seed_and_episode_not_on_who_stands_beside(vlm, monkeypatch):
    every = LanguageReference(vlm, STYLE, make_env(), 0.1, thoughts=2, seed=1)
    every.watch(torch.zeros(3, dtype=torch.int64), asked=True)
    monkeypatch.setattr(language_reference, "ROWS", 1)
    alone = LanguageReference(vlm, STYLE, make_env(1, env_ids=[2]), 0.1, thoughts=2, seed=1)
    alone.watch(torch.zeros(1, dtype=torch.int64), asked=True)
    start = torch.ones(1, 3, dtype=torch.bool)
    torch.testing.assert_close(
        alone.follow({}, start[:, :1])[0, 0], every.follow({}, start)[0, 2], rtol=1e-4, atol=1e-5
    )
    assert every.summary()["thoughts"] == 6


def test_while_the_teacher_acts_it_only_remembers(vlm):
    env = make_env()
    reference = LanguageReference(vlm, STYLE, env, 0.1)
    reference.watch(torch.full((3,), FORWARD), asked=False)
    assert reference.asked == 0 and reference.past == [["forward"]] * 3
    other = LanguageReference(vlm, STYLE, make_env(), 0.1)
    other.load_state_dict(reference.state_dict())
    assert other.past == reference.past and other.past is not reference.past


def test_what_cannot_be_asked_is_refused_before_training(vlm, tmp_path):
    with pytest.raises(InputError, match="discrete"):
        LanguageReference(vlm, STYLE, make_env(control="continuous"), 0.1)
    with pytest.raises(InputError, match="thoughts=-1"):
        LanguageReference(vlm, STYLE, make_env(), 0.1, thoughts=-1)
    with pytest.raises(InputError, match="leaves no room"):
        LanguageReference(vlm, TurnStyle(history=4, max_new_tokens=100_000), make_env(), 0.1)
    cfg = ObjectiveConfig(reference=str(tmp_path), demonstration_steps=9)
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(InputError, match="no pictures"):
        reference_of(cfg, {}, 4, 3, lambda: None)
    cfg = ObjectiveConfig(reference=str(tmp_path / "missing"), demonstration_steps=9)
    with pytest.raises(MissingFileError, match="missing"):
        reference_of(cfg, {}, 4, 3, lambda: None)
    assert ObjectiveConfig(reference="Qwen/Qwen2.5-VL-3B-Instruct").names_language_model


def test_a_run_with_it_measures_its_divergence_and_goes_on_to_the_same_weights(folder, tmp_path, monkeypatch):
    scenes = str(make_scenes(tmp_path / "scenes"))
    told = {"demonstration_steps": 16, "reference": folder, "replay": 0.3, "subgoals": "stages"}
    small = {"num_envs": 4, "rollout": 4, "total_steps": 4 * 16}
    whole = train.run(config(scenes, tmp_path / "whole", told, **small))
    original = train.SubgoalLearner.update

    def stopped(self, index, *rest):
        if index == 3:
            raise KeyboardInterrupt
        return original(self, index, *rest)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(train.SubgoalLearner, "update", stopped)
        train.run(config(scenes, tmp_path / "broken", told, **small))
    train.run(config(scenes, tmp_path / "broken", told, resume="auto", **small))
    assert losses(tmp_path / "whole") == losses(tmp_path / "broken")
    assert same_policies(tmp_path / "whole", tmp_path / "broken")
    first, *learned = losses(tmp_path / "whole")
    assert "reference_loss" not in first and "divergence" not in first
    assert all(row["divergence"] > 0 and row["replay_loss"] > 0 for row in learned)
    assert whole["reference"]["asked"] == 3 * 16 and whole["reference"]["thoughts"] == 3 * 16
