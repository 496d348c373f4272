import torch

from agents.reasoning.types import Prompts, Responses, Trajectory


def prompts() -> Prompts:
    ids = torch.tensor([[0, 5, 6], [7, 7, 8]])
    pictures = ({}, {"pixel_values": torch.full((1, 2), 3.0)})
    return Prompts(ids, (ids != 0).long(), ids == 7, pictures)


def test_rows_carry_their_own_pictures():
    moved = prompts().rows([1, 0, 1])
    assert moved.input_ids[:, 0].tolist() == [7, 0, 7]
    assert [len(one) for one in moved.pictures] == [1, 0, 1] and moved.on_picture.sum(1).tolist() == [2, 0, 2]


def test_repeated_prompts_stand_together():
    assert prompts().repeat(2).input_ids[:, 0].tolist() == [0, 0, 7, 7]


def test_a_shuffled_trajectory_moves_every_field():
    number = torch.arange(2.0)
    responses = Responses(torch.tensor([[1], [2]]), torch.ones(2, 1, dtype=torch.bool), number > 0, ("a", "b"))
    trajectory = Trajectory(prompts(), responses, number[:, None], None, number, number.long(), number[:, None])
    turned = trajectory.rows([1, 0])
    assert turned.reward.tolist() == [1, 0] and turned.group.tolist() == [1, 0] and turned.responses.texts == ("b", "a")
    assert turned.old_log_prob[:, 0].tolist() == [1, 0]
    assert turned.prompts.input_ids[0].tolist() == [7, 7, 8] and turned.reference_log_prob is None
