import math

import numpy as np
import pytest
import torch
from torch import Tensor

from agents.reasoning.generation import generate
from agents.reasoning.log_probs import distinct_prompts, score, token_log_probs
from agents.reasoning.types import PICTURE, Prompts, Responses
from agents.reasoning.vlm import VLM
from core.errors import InputError
from tests.agents.reasoning.tiny_vlm import tiny_prompts, tiny_vlm

SAMPLES = 3


@pytest.fixture(scope="module")
def vlm() -> VLM:
    made = tiny_vlm()
    ordinary = [number for number in range(len(made.tokenizer)) if number not in made.vision_ids]
    made.eos_ids = (*made.eos_ids, *ordinary[::12])  # so many that some answers end early
    return made


@pytest.fixture(scope="module")
def answered(vlm: VLM) -> tuple[Prompts, Responses]:
    prompts = tiny_prompts(vlm)
    answers = generate(vlm, prompts, samples=SAMPLES, max_new_tokens=14, generator=torch.Generator().manual_seed(3))
    assert answers.ended.any() and not answers.ended.all()
    return prompts.repeat(SAMPLES), answers


def plain(vlm: VLM, prompts: Prompts, answers: Responses, temperature: float) -> dict[str, Tensor]:
    """The whole B x T x V table at once, every row with its own prompt and pictures."""
    made = vlm.model(**vlm.forward_inputs(prompts, answers), output_hidden_states=True)
    start = prompts.input_ids.shape[1]
    logits = made.logits[:, start - 1 : -1] / temperature
    logits[..., list(vlm.vision_ids)] = -1e30
    log_p = logits.log_softmax(-1)
    said = log_p.gather(2, answers.ids[..., None]).squeeze(2).masked_fill(~answers.mask, 0.0)
    entropy = -(log_p.exp() * log_p).sum(-1).masked_fill(~answers.mask, 0.0)
    states = made.hidden_states[-1].detach()
    prototype = torch.stack(
        [
            row[: len(shown)][shown].mean(0) if shown.any() else row[0] * 0
            for row, shown in zip(states, prompts.on_picture)
        ]
    )
    return {"log_prob": said, "entropy": entropy, "hidden": states[:, start:], "prototype": prototype}


def gradients(vlm: VLM, value: Tensor) -> dict[str, Tensor]:
    vlm.model.zero_grad()
    value.backward()
    return {name: p.grad.clone() for name, p in vlm.model.named_parameters() if p.grad is not None}


def assert_same_gradients(found: dict[str, Tensor], wanted: dict[str, Tensor]) -> None:
    assert found.keys() == wanted.keys() and "lm_head.weight" in found
    assert any("vision_tower" in name for name in found)
    largest = max(float(each.abs().max()) for each in wanted.values())
    for name, each in wanted.items():
        torch.testing.assert_close(found[name], each, rtol=1e-4, atol=1e-6 * largest)


@pytest.mark.parametrize("temperature", [1.0, 0.7])
def test_log_probs_entropies_states_and_gradients_equal_those_of_the_whole_table(vlm, answered, temperature: float):
    prompts, answers = answered
    wanted = plain(vlm, prompts, answers, temperature)
    found = score(vlm, prompts, answers, temperature=temperature, chunk=5, entropy=True, hidden=True, grad=True)
    torch.testing.assert_close(found.log_prob, wanted["log_prob"], rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(found.entropy, wanted["entropy"], rtol=1e-4, atol=1e-5)
    shown = answers.mask[..., None]
    torch.testing.assert_close(found.hidden * shown, wanted["hidden"] * shown, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(found.prototype, wanted["prototype"], rtol=1e-4, atol=1e-5)
    assert torch.equal(found.sees, prompts.on_picture.any(1)) and not found.sees.all()
    assert not found.hidden.requires_grad and not found.prototype.requires_grad
    weight = torch.linspace(-1, 1, answers.mask.numel()).view(answers.mask.shape)
    of_found = gradients(vlm, (found.log_prob * weight).sum() + 0.1 * found.entropy.sum())
    assert_same_gradients(of_found, gradients(vlm, (wanted["log_prob"] * weight).sum() + 0.1 * wanted["entropy"].sum()))


def test_prompts_shared_by_answers_are_read_once_and_checkpointing_reads_them_all(vlm, answered):
    prompts, answers = answered
    seen: list[int] = []
    hook = vlm.final_norm().register_forward_hook(lambda module, given, made: seen.append(len(made)))
    shared = score(vlm, prompts, answers, grad=True, hidden=True)
    assert seen == [len(prompts) // SAMPLES, len(prompts)]
    of_shared = gradients(vlm, shared.log_prob.sum())
    vlm.model.train()
    vlm.model.gradient_checkpointing_enable({"use_reentrant": False})
    seen.clear()
    try:
        full = score(vlm, prompts, answers, grad=True, hidden=True)
        assert seen == [len(prompts)]
        of_full = gradients(vlm, full.log_prob.sum())
    finally:
        vlm.model.gradient_checkpointing_disable()
        vlm.model.eval()
        hook.remove()
    torch.testing.assert_close(shared.log_prob, full.log_prob, rtol=1e-4, atol=1e-5)
    shown = answers.mask[..., None]
    torch.testing.assert_close(shared.hidden * shown, full.hidden * shown, rtol=1e-4, atol=1e-5)
    assert_same_gradients(of_shared, of_full)


def test_rows_in_any_order_and_in_several_passes_say_the_same(vlm, answered):
    prompts, answers = answered
    whole = score(vlm, prompts, answers, entropy=True, hidden=True)
    order = torch.randperm(len(prompts), generator=torch.Generator().manual_seed(0))
    parts = score(vlm, prompts.rows(order), answers.rows(order), entropy=True, hidden=True, rows=4)
    for name in ("log_prob", "entropy", "prototype"):
        torch.testing.assert_close(getattr(parts, name), getattr(whole, name)[order], rtol=1e-4, atol=1e-5)
    shown = answers.mask[order][..., None]
    torch.testing.assert_close(parts.hidden * shown, whole.hidden[order] * shown, rtol=1e-4, atol=1e-5)
    assert parts.hidden.shape == whole.hidden.shape


def test_padding_on_both_sides_changes_nothing(vlm, answered):
    prompts, answers = answered
    count, more = len(prompts), 6
    left = Prompts(
        torch.cat([torch.full((count, more), vlm.pad_id), prompts.input_ids], 1),
        torch.cat([torch.zeros(count, more, dtype=torch.int64), prompts.attention_mask], 1),
        torch.cat([torch.zeros(count, more, dtype=torch.bool), prompts.on_picture], 1),
        prompts.pictures,
    )
    right = Responses(
        torch.cat([answers.ids, torch.full((count, more), vlm.pad_id)], 1),
        torch.cat([answers.mask, torch.zeros(count, more, dtype=torch.bool)], 1),
        answers.ended,
        answers.texts,
    )
    wanted = score(vlm, prompts, answers, hidden=True)
    found = score(vlm, left, right, hidden=True)
    length = answers.ids.shape[1]
    torch.testing.assert_close(found.log_prob[:, :length], wanted.log_prob, rtol=1e-4, atol=1e-5)
    assert found.log_prob.shape == found.hidden.shape[:2] == right.ids.shape
    assert not found.log_prob[:, length:].any()
    torch.testing.assert_close(found.prototype, wanted.prototype, rtol=1e-4, atol=1e-5)


def test_the_head_never_sees_more_than_a_chunk_of_tokens_and_no_padding(vlm, answered):
    prompts, answers = answered
    seen: list[int] = []
    hook = vlm.lm_head().register_forward_hook(lambda module, given, made: seen.append(made[..., 0].numel()))
    score(vlm, prompts, answers, chunk=7)
    hook.remove()
    assert max(seen) <= 7 and sum(seen[1:]) == int(answers.mask.sum())  # the first call is that of the forward pass


def test_answers_of_one_token_need_no_second_pass(vlm):
    prompts = tiny_prompts(vlm).repeat(2)
    allowed = [i for i in range(len(vlm.tokenizer)) if i not in vlm.vision_ids]
    ids = torch.tensor(allowed[: len(prompts)])[:, None]
    answers = Responses(ids, torch.ones_like(ids).bool(), torch.zeros(len(ids)).bool(), ("",) * len(ids))
    wanted = plain(vlm, prompts, answers, 1.0)
    torch.testing.assert_close(score(vlm, prompts, answers).log_prob, wanted["log_prob"].detach(), rtol=1e-4, atol=1e-5)


def test_by_hand_two_tokens_of_which_one_is_banned():
    head = torch.nn.Linear(3, 3, bias=False)
    with torch.no_grad():
        head.weight.copy_(torch.eye(3))
    states = torch.tensor([[0.0, math.log(3.0), 9.0]])
    said, entropy = token_log_probs(head, states, torch.tensor([1]), never=(2,), entropy=True)
    assert said.item() == pytest.approx(math.log(0.75))
    assert entropy.item() == pytest.approx(-(0.75 * math.log(0.75) + 0.25 * math.log(0.25)))
    (gradient,) = torch.autograd.grad(said.sum() + entropy.sum(), head.weight)
    assert gradient.isfinite().all() and not gradient[2].any()


def test_prompts_are_one_when_words_and_pictures_are():
    vlm = tiny_vlm()
    prompts = tiny_prompts(vlm)
    first, owner = distinct_prompts(prompts.rows([1, 0, 1, 2, 0]))
    assert first == [0, 1, 3] and owner.tolist() == [0, 1, 0, 2, 1]
    black, white = np.zeros((32, 32, 3), dtype=np.uint8), np.full((32, 32, 3), 255, dtype=np.uint8)
    same_words = vlm.encode([f"{PICTURE} how many ?"] * 2, [[black], [white]])
    assert distinct_prompts(same_words)[0] == [0, 1], "other pictures"


def test_numbers_that_do_not_fit_are_errors(vlm, answered):
    prompts, answers = answered
    with pytest.raises(InputError, match="repeat the prompts"):
        score(vlm, tiny_prompts(vlm), answers)
    with pytest.raises(InputError, match="temperature=0.0"):
        score(vlm, prompts, answers, temperature=0.0)
