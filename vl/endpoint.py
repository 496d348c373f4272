"""A language model behind any endpoint that speaks OpenAI's chat completions (vLLM, llama.cpp, Ollama, hosted ones).

Endpoints misbehave: they are slow, busy, down, or answer with a login page. Every prompt ends as an answer or as a
`Failure` within bounded time and memory. The key comes from an environment variable, is read at each request, and is
in no message, cache or configuration; a redirect is never followed, since the key would travel along. Proxies are not
used.
"""

import base64
import contextlib
import email.utils
import http.client
import json
import os
import random
import re
import socket
import ssl
import struct
import threading
import time
import zlib
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, replace
from typing import Any, Final
from urllib.parse import urlsplit

from core.errors import InputError
from vl.generator import Failure, GeneratorCounts, Picture, Pictures, check_request, finished, picture_label

MAX_BODY_BYTES: Final = 4 << 20
MAX_WAIT_S: Final = 60.0  # between two tries, whatever Retry-After asks for
GIVE_UP_AFTER: Final = 8  # prompts failed in a row; the rest of the call is not asked
RETRIED: Final = frozenset({"timeout", "connection", "rate limit", "server error", "garbage", "cut off"})
"""Causes that may be gone at the next try; source: an endpoint in trouble answers with pages of its proxy, too."""
_DOWN: Final = RETRIED | {"refused", "redirect"}  # causes that are about the endpoint rather than one prompt


@dataclass(frozen=True)
class _Reply:
    """What became of one try or one prompt."""

    answer: str | Failure
    prompt_tokens: int = 0
    answer_tokens: int = 0
    retry_after_s: float | None = None  # as the endpoint asked
    retries: int = 0
    tried: bool = False  # False: not asked at all
    picture_bytes: int = 0  # sent over all tries


class EndpointGenerator:
    """POST requests to a chat completions endpoint, several at a time."""

    def __init__(
        self,
        url: str,
        model: str,
        *,
        api_key_env: str = "",
        timeout_s: float = 60.0,
        retries: int = 4,
        concurrency: int = 16,
        backoff_s: float = 0.5,
    ) -> None:
        """
        Args:
            url: of the server ("http://localhost:8000"), of its API ("https://host/v1") or the full address of
                .../chat/completions.
            api_key_env: name of the environment variable that holds the key; empty for endpoints that need none.
            timeout_s: for one try, from connecting to the last byte.
            retries: tries after the first.
            concurrency: requests under way at a time.
            backoff_s: the first pause is up to twice this long; each further one up to twice as long as the one before.

        Raises:
            InputError: no http(s) address, one that holds a password, no model name, or the key is not there.
        """
        try:
            parts = urlsplit(url)
            port = parts.port
        except ValueError as error:
            raise InputError(f"the endpoint's address does not read ({error})") from error
        if parts.username is not None or parts.password is not None:
            raise InputError("the endpoint's address holds a password; give the key by api_key_env instead")
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise InputError(f"{url!r} is no endpoint; expected http(s)://host:port/v1")
        if not re.fullmatch(r"[!-~]*", parts.path + parts.query):
            raise InputError(f"{url!r} holds spaces or other characters that an address has in the form %20 only")
        if not model:
            raise InputError(f"name the model that {parts.hostname} should answer with: {url}#model-name")
        path = parts.path.rstrip("/")
        if not path.endswith("/chat/completions"):
            path = f"{path or '/v1'}/chat/completions"
        self.host, self.port, self.secure = parts.hostname, port, parts.scheme == "https"
        self.path, self._query = path, f"?{parts.query}" if parts.query else ""
        self.model, self.api_key_env = model, api_key_env
        self.timeout_s, self.retries, self.concurrency, self.backoff_s = timeout_s, retries, concurrency, backoff_s
        self.counts = GeneratorCounts()
        self._failed_in_row = 0
        self._key()

    @property
    def identity(self) -> str:
        where = f"{self.host}:{self.port}" if self.port else self.host
        return f"{'https' if self.secure else 'http'}://{where}{self.path}#{self.model}"

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
        sampling = {"max_tokens": max_tokens, "temperature": temperature, "seed": seed}
        shown: Pictures = pictures if pictures is not None else [()] * len(prompts)

        def body(i: int) -> tuple[bytes, int]:
            """Request i and how many of its bytes are pictures; made when it is sent, so that few are in memory."""
            messages, picture_bytes = _messages(prompts[i], system, shown[i])
            return json.dumps({"model": self.model, "messages": messages, **sampling}).encode(), picture_bytes

        with self.counts.timed():
            replies = self._all(body, len(prompts), seed)
        self.counts.retries += sum(reply.retries for reply in replies)
        self.counts.pictures += sum(len(group) for group, reply in zip(shown, replies) if reply.tried)
        self.counts.picture_bytes += sum(reply.picture_bytes for reply in replies)
        self.counts.prompt_tokens += sum(reply.prompt_tokens for reply in replies)
        self.counts.answer_tokens += sum(reply.answer_tokens for reply in replies)
        answers = [reply.answer for reply in replies]
        causes = [answer.cause for answer in answers if isinstance(answer, Failure)]
        self.counts.calls += len(answers) - causes.count("not asked")
        self.counts.failures.update(causes)
        return answers

    def _all(self, body: Callable[[int], tuple[bytes, int]], n: int, seed: int) -> list[_Reply]:
        """Replies in order. An interruption ends the pauses and shuts the connections, so that no thread lingers."""
        replies: dict[int, _Reply] = {}
        running: dict[Future[_Reply], int] = {}
        flights = Flights()
        waiting = iter(range(n))
        down = ""
        with ThreadPoolExecutor(self.concurrency, thread_name_prefix="endpoint") as pool:
            try:
                while len(replies) < n:
                    # an endpoint that was down is tried with one prompt at a time
                    room = 1 if self._failed_in_row >= GIVE_UP_AFTER else self.concurrency
                    while not down and len(running) < room and (i := next(waiting, None)) is not None:
                        running[pool.submit(self._ask, body, i, seed, flights)] = i
                    for future in wait(running, return_when=FIRST_COMPLETED).done:
                        reply = replies[running.pop(future)] = future.result()
                        failed = isinstance(reply.answer, Failure) and reply.answer.cause in _DOWN
                        self._failed_in_row = self._failed_in_row + 1 if failed else 0
                        if isinstance(reply.answer, Failure) and self._failed_in_row >= GIVE_UP_AFTER:
                            down = f"{self._failed_in_row} prompts failed in a row, last: {reply.answer.detail}"
                    if down and not running:
                        for i in waiting:
                            replies[i] = _Reply(Failure("not asked", down))
            except BaseException:
                flights.end()
                raise
        return [replies[i] for i in range(n)]

    def _ask(self, make: Callable[[int], tuple[bytes, int]], i: int, seed: int, flights: "Flights") -> _Reply:
        """Tries until there is an answer, a failure that will not pass, or no try left."""
        body, picture_bytes = make(i)
        jitter = random.Random(f"{seed} {zlib.crc32(body)}")
        for attempt in range(self.retries + 1):
            reply = self._try(body, flights)
            last = attempt == self.retries or flights.ended.is_set()
            if isinstance(reply.answer, str) or reply.answer.cause not in RETRIED or last:
                break
            pause = self.backoff_s * 2**attempt * (0.5 + 1.5 * jitter.random())
            if reply.retry_after_s is not None:
                pause = max(pause, reply.retry_after_s)
            flights.wait(min(pause, MAX_WAIT_S))
        tries = attempt + 1
        return replace(reply, retries=attempt, tried=True, picture_bytes=tries * picture_bytes)

    def _try(self, body: bytes, flights: "Flights") -> _Reply:
        key = self._key()
        headers = {"Content-Type": "application/json", "Accept": "application/json", "Accept-Encoding": "identity"}
        if key:
            headers["Authorization"] = f"Bearer {key}"
        make = http.client.HTTPSConnection if self.secure else http.client.HTTPConnection
        connection = make(self.host, self.port, timeout=self.timeout_s)
        deadline = time.monotonic() + self.timeout_s
        with contextlib.closing(connection):
            try:
                connection.connect()
                with flights.watched(connection, deadline):
                    connection.request("POST", self.path + self._query, body, headers)
                    response = connection.getresponse()
                    content = _body(response)
            except (OSError, http.client.HTTPException) as error:
                return _Reply(_fault(error, time.monotonic() >= deadline, self.timeout_s))
        if time.monotonic() >= deadline:
            return _Reply(Failure("timeout", f"no whole answer in {self.timeout_s:g} s"))
        if isinstance(content, Failure):
            return _Reply(content)
        reply = _read_reply(response, content)
        return _without_key(reply, key)

    def _key(self) -> str:
        """The key, "" where none is named. Raises InputError, which shows neither key nor name, when it is absent."""
        if not self.api_key_env:
            return ""
        key = os.environ.get(self.api_key_env, "").strip()
        if not key:
            raise InputError("the environment variable that api_key_env names is not set or empty; export the key")
        if not re.fullmatch(r"[!-~]+", key):  # http.client would show it in its complaint
            raise InputError("the key in the environment holds spaces or characters that no header may have")
        return key


class Flights:
    """Connections under way: each is shut at its deadline, and all of them when the call is interrupted."""

    def __init__(self) -> None:
        self.ended = threading.Event()
        self._open: set[socket.socket] = set()

    @contextlib.contextmanager
    def watched(self, connection: http.client.HTTPConnection, deadline: float) -> Any:
        """Timeouts of a socket bound the wait for one byte; a server that drips needs a clock of its own."""
        line: socket.socket = connection.sock
        timer = threading.Timer(max(deadline - time.monotonic(), 0.0), _shut, [line])
        timer.daemon = True
        timer.start()
        self._open.add(line)
        try:
            if self.ended.is_set():
                raise ConnectionAbortedError("interrupted")
            yield
        finally:
            timer.cancel()
            self._open.discard(line)

    def wait(self, pause_s: float) -> None:
        """A pause that an interruption ends."""
        self.ended.wait(pause_s)

    def end(self) -> None:
        self.ended.set()
        for line in list(self._open):
            _shut(line)


def _shut(line: socket.socket) -> None:
    with contextlib.suppress(OSError):
        socket.socket.shutdown(line, socket.SHUT_RDWR)  # of a TLS socket the plain one: its own pulls the rug away


# --- what is sent ---


def _messages(prompt: str, system: str, pictures: Sequence[Picture]) -> tuple[list[dict[str, Any]], int]:
    """The messages of a request, and how many bytes of them are pictures."""
    content: Any = prompt
    picture_bytes = 0
    if pictures:
        content = []
        for number, picture in enumerate(pictures):
            url = f"data:image/png;base64,{base64.b64encode(png(picture)).decode()}"
            picture_bytes += len(url)
            if len(pictures) > 1:
                content.append({"type": "text", "text": picture_label(number)})
            content.append({"type": "image_url", "image_url": {"url": url}})
        content.append({"type": "text", "text": prompt})
    told = [{"role": "system", "content": system}] if system else []
    return [*told, {"role": "user", "content": content}], picture_bytes


def png(picture: Picture) -> bytes:
    """A picture as a PNG file; source: the format's own page, sections 5 and 11 (W3C PNG, third edition)."""
    height, width, _ = picture.shape
    rows = b"".join(b"\0" + row.tobytes() for row in picture)  # filter 0 before each row
    head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    chunks = ((b"IHDR", head), (b"IDAT", zlib.compress(rows)), (b"IEND", b""))
    parts = (
        struct.pack(">I", len(data)) + tag + data + struct.pack(">I", zlib.crc32(tag + data)) for tag, data in chunks
    )
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


# --- what comes back ---


def _fault(error: Exception, late: bool, timeout_s: float) -> Failure:
    if late or isinstance(error, TimeoutError):
        return Failure("timeout", f"no whole answer in {timeout_s:g} s")
    if isinstance(error, http.client.IncompleteRead):
        return Failure("cut off", "the connection ended within the answer")
    if isinstance(error, http.client.RemoteDisconnected):
        return Failure("connection", "the endpoint hung up without an answer")
    if isinstance(error, ssl.SSLError):
        return Failure("connection", f"no secure connection: {error.reason}")
    if isinstance(error, OSError):
        return Failure("connection", (error.strerror or type(error).__name__)[:160])
    return Failure("garbage", f"no HTTP answer ({type(error).__name__})")


def _body(response: http.client.HTTPResponse) -> bytes | Failure:
    """The whole body, up to MAX_BODY_BYTES."""
    length = response.length  # None when chunked or until the connection ends
    if length is not None and length > MAX_BODY_BYTES:
        return Failure("too large", f"an answer of {length} bytes, read are up to {MAX_BODY_BYTES}")
    content = bytearray()
    while part := response.read(1 << 16):
        content += part
        if len(content) > MAX_BODY_BYTES:
            return Failure("too large", f"an answer of more than {MAX_BODY_BYTES} bytes")
    if length is not None and len(content) < length:
        return Failure("cut off", f"{len(content)} of {length} bytes came")
    return bytes(content)


def _read_reply(response: http.client.HTTPResponse, content: bytes) -> _Reply:
    status = response.status
    if status != 200:
        said = f"status {status}: {_shown(content)}"
        if 300 <= status < 400:
            target = _shown((response.getheader("Location") or "").encode())
            return _Reply(
                Failure("redirect", f"status {status} points to {target!r}; give that address if it is right")
            )
        cause = "rate limit" if status == 429 else "server error" if status >= 500 or status == 408 else "refused"
        return _Reply(Failure(cause, said), retry_after_s=_retry_after(response.getheader("Retry-After")))
    kind = (response.getheader("Content-Type") or "").partition(";")[0].strip().lower()
    if not re.fullmatch(r"application/([\w.-]+\+)?json", kind):
        return _Reply(Failure("garbage", f"content type {kind[:60]!r}, expected application/json"))
    try:
        raw = json.loads(content)
    except (ValueError, RecursionError):
        return _Reply(Failure("garbage", f"no JSON: {_shown(content)}"))
    return _read_choice(raw)


def _read_choice(raw: Any) -> _Reply:
    """The first choice of a chat completion."""
    try:
        choice = raw["choices"][0]
        text = choice["message"]["content"]
        reason = choice.get("finish_reason")
        usage = raw.get("usage")
    except (KeyError, IndexError, TypeError, AttributeError):
        return _Reply(Failure("garbage", "JSON without choices[0].message.content"))
    tokens = _count(usage, "prompt_tokens"), _count(usage, "completion_tokens")
    if text is None:
        return _Reply(Failure("empty", f"no text, finish_reason {str(reason)[:40]!r}"), *tokens)
    if not isinstance(text, str):
        return _Reply(Failure("garbage", f"the answer is a {type(text).__name__}, expected text"))
    if reason == "length":
        return _Reply(Failure("truncated", "the answer reached max_tokens"), *tokens)
    if reason == "content_filter":
        return _Reply(Failure("filtered", "the endpoint's filter stopped the answer"), *tokens)
    try:
        text.encode()
    except UnicodeEncodeError:
        return _Reply(Failure("garbage", "the answer is no Unicode text"))
    return _Reply(finished(text), *tokens)


def _count(usage: Any, name: str) -> int:
    value = usage.get(name) if isinstance(usage, dict) else None
    return value if isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 1 << 40 else 0


def _retry_after(text: str | None) -> float | None:
    """Seconds, from a number of seconds or a date; None where it is neither."""
    if text is None:
        return None
    if re.fullmatch(r"\d{1,9}(\.\d{1,9})?", text.strip()):
        return float(text)
    try:
        return max(0.0, email.utils.parsedate_to_datetime(text).timestamp() - time.time())
    except (TypeError, ValueError, OverflowError):
        return None


def _shown(content: bytes) -> str:
    """The start of what a server said, on one line, for messages."""
    return " ".join(re.sub(r"[^\x20-\x7e]+", " ", content[:4096].decode("utf-8", "replace")).split())[:2000]


def _without_key(reply: _Reply, key: str) -> _Reply:
    """A server may repeat what it was sent: no message and no answer holds the key."""
    answer = reply.answer
    if isinstance(answer, Failure):
        detail = answer.detail.replace(key, "***") if key else answer.detail
        answer = Failure(answer.cause, detail[:200])
    elif key and key in answer:
        answer = Failure("garbage", "the answer repeats the key")
    return _Reply(answer, reply.prompt_tokens, reply.answer_tokens, reply.retry_after_s)
