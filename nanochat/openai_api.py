"""OpenAI's completions and chat completions: what a client may ask, and what that means to the engine.

A body is checked against its shape, which is what /openapi.json shows, and becomes an Ask: the engine's requests, and what the client wants to see of
their results. How the answer is written down is in answers.
"""

import hashlib
import random
from typing import TYPE_CHECKING, Annotated, Any, Literal, NamedTuple

from pydantic import BaseModel, ConfigDict, Field, Strict, model_validator

from nanochat.common import UserError
from nanochat.serving import ServiceError
from nanochat.tokenizer import checked_messages

if TYPE_CHECKING:  # it needs torch, and the port is open before that is there
    from nanochat.engine import Engine, Request

MAX_CHOICES = 128  # answers to one request: n for each prompt
MOST_NAMES = 100  # in a JSON object
OPENAIS_MAX_TOKENS = 16  # of a completion, if the client does not say


class Settings(NamedTuple):
    """What the server was told at its start: which model this is, what a request gets that does not say, and what none may exceed."""

    model: str
    source: str
    step: int
    context: int
    max_tokens: int = 512
    temperature: float = 0.8
    top_k: int = 50
    top_p: float = 1.0
    api_key: str = ""
    max_body: int = 1 << 20
    max_messages: int = 500
    max_request_tokens: int | None = None
    allow_origin: str = ""
    log_conversations: bool = False

    def allowed(self, tokens: int) -> int:
        """So many tokens of an answer, or the most that a client may ask for."""
        return min(tokens, self.max_request_tokens or tokens)

    @property
    def fingerprint(self) -> str:
        return "fp_" + hashlib.sha256(f"{self.model}/{self.source}/{self.step}".encode()).hexdigest()[:10]


# --- what a client may ask -------------------------------------------------------------------------------------------
#
# Numbers are numbers and texts are texts: nothing is converted. A parameter that is not here is refused and not ignored, and one of OpenAI's that
# this server does not have may only say what is the case anyway. Lists give up at their first mistake: a body has room for half a million of them.

Whole = Annotated[int, Strict()]
Count = Annotated[int, Strict(), Field(ge=1, le=2**31)]
Real = Annotated[float, Strict(), Field(allow_inf_nan=False)]
Text = Annotated[str, Strict(), Field(min_length=0)]  # pydantic looks whether it is Unicode only if there is some limit
Flag = Annotated[bool, Strict()]
Zero = Annotated[float, Strict(), Field(ge=0, le=0)]
NoList = Annotated[list[Any], Field(max_length=0)]
StopString = Annotated[str, Strict(), Field(max_length=256)]  # "" is none


class Shape(BaseModel):
    model_config = ConfigDict(extra="forbid")

    @model_validator(mode="before")
    @classmethod
    def few_names(cls, data: Any) -> Any:
        if isinstance(data, dict) and len(data) > MOST_NAMES:  # each unknown one would be an error of its own
            raise ValueError(f"more than {MOST_NAMES} names in one object")
        return data


class TextPart(Shape):
    type: Literal["text"]
    text: Text


class SpokenPart(Shape):
    type: Literal["text", "python", "python_output"]
    text: Text


TextParts = Annotated[list[TextPart], Field(fail_fast=True)]
SpokenParts = Annotated[list[SpokenPart], Field(fail_fast=True)]


class SystemMessage(Shape):
    role: Literal["system", "developer"]
    content: Text | TextParts
    name: Text | None = None


class UserMessage(Shape):
    role: Literal["user"]
    content: Text | TextParts
    name: Text | None = None


class AssistantMessage(Shape):
    """As a client sends it back to us: with the parts, which say more than the content, and with whatever else OpenAI's have."""

    role: Literal["assistant"]
    content: Text | SpokenParts
    parts: SpokenParts | None = None
    name: Text | None = None
    refusal: None = None
    annotations: NoList | None = None
    audio: None = None
    tool_calls: NoList | None = None
    function_call: None = None


Message = Annotated[SystemMessage | UserMessage | AssistantMessage, Field(discriminator="role")]
Messages = Annotated[list[Message], Field(min_length=1, fail_fast=True)]


class StreamOptions(Shape):
    include_usage: Flag | None = None
    include_obfuscation: Flag | None = None


class ResponseFormat(Shape):
    type: Literal["text"]


class Sampling(Shape):
    """What both kinds of completion have in common."""

    model: Text | None = None
    max_tokens: Count | None = None
    temperature: Annotated[Real, Field(ge=0, le=2)] | None = None
    top_p: Annotated[Real, Field(ge=0, le=1)] | None = None
    top_k: Annotated[Whole, Field(ge=0, le=2**31)] | None = Field(None, description="among so many of the likeliest tokens; 0: all")
    n: Annotated[Whole, Field(ge=1, le=MAX_CHOICES)] | None = None
    seed: Annotated[Whole, Field(ge=-(2**63), lt=2**63)] | None = None
    stop: StopString | Annotated[list[StopString], Field(max_length=4, fail_fast=True)] | None = None
    stream: Flag | None = None
    stream_options: StreamOptions | None = None
    frequency_penalty: Zero | None = None
    presence_penalty: Zero | None = None
    logit_bias: Annotated[dict[str, Any], Field(max_length=0)] | None = None
    user: Any = None

    @property
    def stops(self) -> list[str]:
        stops = [self.stop] if isinstance(self.stop, str) else self.stop or []
        return [stop for stop in stops if stop]


class ChatRequest(Sampling):
    messages: Messages
    max_completion_tokens: Count | None = None
    logprobs: Flag | None = None
    top_logprobs: Annotated[Whole, Field(ge=0, le=20)] | None = None
    context_overflow: Literal["error", "drop_oldest"] = Field(
        "error", description="when the conversation is too long: an error, or leave out its oldest turns"
    )
    response_format: ResponseFormat | None = None
    modalities: list[Literal["text"]] | None = None
    tools: NoList | None = None
    tool_choice: Literal["none", "auto"] | None = None
    parallel_tool_calls: Any = None
    functions: NoList | None = None
    metadata: Any = None
    store: Any = None
    service_tier: Any = None
    safety_identifier: Any = None
    prompt_cache_key: Any = None


class CompletionRequest(Sampling):
    prompt: (
        Text
        | Annotated[list[Text], Field(fail_fast=True, min_length=1, max_length=MAX_CHOICES)]
        | Annotated[list[Whole], Field(fail_fast=True, min_length=1)]
        | Annotated[list[Annotated[list[Whole], Field(fail_fast=True, min_length=1)]], Field(fail_fast=True, min_length=1, max_length=MAX_CHOICES)]
    ) = ""
    max_tokens: Annotated[Whole, Field(ge=0, le=2**31)] | None = None
    logprobs: Annotated[Whole, Field(ge=0, le=20)] | None = None
    echo: Flag | None = None
    ignore_eos: Flag | None = Field(None, description="go on to max_tokens whatever the model says")
    best_of: Literal[1] | None = None
    suffix: Literal[""] | None = None


class PlainChatRequest(Shape):
    """The request of karpathy/nanochat's own page."""

    messages: Messages
    temperature: Annotated[Real, Field(ge=0, le=2)] | None = None
    max_tokens: Count | None = None
    top_k: Annotated[Whole, Field(ge=0, le=2**31)] | None = None


class ErrorDetails(Shape):
    message: str
    type: Literal["invalid_request_error", "authentication_error", "not_found_error", "rate_limit_error", "server_error"]
    param: str | None
    code: str | None


class ErrorBody(Shape):
    error: ErrorDetails


def error_body(error: ServiceError) -> dict:
    kinds = {401: "authentication_error", 404: "not_found_error", 429: "rate_limit_error"}
    kind = kinds.get(error.status, "invalid_request_error" if error.status < 500 else "server_error")
    return {"error": {"message": error.message, "type": kind, "param": error.param, "code": error.code}}


# --- what it means to the engine -------------------------------------------------------------------------------------


class Ask(NamedTuple):
    requests: "list[Request]"  # one for each prompt
    stops: list[str]
    dropped: int = 0  # messages that the context has no room for
    echo: bool = False
    usage: bool = False  # in a stream, the last chunk says how many tokens there were


def prepare_chat(engine: "Engine", settings: Settings, body: ChatRequest) -> Ask:
    check_model(settings, body.model)
    if settings.source == "base":
        raise ServiceError(400, f"{settings.model} is a base model: it goes on with a text (/v1/completions), nobody has taught it to chat")
    if len(body.messages) > settings.max_messages:
        raise ServiceError(400, f"{len(body.messages):,} messages; this server takes {settings.max_messages:,}", param="messages")
    if body.top_logprobs and not body.logprobs:
        raise ServiceError(400, "top_logprobs needs logprobs to be true", param="top_logprobs")
    conversation = conversation_of(body.messages)
    wanted = _wanted(settings, body, "max_tokens" if body.max_completion_tokens is None else "max_completion_tokens")
    drop = body.context_overflow == "drop_oldest"
    default = settings.allowed(settings.max_tokens)
    tokens, dropped = engine.fit(conversation, min(default, engine.context // 4) if wanted is None else wanted, drop)
    limit = _limit(engine, tokens, wanted, default, "messages")
    logprobs = (body.top_logprobs or 0) if body.logprobs else None
    return Ask([_request(settings, body, tokens, limit, logprobs=logprobs)], body.stops, dropped, usage=_usage(body))


def prepare_plain_chat(engine: "Engine", settings: Settings, body: PlainChatRequest) -> Ask:
    given = {name: getattr(body, name) for name in type(body).model_fields}
    return prepare_chat(engine, settings, ChatRequest.model_construct(**given))


def prepare_completion(engine: "Engine", settings: Settings, body: CompletionRequest) -> Ask:
    check_model(settings, body.model)
    prompts = body.prompt if isinstance(body.prompt, list) and not isinstance(body.prompt[0], int) else [body.prompt]
    if len(prompts) * (body.n or 1) > MAX_CHOICES:
        raise ServiceError(400, f"n={body.n} for {len(prompts)} prompts: {MAX_CHOICES} answers at most", param="n")
    wanted = _wanted(settings, body, "max_tokens")
    more = {"tools": False, "logprobs": body.logprobs, "prompt_logprobs": bool(body.echo) and body.logprobs is not None}
    if body.ignore_eos:
        more["stop_tokens"] = frozenset()
    requests = []
    for prompt in prompts:
        tokens = engine.tokenizer.encode(prompt, prepend=engine.tokenizer.bos) if isinstance(prompt, str) else prompt
        limit = _limit(engine, tokens, wanted, settings.allowed(OPENAIS_MAX_TOKENS), "prompt")
        requests.append(_request(settings, body, tokens, limit, **more))
    return Ask(requests, body.stops, echo=bool(body.echo), usage=_usage(body))


def check_model(settings: Settings, model: str | None) -> None:
    if model not in (None, "", "nanochat", settings.model):
        raise ServiceError(404, f"there is no model {model[:100]!r} here; this is {settings.model!r}", "model_not_found", "model")


def conversation_of(messages: list) -> dict:
    """The tokenizer's form of it."""
    said = [{"role": "system" if message.role == "developer" else message.role, "content": _content(message)} for message in messages]
    if said[0]["role"] == "system" and not said[0]["content"]:
        said = said[1:]  # many clients send an empty one
    try:
        if any(message["role"] == "user" and not message["content"] for message in said):
            raise UserError("a user message is empty")
        if not said or said[-1]["role"] != "user":
            raise UserError("the last message must be the user's, for the assistant to answer")
        list(checked_messages({"messages": said}))  # all of them: dropping the oldest turns must not hide a mistake
    except UserError as error:
        raise ServiceError(400, str(error), param="messages") from error
    return {"messages": said}


def _content(message: SystemMessage | UserMessage | AssistantMessage) -> str | list[dict]:
    content = message.content
    if message.role != "assistant":
        return content if isinstance(content, str) else "".join(part.text for part in content)
    if message.parts and "".join(part.text for part in message.parts if part.type == "text") == content:
        content = message.parts  # what the assistant really said, with its calls of the calculator
    return content if isinstance(content, str) else [part.model_dump() for part in content]


def _wanted(settings: Settings, body: ChatRequest | CompletionRequest, name: str) -> int | None:
    wanted, most = getattr(body, name), settings.max_request_tokens
    if wanted is not None and most is not None and wanted > most:
        raise ServiceError(400, f"{name}={wanted:,}: this server allows {most:,}", param=name)
    return wanted


def _limit(engine: "Engine", tokens: list[int], wanted: int | None, otherwise: int, param: str) -> int:
    """How long the answer may get."""
    room = engine.context - len(tokens)
    if room < (1 if wanted is None else wanted):
        asked = "" if wanted is None else f" and {wanted:,} of an answer"
        param = param if wanted is None or room < 1 else "max_tokens"  # what would have to be smaller
        raise ServiceError(400, f"{len(tokens):,} tokens of a prompt{asked} do not fit into this model's context of {engine.context:,}",
                           "context_length_exceeded", param)  # fmt: skip
    return min(otherwise, room) if wanted is None else wanted


def _request(settings: Settings, body: ChatRequest | CompletionRequest, tokens: list[int], limit: int, **more) -> "Request":
    from nanochat.engine import Request

    def given(name: str) -> float:
        return getattr(settings if getattr(body, name) is None else body, name)

    seed = random.getrandbits(63) if body.seed is None else body.seed
    top_p = max(given("top_p"), 1e-9)  # OpenAI's 0 is the likeliest token
    return Request(tokens, body.n or 1, limit, given("temperature"), given("top_k"), top_p, seed, **more)


def _usage(body: Sampling) -> bool:
    return bool(body.stream_options and body.stream_options.include_usage)
