"""The web server with a tiny model, on the loopback device, in a thread of the tests' own process.

with served(engine, api_key="secret", max_queue=3) as server:
    status, headers, body = server.ask("POST", "/v1/completions", {"prompt": "Hi"})
    with server.stream("/v1/completions", {"prompt": "Hi", "stream": True}) as events: ...
"""

import asyncio
import contextlib
import http.client
import json
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import torch

from nanochat.engine import Engine
from nanochat.gpt import GPT, GPTConfig, new_model
from nanochat.openai_api import Settings
from nanochat.server import PAGE, WebServer, build_app
from nanochat.serving import Service
from scripts.chat_web import listen

SOON = 60.0  # seconds; on a busy machine what should take none may take some


def tiny_model(vocab_size: int, sequence_len: int = 512) -> GPT:
    """Random weights, strong enough that a token depends on what comes before."""
    torch.manual_seed(0)
    model = new_model(GPTConfig(sequence_len, vocab_size, 2, 2, 2, 32, "L"), "cpu").eval()
    with torch.no_grad():
        for p in model.parameters():
            p.add_(torch.randn_like(p) * 0.1)
        model.lm_head.weight.normal_(std=0.5)
    return model


class LoopbackServer:
    def __init__(self, engine: Engine | None, patience: float, max_queue: int, timeout: float, page: Path, settings: Settings):
        self.engine, self.settings = engine, settings
        self.sock = listen("127.0.0.1", 0)
        self.port = self.sock.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"
        self.began = threading.Event()
        self.thread = threading.Thread(target=lambda: asyncio.run(self._serve(patience, max_queue, timeout, page)))
        self.thread.start()
        assert self.began.wait(SOON)

    async def _serve(self, patience: float, max_queue: int, timeout: float, page: Path) -> None:
        self.loop, self.service = asyncio.get_running_loop(), Service(max_queue, timeout)
        self.web = WebServer(build_app(self.service, self.settings, page), self.service, patience)
        if self.engine is not None:
            self.service.add(self.engine)
        self.began.set()
        await self.web.serve(sockets=[self.sock])
        assert self.service.stop()

    def run(self, function: Callable, *arguments) -> None:
        """In the server's event loop."""
        self.loop.call_soon_threadsafe(function, *arguments)

    def end(self) -> None:
        if self.thread.is_alive():
            self.run(self.web.end)
        self.thread.join(SOON)
        assert not self.thread.is_alive()

    def until(self, condition: Callable[["LoopbackServer"], bool]) -> None:
        """Wait for something that happens in another thread."""
        end = time.monotonic() + SOON
        while not condition(self):
            assert time.monotonic() < end, "it did not happen"
            time.sleep(0.005)

    def until_idle(self) -> None:
        self.until(lambda server: not server.service.jobs and not server.engine.busy)

    # --- asking ---

    def ask(self, method: str, path: str, body: object = None, key: str = "", headers: dict | None = None) -> tuple[int, dict, dict]:
        """(status, headers by their names in lower case, the JSON that came)."""
        with self.open(method, path, body, key, headers) as response:
            content = response.read()
            headers = {name.lower(): value for name, value in response.headers.items()}
            return response.status, headers, json.loads(content) if "json" in headers["content-type"] else content.decode()

    @contextlib.contextmanager
    def open(self, method: str, path: str, body: object = None, key: str = "", headers: dict | None = None) -> Iterator[http.client.HTTPResponse]:
        """The connection is cut at the end, whatever is still to come."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=SOON)
        headers = {"Content-Type": "application/json", **({"Authorization": f"Bearer {key}"} if key else {}), **(headers or {})}
        data = body if body is None or isinstance(body, bytes) else json.dumps(body).encode()
        try:
            connection.request(method, path, data, headers)
            yield connection.getresponse()
        finally:
            connection.close()

    @contextlib.contextmanager
    def stream(self, path: str, body: dict, key: str = "") -> Iterator[Iterator[dict | str]]:
        """The events, as they come: JSON, or "[DONE]"."""
        with self.open("POST", path, body, key) as response:
            assert response.status == 200 and response.headers["Content-Type"].startswith("text/event-stream"), response.read()
            yield events_of(response)


@contextlib.contextmanager
def held(engine: Engine) -> Iterator[threading.Event]:
    """No step begins meanwhile, or before the event is set."""
    go, step = threading.Event(), engine.step
    engine.step = lambda: go.wait(SOON) and step()
    try:
        yield go
    finally:
        go.set()
        del engine.step


def events_of(response: http.client.HTTPResponse) -> Iterator[dict | str]:
    for line in response:
        if line.startswith(b"data: "):
            data = line[len(b"data: ") :].strip()
            yield "[DONE]" if data == b"[DONE]" else json.loads(data)


@contextlib.contextmanager
def served(
    engine: Engine | None, *, patience: float = 5.0, max_queue: int = 64, timeout: float = 60.0, page: Path = PAGE, **settings
) -> Iterator[LoopbackServer]:
    given = {"model": "tiny", "source": "sft", "step": 7, "context": engine.context if engine else 512, "max_tokens": 32, **settings}
    server = LoopbackServer(engine, patience, max_queue, timeout, page, Settings(**given))
    try:
        yield server
    finally:
        server.end()
