"""What a base model goes on with, for the eye: the prompts that every run is sampled with."""

from nanochat.common import print0
from nanochat.engine import Engine

PROMPTS = (
    "The capital of France is",
    "The chemical symbol of gold is",
    "If yesterday was Friday, then tomorrow will be",
    "The opposite of hot is",
    "The planets of the solar system are:",
    "My favorite color is",
    "If 5*x + 3 = 13, then x is",
)
TOKENS = 16  # after a prompt


def show_samples(model, tokenizer) -> dict[str, str]:
    """How the model goes on after each prompt, greedily."""
    prompts = [tokenizer.encode(prompt, prepend=tokenizer.get_bos_token_id()) for prompt in PROMPTS]
    context = max(model.config.sequence_len, max(map(len, prompts)) + TOKENS)  # tiny models have tiny contexts
    made = Engine(model, tokenizer, context=context).generate_many(prompts, 1, TOKENS, temperature=0)
    answers = {prompt: tokenizer.decode(samples[0].tokens) for prompt, samples in zip(PROMPTS, made, strict=True)}
    for prompt, answer in answers.items():
        print0(f"  {prompt}|{answer}")
    return answers


def show_unconditioned(model, tokenizer, count: int, max_tokens: int) -> list[str]:
    """What the model says when nobody asks, at temperature 1."""
    room = model.config.sequence_len - 1
    (made,) = Engine(model, tokenizer).generate_many([[tokenizer.get_bos_token_id()]], count, min(max_tokens, room))
    texts = [tokenizer.decode(sample.tokens) for sample in made]
    for text in texts:
        print0(f"{'-' * 80}\n{text}")
    return texts
