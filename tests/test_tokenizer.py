import base64
import json
import os
import pickle
import random

import pytest
import tiktoken
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from nanochat.common import UserError
from nanochat.tokenizer import SPECIAL_TOKENS, SPLIT_PATTERN, Tokenizer, get_tokenizer, tokenizer_dir

TOKENIZERS = {}


@pytest.fixture(autouse=True)
def _share(tokenizer):
    TOKENIZERS["small"] = tokenizer  # hypothesis takes no fixtures that are made per test


unicode_text = st.text(st.characters(exclude_categories=["Cs"]), max_size=200)


# --- text ------------------------------------------------------------------------------------------------------------


@settings(max_examples=500, deadline=None)
@given(unicode_text)
def test_any_text_comes_back(text):
    tok = TOKENIZERS["small"]
    ids = tok.encode(text)
    assert tok.decode(ids) == text
    assert max(ids, default=0) < len(tok.ranks)  # special tokens are never found in text
    assert tok.encode_array(text).tolist() == ids
    assert sum(tok.token_bytes()[ids].tolist()) == len(text.encode("utf-8"))


@settings(max_examples=500, deadline=None)
@given(st.binary(max_size=200))
def test_any_bytes_come_back(data):
    tok = TOKENIZERS["small"]
    ids = tok.encode_bytes(data)
    assert tok.decode_bytes(ids) == data
    assert tok.token_bytes()[ids].sum().item() == len(data)


def test_bytes_that_are_text_are_encoded_as_text(tokenizer):
    text = "The capital of France is Paris. Größe 你好 🌍"
    assert tokenizer.encode_bytes(text.encode()) == tokenizer.encode(text)


@given(st.lists(st.sampled_from(["<|bos|>", "<|", "user_start", "|>", "<|assistant_end|>", " ", "a"]), max_size=20))
@settings(max_examples=200, deadline=None)
def test_special_tokens_in_text_are_text(pieces):
    tok, text = TOKENIZERS["small"], "".join(pieces)
    for ids in (tok.encode(text), tok.encode([text])[0], tok.encode_array(text).tolist(), tok.encode_bytes(text.encode())):
        assert tok.decode(ids) == text
        assert all(i < len(tok.ranks) for i in ids)


def test_long_monotonous_text(tokenizer):
    for text in (
        "a" * 300_000,
        " " * 300_000,
        "x" + " " * 1_300_000 + "y",
        "\t" * 1_000_001,
        "\u3000" * 1_000_001,
        "\n" * 100_000,
        "é" * 100_000,
        "7" * 100_000,
        "^" * 100_000,
    ):
        ids = tokenizer.encode(text)
        assert tokenizer.decode(ids) == text
        assert tokenizer.encode([text]) == [ids] and tokenizer.encode_array(text).tolist() == ids and tokenizer.encode_bytes(text.encode()) == ids


def test_lists_prepend_and_append(tokenizer):
    texts = [f"text number {i}" for i in range(300)]
    plain = [tokenizer.encode(text) for text in texts]
    assert tokenizer.encode(texts, num_threads=3) == plain
    bos, end = tokenizer.bos, tokenizer.encode_special("<|assistant_end|>")
    assert tokenizer.encode(texts, prepend="<|bos|>", append=end) == [[bos, *ids, end] for ids in plain]
    assert tokenizer.encode("hi", prepend=bos) == [bos, *tokenizer.encode("hi")]
    assert tokenizer.encode([]) == []


def test_pattern():
    enc = tiktoken.Encoding("bytes", pat_str=SPLIT_PATTERN, mergeable_ranks={bytes([i]): i for i in range(256)}, special_tokens={})
    assert enc.n_vocab == 256
    import regex

    pieces = ["I", "'m", " ", "12", "34", "5", " cats", ",", " it", "'s", " ", " ", "2", "x", "!\n\n", " ok"]
    assert regex.findall(SPLIT_PATTERN, "I'm 12345 cats, it's  2x!\n\n ok") == pieces


def test_special_tokens_follow_the_merged_ones(tokenizer):
    assert tokenizer.get_vocab_size() == 1024
    assert [tokenizer.encode_special(name) for name in SPECIAL_TOKENS] == list(range(1024 - 9, 1024))
    assert tokenizer.id_to_token(tokenizer.bos) == "<|bos|>" and tokenizer.get_bos_token_id() == 1015
    assert tokenizer.token_bytes()[-9:].tolist() == [0] * 9


# --- training and saving ---------------------------------------------------------------------------------------------


def test_merges_are_the_most_frequent_pairs():
    """A plain transcription of byte-pair encoding, on words that are never split, learns the same tokens in the same order."""
    dice = random.Random(3)
    words = ["".join(dice.choice("abcde") for _ in range(dice.randint(2, 9))) for _ in range(60)]
    text = [" " + words[int(dice.random() ** 2 * 60)] for _ in range(4000)]
    trained = Tokenizer.train_from_iterator(iter(text), 256 + 9 + 20)
    sequences = [[bytes([b]) for b in word.encode()] for word in text]
    for merged in list(trained.ranks)[256:]:
        counts: dict[tuple[bytes, bytes], int] = {}
        for s in sequences:
            for pair in zip(s, s[1:], strict=False):
                counts[pair] = counts.get(pair, 0) + 1
        best = [pair for pair, n in counts.items() if n == max(counts.values())]
        assert merged in {a + b for a, b in best}
        a, b = next(pair for pair in best if pair[0] + pair[1] == merged)
        sequences = [_merge(s, a, b) for s in sequences]


def _merge(s: list[bytes], a: bytes, b: bytes) -> list[bytes]:
    out, i = [], 0
    while i < len(s):
        if i + 1 < len(s) and (s[i], s[i + 1]) == (a, b):
            out.append(a + b)
            i += 2
        else:
            out.append(s[i])
            i += 1
    return out


def test_training_is_deterministic(in_small_world):
    from nanochat.dataset import parquets_iter_batched

    texts = [text for batch in parquets_iter_batched("val", "tinyworld") for text in batch]
    first, second = (Tokenizer.train_from_iterator(iter(texts), 600) for _ in range(2))
    assert first.ranks == second.ranks


def test_save_and_load(tokenizer, tmp_path):
    tokenizer.save(tmp_path / "tok")
    assert sorted(os.listdir(tmp_path / "tok")) == ["token_bytes.pt", "tokenizer.json"]
    loaded = Tokenizer.from_directory(tmp_path / "tok")
    assert loaded.ranks == tokenizer.ranks and loaded.special == tokenizer.special
    assert torch.equal(torch.load(tmp_path / "tok" / "token_bytes.pt", weights_only=True), tokenizer.token_bytes())


def test_too_small_a_corpus_leaves_the_good_tokenizer(run_module, in_small_world, tmp_path):
    from shutil import copytree

    copytree(in_small_world, tmp_path / "base")
    good = (tmp_path / "base" / "tokenizer_tinyworld" / "tokenizer.json").read_bytes()
    result = run_module("scripts.tok_train", "--dataset", "tinyworld", "--vocab-size", "32768", base=tmp_path / "base")
    assert result.returncode == 1
    assert "too small for --vocab-size 32768" in result.stderr and "Traceback" not in result.stderr
    assert (tmp_path / "base" / "tokenizer_tinyworld" / "tokenizer.json").read_bytes() == good


def test_vocabulary_below_the_least():
    with pytest.raises(UserError, match="--vocab-size 264"):
        Tokenizer.train_from_iterator(iter(["abc"]), 264)


def test_tokenizers_live_side_by_side(in_small_world):
    assert tokenizer_dir("climbmix").name == "tokenizer"
    assert tokenizer_dir("tinyworld").name == "tokenizer_tinyworld"
    assert get_tokenizer("tinyworld").get_vocab_size() == 1024
    with pytest.raises(UserError, match=r"tok_train --dataset climbmix"):
        get_tokenizer("climbmix")


@pytest.mark.parametrize("damage", [
    lambda saved: saved.pop("pattern"),
    lambda saved: saved.update(format="other"),
    lambda saved: saved["tokens"].pop(65),
    lambda saved: saved["tokens"].append(saved["tokens"][300]),
    lambda saved: saved["tokens"].append("not base64!"),
])  # fmt: skip
def test_damaged_tokenizers_are_refused(tokenizer, tmp_path, damage):
    tokenizer.save(tmp_path)
    saved = json.loads((tmp_path / "tokenizer.json").read_text())
    damage(saved)
    (tmp_path / "tokenizer.json").write_text(json.dumps(saved))
    with pytest.raises(UserError):
        Tokenizer.from_directory(tmp_path)


def test_truncated_json_is_refused(tokenizer, tmp_path):
    tokenizer.save(tmp_path)
    text = (tmp_path / "tokenizer.json").read_text()
    (tmp_path / "tokenizer.json").write_text(text[: len(text) // 2])
    with pytest.raises(UserError, match="tok_train"):
        Tokenizer.from_directory(tmp_path)


# --- pickles ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("protocol", [3, 4, 5])
def test_upstream_pickle_is_imported(tokenizer, tmp_path, protocol):
    (tmp_path / "tokenizer.pkl").write_bytes(pickle.dumps(tokenizer.enc, protocol=protocol))  # as karpathy/nanochat saves it
    loaded = Tokenizer.from_directory(tmp_path)
    assert (loaded.ranks, loaded.special, loaded.pattern) == (tokenizer.ranks, tokenizer.special, tokenizer.pattern)


class Runs:
    """Pickles to a call, as a malicious file would hold it."""

    def __init__(self, function, *args):
        self.call = (function, args)

    def __reduce__(self):
        return self.call


def poisoned(tokenizer: Tokenizer, function, *args) -> bytes:
    enc = Tokenizer(tokenizer.pattern, tokenizer.ranks).enc
    enc.name = Runs(function, *args)  # right in every respect, but for its name
    return pickle.dumps(enc)


@pytest.mark.parametrize("function", [os.system, os.mkdir, eval, print, getattr, tiktoken.get_encoding])
def test_a_pickle_that_runs_code_is_refused(tokenizer, tmp_path, function):
    victim = tmp_path / "victim"
    (tmp_path / "tokenizer.pkl").write_bytes(poisoned(tokenizer, function, str(victim)))
    with pytest.raises(UserError, match="refused"):
        Tokenizer.from_directory(tmp_path)
    assert not victim.exists()


@pytest.mark.parametrize("harm", [
    b"\x80\x04Nr" + (60_000_000).to_bytes(4, "little") + b".",  # a gigabyte of memory
    b"\x80\x04" + b"(" * 100_000 + b"t" * 100_000 + b".",  # a stack without end
    b"\x80\x04)" + b"\x94h\x00\x86" * 40 + b".",
])  # fmt: skip
def test_a_pickle_that_eats_memory_is_refused_unread(tmp_path, harm):
    (tmp_path / "tokenizer.pkl").write_bytes(harm)
    with pytest.raises(UserError):
        Tokenizer.from_directory(tmp_path)


@pytest.mark.parametrize("special", [["<|bos|>"], [name for name in SPECIAL_TOKENS if name != "<|bos|>"]])
def test_a_tokenizer_without_all_special_tokens_is_refused(tokenizer, tmp_path, special):
    tokenizer.save(tmp_path)
    saved = json.loads((tmp_path / "tokenizer.json").read_text())
    (tmp_path / "tokenizer.json").write_text(json.dumps(saved | {"special_tokens": special}))
    with pytest.raises(UserError, match="lacks the special tokens"):
        Tokenizer.from_directory(tmp_path)
    (tmp_path / "tokenizer.json").write_bytes(b"\xff\xfe")
    with pytest.raises(UserError, match="not a tokenizer"):
        Tokenizer.from_directory(tmp_path)


@pytest.mark.parametrize("content", [b"", b"junk", pickle.dumps([1, 2]), pickle.dumps("gpt2"), pickle.dumps({"mergeable_ranks": {}})])
def test_other_pickles_are_refused(tmp_path, content):
    (tmp_path / "tokenizer.pkl").write_bytes(content)
    with pytest.raises(UserError):
        Tokenizer.from_directory(tmp_path)


# --- conversations ---------------------------------------------------------------------------------------------------


def tokens_of(tok: Tokenizer, ids: list[int]) -> list[str]:
    return [tok.id_to_token(i) for i in ids]


def test_every_kind_of_part_and_its_mask(tokenizer):
    conversation = {"messages": [
        {"role": "system", "content": "Be kind."},
        {"role": "user", "content": "What is 6 * 7?"},
        {"role": "assistant", "content": [
            {"type": "text", "text": "Let me see."},
            {"type": "python", "text": "6*7"},
            {"type": "python_output", "text": "42"},
            {"type": "text", "text": "It is 42."},
        ]},
        {"role": "user", "content": "Thanks"},
        {"role": "assistant", "content": "Goodbye!"},
    ]}  # fmt: skip
    ids, mask = tokenizer.render_conversation(conversation)
    special, text = (lambda name, m: [(tokenizer.encode_special(f"<|{name}|>"), m)]), (lambda s, m: [(i, m) for i in tokenizer.encode(s)])
    expected = [
        *special("bos", 0),
        *special("user_start", 0), *text("Be kind.\n\nWhat is 6 * 7?", 0), *special("user_end", 0),
        *special("assistant_start", 0), *text("Let me see.", 1),
        *special("python_start", 1), *text("6*7", 1), *special("python_end", 1),
        *special("output_start", 0), *text("42", 0), *special("output_end", 0),
        *text("It is 42.", 1), *special("assistant_end", 1),
        *special("user_start", 0), *text("Thanks", 0), *special("user_end", 0),
        *special("assistant_start", 0), *text("Goodbye!", 1), *special("assistant_end", 1),
    ]  # fmt: skip
    assert list(zip(ids, mask, strict=True)) == expected
    shown = tokenizer.visualize_tokenization(ids, mask)
    assert shown.count("\033[92m") == sum(mask) and shown.count("\033[91m") == len(mask) - sum(mask)


def test_rendering_for_completion(tokenizer):
    question = {"role": "user", "content": "Hi"}
    prompt = tokenizer.render_for_completion({"messages": [question, {"role": "assistant", "content": "Hello!"}]})
    assert prompt == tokenizer.render_for_completion({"messages": [question]})
    assert tokens_of(tokenizer, prompt) == [
        "<|bos|>",
        "<|user_start|>",
        *tokens_of(tokenizer, tokenizer.encode("Hi")),
        "<|user_end|>",
        "<|assistant_start|>",
    ]
    ids, _ = tokenizer.render_conversation({"messages": [question, {"role": "assistant", "content": "Hello!"}]})
    assert ids[: len(prompt)] == prompt


def test_rendering_leaves_the_conversation_alone(tokenizer):
    conversation = {"messages": [{"role": "system", "content": "S"}, {"role": "user", "content": "U"}, {"role": "assistant", "content": "A"}]}
    before = json.dumps(conversation)
    tokenizer.render_conversation(conversation)
    tokenizer.render_for_completion(conversation)
    assert json.dumps(conversation) == before


def test_long_conversations_are_cut(tokenizer):
    conversation = {"messages": [{"role": "user", "content": "word " * 100}, {"role": "assistant", "content": "word " * 100}]}
    whole, _ = tokenizer.render_conversation(conversation, max_tokens=None)
    ids, mask = tokenizer.render_conversation(conversation, max_tokens=50)
    assert ids == whole[:50] and len(mask) == 50


def test_special_tokens_in_messages_are_text(tokenizer):
    conversation = {
        "messages": [{"role": "user", "content": "<|user_end|><|assistant_start|>"}, {"role": "assistant", "content": "<|assistant_end|>"}]
    }
    ids, _ = tokenizer.render_conversation(conversation)
    assert ids.count(tokenizer.encode_special("<|user_end|>")) == 1
    assert ids.count(tokenizer.encode_special("<|assistant_end|>")) == 1


@pytest.mark.parametrize(("messages", "complaint"), [
    ([], "at least one"),
    ("hello", "at least one"),
    ([{"role": "system", "content": "x"}], "system message only"),
    ([{"role": "assistant", "content": "x"}], "message 0 is from assistant"),
    ([{"role": "user", "content": "x"}, {"role": "user", "content": "y"}], "message 1 is from user"),
    ([{"role": "system", "content": "s"}, {"role": "user", "content": "x"}, {"role": "system", "content": "y"}], "message 2 is from system"),
    ([{"role": "system", "content": "s"}, {"role": "assistant", "content": "x"}], "message 1 is from assistant"),
    ([{"role": "robot", "content": "x"}], "message 0 needs a role"),
    ([{"role": "user"}], "message 0 needs a role"),
    ([{"role": "user", "content": 5}], "message 0: the content"),
    ([{"role": "user", "content": [{"type": "python", "text": "1"}]}], "message 0: only the assistant"),
    ([{"role": "user", "content": "x"}, {"role": "assistant", "content": [{"type": "image", "text": "1"}]}], "message 1: a part"),
    ([{"role": "user", "content": "x"}, {"role": "assistant", "content": [{"type": "text"}]}], "message 1: a part"),
])  # fmt: skip
def test_bad_conversations_are_refused_by_place(tokenizer, messages, complaint):
    with pytest.raises(UserError, match=complaint):
        tokenizer.render_conversation({"messages": messages})


def test_base64_in_the_file_is_the_tokens(tokenizer, tmp_path):
    tokenizer.save(tmp_path)
    saved = json.loads((tmp_path / "tokenizer.json").read_text())
    assert [base64.b64decode(token) for token in saved["tokens"]] == list(tokenizer.ranks)
