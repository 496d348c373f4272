"""Subgoals in homes from every source and judge: asked, planned, learned; endpoints that fail while a run goes on."""

import json
from dataclasses import asdict
from types import SimpleNamespace

import pytest
import torch

import agents.train as train
from agents.subgoals.home_subgoals import HomeSubgoals, OrGoalAlone, SparseJudge, SubgoalSettings
from agents.subgoals.plan_prompts import EXAMPLE
from agents.subgoals.text_scores import TextScores
from agents.subgoals.types import Plan, Subgoal
from agents.subgoals.vsc_config import VscConfig
from core.errors import InputError
from core.files import read_json
from tests.agents.subgoals.test_train_subgoals import config
from tests.agents.test_train import losses, same_policies
from tests.agents.tiny import make_scenes
from tests.vl.chat_server import Answer, completion, serving
from vl.generator import GeneratorConfig

STEPS = "1. Go to the armchair.\n2. Go to the sofa.\n3. Dance."


@pytest.fixture(scope="module")
def scenes(tmp_path_factory):
    return str(make_scenes(tmp_path_factory.mktemp("scenes")))


def asking(url, **rest):
    return {"demonstration_steps": 64, "generator": GeneratorConfig(f"{url}/v1#a-model", retries=0), **rest}


def answers(request, number):
    return completion("yes" if "yes or no" in request.prompt else STEPS)


@pytest.mark.parametrize(
    "changes, said",
    [
        ({"subgoals": "asked"}, "generator.model"),
        ({"judge": "asked"}, "generator.model"),
        ({"subgoals": "learned"}, "decomposer"),
        ({"judge": "reward"}, "judge_vl"),
        ({"subgoals": "best"}, "planner"),
        ({"judge_quantile": 1.0}, "judge_quantile"),
        ({"judge_every": 0}, "judge_every"),
    ],
)
def test_settings_that_lack_something_are_refused(changes, said):
    with pytest.raises(InputError, match=said):
        VscConfig(demonstration_steps=9, **changes).check()


def test_a_model_proposes_and_judges_and_what_it_cannot_say_is_counted(scenes, tmp_path):
    with serving(answers) as chat:
        found = train.run(config(scenes, tmp_path / "run", asking(chat.url, subgoals="asked"), total_steps=128))
        told = found["subgoals"]
        assert told["plans"]["read"] == told["plans"]["wanted"] > 0 and told["plans"]["fallback"] == 0
        assert told["grounding"]["left_out"] >= told["plans"]["read"]  # dancing has no test
        assert told["grounding"]["grounded"] == 3 * told["plans"]["read"] - told["grounding"]["left_out"] > 0
        judged = asking(chat.url, judge="asked", judge_every=4, subgoals="stages")
        found = train.run(config(scenes, tmp_path / "judged", judged, total_steps=128))
        assert found["subgoals"]["judge"]["done"] == found["subgoals"]["judge"]["asked"] > 0
    described = read_json(tmp_path / "judged" / "policy" / "policy.json", "policy")["subgoals"]
    assert described["judge"] == "asked" and described["generator"]["model"].endswith("#a-model")


def test_an_endpoint_that_fails_mid_run_leaves_the_scene_graphs_plans_and_a_resume_keeps_them(
    scenes, tmp_path, monkeypatch
):
    def flaky(request, number):
        lucky.append(request.prompt)  # requests come in any order: the first one's goal has a plan in both runs
        return completion(STEPS) if back or request.prompt == lucky[0] else Answer(status=500)

    original = train.SubgoalLearner.update

    def stopped(self, index, *rest):
        if index == 3:
            raise KeyboardInterrupt
        return original(self, index, *rest)

    lucky: list[str] = []
    back = False
    with serving(flaky) as chat:
        told = asking(chat.url, subgoals="asked")
        whole = train.run(config(scenes, tmp_path / "whole", told))
        with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
            patch.setattr(train.SubgoalLearner, "update", stopped)
            train.run(config(scenes, tmp_path / "broken", told))
        back = True  # the model answers again, but the run has its plans
        train.run(config(scenes, tmp_path / "broken", told, resume="auto"))
    counts = whole["subgoals"]["plans"]
    assert counts["read"] == 1 and counts["fallback"] == counts["wanted"] - 1 > 0
    assert sum(counts["failures"].values()) == counts["fallback"]
    assert losses(tmp_path / "whole") == losses(tmp_path / "broken")
    assert same_policies(tmp_path / "whole", tmp_path / "broken")


def test_plans_come_back_through_json():
    senses = HomeSubgoals(SimpleNamespace(sensors=None), SubgoalSettings("none"))
    senses.remembered.known["a home\nfind it"] = Plan("find it", (Subgoal("go there"),), "fallback")
    again = HomeSubgoals.from_description(SimpleNamespace(sensors=None), senses.description)
    again.load_state_dict(json.loads(json.dumps(senses.state_dict())))
    assert again.remembered.known == senses.remembered.known and again.settings == senses.settings


def test_a_goal_without_a_plan_stands_alone_and_is_counted():
    def fails(goal, scene, view=None):
        raise InputError(f"{goal!r} has no way: 3 doors are shut")

    made = OrGoalAlone(fails)
    plan = made("find the bed", None)
    assert plan.subgoals == (Subgoal("find the bed"),) and plan.source == "fallback"
    assert made.counts.summary() == {"wanted": 1, "alone": 1, "causes": {"... has no way: 3 doors are shut": 1}}


def test_a_sparse_judge_is_asked_only_when_it_is_due():
    heard = []

    def judge(current, state, frame):
        heard.append(list(current))
        return torch.tensor([one is not None for one in current])

    one, two = Subgoal("one"), Subgoal("two")

    class State(SimpleNamespace):
        def __len__(self):
            return len(self.step)

    sparse = SparseJudge(judge, 3)
    assert sparse([one, two], State(step=torch.tensor([3, 4])), None).tolist() == [True, False]
    assert sparse([one, two], State(step=torch.tensor([1, 4])), None).tolist() == [False, False]
    assert heard == [[one, None]]


class Towers:
    """Pictures of one grey are vectors by their brightness, texts by their length."""

    def encode_images(self, images):
        angle = images.float().mean((1, 2, 3)) / 255 * torch.pi / 2
        return torch.stack([angle.cos(), angle.sin()], 1)

    def encode_texts(self, texts):
        return torch.tensor([[0.0, 2.0] if text == "bright" else [3.0, 0.0] for text in texts])


def test_a_picture_is_scored_against_a_quantile_of_unlabelled_ones():
    grey = torch.tensor([0, 51, 102, 153, 204, 255], dtype=torch.uint8)[:, None, None, None].expand(-1, 2, 2, 3)
    scores = TextScores(Towers(), grey, 0.5)
    frame = SimpleNamespace(rgb=grey[[5, 5, 2]])
    bright = torch.sin(torch.tensor([0.4, 0.6]) * torch.pi / 2).mean()  # the median of six
    found = scores(frame, ["bright", "dark", "bright"])
    torch.testing.assert_close(
        found,
        torch.stack([1 - bright, -bright, torch.sin(torch.tensor(0.4) * torch.pi / 2) - bright]),
        atol=1e-6,
        rtol=0,
    )
    with pytest.raises(InputError, match="0 frames"):
        TextScores(Towers(), grey[:0], 0.5)


def test_settings_are_described_whole():
    settings = SubgoalSettings("doors", miss=0.25, seed=3, generator=asdict(GeneratorConfig("x")))
    assert SubgoalSettings(**asdict(settings)) == settings


def test_a_model_that_sees_is_shown_the_example_and_where_the_goal_may_begin(scenes, tmp_path):
    with serving(answers) as chat:
        told = asking(chat.url, subgoals="asked", sight="picture")
        found = train.run(config(scenes, tmp_path / "run", told, total_steps=128))
    assert found["subgoals"]["plans"]["read"] == found["subgoals"]["plans"]["wanted"] > 1
    shown = [
        [part["image_url"]["url"] for part in request.body["messages"][-1]["content"] if part["type"] == "image_url"]
        for request in chat.requests
    ]
    assert all(len(pictures) == 2 for pictures in shown)
    assert len({example for example, _ in shown}) == 1 and len({view for _, view in shown}) > 1
    assert all("Picture 1 shows" in request.prompt and EXAMPLE.task not in request.prompt for request in chat.requests)
