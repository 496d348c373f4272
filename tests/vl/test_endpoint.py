"""Facts about vl/endpoint.py, against a server on this machine that misbehaves."""

import email.utils
import io
import json
import pickle
import signal
import socket
import threading
import time

import numpy as np
import pytest

import vl.endpoint
from core.errors import InputError
from tests.vl.chat_server import Answer, completion, serving
from vl.endpoint import GIVE_UP_AFTER, MAX_WAIT_S, EndpointGenerator, png
from vl.generator import CachedGenerator, Failure

KEY = "sk-verySecret-1234567890"


def client(chat, **options):
    options = {"timeout_s": 5.0, "retries": 2, "concurrency": 4, "backoff_s": 0.001, **options}
    return EndpointGenerator(chat.url, "tiny", **options)


def echo(request, number):
    return completion(f" {request.prompt.upper()}\n")


def ask_once(answer, **options):
    """The answer to one prompt of a server that always says the same, and how often it was asked."""
    with serving(lambda request, number: answer) as chat:
        generator = client(chat, **options)
        (got,) = generator.generate(["a prompt"], max_tokens=9)
        assert generator.counts.calls == 1
        assert generator.counts.failures.total() == isinstance(got, Failure)
        return got, len(chat.requests)


def test_answers_come_in_order_and_tokens_are_counted():
    prompts = [f"prompt {k}" for k in range(20)]
    with serving(echo) as chat:
        generator = client(chat)
        answers = generator.generate(prompts, system="be brief", max_tokens=9, temperature=0.5, seed=3)
        assert answers == [prompt.upper() for prompt in prompts]
        summary = generator.counts.summary()
        assert 0 < summary.pop("seconds") < 60
        assert summary == {
            "calls": 20,
            "hits": 0,
            "retries": 0,
            "failures": {},
            "prompt_tokens": 140,
            "answer_tokens": 60,
            "pictures": 0,
            "picture_bytes": 0,
            "price_in": 0.0,
            "price_out": 0.0,
            "money": 0.0,
        }
        assert 1 <= chat.busiest <= 4
        request = chat.requests[0]
        assert request.path == "/v1/chat/completions" and "Authorization" not in request.headers
        assert request.body["messages"][0] == {"role": "system", "content": "be brief"}
        sampling = {key: request.body[key] for key in ("model", "max_tokens", "temperature", "seed")}
        assert sampling == {"model": "tiny", "max_tokens": 9, "temperature": 0.5, "seed": 3}


@pytest.mark.parametrize(
    ("address", "path"),
    [
        ("", "/v1/chat/completions"),
        ("/", "/v1/chat/completions"),
        ("/v1/", "/v1/chat/completions"),
        ("/api/v3", "/api/v3/chat/completions"),
        ("/v1/chat/completions", "/v1/chat/completions"),
        ("/v1?api-version=2", "/v1/chat/completions?api-version=2"),
    ],
)
def test_the_address_of_server_api_or_endpoint_leads_to_the_endpoint(address, path):
    with serving(echo) as chat:
        EndpointGenerator(chat.url + address, "tiny").generate(["a"], max_tokens=1)
        assert chat.requests[0].path == path


@pytest.mark.parametrize(
    ("answer", "cause", "tries"),
    [
        (Answer(b"busy", 429), "rate limit", 3),
        (Answer(b"broken", 500), "server error", 3),
        (Answer(b"<h1>Bad gateway</h1>", 502, kind="text/html"), "server error", 3),
        (Answer(b"no such model", 404), "refused", 1),
        (Answer(b"wrong key", 401), "refused", 1),
        (Answer(b"", 307, {"Location": "http://127.0.0.1:9/elsewhere"}), "redirect", 1),
        (Answer(b"<h1>Log in</h1>", kind="text/html"), "garbage", 3),
        (Answer(b'{"choices": [{"message": {"content": "hello'), "garbage", 3),
        (Answer(b"\xff\xfe\x00"), "garbage", 3),
        (Answer(b"[" * 200_000), "garbage", 3),
        (Answer(b"[]"), "garbage", 3),
        (Answer(b'"text"'), "garbage", 3),
        (Answer(b"null"), "garbage", 3),
        (Answer(b'{"choices": []}'), "garbage", 3),
        (Answer(b'{"choices": {"0": 1}}'), "garbage", 3),
        (Answer(b'{"choices": [null]}'), "garbage", 3),
        (Answer(b'{"choices": [{"message": "hello"}]}'), "garbage", 3),
        (completion(5), "garbage", 3),
        (completion(["hello"]), "garbage", 3),
        (Answer(completion("\ud800").content), "garbage", 3),
        (completion(None), "empty", 1),
        (completion("  \n "), "empty", 1),
        (completion("half a sen", finish_reason="length"), "truncated", 1),
        (completion("<think>the user wants"), "truncated", 1),
        (completion("bad words", finish_reason="content_filter"), "filtered", 1),
        (Answer(completion("hello").content, length=5000), "cut off", 3),
        (Answer(b"5\r\nhel", headers={"Transfer-Encoding": "chunked"}), "cut off", 3),
        (Answer(b" " * 10, length=1 << 40), "too large", 1),
        (Answer(hang_up=True), "connection", 3),
    ],
)
def test_each_misbehaviour_is_a_failure_with_its_cause(answer, cause, tries):
    got, asked = ask_once(answer)
    assert isinstance(got, Failure) and (got.cause, asked) == (cause, tries)
    assert got.detail and len(got.detail) <= 200 and "\n" not in got.detail


def test_a_body_without_announced_length_is_read_to_the_limit_only(monkeypatch):
    monkeypatch.setattr(vl.endpoint, "MAX_BODY_BYTES", 1000)
    chunk = b"400\r\n" + b" " * 0x400 + b"\r\n"
    got, _ = ask_once(Answer(chunk * 3 + b"0\r\n\r\n", headers={"Transfer-Encoding": "chunked"}))
    assert isinstance(got, Failure) and got.cause == "too large"


def test_what_is_odd_but_well_formed_is_an_answer():
    assert ask_once(completion("<think>hm</think>\nhello", finish_reason=None))[0] == "hello"
    bare = Answer(b'{"choices": [{"message": {"content": "hi"}}], "usage": {"prompt_tokens": "many"}}')
    assert ask_once(bare)[0] == "hi"
    bare.kind = "application/vnd.api+json; charset=utf-8"
    assert ask_once(bare)[0] == "hi"


@pytest.mark.parametrize("answer", [Answer(before_s=5.0), Answer(completion("hello").content, drip_s=0.05)])
def test_a_slow_server_is_left_at_the_time_limit_even_when_bytes_keep_dripping(answer):
    start = time.monotonic()
    got, asked = ask_once(answer, timeout_s=0.2, retries=1)
    assert isinstance(got, Failure) and (got.cause, asked) == ("timeout", 2)
    assert time.monotonic() - start < 3


def test_a_server_that_is_not_there_is_a_failure():
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    generator = EndpointGenerator(f"http://127.0.0.1:{port}", "tiny", retries=1, backoff_s=0.001)
    (got,) = generator.generate(["hello"], max_tokens=1)
    assert isinstance(got, Failure) and got.cause == "connection"
    assert generator.counts.retries == 1


def test_an_error_that_passes_costs_retries_and_loses_nothing():
    def stumble(request, number):
        return Answer(b"", 500) if number == 0 else Answer(b"{", 200) if number == 1 else echo(request, number)

    prompts = [f"prompt {k}" for k in range(12)]
    with serving(stumble) as chat:
        generator = client(chat)
        assert generator.generate(prompts, max_tokens=9) == [prompt.upper() for prompt in prompts]
        assert generator.counts.retries == 24 and not generator.counts.failures
        assert all(chat.tries(prompt) == 3 for prompt in prompts)


@pytest.fixture
def pauses(monkeypatch):
    """The pauses between tries, noted instead of waited for."""
    noted: list[float] = []
    monkeypatch.setattr(vl.endpoint.Flights, "wait", lambda self, pause: noted.append(pause))
    return noted


@pytest.mark.parametrize(
    ("after", "least", "most"),
    [
        ("0.3", 0.3, 0.3),
        ("9999", MAX_WAIT_S, MAX_WAIT_S),
        (email.utils.formatdate(time.time() + 10_000, usegmt=True), MAX_WAIT_S, MAX_WAIT_S),
        ("soon", 0.0005, 0.002),
        ("-5", 0.0005, 0.002),
        (email.utils.formatdate(0, usegmt=True), 0.0005, 0.002),
    ],
    ids=["seconds", "hours", "a far date", "a word", "negative", "a past date"],
)
def test_retry_after_is_honoured_up_to_a_limit(after, least, most, pauses):
    with serving(lambda r, n: Answer(b"", 429, {"Retry-After": after}) if n == 0 else echo(r, n)) as chat:
        assert client(chat).generate(["a"], max_tokens=1) == ["A"]
    (pause,) = pauses
    assert least <= pause <= most


def test_pauses_grow_and_are_the_same_for_the_same_seed(pauses):
    with serving(lambda r, n: Answer(b"", 503)) as chat:
        for seed in (0, 0, 1):
            client(chat, retries=3, backoff_s=0.1, concurrency=1).generate(["a"], max_tokens=1, seed=seed)
    first, again, other = pauses[:3], pauses[3:6], pauses[6:]
    assert first == again != other
    for series in (first, other):
        assert all(0.05 * 2**k <= pause <= 0.2 * 2**k for k, pause in enumerate(series))


def test_every_prompt_ends_as_an_answer_or_a_counted_failure():
    bad = [Answer(b"", 429), Answer(b"{"), Answer(b"", 404), Answer(hang_up=True), completion(None)]

    def moody(request, number):
        k = int(request.prompt.split()[1])
        return bad[k // 2 % len(bad)] if k % 2 else echo(request, number)

    prompts = [f"prompt {k}" for k in range(40)]
    with serving(moody) as chat:
        generator = client(chat)
        answers = generator.generate(prompts, max_tokens=9)
    assert [isinstance(answer, Failure) for answer in answers] == [k % 2 == 1 for k in range(40)]
    assert answers[::2] == [prompt.upper() for prompt in prompts[::2]]
    expected = {"rate limit": 4, "garbage": 4, "refused": 4, "connection": 4, "empty": 4}
    assert generator.counts.failures == expected and generator.counts.calls == 40


def test_a_dead_endpoint_is_left_alone_and_tried_again_with_one_prompt_in_the_next_call():
    alive = []
    with serving(lambda r, n: echo(r, n) if alive else Answer(b"", 500)) as chat:
        generator = client(chat, retries=0)
        prompts = [f"prompt {k}" for k in range(50)]
        answers = generator.generate(prompts, max_tokens=9)
        asked = len(chat.requests)
        assert GIVE_UP_AFTER <= asked <= GIVE_UP_AFTER + 3  # some were under way
        assert generator.counts.failures == {"server error": asked, "not asked": 50 - asked}
        assert all(isinstance(answer, Failure) for answer in answers)
        generator.generate(prompts, max_tokens=9)
        assert len(chat.requests) == asked + 1
        alive.append(True)
        assert generator.generate(prompts, max_tokens=9) == [prompt.upper() for prompt in prompts]


# --- the key ---


def test_the_key_goes_to_the_endpoint_and_nowhere_else(monkeypatch, tmp_path, capfd):
    monkeypatch.setenv("TEST_KEY", KEY)
    says = {
        "a": Answer(f"bad key: Bearer {KEY}".encode(), 401),
        "b": completion(f"your key is {KEY}"),
        "c": Answer(f"{KEY} is no JSON".encode()),
        "d": Answer(b"", 302, {"Location": f"http://other.example/?key={KEY}"}),
        "e": Answer(KEY.encode(), kind=KEY),
        "f": completion("fine"),
        "g": completion("fine", finish_reason=KEY),
        "h": completion(None, finish_reason=KEY),
    }
    with serving(lambda request, number: says[request.prompt]) as chat:
        generator = client(chat, api_key_env="TEST_KEY")
        cached = CachedGenerator(generator, tmp_path)
        answers = cached.generate(list(says), max_tokens=9)
        assert {request.headers["Authorization"] for request in chat.requests} == {f"Bearer {KEY}"}
    assert [isinstance(answer, Failure) for answer in answers] == [k not in "fg" for k in says]
    shown = [
        *map(repr, answers),
        repr(generator.counts),
        repr(vars(generator)),
        cached.identity,
        str(capfd.readouterr()),
    ]
    shown += [file.read_bytes().decode("latin-1") for file in tmp_path.iterdir()]
    assert not any(KEY in text for text in shown)


@pytest.mark.parametrize("value", ["", "  ", "sk two words", "sk-ünicode", "sk-a\nX-Evil: 1"])
def test_a_key_that_is_absent_or_no_header_is_refused_without_showing_it(value, monkeypatch):
    monkeypatch.setenv("TEST_KEY", value)
    with pytest.raises(InputError, match="key in the environment|not set or empty") as caught:
        EndpointGenerator("http://127.0.0.1", "tiny", api_key_env="TEST_KEY")
    assert not value.strip() or value not in str(caught.value)


def test_a_redirect_is_not_followed_even_on_the_same_host():
    with serving(lambda r, n: Answer(b"", 308, {"Location": "/v2/chat/completions"})) as chat:
        (got,) = client(chat).generate(["a"], max_tokens=1)
        assert isinstance(got, Failure) and "/v2/chat/completions" in got.detail and len(chat.requests) == 1


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("ftp://host/v1", "is no endpoint"),
        ("http:///v1", "is no endpoint"),
        ("http://host:port/v1", "does not read"),
        ("http://host/a b", "holds spaces"),
        ("http://me:secret@host/v1", "holds a password"),
    ],
)
def test_addresses_that_are_none_are_refused(url, message):
    with pytest.raises(InputError, match=message) as caught:
        EndpointGenerator(url, "tiny")
    assert "secret" not in str(caught.value)


def test_an_endpoint_needs_the_name_of_its_model():
    with pytest.raises(InputError, match="name the model"):
        EndpointGenerator("http://host/v1", "")


# --- pictures ---


def test_pictures_go_as_png_before_the_words():
    from PIL import Image

    picture = np.random.default_rng(0).integers(0, 256, (5, 7, 3), dtype=np.uint8)
    assert np.array_equal(np.asarray(Image.open(io.BytesIO(png(picture)))), picture)
    with serving(echo) as chat:
        assert client(chat).generate(["what is it"], max_tokens=9, pictures=[[picture]]) == ["WHAT IS IT"]
        first, last = chat.requests[0].body["messages"][0]["content"]
        assert first["image_url"]["url"].startswith("data:image/png;base64,") and last["text"] == "what is it"


# --- interruption ---


@pytest.fixture
def heeded_ctrl_c():
    """A test run in the background of a shell has SIGINT ignored."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def test_ctrl_c_ends_at_once_and_keeps_what_was_stored(tmp_path, heeded_ctrl_c):
    def answer(request, number):
        return echo(request, number) if int(request.prompt) < 4 else Answer(before_s=5.0)

    prompts = [str(k) for k in range(8)]
    with serving(answer) as chat:

        def press() -> None:
            while len(chat.requests) < 8:
                time.sleep(0.01)
            signal.pthread_kill(main, signal.SIGINT)

        main = threading.get_ident()
        threading.Thread(target=press, daemon=True).start()
        start = time.monotonic()
        with pytest.raises(KeyboardInterrupt):
            CachedGenerator(client(chat, timeout_s=30), tmp_path, chunk=4).generate(prompts, max_tokens=9)
        assert time.monotonic() - start < 4
        chat.requests.clear()
        again = CachedGenerator(client(chat), tmp_path)
        assert again.generate(prompts[:4], max_tokens=9) == prompts[:4]
        assert not chat.requests and again.counts.hits == 4


def test_no_thread_is_left_behind():
    with serving(echo) as chat:
        client(chat).generate(["a", "b"], max_tokens=1)
        assert not [t for t in threading.enumerate() if t.name.startswith("endpoint")]


def test_a_generator_travels_to_another_process_without_its_key(monkeypatch):
    monkeypatch.setenv("TEST_KEY", KEY)
    packed = pickle.dumps(EndpointGenerator("http://127.0.0.1/v1", "tiny", api_key_env="TEST_KEY"))
    assert KEY.encode() not in packed
    assert pickle.loads(packed).identity == "http://127.0.0.1/v1/chat/completions#tiny"
    assert json.dumps(pickle.loads(packed).counts.summary())
