"""What the server bears: whatever comes, the answer has OpenAI's shape, nothing breaks, and nobody else waits long for it."""

import contextlib
import json
import math
import re
import socket
import threading
import time
from collections.abc import Iterator
from urllib.parse import quote

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from loopback_server import SOON, LoopbackServer, events_of, served, tiny_model

from nanochat.engine import Engine

pytestmark = pytest.mark.usefixtures("one_thread")
CHAT, COMPLETION, PLAIN = "/v1/chat/completions", "/v1/completions", "/chat/completions"
ASK = {"messages": [{"role": "user", "content": "Hi"}]}
PROMPT = {"prompt": "Hi"}


@pytest.fixture(scope="module")
def server(tokenizer, tmp_path_factory) -> Iterator[LoopbackServer]:
    page = tmp_path_factory.mktemp("page") / "page.html"
    page.write_text("<b>hello</b>")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("NANOCHAT_DTYPE", "float32")
        engine = Engine(tiny_model(tokenizer.get_vocab_size()), tokenizer, max_rows=16)
    with served(engine, page=page, max_tokens=3, max_request_tokens=3) as server:
        yield server


def check_refusal(status: int, body: dict, among: tuple[int, ...] = (400, 404, 413)) -> None:
    assert status in among, (status, body)
    error = body["error"]
    assert set(body) == {"error"} and set(error) == {"message", "type", "param", "code"} and 0 < len(error["message"]) < 1000
    assert error["type"] == ("not_found_error" if status == 404 else "invalid_request_error")
    assert "Traceback" not in error["message"] and "/nanochat/" not in error["message"]


# --- bodies that make no sense ---------------------------------------------------------------------------------------


def but(base: dict, **changes: object) -> bytes:
    return json.dumps({**base, **changes}).encode()


def said(*messages: object) -> bytes:
    return json.dumps({"messages": messages}).encode()


BODIES = {
    "nothing": (CHAT, b""),
    "blanks": (CHAT, b"   "),
    "half an object": (CHAT, b'{"messages": [{"role": "user", "content": "Hi"}'),
    "a single quote": (COMPLETION, b"{'prompt': 'Hi'}"),
    "a list": (CHAT, b"[]"),
    "a text": (COMPLETION, b'"Hi"'),
    "null": (COMPLETION, b"null"),
    "bad UTF-8": (COMPLETION, b'{"prompt": "\xff\xfe\x80"}'),
    "half of a surrogate pair": (COMPLETION, b'{"prompt": "\\ud800"}'),
    "half of one in UTF-8": (CHAT, b'{"messages": [{"role": "user", "content": "\xed\xa0\x80"}]}'),
    "UTF-16": (COMPLETION, '{"prompt": 5}'.encode("utf-16")),
    "zeros": (COMPLETION, bytes(1000)),
    "nested lists": (CHAT, b"[" * 100_000),
    "nested objects": (CHAT, b'{"messages":' * 80_000),
    "nested in a value": (CHAT, b'{"messages": [], "user": ' + b"[" * 100_000 + b"]" * 100_000 + b"}"),
    "a long number": (COMPLETION, b'{"seed": ' + b"9" * 100_000 + b"}"),
    "a huge number": (COMPLETION, b'{"temperature": 1e999}'),
    "many names": (CHAT, json.dumps({f"name{i}": i for i in range(50_000)}).encode()),
    "many wrong messages": (CHAT, but({}, messages=[0] * 300_000)),
    "many messages": (CHAT, but({}, messages=[{"role": role, "content": "Hi"} for _ in range(5000) for role in ("user", "assistant")])),
    "a wrong token among many": (COMPLETION, but({}, prompt=[1] * 200_000 + ["x"])),
    "too many tokens": (COMPLETION, but({}, prompt=[1] * 200_000)),
    "too much text": (COMPLETION, but({}, prompt="why " * 200_000)),
    "no messages": (CHAT, but({}, messages=[])),
    "an unknown role": (CHAT, said({"role": "robot", "content": "Hi"})),
    "no role": (CHAT, said({"content": "Hi"})),
    "no content": (CHAT, said({"role": "user"})),
    "an empty content": (CHAT, said({"role": "user", "content": ""})),
    "a number as content": (CHAT, said({"role": "user", "content": 5})),
    "a message that is a text": (CHAT, said("Hi")),
    "an image": (CHAT, said({"role": "user", "content": [{"type": "image_url", "image_url": {"url": "x"}}]})),
    "negative tokens": (CHAT, but(ASK, max_tokens=-1)),
    "no tokens of a chat": (CHAT, but(ASK, max_tokens=0)),
    "half a token": (CHAT, but(ASK, max_tokens=1.5)),
    "very many tokens": (CHAT, but(ASK, max_tokens=10**30)),
    "NaN": (CHAT, but(ASK, temperature=math.nan)),
    "infinity": (CHAT, but(ASK, temperature=math.inf)),
    "a negative temperature": (COMPLETION, but(PROMPT, temperature=-0.1)),
    "a temperature as text": (COMPLETION, but(PROMPT, temperature="0.5")),
    "a temperature that is true": (COMPLETION, but(PROMPT, temperature=True)),
    "top_p above 1": (COMPLETION, but(PROMPT, top_p=1.5)),
    "negative top_k": (COMPLETION, but(PROMPT, top_k=-1)),
    "no answers": (CHAT, but(ASK, n=0)),
    "a million answers": (CHAT, but(ASK, n=1_000_000)),
    "five stop strings": (CHAT, but(ASK, stop=list("abcde"))),
    "a token outside of the vocabulary": (COMPLETION, but(PROMPT, prompt=[5, 10**9])),
    "a negative token": (COMPLETION, but(PROMPT, prompt=[-1])),
    "an empty list": (COMPLETION, but(PROMPT, prompt=[])),
    "a list of an empty list": (COMPLETION, but(PROMPT, prompt=[[]])),
    "mixed prompts": (COMPLETION, but(PROMPT, prompt=["Hi", [1]])),
    "a tool": (CHAT, but(ASK, tools=[{"type": "function", "function": {"name": "f"}}])),
    "an unknown name": (COMPLETION, but(PROMPT, top_kk=5)),
    "a suffix": (COMPLETION, but(PROMPT, suffix="end")),
    "another model": (COMPLETION, but(PROMPT, model="x" * 10_000)),
    "10 MB": (COMPLETION, but(PROMPT, prompt="x" * 10_000_000)),
    "upstream's, with an unknown role": (PLAIN, said({"role": "robot", "content": "Hi"})),
    "upstream's, with a text as tokens": (PLAIN, but(ASK, max_tokens="5")),
}  # fmt: skip


@pytest.mark.parametrize("what", BODIES)
def test_nonsense_is_refused(server, what, capfd):
    path, body = BODIES[what]
    status, _, answer = server.ask("POST", path, body)
    expected = {"10 MB": 413, "another model": 404}.get(what, 400)
    check_refusal(status, answer, (expected,))
    assert server.ask("GET", "/health")[0] == 200 and not server.service.jobs
    assert capfd.readouterr().out == ""  # nothing that would have to be looked into


def test_other_content_types_are_no_json(server):
    """What a page of another origin can send without being asked whether it may."""
    for kind in ("text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x"):
        status, _, answer = server.ask("POST", COMPLETION, but(PROMPT), headers={"Content-Type": kind})
        check_refusal(status, answer, (400,))


POST = b"POST /v1/completions HTTP/1.1\r\nHost: x\r\n"
NOT_HTTP = [
    b"nonsense\r\n\r\n", b"\x16\x03\x01\x02\x00\x01", b"GET / HTTP/9\r\n\r\n", b"GET /health HTTP/1.1\r\nHost: x\r\nX: " + b"y" * 100_000,
    POST + b"Content-Length: -5\r\n\r\n", POST + b"Transfer-Encoding: chunked\r\n\r\nzzz\r\n",
]  # fmt: skip


@pytest.mark.parametrize("raw", NOT_HTTP)
def test_what_is_not_even_http(server, raw):
    with socket.create_connection(("127.0.0.1", server.port), timeout=SOON) as sock, contextlib.suppress(ConnectionError):
        sock.sendall(raw)
        assert sock.recv(1000).startswith(b"HTTP/1.1 400")
    assert server.ask("GET", "/health")[0] == 200


# --- bodies made from the schema -------------------------------------------------------------------------------------

ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8) | st.sampled_from([2**63, -(10**40), 1e308, "", "user", "\ud800"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)


def made_from(schema: dict, components: dict) -> st.SearchStrategy:
    """JSON that a schema allows."""
    if "$ref" in schema:
        name = schema["$ref"].rsplit("/", 1)[1]
        return st.deferred(lambda: made_from(components[name], components))
    for choice in ("anyOf", "oneOf"):
        if choice in schema:
            return st.one_of([made_from(option, components) for option in schema[choice]])
    if "const" in schema or "enum" in schema:
        return st.sampled_from(schema.get("enum") or [schema["const"]])
    kind = schema.get("type")
    if kind == "string":
        return st.text(min_size=schema.get("minLength", 0), max_size=min(schema.get("maxLength", 30), 30))
    if kind == "integer":
        least, most = schema.get("minimum"), schema.get("maximum", schema.get("exclusiveMaximum", 2**70) - 1)
        return st.integers(least, most) | st.integers(max(least or 0, 0), min(most, 3 + max(least or 0, 0)))  # small ones are what is used
    if kind == "number":
        return st.floats(schema.get("minimum"), schema.get("maximum"), allow_nan=False)
    if kind == "array":
        return st.lists(made_from(schema["items"], components), min_size=schema.get("minItems", 0), max_size=min(schema.get("maxItems", 3), 3))
    if kind == "object":
        made = {name: made_from(value, components) for name, value in schema.get("properties", {}).items()}
        required = {name: made.pop(name) for name in schema.get("required", ())}
        return st.fixed_dictionaries(required, optional=made)
    return {"boolean": st.booleans(), "null": st.none(), None: ANYTHING}[kind]


@st.composite
def spoilt(draw: st.DrawFn, bodies: st.SearchStrategy) -> object:
    """One place, wherever it is, is something else, or a name more is there."""
    body = draw(bodies)
    place, at = None, body
    while isinstance(at, dict | list) and at and (place is None or draw(st.booleans())):
        key = draw(st.sampled_from(sorted(at) if isinstance(at, dict) else range(len(at))))
        place, at = (at, key), at[key]
    if place is None or draw(st.integers(0, 9)) == 0:
        return {**body, draw(st.text(max_size=8)): draw(ANYTHING)} if isinstance(body, dict) else draw(ANYTHING)
    place[0][place[1]] = draw(ANYTHING)
    return body


@pytest.mark.parametrize(("path", "sense"), [(CHAT, ASK), (COMPLETION, PROMPT), (PLAIN, ASK)])
def test_whatever_is_made_from_the_schema(server, path, sense):
    """As the schema has it, with something to answer, or spoilt in one place: an answer or a refusal, and never a mistake of the server's."""
    schema = server.ask("GET", "/openapi.json")[2]
    body = schema["paths"][path]["post"]["requestBody"]["content"]["application/json"]["schema"]
    fine = made_from(body, schema["components"]["schemas"])
    seen: set[int] = set()

    @settings(max_examples=70, deadline=None, database=None, suppress_health_check=list(HealthCheck))
    @given(st.one_of(fine, fine.map(lambda body: {**body, **sense, "max_tokens": 2}), spoilt(fine)))
    def check(body: object) -> None:
        with server.open("POST", path, body) as response:
            seen.add(response.status)
            if response.status == 200 and response.headers["Content-Type"].startswith("text/event-stream"):
                assert all("error" not in event for event in events_of(response))
            elif response.status == 200:
                assert json.loads(response.read())["choices"]
            else:
                check_refusal(response.status, json.loads(response.read()))

    check()
    assert 200 in seen and 400 in seen
    server.until_idle()


def test_whatever_stands_in_the_paths_of_the_schema(server):
    """The routes without a body, with anything where the schema has a parameter."""
    paths = [path for path, ways in server.ask("GET", "/openapi.json")[2]["paths"].items() if "get" in ways and path != "/"]
    assert "/v1/models/{model}" in paths

    @settings(max_examples=70, deadline=None, database=None, suppress_health_check=list(HealthCheck))
    @given(st.sampled_from(paths), st.text(max_size=20))
    def check(path: str, text: str) -> None:
        filled = re.sub(r"\{.*?\}", lambda _: quote(text, safe=""), path)
        assert server.ask("GET", filled)[0] in (200, 404), filled

    check()


# --- crowds ----------------------------------------------------------------------------------------------------------


def test_two_hundred_who_do_not_stay(tokenizer, server):
    """Requests of 10,000 tokens, abandoned after half a second: half of them have long prompts. Who comes then is answered at once."""
    engine = Engine(tiny_model(tokenizer.get_vocab_size(), 16384), tokenizer, max_rows=16)
    with served(engine, max_queue=300) as server, contextlib.ExitStack() as stack:
        long = {"prompt": [[i % 900 for i in range(9000)]], "max_tokens": 1000, "ignore_eos": True}
        short = {"prompt": "Hi", "max_tokens": 10_000, "ignore_eos": True, "stream": True}
        for number in range(200):
            data = json.dumps({**(long if number % 2 else short), "stream": number % 4 > 1}).encode()
            sock = stack.enter_context(socket.create_connection(("127.0.0.1", server.port), timeout=SOON))
            sock.sendall(
                b"POST /v1/completions HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n" % len(data) + data
            )
        server.until(lambda server: server.service.counts["requests"] == 200 and server.service.counts["tokens"] > 0)
        time.sleep(0.5)  # the half second
        stack.close()
        began = time.monotonic()
        status, _, answer = server.ask("POST", COMPLETION, {"prompt": "Hi", "max_tokens": 10, "ignore_eos": True})
        assert status == 200 and answer["usage"]["completion_tokens"] == 10 and time.monotonic() - began < 5
        server.until_idle()
        assert not engine.rows and not engine.prefills and server.service.counts["dropped_clients"] == 200
        assert server.service.counts["tokens"] < 100_000


def test_a_flood_is_turned_away_and_passes(tokenizer):
    """Beyond the queue there is only 429, at once; those who were let in are answered, and then everything is as before."""
    engine = Engine(tiny_model(tokenizer.get_vocab_size()), tokenizer, max_rows=2)
    statuses: list[int] = []
    with served(engine, max_queue=3) as server:

        def client() -> None:
            for _ in range(10):
                statuses.append(server.ask("POST", COMPLETION, {"prompt": "Hi", "max_tokens": 20, "ignore_eos": True})[0])

        clients = [threading.Thread(target=client) for _ in range(12)]
        for thread in clients:
            thread.start()
        for thread in clients:
            thread.join(SOON)
        assert set(statuses) == {200, 429} and len(statuses) == 120
        server.until_idle()
        assert server.service.counts["tokens"] == 20 * statuses.count(200) and server.service.counts["refused"] == statuses.count(429)
        assert server.ask("POST", COMPLETION, PROMPT)[0] == 200
