"""Talk to a model in the terminal.

    python -m scripts.chat_cli                                   # the largest model of SFT, its last step
    python -m scripts.chat_cli -i rl -g d12 -t 0.8               # another one, a little bolder
    python -m scripts.chat_cli -p "Why is the sky blue?"         # one answer
    echo "Why is the sky blue?" | python -m scripts.chat_cli     # an answer for each line: the text alone, remarks and errors to stderr
    python -m scripts.chat_cli -i base                           # a base model goes on with what is typed

/help lists the commands; they work in a pipe too. Ctrl-C stops an answer: what was said of it stays in the conversation, and if nothing was, the
question is taken back. When the context is full the oldest turns are dropped. Messages are remembered in $NANOCHAT_BASE_DIR/chat_history.
"""

import argparse
import contextlib
import functools
import random
import signal
import sys
import time

from nanochat.common import ArgumentParser, UserError, compute_init, friendly_errors, get_base_dir
from nanochat.terminal import KNOBS, Conversation, Keyboard, Pipe, Reply, Screen, Settings, command_of, obey, visible


def parse_args() -> argparse.Namespace:
    parser = ArgumentParser(description="Talk to a model in the terminal")
    parser.add_argument("-i", "--source", default="sft", choices=["base", "sft", "rl"], help="which stage's model; a base model goes on with a text")
    parser.add_argument("-g", "--model-tag", default=None, help="folder of the checkpoints (default: the largest model)")
    parser.add_argument("-s", "--step", type=int, default=None, help="which checkpoint (default: the last)")
    parser.add_argument("-p", "--prompt", default=None, help="answer this, and that is all")
    parser.add_argument("-t", "--temperature", type=float, default=Settings.temperature, help="0: always the likeliest token")
    parser.add_argument("-k", "--top-k", type=int, default=Settings.top_k, help="sample among so many of the likeliest tokens; 0: all")
    parser.add_argument("--top-p", type=float, default=Settings.top_p, help="and among the likeliest that have this probability together; 1: all")
    parser.add_argument("--max-tokens", type=int, default=Settings.max_tokens, help="longest answer")
    parser.add_argument("--system", default="", help="a system message")
    parser.add_argument("--seed", type=int, default=None, help="with the same one a conversation goes the same way (default: another each time)")
    parser.add_argument("--device-type", default="", choices=["", "cuda", "cpu", "mps"], help="empty: the best there is")
    args = parser.parse_args()
    for setting, _, fits, wanted in KNOBS.values():
        if not fits(getattr(args, setting)):
            parser.error(f"--{setting.replace('_', '-')} {getattr(args, setting)}: it must be {wanted}")
    if args.system and args.source == "base":
        parser.error("--system: a base model takes no system message")
    if args.prompt is not None and not args.prompt.strip() and args.source != "base":
        parser.error("--prompt: there is nothing in it to answer")
    return args


def load_engine(args: argparse.Namespace, quiet: bool):
    """The engine for the model that is asked for; a line says which that is."""
    from nanochat.checkpoint_manager import checkpoints_dir, find_largest_model, load_model
    from nanochat.engine import Engine

    if not quiet:
        print(f"loading the {args.source} model ...", end=" ", flush=True)
    with contextlib.redirect_stdout(sys.stderr):  # what there is to say about a checkpoint is no part of an answer
        device = compute_init(args.device_type).device
        tag = args.model_tag or find_largest_model(checkpoints_dir(args.source))
        model, tokenizer, meta = load_model(args.source, device, "eval", tag, args.step)
    engine = Engine(model, tokenizer, max_rows=1)
    if not quiet:
        print(f"{tag}, step {meta['step']}, on {device.type}, with a context of {engine.context:,} tokens; /help lists commands")
    return engine


def say(engine, request, screen: Screen, source: Pipe) -> tuple:
    """Show what the model says as it comes. Gives back the content of its message and the sample, which has no finish_reason if it was stopped."""
    reply, stream = Reply(engine.tokenizer), engine.submit(request)
    while not stream.finished and not source.stopped:
        engine.step()
        for event in stream.take():
            if not event.stop:
                screen.write(*reply.add(event.token))
    screen.end()
    stream.cancel()  # takes effect with the next step, for the next question
    return reply.content(), stream.samples[0]


def answer(engine, chat: Conversation, settings: Settings, dice: random.Random, screen: Screen, source: Pipe, question: str, again=False) -> None:
    """One turn. again: the last question, for another answer instead of the one it got."""
    from nanochat.engine import Request

    tokens, dropped = chat.prompt(engine, question, min(settings.max_tokens, engine.context // 4), again)
    if dropped:
        screen.tell(f"the context is full: the oldest {dropped} messages are dropped")
    limit, started = min(settings.max_tokens, engine.context - len(tokens)), time.perf_counter()
    sampling = (settings.temperature, settings.top_k, settings.top_p, dice.getrandbits(32))
    content, sample = say(engine, Request(tokens, 1, limit, *sampling, tools=not chat.raw), screen, source)
    seconds = time.perf_counter() - started

    if content:
        chat.keep(question, content, again)
    nothing = "" if content else ": the earlier answer stays" if again else ": the question is taken back"
    if not sample.finish_reason:
        screen.tell("stopped" + nothing)
    elif nothing:
        screen.tell("the model says nothing" + nothing)
    elif sample.finish_reason == "length" and not chat.raw:
        screen.tell(f"cut after {limit} tokens: " + ("/max allows for more" if limit == settings.max_tokens else "the context is full"))
    if settings.stats:
        screen.tell(f"{len(sample.tokens)} tokens in {seconds:.2f} s, {len(sample.tokens) / seconds:.1f} tokens/s")


def main(args: argparse.Namespace) -> None:
    interactive = args.prompt is None and sys.stdin.isatty() and sys.stdout.isatty()
    screen = Screen(plain=not interactive and (args.prompt is None or not sys.stdout.isatty()))
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # an exit gives the terminal back as it was
    if not interactive:
        signal.signal(signal.SIGPIPE, signal.SIG_DFL)  # whoever reads may leave: `| head -1`
    engine = load_engine(args, quiet=not interactive)
    chat = Conversation(visible(args.system).strip(), raw=args.source == "base")
    settings = Settings(args.temperature, args.top_k, args.top_p, args.max_tokens)
    source = Keyboard(screen, get_base_dir() / "chat_history") if interactive else Pipe()
    turn = functools.partial(answer, engine, chat, settings, random.Random(args.seed), screen, source)
    if args.prompt is not None:
        return turn(visible(args.prompt) if chat.raw else visible(args.prompt).strip())

    failed = False
    for text in source.messages():
        try:
            command, argument = command_of(text) or (None, "")
            if command == "quit":
                break
            elif command == "regen":
                turn(chat.last_question(), again=True)
            elif command is not None:
                screen.tell(obey(command, argument, chat, settings))
            elif text.strip():
                turn(text if chat.raw else text.strip())
        except UserError as error:
            screen.tell(str(error), "error")
            failed = True
    sys.exit(1 if failed and not interactive else 0)


if __name__ == "__main__":
    with friendly_errors():
        main(parse_args())
