"""Pretrain a base model. One dial, --depth, decides the rest; every decision is also a flag.

    python -m scripts.base_train --dataset tinyworld --depth 4 --max-seq-len 256 --num-iterations 100
    torchrun --standalone --nproc_per_node=8 -m scripts.base_train --depth=24 --target-param-data-ratio=8 --fp8
    python -m scripts.base_train --depth 24 --dry-run 8xH100          # the whole plan, and what it would cost

Checkpoints and the records of the run (dev/RECORDS.md) go to $NANOCHAT_BASE_DIR/base_checkpoints/<model tag>.
Ctrl-C or SIGTERM finishes the step, saves, and exits with 130 or 143; the same signal again aborts. (Under torchrun, which then exits with 1, it
does not: torchrun hands signals on that a batch system has sent already.)
`--resume auto` goes on from there.
"""

import argparse
import dataclasses
import gc
import math
import os
import shutil
import sys
import time
from pathlib import Path

from nanochat.common import (
    ArgumentParser,
    Compute,
    StopSignal,
    UserError,
    add_dataset_argument,
    check_name,
    check_resume_flags,
    friendly_errors,
    print0,
    restart_with_huge_pages,
    rows_or_auto,
)

# torch takes seconds to import: functions that need it import it, so that --help and wrong flags are answered at once.

DEFAULT_DEPTH = 20
SHORT_WINDOWS = "SSSL"  # --window-pattern auto, where a short window is cheaper than a long one
EVAL_TOKENS, CPU_EVAL_TOKENS = 80 * 524288, 524288  # of a validation: what is little for a GPU takes a CPU longer than all of a short run


def parse_args() -> argparse.Namespace:
    parser = ArgumentParser(description="Pretrain a base model")
    group = parser.add_argument_group("run")
    group.add_argument("--run", default="dummy", help="name for wandb; 'dummy' does not log there (JSON lines are always written)")
    group.add_argument("--model-tag", default=None, help="folder of the checkpoints (default: d<depth>)")
    group.add_argument("--device-type", default="", choices=["", "cuda", "cpu", "mps"], help="empty: the best there is")
    group.add_argument("--compile", default="auto", choices=["auto", "on", "off"], help="torch.compile; auto: where the run is long enough for it")
    group.add_argument("--fp8", action="store_true", help="large layers in float8 (H100 and later)")
    group.add_argument("--fp8-recipe", default="tensorwise", choices=["tensorwise", "rowwise"], help="one scale for a matrix, or for each row")
    group.add_argument("--activation-checkpointing", action="store_true", help="compute blocks again in backward: less memory, more time")
    group.add_argument("--dry-run", nargs="?", const="here", default=None, metavar="DEVICE",
                       help="print the plan with memory, time and cost on this device or on DEVICE (8xH100), and touch nothing")  # fmt: skip
    group = parser.add_argument_group("model")
    group.add_argument("--depth", type=int, default=None, help=f"layers: the dial (default: {DEFAULT_DEPTH})")
    group.add_argument("--aspect-ratio", type=int, default=64, help="width = depth × this, rounded up to whole heads")
    group.add_argument("--head-dim", type=int, default=128, help="channels of an attention head")
    group.add_argument("--max-seq-len", type=int, default=2048, help="tokens in a row")
    group.add_argument("--window-pattern", default="auto",
                       help=f"L: all of the context, S: a quarter, tiled over the layers; auto: {SHORT_WINDOWS} where cheaper")  # fmt: skip
    group.add_argument(
        "--init-from",
        default=None,
        metavar="TAG[:STEP]",
        help="start from another base model: its weights, its size (not that of --aspect-ratio and --head-dim) and its tokenizer",
    )
    group.add_argument("--seed", type=int, default=42, help="of the random weights; the data come in the same order always")
    group = parser.add_argument_group("horizon: the first that is positive counts")
    group.add_argument("--num-iterations", type=int, default=-1, help="optimizer steps")
    group.add_argument("--target-flops", type=float, default=-1.0, help="FLOPs to spend")
    group.add_argument("--target-param-data-ratio", type=float, default=12.0, help="tokens for each parameter of matrices and head")
    group = parser.add_argument_group("optimization")
    add_dataset_argument(group)
    group.add_argument("--device-batch-size", type=rows_or_auto, default="auto", help="rows of a micro-batch on one device; auto: the most that fit")
    group.add_argument("--total-batch-size", type=int, default=-1, help="tokens in a step; -1: by the plan")
    group.add_argument("--embedding-lr", type=float, default=0.3, help="token embeddings (AdamW); value embeddings get half of it")
    group.add_argument("--unembedding-lr", type=float, default=0.008, help="head (AdamW)")
    group.add_argument("--matrix-lr", type=float, default=0.02, help="matrices of the blocks (Muon)")
    group.add_argument("--scalar-lr", type=float, default=0.5, help="scalars of the residual stream (AdamW)")
    group.add_argument("--weight-decay", type=float, default=0.28, help="of the matrices, at the reference size")
    group.add_argument("--warmup-steps", type=int, default=40, help="steps of rising learning rate")
    group.add_argument("--warmdown-ratio", type=float, default=0.65, help="share of the run with falling learning rate")
    group.add_argument("--final-lr-frac", type=float, default=0.05, help="what it falls to")
    group = parser.add_argument_group("saving and resuming")
    group.add_argument("--save-every", type=int, default=-1, help="steps; -1: at the end only")
    group.add_argument("--keep-last", type=int, default=-1, metavar="K", help="keep only the last K checkpoints; -1: all")
    group.add_argument("--resume", default=None, choices=["auto"], help="auto: go on if there is something to go on with, else start")
    group.add_argument("--resume-from-step", type=int, default=-1, help="go on from this step")
    group.add_argument("--overwrite", action="store_true", help="delete what the model tag holds, and start anew")
    group = parser.add_argument_group("evaluation: -1 steps mean never")
    group.add_argument("--eval-every", type=int, default=250, help="steps between validations")
    group.add_argument(
        "--eval-tokens", type=int, default=None, help=f"tokens of a validation (default: {EVAL_TOKENS:,}; on a CPU {CPU_EVAL_TOKENS:,})"
    )
    group.add_argument("--core-metric-every", type=int, default=2000, help="steps between CORE evaluations (see scripts/base_eval.py)")
    group.add_argument("--core-metric-max-per-task", type=int, default=500, help="items of each task in them; -1: all")
    group.add_argument("--sample-every", type=int, default=2000, help="steps between samples")
    args = parser.parse_args()
    check_flags(parser, args)
    return args


def check_flags(parser: argparse.ArgumentParser, args: argparse.Namespace) -> None:
    """What can be said without looking further. -1 is nowhere refused where it means `none`."""

    def want(name: str, fine: bool, what: str) -> None:
        if not fine:
            parser.error(f"--{name.replace('_', '-')} {getattr(args, name)}: {what}")

    rates = ("embedding_lr", "unembedding_lr", "matrix_lr", "scalar_lr", "weight_decay")
    for name in (*rates, "final_lr_frac", "target_flops", "target_param_data_ratio"):
        want(name, math.isfinite(getattr(args, name)), "it must be a number")
    for name in rates:
        want(name, getattr(args, name) >= 0, "it cannot be negative")
    for name in ("warmdown_ratio", "final_lr_frac"):
        want(name, 0 <= getattr(args, name) <= 1, "it is a share, from 0 to 1")
    want("warmup_steps", args.warmup_steps >= 0, "0 or more steps")
    want("eval_tokens", args.eval_tokens is None or args.eval_tokens > 0, "at least 1; --eval-every -1 turns validation off")
    want("core_metric_max_per_task", args.core_metric_max_per_task > 0 or args.core_metric_max_per_task == -1, "at least 1, or -1 for all")
    want("keep_last", args.keep_last > 0 or args.keep_last == -1, "at least 1, or -1 to keep all")
    check_resume_flags(parser, args)


# --- the plan --------------------------------------------------------------------------------------------------------


def make_run_plan(args, vocab_size: int, window_pattern: str, inherited: dict | None = None):
    """The plan of this run. A run that starts from another model has that model's size."""
    from nanochat.scaling import make_plan

    size = {"depth": DEFAULT_DEPTH if args.depth is None else args.depth, "head_dim": args.head_dim}
    if inherited:
        if args.depth not in (None, inherited["n_layer"]):
            raise UserError(f"--depth {args.depth}, but {args.init_from} has {inherited['n_layer']} layers: leave --depth out")
        head_dim = inherited["n_embd"] // inherited["n_head"]
        size = {"depth": inherited["n_layer"], "n_embd": inherited["n_embd"], "head_dim": head_dim, "n_kv_head": inherited["n_kv_head"]}
    return make_plan(
        **size, vocab_size=vocab_size, aspect_ratio=args.aspect_ratio, sequence_len=args.max_seq_len, window_pattern=window_pattern,
        num_iterations=args.num_iterations, target_flops=args.target_flops, target_param_data_ratio=args.target_param_data_ratio,
        total_batch_size=args.total_batch_size, embedding_lr=args.embedding_lr, unembedding_lr=args.unembedding_lr,
        matrix_lr=args.matrix_lr, scalar_lr=args.scalar_lr, weight_decay=args.weight_decay,
    )  # fmt: skip


def choose_pattern(args, kernel: str, inherited: dict | None = None) -> str:
    from nanochat.flash_attention import windows_pay

    if args.window_pattern != "auto":
        return args.window_pattern
    if inherited:
        return inherited["window_pattern"]
    return SHORT_WINDOWS if windows_pay(kernel, args.max_seq_len) else "L"


def print_dry_run(args) -> None:
    """The plan, and what it takes. Nothing is built, written or downloaded."""
    from nanochat.checkpoint_manager import read_config
    from nanochat.fitting import CPU_TOKENS, MOST_ROWS, corrected_rows, estimated_rows
    from nanochat.hardware import ASSUMED_MFU, estimate_cost, estimate_seconds, parse_device
    from nanochat.scaling import memory_estimate
    from nanochat.tokenizer import get_tokenizer, tokenizer_dir

    count, device, compute_bytes, kernel = device_at_hand(args) if args.dry_run == "here" else (*parse_device(args.dry_run), 2, "flex")
    if args.fp8 and not device.fp8_flops:
        raise UserError(f"--fp8: {device.name} has no float8 products; leave --fp8 out")
    inherited = read_config("base", *parse_init_from(args.init_from)) if args.init_from else None
    has_tokenizer = inherited is None and tokenizer_dir(args.dataset).exists()
    vocab_size = inherited["vocab_size"] if inherited else get_tokenizer(args.dataset).get_vocab_size() if has_tokenizer else 32768
    plan = make_run_plan(args, vocab_size, choose_pattern(args, kernel, inherited), inherited)
    on_cpu = kernel in ("cpu", "sdpa")
    most = max(1, CPU_TOKENS // plan.sequence_len) if on_cpu else MOST_ROWS
    if args.device_batch_size == "auto":
        rows = estimated_rows(plan, count, device.memory, compute_bytes, args.activation_checkpointing, on_cpu, most)
    else:
        rows = corrected_rows(args.device_batch_size, plan, count)
    memory = memory_estimate(plan, rows, count, compute_bytes, args.activation_checkpointing, on_cpu)
    seconds = estimate_seconds(plan.total_flops, device, count)
    cost = estimate_cost(seconds, device, count)
    print(plan.describe())
    if not inherited:
        print(f"tokenizer of {args.dataset}: {'found' if has_tokenizer else 'not there yet; a vocabulary of 32,768 is assumed'}")
    print(f"\nestimates for {count} × {device.name}, {rows} rows of {plan.sequence_len:,} tokens at a time on each")
    for name, size in memory.items():
        print(f"  {name.replace('_', ' '):<18}{size / 2**30:10.2f} GiB" + (f" of {device.memory / 2**30:.1f}" if name == "total" else ""))
    if memory["total"] > device.memory:
        print("  this does not fit: try a smaller --device-batch-size, --activation-checkpointing, or a smaller --depth")
    print(f"  {'time':<18}{seconds / 3600:10.2f} h   at {ASSUMED_MFU:.0%} of the peak")
    if cost is not None:
        print(f"  {'cost':<18}{cost:10.2f} USD at {device.price_per_hour:.2f} per device and hour")


def device_at_hand(args):
    """(number of ranks, what each computes on, bytes of a number there, the attention kernel). A device that no table knows is measured for a
    second. The kernel is a guess: to be sure would be to build it."""
    import torch

    from nanochat.common import autodetect_device_type, compute_dtype
    from nanochat.hardware import Device, free_memory, known_device, measure_peak_flops

    device = torch.device(args.device_type or autodetect_device_type())
    ranks, dtype = int(os.environ.get("WORLD_SIZE", 1)), compute_dtype(device)
    compute_bytes = torch.finfo(dtype).bits // 8
    if device.type == "cuda":
        name, kernel = torch.cuda.get_device_name(device), "flex"
        if known := known_device(name):
            return ranks, known, compute_bytes, kernel
    else:
        name, kernel = f"this machine's {device.type}", "cpu" if dtype == torch.bfloat16 and shutil.which(os.environ.get("CXX", "g++")) else "sdpa"
    share = free_memory(device) // (1 if device.type == "cuda" else ranks)
    return ranks, Device(name, measure_peak_flops(device, dtype), 0.0, share, None, 0.0), compute_bytes, kernel


# --- pieces of the run -----------------------------------------------------------------------------------------------


def parse_init_from(text: str) -> tuple[str, int | None]:
    tag, colon, step = text.partition(":")
    if colon and not step.isdigit():
        raise UserError(f"--init-from {text!r}: write TAG or TAG:STEP, for example d12:5000")
    return check_name("--init-from", tag), int(step) if colon else None


def set_schedule(optimizer, step: int, plan, args) -> float:
    """Learning rates, momentum and weight decay of this step; returns what the learning rates are multiplied with."""
    from nanochat.schedule import cosine_to_zero, lr_multiplier, muon_momentum

    multiplier = lr_multiplier(step, plan.num_iterations, args.warmup_steps, args.warmdown_ratio, args.final_lr_frac)
    for group in optimizer.param_groups:
        group["lr"] = group["initial_lr"] * multiplier
        if group["kind"] == "muon":
            group["momentum"] = muon_momentum(step, plan.num_iterations, args.warmdown_ratio)
            group["weight_decay"] = plan.weight_decay * cosine_to_zero(step, plan.num_iterations)
    return multiplier


def find_bundle(args, compute: Compute) -> Path | None:
    """The tasks of CORE, looked through before the run begins. None if they are not wanted, or one rank cannot have them: no reason not to train."""
    from nanochat.core_bundle import get_bundle, read_items, read_tasks
    from nanochat.core_eval import bundle_for
    from nanochat.fitting import smallest

    if args.core_metric_every <= 0:
        return None
    folder = None
    try:
        folder = get_bundle(bundle_for(args.dataset))
        for task in read_tasks(folder):
            read_items(task)
        all_have_it = smallest(1.0, compute)
    except UserError as error:
        all_have_it = smallest(0.0, compute)
        print0(f"CORE will not be evaluated: {error}")
    return folder if all_have_it else None


def evaluate_bundle(model, tokenizer, bundle: Path, args, budget: int, compute: Compute) -> float:
    """CORE of the model as it is."""
    from nanochat.core_eval import evaluate_core, longest_prompt, scorer_for

    limits = longest_prompt(model.config), model.config.sequence_len
    return evaluate_core(scorer_for(model), tokenizer, bundle, args.core_metric_max_per_task, budget, compute, *limits)["core_metric"]


# --- the run ---------------------------------------------------------------------------------------------------------


def main(args: argparse.Namespace) -> int:
    if args.dry_run is not None:
        if os.environ.get("RANK", "0") == "0":
            print_dry_run(args)
        return 0
    started = time.perf_counter()
    import torch

    from nanochat import checkpoint_manager as checkpoints
    from nanochat import resuming
    from nanochat.common import compute_cleanup, compute_dtype, compute_init
    from nanochat.dataloader import LoaderState, pretrain_batches
    from nanochat.fitting import choose_rows, row_choices, smallest
    from nanochat.flash_attention import best_kernel
    from nanochat.fp8 import check_fp8, check_fp8_tokens, convert_to_fp8
    from nanochat.gpt import GPTConfig, new_model
    from nanochat.hardware import peak_flops, peak_memory
    from nanochat.loss_eval import evaluate_bpb
    from nanochat.samples import show_samples
    from nanochat.tokenizer import get_tokenizer
    from nanochat.train_log import SmoothLoss, TrainLog, clock, run_config
    from nanochat.training import Progress, build_optimizer, compile_model, due, new_progress, optimizer_step, print_changes

    # Whatever can be wrong is found out before any long work: flags, names, device, tokenizer, data, the folder for the checkpoints
    compute = compute_init(args.device_type, args.seed)
    device, world_size = compute.device, compute.world_size
    if args.eval_tokens is None:
        args.eval_tokens = CPU_EVAL_TOKENS if device.type == "cpu" else EVAL_TOKENS
    if args.fp8:
        check_fp8(device, args.fp8_recipe, compute_dtype(device))
    inherited = weights = None
    if args.init_from:
        source_tag, source_step = parse_init_from(args.init_from)
        source, tokenizer, _ = checkpoints.load_model("base", "cpu", "train", source_tag, source_step)
        inherited, weights = dataclasses.asdict(source.config), source.state_dict()
    else:
        tokenizer = get_tokenizer(args.dataset)
    vocab_size = tokenizer.get_vocab_size()
    plan = make_run_plan(args, vocab_size, choose_pattern(args, best_kernel(device, compute_dtype(device)), inherited), inherited)
    tag = check_name("--model-tag", args.model_tag or f"d{plan.depth}")
    directory = checkpoints.checkpoints_dir("base") / tag
    if args.init_from and tag == source_tag:
        raise UserError(f"--init-from {args.init_from}: the new run would write into the folder of that model; give it another (--model-tag NAME)")
    resume_step = resuming.step_to_resume(directory, args.resume == "auto", args.resume_from_step, args.overwrite)
    resume_step = resuming.step_of_all_ranks(directory, resume_step, compute)
    if resume_step is not None:
        meta = resuming.read_run(directory, resume_step)
        if args.window_pattern == "auto":  # what was chosen on one machine holds on another
            plan = make_run_plan(args, vocab_size, meta["model_config"]["window_pattern"], inherited)
        at_the_end = resume_step == plan.num_iterations and smallest(resuming.is_finished(directory, resume_step), compute)
        if resume_step > plan.num_iterations or at_the_end:
            print0(f"{directory} is finished: step {resume_step} of {plan.num_iterations}")
            compute_cleanup()
            return 0
    T = plan.sequence_len
    config = GPTConfig(T, plan.vocab_size, plan.depth, plan.n_head, plan.n_kv_head, plan.n_embd, plan.window_pattern)
    if resume_step is not None:
        resuming.check_same_config(meta["model_config"], dataclasses.asdict(config), directory)
    if not args.overwrite:
        checkpoints.check_tokenizer(directory, tokenizer)
    row_choices(plan, world_size)  # raises if the batch cannot be divided
    for split in ("train", "val"):
        pretrain_batches(tokenizer, args.dataset, 1, T, split, compute, prefetch=False)  # looks at the data and returns
    bundle = find_bundle(args, compute)
    lock = resuming.lock_run(directory, resuming.SHARED_SECONDS if args.resume else 0) if compute.rank == 0 else None
    print0(plan.describe())

    # The model and where it stands
    progress, loader_state, before = new_progress(compute_dtype(device)), None, {}
    if resume_step is not None:
        weights, shards, before = checkpoints.load_checkpoint(directory, resume_step, device, load_optimizer=True)
        progress = Progress(**before["progress"])
        loader_state = LoaderState.from_state_dicts(shard["loader"] for shard in shards)
    model = checkpoints.build_model(config, weights, device, directory) if weights else new_model(config, device)
    rates = {name: getattr(args, name) * plan.batch_scale for name in ("unembedding_lr", "embedding_lr", "matrix_lr", "scalar_lr")}
    optimizer = build_optimizer(model, rates, plan.weight_decay, compute, args.compile != "off")
    if resume_step is not None:
        optimizer.load_shards(shards)
        print0(f"going on from step {resume_step} of {plan.num_iterations} in {directory}")
        print_changes(before["user_config"], vars(args))
        shards = weights = None  # they are in the model and the optimizer now
    if args.fp8:
        print0(f"float8 in {convert_to_fp8(model, args.fp8_recipe)} layers")
    model.activation_checkpointing = args.activation_checkpointing
    peak = smallest(peak_flops(device, model.compute_dtype), compute)
    compiled = compile_model(model, args.compile, before.get("compiled"), plan.total_flops, peak)
    rows = choose_rows(model, args.device_batch_size, before.get("device_batch_size"), plan, compute)
    if args.fp8:
        check_fp8_tokens(rows * T)
    micro_batches = plan.total_batch_size // (rows * T * world_size)
    print0(f"{world_size} × {device.type} in {str(model.compute_dtype)[6:]}, attention: {model.kernel}, compiled: {'yes' if compiled else 'no'}; "
           f"a step is {micro_batches} × {rows} rows on each")  # fmt: skip

    batches = pretrain_batches(tokenizer, args.dataset, rows, T, "train", compute, loader_state)
    token_bytes = tokenizer.token_bytes(device)
    if args.overwrite:
        resuming.delete_run(directory, compute)
    if resume_step is not None and compute.rank == 0:
        resuming.set_aside_later(directory, resume_step)
    resolved = {**plan._asdict(), "device_batch_size": rows, "compiled": compiled, "attention": model.kernel}
    log = TrainLog(directory, compute.rank != 0, args.run, run_config("base_train", vars(args), resolved, compute), progress.step)
    smooth = SmoothLoss(total=progress.smooth_total, steps=progress.step)
    stop, stopping, saved_step, this_session = StopSignal(), 0, resume_step, 0
    first_step_seconds = steady_seconds = 0.0
    samples: dict[str, str] = {}
    core_metric = None

    def save() -> None:
        meta = {
            "step": progress.step, "val_bpb": progress.val_bpb, "model_config": dataclasses.asdict(config), "user_config": vars(args),
            "device_batch_size": rows, "compiled": compiled, "max_seq_len": T, "total_batch_size": plan.total_batch_size,
            "num_iterations": plan.num_iterations,
            "progress": dataclasses.asdict(progress),
        }  # fmt: skip
        shard = {**optimizer.state_dict(), "loader": loader_state.state_dict()}
        checkpoints.save_checkpoint(
            directory, progress.step, model.state_dict(), shard, meta, rank=compute.rank, world_size=world_size, tokenizer=tokenizer
        )
        if args.keep_last > 0 and compute.rank == 0:
            checkpoints.CheckpointManager(directory).keep_last(args.keep_last)

    def validate() -> None:
        steps = max(1, args.eval_tokens // (rows * T * world_size))
        val_batches = pretrain_batches(tokenizer, args.dataset, rows, T, "val", compute, prefetch=False)
        with torch.compiler.set_stance("force_eager" if device.type == "cpu" else "default"):  # another compilation costs more than it saves
            progress.val_bpb = evaluate_bpb(model, val_batches, steps, token_bytes)
        progress.min_val_bpb = min(progress.val_bpb, progress.min_val_bpb if progress.min_val_bpb is not None else math.inf)
        print0(f"step {progress.step:05d} validation bits per byte: {progress.val_bpb:.6f}")
        log.write(step=progress.step, val_bpb=progress.val_bpb, **progress.totals(plan.flops_per_token))
        if saved_step == progress.step and compute.rank == 0:  # it was saved before this was known
            resuming.update_meta(directory, progress.step, val_bpb=progress.val_bpb, progress=dataclasses.asdict(progress))

    while True:
        # Save first: evaluation may fail or run out of time, and the work should be on disk by then
        step, last = progress.step, progress.step == plan.num_iterations
        if step != saved_step and (last or stopping or (step > 0 and due(args.save_every, step))):
            save()
            saved_step = step
        if stopping and not last:
            break
        if args.eval_every > 0 and (last or due(args.eval_every, step)):
            validate()
        if bundle and (last or (step > 0 and due(args.core_metric_every, step))):
            core_metric = evaluate_bundle(model, tokenizer, bundle, args, rows * T, compute)
            print0(f"step {step:05d} CORE: {core_metric:.4f}")
            log.write(step=step, core_metric=core_metric, **progress.totals(plan.flops_per_token))
        if args.sample_every > 0 and (last or (step > 0 and due(args.sample_every, step))) and compute.rank == 0:
            samples = show_samples(model, tokenizer)
            log.write(step=step, samples=samples)
        if last:
            break

        # One step: gradients of all micro-batches, a look at them, the update
        step_started = time.perf_counter()
        multiplier = set_schedule(optimizer, step, plan, args)
        loss = torch.zeros((), device=device)
        for _ in range(micro_batches):
            x, y, loader_state = next(batches)  # prepared by a thread while the device was busy
            micro_loss = model(x, y) / micro_batches
            (micro_loss * progress.loss_scale).backward()
            loss += micro_loss.detach()
        good = "none was saved yet" if saved_step is None else f"that of step {saved_step} in {directory}"
        loss, stopping = optimizer_step(optimizer, loss, progress, stop.number, compute, model.compute_dtype, good)
        seconds = time.perf_counter() - step_started

        # What the step was like
        this_session += 1
        progress.step += 1
        progress.tokens += plan.total_batch_size
        progress.seconds += seconds
        smooth_loss = smooth.update(loss)
        progress.smooth_total = smooth.total
        if this_session == 1:
            first_step_seconds = time.perf_counter() - started
            print0(f"first step after {first_step_seconds:.1f} s, compiling included")
            gc.collect()
            gc.freeze()  # what lives now lives to the end: the garbage collector need not look at it again and again
        else:
            steady_seconds += seconds
        rate = plan.total_batch_size / seconds
        mfu = rate * plan.flops_per_token / (peak * world_size)
        eta = (steady_seconds / (this_session - 1) if this_session > 1 else seconds) * (plan.num_iterations - progress.step)
        memory = peak_memory(device)
        print0(f"step {progress.step:05d}/{plan.num_iterations:05d} | loss {smooth_loss:.6f} | lr {multiplier:.3f} | {seconds * 1000:.0f} ms | "
               f"{rate:,.0f} tok/s | mfu {mfu:.1%} | {memory / 2**30:.2f} GiB | epoch {loader_state.epoch} | eta {clock(eta)}")  # fmt: skip
        log.write(step=progress.step, loss=loss, smooth_loss=smooth_loss, lr=multiplier, seconds=seconds, tokens_per_second=rate, mfu=mfu,
                  memory=memory, eta=eta, epoch=loader_state.epoch, loss_scale=progress.loss_scale,
                  **progress.totals(plan.flops_per_token))  # fmt: skip

    done = progress.step == plan.num_iterations
    steady_rate = plan.total_batch_size * (this_session - 1) / steady_seconds if steady_seconds else None
    log.finish(stage="base_train", model_tag=tag, finished=done, depth=plan.depth, parameters=plan.counts["total"],
               scaling_parameters=plan.num_scaling_params, steps=progress.step,
               tokens=progress.tokens, flops=progress.tokens * plan.flops_per_token,
               train_loss=smooth.value, val_bpb=progress.val_bpb, min_val_bpb=progress.min_val_bpb, core_metric=core_metric, seconds=progress.seconds,
               first_step_seconds=first_step_seconds, tokens_per_second=steady_rate,
               peak_memory=peak_memory(device), dtype=str(model.compute_dtype)[6:], device=device.type,
               world_size=world_size, samples=samples)  # fmt: skip
    if not done:
        print0(f"stopped at step {progress.step}; `--resume auto` goes on from there")
    log.close()
    batches.close()
    if lock is not None:
        lock.close()
    compute_cleanup()
    return 0 if done else 128 + stopping


if __name__ == "__main__":
    with friendly_errors():
        arguments = parse_args()
        restart_with_huge_pages()
        sys.exit(main(arguments))
