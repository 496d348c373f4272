import pytest
import torch
from torch import nn

from agents.reasoning.state import Done, resume, save
from core.checkpoint import Checkpoints
from core.errors import InputError


def model(width: int = 3) -> tuple[nn.Module, torch.optim.Optimizer]:
    made = nn.Sequential(nn.Linear(2, width), nn.Linear(width, 1))
    made[0].requires_grad_(False)
    return made, torch.optim.AdamW([p for p in made.parameters() if p.requires_grad], lr=0.1)


def test_a_run_is_taken_up_with_weights_optimiser_and_counters(tmp_path):
    one, optimizer = model()
    one(torch.ones(4, 2)).sum().backward()
    optimizer.step()
    done = Done(
        step=3, place=12, asked=40, answers=160, idle=1, forward_tokens=7.5, curve=[{"step": 0.0, "epoch": 0.0}]
    )
    save(Checkpoints(tmp_path), done, one, optimizer, {"critic": torch.ones(2)})
    two, fresh = model()
    again, more = resume(Checkpoints(tmp_path), two, fresh, writes=True)
    assert again == done and more["critic"].tolist() == [1, 1]
    assert torch.equal(two[1].weight, one[1].weight) and not torch.equal(two[0].weight, one[0].weight)  # not learned
    assert fresh.state_dict()["state"][0]["step"] == 1


def test_without_a_checkpoint_a_run_begins_at_nothing(tmp_path):
    assert resume(Checkpoints(tmp_path), *model(), writes=True) == (Done(), {})


def test_a_checkpoint_of_another_model_is_refused(tmp_path):
    save(Checkpoints(tmp_path), Done(step=1), *model(), {})
    with pytest.raises(InputError, match="of another model: 1.weight"):
        resume(Checkpoints(tmp_path), *model(width=4), writes=True)
