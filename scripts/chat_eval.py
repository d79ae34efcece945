"""Evaluate a chat model: how many questions of each task it answers right, and ChatCORE, the mean of what that is above guessing.

    python -m scripts.chat_eval -i sft                                   # all tasks of ChatCORE, the largest model of SFT, its last step
    python -m scripts.chat_eval -i rl -a GSM8K -n 8 -t 0.8               # one task, eight answers to each question: pass@1, 2, 4 and 8
    python -m scripts.chat_eval -i sft -a 'ARC-Easy|MMLU' -x 200         # some tasks, the first items of each
    torchrun --standalone --nproc_per_node=8 -m scripts.chat_eval -i sft

Models of the embedded world are asked about it, and count letters; all others are given ARC-Easy, ARC-Challenge, MMLU, GSM8K, HumanEval and
SpellingBee. Results go to $NANOCHAT_BASE_DIR/chat_eval/<source>_<model tag>_<step>.json, to which a later command with other tasks adds, and every
question with its answers to <task>.json in the folder of that name.
"""

import argparse
import inspect
import json
import math
import zlib
from pathlib import Path

from nanochat.common import DEFAULT_DATASET, ArgumentParser, UserError, friendly_errors, get_base_dir, print0, write_text
from tasks.catalog import EVALUATIONS, baseline, default_evaluations, evaluation_task, parse_evaluations
from tasks.common import Task, text_of

FINGERPRINTED = 20  # conversations of a task, spread over all of it
ROWS_PER_BATCH = 8  # answers being written at a time, for each prompt of --batch-size: they are longer, but cost a token at a time


def parse_args() -> argparse.Namespace:
    parser = ArgumentParser(description="Evaluate a chat model: tasks and ChatCORE")
    parser.add_argument("-i", "--source", required=True, choices=["sft", "rl"], help="whose model: fine-tuned, or after reinforcement learning")
    parser.add_argument("-a", "--task-name", default=None, metavar="NAMES", help=f"tasks, with | or commas between them: {', '.join(EVALUATIONS)} "
                        "(default: all those of ChatCORE for the model's data set)")  # fmt: skip
    parser.add_argument("-t", "--temperature", type=float, default=0.0, help="0: always the likeliest token")
    parser.add_argument("-m", "--max-new-tokens", type=int, default=512, help="longest answer")
    parser.add_argument("-n", "--num-samples", type=int, default=1, help="answers to each question, of which one must be right")
    parser.add_argument("-k", "--top-k", type=int, default=50, help="sample among so many of the likeliest tokens; 0: all")
    parser.add_argument("-b", "--batch-size", type=int, default=8, help=f"questions of multiple choice at a time; {ROWS_PER_BATCH} times as many "
                        "answers are written at a time")  # fmt: skip
    parser.add_argument("-g", "--model-tag", default=None, help="folder of the checkpoints (default: the largest model)")
    parser.add_argument("-s", "--step", type=int, default=None, help="which checkpoint (default: the last)")
    parser.add_argument("-x", "--max-problems", type=int, default=-1, help="the first so many items of each task; -1: all")
    parser.add_argument("--device-type", default="", choices=["", "cuda", "cpu", "mps"], help="empty: the best there is")
    parser.add_argument("--resume", default=None, choices=["auto"], help="auto: no task is evaluated again that was, on this checkpoint, in this way")
    args = parser.parse_args()
    for name in ("max_new_tokens", "num_samples", "batch_size"):
        if getattr(args, name) < 1:
            parser.error(f"--{name.replace('_', '-')} {getattr(args, name)}: at least 1")
    if not 0 <= args.temperature < math.inf:
        parser.error(f"--temperature {args.temperature}: a number from 0 on")
    if args.top_k < 0:
        parser.error(f"--top-k {args.top_k}: 0 (off) or more")
    if args.max_problems < 1 and args.max_problems != -1:
        parser.error(f"--max-problems {args.max_problems}: at least 1, or -1 for all")
    try:
        args.task_name = None if args.task_name is None else parse_evaluations(args.task_name)
    except UserError as error:
        parser.error(f"--task-name {args.task_name}: {error}")
    return args


# --- tasks and settings ----------------------------------------------------------------------------------------------


def load_tasks(names: list[str]) -> dict[str, Task]:
    """All of them before any work: a download that fails should not end an hour of it."""
    tasks = {}
    for name in names:
        try:
            tasks[name] = evaluation_task(name)
        except UserError as error:
            without = ",".join(other for other in names if other != name)
            raise UserError(f"{error}. To evaluate without {name}, name the tasks that you want: -a {without or 'NAMES'}") from error
    return tasks


def settings_of(task: Task, args: argparse.Namespace) -> dict:
    """What a task's results depend on, beside the model."""
    names = ("max_problems",) if task.eval_type == "categorical" else ("max_problems", "temperature", "max_new_tokens", "num_samples", "top_k")
    return {**{name: getattr(args, name) for name in names}, "fingerprint": fingerprint_of(task)}


def fingerprint_of(task: Task) -> str:
    """CRC-32 of what a task asks and of how it judges: of the files that its class is written in, its length, and some of its conversations."""
    files = {Path(inspect.getfile(kind)) for kind in type(task).__mro__[:-1]}  # the last is object, which has none
    if type(task).__module__.startswith("tasks.tinyworld"):  # it stands on its neighbours
        files |= set(Path(inspect.getfile(Task)).parent.glob("*.py"))
    texts = sorted(file.read_text(encoding="utf-8") for file in files)
    spread = sorted({i * len(task) // FINGERPRINTED for i in range(FINGERPRINTED)} if len(task) else ())
    texts += [str(len(task)), *(_text_of_number(task, index) for index in spread)]
    return f"{zlib.crc32(json.dumps(texts).encode()):08x}"


def _text_of_number(task: Task, index: int) -> str:
    try:
        return json.dumps(task[index], sort_keys=True, default=repr)
    except UserError as error:  # a row that is broken is for those to know who evaluate as far as it
        return str(error)


def covers_more(before: dict | None, numbers: dict) -> bool:
    """An earlier result with more questions of the same test: a quick look must not replace it, with whatever other settings."""
    return before is not None and fingerprint_in(before) == fingerprint_in(numbers) and before.get("items", 0) > numbers["items"]


def fingerprint_in(numbers: dict) -> str | None:
    settings = numbers.get("settings")
    return settings.get("fingerprint") if isinstance(settings, dict) else None


# --- results ---------------------------------------------------------------------------------------------------------


def item_of(conversation: dict, answers: list) -> dict:
    """A question and what became of it, for people to read."""
    *asked, expected = conversation["messages"]
    question = "\n".join(f"{message['role']}: {text_of(message['content'])}" for message in asked)
    return {
        "question": text_of(asked[0]["content"]) if len(asked) == 1 else question,
        "expected": text_of(expected["content"]),
        "completions": [answer.text for answer in answers],
        "right": [answer.right for answer in answers],
        "ended": [answer.ended for answer in answers],
    }


def write_json(path: Path, content: dict) -> None:
    """Half of a surrogate pair, which has no UTF-8, becomes the escape that JSON has for it."""
    write_text(path, json.dumps(content, indent=1, ensure_ascii=False).encode("utf-8", "backslashreplace").decode() + "\n")


def earlier_tasks(path: Path, checkpoint: Path) -> dict[str, dict]:
    """The tasks of an earlier command, unless they were of another model that had the same name."""
    if not path.exists():
        return {}
    if path.stat().st_mtime < checkpoint.stat().st_mtime:
        print0(f"note: {path} is older than the checkpoint and is begun anew")
        return {}
    try:
        tasks = json.loads(path.read_text(encoding="utf-8"))["tasks"]
        if all(isinstance(tasks[name][value], int | float) for name in tasks for value in ("accuracy", "centered")):
            return dict(tasks)
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        pass
    print0(f"note: {path} cannot be read and is begun anew")
    return {}


def tasks_left(tasks: dict[str, Task], found: dict[str, dict], args: argparse.Namespace) -> dict[str, Task]:
    """Those that an earlier command has not evaluated, or not in the way that is asked for now, or when the test was another."""
    return {name: task for name, task in tasks.items() if name not in found or found[name].get("settings") != settings_of(task, args)}


def summarize(about: dict, tasks: dict[str, dict]) -> dict:
    """The summary, with ChatCORE if all tasks that it is the mean of are there."""
    from nanochat.chat_eval import chatcore

    wanted = default_evaluations(about["dataset"])
    accuracies = {name: tasks[name]["accuracy"] for name in wanted if name in tasks}
    complete, baselines = len(accuracies) == len(wanted), {name: baseline(name) for name in wanted}
    without = {name: accuracy for name, accuracy in accuracies.items() if name != "SpellingBee"}
    return {
        **about,
        "tasks": {name: tasks[name] for name in EVALUATIONS if name in tasks},
        "chatcore": chatcore(accuracies, baselines) if complete else None,
        "chatcore_without_spellingbee": chatcore(without, baselines) if complete else None,
    }


def tell_chatcore(summary: dict) -> None:
    wanted = default_evaluations(summary["dataset"])
    if missing := [name for name in wanted if name not in summary["tasks"]]:
        print0(f"no ChatCORE: of its tasks {', '.join(missing)} {'is' if len(missing) == 1 else 'are'} not evaluated yet with these settings")
        return
    print0(f"ChatCORE: {summary['chatcore']:.6f} (without SpellingBee {summary['chatcore_without_spellingbee']:.6f})")
    settings = [summary["tasks"][name].get("settings", {}) for name in wanted]
    names = list(dict.fromkeys(name for some in settings for name in some if name != "fingerprint"))  # each has its own
    if differing := [name for name in names if len({some[name] for some in settings if name in some}) > 1]:
        print0(f"note: its tasks were evaluated with different {', '.join(differing)}")


def print_task(name: str, result, numbers: dict) -> None:
    scores = {"accuracy": numbers["accuracy"]} | ({f"pass@{k}": share for k, share in result.pass_at.items()} if len(result.pass_at) > 1 else {})
    told = " | ".join(f"{what} {share:.4f}" for what, share in scores.items())
    print0(f"{name:<21}{result.items:>6} items | {told} | centered {numbers['centered']:+.4f} | {result.seconds:.1f} s")


def main(args: argparse.Namespace) -> None:
    from nanochat import checkpoint_manager as checkpoints
    from nanochat.chat_eval import centered, evaluate_task
    from nanochat.common import compute_cleanup, compute_init
    from nanochat.core_eval import trained_on
    from nanochat.engine import Engine

    # Whatever can be wrong is found out before any long work: flags, model, data, a folder that can be written
    compute = compute_init(args.device_type)
    tag = args.model_tag or checkpoints.find_largest_model(checkpoints.checkpoints_dir(args.source))
    model, tokenizer, meta = checkpoints.load_model(args.source, compute.device, "eval", tag, args.step)
    step, dataset = meta["step"], trained_on(meta) or DEFAULT_DATASET
    tasks = load_tasks(args.task_name or default_evaluations(dataset))
    sampled = f"_t{args.temperature:g}_n{args.num_samples}" if args.temperature > 0 or args.num_samples > 1 else ""
    name = f"{args.source}_{tag}_{step:06d}{sampled}"  # what is sampled does not mix with what is greedy
    folder = get_base_dir() / "chat_eval"
    (folder / name).mkdir(parents=True, exist_ok=True)
    about = {"stage": "chat_eval", "source": args.source, "model_tag": tag, "step": step, "dataset": dataset}
    found = earlier_tasks(folder / f"{name}.json", checkpoints.checkpoints_dir(args.source) / tag / checkpoints.meta_file(step))
    if args.resume:
        asked, tasks = tasks, tasks_left(tasks, found, args)
        if done := [task_name for task_name in asked if task_name not in tasks]:
            print0(f"{name} is evaluated already on {', '.join(done)}: {folder / name}.json")
    print0(f"{name} on {compute.world_size} × {compute.device.type}: {', '.join(tasks) or 'nothing to do'}")
    if args.num_samples > 1 and args.temperature == 0:
        print0(f"note: at temperature 0 all {args.num_samples} answers to a question are the same; -t 0.8, say, makes them differ")

    settings = {task_name: settings_of(task, args) for task_name, task in tasks.items()}  # of the files as they are now, not after an hour of work
    engine, saved = Engine(model, tokenizer, max_rows=ROWS_PER_BATCH * args.batch_size), 0
    for task_name, task in tasks.items():
        result = evaluate_task(
            engine, task, compute, args.max_problems, args.batch_size, args.num_samples, args.max_new_tokens, args.temperature, args.top_k,
            label=task_name,
        )  # fmt: skip
        numbers = {"accuracy": result.accuracy, "centered": centered(result.accuracy, baseline(task_name)), "items": result.items,
                   "seconds": result.seconds, "pass_at": result.pass_at, "settings": settings[task_name]}  # fmt: skip
        print_task(task_name, result, numbers)
        if covers_more(found.get(task_name), numbers):
            print0(f"note: not saved, since {folder / name}.json has a result of {found[task_name]['items']} items")
            continue
        found[task_name], saved = numbers, saved + 1
        if compute.rank == 0:  # after each task: what was found out stays if the rest is interrupted
            items = [item_of(task[i], answers) for i, answers in enumerate(result.answers)]
            write_json(folder / name / f"{task_name}.json", {**about, "task": task_name, **numbers, "items": items})
            write_json(folder / f"{name}.json", summarize(about, found))
    tell_chatcore(summarize(about, found))
    if saved:
        print0(f"saved to {folder / name}.json, and each answer in {folder / name}")
    compute_cleanup()


if __name__ == "__main__":
    with friendly_errors():
        main(parse_args())
