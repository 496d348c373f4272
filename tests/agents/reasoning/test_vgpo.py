import math
import threading
from dataclasses import replace

import pytest
import torch

from agents.reasoning import vgpo
from agents.reasoning.vgpo import PRESETS, VGPOConfig, VGPOWeights, focus, weights
from core.errors import InputError

CONFIGS = {
    "default": VGPOConfig(),
    "paper-code": VGPOConfig(preset="paper-code"),
    "no compensation": VGPOConfig(compensation=False),
    "no intra": VGPOConfig(intra=False),
    "no inter": VGPOConfig(inter=False),
    "early narrow gate": VGPOConfig(gamma=0.2, kappa=0.1, beta=2.0),
    "wide floors": VGPOConfig(preset="paper-code", token_floor=0.7, answer_floor=0.0, ceiling=1.2),
    "mended sum": VGPOConfig(accumulate="sum", stretch="batch"),
}


def rollout(seed: int = 0, extra: int = 0) -> dict[str, torch.Tensor]:
    """Twelve answers to four prompts, groups interleaved and of unequal size, one prompt without a picture."""
    draw = torch.Generator().manual_seed(seed)
    length = torch.tensor([12, 3, 7, 1, 12, 5, 9, 2, 0, 11, 4, 6])
    group = torch.tensor([5, 2, 5, 2, 7, 9, 7, 5, 5, 2, 7, 7])
    wide = torch.rand(12, 12, generator=draw) * 2 - 1
    values = torch.full((12, 12 + extra), torch.nan)
    mask = torch.arange(12 + extra) < length[:, None]
    values[:, :12] = wide
    values[~mask] = torch.nan
    return {"focus": values, "mask": mask, "group": group, "sees": group != 9}


def by_loops(
    made: dict[str, torch.Tensor], config: VGPOConfig
) -> tuple[list[list[float]], list[float], list[list[float]]]:
    """psi, alpha and v written from the equations, token by token; a mask is a prefix of its row."""
    focus_, mask, group, sees = (made[key].tolist() for key in ("focus", "mask", "group", "sees"))
    rows = [i for i in range(len(mask)) if sees[i] and any(mask[i])]
    s = {i: [x for x, live in zip(focus_[i], mask[i]) if live] for i in rows}
    everything = [x for i in rows for x in s[i]]

    def stretched(values, low, high):
        return [(x - low) / (high - low + 1e-8) for x in values]

    def mean(values):
        return sum(values) / len(values)

    def clamp(x, low):
        return min(max(x, low), config.ceiling)

    psi, v, phi, alpha = {}, {}, {}, dict.fromkeys(range(len(mask)), 1.0)
    for i in rows:
        over = everything if config.choice("stretch") == "batch" else s[i]
        w = stretched(s[i], min(over), max(over))
        last = len(w) - 1
        start = math.floor(config.gamma * len(w))
        tail = range(start, len(w))
        kept = sorted(tail, key=lambda t: (-w[t], t))[: max(1, math.floor(config.kappa * len(tail)))]
        for t in kept if config.compensation else []:
            w[t] *= 1 + config.beta * (t / last if last else 0.0)  # equations 5 and 6
        v[i] = stretched(w, min(w), max(w))  # 7
        psi[i] = [clamp(1 + x - mean(v[i]), config.token_floor) for x in v[i]]  # 8
        if config.choice("mean_one"):
            psi[i] = [x / mean(psi[i]) for x in psi[i]]
        phi[i] = sum(v[i]) if config.choice("accumulate") == "sum" else mean(v[i])  # 9
    for number in set(group):
        members = [i for i in rows if group[i] == number]
        if not members or not config.inter:
            continue
        inside = [phi[i] for i in members]
        level = stretched(inside, min(inside), max(inside))  # 10
        each = [clamp(1 + x - mean(level), config.answer_floor) for x in level]  # 11
        for i, x in zip(members, each):
            alpha[i] = x / mean(each) if config.choice("mean_one") else x
    width = len(mask[0])
    tokens, seen = [], []
    for i, row in enumerate(mask):
        own = psi[i] if i in rows and config.intra else [1.0] * sum(row)
        tokens.append(own + [0.0] * (width - len(own)))
        seen.append(v.get(i, []) + [0.0] * (width - len(v.get(i, []))))
    return tokens, [alpha[i] for i in range(len(mask))], seen


def near(found: VGPOWeights, token: torch.Tensor, answer: torch.Tensor) -> bool:
    return torch.allclose(found.token, token, atol=2e-6) and torch.allclose(found.answer, answer, atol=2e-6)


@pytest.mark.parametrize("name", CONFIGS)
def test_weights_equal_a_slow_loop_written_from_the_equations(name):
    for seed in range(3):
        made = rollout(seed)
        token, answer, seen = (torch.tensor(x) for x in by_loops(made, CONFIGS[name]))
        found = weights(**made, config=CONFIGS[name])
        assert near(found, token, answer)
        assert torch.allclose(found.focus, seen, atol=1e-5)


@pytest.mark.parametrize("name", CONFIGS)
def test_padding_changes_nothing(name):
    plain, padded = (weights(**rollout(extra=extra), config=CONFIGS[name]) for extra in (0, 5))
    assert near(replace(padded, token=padded.token[:, :12]), plain.token, plain.answer)
    assert not padded.token[:, 12:].any() and not padded.focus[:, 12:].any()
    assert all(torch.allclose(padded.statistics[key], value) for key, value in plain.statistics.items())


@pytest.mark.parametrize("name", CONFIGS)
def test_shuffled_rows_keep_their_weights(name):
    made = rollout()
    order = torch.randperm(12, generator=torch.Generator().manual_seed(2))
    plain = weights(**made, config=CONFIGS[name])
    moved = weights(**{key: x[order] for key, x in made.items()}, config=CONFIGS[name])
    assert near(moved, plain.token[order], plain.answer[order])


def test_the_default_weighs_a_group_as_it_would_alone():
    made = rollout()
    own = made["group"] == 7
    plain = weights(**made, config=VGPOConfig())
    alone = weights(**{key: x[own] for key, x in made.items()}, config=VGPOConfig())
    assert near(alone, plain.token[own], plain.answer[own])


def test_a_batch_is_that_of_all_processes(monkeypatch):
    made, config = rollout(), VGPOConfig(preset="paper-code")
    whole = weights(**made, config=config)
    own = made["group"] >= 7
    meeting, said, found = threading.Barrier(2), {}, {}

    def gathered(rows):
        said[threading.get_ident()] = rows
        meeting.wait(10)
        both = torch.cat(list(said.values()))
        meeting.wait(10)
        return both

    def process(rank, rows):
        found[rank] = weights(**{key: x[rows] for key, x in made.items()}, config=config)

    monkeypatch.setattr(vgpo.distributed, "gather_rows", gathered)
    threads = [threading.Thread(target=process, args=part) for part in ((0, own), (1, ~own))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert near(found[0], whole.token[own], whole.answer[own])
    assert near(found[1], whole.token[~own], whole.answer[~own])


def test_a_process_without_rows_is_no_special_case():
    nothing = {key: x[:0] for key, x in rollout().items()}
    for preset in PRESETS:
        assert weights(**nothing, config=VGPOConfig(preset=preset)).answer.shape == (0,)
    assert focus(torch.zeros(0, 3, 4), torch.zeros(0, 4)).shape == (0, 3)


def test_five_tokens_by_hand():
    made = {
        "focus": torch.tensor([[0.1, 0.5, 0.3, 0.2, 0.4]]),
        "mask": torch.ones(1, 5, dtype=torch.bool), "group": torch.zeros(1, dtype=torch.int64),
        "sees": torch.ones(1, dtype=torch.bool),
    }  # fmt: skip
    # w = 0, 1, .5, .25, .75; the tail is the last three, its top max(1, floor(.6)) = 1 the last: .75 * (1 + .3 * 1)
    v = [0, 1, 0.5, 0.25, 0.975]
    found = weights(**made, config=VGPOConfig())
    assert found.focus[0].tolist() == pytest.approx(v, abs=1e-6)
    assert found.token[0].tolist() == pytest.approx([1 + x - sum(v) / 5 for x in v], abs=1e-6)
    assert found.answer.tolist() == [1.0]
    statistics = {key: value.item() for key, value in found.statistics.items()}
    assert statistics["gated"] == pytest.approx(0.2) and statistics["focus"] == pytest.approx(sum(v) / 5)
    assert statistics["focus_late_over_early"] == pytest.approx(((0.25 + 0.75) / 2) / (1.5 / 3))
    assert statistics["focus_top_late"] == pytest.approx(0.5)  # the top two are tokens 1 and 4


def test_two_answers_of_one_group_by_hand():
    made = {
        "focus": torch.tensor([[0.0, 1.0, 1.0, 1.0], [0.0, 0.0, 0.0, 1.0]]),
        "mask": torch.ones(2, 4, dtype=torch.bool), "group": torch.zeros(2, dtype=torch.int64),
        "sees": torch.ones(2, dtype=torch.bool),
    }  # fmt: skip
    bare = VGPOConfig(compensation=False)  # phi = 3/4 and 1/4, stretched 1 and 0: alpha 1.5 and max(.5, .9)
    assert weights(**made, config=bare).answer.tolist() == pytest.approx([1.5 / 1.2, 0.9 / 1.2])
    assert weights(**made, config=replace(bare, mean_one=False)).answer.tolist() == pytest.approx([1.5, 0.9])


def test_default_weights_have_mean_one_over_every_answer_and_every_group():
    made = rollout()
    found = weights(**made, config=VGPOConfig())
    for i, row in enumerate(made["mask"]):
        assert not row.any() or found.token[i][row].mean().item() == pytest.approx(1, abs=1e-6)
    for number in (2, 5, 7):
        members = (made["group"] == number) & made["mask"].any(1)
        assert found.answer[members].mean().item() == pytest.approx(1, abs=1e-6)
    released = weights(**made, config=VGPOConfig(preset="paper-code"))
    assert released.answer[made["sees"]].mean() > 1.02  # the floor lifts it


def test_a_long_answer_is_not_favoured_for_its_length():
    pattern = torch.tensor([0.2, 1.0, 0.6, 0.0])
    values = torch.zeros(2, 16)
    values[0, :4], values[1] = pattern, pattern.repeat(4)
    made = {
        "focus": values, "mask": torch.arange(16) < torch.tensor([4, 16])[:, None],
        "group": torch.zeros(2, dtype=torch.int64), "sees": torch.ones(2, dtype=torch.bool),
    }  # fmt: skip
    bare = VGPOConfig(compensation=False)
    alike = weights(**made, config=bare).answer
    by_sum = weights(**made, config=replace(bare, accumulate="sum")).answer
    assert alike.tolist() == pytest.approx([1, 1], abs=1e-3) and by_sum[1] > 1.2 * by_sum[0]


def test_answers_without_a_picture_or_without_tokens_weigh_one():
    made = rollout()
    found = weights(**made, config=VGPOConfig())
    assert found.token[5].tolist() == [1.0] * 5 + [0.0] * 7 and found.answer[5] == found.answer[8] == 1
    assert not found.token[8].any() and not found.focus[5].any()
    blind = weights(**made | {"sees": torch.zeros(12, dtype=torch.bool)}, config=VGPOConfig(preset="paper-code"))
    assert torch.equal(blind.token, made["mask"].float()) and torch.equal(blind.answer, torch.ones(12))
    assert blind.statistics == {}


def test_single_tokens_and_even_focus_weigh_one():
    made = {
        "focus": torch.tensor([[0.7, 0.0, 0.0], [0.3, 0.3, 0.3]]),
        "mask": torch.tensor([[True, False, False], [True, True, True]]),
        "group": torch.tensor([0, 1]), "sees": torch.ones(2, dtype=torch.bool),
    }  # fmt: skip
    for preset in PRESETS:
        found = weights(**made, config=VGPOConfig(preset=preset, compensation=False))
        assert near(found, made["mask"].float(), torch.ones(2))


def test_advantages_are_multiplied_by_both_weights():
    found = weights(**rollout(), config=VGPOConfig())
    advantage = torch.linspace(-1, 1, 12)[:, None].expand(12, 12)
    applied = found.applied(advantage)
    assert applied[2, 3].item() == pytest.approx((advantage[2, 3] * found.answer[2] * found.token[2, 3]).item())


def test_focus_is_the_cosine_with_the_own_prototype():
    draw = torch.Generator().manual_seed(0)
    hidden, prototype = torch.randn(3, 4, 8, generator=draw), torch.randn(3, 8, generator=draw)
    expected = torch.nn.functional.cosine_similarity(hidden, prototype[:, None], dim=-1)
    assert torch.allclose(focus(hidden, prototype), expected, atol=1e-6)
    assert torch.allclose(focus(7 * hidden, 0.1 * prototype), expected, atol=1e-6)
    halved = focus(hidden.bfloat16(), prototype.bfloat16())
    assert halved.dtype == torch.float32 and torch.allclose(halved, expected, atol=0.02)
    hidden[1], prototype[2] = 0, 0
    assert not focus(hidden, prototype)[1:].any()


def test_weights_carry_no_gradient():
    hidden = torch.randn(2, 3, 4, generator=torch.Generator().manual_seed(0)).requires_grad_()
    mask, group = torch.ones(2, 3, dtype=torch.bool), torch.zeros(2, dtype=torch.int64)
    found = weights(focus(hidden, hidden[:, 0]), mask, group, mask[:, 0], VGPOConfig())
    assert not found.token.requires_grad and not found.answer.requires_grad


def test_bad_settings_are_named():
    for key, value, said in (
        ("gamma", 1.5, "vgpo.gamma=1.5 is a share"),
        ("beta", -0.1, "vgpo.beta=-0.1 would weaken"),
        ("token_floor", 1.2, "token_floor=1.2"),
        ("accumulate", "max", "vgpo.accumulate='max' is unknown"),
        ("preset", "paper", "vgpo.preset='paper' is unknown"),
    ):
        with pytest.raises(InputError, match=said):
            VGPOConfig(**{key: value})
