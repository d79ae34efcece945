"""Evaluate a base model: CORE, bits per byte of the training and validation data, samples.

    python -m scripts.base_eval                                       # the largest base model, its last step, everything
    python -m scripts.base_eval --model-tag d12 --eval core --max-per-task 100
    python -m scripts.base_eval --hf-path openai-community/gpt2-xl    # a Hugging Face model through the same code: GPT-2's CORE is 0.256525
    torchrun --standalone --nproc_per_node=8 -m scripts.base_eval

Results go to $NANOCHAT_BASE_DIR/base_eval/<model tag>_<step>.csv, a line for each task of CORE, and .json, everything there is.
"""

import argparse
import json
from pathlib import Path

from nanochat.common import DEFAULT_DATASET, ArgumentParser, Compute, UserError, friendly_errors, get_base_dir, print0, write_text

MODES = ("core", "bpb", "sample")
RESULT = {"core": "core_metric", "bpb": "val_bpb", "sample": "samples"}  # the key that each of them leaves
UNCONDITIONED, UNCONDITIONED_TOKENS = 8, 128
MOST_LOGITS = 1 << 29  # of a Hugging Face model at a time: it computes them for all positions, which is 2 GiB in float32


def parse_args() -> argparse.Namespace:
    parser = ArgumentParser(description="Evaluate a base model: CORE, bits per byte, samples")
    parser.add_argument("--eval", default=",".join(MODES), help="what to do, separated by commas")
    parser.add_argument("--model-tag", default=None, help="folder of the checkpoints (default: the largest model)")
    parser.add_argument("--step", type=int, default=None, help="which checkpoint (default: the last)")
    parser.add_argument("--hf-path", default=None, metavar="NAME", help="a causal model of the Hugging Face hub, or its folder, instead (CORE only)")
    parser.add_argument("--bundle", default=None, help="core, tinyworld, or a folder (default: tinyworld for models trained on it, else core)")
    parser.add_argument("--dataset", default=None, help="for bits per byte (default: the one that the model was trained on)")
    parser.add_argument("--max-per-task", type=int, default=-1, help="items of each task of CORE; -1: all")
    parser.add_argument("--device-batch-size", type=int, default=32, help="rows at a time on one device")
    parser.add_argument("--split-tokens", type=int, default=40 * 524288, help="tokens of each split for bits per byte")
    parser.add_argument("--device-type", default="", choices=["", "cuda", "cpu", "mps"], help="empty: the best there is")
    parser.add_argument("--resume", default=None, choices=["auto"], help="auto: nothing is done again that is known of this checkpoint already")
    args = parser.parse_args()
    args.eval = [mode.strip() for mode in args.eval.split(",") if mode.strip()]
    if unknown := [mode for mode in args.eval if mode not in MODES]:
        parser.error(f"--eval {','.join(unknown)}: known are {', '.join(MODES)}")
    if not args.eval:
        parser.error(f"--eval: name one at least of {', '.join(MODES)}")
    for name in ("device_batch_size", "split_tokens"):
        if getattr(args, name) < 1:
            parser.error(f"--{name.replace('_', '-')} {getattr(args, name)}: at least 1")
    if args.max_per_task < 1 and args.max_per_task != -1:
        parser.error(f"--max-per-task {args.max_per_task}: at least 1, or -1 for all")
    if args.resume and args.hf_path:
        parser.error("--resume looks at when a checkpoint was saved, and --hf-path names a model that has none: leave one of them out")
    return args


# --- Hugging Face models ---------------------------------------------------------------------------------------------


class HuggingFaceTokenizer:
    """What CORE asks of a tokenizer."""

    def __init__(self, tokenizer):
        self.tokenizer = tokenizer
        self.bos = tokenizer.eos_token_id if tokenizer.bos_token_id is None else tokenizer.bos_token_id  # GPT-2 has one for both
        if self.bos is None:
            raise UserError("this model's tokenizer has neither a token for the beginning of a text nor one for its end, and CORE begins with one")

    def get_bos_token_id(self) -> int:
        return self.bos

    def encode(self, texts: list[str], prepend: int) -> list[list[int]]:
        return [[prepend, *ids] for ids in self.tokenizer(texts, add_special_tokens=False, verbose=False)["input_ids"]]


def load_hugging_face(name: str, compute: Compute):
    """(scorer, tokenizer, the longest text it takes or None, size of its vocabulary)"""
    try:
        from transformers import AutoModelForCausalLM, AutoTokenizer
    except ImportError as error:
        raise UserError("--hf-path needs the package transformers: install it with  pip install -e .[hf]") from error
    from nanochat.common import compute_dtype
    from nanochat.core_eval import PlainScorer

    try:
        tokenizer = HuggingFaceTokenizer(AutoTokenizer.from_pretrained(name))
        model = AutoModelForCausalLM.from_pretrained(name, dtype=compute_dtype(compute.device)).to(compute.device).eval()
    except UserError:
        raise
    except (OSError, ValueError) as error:
        raise UserError(f"--hf-path {name}: no causal language model could be loaded from there ({str(error).strip().splitlines()[0]}). Give a name "
                        "of the hub, or a folder with config.json, weights and tokenizer") from error  # fmt: skip
    scorer = PlainScorer(lambda ids: model(ids, use_cache=False).logits, device=compute.device)
    return scorer, tokenizer, getattr(model.config, "max_position_embeddings", None), model.config.vocab_size


# --- the three evaluations -------------------------------------------------------------------------------------------


def bits_per_byte(model, tokenizer, dataset: str, args, compute: Compute) -> dict[str, float]:
    from nanochat.dataloader import pretrain_batches
    from nanochat.loss_eval import evaluate_bpb

    rows, T = args.device_batch_size, model.config.sequence_len
    steps, token_bytes, found = max(1, args.split_tokens // (rows * T * compute.world_size)), tokenizer.token_bytes(compute.device), {}
    for split in ("train", "val"):
        batches = pretrain_batches(tokenizer, dataset, rows, T, split, compute, prefetch=False)
        found[split] = evaluate_bpb(model, batches, steps, token_bytes)
        print0(f"{split} bits per byte: {found[split]:.6f}")
    return found


def already_there(path: Path, checkpoint: Path, expected: dict, modes: list[str]) -> bool:
    """Does this file hold all that is asked for, of the checkpoint that is there now? It is written when everything is known, so it is whole."""
    try:
        if path.stat().st_mtime < checkpoint.stat().st_mtime:
            return False
        found = json.loads(path.read_text(encoding="utf-8"))
        return {mode for mode in modes if RESULT[mode] in found} == set(modes) and all(found[name] == value for name, value in expected.items())
    except (OSError, ValueError, KeyError, TypeError):
        return False


def write_results(name: str, results: dict) -> None:
    folder = get_base_dir() / "base_eval"
    if core := results.get("core"):
        lines = [f"{'Task':<35}, {'Accuracy':<10}, {'Centered':<10}"]
        lines += [f"{label:<35}, {task['accuracy']:<10.6f}, {task['centered']:<10.6f}" for label, task in core["tasks"].items()]
        lines.append(f"{'CORE':<35}, {'':<10}, {core['core_metric']:<10.6f}")
        write_text(folder / f"{name}.csv", "\n".join(lines) + "\n")
        for task in core["tasks"].values():
            task["outcomes"] = "".join("01"[right] for right in task["outcomes"])  # of each item, in the order of evaluation
    write_text(folder / f"{name}.json", json.dumps(results, indent=1, ensure_ascii=False) + "\n")
    print0(f"saved to {folder / name}.json" + (" and .csv" if core else ""))


def main(args: argparse.Namespace) -> None:
    from nanochat import checkpoint_manager as checkpoints
    from nanochat.common import compute_cleanup, compute_init
    from nanochat.core_bundle import get_bundle
    from nanochat.core_eval import bundle_for, evaluate_core, longest_prompt, scorer_for, trained_on
    from nanochat.dataloader import pretrain_batches
    from nanochat.samples import show_samples, show_unconditioned

    # Whatever can be wrong is found out before any long work: flags, model, bundle, data
    if args.hf_path and "core" not in args.eval:
        raise UserError("--hf-path: only CORE is computed for models of Hugging Face; --eval must name core")
    compute = compute_init(args.device_type)
    dataset, model = args.dataset or DEFAULT_DATASET, None
    if args.hf_path:
        scorer, tokenizer, max_tokens, vocab_size = load_hugging_face(args.hf_path, compute)
        modes, name = ["core"], Path(args.hf_path).name if Path(args.hf_path).is_dir() else args.hf_path.replace("/", "-")
        results: dict = {"stage": "base_eval", "hf_path": args.hf_path}
        budget, context = min(args.device_batch_size * (max_tokens or 2048), MOST_LOGITS // vocab_size), max_tokens
    else:
        tag = args.model_tag or checkpoints.find_largest_model(checkpoints.checkpoints_dir("base"))
        model, tokenizer, meta = checkpoints.load_model("base", compute.device, "eval", tag, args.step)
        modes, name, context = args.eval, f"{tag}_{meta['step']:06d}", model.config.sequence_len
        scorer, max_tokens, budget = scorer_for(model), longest_prompt(model.config), args.device_batch_size * context
        dataset = args.dataset or trained_on(meta) or DEFAULT_DATASET
        results = {"stage": "base_eval", "model_tag": tag, "step": meta["step"], "dataset": dataset}
    bundle = get_bundle(args.bundle or bundle_for(dataset)) if "core" in modes else Path()
    if "bpb" in modes:
        for split in ("train", "val"):
            pretrain_batches(tokenizer, dataset, args.device_batch_size, context, split, compute, prefetch=False)  # looks at the data and returns
    if args.resume:
        settings = {"core": {"bundle": str(bundle), "max_per_task": args.max_per_task}, "bpb": {"split_tokens": args.split_tokens}, "sample": {}}
        expected = results | {key: value for mode in modes for key, value in settings[mode].items()}
        path = get_base_dir() / "base_eval" / f"{name}.json"
        if already_there(path, checkpoints.checkpoints_dir("base") / tag / checkpoints.meta_file(meta["step"]), expected, modes):
            print0(f"{name} is evaluated already: {path}")
            compute_cleanup()
            return
    (get_base_dir() / "base_eval").mkdir(parents=True, exist_ok=True)
    print0(f"{name} on {compute.world_size} × {compute.device.type}: {', '.join(modes)}")

    if "core" in modes:
        core = evaluate_core(scorer, tokenizer, bundle, args.max_per_task, budget, compute, max_tokens, context, tell=print0)
        print0(f"CORE: {core['core_metric']:.6f} ({core['seconds']:.1f} s)")
        results |= {"core_metric": core["core_metric"], "bundle": str(bundle), "max_per_task": args.max_per_task, "core": core}
    if "bpb" in modes:
        bpb = bits_per_byte(model, tokenizer, dataset, args, compute)
        results |= {"train_bpb": bpb["train"], "val_bpb": bpb["val"], "split_tokens": args.split_tokens}
    if "sample" in modes and compute.rank == 0:
        results |= {"samples": show_samples(model, tokenizer)}
        results |= {"unconditioned": show_unconditioned(model, tokenizer, UNCONDITIONED, UNCONDITIONED_TOKENS)}
    if compute.rank == 0:
        write_results(name, results)
    compute_cleanup()


if __name__ == "__main__":
    with friendly_errors():
        main(parse_args())
