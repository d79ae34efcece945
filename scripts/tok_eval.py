"""How well does a tokenizer compress? Bytes per token on several kinds of text, beside GPT-2's and GPT-4's tokenizers where tiktoken has them.

python -m scripts.tok_eval --dataset tinyworld
"""

import argparse
import hashlib
import json
import os
import tempfile
from pathlib import Path

import tiktoken

from nanochat.common import ArgumentParser, add_dataset_argument, friendly_errors, print0, write_text
from nanochat.dataset import parquets_iter_batched
from nanochat.tokenizer import get_tokenizer, tokenizer_dir

PROSE = """The ferry left at six, when the harbour was still grey. Only two passengers stood on deck: an old surveyor with a leather case, and a girl who
was counting the gulls. "Thirty-one," she said at last. The surveyor did not look up from his map. "There were forty last week," he answered, "but last
week the herring boats were in." She thought about this for a while. It seemed to her that whoever wanted to know something about gulls had better
ask about herring, and she resolved to remember it."""

NEWS = """City officials announced on Tuesday that the northern bridge will stay closed until the end of October. Inspectors had found cracks in
three of its twelve supports, and repairs are expected to cost $4.2 million. "Safety comes first," the mayor said at a press conference. About
18,000 commuters use the bridge every day; buses will be diverted through the harbour tunnel, where an extra lane opens at 5:30 a.m."""

CODE = '''import heapq


def shortest_path(graph: dict[str, list[tuple[str, float]]], start: str, goal: str) -> list[str]:
    """Dijkstra's algorithm with a heap; returns [] if the goal cannot be reached."""
    best = {start: 0.0}
    previous: dict[str, str] = {}
    frontier = [(0.0, start)]
    while frontier:
        cost, node = heapq.heappop(frontier)
        if node == goal:
            path = [node]
            while path[-1] != start:
                path.append(previous[path[-1]])
            return path[::-1]
        for neighbour, weight in graph.get(node, []):
            if cost + weight < best.get(neighbour, float("inf")):
                best[neighbour] = cost + weight
                previous[neighbour] = node
                heapq.heappush(frontier, (best[neighbour], neighbour))
    return []
'''

MATHS = r"""Let $f\colon [a,b] \to \mathbb{R}$ be continuous and differentiable on $(a,b)$. By the mean value theorem there is a point $\xi \in (a,b)$
with $f(b) - f(a) = f'(\xi)(b - a)$. If $|f'(x)| \le M$ for every $x$, then $|f(b) - f(a)| \le M\,|b - a|$. For example, with $f(x) = \sin x$ we have
$M = 1$, so that $|\sin 0.31 - \sin 0.3| \le 0.01$. Moreover $\sum_{k=1}^{n} k^2 = \frac{n(n+1)(2n+1)}{6}$; for $n = 24$ both sides are $4900 = 70^2$."""

SCIENCE = """In the light reactions of photosynthesis, water is split at photosystem II; electrons pass through the cytochrome b6f complex to
photosystem I, and the proton gradient across the thylakoid membrane drives the synthesis of ATP. The Calvin cycle then fixes CO2 with the enzyme
ribulose-1,5-bisphosphate carboxylase/oxygenase (RuBisCO), whose slow turnover and wasteful oxygenase activity limit the yield of many crops."""

OTHER_LANGUAGES = """Der alte Leuchtturm steht seit 1871 auf der Düne, und niemand weiß mehr, warum seine Tür nach Norden zeigt.
La lluvia llegó de noche, y por la mañana el pueblo entero olía a tierra mojada y a pan recién hecho.
Когда поезд наконец остановился, на перроне не было никого, кроме рыжей кошки.
春になると、川沿いの道は花びらでいっぱいになり、子どもたちは橋の上から舟を流す。
할머니는 매일 아침 창가에 앉아 뜨거운 차를 마시며 새들에게 말을 걸었다.
وصلت الرسالة بعد عشرين عامًا، لكن الحبر كان لا يزال واضحًا.
"""

# What tiktoken would download for them; a tokenizer is compared only if its files are in tiktoken's cache already.
OPENAI_FILES = "https://openaipublic.blob.core.windows.net/"
KNOWN = {
    "gpt2": ("GPT-2", ("gpt-2/encodings/main/vocab.bpe", "gpt-2/encodings/main/encoder.json")),
    "cl100k_base": ("GPT-4", ("encodings/cl100k_base.tiktoken",)),
}


def parse_args() -> argparse.Namespace:
    parser = ArgumentParser(description="Compression of a tokenizer, per kind of text")
    add_dataset_argument(parser)
    parser.add_argument("--max-chars", type=int, default=1_000_000, help="how many characters of each split of the data set to compare on")
    args = parser.parse_args()
    if args.max_chars < 1:
        parser.error("--max-chars must be positive")
    return args


def cached_in_tiktoken(files: tuple[str, ...]) -> bool:
    folder = os.environ.get("TIKTOKEN_CACHE_DIR", os.environ.get("DATA_GYM_CACHE_DIR", str(Path(tempfile.gettempdir()) / "data-gym-cache")))
    return bool(folder) and all((Path(folder) / hashlib.sha1((OPENAI_FILES + file).encode()).hexdigest()).exists() for file in files)


def sample(dataset: str, split: str, max_chars: int) -> str:
    """The first documents of a split."""
    texts, size = [], 0
    for batch in parquets_iter_batched(split, dataset):
        for text in batch:
            texts.append(text[: max_chars - size])
            size += len(texts[-1])
            if size >= max_chars:
                return "\n".join(texts)
    return "\n".join(texts)


def main(args: argparse.Namespace) -> None:
    ours = get_tokenizer(args.dataset)
    texts = {"prose": PROSE, "news": NEWS, "code": CODE, "maths": MATHS, "science": SCIENCE, "other languages": OTHER_LANGUAGES}
    texts |= {f"{args.dataset} {split}": sample(args.dataset, split, args.max_chars) for split in ("train", "val")}
    encoders = {"ours": ours.enc}
    for encoding, (label, files) in KNOWN.items():
        if cached_in_tiktoken(files):
            try:
                encoders[label] = tiktoken.get_encoding(encoding)
            except Exception as error:  # tiktoken throws a damaged file away and goes to the network, which may fail in any way
                print0(f"not compared with {label}: its file in tiktoken's cache is damaged ({type(error).__name__})")
        else:
            print0(f"not compared with {label}: its tokenizer is not in tiktoken's cache (once, with a network: python -c "
                   f"\"import tiktoken; tiktoken.get_encoding('{encoding}')\")")  # fmt: skip
    print0(f"vocabulary: {', '.join(f'{label} {enc.n_vocab:,}' for label, enc in encoders.items())}")
    print0(f"{'':24}{'bytes':>10}" + "".join(f"{label + ' tokens':>16}{'bytes/token':>13}" for label in encoders))
    table = {}
    for kind, text in texts.items():
        size = len(text.encode("utf-8"))
        counts = {}
        for label, enc in encoders.items():
            ids = enc.encode_ordinary(text)
            assert enc.decode(ids) == text, f"{label} does not give back {kind}"
            counts[label] = len(ids)
        table[kind] = {"bytes": size, **{label: {"tokens": n, "bytes_per_token": round(size / n, 4)} for label, n in counts.items()}}
        print0(f"{kind:24}{size:10,}" + "".join(f"{n:16,}{size / n:13.2f}" for n in counts.values()))
    path = tokenizer_dir(args.dataset) / "compression.json"
    write_text(path, json.dumps(table, indent=1))
    print0(f"saved to {path}")


if __name__ == "__main__":
    with friendly_errors():
        main(parse_args())
