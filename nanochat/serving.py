"""Between the web, which waits for nobody, and the engine, which computes in a thread of its own.

A Service has a Worker for each device. A client's request is a Job: admitted (or refused, if too many are waiting), given to the worker with the
least to do, and then an iterator over what the engine makes of it. A worker steps its engine as long as there is work and tells the event loop about
all of a step's tokens at once. Everything here belongs to the event loop, but for what Worker._run calls.
"""

import asyncio
import contextlib
import threading
import time
from collections import Counter, deque
from collections.abc import AsyncIterator, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import TYPE_CHECKING, TypeVar

from nanochat.common import print0

if TYPE_CHECKING:  # it needs torch, and the port is open before that is there
    from nanochat.engine import Engine, Event, Request, Stream

T = TypeVar("T")
RETRY_AFTER = 1  # seconds that who is refused is asked to wait
RATE_SECONDS = 10  # over which tokens per second are measured
READERS = 4  # threads that make tokens of prompts
LAST_WORDS = 2.0  # seconds, at most, of the time for stopping: for telling clients that the server stops
STEP_SECONDS = 10.0  # more than any step takes; a thread that is not done by then hangs


class ServiceError(Exception):
    """Why a request has no answer, as the client will hear it. status: HTTP's; param: of the request's parameters the one to blame."""

    def __init__(self, status: int, message: str, code: str | None = None, param: str | None = None):
        super().__init__(message)
        self.status, self.message, self.code, self.param = status, message, code, param


class Job:
    """A request on its way: `batches` gives what has come of it since the last time. To be closed by whoever opened it, however it ends."""

    def __init__(self, service: "Service", worker: "Worker"):
        self.service, self.worker = service, worker
        self.streams: list[Stream] = []
        self.events: list[tuple[int, Event]] = []  # with the number of their stream
        self.started = False  # there was an event: it has a row
        self.finished = False
        self.error: ServiceError | None = None
        self.news = asyncio.Event()
        late = ServiceError(503, f"the request took longer than the {service.timeout:g} s that this server allows", "timeout")
        self.timer = asyncio.get_running_loop().call_later(service.timeout, self.fail, late)

    @property
    def rows(self) -> int:
        """How many it has in use, or would have if there were enough."""
        return sum(len(stream.samples) for stream in self.streams) if self.started else 0

    def submit(self, requests: Sequence["Request"]) -> None:
        self.worker.submit(self, requests)

    async def batches(self, patience: float | None = None) -> AsyncIterator[list[tuple[int, "Event"]] | None]:
        """Events as they come; None for each time of `patience` seconds that passes before the first ones."""
        while True:
            if self.error:
                raise self.error
            if self.events:
                events, self.events = self.events, []
                yield events
            elif self.finished:
                return
            else:
                try:
                    await (self.news.wait() if self.started or patience is None else asyncio.wait_for(self.news.wait(), patience))
                except asyncio.TimeoutError:
                    yield None
                self.news.clear()

    def told(self, events: list[tuple[int, "Event"]], finished: bool) -> None:
        self.events += events
        self.started = self.started or bool(events)
        self.finished = finished
        if any(sample.finish_reason == "error" for stream in self.streams for sample in stream.samples):
            self.error = self.error or ServiceError(500, "the model failed while it was working on this request", "engine_error")
        self.news.set()

    def fail(self, error: ServiceError) -> None:
        """End it with an error."""
        self.error = self.error or error
        self.cancel()
        self.news.set()

    def cancel(self) -> None:
        for stream in self.streams:
            stream.cancel()

    def close(self) -> None:
        self.timer.cancel()
        self.cancel()
        self.service.closed(self)


class Worker:
    """An engine and the thread that steps it."""

    def __init__(self, engine: "Engine", number: int, tell: Callable[[list], None]):
        self.engine, self.number = engine, number
        self.loop, self.tell = asyncio.get_running_loop(), tell
        self.condition = threading.Condition()
        self.new: list[Job] = []  # guarded by the condition
        self.stopping = False  # likewise
        self.jobs: list[Job] = []  # the thread's own
        self.failed_steps = 0
        self.thread = threading.Thread(target=self._run, name=f"engine {number}", daemon=True)
        self.thread.start()

    def submit(self, job: Job, requests: Sequence["Request"]) -> None:
        try:
            for request in requests:
                job.streams.append(self.engine.submit(request))
        finally:  # if one is refused, whoever closes the job cancels those before it, and the thread sees to it
            with self.condition:
                self.new.append(job)
                self.condition.notify()

    def stop(self) -> bool:
        with self.condition:
            self.stopping = True
            self.condition.notify()
        self.thread.join(STEP_SECONDS)
        return not self.thread.is_alive()

    def _run(self) -> None:
        while True:
            with self.condition:
                self.condition.wait_for(lambda: self.stopping or self.new or self.engine.busy)
                if self.stopping:
                    return
                self.jobs += self.new
                self.new = []
            try:
                self.engine.step()
            except BaseException as error:  # all that was under way has failed with it; whoever comes next is served
                self.failed_steps += 1
                print0(f"error: a step of engine {self.number} failed: {type(error).__name__}: {' '.join(str(error).split())[:300]}")
            self._tell()

    def _tell(self) -> None:
        """What the step has brought, in one message to the event loop for all jobs."""
        news, unfinished = [], []
        for job in self.jobs:
            finished = all(stream.finished for stream in job.streams)
            events = [(i, event) for i, stream in enumerate(job.streams) for event in stream.take()]
            if events or finished:
                news.append((job, events, finished))
            if not finished:
                unfinished.append(job)
        self.jobs = unfinished
        if news and not self.loop.is_closed():
            self.loop.call_soon_threadsafe(self.tell, news)


class Service:
    """Who is served, who waits, who is sent away. max_queue: how many requests may wait for a row; timeout: seconds that one may take."""

    def __init__(self, max_queue: int = 64, timeout: float = 300.0):
        self.max_queue, self.timeout = max_queue, timeout
        self.workers: list[Worker] = []
        self.jobs: set[Job] = set()
        self.draining = False
        self.idle = asyncio.Event()
        self.readers = ThreadPoolExecutor(READERS, "reader")
        self.began = time.monotonic()
        self.counts: Counter = Counter()  # requests, refused, dropped_clients, tokens
        self.recent: deque[tuple[float, int]] = deque()  # when tokens came, and how many

    # --- engines -----------------------------------------------------------------------------------------------------

    def add(self, engine: "Engine") -> None:
        self.workers.append(Worker(engine, len(self.workers), self._told))

    @property
    def ready(self) -> bool:
        return bool(self.workers) and not self.draining

    def check_ready(self) -> None:
        if self.draining:
            raise ServiceError(503, "the server is about to stop", "draining")
        if not self.workers:
            raise ServiceError(503, "the model is still being loaded", "loading")

    def _told(self, news: list[tuple[Job, list, bool]]) -> None:
        for job, events, finished in news:
            job.told(events, finished)
        tokens = sum(len(events) for _, events, _ in news)
        self.counts["tokens"] += tokens
        self.recent.append((time.monotonic(), tokens))
        self._forget()

    def _forget(self) -> None:
        while self.recent and self.recent[0][0] < time.monotonic() - RATE_SECONDS:
            self.recent.popleft()

    # --- requests ----------------------------------------------------------------------------------------------------

    def admit(self) -> Job:
        self.check_ready()
        loads, rows = dict.fromkeys(self.workers, 0), dict.fromkeys(self.workers, 0)
        for job in self.jobs:
            loads[job.worker] += max(1, sum(len(stream.samples) for stream in job.streams))
            rows[job.worker] += job.rows
        free = sum(max(0, worker.engine.max_rows - rows[worker]) for worker in self.workers)
        if self.queue >= free + self.max_queue:
            self.counts["refused"] += 1
            raise ServiceError(429, f"{self.queue} requests are waiting already: try again in a moment", "queue_full")
        job = Job(self, min(self.workers, key=loads.__getitem__))
        self.counts["requests"] += 1
        self.jobs.add(job)
        self.idle.clear()
        return job

    def closed(self, job: Job) -> None:
        self.jobs.discard(job)
        if not self.jobs:
            self.idle.set()

    async def read(self, work: Callable[..., T], *arguments) -> T:
        """Have a thread do what takes long for a long text."""
        return await asyncio.get_running_loop().run_in_executor(self.readers, partial(work, *arguments))

    @property
    def queue(self) -> int:
        """How many have no row yet."""
        return sum(not job.started for job in self.jobs)

    def stats(self) -> dict:
        self._forget()
        uptime = time.monotonic() - self.began
        return {
            "queue": self.queue,
            "max_queue": self.max_queue,
            "rows": sum(len(worker.engine.rows) for worker in self.workers),
            "max_rows": sum(worker.engine.max_rows for worker in self.workers),
            "tokens_per_second": round(sum(tokens for _, tokens in self.recent) / min(RATE_SECONDS, uptime + 1e-3), 1),
            **{name: self.counts[name] for name in ("requests", "refused", "dropped_clients", "tokens")},
            "failed_steps": sum(worker.failed_steps for worker in self.workers),
            "uptime_seconds": round(uptime, 1),
        }

    # --- the end -----------------------------------------------------------------------------------------------------

    async def drain(self, timeout: float) -> None:
        """Take nobody in any more, and let those who are here finish; who is not done in time hears why."""
        self.draining = True
        parting = min(LAST_WORDS, timeout / 4)
        await self._until_idle(timeout - parting)
        for job in list(self.jobs):
            job.fail(ServiceError(503, "the server stops", "draining"))
        await self._until_idle(parting)

    async def _until_idle(self, timeout: float) -> None:
        if self.jobs:
            with contextlib.suppress(asyncio.TimeoutError):
                await asyncio.wait_for(self.idle.wait(), timeout)

    def stop(self) -> bool:
        """End the threads. False if one of them hangs."""
        self.readers.shutdown(wait=False, cancel_futures=True)
        stopped = [worker.stop() for worker in self.workers]
        return all(stopped)
