"""How fast is the way from nothing to a batch? Generation, tokenizer training, tokenizing, packing, delivery.

    python -m dev.bench_data

Each part is measured against a plain reference that is kept here: packing by scanning the whole buffer, delivery without prefetching. Machines are
noisy, so only ratios within one run and rates with room to spare are judged. The last line is JSON; `bars` holds each figure that is promised.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path

import numpy as np
import torch

from nanochat import dataset, tinyworld
from nanochat.common import ArgumentParser, Compute
from nanochat.dataloader import BUFFER_DOCUMENTS, BestFit, pretrain_batches
from nanochat.tokenizer import Tokenizer, tokenizer_dir

RECIPE_RATE = 14_500  # tokens/s that the model of runs/runcpu.sh trains at on 2 cores
GPU_RATE = 150_000  # tokens/s that one fast GPU of a node trains at: what one loader has to keep up with
ROW = 2048 + 1


def parse_args() -> argparse.Namespace:
    parser = ArgumentParser(description="Benchmark of the data path")
    parser.add_argument("--megabytes", type=float, default=24, help="size of the corpus, as in runs/runcpu.sh")
    parser.add_argument("--seconds", type=float, default=8, help="how long each delivery is watched")
    return parser.parse_args()


def timed(work: Callable) -> tuple[float, object]:
    start = time.perf_counter()
    result = work()
    return time.perf_counter() - start, result


def show(name: str, text: str) -> None:
    print(f"{name:42}{text}", flush=True)


# --- packing ---------------------------------------------------------------------------------------------------------


class Scanning:
    """The reference for BestFit: a list, and a look at all of it for every choice."""

    def __init__(self):
        self.waiting: list[tuple[int, np.ndarray]] = []

    def __len__(self) -> int:
        return len(self.waiting)

    def add(self, length: int, document: np.ndarray) -> None:
        self.waiting.append((length, document))

    def take(self, room: int) -> tuple[int, np.ndarray]:
        best, best_length = -1, 0
        for i, (length, _) in enumerate(self.waiting):
            if best_length < length <= room:
                best, best_length = i, length
        if best < 0:
            best = min(range(len(self.waiting)), key=lambda i: self.waiting[i][0])
        return self.waiting.pop(best)


def pack(buffer: BestFit | Scanning, documents: list[np.ndarray], bos: np.ndarray) -> np.ndarray:
    """The rows of ROW tokens that the documents fill, by the loader's rule; what is left in the buffer at the end stays there."""
    arrivals, rows = iter(documents), []
    while True:
        parts, room = [], ROW
        while room:
            while len(buffer) < BUFFER_DOCUMENTS:
                document = next(arrivals, None)
                if document is None:
                    return np.array(rows)
                buffer.add(min(len(document) + 1, ROW), document[: ROW - 1])
            length, document = buffer.take(room)
            parts += (bos, document[: room - 1])
            room -= min(length, room)
        rows.append(np.empty(ROW, dtype=np.int64))
        np.concatenate(parts, out=rows[-1])


def bench_packing(tokenizer: Tokenizer, texts: list[str], lengths: str) -> dict:
    """Packing beside tokenizing, on the same documents and one thread each; and beside the scan, whose choices must be the same."""
    bos = np.array([tokenizer.get_bos_token_id()], dtype=np.uint32)
    tokenizing, documents = timed(lambda: [tokenizer.encode_array(text) for text in texts])
    packing = statistics.median(timed(lambda: pack(BestFit(ROW), documents, bos))[0] for _ in range(3))
    rows = pack(BestFit(ROW), documents, bos)
    scanning, reference = timed(lambda: pack(Scanning(), documents, bos))
    tokens = sum(len(document) + 1 for document in documents)
    used = rows.size
    show(
        f"tokenizing, {lengths}",
        f"{tokens / tokenizing / 1e6:8.2f} M tokens/s ({len(documents):,} documents, {tokens / len(documents):.0f} tokens each)",
    )
    show(
        f"packing, {lengths}",
        f"{used / packing / 1e6:8.2f} M tokens/s, {packing / used / (tokenizing / tokens):.3f} of tokenizing, {scanning / packing:.0f}x the scan",
    )
    return {
        "tokenizing_tokens_per_s": tokens / tokenizing,
        "packing_tokens_per_s": used / packing,
        "packing_share_of_tokenizing": (packing / used) / (tokenizing / tokens),
        "times_faster_than_scan": scanning / packing,
        "same_choices_as_scan": bool(np.array_equal(rows, reference)),
    }


def cropped_share(lengths: list[int], cut_on_arrival: bool) -> float:
    """Share of the tokens that best fit loses. Unless documents longer than a row are cut when they arrive, they fill the buffer for good."""
    buffer, arrivals = BestFit(ROW if cut_on_arrival else max(lengths)), iter(lengths)
    used = lost = 0
    while True:
        room = ROW
        while room:
            while len(buffer) < BUFFER_DOCUMENTS:
                length = next(arrivals, None)
                if length is None:
                    return lost / (used + lost)
                kept = min(length, ROW) if cut_on_arrival else length
                lost += length - kept
                buffer.add(kept, None)
            length, _ = buffer.take(room)
            lost += max(0, length - room)
            used += min(length, room)
            room -= min(length, room)


def bench_cropping() -> dict:
    """On lengths as the web has them: lognormal, a tenth of the documents longer than a row."""
    lengths = np.clip(np.random.default_rng(0).lognormal(6.2, 1.1, 100_000), 20, 50_000).astype(int).tolist()
    unavoidable = sum(max(0, n - ROW) for n in lengths) / sum(lengths)
    ours, plain = cropped_share(lengths, True), cropped_share(lengths, False)
    show("cropped, web lengths, T=2048", f"{ours:8.1%} of the tokens; {plain:.1%} if long documents wait; {unavoidable:.1%} is beyond any row")
    return {"ours": ours, "long_documents_wait": plain, "unavoidable": unavoidable}


# --- delivery --------------------------------------------------------------------------------------------------------


def busy_model(rate: float) -> Callable[[torch.Tensor], None]:
    """Stands in for a model on this CPU: keeps all cores at matrix products for as long as a model of that rate would need."""
    a = torch.randn(512, 512)

    def step(x: torch.Tensor) -> None:
        end = time.perf_counter() + x.numel() / rate
        while time.perf_counter() < end:
            a @ a

    return step


def null_model(rate: float) -> Callable[[torch.Tensor], None]:
    """Stands in for a model on a GPU: computes nothing here, but takes the time of one."""
    return lambda x: time.sleep(x.numel() / rate)


def waiting_share(batches: Iterator, step: Callable[[torch.Tensor], None], seconds: float) -> float:
    """Share of the time that a training loop spends waiting for its next batch, from the second one on."""
    x, _, _ = next(batches)
    waited, start = 0.0, time.perf_counter()
    while time.perf_counter() - start < seconds:
        step(x)
        before = time.perf_counter()
        x, _, _ = next(batches)
        waited += time.perf_counter() - before
    return waited / (time.perf_counter() - start)


def bench_delivery(tokenizer: Tokenizer, name: str, B: int, T: int, model: Callable, seconds: float, label: str) -> dict:
    compute = Compute(False, 0, 0, 1, torch.device("cpu"))
    result = {}
    for prefetch in (True, False):
        batches = pretrain_batches(tokenizer, name, B, T, "train", compute, prefetch=prefetch)
        result["prefetched" if prefetch else "reference"] = waiting_share(batches, model, seconds)
        batches.close()
    show(f"waiting for data, {label}", f"{result['prefetched']:8.2%} of the time; {result['reference']:.2%} without prefetching")
    return result


def bench_rate(tokenizer: Tokenizer, name: str, B: int, T: int) -> float:
    """Tokens per second when nobody computes: the most a loader delivers on one core. Long enough that the first buffers do not count."""
    batches = pretrain_batches(tokenizer, name, B, T, "train", Compute(False, 0, 0, 1, torch.device("cpu")), prefetch=False)
    next(batches)
    seconds, n = timed(lambda: sum(x.numel() for x, _, _ in islice(batches, 4_000_000 // (B * T))))
    show(f"delivery, T={T}, one core", f"{n / seconds / 1e6:8.2f} M tokens/s")
    return n / seconds


# --- all of it -------------------------------------------------------------------------------------------------------


def bench_generation(megabytes: float) -> float:
    next(tinyworld.documents())  # the tables are made once
    rates = []
    for start in range(0, 30_000, 6_000):
        seconds, size = timed(lambda start=start: sum(len(text) for text in tinyworld.documents("train", start, start + 6_000)))
        rates.append(size / seconds / 1e6)
    show("generating text", f"{statistics.median(rates):8.1f} MB/s")
    seconds, _ = timed(lambda: dataset.generate(megabytes))
    show("generating a data set", f"{megabytes / seconds:8.1f} MB/s, compressed and written")
    return statistics.median(rates)


def slowest_help() -> tuple[float, str]:
    root, times = Path(__file__).parent.parent, {}
    modules = ["nanochat.dataset", *(f"scripts.{path.stem}" for path in sorted((root / "scripts").glob("*.py")) if path.stem != "__init__")]
    for module in modules:
        times[module] = timed(lambda m=module: subprocess.run([sys.executable, "-m", m, "--help"], cwd=root, capture_output=True, check=True))[0]
    slowest = max(times, key=times.get)
    show("slowest --help", f"{times[slowest]:8.2f} s ({slowest})")
    return times[slowest], slowest


def long_documents(texts: list[str]) -> list[str]:
    """Documents of web length, put together from the small world's: from a few sentences to beyond a row."""
    dice, joined, at = np.random.default_rng(1), [], 0
    while at < len(texts):
        n = 1 + int(dice.lognormal(1.0, 1.1))
        joined.append("\n\n".join(texts[at : at + n]))
        at += n
    return joined


def main(args: argparse.Namespace) -> None:
    with tempfile.TemporaryDirectory() as base:
        os.environ["NANOCHAT_BASE_DIR"] = base
        generation = bench_generation(args.megabytes)
        texts = [text for batch in dataset.parquets_iter_batched("train", "tinyworld") for text in batch]
        training, tokenizer = timed(lambda: Tokenizer.train_from_iterator(iter(texts), 4096))
        show("training a tokenizer of 4,096", f"{sum(map(len, texts)) / training / 1e6:8.1f} MB/s")
        tokenizer.save(tokenizer_dir("tinyworld"))
        short = bench_packing(tokenizer, texts[:30_000], "documents as they are")
        long = bench_packing(tokenizer, long_documents(texts), "documents of web length")
        cropping = bench_cropping()
        rates = {T: bench_rate(tokenizer, "tinyworld", 16, T) for T in (256, 2048)}
        recipe = bench_delivery(tokenizer, "tinyworld", 32, 256, busy_model(RECIPE_RATE), args.seconds, f"recipe at {RECIPE_RATE:,} tokens/s")
        null = bench_delivery(tokenizer, "tinyworld", 32, 2048, null_model(GPU_RATE), args.seconds, f"null model, T=2048, {GPU_RATE:,} tokens/s")
        help_seconds, _ = slowest_help()

    def bar(value: float, target: float, holds: bool) -> dict:
        return {"value": round(value, 4), "target": target, "holds": bool(holds)}

    worst = max(short["packing_share_of_tokenizing"], long["packing_share_of_tokenizing"])
    same = short["same_choices_as_scan"] and long["same_choices_as_scan"]
    bars = {
        "generation_mb_per_s": bar(generation, 5, generation >= 5),
        "packing_share_of_tokenizing": bar(worst, 0.2, worst <= 0.2),
        "same_choices_as_scan": bar(same, 1, same),
        "waiting_on_recipe": bar(recipe["prefetched"], 0.02, recipe["prefetched"] < 0.02),
        "waiting_with_null_model": bar(null["prefetched"], 0.02, null["prefetched"] < 0.02),
        "slowest_help_s": bar(help_seconds, 3, help_seconds <= 3),
    }
    print(
        json.dumps(
            {
                "bench": "data",
                "short": short,
                "long": long,
                "cropped": cropping,
                "delivery_tokens_per_s": rates,
                "recipe": recipe,
                "null": null,
                "bars": bars,
            }
        )
    )


if __name__ == "__main__":
    main(parse_args())
