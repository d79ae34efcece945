"""HumanEval: write a Python function from its signature and description, and pass its tests (arXiv 2107.03374)."""

import re
from pathlib import Path

from tasks.common import Source, SourcedTask, chat

FENCE = re.compile(r"```[ \t]*(?:python|py|python3)?[ \t]*\r?\n(.*?)(?:\n?```|\Z)", re.DOTALL | re.IGNORECASE)
TIMEOUT = 5.0  # seconds
LARGEST_MEMORY = 512 << 20  # bytes


class HumanEval(SourcedTask):
    """164 problems, all of them in the split test. Judging an answer means running it, in the sandbox of nanochat.execution."""

    def __init__(self, path: str | Path | None = None, **view):
        super().__init__(**view)
        fields = {"prompt": str, "canonical_solution": str, "test": str, "entry_point": str}
        self.rows = Source("openai/openai_humaneval", None, "test", path, fields)

    def conversation_of(self, row: dict) -> dict:
        solution = f"{row['prompt']}\n{row['canonical_solution']}"
        return chat(row["prompt"], solution, entry_point=row["entry_point"], test=row["test"])

    def evaluate(self, conversation: dict, completion: str) -> bool:
        """Does the program in the answer pass the tests to their very end? sys.exit(0) before it does not count, see check_program."""
        from nanochat.execution import check_program

        program = f"{imports_of(conversation['messages'][0]['content'])}\n\n{code_of(completion)}"
        checks = f"{conversation['test']}\n\ncheck({conversation['entry_point']})"
        return check_program(program, checks, TIMEOUT, LARGEST_MEMORY).success


def imports_of(prompt: str) -> str:
    """The import lines that a prompt begins with."""
    lines = []
    for line in map(str.strip, prompt.split("\n")):
        if line.startswith(("import ", "from ")):
            lines.append(line)
        elif line and not line.startswith("#"):
            break
    return "\n".join(lines)


def code_of(completion: str) -> str:
    """The program in an answer: what stands in its first fence, or all of it if there is none. A fence need not be closed: answers are cut."""
    match = FENCE.search(completion)
    return match[1] if match else completion.strip()
