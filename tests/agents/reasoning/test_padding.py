import torch

from agents.reasoning.padding import join_prompts, join_responses, microbatches, tokens_read
from agents.reasoning.types import Prompts, Responses


def prompts(rows: list[list[int]]) -> Prompts:
    length = max(map(len, rows))
    ids = torch.tensor([[0] * (length - len(row)) + row for row in rows])
    return Prompts(ids, (ids != 0).long(), ids == 7, tuple({} for _ in rows))


def responses(rows: list[list[int]]) -> Responses:
    length = max(map(len, rows))
    ids = torch.tensor([row + [0] * (length - len(row)) for row in rows])
    return Responses(ids, ids != 0, torch.ones(len(rows)) > 0, tuple(str(row) for row in rows))


def test_joined_prompts_are_padded_on_the_left_and_responses_on_the_right():
    both = join_prompts(prompts([[7, 5]]), prompts([[1, 2, 3, 4]]), pad_id=9)
    assert both.input_ids.tolist() == [[9, 9, 7, 5], [1, 2, 3, 4]] and both.attention_mask[0].tolist() == [0, 0, 1, 1]
    assert both.on_picture.sum().item() == 1
    said = join_responses(responses([[1, 2, 3]]), responses([[4]]), pad_id=9)
    assert said.ids.tolist() == [[1, 2, 3], [4, 9, 9]] and said.mask[1].tolist() == [True, False, False]
    assert said.texts == ("[1, 2, 3]", "[4]")


def test_microbatches_keep_groups_together_with_the_longest_answers_first():
    group, length = torch.tensor([5, 3, 5, 3, 9, 9]), torch.tensor([1, 2, 8, 2, 4, 5])
    assert [part.tolist() for part in microbatches(group, length, 2)] == [[0, 2], [4, 5], [1, 3]]
    assert sorted(row for part in microbatches(group, length, 4) for row in part.tolist()) == list(range(6))
    assert microbatches(group[:0], length[:0], 2) == []


def test_a_prompt_that_several_rows_answer_is_read_once():
    asked = prompts([[7, 5, 6]]).repeat(2)
    assert tokens_read(asked, responses([[1, 2], [3]])) == 3 + 3
    assert tokens_read(prompts([[1, 2], [3]]), responses([[1], [1]])) == 3 + 2
