"""Text from a language model: one of transformers, or any endpoint that speaks OpenAI's chat completions.

One contract for all uses (rephrased sentences, rewards, subgoals): prompts go in, and for each prompt comes its answer
or a `Failure` that names its cause. Nothing is lost and nothing is an empty string; what failed is counted. Answers
are kept in a cache on disk, so that a killed run asks again only what it has not stored yet.
"""

import contextlib
import hashlib
import json
import math
import re
import sqlite3
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Protocol

from jaxtyping import UInt8
from numpy import ndarray

from core.errors import InputError
from core.progress import track

Picture = UInt8[ndarray, "H W 3"]
Pictures = Sequence[Sequence[Picture]]
"""The pictures that go with each prompt, in order; several are announced by `picture_label`."""

CAUSES: Final = (
    "timeout",  # no whole answer within the time limit
    "connection",  # refused, reset, no such host
    "rate limit",  # status 429 to the last try
    "server error",  # status 5xx to the last try
    "refused",  # any other status than 200: a wrong key, an unknown model; or a prompt that a local model cannot take
    "filtered",  # the endpoint's filter stopped the answer
    "redirect",  # the endpoint points elsewhere; not followed, since the key would go along
    "garbage",  # no JSON, or JSON of another shape
    "cut off",  # the connection ended within the body
    "too large",  # a body over the limit
    "empty",  # an answer without words
    "truncated",  # the answer reached max_tokens
    "prompt too long",  # prompt and answer exceed what the model reads
    "not asked",  # the endpoint failed too often in a row
)
CACHE_FILE: Final = "answers.sqlite"
_REASONING: Final = re.compile(r"\s*<think>.*?</think>", re.DOTALL)


@dataclass(frozen=True)
class Failure:
    """An answer that did not come."""

    cause: str  # one of CAUSES
    detail: str = ""  # for people; never holds a key


@dataclass
class GeneratorCounts:
    """What a generator has done since it was made."""

    calls: int = 0  # prompts put to the model, each once however often it was tried
    hits: int = 0  # prompts answered from the cache
    retries: int = 0  # tries after a first one
    failures: Counter[str] = field(default_factory=Counter)  # prompts without an answer, by cause
    prompt_tokens: int = 0  # where the model says them
    answer_tokens: int = 0
    pictures: int = 0  # that went with those calls
    picture_bytes: int = 0  # of them as sent or read, at each try
    seconds: float = 0.0  # wall time of the calls
    price_in: float = 0.0  # money per million prompt tokens; 0 = free or unknown
    price_out: float = 0.0  # the same of answer tokens

    @contextlib.contextmanager
    def timed(self) -> Iterator[None]:
        """Adds the wall time of the block to `seconds`."""
        start = time.monotonic()
        try:
            yield
        finally:
            self.seconds += time.monotonic() - start

    @property
    def money(self) -> float:
        """What the counted tokens cost; tries that failed are in it where the model said their tokens."""
        return (self.prompt_tokens * self.price_in + self.answer_tokens * self.price_out) / 1e6

    def summary(self) -> dict[str, Any]:
        """Plain numbers for result.json."""
        return {**vars(self), "failures": dict(sorted(self.failures.items())), "money": self.money}


class Generator(Protocol):
    """Prompts to answers."""

    @property
    def identity(self) -> str:
        """What is asked: model and place; equal identities may share cached answers. Holds no secret."""
        ...

    @property
    def counts(self) -> GeneratorCounts: ...

    def generate(
        self,
        prompts: Sequence[str],
        *,
        system: str = "",
        max_tokens: int,
        temperature: float = 0.0,
        seed: int = 0,
        pictures: Pictures | None = None,
    ) -> list[str | Failure]:
        """One answer or failure per prompt, in order; answers are stripped and not empty.

        Args:
            system: what the model is told before every prompt.
            max_tokens: an answer that is not over by then is a failure ("truncated"): half an answer may mean anything.
            temperature: 0 takes the likeliest token each time.
            seed: decides the draws at other temperatures; an answer depends on its prompt and this, not on the batch.
            pictures: for each prompt the pictures that go before it; None for none. Where a prompt has several, the
                words "Picture 0:", "Picture 1:" and so on go before each of them, so that the prompt can name them.

        Raises:
            InputError: something in the arguments fits no model, or not this one.
        """
        ...


def picture_label(number: int) -> str:
    """The words before a picture where a prompt has several, counted from 0."""
    return f"Picture {number}:"


@dataclass
class GeneratorConfig:
    """A language model, for jobs to embed."""

    model: str = ""  # empty = none; a folder, a hub id, or http(s)://host/v1#model-name of an endpoint
    api_key_env: str = ""  # name of the environment variable that holds the endpoint's key; empty = no key
    timeout_s: float = 60.0  # for one try, from connecting to the last byte
    retries: int = 4  # tries of an endpoint after the first
    max_tokens: int = 64  # longest answer
    temperature: float = 0.7  # 0 = always the likeliest word
    batch_size: int = 16  # prompts per forward pass, or requests at a time
    cache: str = ""  # folder of cached answers; empty = none
    price_in: float = 0.0  # money per million prompt tokens, to count what a run costs; 0 = free or unknown
    price_out: float = 0.0  # the same of answer tokens

    def __post_init__(self) -> None:
        if self.api_key_env and not re.fullmatch(r"[A-Za-z_]\w*", self.api_key_env):
            raise InputError(  # the value is not shown: it may be the key itself
                "api_key_env is the name of an environment variable, such as OPENAI_API_KEY, not a key"
            )
        if not self.timeout_s > 0:
            raise InputError(f"timeout_s={self.timeout_s}: give a positive number of seconds")
        if self.retries < 0:
            raise InputError(f"retries={self.retries}: give 0 or more")
        if self.max_tokens < 1 or self.batch_size < 1:
            raise InputError(f"max_tokens={self.max_tokens}, batch_size={self.batch_size}: give at least 1")
        if not 0 <= self.temperature <= 2:
            raise InputError(f"temperature={self.temperature}: give a number from 0 to 2")
        if not (0 <= self.price_in < math.inf and 0 <= self.price_out < math.inf):
            raise InputError(f"price_in={self.price_in}, price_out={self.price_out}: give money per million tokens")


def load_generator(cfg: GeneratorConfig, device: str = "cpu") -> Generator:
    """The generator that `cfg.model` names, with its cache where `cfg.cache` names a folder.

    A text that is no folder and does not look like a path is a hub id (the only case that may use the network beside
    an endpoint).

    Raises:
        InputError: no model is named, an endpoint without a model name or with its key missing, a model that does not
            load. MissingFileError: a path where no folder is.
    """
    if not cfg.model:
        raise InputError("no language model is named: give model=FOLDER, a hub id, or http://host:port/v1#model-name")
    generator: Generator
    if re.match(r"https?://", cfg.model):
        from vl.endpoint import EndpointGenerator

        url, _, name = cfg.model.partition("#")
        generator = EndpointGenerator(
            url,
            name,
            api_key_env=cfg.api_key_env,
            timeout_s=cfg.timeout_s,
            retries=cfg.retries,
            concurrency=cfg.batch_size,
        )
    else:
        from vl.image_text_lm import ImageTextGenerator, is_image_text_model

        if is_image_text_model(cfg.model):
            generator = ImageTextGenerator(cfg.model, device=device, batch_size=cfg.batch_size)
        else:
            from vl.causal_lm import TransformersGenerator

            generator = TransformersGenerator(cfg.model, device=device, batch_size=cfg.batch_size)
    generator.counts.price_in, generator.counts.price_out = cfg.price_in, cfg.price_out
    return CachedGenerator(generator, cfg.cache, chunk=4 * cfg.batch_size) if cfg.cache else generator


def check_request(prompts: Sequence[str], max_tokens: int, temperature: float, pictures: Pictures | None) -> None:
    """Raises InputError when the arguments of `generate` fit no model."""
    if isinstance(prompts, str):
        raise InputError(f"generate() takes a list of prompts, got the single text {prompts[:80]!r}; pass [text]")
    if any(not prompt.strip() for prompt in prompts):
        raise InputError("an empty prompt has no answer; give at least one word")
    if max_tokens < 1 or not 0 <= temperature <= 2:
        raise InputError(f"max_tokens={max_tokens}, temperature={temperature}: expected at least 1, and 0 to 2")
    if pictures is None:
        return
    if len(pictures) != len(prompts):
        raise InputError(f"{len(prompts)} prompts come with {len(pictures)} lists of pictures; give one list for each")
    for picture in (picture for group in pictures for picture in group):
        if str(picture.dtype) != "uint8" or picture.ndim != 3 or picture.shape[2] != 3 or 0 in picture.shape:
            raise InputError(f"a picture is {picture.dtype} {picture.shape}, expected uint8 (H, W, 3)")


def finished(text: str) -> str | Failure:
    """A whole answer as callers get it: without the model's reasoning, stripped, and not empty."""
    reasoning = _REASONING.match(text)
    answer = text[reasoning.end() :] if reasoning else text
    if answer.lstrip().startswith("<think>"):
        return Failure("truncated", "the answer ends within the model's reasoning; raise max_tokens")
    return answer.strip() or Failure("empty", "the model answered without a word")


# --- answers on disk ---


class CachedGenerator:
    """A generator that remembers its answers in `folder`/answers.sqlite.

    The key of an answer is a hash of all it depends on: the model's identity, system, prompt, pictures and sampling.
    Answers are stored chunk by chunk in one transaction each: an interruption or kill -9 loses at most the chunk in
    work, and several processes may share the folder. Failures are not stored. Equal prompts of a call are asked once.
    """

    def __init__(self, generator: Generator, folder: str | Path, *, chunk: int = 64, wait_s: float = 60.0) -> None:
        """`chunk`: prompts asked before answers are stored; `wait_s`: how long another process may hold the file.

        Raises:
            InputError: the file there is no cache, or a damaged one.
        """
        self.generator, self.chunk, self.wait_s = generator, chunk, wait_s
        self.file = Path(folder).expanduser() / CACHE_FILE
        try:
            self.file.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise InputError(f"no folder for cached answers at {self.file.parent} ({error.strerror})") from error
        with self._open() as database:
            database.execute("CREATE TABLE IF NOT EXISTS answers (key TEXT PRIMARY KEY, answer TEXT NOT NULL)")

    @property
    def identity(self) -> str:
        return self.generator.identity

    @property
    def counts(self) -> GeneratorCounts:
        """Those of the generator behind it, with the hits; repeated prompts of a call count as hits."""
        return self.generator.counts

    def generate(
        self,
        prompts: Sequence[str],
        *,
        system: str = "",
        max_tokens: int,
        temperature: float = 0.0,
        seed: int = 0,
        pictures: Pictures | None = None,
    ) -> list[str | Failure]:
        check_request(prompts, max_tokens, temperature, pictures)
        sampling = [system, max_tokens, float(temperature), seed if temperature else 0]
        shown: Pictures = pictures if pictures is not None else [()] * len(prompts)
        keys = [self._key([prompt, *sampling], group) for prompt, group in zip(prompts, shown)]
        answers: dict[str, str | Failure] = dict(self._read(list(dict.fromkeys(keys))))
        first = {key: i for i, key in reversed(list(enumerate(keys))) if key not in answers}
        missing = sorted(first.values())
        with track(len(missing), "language model") as progress:
            for start in range(0, len(missing), self.chunk):
                rows = missing[start : start + self.chunk]
                got = self.generator.generate(
                    [prompts[i] for i in rows],
                    system=system,
                    max_tokens=max_tokens,
                    temperature=temperature,
                    seed=seed,
                    pictures=None if pictures is None else [pictures[i] for i in rows],
                )
                self._write({keys[i]: answer for i, answer in zip(rows, got) if isinstance(answer, str)})
                answers.update({keys[i]: answer for i, answer in zip(rows, got)})
                progress.advance(len(rows), failed=self.counts.failures.total())
        for i in set(range(len(keys))) - set(missing):
            answer = answers[keys[i]]
            if isinstance(answer, str):
                self.counts.hits += 1
            else:  # asked once, under the first of equal prompts
                self.counts.failures[answer.cause] += 1
        return [answers[key] for key in keys]

    def _key(self, request: list[Any], pictures: Sequence[Picture]) -> str:
        digest = hashlib.sha256(json.dumps([self.identity, *request]).encode())
        for picture in pictures:
            digest.update(repr(picture.shape).encode() + picture.tobytes())
        return digest.hexdigest()

    def _read(self, keys: list[str]) -> Iterator[tuple[str, str]]:
        with self._open() as database:
            for start in range(0, len(keys), 500):  # sqlite takes 999 values in a statement
                part = keys[start : start + 500]
                marks = ",".join("?" * len(part))
                yield from database.execute(f"SELECT key, answer FROM answers WHERE key IN ({marks})", part)

    def _write(self, answers: dict[str, str]) -> None:
        with self._open() as database:
            database.executemany("INSERT OR IGNORE INTO answers VALUES (?, ?)", sorted(answers.items()))

    @contextlib.contextmanager
    def _open(self) -> Iterator[sqlite3.Connection]:
        """A transaction of its own: no open handle crosses into a forked or spawned process."""
        try:
            with contextlib.closing(sqlite3.connect(self.file, timeout=self.wait_s)) as database, database:
                yield database
        except sqlite3.DatabaseError as error:
            hint = "remove it; its answers will be asked again"
            if isinstance(error, sqlite3.OperationalError):  # locked, no space, not writable
                hint = "make room or make it writable, or name another cache folder"
            raise InputError(f"cache of answers {self.file} does not work ({error}); {hint}") from error
