"""Reinforcement learning: the model answers questions many times over, and what was right becomes likelier.

    python -m scripts.chat_rl                                         # GSM8K, from the largest SFT model
    python -m scripts.chat_rl --task tinyworld --model-tag d4         # word problems of the embedded world
    torchrun --standalone --nproc_per_node=8 -m scripts.chat_rl --model-tag d24

Checkpoints and the records of the run (dev/RECORDS.md) go to $NANOCHAT_BASE_DIR/chatrl_checkpoints/<model tag>. Signals and `--resume auto` are as in
scripts/base_train.py. To learn from rewards of your own, write a Task with a `reward` method, and an `evaluate` for pass@k, and
give it a name in tasks/catalog.py.
"""

import argparse
import dataclasses
import math
import sys
import time

from nanochat.common import (
    ArgumentParser,
    Compute,
    StopSignal,
    UserError,
    check_name,
    check_resume_flags,
    friendly_errors,
    print0,
    restart_with_huge_pages,
)

# torch takes seconds to import: functions that need it import it, so that --help and wrong flags are answered at once.


MOST_ROWS = 256  # answers that a device writes at a time: their keys and values take memory


def parse_args() -> argparse.Namespace:
    parser = ArgumentParser(description="Reinforcement learning of a chat model on a task with rewards")
    group = parser.add_argument_group("run")
    group.add_argument("--run", default="dummy", help="name for wandb; 'dummy' does not log there (JSON lines are always written)")
    group.add_argument("--device-type", default="", choices=["", "cuda", "cpu", "mps"], help="empty: the best there is")
    group.add_argument("--model-tag", default=None, help="folder of the SFT model's checkpoints (default: the largest model)")
    group.add_argument("--model-step", type=int, default=None, help="which checkpoint (default: the last)")
    group.add_argument("--output-tag", default=None, help="folder for the new checkpoints (default: named like the SFT model's)")
    group = parser.add_argument_group("task and horizon")
    group.add_argument("--task", type=str.lower, default="gsm8k", help="gsm8k, tinyworld (its word problems) or spellingbee")
    group.add_argument("--num-epochs", type=int, default=1, help="how often to go through the task's training questions")
    group.add_argument("--num-iterations", type=int, default=-1, help="steps, instead of epochs; -1: epochs")
    group = parser.add_argument_group("a step")
    group.add_argument("--examples-per-step", type=int, default=16, help="questions, on all ranks together")
    group.add_argument("--num-samples", type=int, default=16, help="answers to each")
    group.add_argument("--device-batch-size", type=int, default=8, help="answers that a device trains on at a time")
    group.add_argument("--max-new-tokens", type=int, default=256, help="of an answer")
    group.add_argument("--temperature", type=float, default=1.0, help="of sampling")
    group.add_argument("--top-k", type=int, default=50, help="sample among so many of the likeliest tokens; 0: all")
    group = parser.add_argument_group("optimization: rates by default as in the SFT model's training")
    group.add_argument("--embedding-lr", type=float, default=None, help="token embeddings (AdamW); value embeddings get half of it")
    group.add_argument("--unembedding-lr", type=float, default=None, help="head (AdamW)")
    group.add_argument("--matrix-lr", type=float, default=None, help="matrices of the blocks (Muon)")
    group.add_argument("--weight-decay", type=float, default=0.0, help="of the matrices")
    group.add_argument("--init-lr-frac", type=float, default=0.05, help="share of these rates to begin with; from there it falls to 0")
    group = parser.add_argument_group("evaluating and saving: -1 steps mean never (saving: at the end only)")
    group.add_argument("--eval-every", type=int, default=60, help="steps between evaluations of pass@k")
    group.add_argument("--eval-examples", type=int, default=400, help="questions in them, each answered as often as --device-batch-size says")
    group.add_argument("--save-every", type=int, default=60, help="steps between checkpoints")
    group.add_argument("--keep-last", type=int, default=-1, metavar="K", help="keep only the last K checkpoints; -1: all")
    group.add_argument("--resume", default=None, choices=["auto"], help="auto: go on if there is something to go on with, else start")
    group.add_argument("--resume-from-step", type=int, default=-1, help="go on from this step")
    group.add_argument("--overwrite", action="store_true", help="delete what the output tag holds, and start anew")
    args = parser.parse_args()
    check_flags(parser, args)
    return args


def check_flags(parser: argparse.ArgumentParser, args: argparse.Namespace) -> None:
    """What can be said without looking further."""

    def want(name: str, fine: bool, what: str) -> None:
        if not fine:
            parser.error(f"--{name.replace('_', '-')} {getattr(args, name)}: {what}")

    for name in ("embedding_lr", "unembedding_lr", "matrix_lr", "weight_decay", "init_lr_frac", "temperature"):
        number = getattr(args, name)
        want(name, number is None or (math.isfinite(number) and number >= 0), "it must be a number, not negative")
    for name in ("num_epochs", "examples_per_step", "num_samples", "device_batch_size", "max_new_tokens", "eval_examples"):
        want(name, getattr(args, name) > 0, "at least 1")
    for name in ("num_iterations", "keep_last"):
        want(name, getattr(args, name) > 0 or getattr(args, name) == -1, "at least 1, or -1")
    want("num_samples", args.num_samples > 1, "an answer is judged by its siblings: at least 2")
    want("temperature", args.temperature > 0, "at 0 all answers to a question are the same, and nothing can be learned")
    want("top_k", args.top_k >= 0, "0 or more")
    want("model_step", args.model_step is None or args.model_step >= 0, "0 or more")
    check_resume_flags(parser, args)


def inherit(args: argparse.Namespace, meta: dict) -> dict[str, float]:
    """The learning rates: those of the flags, else those of the SFT model's training, else the usual ones."""
    flags = meta.get("user_config") or {}
    usual = {"embedding_lr": 0.3, "unembedding_lr": 0.008, "matrix_lr": 0.02, "scalar_lr": 0.5}
    given = {name: getattr(args, name, None) for name in usual}
    return {name: next(v for v in (given[name], meta.get(name), flags.get(name), usual[name]) if v is not None) for name in usual}


def batch_scale(meta: dict) -> float:
    """Rates are given for the reference batch; SFT scaled them to its own, and so do we."""
    from nanochat.scaling import REFERENCE_BATCH

    return math.sqrt(meta.get("total_batch_size", REFERENCE_BATCH) / REFERENCE_BATCH)


def share_of(step: int, args: argparse.Namespace, size: int, compute: Compute) -> list[int]:
    """The questions of a step that this rank answers."""
    numbers = [(step * args.examples_per_step + k) % size for k in range(args.examples_per_step)]
    return numbers[compute.rank :: compute.world_size]


def main(args: argparse.Namespace) -> int:
    import torch

    from nanochat import checkpoint_manager as checkpoints
    from nanochat import resuming
    from nanochat.chat_eval import evaluate_task
    from nanochat.common import DEFAULT_DATASET, compute_cleanup, compute_dtype, compute_init
    from nanochat.core_eval import trained_on
    from nanochat.engine import Engine
    from nanochat.hardware import peak_memory
    from nanochat.rl import answers_of, count_chosen, policy_batches, policy_loss, roll_out
    from nanochat.train_log import SmoothLoss, TrainLog, clock, run_config
    from nanochat.training import Progress, build_optimizer, due, new_progress, optimizer_step, print_changes, total
    from tasks.catalog import rl_tasks

    # Whatever can be wrong is found out before any long work: flags, the model, the task, the folder for the checkpoints
    compute = compute_init(args.device_type)
    device, world_size = compute.device, compute.world_size
    sources = checkpoints.checkpoints_dir("sft")
    source_tag = check_name("--model-tag", args.model_tag) if args.model_tag else checkpoints.find_largest_model(sources)
    tag = check_name("--output-tag", args.output_tag or source_tag)
    directory = checkpoints.checkpoints_dir("rl") / tag
    resume_step = resuming.step_to_resume(directory, args.resume == "auto", args.resume_from_step, args.overwrite)
    source_step = args.model_step
    if resume_step is not None:
        there = resuming.read_run(directory, resume_step)
        if (task := there["user_config"].get("task", args.task)) != args.task:
            raise UserError(f"{directory} holds a run on {task}, not on {args.task}: give --task {task}, or another --output-tag")
        if source_step is None and there.get("sft", {}).get("model_tag") == source_tag:
            source_step = there["sft"]["step"]  # it may have been trained on since
    model, tokenizer, source_meta = checkpoints.load_model("sft", device, "train", source_tag, source_step)
    config, dataset = model.config, trained_on(source_meta) or DEFAULT_DATASET
    train_task, test_task = rl_tasks(args.task)
    num_steps = args.num_iterations if args.num_iterations > 0 else max(1, len(train_task) // args.examples_per_step * args.num_epochs)
    if resume_step is not None:
        resuming.check_same_config(there["model_config"], dataclasses.asdict(config), directory)
        if resume_step > num_steps or (resume_step == num_steps and resuming.is_finished(directory, resume_step)):
            print0(f"{directory} is finished: step {resume_step} of {num_steps}")
            compute_cleanup()
            return 0
    if not args.overwrite:
        checkpoints.check_tokenizer(directory, tokenizer)
    lock = resuming.lock_run(directory, resuming.SHARED_SECONDS if args.resume else 0) if compute.rank == 0 else None
    print0(f"{source_tag}, step {source_meta['step']}: {num_steps} steps of {args.examples_per_step} questions of {args.task}, "
           f"{args.num_samples} answers to each")  # fmt: skip

    # The model and where it stands
    progress, before = new_progress(compute_dtype(device)), {}
    chosen = inherit(args, source_meta)
    rates = {name: rate * batch_scale(source_meta) for name, rate in chosen.items()}
    optimizer = build_optimizer(model, rates, args.weight_decay, compute, compile_updates=True)
    for group in optimizer.param_groups:  # every group: smear and backout have a rate that no flag gives
        group["initial_lr"] *= args.init_lr_frac
    if resume_step is not None:
        weights, shards, before = checkpoints.load_checkpoint(directory, resume_step, device, load_optimizer=True)
        model.load_state_dict(weights)
        optimizer.load_shards(shards)
        progress = Progress(**before["progress"])
        print0(f"going on from step {resume_step} of {num_steps} in {directory}")
        print_changes(before["user_config"], vars(args))
        weights = shards = None  # they are in the model and the optimizer now
    engine = Engine(model, tokenizer, max_rows=min(MOST_ROWS, math.ceil(args.examples_per_step / world_size) * args.num_samples))
    print0(f"{world_size} × {device.type} in {str(model.compute_dtype)[6:]}")
    if args.overwrite:
        resuming.delete_run(directory, compute)
    if resume_step is not None and compute.rank == 0:
        resuming.set_aside_later(directory, resume_step)
    log = TrainLog(directory, compute.rank != 0, args.run, run_config("chat_rl", vars(args), {**chosen, "dataset": dataset}, compute), progress.step)
    smooth = SmoothLoss(total=progress.smooth_total, steps=progress.step)  # of the reward
    stop, stopping, saved_step = StopSignal(), 0, resume_step
    pass_at: dict[int, float] = {}

    def save() -> None:
        meta = {
            "step": progress.step, "model_config": dataclasses.asdict(config), "user_config": {**vars(args), "dataset": dataset},
            "sft": {"model_tag": source_tag, "step": source_meta["step"]}, "num_iterations": num_steps, **chosen,
            "progress": dataclasses.asdict(progress),
        }  # fmt: skip
        checkpoints.save_checkpoint(
            directory, progress.step, model.state_dict(), optimizer.state_dict(), meta, rank=compute.rank, world_size=world_size, tokenizer=tokenizer
        )
        if args.keep_last > 0 and compute.rank == 0:
            checkpoints.CheckpointManager(directory).keep_last(args.keep_last)

    while True:
        # Save first: evaluation may fail or run out of time, and the work should be on disk by then
        step, last = progress.step, progress.step == num_steps
        if step != saved_step and (last or stopping or (step > 0 and due(args.save_every, step))):
            save()
            saved_step = step
        if stopping and not last:
            break
        engine.refresh()  # the weights have changed
        if args.eval_every > 0 and (last or due(args.eval_every, step)):
            result = evaluate_task(engine, test_task, compute, max_problems=args.eval_examples, num_samples=args.device_batch_size,
                                   max_new_tokens=args.max_new_tokens, temperature=args.temperature, top_k=args.top_k, label=args.task)  # fmt: skip
            pass_at = result.pass_at
            print0(f"step {step:05d} " + ", ".join(f"pass@{k} {share:.4f}" for k, share in pass_at.items()))
            log.write(step=step, **{f"pass@{k}": share for k, share in pass_at.items()})
        if last:
            break

        # Answers by the model as it is now, and their rewards
        step_started = time.perf_counter()
        groups = roll_out(engine, train_task, share_of(step, args, len(train_task), compute), args.num_samples, args.max_new_tokens,
                          args.temperature, args.top_k, seed=step)  # fmt: skip
        rollout_seconds = time.perf_counter() - step_started
        rewards = [reward for group in groups for reward in group.rewards]
        lengths = [len(sample.tokens) for group in groups for sample in group.samples]
        count, tokens, asked = total(len(rewards), compute), total(sum(lengths), compute), total(len(groups), compute)  # without prompts too long
        even = total(sum(group.even for group in groups), compute)
        if count == 0:
            raise UserError(f"step {step}: none of its questions leaves room for an answer in the model's context of {config.sequence_len} tokens")
        reward = total(sum(rewards, 0.0), compute) / max(1, count)  # a float also on a rank without questions: ranks add up one and the same dtype

        # One step of the policy gradient, the mean over all chosen tokens; groups that cannot teach count there, but cost nothing
        multiplier = 1 - step / num_steps
        for group in optimizer.param_groups:
            group["lr"] = group["initial_lr"] * multiplier
        divisor = max(1, total(count_chosen(groups), compute))
        loss = torch.zeros((), device=device)
        for x, y, advantages in policy_batches(answers_of([g for g in groups if not g.even]), args.device_batch_size, config.sequence_len, device):
            micro_loss = policy_loss(model, x, y, advantages) * (world_size / divisor)  # the optimizer takes the mean over the ranks
            (micro_loss * progress.loss_scale).backward()
            loss += micro_loss.detach()
        good = f"{source_tag} before RL" if saved_step is None else f"that of step {saved_step} in {directory}"
        loss, stopping = optimizer_step(optimizer, loss, progress, stop.number, compute, model.compute_dtype, good)
        seconds = time.perf_counter() - step_started

        # What the step was like
        progress.step += 1
        progress.tokens += tokens
        progress.seconds += seconds
        smooth_reward = smooth.update(reward)
        progress.smooth_total = smooth.total
        eta = progress.seconds / progress.step * (num_steps - progress.step)
        print0(f"step {progress.step:05d}/{num_steps:05d} | reward {reward:.3f} ({smooth_reward:.3f}) | loss {loss:+.5f} | lr {multiplier:.2f} | "
               f"length {tokens / max(1, count):.0f} | even groups {even}/{asked} | {seconds:.1f} s, "
               f"{rollout_seconds:.1f} of them rollouts | eta {clock(eta)}")  # fmt: skip
        log.write(step=progress.step, reward=reward, smooth_reward=smooth_reward, loss=loss, lr=multiplier, length=tokens / max(1, count), even=even,
                  seconds=seconds, rollout_seconds=rollout_seconds, samples_per_second=count / rollout_seconds, memory=peak_memory(device),
                  loss_scale=progress.loss_scale, tokens=progress.tokens, total_seconds=progress.seconds)  # fmt: skip

    finished = progress.step == num_steps
    log.finish(stage="chat_rl", model_tag=tag, sft=source_tag, task=args.task, finished=finished, steps=progress.step, tokens=progress.tokens,
               reward=smooth.value, pass_at=pass_at, seconds=progress.seconds, peak_memory=peak_memory(device),
               dtype=str(model.compute_dtype)[6:], device=device.type, world_size=world_size)  # fmt: skip
    if not finished:
        print0(f"stopped at step {progress.step}; `--resume auto` goes on from there")
    log.close()
    if lock is not None:
        lock.close()
    compute_cleanup()
    return 0 if finished else 128 + stopping


if __name__ == "__main__":
    with friendly_errors():
        arguments = parse_args()
        restart_with_huge_pages()
        sys.exit(main(arguments))
