import torch

from agents.reasoning.collection import Collected, Pay, collect, join, unique
from agents.reasoning.data_flow import Order, data_flow
from agents.reasoning.rewards import RewardConfig
from agents.reasoning.types import Responses
from tests.agents.reasoning.colour_questions import fresh_vlm, questions


def pay(**changes) -> Pay:
    options = {"reward": RewardConfig(), "longest": 8, "overlong": 0, "step": 0, "device": torch.device("cpu")}
    return Pay(**{**options, **changes})


def said(vlm, texts: list[str]) -> Responses:
    return vlm.encode_answers(texts)


def collected(tmp_path, answers: list[str], first: int = 0) -> Collected:
    """Two answers to each of two questions from the unshuffled folder."""
    found = questions(tmp_path)
    vlm = fresh_vlm(found)
    order = Order(found.samples, found.pictures_of, seed=0)
    asked = data_flow(order, first, 2)
    right = [f"<answer> {sample.answer} </answer>" for sample in asked.samples for _ in range(2)]
    texts = [text.replace("RIGHT", true) for text, true in zip(answers, right)]
    return collect(vlm, asked, lambda prompts: said(vlm, texts), pay(), 2)


def test_answers_are_paid_and_groups_with_right_and_wrong_ones_teach(tmp_path):
    one = collected(tmp_path, ["RIGHT", "<answer> chair </answer>", "RIGHT", "RIGHT"])
    assert one.reward.tolist() == [1, 0, 1, 1] and one.group.tolist() == [0, 0, 1, 1]
    assert one.teaching() == [0] and len(one.prompts) == 4
    assert one.prompts.pictures[0] is one.prompts.pictures[1]  # one prompt's pictures are held once
    kept = one.only(one.teaching())
    assert kept.reward.tolist() == [1, 0] and "chair" in kept.responses.texts[1]
    assert kept.samples == one.samples[:2] and kept.all_group.tolist() == [0, 0] and kept.tokens == one.tokens


def test_rounds_join_in_the_order_of_their_questions(tmp_path):
    one = collected(tmp_path / "a", ["RIGHT", "no", "no", "RIGHT"])
    two = collected(tmp_path / "b", ["no", "no", "a longer answer than all others", "RIGHT"], first=2)
    both = join(one, two, pad_id=0)
    assert both.reward.tolist() == [1, 0, 0, 1, 0, 0, 0, 1] and both.teaching() == [0, 1, 3]
    assert unique(both.all_group) == [0, 1, 2, 3] and both.tokens == one.tokens + two.tokens
    assert both.only([3]).responses.texts[0] == "a longer answer than all others"


def test_no_groups_leave_no_rows(tmp_path):
    one = collected(tmp_path, ["no", "no", "no", "no"])
    none = one.only(one.teaching())
    assert len(none) == 0 and none.all_group.tolist() == [] and len(none.prompts) == 0


def test_the_penalty_of_long_answers_is_part_of_the_reward(tmp_path):
    found = questions(tmp_path)
    vlm = fresh_vlm(found)
    answers = said(vlm, ["one two", "one two three one two three one"])  # 3 and 8 tokens with their ends
    reward, parts = pay(overlong=4)(found.samples[:2], answers)
    assert parts["overlong"].tolist() == [0, -1] and reward.tolist() == [0, -1]
