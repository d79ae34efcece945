"""The web app: the page, OpenAI's API, karpathy/nanochat's own, and what says how the server is doing.

build_app takes a Service, which need not have an engine yet, so that the port opens before the model is loaded and tests can serve a tiny one.
All that is refused, wherever and for whatever reason, is refused in OpenAI's shape. A client that leaves takes its request with it.
"""

import asyncio
import base64
import hashlib
import hmac
import json
import os
import re
import time
from collections.abc import AsyncIterator, Callable, Coroutine
from pathlib import Path

import h11
import uvicorn
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.middleware.cors import CORSMiddleware
from starlette.responses import HTMLResponse, JSONResponse, Response, StreamingResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from uvicorn.protocols.http.h11_impl import H11Protocol

from nanochat.answers import Answer, ChatAnswer, CompletionAnswer, PlainChatAnswer, sse
from nanochat.common import UserError, print0
from nanochat.openai_api import (
    Ask,
    ChatRequest,
    CompletionRequest,
    ErrorBody,
    PlainChatRequest,
    Settings,
    Shape,
    check_model,
    error_body,
    prepare_chat,
    prepare_completion,
    prepare_plain_chat,
)
from nanochat.serving import RETRY_AFTER, Job, Service, ServiceError

PAGE = Path(__file__).parent / "ui.html"
OPEN = ("/", "/health", "/ready")  # need no key
KEEP_ALIVE = 10.0  # seconds without a token before a client hears that it is still in the queue
BODY_SECONDS = 30.0  # for sending a body
IDLE_SECONDS = 30  # that a connection may stay open between two requests
CLOSING_SECONDS = 2  # for connections to close when the server stops
MAX_HEADERS = 32 << 10  # bytes
GRACE = 5.0  # seconds beyond the time limit for a client that does not read what it is sent
NO_TELEMETRY = {"tracing": False, "metrics": False, "logs": False, "operation_spans": False, "auto_configure": False}  # logs quote bodies
MISTAKE = ServiceError(500, "the server made a mistake", "internal_error")


# --- errors ----------------------------------------------------------------------------------------------------------


def error_response(error: ServiceError, headers: dict[str, str] | None = None) -> JSONResponse:
    headers = dict(headers or {})
    if error.code == "timeout":  # it would take as long again
        headers["X-Should-Retry"] = "false"
    elif error.status in (429, 503):
        headers["Retry-After"] = str(RETRY_AFTER)
    if error.status == 401:
        headers["WWW-Authenticate"] = "Bearer"
    return JSONResponse(error_body(error), error.status, headers)


def log_error(what: str, error: Exception) -> None:
    print0(f"error: {what}: {type(error).__name__}: {' '.join(str(error).split())[:300]}")


def add_error_handlers(app: FastAPI) -> None:
    @app.exception_handler(ServiceError)
    async def service_error(request: Request, error: ServiceError) -> Response:
        return error_response(error)

    @app.exception_handler(UserError)
    async def user_error(request: Request, error: UserError) -> Response:
        return error_response(ServiceError(400, str(error)))

    @app.exception_handler(RequestValidationError)
    async def wrong_body(request: Request, error: RequestValidationError) -> Response:
        told = max(error.errors(), key=lambda e: len(e["loc"]))  # of all that it might have been, what it was most nearly
        place = [str(step) for step in told["loc"][1:] if re.fullmatch(r"\w+", str(step)) and step != "str"]
        if told["type"] == "json_invalid":
            return error_response(ServiceError(400, f"the body is not JSON: {told['ctx']['error']} at character {place[0]}"))
        if not place:
            return error_response(ServiceError(400, f"the body: {told['msg']} (a JSON object, sent with Content-Type: application/json)"))
        return error_response(ServiceError(400, f"{'.'.join(place)[:200]}: {told['msg']}", param=place[0][:100]))

    @app.exception_handler(HTTPException)
    async def http_error(request: Request, error: HTTPException) -> Response:
        said = {404: f"there is nothing at {request.url.path[:200]}", 405: f"{request.url.path[:200]} does not know {request.method}"}
        return error_response(ServiceError(error.status_code, said.get(error.status_code, str(error.detail))), error.headers)


# --- around all routes: plain ASGI, through which streams and disconnects pass as they are ---------------------------


class CatchAll:
    """What nobody has foreseen: one line for the log, and nothing about it for the client."""

    def __init__(self, app: ASGIApp):
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        started = False

        async def sending(message: Message) -> None:
            nonlocal started
            started = True
            await send(message)

        try:
            await self.app(scope, receive, sending)
        except Exception as error:
            log_error(f"{scope.get('method')} {scope.get('path')}", error)
            if not started:
                await error_response(MISTAKE)(scope, receive, send)


class Gate:
    """Looks at the key, and at the body's size while it comes in, before anything else does."""

    def __init__(self, app: ASGIApp, api_key: str, max_body: int):
        self.app, self.api_key, self.max_body = app, api_key.encode(), max_body

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return await self.app(scope, receive, send)
        try:
            self._check_key(scope)
            body = await self._body(scope, receive)
        except ServiceError as error:
            return await error_response(error)(scope, receive, send)
        if body is not None:
            await self.app(scope, _replay(body, receive), send)

    def _check_key(self, scope: Scope) -> None:
        if not self.api_key or scope["path"] in OPEN:
            return
        scheme, _, given = dict(scope["headers"]).get(b"authorization", b"").partition(b" ")
        if scheme.lower() != b"bearer" or not hmac.compare_digest(given.strip(), self.api_key):
            raise ServiceError(401, "this server needs its key: Authorization: Bearer KEY", "invalid_api_key")

    async def _body(self, scope: Scope, receive: Receive) -> bytes | None:
        """None if the client left before it was there."""
        headers = dict(scope["headers"])
        if b"content-length" not in headers and b"transfer-encoding" not in headers:
            return b""
        too_long = ServiceError(413, f"the body is longer than the {self.max_body:,} bytes that this server takes", "body_too_large")
        if int(headers.get(b"content-length", 0)) > self.max_body:
            raise too_long
        loop, parts, size, more = asyncio.get_running_loop(), [], 0, True
        end = loop.time() + BODY_SECONDS
        while more:
            try:
                message = await asyncio.wait_for(receive(), end - loop.time())
            except asyncio.TimeoutError:
                raise ServiceError(400, f"the body did not come within {BODY_SECONDS:g} s", "body_timeout") from None
            if message["type"] == "http.disconnect":
                return None
            parts.append(message.get("body", b""))
            size += len(parts[-1])
            if size > self.max_body:
                raise too_long
            more = message.get("more_body", False)
        return b"".join(parts)


def _replay(body: bytes, receive: Receive) -> Receive:
    """The body in one message, and then whatever else comes: that the client has left."""
    bodies = [body]

    async def replaying() -> Message:
        return {"type": "http.request", "body": bodies.pop(), "more_body": False} if bodies else await receive()

    return replaying


# --- a request and its client ----------------------------------------------------------------------------------------


class Gone(Exception):
    """The client has left."""


async def while_connected(receive: Receive, work: Coroutine, timeout: float | None = None):
    """The result of the work. If the client leaves, or the time is over, the work is cancelled: Gone."""

    async def leaving() -> None:
        while (await receive())["type"] != "http.disconnect":
            pass

    tasks = [asyncio.ensure_future(work), asyncio.ensure_future(leaving())]
    try:
        await asyncio.wait(tasks, timeout=timeout, return_when=asyncio.FIRST_COMPLETED)
        if not tasks[0].done():
            raise Gone
        return tasks[0].result()
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


class EventStream(StreamingResponse):
    """An answer as it comes, event by event. It closes the job."""

    def __init__(self, job: Job, answer: Answer, log: Callable[[], None]):
        super().__init__((), media_type="text/event-stream", headers={"Cache-Control": "no-store", "X-Accel-Buffering": "no"})
        self.job, self.answer, self.log = job, answer, log

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
            await while_connected(receive, self._write(send), self.job.service.timeout + GRACE)
        except Gone:
            self.job.service.counts["dropped_clients"] += 1
        finally:
            self.job.close()

    async def _write(self, send: Send) -> None:
        async for data in self._chunks():
            await send({"type": "http.response.body", "body": data, "more_body": True})
        await send({"type": "http.response.body", "body": b"", "more_body": False})

    async def _chunks(self) -> AsyncIterator[bytes]:
        try:
            async for events in self.job.batches(KEEP_ALIVE):
                if chunks := b": waiting\n\n" if events is None else self.answer.chunks(events):
                    yield chunks
                if self.answer.done:
                    break
            yield self.answer.last_chunks()
            self.log()
        except ServiceError as error:
            yield sse(error_body(error))
        except Exception as error:  # too late for a status
            log_error("an answer", error)
            yield sse(error_body(MISTAKE))


# --- the app ---------------------------------------------------------------------------------------------------------


def build_app(service: Service, settings: Settings, page: Path = PAGE) -> FastAPI:
    app = FastAPI(title="nanochat", version="1", docs_url=None, redoc_url=None, redirect_slashes=False, telemetry=NO_TELEMETRY,
                  responses={"default": {"model": ErrorBody, "description": "refused or failed"}})  # fmt: skip
    add_error_handlers(app)
    add_page(app, page)
    add_status(app, service, settings)
    add_completions(app, service, settings)
    app.add_middleware(Gate, api_key=settings.api_key, max_body=settings.max_body)
    app.add_middleware(CatchAll)
    if settings.allow_origin:  # credentials are never allowed: the key comes in a header of its own
        app.add_middleware(CORSMiddleware, allow_origins=[settings.allow_origin], allow_methods=["GET", "POST"],
                           allow_headers=["Authorization", "Content-Type"], expose_headers=["Retry-After"])  # fmt: skip
    return app


def add_page(app: FastAPI, page: Path) -> None:
    """The page may run the scripts that stand in it and speak with this server, and that is all: no text ever becomes a script or HTML."""
    html = page.read_text(encoding="utf-8")
    sources = {"connect-src": "'self'", "img-src": "data:", "base-uri": "'none'", "form-action": "'none'", "frame-ancestors": "'none'",
               "require-trusted-types-for": "'script'", "trusted-types": "'none'"}  # fmt: skip
    for tag in ("script", "style"):
        inside = re.findall(rf"<{tag}\b[^>]*>(.*?)</{tag}>", html, re.DOTALL)
        hashes = [base64.b64encode(hashlib.sha256(text.encode()).digest()).decode() for text in inside]
        sources[f"{tag}-src"] = " ".join(f"'sha256-{digest}'" for digest in hashes) or "'none'"
    policy = "; ".join(["default-src 'none'", *(f"{name} {value}" for name, value in sources.items())])
    headers = {"Content-Security-Policy": policy, "X-Content-Type-Options": "nosniff", "Referrer-Policy": "no-referrer", "Cache-Control": "no-cache"}

    @app.get("/", response_class=HTMLResponse)
    async def the_page() -> Response:
        return HTMLResponse(html, headers=headers)


def add_status(app: FastAPI, service: Service, settings: Settings) -> None:
    began = int(time.time())
    described = {"id": settings.model, "object": "model", "created": began, "owned_by": "nanochat", "context": settings.context}

    @app.get("/health")
    async def health() -> dict:
        return {"status": "ok", "ready": service.ready}

    @app.get("/ready")
    async def ready() -> dict:
        service.check_ready()
        return {"ready": True}

    @app.get("/stats")
    async def stats() -> dict:
        return {**service.stats(), "model": settings.model, "context": settings.context}

    @app.get("/config")
    async def config() -> dict:
        names = ("model", "source", "step", "context", "max_tokens", "temperature", "top_k", "top_p")
        return {**{name: getattr(settings, name) for name in names}, "key_required": bool(settings.api_key)}

    @app.get("/v1/models")
    async def models() -> dict:
        return {"object": "list", "data": [described]}

    @app.get("/v1/models/{model}")
    async def model(model: str) -> dict:
        check_model(settings, model)
        return described


def add_completions(app: FastAPI, service: Service, settings: Settings) -> None:
    async def complete(request: Request, body: Shape, prepare: Callable[..., Ask], kind: type[Answer], stream: bool | None) -> Response:
        job = service.admit()
        try:
            answer = await while_connected(request.receive, begin(job, body, prepare, kind))

            def log() -> None:
                if settings.log_conversations:
                    print0(json.dumps({"request": body.model_dump(exclude_unset=True), "response": answer.whole()}))

            if stream:
                response, job = EventStream(job, answer, log), None
                return response
            await while_connected(request.receive, collect(job, answer))
            log()
            return JSONResponse(answer.whole())
        except Gone:
            service.counts["dropped_clients"] += 1
            return Response(status_code=499)  # for nobody
        finally:
            if job is not None:
                job.close()

    async def begin(job: Job, body: Shape, prepare: Callable[..., Ask], kind: type[Answer]) -> Answer:
        engine = job.worker.engine
        ask = await service.read(prepare, engine, settings, body)
        job.submit(ask.requests)
        return kind(ask, settings, engine.tokenizer, job.streams, job.worker.number)

    async def collect(job: Job, answer: Answer) -> None:
        async for events in job.batches():
            answer.add(events)
            if answer.done:
                break
        answer.finish()

    @app.post("/v1/chat/completions")
    async def chat_completions(body: ChatRequest, request: Request) -> Response:
        return await complete(request, body, prepare_chat, ChatAnswer, body.stream)

    @app.post("/v1/completions")
    async def completions(body: CompletionRequest, request: Request) -> Response:
        return await complete(request, body, prepare_completion, CompletionAnswer, body.stream)

    @app.post("/chat/completions")
    async def plain_chat(body: PlainChatRequest, request: Request) -> Response:
        return await complete(request, body, prepare_plain_chat, PlainChatAnswer, True)


class Protocol(H11Protocol):
    """uvicorn's, for clients that are slow, or send on after their request: a connection that asks for nothing is closed, and one that has asked is
    listened to, or nobody would hear that it is gone."""

    idle: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:
        super().connection_made(transport)
        self._wait_for_request()

    def on_response_complete(self) -> None:
        super().on_response_complete()
        self._wait_for_request()

    def connection_lost(self, error: Exception | None) -> None:
        super().connection_lost(error)
        if self.idle:
            self.idle.cancel()

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        if self.conn.their_state is h11.DONE:
            if len(self.conn.trailing_data[0]) > MAX_HEADERS:
                self.transport.close()
            else:
                self.flow.resume_reading()

    def _wait_for_request(self) -> None:
        if self.idle:
            self.idle.cancel()
        self.idle = self.loop.call_later(IDLE_SECONDS, self._close_if_idle)

    def _close_if_idle(self) -> None:
        if self.cycle is None or self.cycle.response_complete:
            self.transport.close()


class WebServer(uvicorn.Server):
    """uvicorn with limits, and an end of our own: a signal lets the answers finish, a second one ends the process."""

    def __init__(self, app: FastAPI, service: Service, patience: float):
        super().__init__(uvicorn.Config(
            app, loop="asyncio", http=Protocol, ws="none", lifespan="off", log_level="error", access_log=False, server_header=False,
            proxy_headers=False, h11_max_incomplete_event_size=MAX_HEADERS, timeout_keep_alive=IDLE_SECONDS,
            timeout_graceful_shutdown=CLOSING_SECONDS,
        ))  # fmt: skip
        self.service, self.patience = service, patience
        self.loop = asyncio.get_running_loop()
        self.ending: asyncio.Task | None = None
        self.signals = 0

    def handle_exit(self, number: int, frame) -> None:
        self.signals += 1
        if self.signals > 1:
            os._exit(128 + number)
        os.write(2, b"\nfinishing the answers; the same again ends at once\n")  # print might be in the middle of a line
        self.loop.call_soon_threadsafe(self.end)

    def end(self) -> None:
        """Finish what is under way, then stop. For the event loop."""
        self.ending = self.ending or self.loop.create_task(self._end())

    async def _end(self) -> None:
        await self.service.drain(self.patience)
        self.should_exit = True
