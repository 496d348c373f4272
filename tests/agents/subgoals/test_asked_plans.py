"""Facts about agents/subgoals/asked_plans.py, with models that answer as told and an endpoint that fails."""

import base64
import io

import numpy as np
import pytest
import torch
from PIL import Image
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from agents.subgoals.asked_plans import AskedPlans
from agents.subgoals.plan_prompts import EXAMPLE, Example
from agents.subgoals.types import Plan, Subgoal
from core.errors import InputError
from envs.goals import Goal, Stage
from tests.agents.subgoals.asked_models import Scripted, home, picture
from tests.vl.chat_server import Answer, completion, serving
from tests.vl.tiny_image_text import save_llava
from vl.endpoint import EndpointGenerator
from vl.generator import CachedGenerator, Failure, GeneratorConfig, load_generator

STEPS = "1. go to the bed\n2. pick up the mug"
SEEN = Example("find the lamp", ("go to the lamp",), picture(10))


def says(*answers):
    """A model that gives these answers one after the other, the last one for ever."""
    return Scripted(lambda prompt, shown, number: answers[min(number, len(answers) - 1)])


def texts(plan):
    return [subgoal.text for subgoal in plan.subgoals]


# --- plans that come ---


def test_a_numbered_list_becomes_a_plan_in_words():
    decompose = AskedPlans(says(STEPS), sight="things")
    goal = Goal("find  the\nmug", (Stage("reach", objects=(0,)),))
    plan = decompose(goal, home())
    assert plan == Plan("find the mug", (Subgoal("go to the bed"), Subgoal("pick up the mug")), "model")
    assert decompose("find the mug", home()) == plan
    assert vars(decompose.counts) == {
        "wanted": 2, "read": 2, "fallback": 0, "alone": 0, "asked_again": 0, "failures": {}
    }  # fmt: skip


def test_a_step_about_a_thing_that_is_not_there_stays_in_words_without_a_test():
    plan = AskedPlans(says("1. ask the dragon"), sight="task")("find the mug", home())
    assert plan.subgoals == (Subgoal("ask the dragon", None),)


def test_the_example_and_the_task_are_each_shown_with_their_own_picture():
    model = says(STEPS)
    decompose = AskedPlans(model, example=SEEN)
    decompose.plans(["a", "b"], [home()] * 2, [picture(100), torch.from_numpy(picture(200))])
    assert [[int(p[0, 0, 0]) for p in shown] for shown in model.shown] == [[10, 100], [10, 200]]


def test_pictures_are_reduced_to_the_side_asked_for_and_smaller_ones_left():
    model = says(STEPS)
    AskedPlans(model, example=SEEN, max_side=8)("a", home(), picture(100, 16, 32))
    assert [p.shape for p in model.shown[0]] == [(4, 4, 3), (4, 8, 3)]


def test_no_picture_goes_along_where_none_is_to_be_seen():
    for sight in ("things", "task"):
        model = says(STEPS)
        AskedPlans(model, sight=sight)("a", home(), picture(100))
        assert model.shown == [[]]


# --- plans that do not come ---


def test_without_a_plan_the_goal_is_its_own_only_step():
    decompose = AskedPlans(says("I would rather not."), sight="task")
    assert decompose("find the mug", home()) == Plan("find the mug", (Subgoal("find the mug"),), "fallback")
    assert decompose.counts.summary() == {
        "wanted": 1, "read": 0, "fallback": 0, "alone": 1, "asked_again": 0, "failures": {"no list": 1}
    }  # fmt: skip


def test_another_decomposer_steps_in_and_says_so():
    goal, scene, seen = Goal("find the mug", (Stage("reach", objects=(0,)),)), home(), []

    def symbolic(*given):
        seen.append(given)
        return Plan("find the mug", (Subgoal("go to the mug"),), "symbolic")

    decompose = AskedPlans(says(Failure("timeout")), sight="task", fallback=symbolic)
    assert decompose(goal, scene, picture(1)) == Plan("find the mug", (Subgoal("go to the mug"),), "fallback")
    assert seen[0][0] is goal and seen[0][1] is scene and seen[0][2] is not None
    assert (decompose.counts.fallback, decompose.counts.alone, decompose.counts.failures) == (1, 0, {"timeout": 1})


def test_a_goal_that_the_other_decomposer_does_not_understand_stands_alone():
    def symbolic(goal, scene, view):
        raise InputError("no mug is there")

    decompose = AskedPlans(says("no"), sight="task", fallback=symbolic)
    assert texts(decompose("find the mug", home())) == ["find the mug"]
    assert (decompose.counts.fallback, decompose.counts.alone) == (0, 1)


def test_the_other_decomposer_is_not_asked_where_the_model_answers():
    def symbolic(goal, scene, view):
        raise AssertionError("asked")

    assert AskedPlans(says(STEPS), sight="task", fallback=symbolic)("a", home()).source == "model"


def test_only_answers_that_are_no_plan_are_asked_for_again_and_drawn_anew():
    model = Scripted(lambda prompt, shown, number: ["no", STEPS, Failure("empty"), "2. no", "1. at last"][number])
    decompose = AskedPlans(model, sight="task", tries=4, seed=5)
    plans = decompose.plans(["a", "b", "c"], [home()] * 3, [None] * 3)
    assert [texts(plan) for plan in plans] == [["at last"], ["go to the bed", "pick up the mug"], ["c"]]
    assert model.sampling == [(0.0, 5)] * 3 + [(0.7, 6), (0.7, 7)]
    assert (decompose.counts.asked_again, decompose.counts.failures) == (2, {"empty": 1})


def test_the_last_cause_counts_when_tries_run_out():
    decompose = AskedPlans(says("no", "2. no", "1."), sight="task", tries=3)
    assert decompose("a", home()).source == "fallback"
    assert decompose.counts.failures == {"empty step": 1}


def test_no_goals_ask_nothing():
    model = says(STEPS)
    assert AskedPlans(model, sight="task").plans([], [], []) == [] == model.prompts


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({}, "must not stand in for it"),
        ({"sight": "sounds"}, "sight='sounds' is unknown"),
        ({"sight": "task", "tries": 0}, "tries=0"),
        ({"sight": "task", "max_words": 0}, "max_words=0"),
        ({"sight": "task", "max_tokens": 0}, "max_tokens=0"),
        ({"sight": "task", "max_side": 0}, "max_side=0"),
    ],
)
def test_options_that_fit_no_request_are_refused_at_once(options, said):
    with pytest.raises(InputError, match=said):
        AskedPlans(says(STEPS), **options)


def test_requests_that_cannot_be_asked_are_refused_and_not_counted():
    decompose = AskedPlans(says(STEPS), example=SEEN)
    with pytest.raises(InputError, match="an empty goal has no steps"):
        decompose(" \n", home(), picture(1))
    with pytest.raises(InputError, match="asked with a picture, and none came"):
        decompose("find the mug", home())
    with pytest.raises(InputError, match="a frame is float64"):
        decompose("find the mug", home(), picture(1) / 255)
    with pytest.raises(InputError, match="2 goals, 1 scenes and 1 views"):
        decompose.plans(["a", "b"], [home()], [picture(1)])
    assert decompose.counts.wanted == 0 and not decompose.generator.prompts


# --- an endpoint, and answers on disk ---


def endpoint(chat, folder, **options):
    return CachedGenerator(
        EndpointGenerator(chat.url, "m", backoff_s=0.0, **{"retries": 1, **options}), folder, chunk=4
    )


def test_an_endpoint_sees_both_pictures_in_order():
    with serving(lambda request, number: completion(STEPS)) as chat:
        plan = AskedPlans(EndpointGenerator(chat.url, "m"), example=SEEN)("find the mug", home(), picture(100))
    content = chat.requests[0].body["messages"][-1]["content"]
    urls = [part["image_url"]["url"] for part in content if part["type"] == "image_url"]
    shown = [np.asarray(Image.open(io.BytesIO(base64.b64decode(url.partition(",")[2])))) for url in urls]
    assert [int(p[0, 0, 0]) for p in shown] == [10, 100]
    assert [part["text"] for part in content if part["type"] == "text"][:2] == ["Picture 0:", "Picture 1:"]
    assert texts(plan) == ["go to the bed", "pick up the mug"]


def test_an_endpoint_that_fails_in_the_middle_loses_nothing_and_the_next_run_asks_for_the_rest(tmp_path):
    goals, scenes, views = [f"find mug {k}" for k in range(8)], [home()] * 8, [None] * 8
    down = True

    def answer(request, number):
        late = any(f"TASK: {goal}\n" in request.prompt for goal in goals[5:])
        return Answer(status=503) if late and down else completion("1. look\n2. stop")

    with serving(answer) as chat:
        first = AskedPlans(endpoint(chat, tmp_path), sight="task")
        plans = first.plans(goals, scenes, views)
        assert [plan.source for plan in plans] == ["model"] * 5 + ["fallback"] * 3
        assert (first.counts.read, first.counts.alone, first.counts.failures) == (5, 3, {"server error": 3})
        assert len(chat.requests) == 5 + 3 * 2  # each failure was tried again
        down = False
        chat.requests.clear()
        second = AskedPlans(endpoint(chat, tmp_path), sight="task")
        assert [plan.source for plan in second.plans(goals, scenes, views)] == ["model"] * 8
        assert len(chat.requests) == 3
        assert second.generator.counts.hits == 5 and second.generator.counts.prompt_tokens == 3 * 7


def test_an_endpoint_that_is_down_is_given_up_and_every_goal_still_has_a_plan(tmp_path):
    with serving(lambda request, number: Answer(hang_up=True)) as chat:
        decompose = AskedPlans(endpoint(chat, tmp_path, concurrency=1, retries=0), sight="task")
        plans = decompose.plans([f"find mug {k}" for k in range(20)], [home()] * 20, [None] * 20)
        assert len(chat.requests) < 20
    assert [texts(plan) for plan in plans] == [[f"find mug {k}"] for k in range(20)]
    assert set(decompose.counts.failures) == {"connection", "not asked"}
    assert decompose.counts.failures.total() == decompose.counts.alone == 20


def test_tries_come_from_the_disk_as_they_came_from_the_model(tmp_path):
    first = AskedPlans(CachedGenerator(says("no", STEPS), tmp_path), sight="task", tries=2)
    again = AskedPlans(CachedGenerator(says("never asked"), tmp_path), sight="task", tries=2)
    assert first("a", home()) == again("a", home())
    assert not again.generator.generator.prompts and again.counts.asked_again == 1


# --- models of transformers ---


def save_reciter(folder, said):
    """A tiny Llama that says these tokens after any prompt: each token's embedding names the next one."""
    vocabulary = {word: k for k, word in enumerate(["</s>", "<unk>", *said])}
    backend = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    backend.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    ends = {"pad_token": "</s>", "eos_token": "</s>", "unk_token": "<unk>"}
    PreTrainedTokenizerFast(tokenizer_object=backend, **ends).save_pretrained(folder)
    n = len(vocabulary) + len(vocabulary) % 2
    config = LlamaConfig(
        vocab_size=n, hidden_size=n, intermediate_size=4, num_hidden_layers=1, num_attention_heads=1,
        max_position_embeddings=512, eos_token_id=0, pad_token_id=0, bos_token_id=None,
    )  # fmt: skip
    model = LlamaForCausalLM(config)
    with torch.no_grad():
        for layer in model.model.layers:
            layer.self_attn.o_proj.weight.zero_()
            layer.mlp.down_proj.weight.zero_()
        model.model.embed_tokens.weight.copy_(torch.eye(n))
        follows = torch.zeros(n, n)
        for token in range(1, len(vocabulary)):
            follows[token + 1 if token + 1 < len(vocabulary) else 0, token] = 1.0
        model.lm_head.weight.copy_(follows)
    model.save_pretrained(folder)


def test_a_causal_language_model_in_this_process_makes_plans_and_is_shown_no_pictures(tmp_path):
    save_reciter(tmp_path, ["1.", "visit", "bed\n2.", "stop"])
    generator = load_generator(GeneratorConfig(str(tmp_path)))
    decompose = AskedPlans(generator, sight="things", max_tokens=16)
    assert texts(decompose("find the mug", home())) == ["visit bed", "stop"]
    assert generator.counts.answer_tokens == 4
    with pytest.raises(InputError, match="reads no pictures"):
        AskedPlans(generator, example=SEEN, max_tokens=16)("find the mug", home(), picture(1))
    assert texts(AskedPlans(generator, sight="things", max_tokens=2)("find the mug", home())) == ["find the mug"]


def test_an_image_text_model_that_babbles_makes_no_plan_and_it_is_counted(tmp_path):
    save_llava(tmp_path, room=512)
    generator = load_generator(GeneratorConfig(str(tmp_path)))
    decompose = AskedPlans(generator, example=SEEN, max_tokens=4)
    assert decompose("find the mug", home(), picture(100)).source == "fallback"
    assert generator.counts.pictures == 2 and decompose.counts.failures.total() == 1
    assert set(decompose.counts.failures) <= {"no list", "truncated", "empty"}


def test_the_example_in_words_is_itself_an_answer_that_would_be_read():
    answer = "\n".join(f"{k}. {step}" for k, step in enumerate(EXAMPLE.steps, 1))
    assert tuple(texts(AskedPlans(says(answer), sight="things")(EXAMPLE.task, home()))) == EXAMPLE.steps
