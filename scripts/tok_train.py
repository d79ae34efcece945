"""Train the tokenizer of a data set.

python -m scripts.tok_train                                            # climbmix, 2 billion characters, 32,768 tokens
python -m scripts.tok_train --dataset tinyworld --vocab-size 4096      # the embedded corpus
"""

import argparse
import json
import time
from collections.abc import Iterator

from nanochat.common import ArgumentParser, add_dataset_argument, friendly_errors, print0, write_text
from nanochat.dataset import parquets_iter_batched
from nanochat.tokenizer import SPECIAL_TOKENS, Tokenizer, tokenizer_dir

TRIAL = "Hello world! This is a test.\nNumbers: 123, 4567, 89\nContractions: I'm, you're, it's\nUnicode: 你好世界 🌍 café\n\tdef f(x): return x**2"


def parse_args() -> argparse.Namespace:
    parser = ArgumentParser(description="Train a BPE tokenizer on the training split of a data set")
    add_dataset_argument(parser)
    parser.add_argument("--vocab-size", type=int, default=32768, help="tokens in all, special ones included")
    parser.add_argument("--max-chars", type=int, default=2_000_000_000, help="how many characters to look at")
    parser.add_argument("--max-shards", type=int, default=-1, help="how many of the first shards to look at, also if others arrive; -1: all")
    parser.add_argument("--doc-cap", type=int, default=10_000, help="how many characters of one document to look at")
    args = parser.parse_args()
    if args.vocab_size < 256 + len(SPECIAL_TOKENS):
        parser.error(f"--vocab-size {args.vocab_size} is too small: 256 bytes and {len(SPECIAL_TOKENS)} special tokens are the least")
    if args.max_shards < 1 and args.max_shards != -1:
        parser.error(f"--max-shards {args.max_shards}: at least 1, or -1 for all")
    if args.max_chars < 1 or args.doc_cap < 1:
        parser.error("--max-chars and --doc-cap must be positive")
    return args


def training_texts(args: argparse.Namespace, seen: dict[str, int]) -> Iterator[str]:
    """Documents of the training split, each cut to --doc-cap, until there are --max-chars characters."""
    for batch in parquets_iter_batched("train", args.dataset, max_shards=args.max_shards if args.max_shards > 0 else None):
        for text in batch:
            text = text[: args.doc_cap]
            seen["documents"] += 1
            seen["characters"] += len(text)
            yield text
            if seen["characters"] >= args.max_chars:
                return


def main(args: argparse.Namespace) -> None:
    print0(f"training a tokenizer of {args.vocab_size:,} tokens on {args.dataset}")
    seen = {"documents": 0, "characters": 0}
    start = time.perf_counter()
    tokenizer = Tokenizer.train_from_iterator(training_texts(args, seen), args.vocab_size)
    seconds = time.perf_counter() - start
    assert tokenizer.decode(tokenizer.encode(TRIAL)) == TRIAL, "the tokenizer does not give back what it was given"

    directory = tokenizer_dir(args.dataset)
    lengths = [len(token) for token in tokenizer.ranks]
    summary = {
        "dataset": args.dataset,
        "vocab_size": tokenizer.get_vocab_size(),
        **seen,
        "seconds": round(seconds, 2),
        "token_bytes_mean": round(sum(lengths) / len(lengths), 3),
        "token_bytes_max": max(lengths),
    }
    write_text(directory / "summary.json", json.dumps(summary, indent=1))
    tokenizer.save(directory)  # last: where there is a tokenizer.json, all of it is there
    print0(f"read {seen['documents']:,} documents, {seen['characters']:,} characters, in {seconds:.1f} s")
    print0(f"a token has {summary['token_bytes_mean']:.2f} bytes on average, {summary['token_bytes_max']} at most")
    print0(f"saved to {directory}")


if __name__ == "__main__":
    with friendly_errors():
        main(parse_args())
