"""Facts about vl/causal_lm.py, with models of random weights made here."""

import os

import numpy as np
import pytest
import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from core.errors import InputError, MissingFileError
from vl.causal_lm import TransformersGenerator, _GumbelNoise
from vl.generator import Failure, GeneratorConfig, load_generator

WORDS = ("find", "the", "red", "chair", "bed", "left", "right", "of", "is", "a", "near", "next", "to", "it", "there")
PROMPTS = ["the red chair", "a bed", "find the chair left of the bed", "the bed is near the chair"]
TEMPLATE = (
    "{% for m in messages %}{{ m['role'] }} : {{ m['content'] }} {% endfor %}"
    "{% if add_generation_prompt %}it {% endif %}"
)


def save_causal_lm(folder, template=None, seed=0, **options):
    """A tiny Llama whose vocabulary is WORDS."""
    vocabulary = {word: k for k, word in enumerate(["<pad>", "</s>", "<unk>", "system", "user", ":", *WORDS])}
    backend = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    backend.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=backend, pad_token="<pad>", eos_token="</s>", unk_token="<unk>", padding_side="right"
    )
    tokenizer.chat_template = template
    sizes = {"hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 1, "num_attention_heads": 2}
    ids = {"pad_token_id": 0, "eos_token_id": 1, "bos_token_id": None}
    torch.manual_seed(seed)
    model = LlamaForCausalLM(
        LlamaConfig(vocab_size=len(vocabulary), max_position_embeddings=64, **{**sizes, **ids, **options})
    )
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return model.eval(), tokenizer


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("lm")
    save_causal_lm(path)
    return path


def slow_greedy(model, tokenizer, prompt, max_tokens):
    """The likeliest token at a time, no batch, no cache; None where no end comes."""
    ids = tokenizer(prompt)["input_ids"]
    said = []
    for _ in range(max_tokens):
        with torch.no_grad():
            token = int(model(torch.tensor([ids + said])).logits[0, -1].argmax())
        if token == 1:
            return tokenizer.decode(said, skip_special_tokens=True).strip()
        said.append(token)
    return None


def test_greedy_answers_are_those_of_one_prompt_at_a_time(tmp_path):
    ended = 0
    for seed in range(6):
        model, tokenizer = save_causal_lm(tmp_path / str(seed), seed=seed, initializer_range=0.5)
        generator = TransformersGenerator(tmp_path / str(seed), batch_size=3)
        for prompt, answer in zip(PROMPTS, generator.generate(PROMPTS, max_tokens=12)):
            expected = slow_greedy(model, tokenizer, prompt, 12)
            if expected is None:
                assert isinstance(answer, Failure) and answer.cause == "truncated"
            else:
                assert answer == expected or (isinstance(answer, Failure) and not expected)
                ended += 1
    assert 0 < ended < 6 * len(PROMPTS)


def test_a_draw_depends_on_prompt_and_seed_and_not_on_the_batch(folder):
    one, many = TransformersGenerator(folder, batch_size=1), TransformersGenerator(folder, batch_size=8)
    ask = {"max_tokens": 40, "temperature": 1.0}
    answers = many.generate(PROMPTS, **ask, seed=5)
    assert one.generate(PROMPTS[::-1], **ask, seed=5) == answers[::-1]
    assert many.generate(PROMPTS, **ask, seed=6) != answers
    assert len(set(map(str, answers))) == len(PROMPTS)


def test_draws_follow_the_distribution_of_the_model():
    scores = torch.tensor([0.0, 1.0, -2.0, 3.0, 2.5])
    drawn = _GumbelNoise(2.0, list(range(4000)))(torch.zeros(0), scores.expand(4000, -1)).argmax(dim=1)
    share = torch.bincount(drawn, minlength=5) / 4000
    assert (share - torch.softmax(scores / 2.0, dim=0)).abs().max() < 4 * (0.25 / 4000) ** 0.5


def test_answers_and_failures_add_up_and_tokens_are_counted(folder):
    generator = TransformersGenerator(folder)
    prompts = [*PROMPTS, "the " * 60, "chair"]
    answers = generator.generate(prompts, max_tokens=8, temperature=1.0)
    failures = [answer for answer in answers if isinstance(answer, Failure)]
    assert answers[4] == Failure("prompt too long", "60 tokens and up to 8 of the answer, the model reads 64")
    assert generator.counts.calls == 6 and generator.counts.failures.total() == len(failures)
    assert generator.counts.prompt_tokens == sum(len(p.split()) for p in prompts) - 60
    assert 0 < generator.counts.answer_tokens <= 5 * 8
    assert generator.generate([], max_tokens=8) == []


def test_chat_templates_are_used_where_there_is_one(folder, tmp_path):
    model, tokenizer = save_causal_lm(tmp_path / "chat", TEMPLATE)
    chat = TransformersGenerator(tmp_path / "chat")
    assert chat._worded("a bed", "find it") == "system : find it user : a bed it "
    assert TransformersGenerator(folder)._worded("a bed", "find it") == "find it\n\na bed"
    plain = TransformersGenerator(folder).generate(["system : find it user : a bed it "], max_tokens=40, temperature=1)
    assert chat.generate(["a bed"], system="find it", max_tokens=40, temperature=1) == plain


def test_a_template_without_a_system_role_gets_it_with_the_prompt(tmp_path):
    refusing = "{% if messages[0]['role'] == 'system' %}{{ raise_exception('no system role') }}{% endif %}" + TEMPLATE
    save_causal_lm(tmp_path, refusing)
    assert TransformersGenerator(tmp_path)._worded("a bed", "find it") == "user : find it\n\na bed it "


def test_folders_that_hold_no_language_model_are_named(tmp_path):
    with pytest.raises(MissingFileError, match="language model folder not found"):
        TransformersGenerator(tmp_path / "nothing")
    (tmp_path / "config.json").write_text('{"model_type": "clip"}')
    with pytest.raises(InputError, match="does not load as a causal language model"):
        TransformersGenerator(tmp_path)


def test_requests_that_fit_no_model_are_refused(folder):
    generator = TransformersGenerator(folder)
    with pytest.raises(InputError, match="takes a list of prompts"):
        generator.generate("the bed", max_tokens=3)
    with pytest.raises(InputError, match="an empty prompt"):
        generator.generate(["the bed", " "], max_tokens=3)
    with pytest.raises(InputError, match="max_tokens=0"):
        generator.generate(["the bed"], max_tokens=0)
    picture = np.zeros((2, 2, 3), dtype=np.uint8)
    with pytest.raises(InputError, match="reads no pictures"):
        generator.generate(["the bed"], max_tokens=3, pictures=[[picture]])
    with pytest.raises(InputError, match="2 lists of pictures"):
        generator.generate(["the bed"], max_tokens=3, pictures=[[picture], []])
    with pytest.raises(InputError, match="expected uint8"):
        generator.generate(["the bed"], max_tokens=3, pictures=[[picture.astype(float)]])


def test_another_weight_is_another_model(tmp_path):
    save_causal_lm(tmp_path / "a", seed=0)
    save_causal_lm(tmp_path / "b", seed=1)
    os.rename(tmp_path / "a", tmp_path / "moved")
    save_causal_lm(tmp_path / "a", seed=0)
    a, b, moved = (TransformersGenerator(tmp_path / name).identity for name in ("a", "b", "moved"))
    assert a == moved != b and str(tmp_path) not in a


def test_a_configuration_names_a_folder(folder):
    assert isinstance(load_generator(GeneratorConfig(model=str(folder))), TransformersGenerator)
