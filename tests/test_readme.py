"""What the README and the heads of the recipes say, tried: every command they show, every snippet, every name, and the table of the dial.

Bash itself reads the commands. Each piece of text that shows some is run as it stands, recipes included, in a folder that looks like a checkout, with
stand-ins for `python` and `torchrun` on the PATH that note how they were called and do nothing. Then the real parsers get what was noted. A command
counts as tried if its variables are known, its module is there, and that takes these very flags. What the commands do is the matter of other tests.
"""

import argparse
import ast
import importlib
import importlib.util
import re
import signal
import subprocess
import sys
import xml.etree.ElementTree
from collections.abc import Iterator
from pathlib import Path

import pytest
from loopback_server import served, tiny_model

from nanochat.checkpoint_manager import CheckpointManager
from nanochat.engine import Engine
from nanochat.hardware import parse_device
from scripts import base_train
from tasks import catalog

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
RECIPES = sorted(path for path in (ROOT / "runs").iterdir() if path.suffix in (".sh", ".slurm"))
PAGES = [ROOT / "README.md", ROOT / "dev" / "LEADERBOARD.md", ROOT / "dev" / "RECORDS.md"]  # dev/LOG.md says what was, not what is
MODULES = sorted(path for folder in ("nanochat", "scripts", "tasks", "dev") for path in (ROOT / folder).glob("*.py"))
OUR_FOLDERS = ("nanochat", "scripts", "tasks", "runs", "dev", "tests")
SUFFIXES = ("csv", "html", "json", "jsonl", "md", "pkl", "png", "pt", "py", "sh", "svg", "toml", "txt", "yaml")
CODE = "\n".join(path.read_text(encoding="utf-8") for path in [*MODULES, *RECIPES, *(ROOT / "nanochat").glob("cpu_*"),
                                                               *(ROOT / "nanochat").glob("*.html"), ROOT / "pyproject.toml"])  # fmt: skip

# --- where commands stand ------------------------------------------------------------------------------------------------

COMMAND = r"(?:\w+=(?:\"[^\"]*\"|\S*) +)*(?:python3? -m |torchrun |bash runs/|sbatch )\S+"  # variables, a program, its first word


def fenced(text: str, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)


def prose(text: str) -> str:
    """Without what is fenced, and lines joined: a command may be broken over two of them."""
    return re.sub(r"\s*\n\s*", " ", re.sub(r"^```.*?^```$", "", text, flags=re.MULTILINE | re.DOTALL))


def quoted(text: str) -> list[str]:
    return re.findall(r"`([^`]+)`", text)


def head_of(recipe: Path) -> str:
    """The comment at its top, without the signs of one."""
    return re.sub(r"^# ?", "", re.match(r"(?:#.*\n)+", recipe.read_text(encoding="utf-8"))[0], flags=re.MULTILINE)


def shown() -> Iterator[tuple[str, str]]:
    """(where, a piece of bash) for everything that is shown to be typed."""
    for page in PAGES:
        text = page.read_text(encoding="utf-8")
        for number, block in enumerate(fenced(text, "bash"), 1):
            yield f"{page.name}-{number}", block
        if inline := [code for code in quoted(prose(text)) if re.match(COMMAND, code)]:
            yield f"{page.name}-inline", "\n".join(inline)
    for path in [*RECIPES, *MODULES]:
        text = head_of(path) if path in RECIPES else ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or ""
        lines = [line.strip() for line in re.sub(r"\\\n", " ", text).splitlines() if line.startswith("  ")]
        lines = [line for line in lines if re.match(rf"(?:echo .*\| *)?{COMMAND}", line)]
        if lines := lines + [code for code in quoted(prose(text)) if re.match(COMMAND, code)]:
            yield f"{path.parent.name}/{path.name}", "\n".join(lines)


SHOWN = dict(shown())
assert len(SHOWN) > 30, "the search for commands does not find them any more"

# --- commands ------------------------------------------------------------------------------------------------------------

STAND_IN = r"""#!/usr/bin/env bash
{ printf '%s\037' "${0##*/}" "$@"; } >"$(mktemp "$CALLS/XXXXXXXX")"
cat >/dev/null  # whoever writes into a pipe to it must not find it closed
case "$*" in *" dev.scaling_analysis finished "*) grep -qrse "--model-tag=${!#}" "$CALLS" ;; esac  # a question: it is, if somebody trained it
"""


@pytest.fixture
def calls_of(tmp_path):
    """Run a piece of bash, and give back how it called Python and torchrun."""
    tools, calls, checkout = (tmp_path / name for name in ("tools", "calls", "checkout"))
    for folder in (tools, calls, checkout / ".venv" / "bin"):
        folder.mkdir(parents=True)
    (checkout / ".venv" / "bin" / "activate").touch()
    for name in ("nanochat", "scripts", "tasks", "dev", "runs", "pyproject.toml"):
        (checkout / name).symlink_to(ROOT / name)
    for name in ("python", "python3", "torchrun", "sbatch"):
        (tools / name).write_text(STAND_IN)
        (tools / name).chmod(0o755)
    env = {
        "PATH": f"{tools}:/usr/bin:/bin",
        "HOME": str(tmp_path),
        "CALLS": str(calls),
        "NANOCHAT_BASE_DIR": str(tmp_path / "base"),
        "SKIP_SETUP": "1",
    }

    def run(script: str) -> set[tuple[str, ...]]:
        script = "set -euo pipefail\n" + re.sub(r"NANOCHAT_BASE_DIR=\S+", f"NANOCHAT_BASE_DIR={env['NANOCHAT_BASE_DIR']}", script)
        result = subprocess.run(["bash", "-c", script], cwd=checkout, env=env, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=120)
        assert result.returncode == 0, f"{script}\n{result.stdout[-2000:]}{result.stderr[-2000:]}"
        return {tuple(path.read_text().split("\037")[:-1]) for path in calls.iterdir()}

    return run


@pytest.fixture
def parity(monkeypatch) -> type:
    """The task that the README adds, added."""
    snippet = next(block for block in fenced(README, "python") if "Task" in block)
    namespace: dict = {}
    exec(snippet, namespace)
    for name, table in (("Parity", catalog.EVALUATIONS), ("parity", catalog.RL_TASKS)):
        line = next(code for code in quoted(prose(README)) if code.startswith(f'"{name}": '))
        monkeypatch.setitem(table, name, eval("{" + line + "}", namespace)[name])
    return namespace["Parity"]


def module_and_flags(call: tuple[str, ...]) -> tuple[str, list[str]]:
    """What is started in the end, and what it is told. torchrun has a look at its own flags."""
    program, *words = call
    if program != "torchrun":
        assert words[:1] == ["-m"], f"{call}: python is shown with -m and a module only"
        return words[1], words[2:]
    from torch.distributed.run import parse_args

    args = parse_args(words)
    assert args.module, f"{call}: torchrun is shown with -m and a module only"
    return args.training_script, args.training_script_args


def parsed(module: str, flags: list[str], monkeypatch) -> argparse.Namespace | None:
    """What the module makes of the flags; None for modules that are not ours."""
    if not (ROOT / f"{module.replace('.', '/')}.py").exists():
        assert importlib.util.find_spec(module), f"there is no module {module}"
        return None
    monkeypatch.setattr(sys, "argv", [module, *flags])
    return importlib.import_module(module).parse_args()


@pytest.mark.parametrize("where", SHOWN)
def test_every_command_is_one(where, calls_of, parity, monkeypatch, capsys):
    calls = calls_of(SHOWN[where])
    assert calls, "no command was noted"
    for call in calls:
        if call[0] == "sbatch":
            assert (ROOT / call[-1]).is_file()
            continue
        if call[1] == "-c":
            compile(call[2], where, "exec")
            continue
        try:
            args = parsed(*module_and_flags(call), monkeypatch)
        except SystemExit:
            pytest.fail(f"{' '.join(call)}\n{capsys.readouterr().err}")
        if getattr(args, "dry_run", None) not in (None, "here"):
            parse_device(args.dry_run)
        if hasattr(args, "data"):  # what parse_args leaves to later; chat_eval looks at its tasks at once
            catalog.parse_mixture(args.data, None)
        if hasattr(args, "task"):
            assert args.task in catalog.RL_TASKS


SOURCED = r"^source .*?(\w+\.sh)"


def test_recipes_are_shown():
    """Each recipe is run above by a command that its own head shows, but for those that others source."""
    for path in RECIPES:
        subprocess.run(["bash", "-n", path], check=True)
        is_sourced = any(path.name in re.findall(SOURCED, other.read_text(encoding="utf-8"), re.MULTILINE) for other in RECIPES)
        assert is_sourced or re.search(rf"^ +.*\bs?ba(sh|tch) .*{path.name}", head_of(path), re.MULTILINE), f"{path.name}: show how it is started"


def sources_of(recipe: Path) -> str:
    text = recipe.read_text(encoding="utf-8")
    return text + "".join(sources_of(recipe.with_name(name)) for name in re.findall(SOURCED, text, re.MULTILINE))


def reads(variable: str, text: str) -> bool:
    """A recipe says what holds where the variable is not set: ${NAME:-…} or ${NAME:+…}, or := in the same way."""
    return bool(re.search(rf"\$\{{{variable}:?[-+=]|environ.*[\"']{variable}[\"']", text))


def test_every_variable_is_read_by_somebody():
    """VARIABLE=… before a command, and in the lists in the heads of recipes."""
    python = "\n".join(path.read_text(encoding="utf-8") for path in MODULES)
    found = 0
    for where, script in SHOWN.items():
        for given, recipe in re.findall(r"^((?:\w+=(?:\"[^\"]*\"|\S*) +)+)(?:bash runs/(\S+)|python |torchrun )", script, re.MULTILINE):
            for variable in re.findall(r"(\w+)=", re.sub(r'"[^"]*"', "", given)):
                readers = sources_of(ROOT / "runs" / recipe) if recipe else "${OMP_NUM_THREADS:-}"  # which torch reads
                assert reads(variable, readers) or reads(variable, python), f"{where}: nobody reads {variable}"
                found += 1
    for path in RECIPES:
        together = "".join(
            sources_of(other) for other in RECIPES if path.read_text(encoding="utf-8") in sources_of(other)
        )  # with those that source it
        for variable in re.findall(r"^ +([A-Z][A-Z_]+)=", head_of(path), re.MULTILINE):
            assert reads(variable, together), f"{path.name} does not read {variable}"
            found += 1
    assert found > 20


# --- names ---------------------------------------------------------------------------------------------------------------


def parser_of(module: str) -> argparse.ArgumentParser:
    """The parser that parse_args makes, before it parses."""

    class Stop(Exception):
        pass

    def stop(self, *_):
        raise Stop(self)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(argparse.ArgumentParser, "parse_args", stop)
        try:
            importlib.import_module(module).parse_args()
        except Stop as stopped:
            return stopped.args[0]
    raise AssertionError(f"{module}.parse_args makes no parser")


def flags_of(parser: argparse.ArgumentParser) -> set[str]:
    flags = set(parser._option_string_actions)
    for action in parser._subparsers._group_actions if parser._subparsers else ():
        flags |= set().union(*(flags_of(sub) for sub in action.choices.values()))
    return flags


@pytest.fixture(scope="module")
def flags() -> set[str]:
    """All that any of our commands takes, and torchrun's."""
    from torch.distributed.run import get_args_parser

    with_parsers = [path for path in MODULES if "\ndef parse_args(" in path.read_text(encoding="utf-8")]
    parsers = [get_args_parser(), *(parser_of(f"{path.parent.name}.{path.stem}") for path in with_parsers)]
    return {"--"}.union(*map(flags_of, parsers))


def names_in(code: str) -> list[str]:
    """The words of a piece of code that must be known to somebody. What stands for something else is left out: UPPER CASE, <…>, … and numbers."""
    words = re.sub(r"<[^|>]*>|\{[\w,]+\}|…|\[:STEP\]", " ", code).replace("=", " ").split()
    return [word for word in words if not re.fullmatch(r"[\W\d]*|[A-Z]+|\d+e\d+|\w", word)]


@pytest.mark.parametrize("page", PAGES, ids=lambda path: path.name)
def test_what_is_quoted_is_there(page, flags):
    """A flag is known to a parser, a file is in the repository, and anything else stands in the code. A flag that is renamed must be renamed here."""
    unknown = []
    for code in quoted(prose(page.read_text(encoding="utf-8"))):
        if re.match(COMMAND, code) or code.startswith(('"Parity', '"parity')) or (code in CODE and "-" not in code and "/" not in code):
            continue  # they are tried above, or stand in the code as they are
        for word in names_in(code):
            name = word.strip("()\"'{},:;.").removeprefix("$")
            if word.startswith("-"):
                fine = word in flags
            elif name.partition("/")[0] in OUR_FOLDERS:
                fine = any(ROOT.glob(name.rstrip("/")))
            elif re.fullmatch(r"[a-z]+\.[a-z]+", name) and name.rpartition(".")[2] not in SUFFIXES:  # a field of something
                fine = all(part in CODE for part in name.split("."))
            else:
                fine = name.rstrip("/") in CODE or (ROOT / name).exists()
            if not fine:
                unknown.append(f"{word} in `{code}`")
    assert not unknown, unknown


def test_the_messages_are_ours():
    """What the table of symptoms quotes, the code says, word for word."""
    constants = [node.value for path in MODULES for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
                 if isinstance(node, ast.Constant) and isinstance(node.value, str)]  # fmt: skip
    table = README.partition("| what you see |")[2].partition("\n\n")[0]
    messages = [code for row in table.splitlines()[2:] for code in quoted(row.split("|")[1]) if " " in code and not code.startswith("-")]
    assert len(messages) > 12
    for message in messages:
        assert any(message in constant for constant in constants), message


def test_links_and_pictures():
    links = re.findall(r"\]\(([^)#:]+)\)", README)
    assert "dev/architecture.svg" in links
    for link in links:
        assert (ROOT / link).is_file(), link
    picture = xml.etree.ElementTree.parse(ROOT / "dev" / "architecture.svg")
    for text in picture.iter("{http://www.w3.org/2000/svg}text"):
        if "mono" in (text.get("class") or ""):
            assert all(word in CODE for word in re.findall(r"\w+", text.text)), text.text


def test_the_layout_has_every_module():
    layout = re.search(r"^## Layout\n\n```\n(.*?)^```", README, re.MULTILINE | re.DOTALL)[1]
    for name in re.findall(r"[\w/*]+\.(?:py|html)\b", layout):
        assert any((ROOT / folder / name).exists() for folder in ("nanochat", "tasks")) or any((ROOT / "nanochat").glob(name)), name
    named = re.findall(r"[\w*]+", layout)
    for path in (ROOT / "nanochat").glob("*.py"):
        known = path.stem in named or any("*" in name and Path(path.stem).match(name) for name in named)
        assert known or path.stem == "__init__", f"the layout lacks nanochat/{path.name}"


# --- snippets and how-tos ------------------------------------------------------------------------------------------------


@pytest.fixture
def base(small_world, tmp_path, monkeypatch) -> Path:
    """A base dir with the data of small_world, to write into."""
    for name in ("base_data_tinyworld", "tokenizer_tinyworld"):
        (tmp_path / name).symlink_to(small_world / name)
    monkeypatch.setenv("NANOCHAT_BASE_DIR", str(tmp_path))
    return tmp_path


def test_every_snippet_is_run_by_a_test():
    first_lines = [block.splitlines()[0] for block in fenced(README, "python")]
    assert first_lines == ["from tasks.common import Task, chat", "from openai import OpenAI", "from nanochat.checkpoint_manager import load_model"]


def test_the_snippet_of_a_task(parity):
    practised, tested = catalog.rl_tasks("parity")
    assert len(practised) == 900 and len(tested) == 100 and len(parity()) == 1000
    task = catalog.evaluation_task("Parity")
    assert task.eval_type == "generative" and catalog.baseline("Parity") == 0.5
    assert task.evaluate(task[7], "It is odd.") and not task.evaluate(task[8], "odd") and task.reward(task[8], "even") == 1


def test_the_snippet_of_a_client(tokenizer, one_thread, monkeypatch, capsys):
    monkeypatch.setenv("NANOCHAT_DTYPE", "float32")
    snippet = next(block for block in fenced(README, "python") if "OpenAI" in block)
    with served(Engine(tiny_model(tokenizer.get_vocab_size()), tokenizer, max_rows=1), max_tokens=16) as server:
        assert "http://127.0.0.1:8000" in snippet
        exec(snippet.replace("http://127.0.0.1:8000", server.url), {})
    assert capsys.readouterr().out


def test_the_snippet_of_the_engine(base, tokenizer, one_thread, monkeypatch, capsys):
    monkeypatch.setenv("NANOCHAT_DTYPE", "float32")
    CheckpointManager(base / "base_checkpoints" / "d2").save(3, tiny_model(tokenizer.get_vocab_size()), tokenizer=tokenizer)
    exec(next(block for block in fenced(README, "python") if "InferenceEngine" in block), {})
    assert capsys.readouterr().out


def test_your_own_text(base, tmp_path, monkeypatch, one_thread, capsys):
    """The commands under that title, one after the other, on a little text and with a small model."""
    (tmp_path / "notes").mkdir()
    for number in range(20):
        (tmp_path / "notes" / f"{number}.md").write_text(
            f"# Day {number}\n\n" + f"Today it rained {number} times, and {number + 1} birds came by. " * 9
        )
    size = ["--aspect-ratio", "16", "--head-dim", "16", "--depth", "2", "--device-batch-size", "2", "--total-batch-size", "512",
            "--num-iterations", "2", "--warmup-steps", "1", "--eval-tokens", "512", "--core-metric-every", "-1", "--sample-every", "-1"]  # fmt: skip
    monkeypatch.setattr("nanochat.hardware.measure_peak_flops", lambda *_: 1e12)
    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    block = README.partition("### Use your own text")[2].partition("```bash\n")[2].partition("```")[0]
    commands = [re.sub(r" +#.*", "", line).replace("~", str(tmp_path)).split()[2:] for line in block.splitlines()]
    assert [command[0].rpartition(".")[2] for command in commands] == ["dataset", "tok_train", "base_train", "base_train"]
    tags = {"mine": "d6", "d6_mine": "d6_mine"}  # the model that the last command goes on from is the one before
    for module, *flags in commands:
        if module.endswith("tok_train"):
            flags += ["--vocab-size", "300"]
        if module.endswith("base_train"):
            flags += [*size, "--model-tag", tags[flags[-1]]]
        monkeypatch.setattr(sys, "argv", [module, *flags])
        run = importlib.import_module(module)
        assert not run.main(run.parse_args()), module
    for number, handler in handlers.items():
        signal.signal(number, handler)
    assert (base / "base_checkpoints" / "d6_mine" / "summary.json").exists()


# --- the dial ------------------------------------------------------------------------------------------------------------

ROWS = re.findall(
    r"^\| (\d+) \| ([\d,]+) M \| ([\d,]+) M \| ([\d.]+) G \| (\S+) \| (\d+) \| ([\d.]+ \w+) \| \$([\d,]+) \| ([\d.]+ \w+) \|$", README, re.MULTILINE
)


@pytest.fixture
def dry_run(monkeypatch, capsys, tmp_path):
    """The numbers that a dry run prints, by the first words of their lines."""
    monkeypatch.setenv("NANOCHAT_BASE_DIR", str(tmp_path))

    def run(depth: str, device: str) -> dict[str, float]:
        monkeypatch.setattr(sys, "argv", ["base_train", "--depth", depth, "--dry-run", device])
        assert base_train.main(base_train.parse_args()) == 0
        lines = re.findall(r"^ *(\S+(?: \S+)*)  +([\d.,e+]+)", capsys.readouterr().out, re.MULTILINE)
        return {name: float(number.replace(",", "")) for name, number in lines}

    return run


def hours(number: float) -> str:
    return f"{number * 60:.0f} min" if number < 1 else f"{number:.1f} h"


def test_the_table_of_depths(dry_run):
    assert [row[0] for row in ROWS] == ["8", "12", "16", "20", "24", "26", "32"]
    for depth, *shown in ROWS:
        node, one = dry_run(depth, "8xH100"), dry_run(depth, "1xH100")
        assert shown == [
            f"{node['parameters'] / 1e6:,.0f}", f"{node['scaling parameters'] / 1e6:,.0f}", f"{node['tokens'] / 1e9:.1f}", f"{node['FLOPs']:.1e}",
            f"{node['total']:.0f}", hours(node["time"]), f"{node['cost']:,.0f}", hours(one["time"]),
        ]  # fmt: skip
