import pytest
import torch
from torch import Tensor

from agents.reasoning.generation import draw, generate, row_noise, still_asked
from agents.reasoning.small_vlm import BUILDERS
from agents.reasoning.types import Prompts, Responses
from agents.reasoning.vlm import VLM
from core.errors import InputError
from tests.agents.reasoning.tiny_vlm import tiny_prompts, tiny_vlm


@pytest.fixture(scope="module")
def vlm() -> VLM:
    return tiny_vlm()


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def slow_answer(vlm: VLM, prompt: Prompts, noise: Tensor, temperature: float) -> list[int]:
    """One row, everything computed anew for each token."""
    ids: list[int] = []
    for uniform in noise.tolist():
        so_far = torch.tensor([ids], dtype=torch.int64).view(1, -1)
        given = Responses(so_far, torch.ones_like(so_far, dtype=torch.bool), torch.zeros(1, dtype=torch.bool), ("",))
        logits = vlm.model(**vlm.forward_inputs(prompt, given)).logits[0, -1].detach()
        logits[list(vlm.vision_ids)] = -torch.inf
        if temperature == 0:
            ids.append(int(logits.argmax()))
        else:
            probability = (logits / temperature).softmax(0).tolist()
            total, token = 0.0, 0
            while total + probability[token] <= uniform:
                total += probability[token]
                token += 1
            ids.append(token)
        if ids[-1] in vlm.eos_ids:
            break
    return ids


@pytest.mark.parametrize(("family", "temperature"), [("llava", 0.0), *((family, 1.0) for family in BUILDERS)])
def test_answers_equal_those_of_a_loop_that_computes_everything_anew(family: str, temperature: float):
    vlm = tiny_vlm(family)
    prompts = tiny_prompts(vlm)
    answers = generate(vlm, prompts, samples=2, max_new_tokens=7, temperature=temperature, generator=seeded())
    seed = int(torch.randint(2**62, (), generator=seeded()))
    noise = row_noise(seed, range(2 * len(prompts)), 7)
    for row in range(2 * len(prompts)):
        wanted = slow_answer(vlm, prompts.rows([row // 2]), noise[row], temperature)
        assert answers.ids[row][answers.mask[row]].tolist() == wanted
        assert answers.ended[row].item() == (wanted[-1] in vlm.eos_ids)
    assert (answers.ids[~answers.mask] == vlm.pad_id).all() and answers.mask.any(0).all()


def test_a_prompt_is_answered_alike_alone_and_among_others(vlm: VLM):
    prompts = tiny_prompts(vlm)
    together = generate(vlm, prompts, samples=4, max_new_tokens=40, generator=seeded(5))
    assert together.ended.any() and not together.ended.all(), "rows leave at different times"
    for i in range(len(prompts)):
        alone = generate(vlm, prompts.rows([i]), samples=4, max_new_tokens=40, generator=seeded(5), first_prompt=i)
        assert alone.texts == together.texts[4 * i : 4 * i + 4]


def test_pictures_and_prompts_are_read_once_for_all_answers(vlm: VLM):
    seen: list[int] = []
    tower = vlm.model.model.vision_tower
    hook = tower.register_forward_hook(lambda module, given, made: seen.append(len(given[0])))
    lengths: list[int] = []
    norm = vlm.final_norm().register_forward_hook(lambda module, given, made: lengths.append(made.shape[0]))
    prompts = tiny_prompts(vlm)
    generate(vlm, prompts, samples=5, max_new_tokens=3, generator=seeded())
    hook.remove(), norm.remove()
    assert seen == [sum(len(each["pixel_values"]) for each in prompts.pictures if each)]
    assert lengths[0] == len(prompts)


def test_rows_left_are_as_many_for_each_prompt_that_has_one_alive():
    alive = torch.tensor([[0, 1, 0, 1], [0, 0, 0, 0], [1, 0, 0, 0]]).bool().flatten()
    rows, times = still_asked(alive, 4)
    assert times == 2 and rows.tolist() == [1, 3, 8, 9]


def test_ids_of_pictures_are_never_drawn(vlm: VLM):
    answers = generate(vlm, tiny_prompts(vlm), samples=40, max_new_tokens=8, temperature=1e4, generator=seeded())
    drawn = answers.ids[answers.mask]
    assert len(drawn) > 300 and not torch.isin(drawn, torch.tensor(vlm.vision_ids)).any()
    assert len(drawn.unique()) == len(vlm.tokenizer) - len(vlm.vision_ids), "at this temperature all others come"


def test_a_draw_is_where_the_number_falls_in_the_cumulated_probabilities():
    logits = torch.tensor([0.5, 0.0, 0.3, 0.2]).log().expand(6, 4)
    uniform = torch.tensor([0.0, 0.49, 0.51, 0.79, 0.81, 1 - 2**-24])
    assert draw(logits, uniform, temperature=1.0, top_p=1.0).tolist() == [0, 0, 2, 2, 3, 3]
    assert draw(logits, uniform, temperature=0.0, top_p=1.0).tolist() == [0] * 6


def test_top_p_draws_from_the_fewest_tokens_that_reach_it():
    logits = torch.tensor([0.2, 0.5, 0.3]).log().expand(3, 3)
    uniform = torch.tensor([0.1, 0.62, 0.99])
    assert draw(logits, uniform, temperature=1.0, top_p=0.45).tolist() == [1, 1, 1]
    assert draw(logits, uniform, temperature=1.0, top_p=0.7).tolist() == [1, 1, 2]  # 5/8 and 3/8
    assert draw(logits, uniform, temperature=1.0, top_p=0.9).tolist() == [0, 1, 2]


def test_a_token_of_no_probability_behind_the_last_is_not_drawn_however_near_one_the_number_is():
    logits = torch.zeros(1, 1000)
    logits[0, 990:] = -torch.inf
    assert draw(logits, torch.tensor([1 - 2**-24]), temperature=1.0, top_p=1.0).item() == 989


def test_noise_of_a_row_does_not_depend_on_the_other_rows_or_on_how_many_steps_there_are():
    all_rows = row_noise(7, range(5), 9)
    assert torch.equal(row_noise(7, range(3, 5), 4), all_rows[3:, :4])
    assert len(all_rows.unique()) == 45 and not torch.equal(row_noise(8, range(5), 9), all_rows)
    many = row_noise(1, range(50), 1000)
    assert abs(many.mean() - 0.5) < 0.005 and many.min() >= 0 and many.max() < 1


def test_the_model_is_given_back_in_its_own_mode_and_needs_no_gradient(vlm: VLM):
    vlm.model.train()
    vlm.model.model.vision_tower.eval()
    vlm.model.gradient_checkpointing_enable()  # in training mode it would switch the cache off
    try:
        trained = generate(vlm, tiny_prompts(vlm), max_new_tokens=6, generator=seeded())
        assert vlm.model.training and not vlm.model.model.vision_tower.training
    finally:
        vlm.model.gradient_checkpointing_disable()
        vlm.model.eval()
    assert trained.texts == generate(vlm, tiny_prompts(vlm), max_new_tokens=6, generator=seeded()).texts


def test_another_engine_stands_behind_the_same_call(vlm: VLM):
    prompts, asked = tiny_prompts(vlm), {}

    def engine(model, given, **arguments):
        asked.update(arguments)
        rows = len(given) * arguments["samples"] if arguments["temperature"] else 1
        ids = torch.ones(rows, 1, dtype=torch.int64)
        return Responses(ids, ids.bool(), ids[:, 0].bool(), ("",) * rows)

    answers = generate(vlm, prompts, samples=2, max_new_tokens=4, top_p=0.9, generator=seeded(), engine=engine)
    assert len(answers.texts) == 2 * len(prompts) and asked["max_new_tokens"] == 4 and asked["top_p"] == 0.9
    with pytest.raises(InputError, match=f"1 answers to {len(prompts)} prompts"):
        generate(vlm, prompts, samples=2, max_new_tokens=4, temperature=0.0, generator=seeded(), engine=engine)


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"max_new_tokens": 125}, "reads 128"),
        ({"max_new_tokens": 0}, "max_new_tokens=0"),
        ({"samples": 0}, "samples=0"),
        ({"temperature": -1.0}, "temperature=-1.0"),
        ({"top_p": 0.0}, "top_p=0.0"),
    ],
)
def test_what_cannot_be_asked_is_an_error_that_names_it(vlm: VLM, changed: dict, said: str):
    with pytest.raises(InputError, match=said):
        generate(vlm, tiny_prompts(vlm), generator=seeded(), **({"max_new_tokens": 4} | changed))
