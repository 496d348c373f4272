"""Which language model a job uses; apart from vl/generator.py so that a job's options load without torch."""

import re
from dataclasses import dataclass

from core.errors import InputError


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
