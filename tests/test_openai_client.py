"""OpenAI's own Python client, as it is, against a tiny model on the loopback device."""

import asyncio
import threading
from collections.abc import Iterator

import openai
import pytest
import torch
from loopback_server import SOON, LoopbackServer, held, served, tiny_model
from openai import AsyncOpenAI, OpenAI

from nanochat.engine import Engine, TextStream

QUESTION = [{"role": "user", "content": "What is the capital of France?"}]


@pytest.fixture(scope="module")
def server(tokenizer) -> Iterator[LoopbackServer]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("NANOCHAT_DTYPE", "float32")
        engine = Engine(tiny_model(tokenizer.get_vocab_size()), tokenizer, max_rows=16)
    with served(engine, api_key="a key") as server:
        yield server
    torch.set_num_threads(before)


def client_of(server: LoopbackServer, key: str = "a key", **more) -> OpenAI:
    return OpenAI(base_url=f"{server.url}/v1", api_key=key, timeout=SOON, **{"max_retries": 0, **more})


@pytest.fixture
def client(server) -> Iterator[OpenAI]:
    with client_of(server) as client:
        yield client


def text_of(engine: Engine, prompt: list[int], **settings) -> list[str]:
    """What the engine says by itself, each sample as text; what is said in calls of the calculator, by chance, is none."""
    special, texts = engine.tokenizer.special, []
    for sample in Engine(engine.source, engine.tokenizer).generate_many([prompt], **settings)[0]:
        texts.append("")
        stream, silent = TextStream(engine.tokenizer), False
        for token in sample.tokens:
            if token in {special[f"<|{name}|>"] for name in ("python_start", "python_end", "output_start", "output_end")}:
                stream, silent = TextStream(engine.tokenizer), engine.tokenizer.id_to_token(token).endswith("_start|>")
            texts[-1] += "" if silent else stream.add(token)
    return texts


def test_models(client):
    assert [model.id for model in client.models.list()] == ["tiny"]
    assert client.models.retrieve("tiny").owned_by == "nanochat"
    with pytest.raises(openai.NotFoundError) as caught:
        client.models.retrieve("gpt-4")
    assert caught.value.code == "model_not_found"


def test_chat(server, client):
    settings = {"temperature": 0.9, "seed": 5, "max_tokens": 20}
    answer = client.chat.completions.create(model="tiny", messages=QUESTION, **settings)
    prompt = server.engine.tokenizer.render_for_completion({"messages": QUESTION})
    assert [answer.choices[0].message.content] == text_of(server.engine, prompt, top_k=50, **settings)
    assert answer.object == "chat.completion" and answer.model == "tiny" and answer.system_fingerprint.startswith("fp_")
    assert answer.choices[0].message.role == "assistant" and answer.choices[0].finish_reason in ("stop", "length")
    usage = answer.usage
    assert usage.prompt_tokens == len(prompt) and 0 < usage.completion_tokens <= 20
    assert usage.total_tokens == usage.prompt_tokens + usage.completion_tokens
    # and the conversation goes on with what came, all of its fields included
    client.chat.completions.create(model="tiny", messages=[*QUESTION, answer.choices[0].message, *QUESTION], max_completion_tokens=2)


def test_streams_say_the_same(client):
    settings = {"model": "nanochat", "messages": QUESTION, "seed": 9, "max_tokens": 30, "n": 3}
    whole = client.chat.completions.create(**settings)
    texts, reasons, usage = {}, {}, None
    for chunk in client.chat.completions.create(**settings, stream=True, stream_options={"include_usage": True}):
        assert chunk.object == "chat.completion.chunk" and usage is None
        usage = chunk.usage
        for choice in chunk.choices:
            if choice.index not in texts:
                assert choice.delta.role == "assistant"
            texts[choice.index] = texts.get(choice.index, "") + (choice.delta.content or "")
            reasons[choice.index] = choice.finish_reason
    assert [texts[i] for i in range(3)] == [choice.message.content for choice in whole.choices] and len(set(texts.values())) == 3
    assert [reasons[i] for i in range(3)] == [choice.finish_reason for choice in whole.choices]
    assert usage == whole.usage


def test_completion(server, client):
    tokenizer = server.engine.tokenizer
    settings = {"temperature": 0, "max_tokens": 12}
    answer = client.completions.create(model="tiny", prompt=["The sun", "The moon is"], **settings)
    prompts = [tokenizer.encode(prompt, prepend=tokenizer.bos) for prompt in ("The sun", "The moon is")]
    assert [choice.text for choice in answer.choices] == [text_of(server.engine, prompt, **settings)[0] for prompt in prompts]
    assert answer.usage.prompt_tokens == sum(map(len, prompts)) and [choice.index for choice in answer.choices] == [0, 1]
    by_tokens = client.completions.create(model="tiny", prompt=prompts, **settings)
    assert [choice.text for choice in by_tokens.choices] == [choice.text for choice in answer.choices]
    one = client.completions.create(model="tiny", prompt=prompts[1], echo=True, **settings)
    assert one.choices[0].text == "The moon is" + answer.choices[1].text
    streamed = client.completions.create(model="tiny", prompt=prompts[1], echo=True, stream=True, **settings)
    assert "".join(chunk.choices[0].text for chunk in streamed) == one.choices[0].text
    assert len(client.completions.create(model="tiny", prompt="", max_tokens=3, extra_body={"ignore_eos": True}).choices) == 1


def test_seeds_and_stop(client):
    settings = {"model": "tiny", "messages": QUESTION, "max_tokens": 30}
    first, again, other = (client.chat.completions.create(seed=seed, **settings).choices[0].message.content for seed in (1, 1, 2))
    assert first == again != other
    random = [client.chat.completions.create(**settings).choices[0].message.content for _ in range(2)]
    assert random[0] != random[1]
    stop = first[5:8]
    for stream in (False, True):
        made = client.chat.completions.create(seed=1, stop=["never said by anyone", stop], stream=stream, **settings)
        choices = [choice for chunk in made for choice in chunk.choices] if stream else made.choices
        text = "".join((choice.delta if stream else choice.message).content or "" for choice in choices)
        assert text == first[: first.index(stop)] and choices[-1].finish_reason == "stop"


def test_log_probabilities_of_a_chat(client):
    settings = {"model": "tiny", "messages": QUESTION, "seed": 3, "max_tokens": 10, "logprobs": True, "top_logprobs": 2}
    choice = client.chat.completions.create(**settings).choices[0]
    assert b"".join(bytes(token.bytes) for token in choice.logprobs.content).decode(errors="replace").startswith(choice.message.content[:3])
    assert all(len(token.top_logprobs) == 2 and token.logprob < 0 for token in choice.logprobs.content)
    streamed = [c for chunk in client.chat.completions.create(**settings, stream=True) for c in chunk.choices]
    assert [token for c in streamed if c.logprobs for token in c.logprobs.content] == choice.logprobs.content


@torch.inference_mode()
def test_log_likelihoods_as_a_harness_asks_for_them(server, client, monkeypatch):
    """Prompts as tokens, echoed: one number for each token but the first, in the order of the prompts."""
    prompts = [[7, 8, 9, 300, 301], [5], [400 + i for i in range(60)]]
    answer = client.completions.create(model="tiny", prompt=prompts, max_tokens=0, echo=True, logprobs=1)
    for prompt, choice in zip(prompts, answer.choices, strict=True):
        expected = server.engine.source(torch.tensor([prompt]))[0].log_softmax(-1)
        numbers = choice.logprobs
        assert numbers.token_logprobs[0] is None and numbers.top_logprobs[0] is None and len(numbers.tokens) == len(prompt)
        for i, token in enumerate(prompt[1:]):
            assert numbers.token_logprobs[i + 1] == pytest.approx(float(expected[i, token]), abs=2e-4)
            assert max(numbers.top_logprobs[i + 1].values()) == pytest.approx(float(expected[i].max()), abs=2e-4)
        assert choice.text == server.engine.tokenizer.decode(prompt).rstrip("\ufffd") and choice.finish_reason == "length"
        assert "".join(choice.text[a:b] for a, b in zip(numbers.text_offset, [*numbers.text_offset[1:], None], strict=True)) == choice.text
    # prompts of very different lengths, which are not ready at the same time
    prompts = [[7, 8, 9], [i * 31 % 900 for i in range(400)]]
    monkeypatch.setattr(server.engine, "prefill_tokens", 50)
    answer = client.completions.create(model="tiny", prompt=prompts, max_tokens=2, n=2, echo=True, logprobs=0)
    assert [len(choice.logprobs.tokens) >= len(prompts[i // 2]) + 1 for i, choice in enumerate(answer.choices)] == [True] * 4
    # one further token, which many ask for and then leave out: always there, also if it ends the text
    answer = client.completions.create(model="tiny", prompt=prompts, max_tokens=1, echo=True, logprobs=1, temperature=0)
    assert [len(choice.logprobs.tokens) for choice in answer.choices] == [len(prompt) + 1 for prompt in prompts]


def test_errors_have_their_types(server, client):
    def ask(**more):
        return client.chat.completions.create(**{"model": "tiny", "messages": QUESTION, **more})

    with pytest.raises(openai.BadRequestError) as caught:
        ask(temperature=3)
    assert caught.value.param == "temperature" and caught.value.type == "invalid_request_error"
    with pytest.raises(openai.BadRequestError) as caught:
        ask(max_tokens=10_000)
    assert caught.value.code == "context_length_exceeded"
    with pytest.raises(openai.NotFoundError) as caught:
        ask(model="gpt-4")
    assert caught.value.code == "model_not_found" and caught.value.type == "not_found_error"
    with pytest.raises(openai.BadRequestError, match="reasoning_effort"):
        ask(reasoning_effort="high")  # what it does not know it does not ignore
    with client_of(server, "another key") as stranger, pytest.raises(openai.AuthenticationError) as caught:
        stranger.models.list()
    assert caught.value.type == "authentication_error" and "a key" not in str(caught.value)


def test_a_full_queue_is_tried_again(tokenizer):
    """429, the pause that the server asks for, and then an answer: the client does this by itself."""
    engine = Engine(tiny_model(tokenizer.get_vocab_size()), tokenizer, max_rows=1)
    with served(engine, max_queue=0) as server, client_of(server, max_retries=5) as client:
        made = []
        asking = threading.Thread(target=lambda: made.append(client.completions.create(model="tiny", prompt="Hi", max_tokens=3)))
        with held(engine), server.stream("/v1/completions", {"prompt": "Hi", "stream": True}):
            with pytest.raises(openai.RateLimitError) as caught:
                client.with_options(max_retries=0).completions.create(model="tiny", prompt="Hi")
            assert caught.value.code == "queue_full" and caught.value.type == "rate_limit_error"
            assert caught.value.response.headers["Retry-After"] == "1"
            asking.start()
            server.until(lambda server: server.service.counts["refused"] == 2)
        asking.join(SOON)
        assert made[0].usage.completion_tokens <= 3


def test_not_ready_yet():
    with served(None) as server, client_of(server) as client, pytest.raises(openai.InternalServerError) as caught:
        client.completions.create(model="tiny", prompt="Hi")
    assert caught.value.status_code == 503 and caught.value.code == "loading"


def test_forty_streams_at_once(server):
    """Each says what it says when it is alone."""

    async def one(client: AsyncOpenAI, seed: int) -> str:
        stream = await client.chat.completions.create(model="tiny", messages=QUESTION, seed=seed, max_tokens=24, stream=True)
        return "".join([choice.delta.content or "" async for chunk in stream for choice in chunk.choices])

    async def all_of_them() -> tuple[list[str], list[str]]:
        async with AsyncOpenAI(base_url=f"{server.url}/v1", api_key="a key", timeout=SOON, max_retries=0) as client:
            together = await asyncio.gather(*(one(client, seed) for seed in range(40)))
            return together, [await one(client, seed) for seed in range(0, 40, 8)]

    together, alone = asyncio.run(all_of_them())
    assert together[::8] == alone and len(set(together)) == 40
    server.until_idle()
    assert not server.engine.rows
