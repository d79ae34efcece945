"""The web app: text on its way out, routes, limits, those who leave, and how it ends."""

import asyncio
import base64
import contextlib
import hashlib
import http.client
import json
import re
import socket
import threading
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from loopback_server import SOON, LoopbackServer, events_of, held, served, tiny_model

from nanochat import engine as engine_module
from nanochat import server as server_module
from nanochat.answers import Choice, HeldText, joined
from nanochat.engine import Engine, Event, Logprob
from nanochat.serving import Job, Service, ServiceError

pytestmark = pytest.mark.usefixtures("one_thread")
ASK = {"messages": [{"role": "user", "content": "Hi there"}]}
ENDLESS = {"prompt": "Hi", "ignore_eos": True, "stream": True}
PAGE = "<!doctype html><style>b {}</style><b>hello</b><script>1 + 1</script>"


@pytest.fixture
def page(tmp_path) -> Path:
    (tmp_path / "page.html").write_text(PAGE)
    return tmp_path / "page.html"


@pytest.fixture(scope="module")
def model(tokenizer):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("NANOCHAT_DTYPE", "float32")
        return tiny_model(tokenizer.get_vocab_size())


@pytest.fixture
def engine(model, tokenizer) -> Engine:
    return Engine(model, tokenizer, max_rows=4)


@pytest.fixture
def server(engine, page) -> Iterator[LoopbackServer]:
    with served(engine, page=page) as server:
        yield server


def script(monkeypatch, tokens: list[int]) -> None:
    """Have the model choose these tokens, whoever asks."""
    taken = Counter()

    def scripted(logits, requests, uniforms):
        taken["steps"] += 1
        return [tokens[taken["steps"] - 1]] * len(requests)

    monkeypatch.setattr(engine_module, "choose", scripted)


def refused(answer: tuple[int, dict, dict], status: int, code: str | None = None, param: str | None = None) -> str:
    """The message of an error, which must have OpenAI's shape."""
    kinds = {401: "authentication_error", 404: "not_found_error", 429: "rate_limit_error", 500: "server_error", 503: "server_error"}
    assert answer[0] == status, answer
    error = answer[2]["error"]
    assert set(error) == {"message", "type", "param", "code"} and error["type"] == kinds.get(status, "invalid_request_error")
    assert error["code"] == code and error["param"] == param, error
    assert answer[1].get("retry-after") == ("1" if status in (429, 503) and code != "timeout" else None)
    return error["message"]


# --- text on its way out ---------------------------------------------------------------------------------------------


def held_back(stops: list[str], pieces: list[str]) -> tuple[str, bool]:
    text = HeldText(stops)
    out = ""
    for piece in pieces:
        out += text.add(piece, 0, None).text
        assert not any(stop in out for stop in stops)
        if text.stopped:
            return out, True
    return out + text.flush().text, False


@given(st.text("ab", max_size=30), st.lists(st.text("ab", min_size=1, max_size=4), max_size=4), st.lists(st.integers(0, 30), max_size=8))
def test_stop_strings_do_not_mind_where_tokens_end(text, stops, cuts):
    """Cut at the first one to be complete, however the text comes."""
    ends = [(text.find(stop) + len(stop), text.find(stop)) for stop in stops if stop in text]
    expected = (text[: min(ends)[1]], True) if ends else (text, False)
    borders = [0, *sorted(min(cut, len(text)) for cut in cuts), len(text)]
    assert held_back(stops, [text[a:b] for a, b in zip(borders, borders[1:], strict=False)]) == expected
    assert held_back(stops, list(text)) == expected


def test_only_what_may_become_a_stop_string_waits():
    text = HeldText(["END.", "\n\n"])
    said = [text.add(piece, i, Logprob(-1.0, [])) for i, piece in enumerate(["a", "b\n", "c E", "N", "D", "!", " E"])]
    assert [piece.text for piece in said] == ["a", "b", "\nc ", "", "", "END!", " "]
    assert [[entry.token for entry in piece.entries] for piece in said] == [[0], [1], [2], [], [], [3, 4, 5], [6]]
    assert [entry.offset for piece in said for entry in piece.entries] == [0, 1, 3, 6, 7, 8, 9]
    assert text.flush().text == "E"


def choice_of(tokenizer, tokens: list[int], raw: bool = False, stops: tuple = ()) -> Choice:
    choice = Choice(0, tokenizer, stops, raw)
    for token in tokens:
        if not choice.finish_reason:
            choice.add(Event(0, token, 1))
    if not choice.finish_reason:
        choice.end("length")
    return choice


def test_parts(tokenizer):
    special = {name.strip("<|>"): token for name, token in tokenizer.special.items()}
    call = [special["python_start"], *tokenizer.encode("1+1"), special["python_end"]]
    result = [special["output_start"], *tokenizer.encode("2"), special["output_end"]]
    choice = choice_of(tokenizer, [*tokenizer.encode("So"), *call, *result, *call, *call, *tokenizer.encode("!")])
    said = [(piece.kind, piece.text) for piece in choice.news()]
    assert said == [("text", "So"), ("python", "1+1"), ("python_output", "2"), ("python", "1+1"), ("text", ""), ("python", "1+1"), ("text", "!")]
    empty = choice_of(tokenizer, [special["python_start"], special["python_end"]])
    assert [(piece.kind, piece.text) for piece in empty.news()] == [("python", "")]
    assert [(piece.kind, piece.text) for piece in choice_of(tokenizer, [*call, special["user_end"], 65], raw=True).news()] == [("text", "1+1A")]


def test_characters_stay_whole_and_do_not_reach_into_the_next_part(tokenizer):
    special, byte = tokenizer.special, [tokenizer.ranks[bytes([b])] for b in range(256)]
    hand = [byte[b] for b in "👋".encode()]
    tokens = [*hand, *hand[:2], special["<|python_start|>"], *hand[2:], byte[65], special["<|python_end|>"], *hand, *hand[:3]]
    choice, shown = Choice(0, tokenizer, (), False), []
    for token in tokens:
        choice.add(Event(0, token, 1))
        shown += choice.news()
    choice.end("length")
    assert [(piece.kind, piece.text) for piece in joined(shown)] == [("text", "👋"), ("python", "\ufffd\ufffdA"), ("text", "👋")]
    assert choice.news() == []


def test_stop_strings_do_not_reach_across_a_tool_call(tokenizer):
    special = tokenizer.special
    tokens = [
        *tokenizer.encode("EN"),
        special["<|python_start|>"],
        *tokenizer.encode("END"),
        special["<|python_end|>"],
        *tokenizer.encode("D then END."),
    ]
    choice = choice_of(tokenizer, tokens, stops=("END",))
    assert [piece.text for piece in choice.news()] == ["EN", "END", "D then "] and choice.finish_reason == "stop"


# --- routes ----------------------------------------------------------------------------------------------------------


def test_what_the_server_says_of_itself(server):
    assert server.ask("GET", "/health")[::2] == (200, {"status": "ok", "ready": True})
    assert server.ask("GET", "/ready")[::2] == (200, {"ready": True})
    assert server.ask("GET", "/config")[2] == {"model": "tiny", "source": "sft", "step": 7, "context": 512, "max_tokens": 32, "temperature": 0.8,
                                               "top_k": 50, "top_p": 1.0, "key_required": False}  # fmt: skip
    server.ask("POST", "/v1/completions", {"prompt": "Hi", "max_tokens": 9, "ignore_eos": True})
    server.until_idle()
    stats = server.ask("GET", "/stats")[2]
    assert {
        "queue": 0,
        "rows": 0,
        "max_rows": 4,
        "requests": 1,
        "tokens": 9,
        "dropped_clients": 0,
        "model": "tiny",
        "context": 512,
    }.items() <= stats.items()
    assert stats["tokens_per_second"] > 0 and 0 <= stats["uptime_seconds"] < 3600


def test_the_page_may_do_nothing_but_what_stands_in_it(server):
    status, headers, text = server.ask("GET", "/")
    assert status == 200 and text == PAGE and headers["content-type"] == "text/html; charset=utf-8"
    policy = dict(rule.split(" ", 1) for rule in headers["content-security-policy"].split("; "))
    assert policy["default-src"] == "'none'" and policy["connect-src"] == "'self'" and policy["img-src"] == "data:"
    digest = base64.b64encode(hashlib.sha256(b"1 + 1").digest()).decode()
    assert policy["script-src"] == f"'sha256-{digest}'" and re.fullmatch("'sha256-.{44}'", policy["style-src"])
    assert "unsafe" not in headers["content-security-policy"] and headers["x-content-type-options"] == "nosniff"
    assert server.ask("GET", "/docs")[0] == 404  # it would load scripts from elsewhere


def test_every_refusal_has_the_same_shape(server):
    assert "nothing at /nothing" in refused(server.ask("GET", "/nothing"), 404)
    assert "does not know GET" in refused(server.ask("GET", "/v1/completions"), 405)
    assert "does not know DELETE" in refused(server.ask("DELETE", "/"), 405)
    refused(server.ask("GET", "/v1/models/other"), 404, "model_not_found", "model")
    assert server.ask("GET", "/health/")[0] == 404  # one address for one thing


def test_the_schema_tells_the_truth(server):
    schema = server.ask("GET", "/openapi.json")[2]
    assert {"/v1/chat/completions", "/v1/completions", "/v1/models", "/chat/completions", "/health", "/ready", "/stats"} <= set(schema["paths"])
    for path in schema["paths"].values():
        for operation in path.values():
            assert set(operation["responses"]) == {"200", "default"}
    chat = schema["components"]["schemas"]["ChatRequest"]
    assert chat["required"] == ["messages"] and chat["additionalProperties"] is False
    assert chat["properties"]["temperature"]["anyOf"][0] == {"type": "number", "minimum": 0, "maximum": 2}


def test_calls_of_the_calculator_are_parts(server, tokenizer, monkeypatch):
    special = tokenizer.special
    call = [special["<|python_start|>"], *tokenizer.encode("12*3"), special["<|python_end|>"]]
    forced = 2 + len(tokenizer.encode("36"))
    written = [*call, *[0] * forced, *tokenizer.encode("It is 36."), special["<|assistant_end|>"]]
    parts = [{"type": "python", "text": "12*3"}, {"type": "python_output", "text": "36"}, {"type": "text", "text": "It is 36."}]
    script(monkeypatch, written)
    choice = server.ask("POST", "/v1/chat/completions", ASK)[2]["choices"][0]
    assert choice == {"index": 0, "message": {"role": "assistant", "content": "It is 36.", "parts": parts}, "logprobs": None, "finish_reason": "stop"}
    script(monkeypatch, written)
    with server.stream("/v1/chat/completions", {**ASK, "stream": True}) as events:
        *chunks, done = events
    deltas = [chunk["choices"][0]["delta"] for chunk in chunks]
    assert done == "[DONE]" and deltas[0] == {"role": "assistant", "content": ""} and deltas[-1] == {}
    streamed = []
    for delta in deltas[1:-1]:
        assert ("content" in delta) != ("part" in delta)
        part = delta.get("part") or {"type": "text", "text": delta["content"]}
        if streamed and streamed[-1]["type"] == part["type"]:
            streamed[-1]["text"] += part["text"]
        else:
            streamed.append(dict(part))
    assert streamed == parts
    # What was said comes back as it was said, with parts as the content or beside it
    seen = []
    monkeypatch.setattr(server.engine, "fit", lambda conversation, *_: seen.append(conversation) or ([1, 2, 3], 0))
    for answer in ({"content": parts}, {"content": "It is 36.", "parts": parts}, {"content": "It was 36.", "parts": parts}):
        script(monkeypatch, [special["<|assistant_end|>"]])
        body = {"messages": [*ASK["messages"], {"role": "assistant", **answer}, *ASK["messages"]]}
        assert server.ask("POST", "/v1/chat/completions", body)[0] == 200
    assert [conversation["messages"][1]["content"] for conversation in seen] == [parts, parts, "It was 36."]


def test_who_may_say_what(server):
    def ask(*messages: tuple[str, object]) -> tuple[int, dict, dict]:
        body = {"messages": [{"role": role, "content": content} for role, content in messages], "max_tokens": 2}
        return server.ask("POST", "/v1/chat/completions", body)

    text = [{"type": "text", "text": "Hel"}, {"type": "text", "text": "lo"}]
    for messages in ([("system", "Be brief."), ("user", "Hi")], [("developer", text), ("user", text)], [("system", ""), ("user", "Hi")]):
        assert ask(*messages)[0] == 200
    same = [ask(("user", text))[2]["usage"]["prompt_tokens"], ask(("user", "Hello"))[2]["usage"]["prompt_tokens"]]
    assert same[0] == same[1]
    for messages, says in (
        ([], "at least 1"), ([("user", "")], "empty"), ([("system", "x")], "last message"), ([("user", "a"), ("assistant", "b")], "last message"),
        ([("user", "a"), ("user", "b")], "take turns"), ([("user", "a"), ("system", "b"), ("user", "c")], "message 1"), ([("robot", "a")], "robot"),
        ([("user", [{"type": "python", "text": "1"}])], "text"), ([("user", [{"type": "image_url", "image_url": "x"}])], "text"),
    ):  # fmt: skip
        assert says in refused(ask(*messages), 400, param="messages")


def test_the_oldest_turns_are_dropped_if_the_client_says_so(server):
    turns = [{"role": role, "content": f"{role} says {i} and then some more words"} for i in range(40) for role in ("user", "assistant")]
    body = {"messages": [*turns, *ASK["messages"]], "max_tokens": 30}
    message = refused(server.ask("POST", "/v1/chat/completions", body), 400, "context_length_exceeded", "messages")
    assert "512" in message and "30 of an answer" in message
    answer = server.ask("POST", "/v1/chat/completions", {**body, "context_overflow": "drop_oldest"})[2]
    assert 0 < answer["dropped_messages"] < 80 and answer["dropped_messages"] % 2 == 0 and answer["usage"]["prompt_tokens"] + 30 <= 512
    with server.stream("/v1/chat/completions", {**body, "context_overflow": "drop_oldest", "stream": True}) as events:
        assert [event.get("dropped_messages") for event in list(events)[:3]] == [answer["dropped_messages"], None, None]
    del body["max_tokens"]
    roomy = server.ask("POST", "/v1/chat/completions", {**body, "context_overflow": "drop_oldest"})[2]
    assert roomy["usage"]["prompt_tokens"] + 32 <= 512  # the default of -m, or a quarter of the context
    alone = {"messages": [{"role": "user", "content": "why " * 600}], "context_overflow": "drop_oldest"}
    refused(server.ask("POST", "/v1/chat/completions", alone), 400, "context_length_exceeded", "messages")
    mistaken = {"messages": [{"role": "assistant", "content": "I begin"}, *turns[1:], *ASK["messages"]], "context_overflow": "drop_oldest"}
    refused(server.ask("POST", "/v1/chat/completions", mistaken), 400, param="messages")  # is not dropped and forgotten
    assert "dropped_messages" not in server.ask("POST", "/v1/chat/completions", {**ASK, "context_overflow": "drop_oldest"})[2]


def test_limits_of_a_request(engine, page):
    with served(engine, page=page, max_messages=3, max_request_tokens=5, max_tokens=400) as server:
        assert server.ask("POST", "/v1/chat/completions", ASK)[2]["usage"]["completion_tokens"] <= 5
        for name in ("max_tokens", "max_completion_tokens"):
            assert "allows 5" in refused(server.ask("POST", "/v1/chat/completions", {**ASK, name: 6}), 400, param=name)
        five = {"messages": [ASK["messages"][0], {"role": "assistant", "content": "x"}] * 2 + ASK["messages"]}
        assert "takes 3" in refused(server.ask("POST", "/v1/chat/completions", five), 400, param="messages")
        assert "128 answers" in refused(server.ask("POST", "/v1/completions", {"prompt": ["a"] * 65, "n": 2}), 400, param="n")
        refused(server.ask("POST", "/v1/chat/completions", {**ASK, "top_logprobs": 2}), 400, param="top_logprobs")
        assert "vocabulary" in refused(server.ask("POST", "/v1/completions", {"prompt": [1, 99999]}), 400)


def test_upstreams_own_stream(server):
    body = {**ASK, "temperature": 0, "max_tokens": 12, "top_k": 50}
    with server.stream("/chat/completions", body) as events:
        *tokens, done = events
    assert done == {"done": True} and all(set(token) == {"token", "gpu"} and token["gpu"] == 0 for token in tokens)
    whole = server.ask("POST", "/v1/chat/completions", body)[2]
    assert "".join(token["token"] for token in tokens) == whole["choices"][0]["message"]["content"]


def test_base_models_go_on_with_texts(engine, page):
    with served(engine, page=page, source="base") as server:
        for path in ("/v1/chat/completions", "/chat/completions"):
            assert "base model" in refused(server.ask("POST", path, ASK), 400)
        assert server.ask("POST", "/v1/completions", {"prompt": "Hi"})[0] == 200


def test_conversations_are_logged_if_that_is_wanted_and_only_then(engine, page, capfd):
    for wanted in (False, True):
        with served(engine, page=page, log_conversations=wanted) as server:
            answer = server.ask("POST", "/v1/chat/completions", {**ASK, "user": "someone"})[2]
            with server.stream("/v1/completions", {"prompt": "my secret", "stream": True}) as events:
                list(events)
            server.until_idle()
        lines = [json.loads(line) for line in capfd.readouterr().out.splitlines()]
        assert len(lines) == (2 if wanted else 0)
    assert lines[0] == {"request": {**ASK, "user": "someone"}, "response": answer} and lines[1]["request"]["prompt"] == "my secret"


# --- keys, origins, bodies -------------------------------------------------------------------------------------------


def test_the_key_guards_all_but_three_routes(engine, page):
    with served(engine, page=page, api_key="sesame") as server:
        for path in ("/", "/health", "/ready"):
            assert server.ask("GET", path)[0] == 200
        paths = ("/stats", "/config", "/v1/models", "/openapi.json", "/nothing", "/health/", "//health", "/v1/../health", "/ready/x")
        for method, path in [("GET", path) for path in paths] + [("POST", "/v1/completions"), ("POST", "/v1/chat/completions")]:
            for key in ("", "sesam", "sesame s", "Sesame"):
                answer = server.ask(method, path, key=key)
                assert "sesame" not in refused(answer, 401, "invalid_api_key") and answer[1]["www-authenticate"] == "Bearer"
        assert refused(server.ask("GET", "/stats", headers={"Authorization": "Basic sesame"}), 401, "invalid_api_key")
        assert server.ask("GET", "/stats", key="sesame")[0] == 200 and server.ask("GET", "/config", key="sesame")[2]["key_required"]


def test_other_origins_are_let_in_one_by_one(engine, page):
    preflight = {"Origin": "https://a.example", "Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": "authorization"}
    with served(engine, page=page, api_key="k") as server:
        assert not any(name.startswith("access-control") for name in server.ask("OPTIONS", "/v1/completions", headers=preflight)[1])
        assert not any(name.startswith("access-control") for name in server.ask("GET", "/health", headers=preflight)[1])
    with served(engine, page=page, api_key="k", allow_origin="https://a.example") as server:
        status, headers, _ = server.ask("OPTIONS", "/v1/completions", headers=preflight)
        assert status == 200 and headers["access-control-allow-origin"] == "https://a.example" and "access-control-allow-credentials" not in headers
        assert server.ask("GET", "/stats", headers=preflight)[1]["access-control-allow-origin"] == "https://a.example"  # refusals can be read, too
        stranger = server.ask("GET", "/health", headers={**preflight, "Origin": "https://b.example"})[1]
        assert "access-control-allow-origin" not in stranger


def chunked(body: bytes, piece: int = 1000) -> Iterator[bytes]:
    return (body[i : i + piece] for i in range(0, len(body), piece))


def test_bodies_have_a_limit_however_they_come(engine, page):
    fine, long = (json.dumps({"prompt": "x" * size, "max_tokens": 1}).encode() for size in (100, 5000))
    with served(engine, page=page, max_body=2000) as server:
        for body in (fine, long):
            with contextlib.closing(http.client.HTTPConnection("127.0.0.1", server.port, timeout=SOON)) as connection:
                connection.request("POST", "/v1/completions", chunked(body), {"Content-Type": "application/json"}, encode_chunked=True)
                response = connection.getresponse()
                assert response.status == (200 if body is fine else 413)
                if body is long:
                    assert json.loads(response.read())["error"]["code"] == "body_too_large"
        assert "2,000" in refused(server.ask("POST", "/v1/completions", long), 413, "body_too_large")
        assert server.ask("POST", "/v1/completions", fine)[0] == 200


def test_a_body_that_does_not_come(engine, page, monkeypatch):
    monkeypatch.setattr(server_module, "BODY_SECONDS", 0.05)
    with served(engine, page=page) as server, socket.create_connection(("127.0.0.1", server.port), timeout=SOON) as sock:
        sock.sendall(b"POST /v1/completions HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 100\r\n\r\n{")
        answer = b""
        while not answer.endswith(b"}}"):
            answer += sock.recv(1 << 16)
        assert answer.startswith(b"HTTP/1.1 400") and b"body_timeout" in answer


# --- the engine's side -----------------------------------------------------------------------------------------------


def in_background(server: LoopbackServer, *request: object) -> tuple[threading.Thread, list]:
    """A request whose answer nobody waits for yet."""
    answers: list = []
    thread = threading.Thread(target=lambda: answers.append(server.ask(*request)))
    thread.start()
    return thread, answers


def test_a_step_that_fails_fails_those_who_are_in_it(server, monkeypatch, capfd):
    hidden = server.engine.model.hidden

    def no_memory(*_):
        raise MemoryError("all\nused up")

    with held(server.engine) as go, server.stream("/v1/completions", {**ENDLESS, "max_tokens": 50}) as events:
        thread, answers = in_background(server, "POST", "/v1/chat/completions", ASK)
        server.until(lambda server: len(server.engine.inbox) == 2)
        monkeypatch.setattr(server.engine.model, "hidden", no_memory)
        go.set()
        (told,) = events
        thread.join(SOON)
    assert told["error"]["code"] == "engine_error" and "failed" in refused(answers[0], 500, "engine_error")
    monkeypatch.setattr(server.engine.model, "hidden", hidden)
    assert server.ask("POST", "/v1/chat/completions", ASK)[0] == 200
    assert server.ask("GET", "/stats")[2]["failed_steps"] == 1
    assert "MemoryError: all used up" in capfd.readouterr().out


def test_a_failure_that_comes_before_anyone_listens():
    async def listen() -> None:
        job = Job(Service(), None)
        job.streams.append(SimpleNamespace(samples=[SimpleNamespace(finish_reason="error")], cancel=lambda: None))
        job.told([], True)
        with pytest.raises(ServiceError, match="failed"):
            [_ async for _ in job.batches()]
        job.close()

    asyncio.run(listen())


def test_what_nobody_has_foreseen_is_not_told(server, monkeypatch, capfd):
    def broken(*_):
        raise RuntimeError("inner secrets")

    monkeypatch.setattr(server.engine, "fit", broken)
    assert "secrets" not in refused(server.ask("POST", "/v1/chat/completions", ASK), 500, "internal_error")
    assert capfd.readouterr().out == "error: POST /v1/chat/completions: RuntimeError: inner secrets\n"
    monkeypatch.setattr("nanochat.answers.CompletionAnswer._written", broken)
    with server.stream("/v1/completions", ENDLESS) as events:  # it is too late for a status
        assert [event["error"]["code"] for event in events] == ["internal_error"]
    server.until_idle()


def test_the_queue_has_an_end(engine, page):
    """Rows that are free and places in the queue are filled; the next one is sent away, until there is room again."""
    with served(engine, page=page, max_queue=3) as server, contextlib.ExitStack() as streams:
        with held(engine) as go:
            opened = [streams.enter_context(server.stream("/v1/completions", {**ENDLESS, "max_tokens": 100})) for _ in range(7)]
            assert "7 requests are waiting" in refused(server.ask("POST", "/v1/completions", {"prompt": "Hi"}), 429, "queue_full")
            assert server.ask("GET", "/stats")[2]["queue"] == 7
            go.set()
            for events in opened[:4]:
                next(events)
        for events in opened:
            assert list(events)[-1] == "[DONE]"
        assert server.ask("POST", "/v1/completions", {"prompt": "Hi"})[0] == 200
        assert server.service.counts["refused"] == 1


def test_time_is_up(engine, page):
    with served(engine, page=page, timeout=0.2) as server:
        with held(engine), server.stream("/v1/completions", {**ENDLESS, "max_tokens": 100}) as events:
            assert "0.2 s" in refused(server.ask("POST", "/v1/chat/completions", ASK), 503, "timeout")
            (told,) = events
            assert told["error"]["code"] == "timeout" and told["error"]["type"] == "server_error"
        server.until_idle()
        assert not engine.rows


def test_a_client_that_does_not_read_is_left_alone(engine, page, monkeypatch):
    """Its answer is more than the system holds for it; its row is free all the same, and in the end its connection is cut."""
    monkeypatch.setattr(server_module, "GRACE", 0.1)
    with served(engine, page=page, timeout=0.3) as server:
        monkeypatch.setattr("nanochat.answers.CompletionAnswer.chunks", lambda *_: b"x" * (1 << 22))
        with server.open("POST", "/v1/completions", {**ENDLESS, "max_tokens": 400}) as response:
            server.until(lambda server: server.service.counts["dropped_clients"] == 1)
            server.until_idle()
            with pytest.raises((http.client.IncompleteRead, ConnectionError, ValueError)):
                response.read()


def test_who_waits_hears_from_us(engine, page, monkeypatch):
    monkeypatch.setattr(server_module, "KEEP_ALIVE", 0.02)
    body = {**ENDLESS, "max_tokens": 5}
    with served(engine, page=page) as server, held(engine) as go, server.open("POST", "/v1/completions", body) as response:
        assert [response.readline() for _ in range(4)] == [b": waiting\n", b"\n"] * 2
        go.set()
        assert list(events_of(response))[-1] == "[DONE]"


@pytest.mark.parametrize(
    "body", [{**ENDLESS, "max_tokens": 480}, {**ENDLESS, "max_tokens": 480, "stream": False}, {**ASK, "n": 50, "max_tokens": 400}]
)
def test_who_leaves_frees_the_row(server, body):
    path = "/v1/chat/completions" if "messages" in body else "/v1/completions"
    data = json.dumps(body).encode()
    head = f"POST {path} HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: {len(data)}\r\n\r\n".encode()
    with held(server.engine) as go:
        with socket.create_connection(("127.0.0.1", server.port)) as sock:
            sock.sendall(head + data)
            server.until(lambda server: server.engine.inbox)
        server.until(lambda server: not server.service.jobs)  # nothing has moved yet, and it is gone
        go.set()
        server.until_idle()
    assert not server.engine.rows and server.service.counts["dropped_clients"] == 1 and server.service.counts["tokens"] == 0
    with socket.create_connection(("127.0.0.1", server.port)) as sock:
        sock.sendall(head + data)
        server.until(lambda server: server.service.counts["tokens"] > 5)
    server.until_idle()
    assert not server.engine.rows and server.service.counts["tokens"] < 350


@pytest.mark.parametrize("tail", [b"\r\n", b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n"])
def test_who_sends_on_and_then_leaves_is_noticed(server, tail):
    data = json.dumps({**ENDLESS, "max_tokens": 480, "stream": False}).encode()
    head = f"POST /v1/completions HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: {len(data)}\r\n\r\n".encode()
    with held(server.engine) as go:
        with socket.create_connection(("127.0.0.1", server.port)) as sock:
            sock.sendall(head + data)
            server.until(lambda server: server.engine.inbox)
            assert server.ask("GET", "/health")[0] == 200  # by now the server waits for nothing but the engine and the client's leaving
            sock.sendall(tail)
            assert server.ask("GET", "/health")[0] == 200
        server.until(lambda server: not server.service.jobs)
        go.set()
        server.until_idle()
    assert server.service.counts["dropped_clients"] == 1 and server.service.counts["tokens"] == 0


@pytest.mark.parametrize("sent", [b"", b"GET /health HTTP/1.1\r\nHos", b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n"])
def test_a_connection_that_asks_for_nothing_is_closed(engine, page, monkeypatch, sent):
    monkeypatch.setattr(server_module, "IDLE_SECONDS", 0.3)
    with served(engine, page=page) as server, socket.create_connection(("127.0.0.1", server.port), timeout=SOON) as sock:
        sock.sendall(sent)
        answer = b""
        while more := sock.recv(1 << 16):
            answer += more
        assert answer.startswith(b"HTTP/1.1 200") == sent.endswith(b"\r\n\r\n")


def test_a_stop_string_frees_the_row_of_its_sample(server, monkeypatch, tokenizer):
    script(monkeypatch, [*tokenizer.encode("so it END here"), *[65] * 400])
    with server.stream("/v1/completions", {**ENDLESS, "max_tokens": 400, "n": 3, "stop": ["END"]}) as events:
        assert list(events)[-1] == "[DONE]"
    server.until_idle()
    assert server.service.counts["tokens"] < 300


def test_one_prompt_of_several_is_refused(server):
    """Those before it must not be left behind."""
    refused(server.ask("POST", "/v1/completions", {"prompt": [[1, 2], [3, 99999]], "max_tokens": 400, "ignore_eos": True}), 400)
    server.until_idle()
    assert not server.engine.rows and not server.engine.waiting


def test_work_is_shared(model, tokenizer, page):
    engines = [Engine(model, tokenizer, max_rows=2) for _ in range(3)]
    with served(engines[0], page=page, max_queue=0) as server:
        for engine in engines[1:]:
            server.run(server.service.add, engine)
        server.until(lambda server: len(server.service.workers) == 3)
        with contextlib.ExitStack() as stack:
            for engine in engines:
                stack.enter_context(held(engine))
            for _ in range(6):
                stack.enter_context(server.stream("/v1/completions", {**ENDLESS, "max_tokens": 9}))
            assert [len(engine.inbox) for engine in engines] == [2, 2, 2]
            refused(server.ask("POST", "/v1/completions", {"prompt": "Hi"}), 429, "queue_full")
        assert server.ask("GET", "/stats")[2]["max_rows"] == 6


# --- the end ---------------------------------------------------------------------------------------------------------


def test_before_the_model_is_there(page):
    with served(None, page=page) as server:
        assert server.ask("GET", "/health")[::2] == (200, {"status": "ok", "ready": False})
        refused(server.ask("GET", "/ready"), 503, "loading")
        refused(server.ask("POST", "/v1/chat/completions", ASK), 503, "loading")
        assert server.ask("GET", "/config")[0] == server.ask("GET", "/")[0] == server.ask("GET", "/stats")[0] == 200


def test_the_last_ones_are_served(engine, page):
    """Nobody new is let in; who is there is answered."""
    with served(engine, page=page, patience=SOON) as server:
        with held(engine) as go, server.stream("/v1/completions", {**ENDLESS, "max_tokens": 100}) as events:
            server.run(server.web.end)
            server.until(lambda server: server.service.draining)
            refused(server.ask("GET", "/ready"), 503, "draining")
            refused(server.ask("POST", "/v1/completions", {"prompt": "Hi"}), 503, "draining")
            assert server.ask("GET", "/health")[2]["ready"] is False
            go.set()
            assert list(events)[-1] == "[DONE]"
        server.thread.join(SOON)
        assert not server.thread.is_alive()


def test_who_takes_too_long_hears_why(engine, page):
    with served(engine, page=page, patience=0.05) as server, held(engine), server.stream("/v1/completions", ENDLESS) as events:
        server.run(server.web.end)
        (told,) = events
        assert told["error"]["code"] == "draining" and told["error"]["type"] == "server_error"
        with pytest.raises(OSError):  # the port is closed
            while True:
                socket.create_connection(("127.0.0.1", server.port), timeout=SOON).close()
