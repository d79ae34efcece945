"""Serve a model: a page to chat with it, and OpenAI's API for any client of that.

    python -m scripts.chat_web                                   # the largest model of SFT, its last step, at http://127.0.0.1:8000
    python -m scripts.chat_web -i rl -g d12 -p 8080
    NANOCHAT_API_KEY=secret python -m scripts.chat_web --host 0.0.0.0
    python -m scripts.chat_web -i base                           # a base model: /v1/completions, no chat

The port opens at once and /ready says when the model is loaded. Ctrl-C or SIGTERM: nobody else is served, those who are being answered have
--shutdown-timeout seconds; a second time: at once.
"""

import argparse
import asyncio
import ipaddress
import math
import os
import socket
import sys
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING

from nanochat.common import ArgumentParser, UserError, check_name, friendly_errors, print0

if TYPE_CHECKING:
    from nanochat.openai_api import Settings


def parse_args() -> argparse.Namespace:
    parser = ArgumentParser(description="Serve a model: a page, and OpenAI's API")
    parser.add_argument("-n", "--num-gpus", type=int, default=1, help="one copy of the model on each of so many GPUs")
    parser.add_argument("-i", "--source", default="sft", choices=["base", "sft", "rl"], help="which stage's model")
    parser.add_argument("-t", "--temperature", type=float, default=0.8, help="of requests that do not say; 0: always the likeliest token")
    parser.add_argument("-k", "--top-k", type=int, default=50, help="likewise: sample among so many of the likeliest tokens; 0: all")
    parser.add_argument("--top-p", type=float, default=1.0, help="likewise: and among the likeliest that have this probability together; 1: all")
    parser.add_argument("-m", "--max-tokens", type=int, default=512, help="likewise: longest answer")
    parser.add_argument("-g", "--model-tag", default=None, help="folder of the checkpoints (default: the largest model)")
    parser.add_argument("-s", "--step", type=int, default=None, help="which checkpoint (default: the last)")
    parser.add_argument("-p", "--port", type=int, default=8000, help="0: any that is free")
    parser.add_argument("--host", default="127.0.0.1", help="the address to listen on; 0.0.0.0: all of this machine's")
    parser.add_argument("--device-type", default="", choices=["", "cuda", "cpu", "mps"], help="empty: the best there is")
    parser.add_argument("--model-name", default=None, help="what the API calls the model (default: its tag)")
    parser.add_argument("--api-key", default=None, help="what clients must show; better set $NANOCHAT_API_KEY, which no list of processes shows")
    parser.add_argument("--allow-origin", default="", help="pages of this origin may use the API as well, say https://example.org")
    parser.add_argument("--max-rows", type=int, default=32, help="answers that are written at a time, on each device")
    parser.add_argument("--max-queue", type=int, default=64, help="requests that may wait for that; beyond, clients are asked to come again")
    parser.add_argument("--max-body", type=int, default=1 << 20, help="bytes of a request")
    parser.add_argument("--max-messages", type=int, default=500, help="messages of a conversation")
    parser.add_argument("--max-request-tokens", type=int, default=None, help="the highest max_tokens to be asked for (default: the context)")
    parser.add_argument("--timeout", type=float, default=300.0, help="seconds that a request may take, waiting included")
    parser.add_argument("--shutdown-timeout", type=float, default=30.0, help="seconds for those who are being served when the server is to stop")
    parser.add_argument("--log-conversations", action="store_true", help="print each request with its answer, as a line of JSON")
    args = parser.parse_args()
    least = {"num_gpus": 1, "max_tokens": 1, "max_rows": 1, "max_queue": 0, "max_body": 1, "max_messages": 1, "top_k": 0}
    for name, number in least.items():
        if getattr(args, name) < number:
            parser.error(f"--{name.replace('_', '-')} {getattr(args, name)}: at least {number}")
    if args.max_request_tokens is not None and args.max_request_tokens < 1:
        parser.error(f"--max-request-tokens {args.max_request_tokens}: at least 1")
    if not 0 <= args.temperature <= 2:
        parser.error(f"--temperature {args.temperature}: from 0 to 2")
    if not 0 < args.top_p <= 1:
        parser.error(f"--top-p {args.top_p}: above 0 and at most 1")
    if not 0 <= args.port < 1 << 16:
        parser.error(f"--port {args.port}: from 0 to 65535")
    for name, lowest in (("timeout", 1e-3), ("shutdown_timeout", 0)):
        if not lowest <= getattr(args, name) < math.inf:
            parser.error(f"--{name.replace('_', '-')} {getattr(args, name)}: a number of seconds")
    args.api_key = os.environ.get("NANOCHAT_API_KEY", "") if args.api_key is None else args.api_key
    if not (args.api_key.isascii() and args.api_key.isprintable()) or args.api_key != args.api_key.strip():
        parser.error("the key must consist of printable ASCII characters, without blanks at its ends")
    return args


# --- the model -------------------------------------------------------------------------------------------------------


def find_model(args: argparse.Namespace) -> "Settings":
    """Which model it will be, without loading it. What is wrong with it is said before the port opens."""
    from nanochat import checkpoint_manager as checkpoints
    from nanochat.openai_api import Settings

    folder = checkpoints.checkpoints_dir(args.source)
    tag = check_name("model tag", args.model_tag) if args.model_tag else checkpoints.find_largest_model(folder)
    step = checkpoints.find_last_step(folder / tag, optimizer=False) if args.step is None else args.step
    checkpoints.check_step(folder / tag, step, optimizer=False)
    context = (checkpoints.read_meta(folder / tag, step).get("model_config") or {}).get("sequence_len", 0)
    limits = {name: getattr(args, name) for name in ("max_body", "max_messages", "max_request_tokens")}
    return Settings(args.model_name or tag, args.source, step, context, args.max_tokens, args.temperature, args.top_k, args.top_p, args.api_key,
                    allow_origin=args.allow_origin, log_conversations=args.log_conversations, **limits)  # fmt: skip


def load_engines(args: argparse.Namespace, add: Callable) -> None:
    """An engine on each device, one after the other; each serves as soon as it is there."""
    import torch

    from nanochat.checkpoint_manager import load_model
    from nanochat.common import compute_init
    from nanochat.engine import Engine

    device = compute_init(args.device_type).device
    if args.num_gpus > (there := torch.cuda.device_count() if device.type == "cuda" else 1):
        raise UserError(f"--num-gpus {args.num_gpus}: there {'is' if there == 1 else 'are'} {there} of type {device.type}")
    for number in range(args.num_gpus):
        device = torch.device("cuda", number) if device.type == "cuda" else device
        model, tokenizer, _ = load_model(args.source, device, "eval", args.model_tag, args.step)
        engine = Engine(model, tokenizer, args.max_rows)
        engine.generate_batch([tokenizer.bos], max_tokens=2)  # builds what is built once
        add(engine)


# --- the server ------------------------------------------------------------------------------------------------------


def listen(host: str, port: int) -> socket.socket:
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        sock = socket.socket(family, kind, protocol)  # named, or asyncio does not see that it is TCP, and small packets wait for each other
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind(address)
        sock.listen()
        return sock
    except OSError as error:
        print(f"error: cannot listen on {host}, port {port} ({error.strerror}): choose others with --host and --port", file=sys.stderr)
        sys.exit(2)


def is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def announce(args: argparse.Namespace, settings: "Settings", port: int) -> None:
    host = f"[{args.host}]" if ":" in args.host else args.host
    print0(f"{settings.source} model {settings.model}, step {settings.step}, at http://{host}:{port} (loading)")
    if not is_loopback(args.host) and not settings.api_key:
        print0(f"warning: {args.host} is open to everyone who can reach this machine. Set NANOCHAT_API_KEY, or listen on 127.0.0.1")


async def serve(args: argparse.Namespace, settings: "Settings", sock: socket.socket) -> BaseException | None:
    """From the open port to the last answer. Returns what went wrong with loading the model, if that ended it."""
    from nanochat.server import WebServer, build_app
    from nanochat.serving import Service

    loop, failures = asyncio.get_running_loop(), []
    service = Service(args.max_queue, args.timeout)
    server = WebServer(build_app(service, settings), service, args.shutdown_timeout)

    def load() -> None:
        try:
            load_engines(args, lambda engine: loop.call_soon_threadsafe(service.add, engine))
            print0("ready")
        except BaseException as error:
            failures.append(error)
            loop.call_soon_threadsafe(server.end)

    loader = threading.Thread(target=load, daemon=True)
    loader.start()
    announce(args, settings, sock.getsockname()[1])
    await server.serve(sockets=[sock])
    if not service.stop() or loader.is_alive():  # nobody waits for a model to be loaded that is not wanted any more
        sys.stdout.flush()
        os._exit(0)
    return failures[0] if failures else None


def main(args: argparse.Namespace) -> None:
    settings = find_model(args)
    sock = listen(args.host, args.port)
    if failure := asyncio.run(serve(args, settings, sock)):
        raise failure


if __name__ == "__main__":
    with friendly_errors():
        main(parse_args())
