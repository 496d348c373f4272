"""A chat completions endpoint on this machine that behaves, or misbehaves as told; shared by tests."""

import contextlib
import json
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


@dataclass
class Request:
    """What came in."""

    path: str
    headers: dict[str, str]
    body: dict[str, Any]

    @property
    def prompt(self) -> str:
        content = self.body["messages"][-1]["content"]
        return content if isinstance(content, str) else content[-1]["text"]


@dataclass
class Answer:
    """What goes out, byte for byte."""

    content: bytes = b""
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    kind: str = "application/json"
    length: int | None = None  # announced instead of the true one
    before_s: float = 0.0  # pause before the first byte
    drip_s: float = 0.0  # pause before each further byte
    hang_up: bool = False  # no answer at all


def completion(text: Any, **choice: Any) -> Answer:
    """A well-formed completion."""
    message = {"role": "assistant", "content": text}
    usage = {"prompt_tokens": 7, "completion_tokens": 3}
    raw = {"choices": [{"message": message, "finish_reason": "stop", **choice}], "usage": usage}
    return Answer(json.dumps(raw).encode())


@dataclass
class ChatServer:
    """Answers request k with `answer(request, k)`, k counted from 0 for each prompt."""

    answer: Callable[[Request, int], Answer]
    url: str = ""
    requests: list[Request] = field(default_factory=list)
    busiest: int = 0  # most requests at a time
    _now: int = 0
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def tries(self, prompt: str) -> int:
        return sum(request.prompt == prompt for request in self.requests)

    def respond(self, handler: BaseHTTPRequestHandler) -> None:
        body = handler.rfile.read(int(handler.headers["Content-Length"]))
        request = Request(handler.path, dict(handler.headers), json.loads(body))
        with self._lock:
            number = self.tries(request.prompt)
            self.requests.append(request)
            self._now += 1
            self.busiest = max(self.busiest, self._now)
        try:
            self._send(handler, self.answer(request, number))
        finally:
            with self._lock:
                self._now -= 1

    def _send(self, handler: BaseHTTPRequestHandler, answer: Answer) -> None:
        time.sleep(answer.before_s)
        handler.close_connection = True
        if answer.hang_up:
            return
        with contextlib.suppress(OSError):  # the client may have left
            handler.send_response(answer.status)
            length = len(answer.content) if answer.length is None else answer.length
            for name, value in {"Content-Type": answer.kind, "Content-Length": str(length), **answer.headers}.items():
                handler.send_header(name, value)
            handler.end_headers()
            pieces = [answer.content[k : k + 1] for k in range(len(answer.content))] if answer.drip_s else None
            for piece in pieces or [answer.content]:
                time.sleep(answer.drip_s)
                handler.wfile.write(piece)
                handler.wfile.flush()


@contextlib.contextmanager
def serving(answer: Callable[[Request, int], Answer]) -> Iterator[ChatServer]:
    """A server on a free port for the length of the block."""
    chat = ChatServer(answer)

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            chat.respond(self)

        def log_message(self, format: str, *args: object) -> None:
            """Says nothing."""

    class Server(ThreadingHTTPServer):
        daemon_threads = True
        request_queue_size = 64  # the default of 5 resets connections of a busy test

    server = Server(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    chat.url = f"http://127.0.0.1:{server.server_address[1]}"
    try:
        yield chat
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
