"""Trajectory, update and imitation on a tiny model."""

import copy
from dataclasses import replace

import pytest
import torch

from agents.reasoning.collection import Collected, Pay, collect, unique
from agents.reasoning.data_flow import Order, data_flow
from agents.reasoning.generation import generate
from agents.reasoning.group_advantages import advantages
from agents.reasoning.log_probs import score
from agents.reasoning.policy_losses import Clip
from agents.reasoning.rewards import RewardConfig
from agents.reasoning.supervised import imitate, worked_answers
from agents.reasoning.trajectory import Reference, make_trajectory
from agents.reasoning.update import Descent, update_policy
from agents.reasoning.vgpo import VGPOConfig
from core.errors import InputError
from tests.agents.reasoning.colour_questions import fresh_vlm, questions

MAKE = {"algorithm": "grpo", "temperature": 1.0, "updates": 1, "kl_cost": 0.0, "kl_kind": "k3", "vgpo": None}
MAKE |= {"mask_cut_off": False, "rows": 8}
UPDATE = {"algorithm": "grpo", "clip": Clip(), "kl_coef": 0.0, "kl_kind": "k3", "temperature": 1.0}
UPDATE |= {"longest_response": 6, "passes": 1, "minibatches": 1, "micro_rows": 16}


@pytest.fixture(scope="module")
def material(tmp_path_factory):
    """A model, and its answers to three questions with made-up rewards."""
    found = questions(tmp_path_factory.mktemp("update"))
    vlm = fresh_vlm(found)
    asked = data_flow(Order(found.samples, found.pictures_of, seed=0), 0, 3)
    pay = Pay(RewardConfig(), 6, 0, 0, torch.device("cpu"))
    draw = torch.Generator().manual_seed(0)
    collected = collect(vlm, asked, lambda p: generate(vlm, p, samples=3, max_new_tokens=6, generator=draw), pay, 3)
    return vlm, replace(collected, reward=torch.tensor([1.0, 0, 0, 1, 1, 0, 0, 0, 0]))


def descent(vlm) -> Descent:
    return Descent.of(vlm.model, lr=1e-2, weight_decay=0.1, max_grad_norm=1.0, half=False)


def after(material, trajectory=None, **changes) -> tuple[dict[str, torch.Tensor], dict[str, float]]:
    """Weights of a copy of the model after an update, and what the update told."""
    vlm, collected = copy.deepcopy(material[0]), material[1]
    trajectory = trajectory or make_trajectory(vlm, None, collected, **MAKE)[0]
    told = update_policy(
        vlm, descent(vlm), trajectory, groups=unique(collected.all_group),
        generator=torch.Generator().manual_seed(1), **{**UPDATE, **changes},
    )  # fmt: skip
    return vlm.model.state_dict(), told


def close(one: dict[str, torch.Tensor], two: dict[str, torch.Tensor]) -> bool:
    return all(torch.allclose(one[name], two[name], atol=2e-4) for name in one)


def test_the_size_of_microbatches_does_not_change_an_update(material):
    whole, told = after(material)
    parts, told_again = after(material, micro_rows=2)
    assert close(whole, parts) and told["loss"] == pytest.approx(told_again["loss"], abs=1e-5)
    assert told["entropy"] == pytest.approx(told_again["entropy"], abs=1e-4) and told["entropy"] > 1
    assert told["ratio"] == pytest.approx(1.0) and told["updates"] == 1 and told["clip_share"] == 0


def test_an_update_goes_up_the_advantage(material):
    vlm, collected = material
    moved = copy.deepcopy(vlm)
    trajectory, _ = make_trajectory(moved, None, collected, **MAKE)
    update_policy(moved, descent(moved), trajectory, groups=unique(collected.all_group),
                  generator=torch.Generator(), **UPDATE)  # fmt: skip
    before, now = (score(each, collected.prompts, collected.responses).log_prob.sum(1) for each in (vlm, moved))
    good = trajectory.advantage[:, 0] > 0
    assert ((now - before)[good] > 0).all() and good.tolist() == [True, False, False, True, True] + [False] * 4


def test_later_minibatches_see_a_policy_that_has_moved(material):
    trajectory, _ = make_trajectory(material[0], None, material[1], **{**MAKE, "updates": 6})
    assert trajectory.old_log_prob is not None
    _, told = after(material, trajectory, minibatches=3, passes=2)
    assert told["updates"] == 4  # one minibatch is the group of equal rewards, in both passes
    assert told["moved"] > 0 and told["ratio"] != pytest.approx(1.0, abs=1e-6)


def test_equal_rewards_in_every_group_change_nothing(material):
    vlm, collected = material
    equal = replace(collected, reward=torch.tensor([1.0, 1, 1, 0, 0, 0, 0.5, 0.5, 0.5]))
    trajectory, _ = make_trajectory(vlm, None, equal, **MAKE)
    weights, told = after(material, trajectory)
    assert told["updates"] == 0 and told["loss"] == 0
    assert "entropy" not in told  # nobody looked: 0 would say that the policy has collapsed
    assert all(torch.equal(weights[name], value) for name, value in vlm.model.state_dict().items())


def test_a_divergence_in_the_loss_pulls_back_even_then(material):
    vlm, collected = material
    equal = replace(collected, reward=torch.zeros(9))
    reference = Reference(vlm, adapted=False)
    away = copy.deepcopy(vlm)
    with torch.no_grad():
        for parameter in away.model.parameters():
            parameter.mul_(1.05)
    trajectory, _ = make_trajectory(away, reference, equal, **MAKE)
    told = update_policy(away, descent(away), trajectory, groups=unique(collected.all_group),
                         generator=torch.Generator(), **{**UPDATE, "kl_coef": 0.5})  # fmt: skip
    assert told["kl"] > 0 and told["loss"] == pytest.approx(0.5 * told["kl"], rel=0.2) and told["updates"] == 1


def test_a_divergence_in_the_reward_is_taken_off_before_answers_are_compared(material):
    vlm, collected = material
    reference = Reference(vlm, adapted=False)
    away = copy.deepcopy(vlm)
    with torch.no_grad():
        for parameter in away.model.parameters():
            parameter.mul_(1.05)
    options = {**MAKE, "algorithm": "rloo", "kl_cost": 0.5, "kl_kind": "k1"}
    trajectory, told = make_trajectory(away, reference, collected, **options)
    assert trajectory.reference_log_prob is not None
    mask = collected.responses.mask
    old, base = (score(each, collected.prompts, collected.responses).log_prob for each in (away, vlm))
    cost = 0.5 * ((old - base) * mask).sum(1)
    by_hand = advantages("rloo", collected.reward - cost, collected.group, mask)
    torch.testing.assert_close(trajectory.advantage, by_hand, atol=1e-4, rtol=1e-4)
    assert told["trajectory_tokens"] > 0


def test_passes_are_made_only_where_something_needs_them(material):
    vlm, collected = material
    trajectory, told = make_trajectory(vlm, None, collected, **MAKE)
    assert trajectory.old_log_prob is None and told["trajectory_tokens"] == 0
    trajectory, told = make_trajectory(vlm, None, collected, **{**MAKE, "vgpo": VGPOConfig()})
    assert trajectory.old_log_prob is None and told["trajectory_tokens"] > 0 and "vgpo_alpha_mean" in told
    plain, _ = make_trajectory(vlm, None, collected, **MAKE)
    blind = ~collected.prompts.on_picture.any(1)
    assert torch.equal(trajectory.advantage[blind], plain.advantage[blind])
    assert not torch.equal(trajectory.advantage[~blind], plain.advantage[~blind])


def test_answers_that_were_cut_off_can_be_left_out(material):
    vlm, collected = material
    ended = torch.tensor([True, False, True, True, False, True, True, True, True])
    cut: Collected = replace(collected, responses=replace(collected.responses, ended=ended))
    trajectory, _ = make_trajectory(vlm, None, cut, **{**MAKE, "mask_cut_off": True})
    assert not trajectory.advantage[~ended].any() and not trajectory.responses.mask[~ended].any()
    assert trajectory.advantage[0].any()


def test_imitation_makes_worked_answers_likelier_whatever_the_microbatches(tmp_path):
    found = questions(tmp_path)
    vlm, samples = fresh_vlm(found), found.samples[:4]
    answers = worked_answers(vlm, samples, "tags", 20)
    prompts = vlm.encode([sample.prompt for sample in samples], [found.pictures_of(i) for i in range(4)])
    twin = copy.deepcopy(vlm)
    first, again = (
        imitate(each, descent(each), prompts, answers, micro_rows=rows) for each, rows in ((vlm, 8), (twin, 1))
    )
    assert first["loss"] == pytest.approx(again["loss"], rel=1e-4)
    assert close(vlm.model.state_dict(), twin.model.state_dict())
    likelier = -(score(vlm, prompts, answers).log_prob.sum() / answers.mask.sum())
    assert likelier < first["loss"]
    nothing = imitate(vlm, descent(vlm), prompts.rows([]), answers.rows([]), micro_rows=8)
    assert nothing["updates"] == 0


def test_worked_answers_are_plain_where_there_are_none_and_refused_where_too_long(tmp_path):
    found = questions(tmp_path)
    vlm = fresh_vlm(found)
    bare = replace(found.samples[0], worked="")
    said = worked_answers(vlm, [bare], "tags", 20).texts[0]
    assert said.replace(" ", "") == f"<think></think><answer>{bare.answer}</answer>"
    with pytest.raises(InputError, match="worked answer of question 'train-1' has .* max_new_tokens=3"):
        worked_answers(vlm, found.samples[:1], "tags", 3)
    with pytest.raises(InputError, match="'train-1' states no answer in style 'boxed'"):
        worked_answers(vlm, found.samples[:1], "boxed", 20)


@pytest.mark.parametrize(("said", "token"), [("4 °", "<unk>"), ("<image>", "<image>"), ("</s> red", "</s>")])
def test_a_worked_answer_that_no_answer_can_say_is_refused(tmp_path, said, token):
    found = questions(tmp_path)
    strange = replace(found.samples[0], worked=f"<answer> {said} </answer>")
    with pytest.raises(InputError, match=f"question 'train-1' has '{token}' in it"):
        worked_answers(fresh_vlm(found), [strange], "tags", 20)


def test_a_gradient_that_is_not_finite_stops_with_the_rate_in_the_message(material):
    vlm, collected = copy.deepcopy(material[0]), material[1]
    broken = replace(make_trajectory(vlm, None, collected, **MAKE)[0], advantage=torch.full((9, 6), torch.inf))
    with pytest.raises(InputError, match="lower lr \\(now 0.01\\)"):
        update_policy(vlm, descent(vlm), broken, groups=[0, 1, 2], generator=torch.Generator(), **UPDATE)
