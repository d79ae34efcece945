"""The shape of the house, read off the syntax trees: who imports whom, and that importing does nothing."""

import ast
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent

# What each module of nanochat/ may import of nanochat. `common` is open to all. A module stands below everything that it may import.
MAY_IMPORT = {
    "common": set(),
    "hardware": {"common"},
    "schedule": set(),
    "scaling": {"common"},
    "execution": set(),
    "sandbox_runner": set(),
    "tinyworld_facts": set(),
    "tinyworld_plots": set(),
    "tinyworld": {"tinyworld_facts", "tinyworld_plots"},
    "tokenizer": {"common"},
    "cpu_kernels": {"common"},
    "flash_attention": {"cpu_kernels"},
    "kv_cache": {"cpu_kernels", "flash_attention"},
    "head_loss": {"cpu_kernels"},
    "gpt": {"common", "cpu_kernels", "flash_attention", "head_loss", "scaling"},
    "engine": {"common", "execution", "gpt", "kv_cache", "tokenizer"},
    "terminal": {"common", "engine", "tokenizer"},
    "serving": {"common", "engine"},
    "openai_api": {"common", "engine", "serving", "tokenizer"},
    "answers": {"engine", "openai_api", "tokenizer"},
    "server": {"answers", "common", "openai_api", "serving"},
    "core_scoring": {"gpt", "kv_cache"},
    "fp8": {"common", "gpt"},
    "fitting": {"common", "hardware", "scaling"},
    "train_log": {"common", "hardware"},
    "plots": {"common"},
    "hub": {"common"},
    "tinyworld_bundle": {"tinyworld_facts"},
    "core_bundle": {"common", "hub", "tinyworld_bundle", "tinyworld_facts"},
    "importing": {"common"},
    "dataset": {"common", "hub", "importing", "tinyworld"},
    "dataloader": {"common", "dataset", "tokenizer"},
    "optim": {"common", "cpu_kernels"},
    "training": {"common", "cpu_kernels", "optim"},
    "loss_eval": {"common"},
    "checkpoint_manager": {"common", "gpt", "tokenizer"},
    "resuming": {"checkpoint_manager", "common", "train_log"},
    "samples": {"common", "engine"},
    "core_eval": {"checkpoint_manager", "common", "core_bundle", "core_scoring", "tokenizer"},
    "chat_eval": {"common", "core_eval", "engine", "kv_cache", "tokenizer"},
    "rl": {"chat_eval", "engine"},
    "run_files": {"common"},
    "markdown": {"run_files"},
    "run_plots": {"markdown", "plots", "run_files"},
    "comparing": {"common", "markdown", "plots", "run_files", "train_log"},
    "report": {"common", "comparing", "hardware", "markdown", "run_files", "run_plots", "train_log"},
}
# Calls that may stand at the top level of a module: they make a constant out of constants.
PURE_CALLS = {"re.compile", "frozenset", "dict.fromkeys", "set", "tuple", "Path", "GPTConfig", "Metric", "field", "staticmethod"}
# Defining an operator is registering it with torch, which is as much as `def` does for a function.
PURE_CALLS |= {"torch.library.custom_op", "attention.register_autograd", "mlp.register_autograd"}
PURE_CALLS |= {"ConfigDict", "Field", "ServiceError", "Strict", "TypeVar", "model_validator"}


def python_files(*folders: str) -> list[Path]:
    return sorted(path for folder in folders for path in (ROOT / folder).glob("*.py"))


def tree_of(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"), str(path))


def imported_modules(tree: ast.Module) -> set[str]:
    """Every module a file imports, wherever in the file, as dotted names."""
    names = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are absolute here"
            names.add(node.module)
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
    return names


def siblings(tree: ast.Module, package: str) -> set[str]:
    return {
        name.split(".")[1]
        for name in imported_modules(tree)
        if name.startswith(package + ".") and (ROOT / package / f"{name.split('.')[1]}.py").exists()
    }


@pytest.mark.parametrize("path", python_files("nanochat"), ids=lambda path: path.stem)
def test_arrows_point_down(path):
    if path.stem == "__init__":
        assert not path.read_text().strip()
        return
    assert path.stem in MAY_IMPORT, f"{path.name} is new: say in this table what it may import"
    assert siblings(tree_of(path), "nanochat") <= MAY_IMPORT[path.stem]
    assert not siblings(tree_of(path), "scripts") and not siblings(tree_of(path), "tasks")


# What a task may import of nanochat. Of its own package it may import all.
TASKS_MAY_IMPORT = {"common", "execution", "tokenizer", "tinyworld", "tinyworld_facts", "tinyworld_bundle"}


@pytest.mark.parametrize("path", python_files("tasks"), ids=lambda path: path.stem)
def test_tasks_need_little(path):
    assert siblings(tree_of(path), "nanochat") <= TASKS_MAY_IMPORT
    assert not siblings(tree_of(path), "scripts")


def test_the_table_has_no_cycles():
    above: set[str] = set()
    for name, allowed in MAY_IMPORT.items():  # in the order of the table: only what stands above may be imported
        assert allowed <= above, f"{name} may import something that stands below it: {allowed - above}"
        above.add(name)


def test_no_script_imports_a_script():
    for path in python_files("scripts", "dev"):
        assert not siblings(tree_of(path), "scripts"), path


def test_no_globals():
    for path in python_files("nanochat", "scripts", "tasks", "dev"):
        for node in ast.walk(tree_of(path)):
            assert not isinstance(node, ast.Global), f"{path}:{node.lineno} has a global"


def runs_something(node: ast.AST) -> ast.AST | None:
    """The first call in a top-level statement that does more than make a constant; what stands in a function's body does not run."""
    if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
        inside = [*getattr(node, "decorator_list", []), *node.args.defaults, *node.args.kw_defaults]
    elif isinstance(node, ast.Call):
        if ast.unparse(node.func) not in PURE_CALLS:
            return node
        inside = [*node.args, *(keyword.value for keyword in node.keywords)]
    else:
        inside = list(ast.iter_child_nodes(node))
    return next((found for child in inside if child is not None and (found := runs_something(child))), None)


@pytest.mark.parametrize("path", python_files("nanochat", "scripts", "tasks", "dev"), ids=lambda path: f"{path.parent.name}/{path.stem}")
def test_nothing_runs_at_import(path):
    allowed = (ast.Import, ast.ImportFrom, ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef, ast.Assign, ast.AnnAssign)
    for node in tree_of(path).body:
        if isinstance(node, ast.If):  # `if TYPE_CHECKING:` and `if __name__ == "__main__":`
            assert ast.unparse(node.test) in ("TYPE_CHECKING", "__name__ == '__main__'"), f"{path}:{node.lineno}"
            continue
        if isinstance(node, ast.Expr):
            registration = isinstance(node.value, ast.Call) and runs_something(node) is None
            assert isinstance(node.value, ast.Constant) or registration, f"{path}:{node.lineno} runs at import"
            continue
        assert isinstance(node, allowed), f"{path}:{node.lineno} has a {type(node).__name__} at its top level"
        assert (call := runs_something(node)) is None, f"{path}:{call.lineno} calls {ast.unparse(call.func)} at import"


@pytest.mark.parametrize("path", python_files("scripts"), ids=lambda path: path.stem)
def test_scripts_have_a_main(path):
    if path.stem == "__init__":
        return
    functions = {node.name for node in tree_of(path).body if isinstance(node, ast.FunctionDef)}
    assert {"parse_args", "main"} <= functions


# These are the model and what handles it: nothing in them works without torch. Scripts import them in main, so that --help stays quick.
NEED_TORCH = {
    "chat_eval", "checkpoint_manager", "core_scoring", "cpu_kernels", "engine", "fitting", "flash_attention", "fp8", "gpt", "head_loss", "kv_cache",
    "loss_eval", "optim", "rl", "samples", "training",
}  # fmt: skip

# Imports each module in a process of its own, forked from one that has imported what is not ours, and says what went wrong.
AUDIT = """
import os, sys, traceback
{before}
def watch(event, args):
    if event == "open" and isinstance(args[1], str) and set(args[1]) & set("wax+"): events.append((event, args[0]))
    if event in ("os.mkdir", "os.remove", "os.rename", "socket.connect", "subprocess.Popen", "os.system"): events.append((event, args))
for module in {modules}:
    sys.stdout.flush()
    if os.fork():
        os.wait()
        continue
    events = []
    sys.addaudithook(watch)
    try:
        __import__(module)
        trouble = f"it did {{events}}" if events else ""
    except BaseException:
        trouble = traceback.format_exc()
    trouble += "".join(f" {{name}} was imported" for name in {unwanted} if name in sys.modules)
    print(repr((module, trouble)), flush=True)
    os._exit(0)
"""


def module_name(path: Path) -> str:
    return f"{path.parent.name}.{path.stem}"


def needs_torch(path: Path) -> bool:
    return path.parent.name == "nanochat" and path.stem in NEED_TORCH


@pytest.fixture(scope="module")
def imported(tmp_path_factory) -> tuple[dict[str, str], list[Path]]:
    """What was wrong with the import of each module, and what lies about afterwards."""
    home, said = tmp_path_factory.mktemp("home"), {}
    env = {**os.environ, "PYTHONDONTWRITEBYTECODE": "1", "NANOCHAT_BASE_DIR": str(home / "base"), "HOME": str(home)}
    for torch in (True, False):
        modules = [module_name(path) for path in python_files("nanochat", "scripts", "tasks") if needs_torch(path) == torch]
        # what torch itself does when it is imported is not ours; and its compiler, which takes a second and a half, is imported when it is needed
        code = AUDIT.format(modules=modules, before="import torch" if torch else "", unwanted=["torch._dynamo" if torch else "torch"])
        result = subprocess.run([sys.executable, "-c", code], cwd=ROOT, env=env, capture_output=True, text=True)
        assert result.returncode == 0, result.stderr
        said |= dict(map(ast.literal_eval, result.stdout.splitlines()))
    return said, list(home.iterdir())


@pytest.mark.parametrize("path", python_files("nanochat", "scripts", "tasks"), ids=module_name)
def test_importing_touches_nothing(path, imported):
    """Seen from outside: no file written, no folder made, no connection, no process. And no torch where --help has to be quick."""
    assert imported[0][module_name(path)] == ""


def test_imports_leave_nothing_behind(imported):
    assert imported[1] == []
