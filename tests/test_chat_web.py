"""scripts.chat_web as a user starts it: from the open port over signals to the end, and what it says when something is wrong."""

import contextlib
import http.client
import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from loopback_server import SOON, events_of, tiny_model

from scripts import chat_web

ROOT = Path(__file__).parent.parent
ENDLESS = {"prompt": "Hi", "ignore_eos": True, "stream": True}


@pytest.fixture(scope="module")
def base(tmp_path_factory, tokenizer) -> Path:
    """A base dir with a chat model that has a large context."""
    from nanochat.checkpoint_manager import CheckpointManager

    base = tmp_path_factory.mktemp("serve")
    CheckpointManager(base / "chatsft_checkpoints" / "d2").save(3, tiny_model(tokenizer.get_vocab_size(), 8192), tokenizer=tokenizer)
    return base


@contextlib.contextmanager
def started(base: Path, *flags: str) -> Iterator[tuple[subprocess.Popen, int]]:
    """scripts.chat_web as a user starts it, and its port. Its own session shows whether it leaves anyone behind."""
    env = {**os.environ, "NANOCHAT_BASE_DIR": str(base), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "scripts.chat_web", "-p", "0", "--device-type", "cpu", *flags]
    process = subprocess.Popen(command, cwd=ROOT, env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True)
    try:
        found = re.search(r"at http://127\.0\.0\.1:(\d+) \(loading\)", process.stdout.readline())
        yield process, int(found[1])
    finally:
        process.kill()
        process.communicate()


def request_of(port: int, body: dict) -> http.client.HTTPResponse:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=SOON)
    connection.request("POST", "/v1/completions", json.dumps(body), {"Content-Type": "application/json"})
    return connection.getresponse()


def status_of(port: int, path: str) -> tuple[int, dict]:
    with contextlib.closing(http.client.HTTPConnection("127.0.0.1", port, timeout=SOON)) as connection:
        connection.request("GET", path)
        response = connection.getresponse()
        return response.status, json.loads(response.read())


def test_a_server_from_its_start_to_its_end(base):
    with started(base, "--shutdown-timeout", "1", "--max-rows", "3") as (process, port):
        status, ready = status_of(port, "/ready")  # long before torch is imported
        assert (status, ready["error"]["code"]) == (503, "loading") and status_of(port, "/health") == (200, {"status": "ok", "ready": False})
        assert request_of(port, {"prompt": "Hi"}).status == 503
        again = subprocess.run([sys.executable, "-m", "scripts.chat_web", "-p", str(port)], cwd=ROOT, capture_output=True, text=True,
                               env={**os.environ, "NANOCHAT_BASE_DIR": str(base)})  # fmt: skip
        assert again.returncode == 2 and f"port {port}" in again.stderr and "Traceback" not in again.stderr
        assert process.stdout.readline() == "ready\n" and status_of(port, "/ready")[0] == 200
        assert status_of(port, "/config")[1] == {"model": "d2", "source": "sft", "step": 3, "context": 8192, "max_tokens": 512, "temperature": 0.8,
                                                 "top_k": 50, "top_p": 1.0, "key_required": False}  # fmt: skip
        endless = request_of(port, {**ENDLESS, "max_tokens": 8000})
        endless.readline()
        short = request_of(port, {**ENDLESS, "max_tokens": 5})
        process.send_signal(signal.SIGTERM)
        assert list(events_of(short))[-1] == "[DONE]"
        *_, last = events_of(endless)
        assert last == "[DONE]" or last["error"]["code"] == "draining"
        assert process.wait(SOON) == 0
        assert process.stdout.read() == "" and "Traceback" not in process.stderr.read()
        with pytest.raises(ProcessLookupError):
            os.killpg(process.pid, 0)  # no child left


def test_signals_while_loading_and_twice(base):
    with started(base) as (process, port):
        assert status_of(port, "/health")[0] == 200
        process.send_signal(signal.SIGINT)
        assert process.wait(SOON) == 0 and "Traceback" not in process.stderr.read()
    with started(base, "--shutdown-timeout", "1000") as (process, port):
        assert process.stdout.readline() == "ready\n"
        endless = request_of(port, {**ENDLESS, "max_tokens": 8000})
        endless.readline()
        process.send_signal(signal.SIGTERM)
        assert "finishing" in process.stderr.readline() + process.stderr.readline()
        process.send_signal(signal.SIGTERM)
        assert process.wait(SOON) == 128 + signal.SIGTERM


def test_a_model_that_cannot_be_loaded_ends_the_server(base, tmp_path):
    (copy := tmp_path / "chatsft_checkpoints" / "d2").mkdir(parents=True)
    for path in (base / "chatsft_checkpoints" / "d2").glob("*.*"):
        (copy / path.name).write_bytes(path.read_bytes())
    meta = json.loads((copy / "meta_000003.json").read_text())
    (copy / "meta_000003.json").write_text(json.dumps({**meta, "model_config": {**meta["model_config"], "n_layer": 5}}))
    with started(tmp_path) as (process, _):
        assert process.wait(SOON) == 1
        said = process.stderr.read()
        assert said.startswith("error: ") and "Traceback" not in said


@pytest.mark.parametrize(("flags", "status", "says"), [
    ("-p 70000", 2, "--port 70000"), ("-t nan", 2, "--temperature nan"), ("--top-p 0", 2, "--top-p 0"), ("-k -1", 2, "--top-k -1"),
    ("-m 0", 2, "--max-tokens 0"), ("--max-rows 0", 2, "--max-rows 0"), ("--timeout 0", 2, "--timeout 0"), ("-n 0", 2, "--num-gpus 0"),
    ("--shutdown-timeout inf", 2, "--shutdown-timeout"), ("--api-key schlüssel", 2, "ASCII"), ("--max-request-tokens 0", 2, "at least 1"),
    ("-g d9", 1, "chat_sft"), ("-i base", 1, "base_train"), ("-s 77", 1, "step 77"), ("--host 192.0.2.1", 2, "--host"),
])  # fmt: skip
def test_wrong_flags(flags, status, says, base, monkeypatch, capsys):
    monkeypatch.setenv("NANOCHAT_BASE_DIR", str(base))
    monkeypatch.setattr(sys, "argv", ["chat_web", *flags.split()])
    with pytest.raises((SystemExit, ValueError)) as caught:
        chat_web.main(chat_web.parse_args())
    said = capsys.readouterr().err + str(caught.value)
    assert says in said and "schlüssel" not in said
    assert isinstance(caught.value, SystemExit) == (status == 2) and getattr(caught.value, "code", 1) == status


def test_open_to_the_world(base, monkeypatch, capsys):
    monkeypatch.setenv("NANOCHAT_BASE_DIR", str(base))
    monkeypatch.setenv("NANOCHAT_API_KEY", "from the environment")
    for flags, warned in (([], False), (["--api-key", ""], True)):
        monkeypatch.setattr(sys, "argv", ["chat_web", "--host", "0.0.0.0", *flags])
        args = chat_web.parse_args()
        settings = chat_web.find_model(args)
        assert settings.api_key == ("" if flags else "from the environment")
        chat_web.announce(args, settings, 8000)
        said = capsys.readouterr().out
        assert ("warning" in said) == warned and "from the environment" not in said
    assert [chat_web.is_loopback(host) for host in ("127.0.0.1", "localhost", "::1", "0.0.0.0", "::", "example.org")] == [True] * 3 + [False] * 3
