"""ARC: science questions from American schools, with three to five choices (arXiv 1803.05457)."""

from pathlib import Path

from nanochat.common import UserError
from tasks.common import CategoricalTask, Source, SourcedTask, chat, check_fields, render_mc


class ARC(SourcedTask, CategoricalTask):
    """subset ARC-Easy or ARC-Challenge; split train, validation or test."""

    def __init__(self, subset: str, split: str, path: str | Path | None = None, **view):
        super().__init__(**view)
        assert subset in ("ARC-Easy", "ARC-Challenge"), subset
        assert split in ("train", "validation", "test"), split
        self.rows = Source("allenai/ai2_arc", subset, split, path, {"question": str, "choices": dict, "answerKey": str})

    def conversation_of(self, row: dict) -> dict:
        check_fields(row["choices"], {"label": list[str], "text": list[str]})
        letters, texts = row["choices"]["label"], row["choices"]["text"]  # mostly A to D, but some questions have 1 to 4, or an E
        if len(letters) != len(texts):
            raise UserError(f"has {len(letters)} labels for {len(texts)} choices")
        if row["answerKey"] not in letters:
            raise UserError(f"the answer {row['answerKey']!r} is none of {letters}")
        return chat(render_mc(row["question"], letters, texts), row["answerKey"], letters=letters)
