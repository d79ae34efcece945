"""ARC: science questions from American schools, with three to five choices (arXiv 1803.05457)."""

from pathlib import Path

from nanochat.common import UserError
from tasks.common import CategoricalTask, Source, chat, render_mc


class ARC(CategoricalTask):
    """subset ARC-Easy or ARC-Challenge; split train, validation or test."""

    def __init__(self, subset: str, split: str, path: str | Path | None = None, **view):
        super().__init__(**view)
        assert subset in ("ARC-Easy", "ARC-Challenge"), subset
        assert split in ("train", "validation", "test"), split
        self.rows = Source("allenai/ai2_arc", subset, split, path, ("question", "choices", "answerKey"))

    def num_examples(self) -> int:
        return len(self.rows)

    def get_example(self, index: int) -> dict:
        row = self.rows[index]
        letters = list(row["choices"]["label"])  # mostly A to D, but some questions have 1 to 4, or an E
        if row["answerKey"] not in letters:
            raise UserError(f"{self.rows.origin}, row {index}: the answer {row['answerKey']!r} is none of {letters}: repair the row or leave it out")
        return chat(render_mc(row["question"], letters, row["choices"]["text"]), row["answerKey"], letters=letters)
