"""How a large data set of the hub becomes shards to pretrain on, as climbmix and fineweb_edu once did.

    python -m dev.repackage_data_reference --source HuggingFaceFW/fineweb-edu --subset sample-100BT --out shards
    python -m dev.repackage_data_reference --source parquet --files 'my_text/*.parquet' --field content --out shards

All documents are shuffled once, so that whoever takes the first n shards has a fair sample; a shard is about 100 MB, which is quick to download and
large enough to be few; groups of 1,024 rows are what ranks share out among themselves. The last shard is for validation. To publish them, upload the
folder to a data set repository and add its name and number of shards to HUB_SOURCES in nanochat/dataset.py. To train on text of your own,
`python -m nanochat.dataset --import FOLDER --name NAME` is simpler.
"""

import argparse
import os
from collections.abc import Iterator
from pathlib import Path

from nanochat.common import ArgumentParser, UserError, friendly_errors, print0
from nanochat.dataset import ROWS_PER_GROUP, write_shards


def parse_args() -> argparse.Namespace:
    parser = ArgumentParser(description="Repackage a data set into shards for pretraining")
    parser.add_argument(
        "--source", required=True, help="a data set of the hub, or a format that `datasets` reads: parquet, json, text (with --files)"
    )
    parser.add_argument("--subset", default=None, help="of the data set, where it has several")
    parser.add_argument("--split", default="train", help="which split to take")
    parser.add_argument("--files", default=None, help="local files, as a pattern")
    parser.add_argument("--field", default="text", help="the column that holds the text")
    parser.add_argument("--out", required=True, type=Path, help="a new folder for the shards")
    parser.add_argument("--shard-chars", type=int, default=250_000_000, help="characters in a shard; English text compresses to two fifths of that")
    parser.add_argument("--seed", type=int, default=42, help="of the shuffle")
    return parser.parse_args()


def documents(args: argparse.Namespace) -> Iterator[str]:
    """All of them in random order. Not streamed: a shuffle within a buffer would leave neighbours together, which come from one crawl or one site."""
    from datasets import load_dataset

    try:
        data = load_dataset(args.source, args.subset, data_files=args.files, split=args.split)
    except Exception as error:  # `datasets` and the hub raise many kinds
        raise UserError(f"{args.source} does not load ({type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}): see --source, "
                        "--subset, --split and --files; without network HF_HUB_OFFLINE=1 uses what is in the cache") from error  # fmt: skip
    if args.field not in data.column_names:
        raise UserError(f"--field {args.field}: the data set has no such column, but {', '.join(data.column_names)}")
    for record in data.select_columns([args.field]).shuffle(seed=args.seed):
        text = record[args.field]
        if isinstance(text, str) and text.strip():
            yield text


def main(args: argparse.Namespace) -> None:
    if args.shard_chars < 1:
        raise UserError(f"--shard-chars {args.shard_chars}: at least 1")
    if args.out.exists():
        raise UserError(f"{args.out} is there already: choose a new folder, or delete it")
    building = args.out.with_name(f"{args.out.name}.part")  # a folder of that name is what an earlier try left
    building.mkdir(parents=True, exist_ok=True)
    for path in building.iterdir():
        path.unlink()
    names = write_shards(documents(args), building, args.shard_chars, ROWS_PER_GROUP)
    if len(names) < 2:
        raise UserError(f"only {len(names)} shard: there must be one to train on and one to validate; --shard-chars makes them smaller")
    os.replace(building, args.out)
    print0(f"{len(names)} shards in {args.out}, the last of them for validation")


if __name__ == "__main__":
    with friendly_errors():
        main(parse_args())
