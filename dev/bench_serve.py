"""What serving costs, measured through HTTP on loopback: `python -m dev.bench_serve -i sft -g d4`. The last line is JSON.

The server is scripts.chat_web in a process of its own, once as it is and once with --max-rows 1, which answers one request at a time. The load comes
from this process, by plain sockets: on a small machine it takes its share of the same cores. What the engine does without any HTTP stands beside it.
"""

import argparse
import asyncio
import contextlib
import json
import os
import re
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path

from nanochat.common import ArgumentParser, compute_init, friendly_errors

PROMPT = 16  # tokens
PAUSE = 0.01  # seconds between two calls of /health
ROOT = Path(__file__).parent.parent


def parse_args() -> argparse.Namespace:
    parser = ArgumentParser(description="Benchmark the server")
    parser.add_argument("-i", "--source", default="sft", choices=["base", "sft", "rl"], help="which stage's model")
    parser.add_argument("-g", "--model-tag", default=None, help="folder of the checkpoints (default: the largest model)")
    parser.add_argument("--depth", type=int, default=None, help="instead of a checkpoint: a model of this depth with random weights")
    parser.add_argument("--streams", type=int, default=32, help="at the same time")
    parser.add_argument("--tokens", type=int, default=100, help="of each answer")
    parser.add_argument("--rounds", type=int, default=3, help="of the rates the best round counts, machines being noisy; of the latencies all do")
    parser.add_argument("--device-type", default="", choices=["", "cuda", "cpu", "mps"], help="empty: the best there is")
    return parser.parse_args()


# --- the load --------------------------------------------------------------------------------------------------------


class Client(asyncio.Protocol):
    """One stream, from its request to [DONE]. It only looks for what it has to."""

    def __init__(self, request: bytes):
        self.request, self.received = request, bytearray()
        self.sent = self.first = self.last = 0.0
        self.done = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.Transport) -> None:
        self.transport, self.sent = transport, time.perf_counter()
        transport.write(self.request)

    def data_received(self, data: bytes) -> None:
        if not self.first and b"data: " in data:
            self.first = time.perf_counter()
        self.received += data
        if self.received.endswith((b"[DONE]\n\n\r\n", b"[DONE]\n\n\r\n0\r\n\r\n")) and not self.done.done():
            self.last = time.perf_counter()
            self.done.set_result(None)
            self.transport.close()

    def connection_lost(self, error: Exception | None) -> None:
        if not self.done.done():
            self.done.set_exception(ConnectionError(f"the stream broke off: {bytes(self.received[-300:])!r}"))

    @property
    def tokens(self) -> int:
        return int(re.findall(rb'"completion_tokens":(\d+)', self.received)[-1])


def completion(port: int, seed: int, tokens: int) -> bytes:
    """A request that goes on to its last token whatever the model says."""
    body = json.dumps({"prompt": [(seed * 7919 + i) % 250 for i in range(PROMPT)], "max_tokens": tokens, "ignore_eos": True, "seed": seed,
                       "stream": True, "stream_options": {"include_usage": True}}).encode()  # fmt: skip
    head = f"POST /v1/completions HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    return head.encode() + body


async def streams(port: int, count: int, tokens: int) -> list[Client]:
    """So many at the same time."""
    loop = asyncio.get_running_loop()
    clients = [Client(completion(port, seed, tokens)) for seed in range(count)]
    await asyncio.gather(*(loop.create_connection(lambda client=client: client, "127.0.0.1", port) for client in clients))
    await asyncio.gather(*(client.done for client in clients))
    return clients


def rate(clients: list[Client]) -> float:
    """Tokens per second, from the first request to the last token."""
    return sum(client.tokens for client in clients) / (max(client.last for client in clients) - min(client.sent for client in clients))


@contextlib.contextmanager
def watching_health(port: int, seconds: list[float]) -> Iterator[None]:
    """How long /health takes meanwhile, asked again and again over one connection."""
    enough = threading.Event()

    def watch() -> None:
        with socket.create_connection(("127.0.0.1", port)) as sock:
            while not enough.wait(PAUSE):
                began = time.perf_counter()
                sock.sendall(b"GET /health HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")
                while not sock.recv(4096).endswith(b"}"):
                    pass
                seconds.append(time.perf_counter() - began)

    thread = threading.Thread(target=watch)
    thread.start()
    try:
        yield
    finally:
        enough.set()
        thread.join()


# --- servers ---------------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def server(args: argparse.Namespace, base: str, *flags: str) -> Iterator[int]:
    """The port of a server that has loaded its model."""
    command = [sys.executable, "-m", "scripts.chat_web", "-p", "0", "-i", args.source, "--device-type", args.device_type, *flags]
    if args.model_tag:
        command += ["-g", args.model_tag]
    env = {**os.environ, "NANOCHAT_BASE_DIR": base} if base else None
    process = subprocess.Popen(command, cwd=ROOT, env=env, stdout=subprocess.PIPE, text=True)
    try:
        port = None
        for line in process.stdout:
            if found := re.search(r"http://127\.0\.0\.1:(\d+)", line):
                port = int(found[1])
            if line == "ready\n":
                break
        assert port and process.poll() is None, "the server did not start"
        yield port
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait()


def random_base_dir(args: argparse.Namespace, folder: str) -> None:
    """A base dir with a model of random weights, for servers to load."""
    import torch

    from nanochat.checkpoint_manager import CheckpointManager
    from nanochat.gpt import GPTConfig, new_model
    from nanochat.scaling import make_plan
    from nanochat.tokenizer import SPECIAL_TOKENS, SPLIT_PATTERN, Tokenizer

    plan = make_plan(depth=args.depth, vocab_size=4096, sequence_len=256)
    config = GPTConfig(plan.sequence_len, plan.vocab_size, plan.depth, plan.n_head, plan.n_kv_head, plan.n_embd, plan.window_pattern)
    model = new_model(config, "cpu")
    with torch.no_grad():
        for p in model.parameters():  # a fresh model's blocks do nothing
            p.add_(torch.randn_like(p) * 0.02)
    two_bytes = {bytes([i >> 8, i & 255]): 256 + i for i in range(4096 - 256 - len(SPECIAL_TOKENS))}
    tokenizer = Tokenizer(SPLIT_PATTERN, {bytes([i]): i for i in range(256)} | two_bytes)
    args.model_tag = f"d{args.depth}"
    CheckpointManager(Path(folder) / "chatsft_checkpoints" / args.model_tag).save(0, model, tokenizer=tokenizer)


# --- without HTTP ----------------------------------------------------------------------------------------------------


def engine_rates(args: argparse.Namespace) -> tuple[float, float]:
    """Tokens per second of one row and of all, by the engine alone."""
    from nanochat.checkpoint_manager import load_model
    from nanochat.engine import Engine, Request

    model, tokenizer, _ = load_model(args.source, compute_init(args.device_type).device, "eval", args.model_tag)
    engine = Engine(model, tokenizer, max_rows=args.streams)

    def measure(rows: int) -> float:
        began = time.perf_counter()
        for row in range(rows):
            prompt = [(row * 7919 + i) % 250 for i in range(PROMPT)]
            engine.submit(Request(prompt, 1, args.tokens, 0.8, 50, seed=row, stop_tokens=frozenset(), tools=False))
        while engine.step():
            pass
        return rows * args.tokens / (time.perf_counter() - began)

    measure(args.streams)
    return max(measure(1) for _ in range(args.rounds)), max(measure(args.streams) for _ in range(args.rounds))


def measure_server(args: argparse.Namespace, base: str) -> dict:
    one, many, first, health, in_turn = [], [], [], [], []
    with server(args, base, "--max-rows", str(args.streams), "--max-queue", str(args.streams)) as port:
        asyncio.run(streams(port, args.streams, args.tokens))  # the first time builds what is built once
        for _ in range(args.rounds):
            one.append(rate(asyncio.run(streams(port, 1, args.tokens))))
            with watching_health(port, health):
                clients = asyncio.run(streams(port, args.streams, args.tokens))
            many.append(rate(clients))
            first += [client.first - client.sent for client in clients]
    with server(args, base, "--max-rows", "1", "--max-queue", str(args.streams)) as port:
        asyncio.run(streams(port, 1, args.tokens))
        for _ in range(args.rounds):
            in_turn.append(rate(asyncio.run(streams(port, args.streams, args.tokens))))
    return {"one_stream": max(one), "many_streams": max(many), "one_at_a_time": max(in_turn), "first_token_seconds": statistics.median(first),
            "health_p99_seconds": sorted(health)[int(len(health) * 0.99)], "health_calls": len(health)}  # fmt: skip


def main(args: argparse.Namespace) -> None:
    with tempfile.TemporaryDirectory() as folder:
        base = folder if args.depth is not None else ""
        if base:
            random_base_dir(args, folder)
            os.environ["NANOCHAT_BASE_DIR"] = folder
        numbers = measure_server(args, base)
        numbers["engine_one_row"], numbers["engine_all_rows"] = engine_rates(args)
    print(f"one stream {numbers['one_stream']:,.0f} tokens/s, {args.streams} streams {numbers['many_streams']:,.0f}, one request at a time "
          f"{numbers['one_at_a_time']:,.0f}; the engine alone {numbers['engine_one_row']:,.0f} and {numbers['engine_all_rows']:,.0f}")  # fmt: skip
    print(f"first token after {numbers['first_token_seconds'] * 1e3:.0f} ms at the median; /health within "
          f"{numbers['health_p99_seconds'] * 1e3:.1f} ms for 99 % of {numbers['health_calls']:,} calls")  # fmt: skip
    bars = {}
    for name, value, target, more in (
        ("times_the_tokens_of_one_stream", numbers["many_streams"] / numbers["one_stream"], 4, True),
        ("times_the_tokens_of_one_request_at_a_time", numbers["many_streams"] / numbers["one_at_a_time"], 4, True),
        ("engine_alone_times_the_tokens_of_one_row", numbers["engine_all_rows"] / numbers["engine_one_row"], 8, True),
        ("health_p99_seconds", numbers["health_p99_seconds"], 0.1, False),
        ("first_token_seconds_median", numbers["first_token_seconds"], 1.5, False),
    ):
        bars[name] = {"value": value, "target": target, "holds": value >= target if more else value <= target}
    print(json.dumps({"bars": bars, "streams": args.streams, "tokens": args.tokens, **numbers}))


if __name__ == "__main__":
    with friendly_errors():
        main(parse_args())
