"""GSM8K: word problems of primary school, solved step by step with a calculator (arXiv 2110.14168)."""

from pathlib import Path

from tasks.common import Source, SourcedTask, calculator_parts, chat, same_final_answer


class GSM8K(SourcedTask):
    """subset main or socratic; split train or test."""

    def __init__(self, subset: str, split: str, path: str | Path | None = None, **view):
        super().__init__(**view)
        assert subset in ("main", "socratic"), subset
        assert split in ("train", "test"), split
        self.rows = Source("openai/gsm8k", subset, split, path, {"question": str, "answer": str})

    def conversation_of(self, row: dict) -> dict:
        return chat(row["question"], calculator_parts(row["answer"]))

    def evaluate(self, conversation: dict, completion: str) -> int:
        return int(same_final_answer(conversation, completion))
