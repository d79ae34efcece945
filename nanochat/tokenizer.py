"""Text to tokens and back: byte-pair encoding, trained by rustbpe and run by tiktoken; and conversations to tokens and loss masks.

A tokenizer lives in a directory as tokenizer.json: the split pattern, the special tokens, and the merged tokens in order, in base64.
token_bytes.pt beside it holds the length of each token in bytes (0 for special tokens) for whoever wants bits per byte. There is no pickle.
A tokenizer.pkl made by karpathy/nanochat can be read all the same, by a reader that admits only what such a file needs.
"""

import base64
import binascii
import io
import json
import pickle
import pickletools
import re
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import tiktoken

from nanochat.common import DEFAULT_DATASET, UserError, atomic_path, check_name, get_base_dir, write_text

if TYPE_CHECKING:
    import torch

SPECIAL_TOKENS = (
    "<|bos|>",  # begins every document
    "<|user_start|>", "<|user_end|>",
    "<|assistant_start|>", "<|assistant_end|>",
    "<|python_start|>", "<|python_end|>",  # the assistant calls the calculator
    "<|output_start|>", "<|output_end|>",  # the calculator answers
)  # fmt: skip

# GPT-4's pattern, but digits go in groups of one or two: small vocabularies should not spend themselves on three-digit numbers.
SPLIT_PATTERN = r"'(?i:[sdmt]|ll|ve|re)|[^\r\n\p{L}\p{N}]?+\p{L}+|\p{N}{1,2}| ?[^\s\p{L}\p{N}]++[\r\n]*|\s*[\r\n]|\s+(?!\S)|\s+"
FORMAT = "nanochat-bpe-1"
LONGEST_SPACE = 200_000  # blanks in a row
SURROGATES = re.compile(r"([\ud800-\udfff]+)")


class Tokenizer:
    """tiktoken's encoder plus the special tokens of a chat. Text is only ever text: special tokens are never found inside of it."""

    def __init__(self, pattern: str, ranks: dict[bytes, int], special_tokens: Iterable[str] = SPECIAL_TOKENS):
        _check_ranks(ranks)
        self.pattern, self.ranks = pattern, ranks
        self.special = {name: len(ranks) + i for i, name in enumerate(special_tokens)}
        if missing := set(SPECIAL_TOKENS) - set(self.special):
            raise UserError(f"the tokenizer lacks the special tokens {', '.join(sorted(missing))}: it is not one for chat models like these")
        try:
            self.enc = tiktoken.Encoding("nanochat", pat_str=pattern, mergeable_ranks=ranks, special_tokens=self.special)
        except ValueError as error:
            raise UserError(f"the tokenizer's split pattern is not a valid one ({error})") from error
        self.bos = self.special["<|bos|>"]

    # --- making, loading, saving ---

    @classmethod
    def train_from_iterator(cls, texts: Iterator[str], vocab_size: int) -> "Tokenizer":
        import rustbpe

        merged = vocab_size - len(SPECIAL_TOKENS)
        if merged < 256:
            raise UserError(
                f"--vocab-size {vocab_size} is too small: 256 bytes and {len(SPECIAL_TOKENS)} special tokens make {256 + len(SPECIAL_TOKENS)}"
            )
        trainer = rustbpe.Tokenizer()
        trainer.train_from_iterator(texts, merged, pattern=SPLIT_PATTERN)
        ranks = {bytes(token): rank for token, rank in trainer.get_mergeable_ranks()}
        if len(ranks) < merged:
            raise UserError(f"the text is too small for --vocab-size {vocab_size}: it has only {len(ranks) + len(SPECIAL_TOKENS)} tokens' worth of "
                            "repeated pieces. Use more text or a smaller vocabulary. No tokenizer was written")  # fmt: skip
        return cls(SPLIT_PATTERN, ranks)

    @classmethod
    def from_directory(cls, directory: Path) -> "Tokenizer":
        if (directory / "tokenizer.json").exists():
            return cls.from_json(directory / "tokenizer.json")
        if (directory / "tokenizer.pkl").exists():
            return cls.from_pickle(directory / "tokenizer.pkl")
        raise UserError(f"there is no tokenizer in {directory}: train one with python -m scripts.tok_train --dataset NAME")

    @classmethod
    def from_json(cls, path: Path) -> "Tokenizer":
        try:
            saved = json.loads(path.read_text(encoding="utf-8"))
            if saved["format"] != FORMAT:
                raise ValueError(f"unknown format {saved['format']!r}")
            ranks = {base64.b64decode(token, validate=True): rank for rank, token in enumerate(saved["tokens"])}
            return cls(saved["pattern"], ranks, saved["special_tokens"])
        except (KeyError, TypeError, ValueError, binascii.Error) as error:
            raise UserError(f"{path} is not a tokenizer of this project ({error}): train it again with python -m scripts.tok_train") from error

    @classmethod
    def from_pickle(cls, path: Path) -> "Tokenizer":
        """A tokenizer.pkl of karpathy/nanochat: a pickled tiktoken.Encoding, and nothing but that."""
        try:
            raw = path.read_bytes()
            _check_pickle(raw)
            state = _AdmitOnlyEncoding(io.BytesIO(raw)).load().__dict__.get("state")
        except UserError:
            raise
        except Exception as error:
            raise UserError(f"{path} is not a pickled tokenizer ({error})") from error
        if not (isinstance(state, dict) and isinstance(state.get("pat_str"), str)
                and _is_token_table(state.get("mergeable_ranks"), bytes) and _is_token_table(state.get("special_tokens"), str)):  # fmt: skip
            raise UserError(f"{path} does not hold a trained tokenizer: it lacks the split pattern or the tables of tokens")
        ranks = dict(sorted(state["mergeable_ranks"].items(), key=lambda item: item[1]))
        special = sorted(state["special_tokens"], key=state["special_tokens"].get)
        tokenizer = cls(state["pat_str"], ranks, special)
        if tokenizer.special != state["special_tokens"]:
            raise UserError(f"{path} numbers its special tokens in a way this project does not: they must follow the merged ones")
        return tokenizer

    def save(self, directory: Path) -> None:
        """tokenizer.json alone is the truth, so it comes last and in one piece."""
        import torch

        token_bytes = io.BytesIO()
        torch.save(self.token_bytes(), token_bytes)
        with atomic_path(directory / "token_bytes.pt") as path:
            path.write_bytes(token_bytes.getvalue())
        tokens = [base64.b64encode(token).decode() for token in self.ranks]
        saved = {"format": FORMAT, "pattern": self.pattern, "special_tokens": list(self.special), "tokens": tokens}
        write_text(directory / "tokenizer.json", json.dumps(saved, indent=0))

    # --- facts ---

    def get_vocab_size(self) -> int:
        return len(self.ranks) + len(self.special)

    def get_special_tokens(self) -> set[str]:
        return set(self.special)

    def get_bos_token_id(self) -> int:
        return self.bos

    def encode_special(self, name: str) -> int:
        return self.special[name]

    def id_to_token(self, token: int) -> str:
        return self.enc.decode([token])

    def token_bytes(self, device: "torch.device | str" = "cpu") -> "torch.Tensor":
        """(vocab,) int64: how many bytes of text each token stands for; special tokens stand for none."""
        import torch

        return torch.tensor([len(token) for token in self.ranks] + [0] * len(self.special), dtype=torch.int64, device=device)

    # --- text ---

    def encode(self, text: str | list[str], prepend: int | str | None = None, append: int | str | None = None, num_threads: int = 8):
        """Token ids of a text, or of each text of a list. prepend and append take a token id or the name of a special token."""
        before = [] if prepend is None else [prepend if isinstance(prepend, int) else self.special[prepend]]
        after = [] if append is None else [append if isinstance(append, int) else self.special[append]]
        if isinstance(text, str):
            return [*before, *self._ordinary(text), *after]
        # Each thread takes a slice: a task per text costs more than tokenizing a short one does.
        size = max(64, -(-len(text) // num_threads))
        slices = [text[i : i + size] for i in range(0, len(text), size)]
        with ThreadPoolExecutor(num_threads) as pool:
            done = pool.map(lambda part: [[*before, *self._ordinary(t), *after] for t in part], slices)
            return [row for rows in done for row in rows]

    def encode_array(self, text: str) -> np.ndarray:
        """The same tokens as uint32, without a Python number for each of them on the way."""
        arrays = [self.enc.encode_to_numpy(part, allowed_special=set(), disallowed_special=()) for part in _digestible(text)]
        return arrays[0] if len(arrays) == 1 else np.concatenate(arrays)

    def _ordinary(self, text: str) -> list[int]:
        if len(text) < LONGEST_SPACE:
            return self.enc.encode_ordinary(text)
        return [token for part in _digestible(text) for token in self.enc.encode_ordinary(part)]

    __call__ = encode

    def decode(self, ids: list[int]) -> str:
        """Text of the tokens; bytes that are no whole character show as U+FFFD."""
        return self.enc.decode(ids)

    def encode_bytes(self, data: bytes) -> list[int]:
        """Any bytes at all: what is UTF-8 as text, every other byte as the token of that byte."""
        ids: list[int] = []
        for i, part in enumerate(SURROGATES.split(data.decode("utf-8", errors="surrogateescape"))):
            if i % 2:  # the stretches that the pattern caught: each character stands for one undecodable byte
                ids += [self.ranks[bytes([byte])] for byte in part.encode("utf-8", errors="surrogateescape")]
            else:
                ids += self._ordinary(part)
        return ids

    def decode_bytes(self, ids: list[int]) -> bytes:
        return self.enc.decode_bytes(ids)

    # --- conversations ---

    def render_conversation(self, conversation: dict, max_tokens: int | None = 2048) -> tuple[list[int], list[int]]:
        """Tokens of a conversation and their mask: 1 where the assistant speaks, which is what it is trained on."""
        ids, mask = [self.bos], [0]

        def add(tokens: int | list[int], trained: int) -> None:
            tokens = [tokens] if isinstance(tokens, int) else tokens
            ids.extend(tokens)
            mask.extend([trained] * len(tokens))

        special = self.special
        for role, parts in checked_messages(conversation):
            if role == "user":
                add([special["<|user_start|>"], *self.encode(parts[0][1]), special["<|user_end|>"]], 0)
                continue
            add(special["<|assistant_start|>"], 0)
            for kind, text in parts:
                tokens = self.encode(text)
                if kind == "text":
                    add(tokens, 1)
                elif kind == "python":
                    add([special["<|python_start|>"], *tokens, special["<|python_end|>"]], 1)
                else:  # what the calculator said was not said by the assistant
                    add([special["<|output_start|>"], *tokens, special["<|output_end|>"]], 0)
            add(special["<|assistant_end|>"], 1)
        return ids[:max_tokens], mask[:max_tokens]

    def render_for_completion(self, conversation: dict) -> list[int]:
        """Tokens up to the point where the assistant is to speak. An answer that stands at the end is left out."""
        messages = list(conversation.get("messages") or ())
        if messages and messages[-1].get("role") == "assistant":
            messages.pop()
        ids, _ = self.render_conversation({**conversation, "messages": messages}, max_tokens=None)
        return [*ids, self.special["<|assistant_start|>"]]

    def visualize_tokenization(self, ids: list[int], mask: list[int]) -> str:
        """For the eye: trained tokens green, the others red, '|' between them."""
        return "|".join(f"\033[{92 if trained else 91}m{self.decode([token])}\033[0m" for token, trained in zip(ids, mask, strict=True))


# --- where tokenizers live -------------------------------------------------------------------------------------------


def tokenizer_dir(dataset: str = DEFAULT_DATASET) -> Path:
    """One tokenizer per data set; the default data set's is plain `tokenizer`, as in karpathy/nanochat."""
    return get_base_dir() / ("tokenizer" if dataset == DEFAULT_DATASET else f"tokenizer_{check_name('data set', dataset)}")


def get_tokenizer(dataset: str = DEFAULT_DATASET) -> Tokenizer:
    directory = tokenizer_dir(dataset)
    if not any((directory / name).exists() for name in ("tokenizer.json", "tokenizer.pkl")):
        raise UserError(f"data set {dataset!r} has no tokenizer yet ({directory}): train it with python -m scripts.tok_train --dataset {dataset}")
    return Tokenizer.from_directory(directory)


def _digestible(text: str) -> list[str]:
    """The text in pieces that tiktoken can split: on a million blanks in a row its regular expressions give up."""
    if len(text) < LONGEST_SPACE:
        return [text]
    return [part for part in re.split(rf"(\s{{{LONGEST_SPACE}}})", text) if part]


# --- checks ----------------------------------------------------------------------------------------------------------


def _check_ranks(ranks: dict[bytes, int]) -> None:
    missing = [byte for byte in range(256) if bytes([byte]) not in ranks]
    if missing:
        raise UserError(f"the tokenizer lacks {len(missing)} of the 256 single bytes, so it could not encode every text")
    if list(ranks.values()) != list(range(len(ranks))):
        raise UserError("the tokens are not numbered 0, 1, 2, … in order, or one of them stands there twice")


def _is_token_table(table: object, kind: type) -> bool:
    return isinstance(table, dict) and all(isinstance(token, kind) and isinstance(rank, int) for token, rank in table.items())


# All that a pickled tokenizer is made of. Neither tuples nor lists nor calls are among it.
PICKLE_WORDS = (
    "PROTO", "FRAME", "GLOBAL", "STACK_GLOBAL", "SHORT_BINUNICODE", "BINUNICODE", "SHORT_BINBYTES", "BINBYTES", "BININT", "BININT1", "BININT2",
    "EMPTY_TUPLE", "EMPTY_DICT", "NEWOBJ", "MARK", "SETITEM", "SETITEMS", "BUILD", "MEMOIZE", "BINPUT", "LONG_BINPUT", "BINGET", "LONG_BINGET",
    "STOP",
)  # fmt: skip


def _check_pickle(raw: bytes) -> None:
    """Refuse before reading what could eat memory or the stack: a pickle need not run code to do harm."""
    for count, (word, value, _) in enumerate(pickletools.genops(raw)):
        if word.name not in PICKLE_WORDS or ("PUT" in word.name and value > count):
            raise UserError(f"refused: the pickled tokenizer contains {word.name}, which no tokenizer needs. Only load tokenizers you trust")


class _PickledEncoding:
    """Stands in for tiktoken.Encoding while a pickle is read: keeps the state, runs nothing."""

    def __setstate__(self, state: object) -> None:
        self.state = state


class _AdmitOnlyEncoding(pickle.Unpickler):
    """A pickle is a program. This reader knows one word of its language, the class of the tokenizer, and refuses every other."""

    def find_class(self, module: str, name: str) -> type:
        if (module, name) == ("tiktoken.core", "Encoding"):
            return _PickledEncoding
        raise UserError(f"refused: the pickled tokenizer asks for {module}.{name}, which could execute code. Only load tokenizers you trust")


def checked_messages(conversation: dict) -> Iterator[tuple[str, list[tuple[str, str]]]]:
    """(role, parts) of each message, a system message merged into the first user message. Anything odd is an error that names its place."""
    messages = conversation.get("messages") if isinstance(conversation, dict) else None
    if not isinstance(messages, list) or not messages:
        raise UserError("a conversation needs a list of messages under 'messages', and at least one")
    for i, message in enumerate(messages):
        if not isinstance(message, dict) or message.get("role") not in ("system", "user", "assistant") or "content" not in message:
            raise UserError(f"message {i} needs a role (system, user or assistant) and a content: {str(message)[:80]}")
    prefix = ""
    if messages[0]["role"] == "system":
        if len(messages) < 2:
            raise UserError("the conversation has a system message only: a user message must follow it")
        prefix = _plain_text(0, messages[0]["content"]) + "\n\n"
        messages = messages[1:]
    for i, message in enumerate(messages):
        place = i + bool(prefix)
        expected = ("user", "assistant")[i % 2]
        if message["role"] != expected:
            raise UserError(
                f"message {place} is from {message['role']} where {expected} was expected: they take turns, after an optional system message"
            )
        if expected == "user":
            yield "user", [("text", (prefix if i == 0 else "") + _plain_text(place, message["content"]))]
        else:
            yield "assistant", _parts(place, message["content"])


def _plain_text(place: int, content: object) -> str:
    parts = _parts(place, content)
    if any(kind != "text" for kind, _ in parts):
        raise UserError(f"message {place}: only the assistant can call tools")
    return "".join(text for _, text in parts)


def _parts(place: int, content: object) -> list[tuple[str, str]]:
    """A content is a text, or a list of parts of type text, python or python_output."""
    if isinstance(content, str):
        return [("text", content)]
    if not isinstance(content, list):
        raise UserError(f"message {place}: the content must be a text or a list of parts, not {type(content).__name__}")
    for part in content:
        if not isinstance(part, dict) or part.get("type") not in ("text", "python", "python_output") or not isinstance(part.get("text"), str):
            raise UserError(f"message {place}: a part needs a type (text, python or python_output) and a text: {str(part)[:80]}")
    return [(part["type"], part["text"]) for part in content]
