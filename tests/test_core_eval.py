"""CORE, item by item, against a plain reference that does one at a time: its options as a padded batch, all logits, nothing shared."""

import json
import math
import os
import random
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from helpers import FORK_TWO

from nanochat import core_eval
from nanochat.checkpoint_manager import CheckpointManager
from nanochat.common import Compute
from nanochat.core_bundle import CoreTask, get_bundle, read_items, read_tasks
from nanochat.core_eval import Example, PlainScorer, batches, choose_items, crop, deal, evaluate_core, evaluate_task, judge, prompts, render
from nanochat.core_scoring import CachedScorer
from nanochat.gpt import GPTConfig, new_model

ROOT = Path(__file__).parent.parent
REAL = Path(os.environ.get("NANOCHAT_TEST_DATA", ROOT.parent / "shared" / "data")) / "core"
CONTEXT = 1024
KINDS = ("multiple_choice", "schema", "language_modeling")


def opinionated_model(vocab_size: int = 1024, context: int = CONTEXT):
    """Random weights, but large enough that it cares: a new model finds all tokens nearly the same."""
    torch.manual_seed(7)
    model = new_model(GPTConfig(context, vocab_size, n_layer=2, n_head=2, n_kv_head=2, n_embd=32, window_pattern="SL"), "cpu")
    for p in model.parameters():
        if p.ndim == 2:
            torch.nn.init.normal_(p, std=0.3)
    return model.eval()


@pytest.fixture(scope="module")
def model():
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("NANOCHAT_DTYPE", "float32")
        yield opinionated_model()


@pytest.fixture(params=[PlainScorer, CachedScorer])
def scorer(request, model, one_thread):
    return request.param(model)


def invented(kind: str, count: int, seed: int = 1) -> list[dict]:
    """Items of all sizes: of a single token and of hundreds, with options that are the same or continue each other."""
    r = random.Random(seed)
    words = ["the", "cat", "sat", "on", "17", "mats,", "and", "Anna's", "dog", "barked;", "what", "is", "a", "river?", "no\nagain", "é", "日本"]

    def text(longest: int) -> str:
        return " ".join(r.choices(words, k=r.randint(1, longest)))

    items = []
    for i in range(count):
        longest = 50 if i % 5 == 4 else 6
        options = [text(longest) for _ in range(r.randint(2, 5))]
        if i % 4 == 1:
            options.insert(r.randint(0, 1), options[0])  # twice the same
        if i % 4 == 2:
            options.append(options[0] + " again")
        gold = r.randrange(len(options))
        if kind == "multiple_choice":
            items.append({"query": text(longest), "choices": options, "gold": gold})
        elif kind == "schema":
            items.append({"context_options": options, "continuation": text(longest), "gold": gold})
        else:
            items.append({"context": f" {text(longest)} " if i % 2 else "", "continuation": r.choice(words) + " " * (i % 3 == 0)})
    return items


def task_with(tmp_path: Path, kind: str, items: list[dict], shots: int, delimiter: str = " ") -> CoreTask:
    path = tmp_path / f"{kind}.jsonl"
    path.write_text("".join(json.dumps(item) + "\n" for item in items), encoding="utf-8")
    return CoreTask(kind, path, kind, shots, delimiter)


# --- the reference ---------------------------------------------------------------------------------------------------


def reference(forward, tokenizer, task: CoreTask, items: list[dict], i: int) -> bool:
    """One item, as the design has it."""
    others = [item for j, item in enumerate(items) if j != i]
    shown = random.Random(1234 + i).sample(others, min(task.shots, len(others)))

    def block(item: dict, option: int) -> str:
        if task.kind == "multiple_choice":
            return item["query"] + task.delimiter + item["choices"][option]
        if task.kind == "schema":
            return item["context_options"][option] + task.delimiter + item["continuation"]
        return item["context"].strip() + task.delimiter + item["continuation"]

    def tokens(text: str) -> list[int]:
        return [tokenizer.get_bos_token_id(), *tokenizer.encode(text)]

    before = [block(item, item.get("gold", 0)) for item in shown]
    n_options = len(items[i].get("choices") or items[i].get("context_options") or "1")
    rows = [tokens("\n\n".join([*before, block(items[i], option)])) for option in range(n_options)]
    T = max(len(row) for row in rows)
    logits = forward(torch.tensor([row + [0] * (T - len(row)) for row in rows]))  # (options, T, V)

    if task.kind == "language_modeling":
        asked = tokens("\n\n".join([*before, items[i]["context"].strip() + task.delimiter]).strip())
        first = min(len(asked), len(rows[0]) - 1)
        while rows[0][:first] != asked[:first]:
            first -= 1
        first = max(first, 1)
        return logits[0, first - 1 : len(rows[0]) - 1].argmax(-1).tolist() == rows[0][first:]

    if task.kind == "multiple_choice":
        shared = 0
        while all(shared < len(row) and row[shared] == rows[0][shared] for row in rows):
            shared += 1
        starts = [min(shared, min(map(len, rows)) - 1)] * n_options
    else:
        shared = 0
        while all(shared < len(row) and row[-1 - shared] == rows[0][-1 - shared] for row in rows):
            shared += 1
        starts = [len(row) - shared for row in rows]
    losses = []
    for row, start, scores in zip(rows, starts, logits, strict=True):
        start = max(1, start)
        losses.append(F.cross_entropy(scores[start - 1 : len(row) - 1], torch.tensor(row[start:])).item())
    return losses.index(min(losses)) == items[i]["gold"]


def reference_outcomes(forward, tokenizer, task: CoreTask, max_per_task: int = -1) -> list[bool]:
    items = read_items(task)
    random.Random(1337).shuffle(items)
    items = items if max_per_task < 0 else items[:max_per_task]
    with torch.no_grad():
        return [reference(forward, tokenizer, task, items, i) for i in range(len(items))]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("count", "shots"), [(1, 0), (1, 3), (3, 10), (41, 0), (41, 2)])
def test_outcomes_are_those_of_the_reference(kind, count, shots, model, scorer, tokenizer, tmp_path):
    task = task_with(tmp_path, kind, invented(kind, count), shots, "\nAnswer: " if shots == 2 else " ")
    longest = max(len(tokenizer.encode(text)) for i in range(count) for text in prompts(task, choose_items(read_items(task)), i))
    assert longest < CONTEXT
    wanted = reference_outcomes(model, tokenizer, task)
    for budget in (1, 700, 100_000):
        assert evaluate_task(scorer, task, tokenizer, budget=budget).outcomes == wanted
    if count == 41 and kind != "language_modeling":
        assert 4 < sum(wanted) < 37  # it means something


def test_language_modeling_that_is_right(tokenizer, tmp_path, one_thread):
    """A random model knows no answer, so here is one that has read them: it predicts what follows in the texts it is given."""
    items = [{"context": f"{name} lives in", "continuation": place} for name, place in
             (("Anna", "Rome"), ("Ben", "a very old house"), ("Mia", "7 rooms "), ("Tom", "\n\nParis"), ("Zoe", "it"))]  # fmt: skip
    task = task_with(tmp_path, "language_modeling", items, shots=2)
    chosen = choose_items(read_items(task))
    known = [tokenizer.encode(prompts(task, chosen, i)[1], prepend=tokenizer.get_bos_token_id()) for i in range(5)]
    known[1][-1] = known[4][-1] = 77  # of these it has another end in mind

    def forward(ids):
        logits = torch.zeros(*ids.shape, 1024)
        for row, given in zip(logits, ids.tolist(), strict=True):
            for text in known:
                for t in range(len(text) - 1):
                    if given[: t + 1] == text[: t + 1]:
                        row[t, text[t + 1]] = 9
        return logits

    assert evaluate_task(PlainScorer(forward), task, tokenizer).outcomes == [True, False, True, True, False]
    assert reference_outcomes(forward, tokenizer, task) == [True, False, True, True, False]


@pytest.mark.skipif(not REAL.is_dir(), reason="no real CORE data here; name its folder's parent in NANOCHAT_TEST_DATA")
def test_the_real_data_against_the_reference(model, scorer, tokenizer):
    for task in read_tasks(REAL):
        few = task._replace(shots=min(task.shots, 1))  # all of it would take minutes
        items = choose_items(read_items(few), 4)
        if max(len(row) for i in range(4) for row in render(few, items, i, tokenizer).options) <= CONTEXT:
            assert evaluate_task(scorer, few, tokenizer, 4).outcomes == reference_outcomes(model, tokenizer, few, 4), task.label
        else:
            assert evaluate_task(scorer, few, tokenizer, 4, max_tokens=CONTEXT).cut > 0


# --- prompts ---------------------------------------------------------------------------------------------------------


def test_prompts_of_multiple_choice():
    items = [{"query": f"Q{i}", "choices": ["no", f"yes{i}"], "gold": 1} for i in range(4)]
    task = CoreTask("t", Path(), "multiple_choice", 2, "\nA: ")
    a, b = random.Random(1234 + 1).sample([0, 2, 3], 2)
    before = f"Q{a}\nA: yes{a}\n\nQ{b}\nA: yes{b}\n\n"
    assert prompts(task, items, 1) == [before + "Q1\nA: no", before + "Q1\nA: yes1"]


def test_prompts_of_schema():
    items = [{"context_options": [f"he{i}", f"she{i}"], "continuation": "left.", "gold": i % 2} for i in range(2)]
    assert prompts(CoreTask("t", Path(), "schema", 5), items, 0) == ["she1 left.\n\nhe0 left.", "she1 left.\n\nshe0 left."]


def test_prompts_of_language_modeling():
    items = [{"context": " one \n", "continuation": "two "}, {"context": "three", "continuation": "\n\nfour"}]
    task = CoreTask("t", Path(), "language_modeling", 1)
    assert prompts(task, items, 1) == ["one two \n\nthree", "one two \n\nthree \n\nfour"]
    assert prompts(task._replace(delimiter="\nAnswer: ", shots=0), items, 0) == ["one\nAnswer:", "one\nAnswer: two "]


def test_few_shot_draws_are_those_of_the_list_of_others():
    items = [{"context": str(i), "continuation": "!"} for i in range(50)]
    task = CoreTask("t", Path(), "language_modeling", 10)
    for i in range(50):
        others = [item["context"] for j, item in enumerate(items) if j != i]
        assert prompts(task, items, i)[1].split("\n\n") == [f"{c} !" for c in [*random.Random(1234 + i).sample(others, 10), str(i)]]


def test_what_is_scored(tokenizer):
    items = [{"query": "The sky is", "choices": ["blue", "green today"], "gold": 0}]
    example = render(CoreTask("t", Path(), "multiple_choice", 0), items, 0, tokenizer)
    texts = [tokenizer.decode(option[start:]) for option, start in zip(example.options, example.starts, strict=True)]
    assert texts == [" blue", " green today"]
    items = [{"context_options": ["Anna", "Old Ben"], "continuation": "left early.", "gold": 1}]
    example = render(CoreTask("t", Path(), "schema", 0), items, 0, tokenizer)
    assert {tokenizer.decode(option[start:]) for option, start in zip(example.options, example.starts, strict=True)} == {" left early."}
    assert example.gold == 1 and not example.whole
    items = [{"context": "one and", "continuation": "two", "gold": 3}]
    example = render(CoreTask("t", Path(), "language_modeling", 0), items, 0, tokenizer)
    assert example.whole and example.gold == 0 and tokenizer.decode(example.options[0][example.starts[0] :]) == " two"


class Letters:
    """One token for each letter, but "ab" is one: it merges across the border between a context and what follows."""

    def get_bos_token_id(self) -> int:
        return 0

    def encode(self, texts, prepend):
        return [[prepend, *(ord(c) for c in text.replace("ab", "#"))] for text in texts]


def test_tokens_that_merge_across_the_border():
    task = CoreTask("t", Path(), "language_modeling", 0, "")
    example = render(task, [{"context": "xa", "continuation": "bc"}], 0, Letters())
    assert example.options == [[0, ord("x"), ord("#"), ord("c")]] and example.starts == [2]
    example = render(task, [{"context": "x", "continuation": ""}], 0, Letters())
    assert example.starts == [1]  # nothing was to be scored: the last token is
    task = task._replace(kind="multiple_choice")
    example = render(task, [{"query": "x", "choices": ["y", "yz", "y"], "gold": 0}], 0, Letters())
    assert example.starts == [2, 2, 2]  # an option that all others begin with has its last token scored, and so have the others
    example = render(task._replace(kind="schema"), [{"context_options": ["x", "ax"], "continuation": "b", "gold": 0}], 0, Letters())
    assert example.starts == [1, 2]


def test_cropping_keeps_the_end():
    example = Example(0, 1, [[9, 1, 2, 3, 4], [9, 1], [9, 5, 6, 7, 8]], [3, 1, 2], False)
    cut = crop(example, 3)
    assert cut.options == [[2, 3, 4], [9, 1], [6, 7, 8]] and cut.starts == [1, 1, 1]  # the first token that is left is predicted by nothing
    assert crop(example, 5) == example


# --- batches, ranks, decisions ---------------------------------------------------------------------------------------


def examples_of(lengths: list[int], options: int = 2) -> list[Example]:
    return [Example(i, 0, [[0] * n] + [[0] * 2] * (options - 1), [1] * options, False) for i, n in enumerate(lengths)]


def test_batches_fit_the_budget():
    r = random.Random(3)
    examples = examples_of([r.randint(2, 90) for _ in range(200)])
    made = batches(examples, 400)
    assert sorted(e.index for batch in made for e in batch) == list(range(200))
    sizes = [max(len(option) for e in batch for option in e.options) for batch in made]
    assert sizes == sorted(sizes, reverse=True)
    assert all(2 * len(batch) * size <= 400 for batch, size in zip(made, sizes, strict=True))
    assert all(2 * (len(batch) + 1) * size > 400 for batch, size in zip(made[:-1], sizes, strict=False))  # and are full
    assert [len(batch) for batch in batches(examples, 1)] == [1] * 200  # one at least
    assert batches([], 400) == []


@pytest.mark.parametrize("world_size", [1, 2, 3, 8])
def test_ranks_have_like_amounts_of_work(world_size):
    r = random.Random(4)
    made = batches(examples_of([r.randint(2, 500) for _ in range(500)]), 2000)
    shares = deal(made, world_size)
    assert sorted(e.index for share in shares for batch in share for e in batch) == list(range(500))
    work = [sum(len(option) for batch in share for e in batch for option in e.options) for share in shares]
    assert max(work) < 1.05 * min(work)
    assert len(deal(made[:1], world_size)) == world_size  # some have nothing to do


def test_ties_and_nans():
    def says(*losses):
        return lambda batch: [[(loss, True) for loss in losses[: len(example.options)]] for example in batch]

    three = Example(0, 1, [[0, 1], [0, 2], [0, 3]], [1, 1, 1], False)
    assert judge(says(2.0, 1.0, 1.0), [three]) == [True]  # the first of the lowest
    assert judge(says(1.0, 1.0, 2.0), [three]) == [False]
    assert judge(says(math.nan, 1.0, 2.0), [three]) == [True]
    assert judge(says(math.nan, math.nan, math.nan), [three]) == [False]


def test_options_that_are_the_same_are_scored_once():
    """Two rows of a product may differ in their last bit; equal options must not."""
    seen = []

    def score(batch):
        seen.extend(len(example.options) for example in batch)
        return [[(-float(k), True) for k in range(len(example.options))] for example in batch]

    twice = [Example(i, gold, [[0, 1], [0, 1], [0, 2], [0, 1]], [1] * 4, False) for i, gold in enumerate(range(4))]
    assert judge(score, twice) == [False, False, True, False] and seen == [2] * 4  # of the repeated ones none but the first could win
    assert judge(score, [Example(0, 0, [[0, 1]] * 3, [1] * 3, False)]) == [True]


RANKS = """
import json, os, signal, sys
import torch, torch.distributed as dist
torch.set_num_threads(1)
sys.path.insert(0, {tests!r})
from pathlib import Path
from nanochat.common import Compute
from nanochat.core_eval import PlainScorer, evaluate_core
from nanochat.core_scoring import CachedScorer
from nanochat.tokenizer import Tokenizer
from test_core_eval import opinionated_model

def run(rank):
    signal.alarm(200)
    dist.init_process_group("gloo", init_method="file://{folder}/store", rank=rank, world_size=2)
    calls = []
    model = opinionated_model()
    score = {scorer}(model)
    scorer = lambda batch: (calls.append(sum(len(option) for example in batch for option in example.options)), score(batch))[1]
    compute = Compute(True, rank, rank, 2, torch.device("cpu"))
    result = evaluate_core(scorer, Tokenizer.from_directory(Path({tokenizer!r})), Path({bundle!r}), 150, 100_000, compute, 64)
    result["work"] = sum(calls)
    Path("{folder}", f"{{rank}}.json").write_text(json.dumps(result))
"""


def test_options_side_by_side_and_options_as_rows(model, one_thread):
    """In one batch: questions that share much, little or nothing but the first token, with options of one token and of hundreds."""
    r = random.Random(11)

    def tokens(count: int) -> list[int]:
        return [r.randrange(1024) for _ in range(count)]

    batch = []
    for shared, sizes in ((0, (1, 3)), (300, (4, 1, 20)), (17, (2, 2)), (5, (300, 280)), (400, (500, 450, 3)), (40, (1, 1, 1, 1)), (0, (200, 1))):
        context = [5, *tokens(shared)]
        batch.append(Example(0, 0, [context + tokens(size) for size in sizes], [len(context)] * len(sizes), False))
    end = tokens(7)
    contexts = [[5, *tokens(90), *tokens(size)] for size in (3, 1, 40)]
    batch.append(Example(0, 0, [context + end for context in contexts], [len(context) for context in contexts], False))
    for some in (batch, batch[:1], batch[3:5], batch[::-1]):
        for mine, theirs in zip(CachedScorer(model)(some), PlainScorer(model)(some), strict=True):
            assert [loss for loss, _ in mine] == pytest.approx([loss for loss, _ in theirs], abs=1e-5)
            assert [right for _, right in mine] == [right for _, right in theirs]


def test_prompts_longer_than_the_context(tokenizer, tmp_path, one_thread, monkeypatch):
    """They are seen through the model's windows, as if it had longer tables of positions."""
    monkeypatch.setenv("NANOCHAT_DTYPE", "float32")
    narrow, wide = opinionated_model(context=64), opinionated_model()
    wide.windows = narrow.windows
    task = task_with(tmp_path, "multiple_choice", invented("multiple_choice", 12), 3)
    result = evaluate_task(CachedScorer(narrow), task, tokenizer, max_tokens=core_eval.longest_prompt(narrow.config), context=64)
    assert result.outcomes == evaluate_task(PlainScorer(wide), task, tokenizer).outcomes
    assert result.long > 0 and result.cut == 0


def test_two_ranks_see_what_one_sees(model, scorer, tokenizer, in_small_world, tmp_path, monkeypatch, capfd):
    monkeypatch.setenv("NANOCHAT_BASE_DIR", str(tmp_path))
    monkeypatch.setenv("NANOCHAT_DTYPE", "float32")
    bundle = get_bundle("tinyworld")
    alone = evaluate_core(scorer, tokenizer, bundle, 150, 100_000, max_tokens=64)
    said = capfd.readouterr().out
    assert "longer than the 64 tokens" in said and "tinyworld_quiz 1" in said
    code = (RANKS + FORK_TWO).format(
        tests=str(Path(__file__).parent),
        folder=tmp_path,
        tokenizer=str(in_small_world / "tokenizer_tinyworld"),
        bundle=str(bundle),
        scorer=type(scorer).__name__,
    )
    run = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=240)
    assert run.returncode == 0, run.stderr
    first, second = (json.loads((tmp_path / f"{rank}.json").read_text()) for rank in (0, 1))
    for result in (first, second):
        assert result["core_metric"] == alone["core_metric"]
        assert {label: task["outcomes"] for label, task in result["tasks"].items()} == {
            label: task["outcomes"] for label, task in alone["tasks"].items()
        }
    assert 0.8 < first["work"] / second["work"] < 1.25
    assert run.stdout.count("note: ") == 1


# --- the metric ------------------------------------------------------------------------------------------------------


def test_core_is_the_mean_of_what_is_above_guessing(tokenizer, tmp_path):
    bundle = tmp_path / "bundle"
    (bundle / "eval_data").mkdir(parents=True)
    (bundle / "core.yaml").write_text("icl_tasks:\n"
        "- {label: easy, dataset_uri: a.jsonl, num_fewshot: [0], icl_task_type: multiple_choice}\n"
        "- {label: hard, dataset_uri: a.jsonl, num_fewshot: [1], icl_task_type: multiple_choice}\n")  # fmt: skip
    (bundle / "eval_meta_data.csv").write_text("Eval Task,Random baseline\neasy,50\nhard,20\n")
    items = [{"query": f"q{i}", "choices": ["a", "b"], "gold": int(i < 3)} for i in range(4)]
    (bundle / "eval_data" / "a.jsonl").write_text("".join(json.dumps(item) + "\n" for item in items))
    lines = []

    def score(batch):  # always the first, which is right once in four times
        return [[(float(k), False) for k in range(len(example.options))] for example in batch]

    result = evaluate_core(score, tokenizer, bundle, tell=lines.append)
    assert result["results"] == {"easy": 0.25, "hard": 0.25}
    assert result["centered_results"] == {"easy": -0.5, "hard": pytest.approx(0.0625)}
    assert result["core_metric"] == pytest.approx((-0.5 + 0.0625) / 2)
    assert sorted(result["tasks"]["easy"]["outcomes"]) == [False, False, False, True] and result["tasks"]["easy"]["examples"] == 4
    assert len(lines) == 2 and "hard" in lines[1] and "1-shot" in lines[1]
    assert evaluate_core(score, tokenizer, bundle, max_per_task=3)["tasks"]["easy"]["examples"] == 3


def test_compute_of_one_rank(scorer, tokenizer, tmp_path):
    task = task_with(tmp_path, "schema", invented("schema", 5), 0)
    assert evaluate_task(scorer, task, tokenizer, compute=Compute(False, 0, 0, 1, torch.device("cpu"))) is not None


# --- as a command ----------------------------------------------------------------------------------------------------


def test_the_command(run_module, tokenizer, tmp_path):
    torch.manual_seed(1)
    model = new_model(GPTConfig(128, 1024, n_layer=2, n_head=2, n_kv_head=2, n_embd=32, window_pattern="L"), "cpu")
    meta = {"user_config": {"dataset": "tinyworld"}}
    CheckpointManager(tmp_path / "some").save(3, model, None, meta, tokenizer=tokenizer)
    run = run_module("nanochat.core_eval", "--checkpoint", str(tmp_path / "some"), "--max-per-task", "5", "--device-type", "cpu")
    assert run.returncode == 0, run.stderr
    assert run.stdout.count("accuracy") == 5 and "CORE of step 3" in run.stdout
    assert (tmp_path / "eval_bundle_tinyworld" / "core.yaml").exists()
    run = run_module("nanochat.core_eval", "--checkpoint", str(tmp_path / "other"))
    assert run.returncode == 1 and "no whole checkpoint" in run.stderr and "Traceback" not in run.stderr
    run = run_module("nanochat.core_eval", "--checkpoint", str(tmp_path / "some"), "--bundle", str(tmp_path))
    assert run.returncode == 1 and "core.yaml" in run.stderr


def test_which_bundle():
    assert core_eval.bundle_for("tinyworld") == "tinyworld"
    assert core_eval.bundle_for("climbmix") == core_eval.bundle_for(None) == "core"
    assert core_eval.trained_on({"user_config": {"dataset": "x"}}) == "x"
    assert core_eval.trained_on({}) is core_eval.trained_on({"user_config": None}) is None
