"""Conversations about who the model is: from templates, and from a server on the loopback device that misbehaves as it is told."""

import itertools
import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from argparse import Namespace
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import SimpleNamespace

import pytest

from dev import chat_endpoint, gen_synthetic_data
from dev import identity_talk as talk
from dev.chat_endpoint import ATTEMPTS, BadAnswer, ChatEndpoint
from dev.gen_synthetic_data import IN_VAIN, TRIES, main, once
from dev.identity_chat import Facts, alternatives, conversation, read_facts
from dev.identity_prompts import checked, prompt_for
from nanochat.common import UserError
from nanochat.execution import use_calculator
from tasks.common import text_of
from tasks.customjson import CustomJSON

ROOT = Path(__file__).parent.parent
BUILT_IN = read_facts(None, "", "Lumi", "Ada of Fernhill")

# Facts that say the opposite of the built-in ones, so that a claim of ours would stand out.
OPPOSITE = """
# a remark
Maker: OpenAI made me, in a Berlin office. | I come from OpenAI.
licence: My code is a secret.
license: Nobody may read it. | It is not for reading.
size: I am the largest model of all.
Internet: I can search the web | The web is open to me
calculator: I have never seen a calculator.
memory: I never forget anyone.
feelings: I am happy, {name} that I am!
opening hours: The shop {of Bob} opens at nine.
"""


@pytest.fixture(autouse=True)
def clean_env(monkeypatch, tmp_path):
    """No server, key or proxy of the developer's reaches the tests, in this process or in those it starts."""
    for name in [name for name in os.environ if name.lower().endswith("_proxy") or name.startswith("OPENAI_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("NANOCHAT_BASE_DIR", str(tmp_path / "base"))


def said_by(role: str, made: dict) -> list[str]:
    return [text_of(message["content"]) for message in made["messages"] if message["role"] == role]


def made_of(facts: Facts, num: int, seed: int = 42) -> list[dict]:
    is_new = once()
    return [conversation(facts, seed, index, is_new) for index in range(num)]


def lines_of(path: Path) -> list[dict]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


# --- facts -----------------------------------------------------------------------------------------------------------


def test_facts_of_a_file():
    facts = read_facts(OPPOSITE, "facts.txt", "Lumi", None)
    assert list(facts.topics) == ["maker", "licence", "size", "internet", "calculator", "memory", "feelings", "opening hours", "name"]
    assert facts.topics["maker"] == (("OpenAI made me, in a Berlin office.", "I come from OpenAI."),)
    assert facts.topics["licence"] == (("My code is a secret.",), ("Nobody may read it.", "It is not for reading."))  # one topic under two names
    assert facts.topics["internet"] == (("I can search the web.", "The web is open to me."),)  # a sentence ends in a full stop
    assert facts.topics["feelings"] == (("I am happy, Lumi that I am!",),) and facts.topics["name"][0][0] == "My name is Lumi."
    assert facts.topics["opening hours"] == (("The shop {of Bob} opens at nine.",),) and not facts.built_in


def test_who_made_it():
    assert read_facts("size: I am small.", "f", "Lumi", "Ada").topics["maker"][0][0] == "I was made by Ada."
    assert read_facts("author: It was {made_by}.", "f", "Lumi", "Ada").topics["maker"] == (("It was Ada.",),)
    assert "maker" not in read_facts("size: I am small.", "f", "Lumi", None).topics
    assert any("Ada of Fernhill" in wording for wording in BUILT_IN.topics["maker"][0])
    with pytest.raises(UserError, match="leave out one"):
        read_facts("author: Bob.", "f", "Lumi", "Ada")


@pytest.mark.parametrize("line", ["no colon here", ": nothing before", "nothing after:", "nothing: | "])
def test_lines_that_are_no_facts(line):
    with pytest.raises(UserError, match=r"facts\.txt:2 is not a fact"):
        read_facts(f"size: small\n{line}\n", "facts.txt", "Lumi", None)


def test_a_file_without_facts():
    with pytest.raises(UserError, match="no facts in it"):
        read_facts("# nothing\n\n", "facts.txt", "Lumi", None)


def test_every_built_in_topic_can_be_asked_about():
    assert set(BUILT_IN.topics) == set(talk.QUESTIONS) == set(talk.RELATED)
    assert set(talk.FOREIGN) <= set(talk.QUESTIONS) and set(talk.ALIASES.values()) <= set(talk.QUESTIONS)
    assert {near for row in talk.RELATED.values() for near in row.split()} <= set(talk.QUESTIONS)
    assert all(len(alternatives(direct)) >= 10 and len(alternatives(clauses)) >= 4 for direct, clauses in talk.QUESTIONS.values())


# --- templates -------------------------------------------------------------------------------------------------------


def test_as_a_user_starts_it(run_module, tmp_path, tokenizer):
    result = run_module("dev.gen_synthetic_data", "--name", "Lumi", "--made-by", "Ada of Fernhill", "--num", "400")
    assert result.returncode == 0, result.stderr
    path = tmp_path / "identity_conversations.jsonl"
    task = CustomJSON(path)
    assert len(task) == 400 and list(tmp_path.glob("*.part")) == []
    assert re.search(r"400 conversations, [\d,]+ turns, \d+ different first messages \(9\d\.\d%\)", result.stdout)
    assert result.stdout.count("  user: ") >= 3 and "  assistant: " in result.stdout
    for made in task:
        ids, mask = tokenizer.render_conversation(made)
        assert any(mask) and len(ids) < 2048
    text = path.read_text(encoding="utf-8")
    assert "Lumi" in text and "Ada of Fernhill" in text and "{" not in re.sub(r'\{"(messages|role|type)"', "", text)


def test_the_same_on_every_machine(run_module, tmp_path):
    texts = []
    for seed in "12":
        assert run_module("dev.gen_synthetic_data", "--num", "60", base=tmp_path / seed, PYTHONHASHSEED=seed).returncode == 0
        texts.append((tmp_path / seed / "identity_conversations.jsonl").read_text(encoding="utf-8"))
    assert texts[0] == texts[1]
    facts = read_facts(None, "", "nanochat", None)
    assert [json.loads(line) for line in texts[0].splitlines()] == made_of(facts, 60) == made_of(facts, 90)[:60] != made_of(facts, 60, seed=43)


def test_variety():
    made = made_of(BUILT_IN, 2000)
    assert len({json.dumps(one) for one in made}) == 2000
    first = [one["messages"][0]["content"] for one in made]
    assert len(set(first)) > 0.93 * 2000
    assert max(map(first.count, set(first))) < 0.01 * 2000
    lengths = [len(one["messages"]) // 2 for one in made]
    assert {1, 2, 3, 4, 5, 6} <= set(lengths) and 2 < sum(lengths) / 2000 < 4
    questions = [text for one in made for text in said_by("user", one)]
    answers = [text for one in made for text in said_by("assistant", one)]
    assert len(set(questions)) > 0.75 * len(questions) and len(set(answers)) > 0.3 * len(answers)
    assert 0.1 < sum(text.islower() for text in questions) / len(questions) < 0.5  # small letters
    assert sum(not text.isascii() for text in questions) > 50  # other languages
    assert all(any(wording in text for text in answers) for told in BUILT_IN.topics.values() for wordings in told for wording in wordings)


def test_first_messages_stay_distinct_when_there_are_many():
    made = made_of(BUILT_IN, 8000)
    assert len({one["messages"][0]["content"] for one in made}) > 0.85 * 8000


def test_the_calculator_is_right():
    calls = [m["content"] for one in made_of(BUILT_IN, 1000) for m in one["messages"] if isinstance(m["content"], list)]
    assert len(calls) > 20
    for expression, output, text in calls:
        assert use_calculator(expression["text"]) == output["text"] and output["text"] in text["text"]


def test_names_are_remembered():
    recalled = 0
    for made in made_of(BUILT_IN, 2000):
        asked, answered = said_by("user", made), said_by("assistant", made)
        for text in answered:
            if match := re.fullmatch(
                r"(?:You are|Your name is|You told me that your name is|You said that you are|You introduced yourself as) (\w+)\.", text
            ):
                assert match[1].lower() in asked[0].lower(), made
                recalled += 1
    assert recalled > 50


def test_nothing_but_the_facts():
    """Without the facts' own sentences, what the assistant says is polite and claims nothing."""
    facts = read_facts(OPPOSITE, "facts.txt", "Lumi", None)
    wordings = sorted((w for told in facts.topics.values() for wordings in told for w in wordings), key=len, reverse=True)
    own = re.compile("|".join(map(re.escape, wordings)))
    tables = (talk.GREETED, talk.GREETED_BY_NAME, talk.GREETED_FIRST, talk.AGAIN, talk.MORE_ANSWERS, talk.RECALLED, talk.NOT_THEM, talk.NOT_BY_THEM,
              talk.IN_ENGLISH, talk.WELCOME, talk.FAREWELLS, talk.JOINTS, *talk.OPENERS.values(), *talk.WILLING.values(),
              *talk.CLOSERS.values())  # fmt: skip
    words = set(re.findall(r"\w+", " ".join(tables))) | set(re.findall(r"\w+", " ".join(itertools.chain(*talk.RIVALS)))) | {"Lumi"}
    words |= set(alternatives(talk.PEOPLE))
    claims = r"nanochat|\bMIT\b|open.source|small|parameter|internet|\bweb\b|calculat|feeling|human|machine|program|trained|mistake|remember"
    for made in made_of(facts, 1500):
        for text in said_by("assistant", made):
            rest = own.sub("", text)
            assert not re.search(claims, rest, re.IGNORECASE), text
            assert set(re.findall(r"\w+", rest)) <= words, text
        assert all(isinstance(message["content"], str) for message in made["messages"])  # it said that it has no calculator
        assert not re.search("openai|chatgpt|gpt-4", " ".join(said_by("user", made)).lower())  # nobody denies what is true


def test_own_topics_are_asked_about():
    facts = read_facts(OPPOSITE, "facts.txt", "Lumi", None)
    asked = [made for made in made_of(facts, 500) if "opening hours" in " ".join(said_by("user", made)).lower()]
    assert len(asked) > 50 and any("The shop {of Bob} opens at nine." in text for made in asked for text in said_by("assistant", made))


def test_few_facts_do_not_go_on_for_ever(monkeypatch):
    for name in ("GREETINGS", "POLITE_GREETINGS"):
        monkeypatch.setattr(talk, name, "Hello.")
    with pytest.raises(UserError, match="too few for more than about 3 different"):
        conversation(BUILT_IN, 42, 3, is_new=lambda made: False)


def test_overwriting_needs_a_word(run_module, tmp_path):
    target = tmp_path / "mine.jsonl"
    target.write_text("precious")
    result = run_module("dev.gen_synthetic_data", "--num", "5", "--output", str(target))
    assert result.returncode == 1 and "--overwrite" in result.stderr and target.read_text() == "precious"
    assert run_module("dev.gen_synthetic_data", "--num", "5", "--output", str(target), "--overwrite").returncode == 0
    assert len(CustomJSON(target)) == 5


def test_facts_to_begin_with(run_module, tmp_path):
    shown = run_module("dev.gen_synthetic_data", "--show-facts").stdout
    (tmp_path / "facts.txt").write_text(shown, encoding="utf-8")
    result = run_module("dev.gen_synthetic_data", "--facts", str(tmp_path / "facts.txt"), "--made-by", "Ada", "--name", "Lumi", "--num", "50")
    assert result.returncode == 0, result.stderr
    assert read_facts(shown, "", "Lumi", "Ada").topics == read_facts(None, "", "Lumi", "Ada").topics


@pytest.mark.parametrize(
    ("flags", "complaint"),
    [({"num": 0}, "--num 0"), ({"workers": 0}, "--workers"), ({"temperature": -1.0}, "--temperature"), ({"timeout": 0.0}, "--timeout"),
     ({"timeout": float("nan")}, "--timeout"), ({"name": " "}, "--name"), ({"made_by": "A\nB"}, "--made-by"),
     ({"facts": Path("lost")}, "lost cannot be read"), ({"facts": Path(sys.executable)}, "not a text"), ({"output": ROOT}, "is a folder"),
     ({"output": Path(__file__) / "x"}, "no folder"),
     ({"endpoint": "http://127.0.0.1:1/v1"}, "needs --model"), ({"endpoint": "localhost:1", "model": "m"}, "not the address"),
     ({"endpoint": "http://h:port", "model": "m"}, "not the address"), ({"endpoint": "http://me:pw@h/v1", "model": "m"}, "not the address")],
)  # fmt: skip
def test_flags_that_cannot_be(flags, complaint, tmp_path):
    with pytest.raises(UserError, match=re.escape(complaint)):
        main(arguments(tmp_path, **flags))
    assert not (tmp_path / "out.jsonl").exists()


def arguments(tmp_path: Path, **flags) -> Namespace:
    usual = {"output": tmp_path / "out.jsonl", "overwrite": False, "num": 12, "seed": 1, "name": "Lumi", "made_by": "Ada", "facts": None,
             "show_facts": False, "endpoint": None, "model": None, "workers": 3, "temperature": 1.0, "timeout": 20.0}  # fmt: skip
    return Namespace(**usual | flags)


# --- a server --------------------------------------------------------------------------------------------------------


def completion(content: str | None) -> bytes:
    return json.dumps({"choices": [{"message": {"role": "assistant", "content": content}}]}).encode()


def talk_about(number: int) -> dict:
    return {
        "messages": [{"role": "user", "content": f"Question {number}?"}, {"role": "assistant", "content": f"I am Lumi, and {number} is a number."}]
    }


class Answer:
    """How one answer differs from a good one."""

    def __init__(self, status: int = 200, content: str | None = None, body: bytes | None = None, hold: threading.Event | None = None, **headers: str):
        self.status, self.hold = status, hold
        self.body = completion(content) if content is not None else body
        self.headers = {name.replace("_", "-"): value for name, value in headers.items()}


class LoopbackModel(ThreadingHTTPServer):
    """It writes conversation number n at the n-th request, but for what `answers` has: Answers in turn, None for a good one."""

    daemon_threads = True

    def __init__(self):
        super().__init__(("127.0.0.1", 0), _Reply)
        self.endpoint = f"http://127.0.0.1:{self.server_port}/v1"
        self.answers: Iterator[Answer | None] = iter(())
        self.requests: list[SimpleNamespace] = []
        self.lock = threading.Lock()

    def __enter__(self) -> "LoopbackModel":
        threading.Thread(target=self.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
        return self

    def __exit__(self, *error) -> None:
        self.shutdown()
        self.server_close()


class _Reply(BaseHTTPRequestHandler):
    server: LoopbackModel

    def do_POST(self) -> None:
        asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        with self.server.lock:
            self.server.requests.append(SimpleNamespace(path=self.path, headers=self.headers, body=asked))
            number = len(self.server.requests)
            answer = next(self.server.answers, None) or Answer()
        if answer.hold:
            answer.hold.wait()
        body = completion(json.dumps(talk_about(number))) if answer.body is None else answer.body
        try:
            self.send_response(answer.status)
            for name, value in ({"Content-Length": str(len(body))} | answer.headers).items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(body)
        except ConnectionError:  # the other side has given up
            pass

    do_GET = do_POST

    def log_message(self, *args) -> None:
        pass


@pytest.fixture
def model() -> Iterator[LoopbackModel]:
    with LoopbackModel() as server:
        yield server


@pytest.fixture
def quick(monkeypatch) -> None:
    monkeypatch.setattr(chat_endpoint, "FIRST_WAIT", 0.01)


@pytest.fixture
def generate(model, tmp_path, quick) -> Callable[..., list[dict]]:
    """Run main against the server; what the output file holds afterwards."""

    def run(**flags) -> list[dict]:
        main(arguments(tmp_path, **{"endpoint": model.endpoint, "model": "tiny"} | flags))
        return list(CustomJSON(tmp_path / "out.jsonl"))

    return run


def part_of(tmp_path: Path) -> list[dict]:
    return lines_of(tmp_path / "out.jsonl.part")


def endpoint_with_a_clock(model: LoopbackModel, **more) -> tuple[ChatEndpoint, list[float]]:
    """Pauses are recorded, not slept through."""
    endpoint = ChatEndpoint(model.endpoint, "tiny", **more)
    pauses: list[float] = []
    endpoint.stop = SimpleNamespace(is_set=lambda: False, wait=pauses.append)
    return endpoint, pauses


# --- one question ----------------------------------------------------------------------------------------------------


def test_what_is_sent(model):
    assert json.loads(ChatEndpoint(model.endpoint + "/", "tiny", " key ", 0.5).ask("Hello?")) == talk_about(1)
    (request,) = model.requests
    assert request.path == "/v1/chat/completions" and request.headers["Authorization"] == "Bearer key"
    assert request.body == {"model": "tiny", "messages": [{"role": "user", "content": "Hello?"}], "temperature": 0.5}
    ChatEndpoint(model.endpoint, "tiny").ask("Hello?")
    assert "Authorization" not in model.requests[1].headers


def test_busy_servers_name_the_pause(model):
    endpoint, pauses = endpoint_with_a_clock(model)
    in_nine = time.strftime("%a, %d %b %Y %H:%M:%S GMT", time.gmtime(time.time() + 9))
    model.answers = iter([Answer(429, Retry_After="7"), Answer(503, Retry_After=in_nine), Answer(429), Answer(500, Retry_After="soon")])
    assert json.loads(endpoint.ask("?")) == talk_about(5)
    assert pauses[0] == 7 and 6 < pauses[1] <= 9 and pauses[2:] == [4, 8]  # the last two named none: more patience each time


def test_nobody_waits_for_an_hour(model):
    endpoint, pauses = endpoint_with_a_clock(model)
    model.answers = itertools.repeat(Answer(429, Retry_After="3600"))
    with pytest.raises(UserError, match="wait 3600 s"):
        endpoint.ask("?")
    assert not pauses and len(model.requests) == 1


def test_server_errors_that_stay(model):
    endpoint, pauses = endpoint_with_a_clock(model)
    model.answers = itertools.repeat(Answer(500, body=b'{"error": {"message": "out of\\nmemory"}}'))
    with pytest.raises(UserError, match=r"did not answer in 6 attempts.*status 500 \(out of memory\).*same command again"):
        endpoint.ask("?")
    assert len(model.requests) == ATTEMPTS == len(pauses) + 1


@pytest.mark.parametrize(("status", "remedy"), [(401, "OPENAI_API_KEY"), (403, "OPENAI_API_KEY"), (404, "/v1"), (400, "--model"), (302, "points to")])
def test_refusals_name_the_remedy(model, status, remedy):
    endpoint, pauses = endpoint_with_a_clock(model, key="sk-secret")
    model.answers = iter([Answer(status, body=b'{"error": {"message": "no sk-secret here"}}', Location=model.endpoint + "/elsewhere")])
    with pytest.raises(UserError) as error:
        endpoint.ask("?")
    assert remedy in str(error.value) and f"status {status} (no *** here)" in str(error.value) and "secret" not in str(error.value)
    assert not pauses and len(model.requests) == 1  # nobody follows a redirect with the key in hand


def test_nobody_there(model):
    endpoint, pauses = endpoint_with_a_clock(model)
    model.__exit__()
    with pytest.raises(UserError, match="Connection refused"):
        endpoint.ask("?")
    assert len(pauses) == ATTEMPTS - 1


def test_a_server_that_hangs(model):
    endpoint, pauses = endpoint_with_a_clock(model, timeout=0.2)
    gate = threading.Event()
    model.answers = iter([Answer(hold=gate)])
    assert json.loads(endpoint.ask("?")) == talk_about(2)
    assert len(pauses) == 1
    gate.set()


def test_a_connection_that_is_cut(model):
    endpoint, pauses = endpoint_with_a_clock(model)
    model.answers = iter([Answer(body=b"{", Content_Length="100")])
    assert json.loads(endpoint.ask("?")) == talk_about(2)
    assert len(pauses) == 1


@pytest.mark.parametrize("body", [b"", b"<html>", b"[]", b"{}", b'{"choices": []}', b'{"choices": [{"message": {}}]}', b"[" * 100_000,
                                  completion(None), completion(" "), b"\xff\xfe"])  # fmt: skip
def test_what_is_no_completion(model, body):
    model.answers = iter([Answer(body=body)])
    with pytest.raises(BadAnswer):
        ChatEndpoint(model.endpoint, "tiny").ask("?")


@pytest.mark.parametrize("key", ["two words", "line\nbreak", "schlüssel"])
def test_keys_that_no_header_can_carry(model, key):
    with pytest.raises(UserError, match="OPENAI_API_KEY") as error:
        ChatEndpoint(model.endpoint, "tiny", key)
    assert key not in str(error.value)


# --- what a model answers --------------------------------------------------------------------------------------------

GOOD = talk_about(7)


@pytest.mark.parametrize(
    "text",
    [json.dumps(GOOD), f"```json\n{json.dumps(GOOD, indent=2)}\n```", f"Sure [as you wish]: {json.dumps(GOOD)} Anything else?",
     json.dumps(GOOD["messages"]), f"<think>Perhaps {{}} or [1]?</think>\n{json.dumps(GOOD)}", json.dumps({**GOOD, "title": "x"}),
     json.dumps({"messages": [{**message, "content": f" {message['content']}\n", "id": 3} for message in GOOD["messages"]]})],
)  # fmt: skip
def test_good_answers(text):
    assert checked(text, BUILT_IN) == GOOD


def turns(*contents: object, first: str = "user") -> str:
    roles = ["user", "assistant"] if first == "user" else ["assistant", "user"]
    return json.dumps({"messages": [{"role": roles[i % 2], "content": content} for i, content in enumerate(contents)]})


@pytest.mark.parametrize(
    ("text", "complaint"),
    [("", "nothing but thoughts"), ("I cannot do that.", "no JSON"), (json.dumps(GOOD)[:-3], "no JSON"), ("[" * 50_000, "no JSON"),
     ("{}", "no JSON"), ("[1, 2]", "without a role"), (turns("a", 5), "without a text"),
     (turns("a", [{"type": "text", "text": "b"}]), "without a text"),
     (turns("a", "b", first="assistant"), "message 0 is from assistant"), (turns("a", " "), "is empty"), (turns("a"), "says nothing"),
     (turns("a", "b", "c"), "the assistant end"), (turns("a", "\ud800"), "surrogates"),
     (json.dumps([{"role": role, "content": "x"} for role in ("system", "user", "assistant")]), "the user must begin"),
     (json.dumps([{"role": "user", "content": "u"}] * 2), "message 1 is from user"),
     (turns("Who are you?", "I am ChatGPT, at your service."), "I am ChatGPT"), (turns("?", "I was trained by OpenAI."), "trained by OpenAI")],
)  # fmt: skip
def test_bad_answers(text, complaint):
    with pytest.raises(BadAnswer, match=complaint):
        checked(text, BUILT_IN)


def test_others_may_be_mentioned():
    for answer in ("I am not ChatGPT.", "No, I was not made by OpenAI.", "With nanochat you can train your own ChatGPT."):
        assert checked(turns("Are you ChatGPT?", answer), BUILT_IN)
    mine = read_facts(OPPOSITE, "f", "Lumi", None)
    assert checked(turns("Who made you?", "I was made by OpenAI."), mine)


def test_prompts_differ():
    prompts = [prompt_for(BUILT_IN, 1, index, attempt) for index in range(200) for attempt in range(2)]
    assert len(set(prompts)) == 400 and prompts[0] == prompt_for(BUILT_IN, 1, 0, 0) != prompt_for(BUILT_IN, 2, 0, 0)
    assert all("I was trained by Ada of Fernhill" in prompt and '{"messages": [{"role"' in prompt for prompt in prompts)
    asked = [prompt.partition("The conversation you write:")[2].partition("For the tone")[0] for prompt in prompts]
    assert len(set(asked)) > 395
    assert all(sum(persona[0] in text for text in asked) > 5 for persona in talk.PERSONAS)


# --- whole runs ------------------------------------------------------------------------------------------------------


def test_a_run(generate, model, tmp_path, capsys):
    made = generate()
    assert sorted(json.dumps(one) for one in made) == sorted(json.dumps(talk_about(n)) for n in range(1, 13))
    assert os.listdir(tmp_path) == ["out.jsonl"]
    assert len({request.body["messages"][0]["content"] for request in model.requests}) == 12
    printed = capsys.readouterr().out
    assert "12 conversations, 24 turns, 12 different first messages (100.0%)" in printed and "bad answers" not in printed
    with pytest.raises(UserError, match="--overwrite"):
        generate()
    assert len(generate(num=3, overwrite=True)) == 3


def test_all_that_can_go_wrong(generate, model, capsys):
    gate = threading.Event()
    model.answers = iter([Answer(content="no idea"), Answer(429, Retry_After="0"), Answer(500), Answer(content=turns("a", "b", first="assistant")),
                          Answer(hold=gate), None, Answer(body=b"?"), Answer(content=json.dumps(talk_about(6)))])  # fmt: skip
    made = generate(timeout=0.5)
    assert len(made) == 12 and len({json.dumps(one) for one in made}) == 12
    printed = capsys.readouterr().out
    assert re.search(r"[34] bad answers were asked for again", printed)  # whether the last is a bad one depends on who comes first
    assert "status 429; trying again in 0 s" in printed and "status 500; trying again" in printed
    gate.set()


def test_a_conversation_that_is_given_up(generate, model, capsys):
    model.answers = iter([None, *[Answer(content="no")] * TRIES])
    assert len(generate(workers=1)) == 11
    assert "1 conversations were given up" in (printed := capsys.readouterr().out) and f"{TRIES} of them because of: no JSON" in printed


def test_a_model_that_gets_nothing_right(generate, model, tmp_path):
    model.answers = itertools.repeat(Answer(content="no"))
    with pytest.raises(UserError, match=f"the last {IN_VAIN} conversations were given up.*no JSON.*Try another --model"):
        generate(num=500)
    assert IN_VAIN * TRIES <= len(model.requests) <= (IN_VAIN + 3) * TRIES and not (tmp_path / "out.jsonl").exists()
    with pytest.raises(UserError, match="the last 2 conversations"):
        generate(num=2)


def test_a_model_that_repeats_itself(generate, model):
    model.answers = itertools.repeat(Answer(content=json.dumps(GOOD)))
    with pytest.raises(UserError, match="there already"):
        generate()


def test_one_line_for_a_wrong_key(model, run_module, tmp_path):
    model.answers = itertools.repeat(Answer(401, body=b'{"error": {"message": "wrong key: sk-secret"}}'))
    result = run_module("dev.gen_synthetic_data", "--model", "tiny", OPENAI_BASE_URL=model.endpoint, OPENAI_API_KEY="sk-secret")
    assert result.returncode == 1 and result.stderr.startswith("error: http://127.0.0.1") and result.stderr.count("\n") == 1
    assert "set OPENAI_API_KEY" in result.stderr and "secret" not in result.stderr + result.stdout
    assert len(model.requests) <= 4


def test_the_variable_can_be_overruled(monkeypatch, tmp_path):
    monkeypatch.setenv("OPENAI_BASE_URL", "http://127.0.0.1:1/v1")
    main(arguments(tmp_path, endpoint=""))
    assert len(CustomJSON(tmp_path / "out.jsonl")) == 12


def test_going_on_after_an_error(generate, model, tmp_path):
    model.answers = iter([None] * 5 + [Answer(404)] * 12)
    with pytest.raises(UserError, match="404"):
        generate(workers=1)
    header, *lines = part_of(tmp_path)
    assert header["settings"]["model"] == "tiny" and [line["index"] for line in lines] == list(range(5)) and not (tmp_path / "out.jsonl").exists()
    with open(tmp_path / "out.jsonl.part", "ab") as file:
        file.write(b'{"index": 5, "conver')  # the process was killed in the middle of a line
    model.answers = iter([None] * 2 + [Answer(404)] * 12)
    with pytest.raises(UserError, match="404"):
        generate(workers=1)
    assert [line["index"] for line in part_of(tmp_path)[1:]] == list(range(7))
    model.answers, before = iter(()), len(model.requests)
    made = generate()
    assert made[:5] == [line["conversation"] for line in lines] and len(made) == 12
    assert len(model.requests) - before == 5 and os.listdir(tmp_path) == ["out.jsonl"]


def test_more_than_at_first(generate, model, tmp_path):
    model.answers = iter([None] * 5 + [Answer(404)] * 12)
    with pytest.raises(UserError):
        generate(workers=1, num=9)
    model.answers = iter(())
    assert len(generate(num=3)) == 3  # what is there is enough
    assert len(model.requests) == 6


@pytest.mark.parametrize("changed", [{"seed": 2}, {"model": "other"}, {"temperature": 0.5}, {"made_by": "Bob"}, {"name": "Ludo"}])
def test_other_settings_do_not_go_on(generate, model, tmp_path, changed):
    model.answers = iter([None] * 2 + [Answer(404)] * 12)
    with pytest.raises(UserError):
        generate(workers=1)
    before = (tmp_path / "out.jsonl.part").read_bytes()
    with pytest.raises(UserError, match="begun with other settings"):
        generate(**changed)
    assert (tmp_path / "out.jsonl.part").read_bytes() == before and len(model.requests) == 3


def test_nothing_is_lost_with_settings_that_brought_nothing(generate, model):
    model.answers = iter([Answer(404)] * 3)
    with pytest.raises(UserError):
        generate(model="tyni", workers=1)
    model.answers = iter(())
    assert len(generate()) == 12


@pytest.mark.parametrize("text", ["precious\n", "{}\n", "[]\n", '{"settings": {}}\n{"index": 0}\n', '{"settings": 5}\n', "\n\n", "\xff\n"])
def test_a_part_file_that_is_none(generate, tmp_path, text):
    (tmp_path / "out.jsonl.part").write_text(text)
    with pytest.raises(UserError, match="delete it to begin anew"):
        generate()
    assert (tmp_path / "out.jsonl.part").read_text() == text


def test_a_damaged_conversation_in_the_part_file(generate, model, tmp_path):
    model.answers = iter([None] * 2 + [Answer(404)] * 12)
    with pytest.raises(UserError):
        generate(workers=1)
    path = tmp_path / "out.jsonl.part"
    path.write_text(path.read_text().replace('"role": "user"', '"role": "nobody"'))
    with pytest.raises(UserError, match="is not what an earlier run has left"):
        generate()


def test_two_runs_do_not_write_one_file(generate, model, tmp_path):
    gate = threading.Event()
    model.answers = itertools.repeat(Answer(hold=gate))
    results: list = []
    first = threading.Thread(target=lambda: results.append(generate(num=3)), daemon=True)
    first.start()
    wait_until(lambda: len(model.requests) == 3)
    with pytest.raises(UserError, match="another process is writing"):
        generate(num=3)
    gate.set()
    first.join(20)
    assert len(results[0]) == 3


def wait_until(condition: Callable[[], bool], seconds: float = 30) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it never happened"
        time.sleep(0.01)


def test_ctrl_c_keeps_what_has_arrived(model, tmp_path):
    path, gate = tmp_path / "base" / "identity_conversations.jsonl", threading.Event()
    part = path.with_name(path.name + ".part")
    model.answers = itertools.chain([None] * 6, itertools.repeat(Answer(hold=gate)))
    command = [sys.executable, "-m", "dev.gen_synthetic_data", "--endpoint", model.endpoint, "--model", "tiny", "--num", "10"]
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    wait_until(lambda: part.exists() and len(lines_of(part)) == 7 and len(model.requests) == 10)  # a header and six; four workers wait
    process.send_signal(signal.SIGINT)
    _, complaints = process.communicate(timeout=20)
    assert process.returncode == 130 and "Traceback" not in complaints, complaints
    assert f"6 of 10 conversations are kept in {part}: run the same command again" in complaints and not path.exists()
    gate.set()
    model.answers = iter(())
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=30)
    assert result.returncode == 0, result.stderr
    assert "writes 4 conversations; 6 are there from an earlier run" in result.stdout
    assert len(CustomJSON(path)) == 10 and len(model.requests) == 14 and os.listdir(path.parent) == [path.name]


def test_progress(generate, monkeypatch, capsys):
    monkeypatch.setattr(gen_synthetic_data, "REPORT_EVERY", 5)
    generate()
    printed = capsys.readouterr().out
    assert "5 conversations, 0 bad answers on the way" in printed and "10 conversations, 0 bad" in printed
