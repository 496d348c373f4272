from collections import defaultdict
from types import SimpleNamespace

import pytest
import torch

from agents.reasoning.kl import kl_divergence
from agents.reasoning.policy_losses import CLIPS, LOSSES, Clip, Totals, token_mean, totals_of
from core.errors import InputError

LONGEST = 4


def leaf(ratios: list[list[float]]) -> torch.Tensor:
    """Log-probabilities that have these ratios to an old policy's of 0."""
    return torch.tensor(ratios, dtype=torch.float64).log().requires_grad_()


def batch(seed: int = 0) -> dict[str, torch.Tensor]:
    """Eight answers of 1 to 5 tokens with ratios on both sides of every clip, and a row without a token."""
    draw = torch.Generator().manual_seed(seed)
    old = -torch.rand(9, 5, generator=draw, dtype=torch.float64)
    length = torch.tensor([5, 1, 2, 3, 4, 5, 1, 3, 0])
    return {
        "log_prob": old + 0.5 * torch.randn(9, 5, generator=draw, dtype=torch.float64),
        "old_log_prob": old,
        "advantage": torch.randn(9, 1, generator=draw, dtype=torch.float64).expand(9, 5).clone(),
        "mask": torch.arange(5) < length[:, None],
        "reference": old + 0.3 * torch.randn(9, 5, generator=draw, dtype=torch.float64),
    }


def run(name: str, made: dict[str, torch.Tensor], clip: Clip, beta: float = 0.0, totals: Totals | None = None):
    """Loss and its gradient."""
    log_prob = made["log_prob"].clone().requires_grad_()
    mask = made["mask"]
    penalty = beta * kl_divergence(log_prob, made["reference"], mask) if beta else None
    totals = totals or totals_of(mask, LONGEST)
    loss = LOSSES[name](
        log_prob, made["old_log_prob"], made["advantage"], mask, totals=totals, clip=clip, penalty=penalty
    )
    loss.value.backward()
    return loss, log_prob.grad


def by_loops(name: str, made: dict[str, torch.Tensor], clip: Clip, beta: float) -> tuple[torch.Tensor, torch.Tensor]:
    """The definitions, token by token; GSPO and RLOO in their sequence form."""
    log_prob = made["log_prob"].clone().requires_grad_()
    mask, rows = made["mask"], len(made["mask"])
    tokens = int(mask.sum())
    total = torch.zeros((), dtype=torch.float64)

    def surrogate(log_ratio, advantage):
        ratio = log_ratio.exp()
        found = -torch.minimum(ratio * advantage, ratio.clamp(1 - clip.low, 1 + clip.high) * advantage)
        return torch.minimum(found, -clip.dual * advantage) if clip.dual and advantage < 0 else found

    for i in range(rows):
        chosen = [t for t in range(mask.shape[1]) if mask[i, t]]
        if not chosen:
            continue
        steps = [log_prob[i, t] - made["old_log_prob"][i, t] for t in chosen]
        if name in ("gspo", "rloo"):
            joint = sum(steps) / (len(steps) if name == "gspo" else 1)
            terms = [surrogate(joint, made["advantage"][i, 0])] * len(steps)
        else:
            terms = [surrogate(step, made["advantage"][i, t]) for step, t in zip(steps, chosen)]
        if beta:
            away = [log_prob[i, t] - made["reference"][i, t] for t in chosen]
            terms = [term + beta * ((-d).exp() - 1 + d) for term, d in zip(terms, away)]
        divisor = {"dapo": tokens, "reinforce++": tokens, "reinforce++-baseline": tokens, "dr-grpo": rows * LONGEST}
        total = total + sum(terms) / divisor.get(name, rows * len(chosen))
    total.backward()
    return total.detach(), log_prob.grad


# two tokens with A = 2 (ratio 1.1 inside the clip, 1.5 above it), one with A = -1 (ratio 0.5, below it):
# l = -2.2, -2.4, 0.8, of which the first alone has a gradient, -2.2
@pytest.mark.parametrize(
    ("name", "value", "gradient"),
    [
        ("dapo", -3.8 / 3, -2.2 / 3),  # three tokens
        ("reinforce++", -3.8 / 3, -2.2 / 3),
        ("grpo", (-4.6 / 2 + 0.8) / 2, -2.2 / 4),  # two rows, the first of two tokens
        ("dr-grpo", -3.8 / 8, -2.2 / 8),  # two rows of at most four tokens
    ],
)
def test_losses_of_tokens_on_three_tokens(name, value, gradient):
    log_prob = leaf([[1.1, 1.5], [0.5, 1.0]])
    mask = torch.tensor([[True, True], [True, False]])
    advantage = torch.tensor([[2.0, 2.0], [-1.0, -1.0]], dtype=torch.float64)
    loss = LOSSES[name](
        log_prob, torch.zeros_like(log_prob), advantage, mask, totals=totals_of(mask, LONGEST), clip=Clip()
    )
    loss.value.backward()
    assert loss.value.item() == pytest.approx(value)
    assert log_prob.grad.flatten().tolist() == pytest.approx([gradient, 0, 0, 0])
    assert loss.clipped_low.item() == loss.clipped_high.item() == pytest.approx(1 / 3)
    assert loss.ratio.item() == pytest.approx((1.1 + 1.5 + 0.5) / 3)


# ratios 1.3 and 0.9 of one answer: their geometric mean is inside the clip, so both tokens share its gradient
@pytest.mark.parametrize(
    ("name", "ratio", "per_token"), [("gspo", 1.17**0.5, -2 * 1.17**0.5 / 4), ("rloo", 1.17, -2 * 1.17 / 2)]
)
def test_losses_of_whole_answers_on_three_tokens(name, ratio, per_token):
    log_prob = leaf([[1.3, 0.9], [0.5, 1.0]])
    mask = torch.tensor([[True, True], [True, False]])
    advantage = torch.tensor([[2.0, 2.0], [-1.0, -1.0]], dtype=torch.float64)
    loss = LOSSES[name](
        log_prob, torch.zeros_like(log_prob), advantage, mask, totals=totals_of(mask, LONGEST), clip=Clip()
    )
    loss.value.backward()
    assert loss.value.item() == pytest.approx((-2 * ratio + 0.8) / 2)
    assert log_prob.grad.flatten().tolist() == pytest.approx([per_token, per_token, 0, 0])


@pytest.mark.parametrize("name", LOSSES)
@pytest.mark.parametrize(("clip", "beta"), [(Clip(), 0.0), (Clip(0.2, 0.28, 1.5), 0.04)])
def test_losses_and_gradients_equal_the_definitions_in_loops(name, clip, beta):
    made = batch()
    loss, gradient = run(name, made, clip, beta)
    value, expected = by_loops(name, made, clip, beta)
    assert loss.value.item() == pytest.approx(value.item(), abs=1e-12) and gradient.abs().sum() > 0
    assert torch.allclose(gradient, expected, atol=1e-12)


@pytest.mark.parametrize("name", LOSSES)
def test_microbatches_add_up_to_the_batch_in_value_gradient_and_statistics(name):
    made = batch()
    whole, gradient = run(name, made, CLIPS[name], 0.1)
    totals = totals_of(made["mask"], LONGEST)
    parts = [
        run(name, {key: x[rows] for key, x in made.items()}, CLIPS[name], 0.1, totals)
        for rows in ([0, 1, 2], [3], [4, 5, 6, 7, 8])
    ]
    assert sum(part.value for part, _ in parts).item() == pytest.approx(whole.value.item(), abs=1e-12)
    assert torch.allclose(torch.cat([g for _, g in parts]), gradient, atol=1e-14)
    for key, value in whole.statistics.items():
        assert sum(part.statistics[key] for part, _ in parts).item() == pytest.approx(value.item()), key


@pytest.mark.parametrize("name", LOSSES)
def test_neither_padding_nor_the_order_of_rows_matters(name):
    made = batch()
    plain, gradient = run(name, made, CLIPS[name])
    order = torch.randperm(9, generator=torch.Generator().manual_seed(1))
    padded = {key: torch.cat([x, torch.full((9, 3), torch.nan)], 1) for key, x in made.items() if key != "mask"}
    for key in padded:
        padded[key][:, :5][~made["mask"]] = torch.nan
    padded["mask"] = torch.cat([made["mask"], torch.zeros(9, 3, dtype=torch.bool)], 1)
    moved, turned = run(name, {key: x[order] for key, x in padded.items()}, CLIPS[name])
    assert moved.value.item() == pytest.approx(plain.value.item(), abs=1e-12)
    assert torch.allclose(turned[:, :5], gradient[order], atol=1e-14) and not turned[:, 5:].any()


@pytest.mark.parametrize("name", LOSSES)
def test_before_the_first_update_the_gradient_is_the_advantage_and_nothing_is_clipped(name):
    made = batch() | {"log_prob": batch()["old_log_prob"]}
    loss, gradient = run(name, made, CLIPS[name])
    expected = -made["advantage"] * made["mask"]
    lengths = made["mask"].sum(1, keepdim=True).clamp(min=1)
    divisor = {"grpo": 9 * lengths, "gspo": 9 * lengths, "rloo": 9, "dr-grpo": 9 * LONGEST}
    assert torch.allclose(gradient, expected / divisor.get(name, made["mask"].sum()), atol=1e-14)
    assert loss.ratio.item() == pytest.approx(1) and loss.clipped_low + loss.clipped_high + loss.moved == 0


def test_a_ratio_of_a_whole_answer_keeps_the_weights_of_single_tokens():
    made = batch() | {"log_prob": batch()["old_log_prob"]}
    made["advantage"] = made["advantage"] * torch.linspace(0.5, 1.5, 5, dtype=torch.float64)
    for name in ("gspo", "rloo"):
        row = run(name, made, CLIPS[name])[1][0]
        assert torch.allclose(row / row[0], torch.tensor([1.0, 1.5, 2.0, 2.5, 3.0], dtype=torch.float64))


def test_a_dual_clip_bounds_the_loss_of_bad_answers_alone():
    log_prob = leaf([[5.0, 2.0], [5.0, 1.0]])
    advantage = torch.tensor([[-1.0, -1.0], [1.0, 1.0]], dtype=torch.float64)
    mask = torch.ones(2, 2, dtype=torch.bool)
    loss = token_mean(
        log_prob, torch.zeros_like(log_prob), advantage, mask, totals=Totals(1, 2, 2), clip=Clip(0.2, 0.2, 3.0)
    )
    loss.value.backward()
    assert loss.value.item() == pytest.approx(3 + 2 - 1.2 - 1)  # without the bound the first were 5
    assert log_prob.grad.tolist() == [[0, pytest.approx(2)], [0, -1]] and loss.clipped_dual.item() == 1


@pytest.mark.parametrize("name", LOSSES)
def test_a_ratio_beyond_all_bounds_stays_finite(name):
    made = batch()
    made = {key: x.float() if x.is_floating_point() else x for key, x in made.items()}
    made["log_prob"] = made["log_prob"] + 500 * torch.sign(made["advantage"])
    loss, gradient = run(name, made | {"advantage": -made["advantage"]}, CLIPS[name])
    assert torch.isfinite(loss.value) and torch.isfinite(gradient).all()


@pytest.mark.parametrize("name", LOSSES)
def test_a_batch_without_tokens_has_loss_and_gradient_zero(name):
    made = batch()
    loss, gradient = run(name, made | {"mask": torch.zeros_like(made["mask"])}, CLIPS[name])
    assert loss.value == 0 and not gradient.any()


def test_bad_clips_and_shapes_are_named():
    with pytest.raises(InputError, match=r"clip.low=0.*expected 0 < low <= 1"):
        Clip(0.0)
    with pytest.raises(InputError, match=r"clip.dual=1.1 should lie above 1 \+ clip.high = 1.2"):
        Clip(dual=1.1)
    flat, mask = torch.zeros(2, 3), torch.ones(2, 3, dtype=torch.bool)
    with pytest.raises(ValueError, match=r"one shape.*\(2,\)"):
        token_mean(flat, flat, torch.zeros(2), mask, totals=totals_of(mask, 3), clip=Clip())
    with pytest.raises(ValueError, match=r"one shape.*\(2, 1\)"):
        token_mean(flat, flat[:, :1], flat, mask, totals=totals_of(mask, 3), clip=Clip())


def trl_self(log_prob: torch.Tensor, **settings) -> SimpleNamespace:
    """What TRL's loss reads of its trainer; the model's answer is given."""
    accelerator = SimpleNamespace(num_processes=1, gather=lambda x: x, reduce=lambda x, reduction: x)
    return SimpleNamespace(
        _get_per_token_logps_and_entropies=lambda *a, **k: (log_prob, torch.zeros_like(log_prob), None),
        accelerator=accelerator, model=SimpleNamespace(training=True), max_completion_length=LONGEST,
        current_gradient_accumulation_steps=1, top_entropy_quantile=1.0, off_policy_mask_threshold=None,
        use_vllm=False, _entropy_bonus_enabled=False, aux_loss_enabled=False,
        _metrics=defaultdict(lambda: defaultdict(list)), **settings,
    )  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("beta", [0.0, 0.04])
@pytest.mark.parametrize("dual", [0.0, 3.0])
@pytest.mark.parametrize(
    ("name", "loss_type", "level"),
    [
        ("grpo", "grpo", "token"),
        ("dr-grpo", "dr_grpo", "token"),
        ("dapo", "dapo", "token"),
        ("reinforce++", "bnpo", "token"),
        ("gspo", "grpo", "sequence"),
    ],
)
def test_losses_and_gradients_equal_those_of_trls_grpo_trainer(name, loss_type, level, dual, beta):
    from trl.trainer.grpo_trainer import GRPOTrainer

    clip = Clip(CLIPS[name].low, CLIPS[name].high, dual)
    made = batch(3)
    made = {key: (x.float() if x.is_floating_point() else x)[:8] for key, x in made.items()}  # no empty row
    log_prob = made["log_prob"].clone().requires_grad_()
    mask = made["mask"].long()
    nothing = torch.zeros(8, 0, dtype=torch.int64)
    trainer = trl_self(
        log_prob, loss_type=loss_type, importance_sampling_level=level, beta=beta, epsilon_low=clip.low,
        epsilon_high=clip.high,
        args=SimpleNamespace(delta=dual or None, use_bias_correction_kl=False, steps_per_generation=1),
    )  # fmt: skip
    theirs = GRPOTrainer._compute_loss(trainer, None, {
        "prompt_ids": nothing, "prompt_mask": nothing, "completion_ids": mask, "completion_mask": mask,
        "advantages": made["advantage"][:, 0], "old_per_token_logps": made["old_log_prob"],
        "ref_per_token_logps": made["reference"], "num_items_in_batch": mask.sum(),
    })  # fmt: skip
    theirs.backward()
    ours, gradient = run(name, made, clip, beta)
    assert ours.value.item() == pytest.approx(theirs.item(), rel=1e-5, abs=1e-6) and log_prob.grad.abs().sum() > 0
    assert torch.allclose(gradient, log_prob.grad, rtol=1e-5, atol=1e-7)


@pytest.mark.slow
def test_the_loss_and_gradient_of_rloo_equal_those_of_trls_trainer():
    from trl.trainer.rloo_trainer import RLOOTrainer

    made = batch(3)
    made = {key: (x.float() if x.is_floating_point() else x)[:8] for key, x in made.items()}
    log_prob = made["log_prob"].clone().requires_grad_()
    mask = made["mask"].long()
    nothing = torch.zeros(8, 0, dtype=torch.int64)
    trainer = trl_self(log_prob, beta=0.0, epsilon_low=0.2, epsilon_high=0.2)
    theirs = RLOOTrainer._compute_loss(trainer, None, {
        "prompt_ids": nothing, "prompt_mask": nothing, "completion_ids": mask, "completion_mask": mask,
        "advantages": made["advantage"][:, 0], "old_logps": (made["old_log_prob"] * mask).sum(1),
    })  # fmt: skip
    theirs.backward()
    ours, gradient = run("rloo", made, Clip())
    assert ours.value.item() == pytest.approx(theirs.item(), rel=1e-5) and log_prob.grad.abs().sum() > 0
    assert torch.allclose(gradient, log_prob.grad, rtol=1e-5, atol=1e-7)
