"""MMLU: questions of 57 subjects with four choices (arXiv 2009.03300)."""

from pathlib import Path

from nanochat.common import UserError
from tasks.common import CategoricalTask, Source, SourcedTask, chat, render_mc

LETTERS = ("A", "B", "C", "D")


class MMLU(SourcedTask, CategoricalTask):
    """subset `all` has the splits dev, validation and test; what there is to train on is the subset auxiliary_train, whose only split is train."""

    letters = LETTERS

    def __init__(self, subset: str, split: str, path: str | Path | None = None, **view):
        super().__init__(**view)
        assert subset in ("all", "auxiliary_train"), subset
        assert split in (("train",) if subset == "auxiliary_train" else ("auxiliary_train", "dev", "validation", "test")), split
        fields = {"question": str, "choices": list[str], "answer": int}
        self.rows = Source("cais/mmlu", subset, split, path, fields, inside="train")  # where the hub's rows of auxiliary_train have all of them

    def conversation_of(self, row: dict) -> dict:
        if len(row["choices"]) != len(LETTERS):
            raise UserError(f"has {len(row['choices'])} choices instead of {len(LETTERS)}")
        if row["answer"] not in range(len(LETTERS)):
            raise UserError(f"has the answer {row['answer']!r} instead of 0 to 3")
        query = render_mc(row["question"], LETTERS, row["choices"])
        return chat(query, LETTERS[row["answer"]], subject=row.get("subject", ""), letters=LETTERS)
