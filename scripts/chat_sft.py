"""Supervised finetuning: a base model learns to be an assistant from conversations.

    python -m scripts.chat_sft                                        # the largest base model, one epoch of the default mixture
    python -m scripts.chat_sft --model-tag d12 --data 'default,json:mine.jsonl*2'
    torchrun --standalone --nproc_per_node=8 -m scripts.chat_sft --model-tag d24

What is not said is as the base model's training had it. Checkpoints and the records of the run (dev/RECORDS.md) go to
$NANOCHAT_BASE_DIR/chatsft_checkpoints/<model tag>. Signals and `--resume auto` are as in scripts/base_train.py.
"""

import argparse
import dataclasses
import gc
import itertools
import math
import sys
import time
from pathlib import Path

from nanochat.common import (
    DEFAULT_DATASET,
    ArgumentParser,
    Compute,
    StopSignal,
    UserError,
    check_name,
    check_resume_flags,
    friendly_errors,
    print0,
    restart_with_huge_pages,
    rows_or_auto,
)

# torch takes seconds to import: functions that need it import it, so that --help and wrong flags are answered at once.

CHATCORE_TOKENS = 512  # of an answer, when ChatCORE is followed
SOME = 200  # conversations, to judge how long an epoch is


def parse_args() -> argparse.Namespace:
    parser = ArgumentParser(description="Finetune a base model on conversations")
    group = parser.add_argument_group("run")
    group.add_argument("--run", default="dummy", help="name for wandb; 'dummy' does not log there (JSON lines are always written)")
    group.add_argument("--device-type", default="", choices=["", "cuda", "cpu", "mps"], help="empty: the best there is")
    group.add_argument("--compile", default="auto", choices=["auto", "on", "off"], help="torch.compile; auto: where the run is long enough for it")
    group.add_argument("--activation-checkpointing", action="store_true",
                       help="compute blocks again in backward: less memory, more time; always, if the base model's training did")  # fmt: skip
    group = parser.add_argument_group("the base model")
    group.add_argument("--model-tag", default=None, help="folder of its checkpoints (default: the largest model)")
    group.add_argument("--model-step", type=int, default=None, help="which checkpoint (default: the last)")
    group.add_argument("--load-optimizer", type=int, default=1, choices=[0, 1], help="1: go on with the averages of its optimizer")
    group.add_argument("--output-tag", default=None, help="folder for the new checkpoints (default: named like the base model's)")
    group = parser.add_argument_group("data and horizon")
    group.add_argument("--data", default="default", metavar="NAME[*TIMES],…",
                       help="conversations by name: smoltalk, mmlu, gsm8k, arc, spelling, spellingbee, identity, tinyworld, tinyworld-KIND, "
                       "json:PATH; default: the usual ones")  # fmt: skip
    group.add_argument("--num-iterations", type=int, default=-1, help="optimizer steps; -1: one epoch")
    group.add_argument("--mmlu-epochs", type=int, default=3, help="how often the default mixture has MMLU")
    group.add_argument("--gsm8k-epochs", type=int, default=4, help="how often it has GSM8K")
    group = parser.add_argument_group("batches: by default as the base model was trained")
    group.add_argument("--max-seq-len", type=int, default=None, help="tokens in a row")
    group.add_argument("--device-batch-size", type=rows_or_auto, default=None, help="rows of a micro-batch on one device; auto: the most that fit")
    group.add_argument("--total-batch-size", type=int, default=None, help="tokens in a step")
    group = parser.add_argument_group("optimization: rates by default as the base model's, for a batch of 524,288 tokens")
    group.add_argument("--embedding-lr", type=float, default=None, help="token embeddings (AdamW); value embeddings get half of it")
    group.add_argument("--unembedding-lr", type=float, default=None, help="head (AdamW)")
    group.add_argument("--matrix-lr", type=float, default=None, help="matrices of the blocks (Muon)")
    group.add_argument("--init-lr-frac", type=float, default=0.8, help="share of these rates to begin with")
    group.add_argument("--warmup-ratio", type=float, default=0.0, help="share of the run with rising learning rate")
    group.add_argument("--warmdown-ratio", type=float, default=0.5, help="share of the run with falling learning rate")
    group.add_argument("--final-lr-frac", type=float, default=0.0, help="what it falls to, as a share of the first")
    group = parser.add_argument_group("saving and resuming")
    group.add_argument("--save-every", type=int, default=-1, help="steps; -1: at the end only")
    group.add_argument("--keep-last", type=int, default=-1, metavar="K", help="keep only the last K checkpoints; -1: all")
    group.add_argument("--resume", default=None, choices=["auto"], help="auto: go on if there is something to go on with, else start")
    group.add_argument("--resume-from-step", type=int, default=-1, help="go on from this step")
    group.add_argument("--overwrite", action="store_true", help="delete what the output tag holds, and start anew")
    group = parser.add_argument_group("evaluation: -1 steps mean never")
    group.add_argument("--eval-every", type=int, default=200, help="steps between validations")
    group.add_argument("--eval-tokens", type=int, default=40 * 524288, help="tokens of a validation, at most an epoch of its data")
    group.add_argument("--chatcore-every", type=int, default=200, help="steps between ChatCORE evaluations (see scripts/chat_eval.py)")
    group.add_argument("--chatcore-max-cat", type=int, default=-1, help="items of each categorical task in them; -1: all")
    group.add_argument("--chatcore-max-sample", type=int, default=24, help="items of each generative task; -1: all")
    args = parser.parse_args()
    check_flags(parser, args)
    return args


def check_flags(parser: argparse.ArgumentParser, args: argparse.Namespace) -> None:
    """What can be said without looking further."""

    def want(name: str, fine: bool, what: str) -> None:
        if not fine:
            parser.error(f"--{name.replace('_', '-')} {getattr(args, name)}: {what}")

    for name in ("embedding_lr", "unembedding_lr", "matrix_lr", "init_lr_frac"):
        rate = getattr(args, name)
        want(name, rate is None or (math.isfinite(rate) and rate >= 0), "it must be a number, not negative")
    for name in ("warmup_ratio", "warmdown_ratio", "final_lr_frac"):
        want(name, 0 <= getattr(args, name) <= 1, "it is a share, from 0 to 1")
    for name in ("max_seq_len", "total_batch_size"):
        want(name, getattr(args, name) is None or getattr(args, name) > 0, "at least 1")
    for name in ("num_iterations", "chatcore_max_cat", "chatcore_max_sample", "keep_last"):
        want(name, getattr(args, name) > 0 or getattr(args, name) == -1, "at least 1, or -1")
    for name in ("mmlu_epochs", "gsm8k_epochs"):
        want(name, getattr(args, name) >= 0, "0 or more")
    want("eval_tokens", args.eval_tokens > 0, "at least 1; --eval-every -1 turns validation off")
    want("model_step", args.model_step is None or args.model_step >= 0, "0 or more")
    check_resume_flags(parser, args)


# --- pieces of the run -----------------------------------------------------------------------------------------------


def inherit(args: argparse.Namespace, meta: dict, config) -> dict:
    """What the flags leave open is as in the base model's training; its meta says what came of `auto` there, its user_config what the flags were."""
    flags = meta.get("user_config") or {}
    usual = {"max_seq_len": config.sequence_len, "device_batch_size": "auto", "total_batch_size": -1,
             "embedding_lr": 0.3, "unembedding_lr": 0.008, "matrix_lr": 0.02, "scalar_lr": 0.5}  # fmt: skip
    given = {name: getattr(args, name, None) for name in usual}
    chosen = {name: next(v for v in (given[name], meta.get(name), flags.get(name), usual[name]) if v is not None) for name in usual}
    if chosen["max_seq_len"] > config.sequence_len:
        raise UserError(f"--max-seq-len {chosen['max_seq_len']}: the base model was built for {config.sequence_len} tokens; take at most that")
    return chosen


def make_sft_plan(args: argparse.Namespace, config, chosen: dict):
    """Sizes and FLOPs. How many steps an epoch takes is known when it is over."""
    from nanochat.scaling import make_plan

    return make_plan(
        config.n_layer, config.vocab_size, head_dim=config.n_embd // config.n_head, n_embd=config.n_embd, n_kv_head=config.n_kv_head,
        sequence_len=chosen["max_seq_len"], window_pattern=config.window_pattern, num_iterations=max(1, args.num_iterations),
        total_batch_size=chosen["total_batch_size"],
    )  # fmt: skip


def estimate_tokens(tokenizer, conversations, sequence_len: int) -> float:
    """Of an epoch, by some conversations from all over it."""
    some = range(0, len(conversations), max(1, len(conversations) // SOME))
    return len(conversations) / len(some) * sum(len(tokenizer.render_conversation(conversations[i], sequence_len)[0]) for i in some)


def warm_up_optimizer(optimizer, directory: Path, step: int, compute: Compute) -> None:
    """Take over the averages of the base model's optimizer, which know by now how each weight moves. Many a checkpoint comes without them."""
    from nanochat.checkpoint_manager import load_checkpoint
    from nanochat.fitting import smallest

    shards, trouble = None, "another rank does not have them"
    try:
        _, shards, _ = load_checkpoint(directory, step, load_optimizer=True)
    except UserError as error:
        trouble = error
    if smallest(float(shards is not None), compute):  # on all ranks or on none
        try:
            return optimizer.load_shards(shards)
        except UserError as error:  # alike on all of them, and nothing has changed
            trouble = error
    print0(f"the optimizer starts without averages: {trouble}")


def find_chat_tasks(args: argparse.Namespace, dataset: str, compute: Compute) -> dict:
    """The tasks of ChatCORE by name, loaded before the run begins. Empty if they are not wanted, or one rank cannot have them: no reason not to
    train."""
    from nanochat.fitting import smallest
    from tasks.catalog import default_evaluations, evaluation_task

    if args.chatcore_every <= 0:
        return {}
    tasks, all_have_them = {}, 1.0
    try:
        tasks = {name: evaluation_task(name) for name in default_evaluations(dataset)}
    except UserError as error:
        all_have_them = 0.0
        print0(f"ChatCORE will not be evaluated: {error}")
    if smallest(all_have_them, compute):
        return tasks
    if tasks:
        print0("ChatCORE will not be evaluated: another rank cannot load its tasks")
    return {}


def follow_chatcore(engine, tasks: dict, args: argparse.Namespace, compute: Compute) -> dict[str, float]:
    """The accuracy of each task, on some of its items, and ChatCORE."""
    from nanochat.chat_eval import chatcore, evaluate_task
    from tasks.catalog import baseline

    engine.refresh()
    accuracies = {}
    for name, task in tasks.items():
        items = args.chatcore_max_cat if task.eval_type == "categorical" else args.chatcore_max_sample
        accuracies[name] = evaluate_task(engine, task, compute, max_problems=items, max_new_tokens=CHATCORE_TOKENS, label=name).accuracy
    return {**accuracies, "ChatCORE": chatcore(accuracies, {name: baseline(name) for name in tasks})}


# --- the run ---------------------------------------------------------------------------------------------------------


def main(args: argparse.Namespace) -> int:
    started = time.perf_counter()
    import torch

    from nanochat import checkpoint_manager as checkpoints
    from nanochat import resuming
    from nanochat.common import compute_cleanup, compute_dtype, compute_init
    from nanochat.core_eval import trained_on
    from nanochat.dataloader import SftState, sft_batches
    from nanochat.engine import Engine
    from nanochat.fitting import choose_rows, row_choices, smallest
    from nanochat.hardware import peak_flops, peak_memory
    from nanochat.loss_eval import evaluate_bpb
    from nanochat.schedule import ratio_multiplier
    from nanochat.train_log import SmoothLoss, TrainLog, clock, run_config
    from nanochat.training import Progress, build_optimizer, compile_model, due, new_progress, optimizer_step, print_changes, total
    from tasks.catalog import parse_mixture, train_tasks, validation_tasks
    from tasks.common import TaskMixture

    # Whatever can be wrong is found out before any long work: flags, the base model, the conversations, the folder for the checkpoints
    compute = compute_init(args.device_type)
    device, world_size = compute.device, compute.world_size
    bases = checkpoints.checkpoints_dir("base")
    base_tag = check_name("--model-tag", args.model_tag) if args.model_tag else checkpoints.find_largest_model(bases)
    tag = check_name("--output-tag", args.output_tag or base_tag)
    directory = checkpoints.checkpoints_dir("sft") / tag
    resume_step = resuming.step_to_resume(directory, args.resume == "auto", args.resume_from_step, args.overwrite)
    base_step = args.model_step
    if resume_step is not None:
        there = resuming.read_run(directory, resume_step)
        if base_step is None and there.get("base", {}).get("model_tag") == base_tag:
            base_step = there["base"]["step"]  # it may have been trained on since
        enough = resume_step >= args.num_iterations if args.num_iterations > 0 else there.get("epochs", 1) >= 1
        if enough and resuming.is_finished(directory, resume_step):
            print0(f"{directory} is finished: step {resume_step}")
            compute_cleanup()
            return 0
    model, tokenizer, base_meta = checkpoints.load_model("base", device, "train", base_tag, base_step)
    config, dataset = model.config, trained_on(base_meta) or DEFAULT_DATASET
    if resume_step is not None:
        resuming.check_same_config(there["model_config"], dataclasses.asdict(config), directory)
    if not args.overwrite:
        checkpoints.check_tokenizer(directory, tokenizer)
    chosen = inherit(args, base_meta, config)
    plan = make_sft_plan(args, config, chosen)
    T = plan.sequence_len
    row_choices(plan, world_size)  # raises if the batch cannot be divided
    mixture = parse_mixture(args.data, dataset, args.mmlu_epochs, args.gsm8k_epochs)
    train_data, val_data = TaskMixture(train_tasks(mixture)), TaskMixture(validation_tasks(mixture))
    chat_tasks = find_chat_tasks(args, dataset, compute)
    lock = resuming.lock_run(directory, resuming.SHARED_SECONDS if args.resume else 0) if compute.rank == 0 else None
    print0(f"{base_tag}, step {base_meta['step']}, trained on {dataset}: {config.n_layer} layers of width {config.n_embd}")
    print0(f"{len(train_data):,} conversations ({', '.join(f'{name}*{times}' if times > 1 else name for name, times in mixture)})")

    # The model and where it stands
    progress, loader_state, before = new_progress(compute_dtype(device)), None, {}
    rates = {name: chosen[name] * plan.batch_scale for name in ("unembedding_lr", "embedding_lr", "matrix_lr", "scalar_lr")}
    optimizer = build_optimizer(model, rates, 0.0, compute, args.compile != "off")
    for group in optimizer.param_groups:  # every group: smear and backout have a rate that no flag gives
        group["initial_lr"] *= args.init_lr_frac
    if resume_step is not None:
        weights, shards, before = checkpoints.load_checkpoint(directory, resume_step, device, load_optimizer=True)
        model.load_state_dict(weights)
        optimizer.load_shards(shards)
        progress, loader_state = Progress(**before["progress"]), SftState.from_state_dict(shards[0]["loader"])
        print0(f"going on from step {resume_step} in {directory}")
        print_changes(before["user_config"], vars(args))
        weights = shards = None  # they are in the model and the optimizer now
    elif args.load_optimizer:
        warm_up_optimizer(optimizer, bases / base_tag, base_meta["step"], compute)
    model.activation_checkpointing = args.activation_checkpointing or bool((base_meta.get("user_config") or {}).get("activation_checkpointing"))
    engine = Engine(model, tokenizer) if chat_tasks else None  # before the rows are chosen: it takes memory too
    peak = smallest(peak_flops(device, model.compute_dtype), compute)
    tokens = plan.total_tokens if args.num_iterations > 0 else estimate_tokens(tokenizer, train_data, T)
    compiled = compile_model(model, args.compile, before.get("compiled"), tokens * plan.flops_per_token, peak)
    rows = choose_rows(model, chosen["device_batch_size"], before.get("device_batch_size"), plan, compute)
    micro_batches = plan.total_batch_size // (rows * T * world_size)
    print0(f"{world_size} × {device.type} in {str(model.compute_dtype)[6:]}, attention: {model.kernel}, compiled: {'yes' if compiled else 'no'}; "
           f"a step is {micro_batches} × {rows} rows of {T} tokens on each")  # fmt: skip

    batches = sft_batches(tokenizer, train_data, rows, T, compute, loader_state)
    loader_state = loader_state or SftState(conversations=len(train_data))
    token_bytes = tokenizer.token_bytes(device)
    if args.overwrite:
        resuming.delete_run(directory, compute)
    if resume_step is not None and compute.rank == 0:
        resuming.set_aside_later(directory, resume_step)
    resolved = {**chosen, "device_batch_size": rows, "compiled": compiled, "attention": model.kernel, "dataset": dataset}
    log = TrainLog(directory, compute.rank != 0, args.run, run_config("chat_sft", vars(args), resolved, compute), progress.step)
    smooth = SmoothLoss(total=progress.smooth_total, steps=progress.step)
    stop, stopping, saved_step, this_session, learned = StopSignal(), 0, resume_step, 0, 0
    first_step_seconds = steady_seconds = 0.0
    results: dict[str, float] = {}

    def done() -> float:
        """The share of the run that is behind us: by steps, if their number is given, else by conversations."""
        return min(1.0, progress.step / args.num_iterations if args.num_iterations > 0 else loader_state.epochs)

    def save() -> None:
        meta = {
            "step": progress.step, "val_bpb": progress.val_bpb, "model_config": dataclasses.asdict(config),
            "user_config": {**vars(args), "dataset": dataset}, "base": {"model_tag": base_tag, "step": base_meta["step"]},
            **chosen, "device_batch_size": rows, "total_batch_size": plan.total_batch_size, "compiled": compiled, "epochs": loader_state.epochs,
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
        val_batches = sft_batches(tokenizer, val_data, rows, T, compute, prefetch=False)
        one_epoch = itertools.chain([next(val_batches)], itertools.takewhile(lambda batch: batch[2].epoch == 1, val_batches))
        with torch.compiler.set_stance("force_eager" if device.type == "cpu" else "default"):  # another compilation costs more than it saves
            progress.val_bpb = evaluate_bpb(model, one_epoch, steps, token_bytes)
        progress.min_val_bpb = min(progress.val_bpb, progress.min_val_bpb if progress.min_val_bpb is not None else math.inf)
        print0(f"step {progress.step:05d} validation bits per byte: {progress.val_bpb:.6f}")
        log.write(step=progress.step, val_bpb=progress.val_bpb, **progress.totals(plan.flops_per_token))
        if saved_step == progress.step and compute.rank == 0:  # it was saved before this was known
            resuming.update_meta(directory, progress.step, val_bpb=progress.val_bpb, progress=dataclasses.asdict(progress))

    while True:
        # Save first: evaluation may fail or run out of time, and the work should be on disk by then
        step, last = progress.step, done() >= 1
        if last and resume_step is None and not learned:
            raise UserError(f"nothing was learned: in rows of {T} tokens no conversation gets as far as an answer; a larger --max-seq-len is needed")
        if step != saved_step and (last or stopping or (step > 0 and due(args.save_every, step))):
            save()
            saved_step = step
        if stopping and not last:
            break
        if args.eval_every > 0 and (last or due(args.eval_every, step)):
            validate()
        if chat_tasks and (last or (step > 0 and due(args.chatcore_every, step))):
            results = follow_chatcore(engine, chat_tasks, args, compute)
            print0(f"step {step:05d} " + ", ".join(f"{name} {value:.4f}" for name, value in results.items()))
            log.write(step=step, chatcore_metric=results["ChatCORE"], chatcore=results, **progress.totals(plan.flops_per_token))
        if last:
            break

        # One step: the mean over all targets of all micro-batches on all ranks, however unevenly they are spread
        step_started = time.perf_counter()
        behind = done()
        multiplier = ratio_multiplier(behind, args.warmup_ratio, args.warmdown_ratio, args.final_lr_frac)
        for group in optimizer.param_groups:
            group["lr"] = group["initial_lr"] * multiplier
        loss = torch.zeros((), device=device)
        micro = [next(batches) for _ in range(micro_batches)]
        counts = torch.stack([(y >= 0).sum() for _, y, _ in micro]).tolist()
        targets = total(sum(counts), compute)
        learned += targets
        for (x, y, _), count in zip(micro, counts, strict=True):
            if count == 0:  # a cut conversation, nothing of which the assistant says
                continue
            micro_loss = model(x, y, loss_reduction="sum") * (world_size / targets)  # the optimizer takes the mean over the ranks
            (micro_loss * progress.loss_scale).backward()
            loss += micro_loss.detach()
        loader_state = micro[-1][2]
        good = "the base model" if saved_step is None else f"that of step {saved_step} in {directory}"
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
        per_step = steady_seconds / (this_session - 1) if this_session > 1 else seconds
        eta = per_step * progress.step * (1 - done()) / max(done(), 1e-9)
        memory = peak_memory(device)
        print0(f"step {progress.step:05d} ({done():.1%}) | loss {smooth_loss:.6f} | lr {multiplier:.3f} | {seconds * 1000:.0f} ms | "
               f"{rate:,.0f} tok/s | targets {targets / plan.total_batch_size:.0%} | mfu {mfu:.1%} | {memory / 2**30:.2f} GiB | "
               f"epoch {loader_state.epoch} | eta {clock(eta)}")  # fmt: skip
        log.write(step=progress.step, loss=loss, smooth_loss=smooth_loss, lr=multiplier, targets=targets, seconds=seconds, tokens_per_second=rate,
                  mfu=mfu, memory=memory, eta=eta, epochs=loader_state.epochs, loss_scale=progress.loss_scale,
                  **progress.totals(plan.flops_per_token))  # fmt: skip

    finished = done() >= 1
    log.finish(stage="chat_sft", model_tag=tag, base=base_tag, finished=finished, data=args.data, conversations=len(train_data), steps=progress.step,
               tokens=progress.tokens, flops=progress.tokens * plan.flops_per_token, epochs=loader_state.epochs,
               train_loss=smooth.value, val_bpb=progress.val_bpb,
               min_val_bpb=progress.min_val_bpb, chatcore=results, seconds=progress.seconds, first_step_seconds=first_step_seconds,
               tokens_per_second=plan.total_batch_size * (this_session - 1) / steady_seconds if steady_seconds else None,
               peak_memory=peak_memory(device), dtype=str(model.compute_dtype)[6:], device=device.type, world_size=world_size)  # fmt: skip
    if not finished:
        print0(f"stopped at step {progress.step}; `--resume auto` goes on from there")
    log.close()
    batches.close()
    if lock is not None:
        lock.close()
    compute_cleanup()
    return 0 if finished else 128 + stopping


if __name__ == "__main__":
    with friendly_errors():
        arguments = parse_args()
        restart_with_huge_pages()
        sys.exit(main(arguments))
