"""The charts of one stage of a run, for the report: curves of its metrics.jsonl, bars of its evaluations."""

import math
from pathlib import Path

from nanochat.markdown import chart_link
from nanochat.run_files import Run, flops_at, number, seconds_at, series


def draw_stage(folder: Path, name: str, run: Run, core_tasks: dict[str, dict], chat_tasks: dict[str, dict]) -> list[str]:
    """The charts of a stage; links to them come back. What has no data has no chart."""
    from nanochat.plots import Line, bar_chart, line_chart

    links: list[str] = []
    loss, smooth, bpb, rate, speed = (series(run, key) for key in ("loss", "smooth_loss", "val_bpb", "lr", "tokens_per_second"))
    axes = {"step": ("step", lambda steps: steps), "time": ("training time in seconds", lambda steps: seconds_at(run, steps)),
            "flops": ("FLOPs", lambda steps: flops_at(run, steps))}  # fmt: skip

    def chart(file: str, title: str, lines: list, x_label: str, y_label: str, log: bool = False) -> None:
        if any(len(line.x) and math.isfinite(line.x[-1]) for line in lines):
            line_chart(folder / f"{run.stage}_{file}.png", lines, f"{name}: {title}", x_label, y_label, log_y=log)
            links.extend(chart_link(f"{folder.name}/{run.stage}_{file}.png", f"{name}: {title}"))

    rl = run.stage == "chatrl"
    for axis, (x_label, place) in axes.items():
        if rl:
            reward, smooth_reward = series(run, "reward"), series(run, "smooth_reward")
            lines = [Line("each step", place(reward[0]), reward[1], "faint"), Line("smoothed", place(smooth_reward[0]), smooth_reward[1])]
            chart(f"reward_{axis}", f"reward against {axis}", lines, x_label, "reward per answer")
            continue
        lines = [Line("each step", place(loss[0]), loss[1], "faint"), Line("smoothed", place(smooth[0]), smooth[1])]
        chart(f"loss_{axis}", f"training loss against {'FLOPs' if axis == 'flops' else axis}", lines, x_label, "nats per token", log=True)
    for axis, (x_label, place) in axes.items():
        kept = bpb[0] > 0  # what an untrained model does says nothing, and flattens the rest
        lines = [Line("validation", place(bpb[0][kept]), bpb[1][kept], style) for style in ("line", "dots")]
        chart(f"bpb_{axis}", f"validation against {'FLOPs' if axis == 'flops' else axis}", lines, x_label, "bits per byte", log=True)
    chart("lr", "learning rate", [Line("learning rate", *rate)], "step", "share of the full rate")
    answers, length = series(run, "samples_per_second"), series(run, "length")
    chart("throughput", "throughput", [Line("throughput", *(answers if rl else speed))], "step", "answers per second" if rl else "tokens per second")
    chart("length", "length of an answer", [Line("length", *length)], "step", "tokens")
    for file, title, tasks in (("core", "CORE by task", core_tasks), ("tasks", "chat tasks", chat_tasks)):
        if tasks:
            values = {
                text: [number(task.get(key)) for task in tasks.values()] for text, key in (("right", "accuracy"), ("above guessing", "centered"))
            }
            bar_chart(folder / f"{run.stage}_{file}.png", list(tasks), values, f"{name}: {title}", "share of the items")
            links += chart_link(f"{folder.name}/{run.stage}_{file}.png", f"{name}: {title}")
    return links
