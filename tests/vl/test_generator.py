"""Facts about vl/generator.py, with causal LMs of random weights made here."""

import json
import multiprocessing
import os
import re
import signal
import sqlite3
import time

import numpy as np
import pytest
import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from core.errors import InputError, MissingFileError
from tests.vl.chat_server import completion, serving
from vl.generator import (
    CACHE_FILE,
    CachedGenerator,
    Failure,
    GeneratorConfig,
    GeneratorCounts,
    TransformersGenerator,
    finished,
    load_generator,
)

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


class Scripted:
    """A generator that repeats its prompt with the number of times it was asked."""

    def __init__(self, identity="scripted", fails=()):
        self.identity, self.fails = identity, set(fails)
        self.counts = GeneratorCounts()
        self.asked = []

    def generate(self, prompts, *, system="", max_tokens, temperature=0.0, seed=0, pictures=None):
        self.asked.append(list(prompts))
        self.counts.calls += len(prompts)
        answers = [Failure("timeout", "slow") if p in self.fails else f"{p} of {self.identity}" for p in prompts]
        self.counts.failures.update(a.cause for a in answers if isinstance(a, Failure))
        return answers


# --- models of this process ---


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


def test_draws_follow_the_distribution_of_the_model(tmp_path):
    model, tokenizer = save_causal_lm(tmp_path, initializer_range=1.0)
    with torch.no_grad():
        first = torch.softmax(model(torch.tensor([tokenizer("the")["input_ids"]])).logits[0, -1] / 2.0, dim=0)
    generator = TransformersGenerator(tmp_path, batch_size=200)
    end = sum(
        generator.generate(["the"], max_tokens=1, temperature=2.0, seed=seed)[0] == Failure("empty", EMPTY)
        for seed in range(300)
    )
    assert abs(end / 300 - float(first[1])) < 4 * (0.25 / 300) ** 0.5


EMPTY = "the model answered without a word"


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


def test_reasoning_is_no_part_of_an_answer():
    assert finished("<think>\nwell\n</think>\n\n the bed ") == "the bed"
    assert finished("the bed <think>") == "the bed <think>"
    assert finished("<think>well").cause == "truncated"
    assert finished("<think>well</think> ") == finished(" \n") == Failure("empty", EMPTY)


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


# --- answers on disk ---


def test_a_second_run_asks_nothing(tmp_path):
    first = CachedGenerator(Scripted(), tmp_path / "deep" / "cache", chunk=3)
    answers = first.generate(PROMPTS, max_tokens=9)
    assert answers == [f"{p} of scripted" for p in PROMPTS]
    assert first.generator.asked == [PROMPTS[:3], PROMPTS[3:]]
    again = CachedGenerator(Scripted(), tmp_path / "deep" / "cache")
    assert again.generate(PROMPTS[::-1], max_tokens=9) == answers[::-1]
    assert not again.generator.asked and (again.counts.hits, again.counts.calls) == (4, 0)


@pytest.mark.parametrize(
    "change",
    [
        {"system": "be brief"},
        {"max_tokens": 8},
        {"temperature": 0.5},
        {"seed": 1},
        {"pictures": [[np.zeros((2, 3, 3), dtype=np.uint8)]]},
        {"pictures": [[np.zeros((3, 2, 3), dtype=np.uint8)]]},
        {"identity": "another"},
    ],
)
def test_everything_an_answer_depends_on_is_in_its_key(change, tmp_path):
    base = {"system": "", "max_tokens": 9, "temperature": 1.0, "seed": 0, "pictures": [[np.ones((2, 3, 3), np.uint8)]]}
    CachedGenerator(Scripted(), tmp_path).generate(["a"], **base)
    request = {**base, **change}
    other = CachedGenerator(Scripted(request.pop("identity", "scripted")), tmp_path)
    other.generate(["a"], **request)
    assert other.counts.calls == 1 and other.counts.hits == 0


def test_the_seed_does_not_matter_where_nothing_is_drawn(tmp_path):
    cached = CachedGenerator(Scripted(), tmp_path)
    cached.generate(["a"], max_tokens=9, seed=0)
    cached.generate(["a"], max_tokens=9, seed=1)
    assert (cached.counts.calls, cached.counts.hits) == (1, 1)


def test_failures_are_asked_again_and_equal_prompts_once(tmp_path):
    cached = CachedGenerator(Scripted(fails=["b"]), tmp_path)
    answers = cached.generate(["a", "b", "a", "b"], max_tokens=9)
    assert answers == ["a of scripted", Failure("timeout", "slow")] * 2
    assert cached.generator.asked == [["a", "b"]]
    assert (cached.counts.calls, cached.counts.hits, cached.counts.failures) == (2, 1, {"timeout": 2})
    cached.generator.fails.clear()
    assert cached.generate(["b", "a"], max_tokens=9) == ["b of scripted", "a of scripted"]
    assert cached.generator.asked[1:] == [["b"]]


def test_another_weight_is_another_model(tmp_path):
    save_causal_lm(tmp_path / "a", seed=0)
    save_causal_lm(tmp_path / "b", seed=1)
    os.rename(tmp_path / "a", tmp_path / "moved")
    save_causal_lm(tmp_path / "a", seed=0)
    a, b, moved = (TransformersGenerator(tmp_path / name).identity for name in ("a", "b", "moved"))
    assert a == moved != b and str(tmp_path) not in a


class Slow(Scripted):
    def generate(self, prompts, **request):
        time.sleep(0.02)
        return super().generate(prompts, **request)


def fill(folder, prompts):
    CachedGenerator(Slow(), folder, chunk=2).generate(prompts, max_tokens=9)


def stored(folder):
    with sqlite3.connect(folder / CACHE_FILE) as database:
        return {answer for (answer,) in database.execute("SELECT answer FROM answers")}


def test_processes_share_a_folder_and_one_that_is_killed_leaves_it_whole(tmp_path):
    context = multiprocessing.get_context("fork")
    prompts = [str(k) for k in range(60)]
    CachedGenerator(Scripted(), tmp_path)
    killed = context.Process(target=fill, args=(tmp_path, [f"k{p}" for p in prompts * 9]))
    killed.start()
    while not stored(tmp_path):
        time.sleep(0.01)
    others = [context.Process(target=fill, args=(tmp_path, prompts[part::3] + prompts[:9])) for part in range(3)]
    for process in others:
        process.start()
    os.kill(killed.pid, signal.SIGKILL)
    for process in [killed, *others]:
        process.join(60)
    assert [process.exitcode for process in others] == [0, 0, 0]
    assert {f"{p} of scripted" for p in prompts} <= stored(tmp_path)
    cached = CachedGenerator(Scripted(), tmp_path)
    cached.generate(prompts, max_tokens=9)
    assert cached.counts.hits == 60


def test_an_interruption_keeps_the_chunks_before_it(tmp_path):
    class Interrupted(Scripted):
        def generate(self, prompts, **request):
            if len(self.asked) == 2:
                raise KeyboardInterrupt
            return super().generate(prompts, **request)

    with pytest.raises(KeyboardInterrupt):
        CachedGenerator(Interrupted(), tmp_path, chunk=2).generate([str(k) for k in range(9)], max_tokens=9)
    assert stored(tmp_path) == {f"{k} of scripted" for k in range(4)}


def test_a_file_that_is_no_cache_is_named(tmp_path):
    (tmp_path / CACHE_FILE).write_bytes(b"no database at all" * 100)
    with pytest.raises(InputError, match=re.escape(CACHE_FILE) + ".*remove it"):
        CachedGenerator(Scripted(), tmp_path)
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="no folder for cached answers"):
        CachedGenerator(Scripted(), tmp_path / "file")


def test_a_cache_that_another_process_holds_too_long_is_an_error_and_not_a_hang(tmp_path):
    cached = CachedGenerator(Scripted(), tmp_path, wait_s=0.05)
    holder = sqlite3.connect(tmp_path / CACHE_FILE, isolation_level=None)
    holder.execute("BEGIN EXCLUSIVE")
    with pytest.raises(InputError, match="locked"):
        cached.generate(["a"], max_tokens=9)
    holder.execute("ROLLBACK")
    assert cached.generate(["a"], max_tokens=9) == ["a of scripted"]


# --- by configuration ---


def test_a_configuration_names_a_folder_or_an_endpoint(folder, tmp_path):
    local = load_generator(GeneratorConfig(model=str(folder), cache=str(tmp_path), batch_size=2))
    assert isinstance(local, CachedGenerator) and isinstance(local.generator, TransformersGenerator)
    assert isinstance(load_generator(GeneratorConfig(model=str(folder))), TransformersGenerator)
    with serving(lambda request, number: completion(request.body["model"])) as chat:
        remote = load_generator(GeneratorConfig(model=f"{chat.url}/v1#org/model-7b"))
        assert remote.generate(["a"], max_tokens=1) == ["org/model-7b"]
        assert remote.identity == f"{chat.url}/v1/chat/completions#org/model-7b"
        assert json.dumps(remote.counts.summary())


def test_configurations_that_cannot_work_are_refused():
    with pytest.raises(InputError, match="no language model is named"):
        load_generator(GeneratorConfig())
    with pytest.raises(InputError, match="name the model"):
        load_generator(GeneratorConfig(model="http://127.0.0.1:9/v1"))
    with pytest.raises(InputError, match="not set or empty"):
        load_generator(GeneratorConfig(model="http://127.0.0.1:9/v1#m", api_key_env="NO_SUCH_VARIABLE_HERE"))
    with pytest.raises(InputError, match="not a key") as caught:
        GeneratorConfig(api_key_env="sk-verySecret")
    assert "verySecret" not in str(caught.value)
    for wrong in ({"timeout_s": 0}, {"retries": -1}, {"max_tokens": 0}, {"batch_size": 0}, {"temperature": 3}):
        with pytest.raises(InputError, match=next(iter(wrong))):
            GeneratorConfig(**wrong)
