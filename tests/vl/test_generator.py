"""Facts about vl/generator.py: answers kept on disk, and generators by configuration."""

import json
import multiprocessing
import os
import re
import signal
import sqlite3
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from core.errors import InputError
from tests.vl.chat_server import completion, serving
from vl.generator import (
    CACHE_FILE,
    CachedGenerator,
    Failure,
    GeneratorConfig,
    GeneratorCounts,
    finished,
    load_generator,
)

PROMPTS = ["the red chair", "a bed", "find the chair left of the bed", "the bed is near the chair"]
EMPTY = "the model answered without a word"


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


def test_reasoning_is_no_part_of_an_answer():
    assert finished("<think>\nwell\n</think>\n\n the bed ") == "the bed"
    assert finished("the bed <think>") == "the bed <think>"
    assert finished("<think>well").cause == finished("<think>" * 100_000).cause == "truncated"
    assert finished("<think>well</think> ") == finished(" \n") == Failure("empty", EMPTY)


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


def test_the_contract_loads_without_torch_so_that_workers_stay_small():
    script = "import sys, vl.generator, vl.endpoint; sys.exit('torch' in sys.modules or 'transformers' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", script], cwd=Path(__file__).resolve().parents[2]).returncode == 0


def test_a_configuration_names_an_endpoint_and_its_cache(tmp_path):
    with serving(lambda request, number: completion(request.body["model"])) as chat:
        config = GeneratorConfig(model=f"{chat.url}/v1#org/model-7b", cache=str(tmp_path), batch_size=2)
        remote = load_generator(config)
        assert isinstance(remote, CachedGenerator) and remote.chunk == 8
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
    for wrong in (
        {"timeout_s": 0},
        {"retries": -1},
        {"max_tokens": 0},
        {"batch_size": 0},
        {"temperature": 3},
        {"price_in": -1.0},
    ):
        with pytest.raises(InputError, match=next(iter(wrong))):
            GeneratorConfig(**wrong)
