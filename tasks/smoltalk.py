"""SmolTalk: conversations of all sorts with an assistant, written by larger models (arXiv 2502.02737). There is nothing to evaluate in them."""

from pathlib import Path

from tasks.common import Source, SourcedTask, check_fields


class SmolTalk(SourcedTask):
    """The smaller SmolTalk, for small models; split train (460 thousand conversations) or test (24 thousand)."""

    def __init__(self, split: str, path: str | Path | None = None, **view):
        super().__init__(**view)
        assert split in ("train", "test"), split
        self.rows = Source("HuggingFaceTB/smol-smoltalk", None, split, path, {"messages": list})

    def conversation_of(self, row: dict) -> dict:
        for message in row["messages"]:
            check_fields(message, {"role": str})
        return {"messages": [{"role": message["role"], "content": message["content"]} for message in row["messages"]]}
