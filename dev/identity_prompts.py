"""Having another model write the conversations: what it is asked, and what is made of its answer.

Everything that a conversation could differ in is thrown by dice and stands in the prompt: who asks, what about, how it begins, how long it is.
"""

import json
import re
from itertools import islice

from dev import identity_talk as talk
from dev.chat_endpoint import BadAnswer
from dev.identity_chat import Facts, alternatives, conversation, strangers
from nanochat.tinyworld import Dice
from tasks.common import text_of
from tasks.customjson import parse_conversation

MOST_BRACKETS = 20  # where the JSON in an answer could begin

PROMPT = """Write a conversation between a user and {name}, a chat model. {name} will learn from it who it is.

This is what {name} says about itself. Its answers use it freely, in their own words; they neither contradict it nor claim anything else about {name}:
{facts}

The conversation you write:
- The user is {persona}.
- The user wants to know this of {name}: {topics}.
- It begins {beginning}.
- The user says {exchanges}, and each time {name} answers. Its answers are {length}.

For the tone, two other conversations. Do not repeat their sentences:
{examples}

Answer with nothing but JSON, in this form, with "user" and "assistant" in turn and an answer of the assistant at the end:
{{"messages": [{{"role": "user", "content": "…"}}, {{"role": "assistant", "content": "…"}}]}}"""


def prompt_for(facts: Facts, seed: int, index: int, attempt: int) -> str:
    """The dice make each prompt another one; else all answers would be much the same."""
    r = Dice(f"identity prompt {seed} {index} {attempt}")
    topics = r.several(list(facts.topics), r.between(1, 3))
    wanted = [r.pick(alternatives(talk.QUESTIONS[topic][1])) if topic in talk.QUESTIONS else f"something about “{topic}”" for topic in topics]
    exchanges = r.between(1, 5)
    return PROMPT.format(
        name=facts.name,
        facts="\n".join(f"- {wordings[0]}" for told in facts.topics.values() for wordings in told),
        persona=r.pick(talk.PERSONAS)[0],
        topics="; ".join(wanted),
        beginning=r.pick(alternatives(talk.BEGINNINGS)).replace("{name}", facts.name),
        exchanges="one thing" if exchanges == 1 else f"{exchanges} things, one after the other",
        length=r.pick(alternatives(talk.LENGTHS)),
        examples="\n".join(example(facts, seed, r.below(1_000_000)) for _ in range(2)),
    )


def example(facts: Facts, seed: int, index: int) -> str:
    messages = [{"role": m["role"], "content": text_of(m["content"])} for m in conversation(facts, seed, index)["messages"]]
    return json.dumps({"messages": messages}, ensure_ascii=False)


def checked(text: str, facts: Facts) -> dict:
    """The conversation in a model's answer. Whatever could not be trained on, or would teach another identity, is a BadAnswer."""
    said = _messages_in(text.rpartition("</think>")[2])
    try:
        messages = [{"role": message["role"], "content": message["content"].strip()} for message in said]
        made = parse_conversation(json.dumps({"messages": messages}).encode())
        json.dumps(made, ensure_ascii=False).encode()
    except (LookupError, TypeError, AttributeError) as error:
        raise BadAnswer("a message without a role, or without a text as its content") from error
    except ValueError as error:  # what customjson complains about, and halves of characters that UTF-8 does not have
        raise BadAnswer(str(error)) from error
    if messages[0]["role"] != "user" or messages[-1]["role"] != "assistant":
        raise BadAnswer("the user must begin and the assistant end")
    if other := claims_to_be(" ".join(m["content"] for m in messages if m["role"] == "assistant"), facts):
        raise BadAnswer(f"the assistant says: {other}")
    return made


def _messages_in(text: str) -> list:
    """Models put words or a fence around their JSON, so every bracket may be its beginning."""
    decoder = json.JSONDecoder()
    for match in islice(re.finditer(r"[{\[]", text), MOST_BRACKETS):
        try:
            value, _ = decoder.raw_decode(text, match.start())
        except (ValueError, RecursionError):
            continue
        value = value.get("messages") if isinstance(value, dict) else value
        if isinstance(value, list) and value:
            return value
    raise BadAnswer("no JSON with messages in it" if text.strip() else "nothing but thoughts")


def claims_to_be(said: str, facts: Facts) -> str | None:
    """Models like to give their own name and maker away, whatever they were told."""
    others = "|".join(re.escape(other) for rival in strangers(facts) for other in rival)
    claim = rf"(?<!not )\b(I am|I'm|I’m|my name is|call me|(made|built|trained|created|developed) by) (an? |the )?({others})\b"
    match = re.search(claim, said, re.IGNORECASE) if others else None
    return match[0] if match else None
