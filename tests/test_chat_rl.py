"""Reinforcement learning: its arithmetic against plain forward passes, rollouts, and scripts/chat_rl.py from the first step to the last."""

import json
import math
import os
import shutil
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from helpers import FORK_TWO, Questions, same, stop_at

from nanochat import checkpoint_manager
from nanochat.common import Compute, UserError
from nanochat.engine import Engine, Sample
from nanochat.gpt import GPT, GPTConfig, new_model
from nanochat.optim import MuonAdamW
from nanochat.rl import Group, answers_of, count_chosen, policy_batches, policy_loss, roll_out
from nanochat.training import build_optimizer
from scripts import chat_rl
from tasks.catalog import RL_TASKS, rl_tasks
from tasks.common import Task, chat, final_answer, text_of

ROOT = Path(__file__).parent.parent
CPU = torch.device("cpu")
ALONE = Compute(False, 0, 0, 1, CPU)
CONTEXT = 160
SFT_BATCH = 8192  # tokens in a step of the tiny SFT model, so that its rates are those of a batch an eighth as wide as the reference
# Steps of 16 short answers
TINY = ["--task", "letters", "--examples-per-step", "4", "--num-samples", "4", "--device-batch-size", "3", "--max-new-tokens", "8",
        "--eval-every", "-1", "--eval-examples", "4", "--save-every", "-1", "--num-iterations", "2"]  # fmt: skip


@pytest.fixture(autouse=True)
def float32(monkeypatch, one_thread):
    monkeypatch.setenv("NANOCHAT_DTYPE", "float32")
    monkeypatch.setenv("NANOCHAT_WORDS", "embedded")


class Letters(Task):
    """The same short question again and again. The reward is which share of an answer's characters are these, or whether it begins with one."""

    def __init__(self, letters: str, share: bool = True, size: int = 64):
        super().__init__()
        self.letters, self.share, self.size = letters, share, size

    def num_examples(self) -> int:
        return self.size

    def get_example(self, index: int) -> dict:
        return chat("Say something.", "Yes.")

    def evaluate(self, conversation: dict, completion: str) -> bool:
        return completion[:1] in tuple(self.letters)

    def reward(self, conversation: dict, completion: str) -> float:
        if not self.share:
            return super().reward(conversation, completion)
        return sum(c in self.letters for c in completion) / max(1, len(completion))


def tiny_model(vocab_size: int, layers: int = 2) -> GPT:
    torch.manual_seed(1)
    return new_model(GPTConfig(CONTEXT, vocab_size, layers, 2, 2, 32, "L"), "cpu")


@pytest.fixture(scope="module")
def taught(tokenizer) -> GPT:
    """It answers the first questions of both tasks with nothing but a number, and not always the right one."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("NANOCHAT_DTYPE", "float32")
        patch.setenv("NANOCHAT_WORDS", "embedded")
        model = tiny_model(tokenizer.get_vocab_size())
        asked = [rl_tasks(name)[0][i]["messages"] for name in ("tinyworld", "spellingbee") for i in range(20)]
    rows = [tokenizer.render_conversation(chat(q["content"], f"#### {final_answer(text_of(a['content']))}")) for q, a in asked]
    T = max(len(ids) for ids, _ in rows)
    idx, mask = (torch.tensor([row[part] + [0] * (T - len(row[part])) for row in rows]) for part in (0, 1))
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2, weight_decay=0)
    for _ in range(200):
        loss = model(idx[:, :-1], torch.where(mask[:, 1:] == 1, idx[:, 1:], -1))
        if loss < 0.15:
            return model.eval()
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    raise AssertionError(f"it did not learn: {loss}")


@pytest.fixture(scope="module")
def babbling(tokenizer) -> GPT:
    """All its answers are different from the first token on, and all its parts matter, so that no gradient is zero but for rounding: what AdamW and
    Muon make of such a one is anybody's guess. (With two layers, that of backout_lambda is.)"""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("NANOCHAT_DTYPE", "float32")
        model = tiny_model(tokenizer.get_vocab_size(), layers=3)
    with torch.no_grad():
        for p in model.parameters():
            p.add_(torch.randn_like(p) * 0.05)
    return model.eval()


@pytest.fixture(scope="module")
def sft(taught, babbling, tokenizer, tmp_path_factory) -> Path:
    """A base dir that holds these models as ones of SFT. Read it, do not write to it."""
    base = tmp_path_factory.mktemp("sft")
    rates = {"embedding_lr": 2.4, "unembedding_lr": 0.064, "matrix_lr": 0.16, "scalar_lr": 1.0}
    meta = {"user_config": {"dataset": "tinyworld", "embedding_lr": None}, "total_batch_size": SFT_BATCH, **rates}
    for tag, model in (("d2", taught), ("babbling", babbling)):
        checkpoint_manager.CheckpointManager(base / "chatsft_checkpoints" / tag).save(7, model, None, meta, tokenizer=tokenizer)
    return base


@pytest.fixture
def world(sft, tmp_path, monkeypatch) -> Path:
    """A base dir with the taught model, to write checkpoints into."""
    (tmp_path / "chatsft_checkpoints").symlink_to(sft / "chatsft_checkpoints")
    monkeypatch.setenv("NANOCHAT_BASE_DIR", str(tmp_path))
    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    yield tmp_path
    for number, handler in handlers.items():
        signal.signal(number, handler)


@pytest.fixture
def rl(world, monkeypatch):
    """The script in this process, with one task more."""
    monkeypatch.setitem(RL_TASKS, "letters", lambda: (Letters("aeiou0123456789"), Letters("#")))

    def run(*flags: str) -> int:
        monkeypatch.setattr(sys, "argv", ["chat_rl", *TINY, *flags])
        return chat_rl.main(chat_rl.parse_args())

    return run


def folder(world: Path, tag: str = "d2") -> Path:
    return world / "chatrl_checkpoints" / tag


def lines(world: Path, tag: str = "d2") -> list[dict]:
    return [json.loads(line) for line in (folder(world, tag) / "metrics.jsonl").read_text().splitlines()]


def steps(world: Path, tag: str = "d2") -> dict[int, tuple[float, float, float]]:
    return {line["step"]: (line["reward"], line["loss"], line["length"]) for line in lines(world, tag) if "loss" in line}


def summary(world: Path, tag: str = "d2") -> dict:
    return json.loads((folder(world, tag) / "summary.json").read_text())


def saved(world: Path, tag: str, step: int) -> tuple[dict, list[dict]]:
    weights, shards, _ = checkpoint_manager.load_checkpoint(folder(world, tag), step, load_optimizer=True)
    return weights, shards


def tokens_of(groups: list[Group]) -> list[list[list[int]]]:
    return [[sample.tokens for sample in group.samples] for group in groups]


# --- the arithmetic --------------------------------------------------------------------------------------------------


def made_up_groups(vocab: int) -> list[Group]:
    """Prompts and answers of all lengths. Some answers have no end, some have what a tool said in the middle; in every third group all are alike."""
    dice = torch.Generator().manual_seed(3)

    def number(low: int, high: int) -> int:
        return int(torch.randint(low, high + 1, (), generator=dice))

    groups = []
    for g in range(6):
        samples = []
        for _ in range(5):
            n = number(1, 20)
            masks = [1 if i < n // 3 or i > n // 2 else 0 for i in range(n)]
            stop = number(0, vocab - 1) if number(0, 2) else None
            samples.append(Sample([number(0, vocab - 1) for _ in range(n)], masks, "length" if stop is None else "stop", stop))
        rewards = [float(number(0, 1))] * 5 if g % 3 == 0 else [number(0, 4) / 4 for _ in range(4)] + [1.5]
        groups.append(Group([number(0, vocab - 1) for _ in range(number(2, 30))], samples, rewards))
    return groups


def plain_loss(model: GPT, groups: list[Group]) -> torch.Tensor:
    """An answer at a time, by the logits: minus the mean over all chosen tokens of advantage times log-probability."""
    loss, count = torch.zeros((), dtype=torch.float64), 0
    for group in groups:
        mean = sum(group.rewards) / len(group.rewards)
        for sample, reward in zip(group.samples, group.rewards, strict=True):
            tokens = [*group.prompt, *sample.tokens, *([] if sample.stop_token is None else [sample.stop_token])]
            log_p = model(torch.tensor([tokens[:-1]]))[0].double().log_softmax(-1)
            for place in range(len(group.prompt), len(tokens)):
                answered = place - len(group.prompt)
                if answered == len(sample.tokens) or sample.masks[answered]:
                    loss = loss - (reward - mean) * log_p[place - 1, tokens[place]]
                    count += 1
    return loss / count


def batched_loss(model: GPT, groups: list[Group], batch_size: int, skip: bool = True) -> torch.Tensor:
    """As the script does it."""
    answers = answers_of([group for group in groups if not (skip and group.even)])
    losses = [policy_loss(model, *batch) for batch in policy_batches(answers, batch_size, model.config.sequence_len, CPU)]
    return torch.stack(losses).sum() / count_chosen(groups)


def gradient(model: GPT, loss: torch.Tensor) -> torch.Tensor:
    return torch.cat([torch.zeros(p.numel()) if g is None else g.flatten() for p, g in with_gradients(model, loss)])


def with_gradients(model: GPT, loss: torch.Tensor) -> list[tuple[torch.Tensor, torch.Tensor | None]]:
    return list(zip(model.parameters(), torch.autograd.grad(loss, list(model.parameters()), allow_unused=True), strict=True))


def difference(a: torch.Tensor, b: torch.Tensor) -> float:
    """Of two gradients, as a share of the largest entry."""
    return ((a - b).abs().max() / b.abs().max()).item()


def test_rows_by_hand():
    samples = [Sample([5, 6, 7], [1, 0, 1], "stop", 9), Sample([8], [1], "length", None)]
    group = Group([1, 2], samples, [1.0, 0.25])
    assert group.advantages == [0.375, -0.375] and not group.even and Group([1], samples, [0.1] * 2).even
    assert not any(group._replace(rewards=rewards).even for rewards in ([math.nan] * 2, [0.0, math.nan], [math.nan, 0.0]))
    first, second = answers_of([group])
    assert first == ([1, 2, 5, 6, 7, 9], [0, 0, 1, 0, 1, 1], 0.375) and second == ([1, 2, 8], [0, 0, 1], -0.375)
    assert count_chosen([group, Group([3], samples, [0.0, 0.0])]) == 8
    ((x, y, advantages),) = policy_batches([first, second], 2, 100, CPU)
    assert x.tolist() == [[1, 2, 5, 6, 7], [1, 2, 0, 0, 0]] and y.tolist() == [[-1, 5, -1, 7, 9], [-1, 8, -1, -1, -1]]
    assert advantages.tolist() == [0.375, -0.375]
    cut = list(policy_batches([first, second], 1, 3, CPU))  # one row each, and no row is longer than the model can take
    assert [x.tolist() for x, _, _ in cut] == [[[1, 2, 5]], [[1, 2]]] and cut[0][1].tolist() == [[-1, 5, -1]]


@pytest.mark.parametrize("batch_size", [1, 4, 100])
def test_batches_have_the_gradient_of_plain_forward_passes(taught, batch_size):
    groups = made_up_groups(taught.config.vocab_size)
    everything = [sample for group in groups for sample in group.samples]
    assert 0 in {mask for sample in everything for mask in sample.masks} and {sample.stop_token is None for sample in everything} == {True, False}
    plain, batched = plain_loss(taught, groups), batched_loss(taught, groups, batch_size)
    assert batched.item() == pytest.approx(plain.item(), rel=1e-4, abs=1e-6)  # of terms of 2.4 on average, which nearly cancel
    assert difference(gradient(taught, batched), gradient(taught, plain)) < 1e-4


def test_what_is_not_chosen_is_not_trained(taught):
    """Not the prompt, and not what a tool said: with no other targets there is no gradient at all."""
    dumb = [Group([3, 4, 5], [Sample([6, 7], [0, 0], "length"), Sample([8], [0], "length")], [1.0, 0.0])]
    ((x, y, advantages),) = policy_batches(answers_of(dumb), 8, CONTEXT, CPU)
    loss = policy_loss(taught, x, y, advantages)
    assert loss == 0 and not gradient(taught, loss).any() and count_chosen(dumb) == 0


def test_skipping_what_cannot_teach_changes_nothing(taught):
    groups = made_up_groups(taught.config.vocab_size)
    assert [group.even for group in groups] == [True, False, False] * 2
    skipped, whole = (gradient(taught, batched_loss(taught, groups, 4, skip)) for skip in (True, False))
    assert difference(skipped, whole) < 1e-6
    few = gradient(taught, batched_loss(taught, [group for group in groups if not group.even], 4))
    assert difference(few, whole) > 0.1  # they count in what the loss is divided by


def test_what_is_rewarded_becomes_likelier(tokenizer):
    model = tiny_model(tokenizer.get_vocab_size())
    rates = {"unembedding_lr": 0.02, "embedding_lr": 0.05, "matrix_lr": 0.02, "scalar_lr": 0.05}
    optimizer, engine, rewards = build_optimizer(model, rates, 0.0, ALONE, False), Engine(model, tokenizer), []
    for step in range(25):
        engine.refresh()
        groups = roll_out(engine, Letters("aeioust", share=False), range(8), 8, 3, 1.0, 0, seed=step)
        rewards.append(sum(reward for group in groups for reward in group.rewards) / 64)
        if all(group.even for group in groups):  # none is right yet, or all of them are
            continue
        batched_loss(model, groups, 16).backward()
        optimizer.step()
        optimizer.zero_grad()
    assert sum(rewards[:2]) / 2 < 0.4 and min(rewards[-3:]) > 0.8


# --- rollouts --------------------------------------------------------------------------------------------------------


def test_rollouts_are_judged_answers(taught, tokenizer):
    task = rl_tasks("tinyworld")[0]
    groups = roll_out(Engine(taught, tokenizer), task, range(6), 8, 8, 1.0, 50, seed=0)
    assert [group.prompt for group in groups] == [tokenizer.render_for_completion(task[i]) for i in range(6)]
    for i, group in enumerate(groups):
        assert group.rewards == [task.reward(task[i], tokenizer.decode(sample.tokens)) for sample in group.samples]
    rewards = [reward for group in groups for reward in group.rewards]
    assert set(rewards) == {0.0, 1.0} and len(rewards) == 48
    assert {sample.stop_token for group in groups for sample in group.samples if sample.finish_reason == "stop"} == {
        tokenizer.special["<|assistant_end|>"]
    }


def test_rollouts_depend_on_seed_and_index(taught, tokenizer):
    """Not on who else is asked, in what order, or on how many ranks."""
    task = rl_tasks("spellingbee")[0]

    def rolled(indices, seed: object = 5, rows: int = 64) -> list:
        return tokens_of(roll_out(Engine(taught, tokenizer, max_rows=rows), task, indices, 3, 8, 1.5, 50, seed))

    everyone = rolled(range(9))
    assert rolled([8, 0, 4]) == [everyone[8], everyone[0], everyone[4]] and rolled(range(9), rows=2) == everyone
    assert rolled(range(9), seed=6) != everyone and rolled([]) == []
    assert (
        len({str(sample) for group in tokens_of(roll_out(Engine(taught, tokenizer), Letters(""), range(9), 3, 8, 1.5, 0, 0)) for sample in group})
        > 20
    )
    args = type("Args", (), {"examples_per_step": 3})
    for ranks in (1, 2, 3, 4):
        shares = [chat_rl.share_of(2, args, 7, Compute(ranks > 1, rank, rank, ranks, CPU)) for rank in range(ranks)]
        assert sorted(i for share in shares for i in share) == [0, 1, 6]  # number 6 of 7, and round again
        assert sorted(group for share in shares for group in rolled(share)) == sorted([everyone[6], everyone[0], everyone[1]])


ROLLOUTS = """
import json
from nanochat.checkpoint_manager import load_model
from nanochat.engine import Engine
from nanochat.rl import roll_out
from tasks.catalog import rl_tasks
model, tokenizer, _ = load_model("sft", "cpu", "eval", "d2")
groups = roll_out(Engine(model, tokenizer), rl_tasks("tinyworld")[0], [3, 1], 3, 8, 1.0, 50, seed="x")
print(json.dumps([[[sample.tokens for sample in group.samples], group.rewards] for group in groups]))
"""


def test_rollouts_in_another_process(taught, tokenizer, sft):
    mine = roll_out(Engine(taught, tokenizer), rl_tasks("tinyworld")[0], [3, 1], 3, 8, 1.0, 50, seed="x")
    for seed in ("1", "2"):
        environment = {**os.environ, "PYTHONHASHSEED": seed, "NANOCHAT_BASE_DIR": str(sft)}
        run = subprocess.run([sys.executable, "-c", ROLLOUTS], cwd=ROOT, env=environment, capture_output=True, text=True)
        assert run.returncode == 0, run.stderr
        assert json.loads(run.stdout) == [[tokens, group.rewards] for tokens, group in zip(tokens_of(mine), mine, strict=True)]


def test_prompts_without_room_are_left_out(taught, tokenizer):
    task = Questions(1, 60, 2, 61, 500)
    lengths = [len(tokenizer.render_for_completion(conversation)) for conversation in task]
    engine = Engine(taught, tokenizer, context=lengths[1] + 2)
    groups = roll_out(engine, task, range(5), 2, 8, 1.0, 50, seed=0)
    fits = [i for i in range(5) if lengths[i] < engine.context]
    assert [len(group.prompt) for group in groups] == [lengths[i] for i in fits] and 4 not in fits and {0, 1, 2} <= set(fits)
    assert all(len(sample.tokens) <= min(8, engine.context - lengths[i]) for i, group in zip(fits, groups, strict=True) for sample in group.samples)
    assert roll_out(engine, task, [4], 2, 8, 1.0, 50, seed=0) == []
    longest = max(len(answer.tokens) for answer in answers_of(groups))
    assert all(x.size(1) < longest for x, _, _ in policy_batches(answers_of(groups), 4, CONTEXT, CPU))


# --- the script ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("task", ["tinyworld", "spellingbee"])
def test_started_as_a_user_starts_it(task, run_module, world, taught, tokenizer):
    flags = ["--", *TINY, "--task", task, "--num_iterations=3", "--eval-every", "2", "--save-every", "2", "--output-tag", task]
    run = run_module("scripts.chat_rl", *flags, base=world)
    assert run.returncode == 0, run.stderr
    assert "d2, step 7: 3 steps of 4 questions" in run.stdout and "step 00003/00003 | reward" in run.stdout and "pass@3" in run.stdout
    assert checkpoint_manager.complete_steps(folder(world, task)) == [2, 3]
    model, theirs, meta = checkpoint_manager.load_model("rl", "cpu", "eval", task)
    assert model.config == taught.config and (theirs.pattern, theirs.ranks, theirs.special) == (tokenizer.pattern, tokenizer.ranks, tokenizer.special)
    assert meta["user_config"]["dataset"] == "tinyworld" and meta["user_config"]["task"] == task and meta["num_iterations"] == 3
    assert meta["sft"] == {"model_tag": "d2", "step": 7} and meta["matrix_lr"] == 0.16 and meta["progress"]["step"] == 3
    changed = [name for name, p in taught.state_dict().items() if not torch.equal(p, model.state_dict()[name])]
    assert "lm_head.weight" in changed and "transformer.h.1.mlp.c_fc.weight" in changed

    evaluations = {line["step"]: line for line in lines(world, task) if "pass@1" in line}
    assert list(evaluations) == [0, 2, 3] and all(set(line) == {"step", "pass@1", "pass@2", "pass@3"} for line in evaluations.values())
    assert all(0 <= line["pass@1"] <= line["pass@2"] <= line["pass@3"] <= 1 for line in evaluations.values())
    trained = [line for line in lines(world, task) if "loss" in line]
    assert [line["step"] for line in trained] == [1, 2, 3] and [line["lr"] for line in trained] == pytest.approx([1, 2 / 3, 1 / 3])
    assert all(0 <= line["reward"] <= 1 and 0 <= line["even"] <= 4 and 1 <= line["length"] <= 8 for line in trained)
    assert any(line["reward"] > 0 for line in trained) and any(line["loss"] != 0 for line in trained)
    assert all(line["samples_per_second"] == pytest.approx(16 / line["rollout_seconds"]) for line in trained)
    found = summary(world, task)
    assert found["finished"] and found["steps"] == 3 and found["stage"] == "chat_rl" and found["task"] == task and found["sft"] == "d2"
    assert found["model_tag"] == task and found["pass_at"] == {k[5:]: v for k, v in evaluations[3].items() if k != "step"}
    assert found["tokens"] == round(sum(16 * line["length"] for line in trained)) == meta["progress"]["tokens"]
    assert found["reward"] == pytest.approx(trained[-1]["smooth_reward"])


def test_a_step_of_the_script(rl, world, taught, monkeypatch):
    """Its loss and gradient are those of plain forward passes over all its answers, in groups that can teach and groups that cannot."""
    seen: dict = {}

    def rolling(*arguments, **settings):
        rewards = ([1.0] * 4, [0.0, 0.25, 1.0, 0.5], [0.0] * 4, [0.1] * 4, [1.0, 0.0, 0.0, 0.0], [0.1, 0.2, 0.3, 0.4])
        groups = roll_out(*arguments, **settings)
        seen["groups"] = [group._replace(rewards=given) for group, given in zip(groups, rewards, strict=True)]
        return seen["groups"]

    def stepping(self):
        seen["gradients"] = [p.grad.clone() for group in self.param_groups for p in group["params"]]

    monkeypatch.setattr("nanochat.rl.roll_out", rolling)
    monkeypatch.setattr(MuonAdamW, "step", stepping)
    assert rl("--task", "tinyworld", "--num-iterations", "1", "--examples-per-step", "6") == 0
    loss = plain_loss(taught, seen["groups"])
    parameters = [p for group in taught.param_groups() for p in group["params"]]
    expected = torch.autograd.grad(loss, parameters)
    assert difference(*(torch.cat([g.flatten() for g in some]) for some in (seen["gradients"], expected))) < 1e-4
    (line,) = lines(world)
    rewards = [reward for group in seen["groups"] for reward in group.rewards]
    assert line["loss"] == pytest.approx(loss.item(), rel=1e-4, abs=1e-6) and line["reward"] == pytest.approx(sum(rewards) / 24)
    assert line["even"] == 3


def test_learning_rates_fall_to_zero(rl, world, taught, monkeypatch):
    """From a share of those of SFT, for its batch, and linearly."""
    seen = []
    step = MuonAdamW.step
    monkeypatch.setattr(MuonAdamW, "step", lambda self: seen.append([group["lr"] for group in self.param_groups]) or step(self))
    assert rl("--num-iterations", "4", "--init-lr-frac", "0.1", "--unembedding-lr", "0.5") == 0
    scale = math.sqrt(SFT_BATCH / 2**19)
    rates = {"embedding_lr": 2.4 * scale, "unembedding_lr": 0.5 * scale, "matrix_lr": 0.16 * scale, "scalar_lr": scale}
    whole = [group["lr"] for group in taught.param_groups(**rates)]
    assert 0.2 in whole  # smear and backout, which no flag and no batch changes
    for k, rates in enumerate(seen):
        assert rates == pytest.approx([0.1 * (1 - k / 4) * rate for rate in whole])
    assert len(seen) == 4


def learned(world: Path, tag: str) -> tuple[float, float]:
    rewards = [line["reward"] for line in lines(world, tag) if "loss" in line]
    return sum(rewards[:3]) / 3, sum(rewards[-3:]) / 3


@pytest.mark.parametrize("share", [True, False])
def test_learning_a_task_of_ones_own(share, rl, world, monkeypatch):
    """With rewards that are fractions, and with those of right and wrong."""
    task = Letters(" aeioust" if share else "aeiou", share)
    monkeypatch.setitem(RL_TASKS, "own", lambda: (task, task))
    rates = ["--init-lr-frac", "0.5", "--matrix-lr", "0.3", "--unembedding-lr", "0.2", "--embedding-lr", "1"]
    flags = ["--num-samples", "8", "--eval-every", "100", "--eval-examples", "16", "--device-batch-size", "8", "--num-iterations", "20"]
    assert rl("--task", "Own", "--model-tag", "babbling", *flags, *rates) == 0
    first, last = learned(world, "babbling")
    assert last > first + 0.3
    evaluated = [line["pass@1"] for line in lines(world, "babbling") if "pass@1" in line]
    assert len(evaluated) == 2 and evaluated[1] > evaluated[0]
    rewards = {line["reward"] * 32 for line in lines(world, "babbling") if "loss" in line}
    assert share != all(reward == pytest.approx(round(reward)) for reward in rewards)


def test_the_next_epoch_has_other_answers(rl, world, babbling, monkeypatch):
    """To the same questions, and of the same model: it may not move here."""
    seen = []
    monkeypatch.setitem(RL_TASKS, "few", lambda: (Letters("aeiou", size=4),) * 2)
    monkeypatch.setattr("nanochat.rl.roll_out", lambda *arguments, **settings: seen.append(roll_out(*arguments, **settings)) or seen[-1])
    assert rl("--task", "few", "--model-tag", "babbling", "--num-iterations", "-1", "--num-epochs", "2", "--init-lr-frac", "0") == 0
    first, second = map(tokens_of, seen)
    assert len(first) == 4 and all(a != b for a, b in zip(first, second, strict=True))
    assert [group.prompt for group in seen[0]] == [group.prompt for group in seen[1]]
    assert same(saved(world, "babbling", 2)[0], babbling.state_dict())


def test_nothing_to_learn_changes_little(rl, world, monkeypatch):
    """Where all answers are worth the same there is no gradient, and no step fails for want of one."""
    monkeypatch.setitem(RL_TASKS, "all", lambda: (Letters("", share=True),) * 2)
    assert rl("--task", "all") == 0
    assert all(values[:2] == (0, 0) for values in steps(world).values()) and all(line["even"] == 4 for line in lines(world))


def test_it_saves_before_it_evaluates(rl, world, monkeypatch):
    from nanochat.chat_eval import evaluate_task

    calls = []

    def failing(*arguments, **settings):
        calls.append(1)
        if len(calls) > 1:
            raise RuntimeError("evaluation broke")
        return evaluate_task(*arguments, **settings)

    monkeypatch.setattr("nanochat.chat_eval.evaluate_task", failing)
    with pytest.raises(RuntimeError, match="evaluation broke"):
        rl("--num-iterations", "4", "--eval-every", "2", "--save-every", "2")
    assert checkpoint_manager.complete_steps(folder(world)) == [2] and list(steps(world)) == [1, 2]
    monkeypatch.undo()
    monkeypatch.setenv("NANOCHAT_BASE_DIR", str(world))


@pytest.mark.parametrize("often", [1, 3])
def test_a_reward_that_is_no_number(often, rl, world, monkeypatch):
    """Of all answers, or of some."""

    class Broken(Letters):
        asked = 0

        def reward(self, conversation: dict, completion: str) -> float:
            self.asked += 1
            return 1.0 if self.asked % often else math.nan

    updates = []
    monkeypatch.setitem(RL_TASKS, "broken", lambda: (Broken("e"), Broken("e")))
    monkeypatch.setattr(MuonAdamW, "step", lambda self: updates.append(1))
    with pytest.raises(UserError, match=r"step 0: the loss \(nan\) is not finite.*d2 before RL"):
        rl("--task", "broken")
    assert updates == [] and checkpoint_manager.complete_steps(folder(world)) == []


# --- stopping and resuming -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_stop_and_resume_are_exact(number, rl, world, monkeypatch, capsys):
    flags = ("--num-iterations", "5", "--eval-every", "2")
    assert rl(*flags, "--output-tag", "whole") == 0
    with monkeypatch.context() as patch:
        stop_at(2, number, patch)
        assert rl(*flags, "--output-tag", "parts") == 128 + number
    # the signal came while step 2 was being logged, so step 3 was the last; it is saved and nothing else
    assert checkpoint_manager.complete_steps(folder(world, "parts")) == [3] and not summary(world, "parts")["finished"]
    assert "stopped at step 3; `--resume auto` goes on" in capsys.readouterr().out
    assert rl(*flags, "--output-tag", "parts", "--resume", "auto") == 0
    assert "going on from step 3 of 5" in capsys.readouterr().out
    assert steps(world, "whole") == steps(world, "parts") and sum(loss != 0 for _, loss, _ in steps(world, "whole").values()) > 3
    assert same(saved(world, "whole", 5), saved(world, "parts", 5))
    assert [line for line in lines(world, "whole") if "pass@1" in line] == [line for line in lines(world, "parts") if "pass@1" in line]
    for name in ("finished", "steps", "tokens", "reward", "pass_at"):
        assert summary(world, "whole")[name] == summary(world, "parts")[name]


def test_what_is_finished_stays_as_it_is(rl, world, capsys):
    """With --resume auto it says so, from an earlier step it is a branch, and otherwise it takes --overwrite."""
    assert rl("--resume", "auto", "--save-every", "1") == 0
    before = {path.name: path.stat().st_mtime_ns for path in folder(world).iterdir()}
    assert rl("--resume", "auto") == 0
    assert "is finished: step 2 of 2" in capsys.readouterr().out
    with pytest.raises(UserError, match=r"finished run.*--resume auto.*--overwrite.*--output-tag NAME"):
        rl()
    assert before == {path.name: path.stat().st_mtime_ns for path in folder(world).iterdir()}
    first, whole = steps(world), summary(world)
    (folder(world) / "summary.json").unlink()  # killed in its last evaluation
    assert rl("--resume", "auto") == 0 and summary(world) == {**whole, "peak_memory": summary(world)["peak_memory"]} and steps(world) == first
    assert rl("--resume-from-step", "1", "--matrix-lr", "0.5") == 0
    assert "--matrix-lr was None and is 0.5" in capsys.readouterr().out
    assert (folder(world) / "later_than_000001" / "meta_000002.json").exists() and steps(world)[1] == first[1]
    assert rl("--overwrite", "--num-iterations", "1", "--keep-last", "1") == 0
    assert checkpoint_manager.complete_steps(folder(world)) == [1] and list(steps(world)) == [1]
    assert not (folder(world) / "later_than_000001").exists()


def test_keep_last(rl, world):
    assert rl("--num-iterations", "3", "--save-every", "1", "--keep-last", "2") == 0
    assert checkpoint_manager.complete_steps(folder(world)) == [2, 3]


# --- several ranks ---------------------------------------------------------------------------------------------------

TWO_RANKS = """
import os, signal, sys
from nanochat import common
from scripts import chat_rl
from tasks.catalog import RL_TASKS
from test_chat_rl import Letters

def run(rank):
    signal.alarm(200)
    os.environ.update(RANK=str(rank), LOCAL_RANK=str(rank), WORLD_SIZE="2", MASTER_ADDR="127.0.0.1", MASTER_PORT="{port}")
    compute = common.compute_init("cpu")
    common.compute_init, common.compute_cleanup = lambda device_type: compute, lambda: None  # the ranks meet once, for both runs
    RL_TASKS["letters"] = lambda: (Letters("aeiou0123456789"), Letters("#"))
    for flags in {runs}:
        sys.argv = ["chat_rl", *flags]
        assert chat_rl.main(chat_rl.parse_args()) == 0
"""


def free_port() -> int:
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def test_two_ranks_do_what_one_does(rl, world, babbling):
    """The same rewards, losses and weights, with three questions for both, and with one, so that a rank has none. One goes on with what two saved."""
    babble = ["--model-tag", "babbling", "--max-new-tokens", "5"]
    several = [*babble, "--num-iterations", "4", "--save-every", "2", "--eval-every", "2", "--eval-examples", "3", "--examples-per-step", "3"]
    single = [*babble, "--num-iterations", "3", "--examples-per-step", "1"]
    runs = [[*TINY, *several, "--output-tag", "two"], [*TINY, *single, "--output-tag", "two_single"]]
    script = TWO_RANKS.format(port=free_port(), runs=runs) + FORK_TWO
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT / "tests"), "CUDA_VISIBLE_DEVICES": ""}
    result = subprocess.run([sys.executable, "-c", script], cwd=ROOT, env=environment, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    assert rl(*several, "--output-tag", "one") == rl(*single, "--output-tag", "one_single") == 0
    shutil.copytree(folder(world, "two"), folder(world, "then_one"))
    assert rl(*several, "--output-tag", "then_one", "--resume-from-step", "2") == 0
    for one, other, last in (("one", "two", 4), ("one", "then_one", 4), ("one_single", "two_single", 3)):
        mine, theirs = steps(world, one), steps(world, other)
        assert list(mine) == list(theirs) == list(range(1, last + 1)) and all(loss for _, loss, _ in mine.values())
        for step in mine:
            assert theirs[step] == pytest.approx(mine[step], abs=1e-4)
        (weights, _), (others, _) = saved(world, one, last), saved(world, other, last)
        for name, p in weights.items():
            torch.testing.assert_close(others[name], p, atol=1e-4, rtol=0)
        moved = {name: (p - babbling.state_dict()[name]).abs().max() for name, p in weights.items()}
        assert min(moved.values()) > 0 and moved["lm_head.weight"] > 1e-3
    assert [line for line in lines(world, "one") if "pass@1" in line] == [line for line in lines(world, "two") if "pass@1" in line]
    assert result.stdout.count("step 00004/00004") == 1 and summary(world, "two")["world_size"] == 2
    assert summary(world, "one")["tokens"] == summary(world, "two")["tokens"]


# --- what can be wrong -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("flags", [
    "--num-samples 1", "--num-samples 0", "--temperature 0", "--temperature -1", "--temperature nan", "--top-k -1", "--matrix-lr nan",
    "--embedding-lr -0.1", "--unembedding-lr inf", "--init-lr-frac -1", "--weight-decay -1", "--num-epochs 0", "--num-iterations 0",
    "--examples-per-step 0", "--device-batch-size 0", "--max-new-tokens 0", "--eval-examples 0", "--keep-last 0", "--model-step -1",
    "--device-type tpu", "--resume never", "--overwrite --resume auto", "--overwrite --resume-from-step 3", "--resume auto --resume-from-step 3",
])  # fmt: skip
def test_refused_at_the_command_line(flags, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["chat_rl", *flags.split()])
    with pytest.raises(SystemExit) as refused:
        chat_rl.parse_args()
    said = capsys.readouterr().err
    assert refused.value.code == 2 and flags.split()[0] in said.splitlines()[-1]


@pytest.mark.parametrize(("flags", "message"), [
    ("--task chess", r"no task 'chess' for reinforcement learning: known are gsm8k, tinyworld, spellingbee"),
    ("--model-tag d9", r"no model 'd9' in .*the models there are babbling, d2"), ("--model-tag ../d2", r"--model-tag"),
    ("--model-step 8", r"whole are 7"),
    ("--output-tag a/b", r"--output-tag"), ("--resume-from-step 3", r"step 3 cannot be loaded"), ("--device-type cuda", r"--device-type cuda is not"),
])  # fmt: skip
def test_bad_input_is_refused_before_anything_is_made(flags, message, rl, world):
    before = set(world.rglob("*"))
    with pytest.raises(UserError, match=message):
        rl(*flags.split())
    assert set(world.rglob("*")) == before


def test_another_model_in_the_folder(rl, world, taught, tokenizer):
    rl("--output-tag", "mine")
    meta_path = folder(world, "mine") / "meta_000002.json"
    meta = json.loads(meta_path.read_text())
    meta["model_config"]["n_layer"] = 3
    meta_path.write_text(json.dumps(meta))
    with pytest.raises(UserError, match=r"n_layer is 3 there and 2 here.*--output-tag"):
        rl("--output-tag", "mine", "--resume", "auto")


def test_another_task_in_the_folder(rl, world):
    rl("--output-tag", "mine")
    with pytest.raises(UserError, match=r"holds a run on letters, not on spellingbee: give --task letters, or another --output-tag"):
        rl("--output-tag", "mine", "--resume", "auto", "--task", "spellingbee")


def test_no_model_is_one_line(run_module, tmp_path):
    run = run_module("scripts.chat_rl", "--task", "tinyworld", base=tmp_path)
    assert run.returncode == 1 and run.stderr.startswith("error: ") and len(run.stderr.splitlines()) == 1
    assert "python -m scripts.chat_sft" in run.stderr and list(tmp_path.iterdir()) == []
