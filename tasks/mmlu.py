"""MMLU: questions of 57 subjects with four choices (arXiv 2009.03300)."""

from pathlib import Path

from nanochat.common import UserError
from tasks.common import CategoricalTask, Source, chat, render_mc

LETTERS = ("A", "B", "C", "D")


class MMLU(CategoricalTask):
    """subset `all` has the splits dev, validation and test; what there is to train on is the subset auxiliary_train, whose only split is train."""

    letters = LETTERS

    def __init__(self, subset: str, split: str, path: str | Path | None = None, **view):
        super().__init__(**view)
        assert subset in ("all", "auxiliary_train"), subset
        assert split in (("train",) if subset == "auxiliary_train" else ("auxiliary_train", "dev", "validation", "test")), split
        self.rows = Source("cais/mmlu", subset, split, path, ())
        self.nested = "train" in self.rows[0]  # on the hub, the rows of auxiliary_train have one field, and all the others are inside of it
        if not self.nested:
            self.rows.expect(("question", "choices", "answer"))

    def num_examples(self) -> int:
        return len(self.rows)

    def get_example(self, index: int) -> dict:
        row = self.rows[index]["train"] if self.nested else self.rows[index]
        if len(row["choices"]) != len(LETTERS):
            raise UserError(f"{self.rows.origin}, row {index} has {len(row['choices'])} choices instead of {len(LETTERS)}: repair it or leave it out")
        if row["answer"] not in range(len(LETTERS)):
            raise UserError(f"{self.rows.origin}, row {index} has the answer {row['answer']!r} instead of 0 to 3: repair it or leave it out")
        query = render_mc(row["question"], LETTERS, row["choices"])
        return chat(query, LETTERS[row["answer"]], subject=row.get("subject", ""), letters=LETTERS)
