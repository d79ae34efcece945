"""SmolTalk: conversations of all sorts with an assistant, written by larger models (arXiv 2502.02737). There is nothing to evaluate in them."""

from pathlib import Path

from tasks.common import Source, Task


class SmolTalk(Task):
    """The smaller SmolTalk, for small models; split train (460 thousand conversations) or test (24 thousand)."""

    def __init__(self, split: str, path: str | Path | None = None, **view):
        super().__init__(**view)
        assert split in ("train", "test"), split
        self.rows = Source("HuggingFaceTB/smol-smoltalk", None, split, path, ("messages",))

    def num_examples(self) -> int:
        return len(self.rows)

    def get_example(self, index: int) -> dict:
        return {"messages": [{"role": message["role"], "content": message["content"]} for message in self.rows[index]["messages"]]}
