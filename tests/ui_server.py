"""A server for the page's tests, on the loopback device. It speaks the API of nanochat's own and says what it is told.

    with PageServer() as server:
        server.answers.append(Answer(["The capital ", hold, "is Paris."]))  # hold is an Event: what follows waits for it
        server.answers.append(Answer(status=429, headers={"Retry-After": "1"}))
        ...  # a browser at server.url
        assert server.asked[0]["messages"] == [...]

Answers are given in this order; a question that comes when there are none left is answered "yes".
"""

import base64
import hashlib
import json
import re
import select
import socket
import threading
from collections import deque
from collections.abc import Mapping, Sequence
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import MappingProxyType
from typing import NamedTuple

PAGE = Path(__file__).parent.parent / "nanochat" / "ui.html"
HANG_UP = object()  # among the pieces of an answer: the connection ends here
NOTHING: Mapping[str, str] = MappingProxyType({})


class Answer(NamedTuple):
    """Pieces are texts, ("python" | "python_output", text), events to wait for, dicts that are sent as they are, and HANG_UP."""

    pieces: Sequence[object] = ("yes",)
    finish: str = "stop"
    dropped: int = 0
    tokens: int = 12
    status: int = 200
    headers: Mapping[str, str] = NOTHING
    error: Mapping[str, object] = NOTHING  # what the body says if the status is not 200


def policy(html: str) -> str:
    """A Content-Security-Policy for which the page's one script and one style are all there is, and strings never become HTML."""

    def hashed(tag: str) -> str:
        (text,) = re.findall(f"<{tag}>(.*?)</{tag}>", html, re.DOTALL)
        return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"

    return (
        f"default-src 'none'; script-src {hashed('script')}; style-src {hashed('style')}; connect-src 'self'; img-src data:; "
        "base-uri 'none'; form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'; trusted-types 'none'"
    )


class PageServer:
    """`asked` has the bodies of all questions. stop() ends it with all its connections, start() begins again at the same address."""

    def __init__(self, **config: object):
        defaults = {"temperature": 0.8, "top_k": 50, "top_p": 1.0, "max_tokens": 64}
        self.config = {"model": "d4", "source": "sft", "step": 447, "context": 256, "key_required": False, **defaults, **config}
        self.answers: deque[Answer] = deque()
        self.asked: list[dict] = []
        self.ready, self.key = True, ""
        self.left = threading.Event()  # somebody went away from an answer that was not complete
        self.port = 0

    def __enter__(self) -> "PageServer":
        self.start()
        return self

    def __exit__(self, *error) -> None:
        self.stop()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/"

    def start(self) -> None:
        self.http = _Server(("127.0.0.1", self.port), _Handler)
        self.http.page_server = self
        self.port = self.http.server_port
        threading.Thread(target=self.http.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()

    def stop(self) -> None:
        self.http.shutdown()
        self.http.server_close()
        for connection in list(self.http.connections):
            connection.shutdown(socket.SHUT_RDWR)


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False

    def __init__(self, *args):
        super().__init__(*args)
        self.connections: set[socket.socket] = set()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: _Server

    def setup(self) -> None:
        super().setup()
        self.world = self.server.page_server
        self.server.connections.add(self.connection)

    def finish(self) -> None:
        self.server.connections.discard(self.connection)
        super().finish()

    def handle(self) -> None:
        try:
            super().handle()
        except OSError:  # the browser has closed the connection, or the test has
            self.world.left.set()

    def log_message(self, *args) -> None:
        pass

    def do_GET(self) -> None:
        if self.path == "/":
            html = PAGE.read_text(encoding="utf-8")
            self._send(200, html.encode(), {"Content-Type": "text/html; charset=utf-8", "Content-Security-Policy": policy(html)})
        elif self.path == "/ready":
            self._json(200 if self.world.ready else 503, {"ready": self.world.ready})
        elif not self._may_enter():
            self._error(401, "authentication_error", "invalid_api_key", "the key is missing or wrong")
        elif self.path == "/config":
            self._json(200, {**self.world.config, "key_required": bool(self.world.key)})
        else:
            self._error(404, "not_found_error", None, f"there is nothing at {self.path}")

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        assert self.path == "/v1/chat/completions" and body["stream"], self.path
        if not self._may_enter():
            self._error(401, "authentication_error", "invalid_api_key", "the key is missing or wrong")
            return
        self.world.asked.append(body)
        answer = self.world.answers.popleft() if self.world.answers else Answer()
        if answer.status == 200:
            self._stream(answer)
        else:
            self._json(answer.status, {"error": {"message": "", "type": "", "param": None, "code": None, **answer.error}}, answer.headers)

    def _may_enter(self) -> bool:
        return not self.world.key or self.headers["Authorization"] == f"Bearer {self.world.key}"

    def _stream(self, answer: Answer) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.send_header("Connection", "close")
        self.end_headers()
        self.close_connection = True
        more = {"dropped_messages": answer.dropped} if answer.dropped else {}
        self._chunk({"role": "assistant", "content": ""}, **more)
        self.wfile.write(b": waiting\n\n")
        for piece in answer.pieces:
            if piece is HANG_UP:
                return
            if isinstance(piece, threading.Event):
                if not self._held(piece):
                    self.world.left.set()
                    return
            elif isinstance(piece, dict):
                self._event(piece)
            else:
                self._chunk({"content": piece} if isinstance(piece, str) else {"part": {"type": piece[0], "text": piece[1]}})
        self._chunk({}, finish=answer.finish)
        self._event({"choices": [], "usage": {"prompt_tokens": 20, "completion_tokens": answer.tokens, "total_tokens": 20 + answer.tokens}})
        self.wfile.write(b"data: [DONE]\n\n")

    def _held(self, event: threading.Event) -> bool:
        """Wait for the event. False if the browser has gone first."""
        while not event.wait(0.01):
            if select.select([self.connection], [], [], 0)[0]:
                return False
        return True

    def _chunk(self, delta: dict, finish: str | None = None, **more: object) -> None:
        choice = {"index": 0, "delta": delta, "finish_reason": finish}
        self._event({"id": "chatcmpl-1", "object": "chat.completion.chunk", "model": "d4", "choices": [choice], **more})

    def _event(self, data: object) -> None:
        self.wfile.write(f"data: {json.dumps(data)}\n\n".encode())

    def _error(self, status: int, kind: str, code: str | None, message: str) -> None:
        self._json(status, {"error": {"message": message, "type": kind, "param": None, "code": code}})

    def _json(self, status: int, data: object, headers: Mapping[str, str] = NOTHING) -> None:
        self._send(status, json.dumps(data).encode(), {"Content-Type": "application/json", **headers})

    def _send(self, status: int, body: bytes, headers: Mapping[str, str]) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
