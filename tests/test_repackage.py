"""Repackaging a data set into shards, as a user starts it, on local files."""

import pyarrow as pa
import pyarrow.parquet as pq


def shards(folder) -> list[list[str]]:
    return [pq.read_table(path)["text"].to_pylist() for path in sorted(folder.glob("shard_*.parquet"))]


def test_all_documents_once_and_shuffled(tmp_path, run_module):
    texts = [f"document {i} " * 20 for i in range(300)]
    pq.write_table(pa.table({"content": [*texts, "  ", None], "url": [""] * 302}), tmp_path / "some.parquet")
    (tmp_path / "out.part").mkdir()
    (tmp_path / "out.part" / "shard_00099.parquet").touch()  # an earlier try
    flags = ("--source", "parquet", "--files", str(tmp_path / "*.parquet"), "--field", "content", "--shard-chars", "20000")
    environment = {"HF_HOME": str(tmp_path / "hf"), "HF_HUB_OFFLINE": "1"}
    result = run_module("dev.repackage_data_reference", *flags, "--out", str(tmp_path / "out"), **environment)
    assert result.returncode == 0 and "the last of them for validation" in result.stdout, result.stderr
    made = shards(tmp_path / "out")
    assert len(made) == 4 and sorted(text for shard in made for text in shard) == sorted(texts) and made[0][:50] != texts[:50]
    assert not (tmp_path / "out.part").exists()
    again = run_module("dev.repackage_data_reference", *flags, "--out", str(tmp_path / "again"), **environment)
    assert again.returncode == 0 and shards(tmp_path / "again") == made

    for more, says in (
        (("--out", str(tmp_path / "out")), "is there already"),
        (("--out", str(tmp_path / "new"), "--field", "body"), "no such column, but content, url"),
        (("--out", str(tmp_path / "new"), "--shard-chars", "0"), "at least 1"),
        (("--out", str(tmp_path / "new"), "--files", str(tmp_path / "none.parquet")), "parquet does not load"),
        (("--out", str(tmp_path / "new"), "--shard-chars", "9999999"), "only 1 shard"),
    ):
        result = run_module("dev.repackage_data_reference", *flags, *more, **environment)
        assert result.returncode == 1 and says in result.stderr and "Traceback" not in result.stderr, (says, result.stderr)
        assert not (tmp_path / "new").exists()
