"""Checkpoints: what is saved comes back; what fails, is killed, is cut off or comes from elsewhere never passes for whole."""

import errno
import itertools
import json
import os
import pickle
import resource
import shutil
import subprocess
import sys
import tempfile
from dataclasses import asdict
from pathlib import Path

import pytest
import torch
from helpers import FORK_TWO

from nanochat import checkpoint_manager as cm
from nanochat.checkpoint_manager import (
    CheckpointManager,
    complete_steps,
    find_largest_model,
    find_last_step,
    load_checkpoint,
    load_model,
    save_checkpoint,
    store_tokenizer,
)
from nanochat.common import UserError
from nanochat.gpt import GPT, GPTConfig
from nanochat.tokenizer import SPLIT_PATTERN, Tokenizer

ROOT = Path(__file__).parent.parent
CONFIG = GPTConfig(sequence_len=16, vocab_size=265, n_layer=2, n_head=2, n_kv_head=1, n_embd=32, window_pattern="L")


@pytest.fixture(autouse=True)
def plain(monkeypatch, tmp_path):
    """A base dir of its own; float32 and no compiled kernels, so that nothing but checkpoints is written; one thread, the tensors are small."""
    monkeypatch.setenv("NANOCHAT_BASE_DIR", str(tmp_path))
    monkeypatch.setenv("NANOCHAT_DTYPE", "float32")
    monkeypatch.setattr("nanochat.cpu_kernels.library", lambda name: None)
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def byte_tokenizer(pattern: str = SPLIT_PATTERN, merges: tuple[bytes, ...] = ()) -> Tokenizer:
    return Tokenizer(pattern, {token: rank for rank, token in enumerate([*(bytes([i]) for i in range(256)), *merges])})


def tiny_model(seed: int = 0, config: GPTConfig = CONFIG) -> GPT:
    """Every weight is random: as initialised, a block does nothing, and nothing could be seen."""
    with torch.device("meta"):
        model = GPT(config)
    model.to_empty(device="cpu").init_weights()
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for p in model.parameters():
            p.copy_(torch.randn(p.shape, generator=generator) * 0.3)
    return model.eval()


def logits(model: GPT) -> torch.Tensor:
    with torch.no_grad():
        return model(torch.arange(16)[None] * 7)


def save_tiny(directory: Path, step: int, generation: int = 1, **kwargs) -> None:
    """A checkpoint of which each file says which generation it is of."""
    numbers = torch.full((100,), generation)
    save_checkpoint(directory, step, {"w": numbers}, {"optimizer": {"m": numbers.clone()}}, {"generation": generation}, **kwargs)


def generation_of(directory: Path, step: int) -> int:
    """The same in all files, or the test fails."""
    model, shards, meta = load_checkpoint(directory, step, load_optimizer=True)
    generations = {int(n) for t in (model["w"], *(shard["optimizer"]["m"] for shard in shards)) for n in t} | {meta["generation"]}
    assert len(generations) == 1
    return generations.pop()


def save_model(directory: Path, step: int = 7, model: GPT | None = None, tokenizer: Tokenizer | None = None, **meta) -> GPT:
    model = model or tiny_model()
    meta = {"model_config": asdict(model.config), "val_bpb": 1.5, **meta}
    save_checkpoint(directory, step, model.state_dict(), {"state": {}, "param_groups": []}, meta, tokenizer=tokenizer or byte_tokenizer())
    return model


def change_meta(path: Path, **changes) -> None:
    meta = json.loads(path.read_text()) | changes
    path.write_text(json.dumps({name: value for name, value in meta.items() if value is not None}))


def names(directory: Path) -> set[str]:
    return {path.name for path in directory.iterdir()}


# --- round trips -----------------------------------------------------------------------------------------------------


def test_what_is_saved_comes_back(tmp_path):
    model = {"_orig_mod.a._orig_mod.weight": torch.randn(3, 4), "b": torch.randn(5).bfloat16()}
    shard = {
        "optimizer": {"state": {0: {"step": 3, "m": torch.randn(2)}}},
        "loader": {"row": 5, "streams": {1: {"buffer": torch.arange(3)}}},
        "none": None,
    }
    save_checkpoint(tmp_path / "d1", 12, model, shard, {"val_bpb": 1.25, "loop": {"ema": [1, 2.5]}}, tokenizer=byte_tokenizer())
    assert names(tmp_path / "d1") == {"model_000012.pt", "optim_000012_rank0.pt", "meta_000012.json", "tokenizer"}

    state, shards, meta = load_checkpoint(tmp_path / "d1", 12, "cpu", load_optimizer=True)
    assert list(state) == ["a.weight", "b"] and all(
        torch.equal(a, b) and a.dtype == b.dtype for a, b in zip(state.values(), model.values(), strict=True)
    )
    assert len(shards) == 1
    assert torch.equal(shards[0]["optimizer"]["state"][0].pop("m"), shard["optimizer"]["state"][0].pop("m"))
    assert torch.equal(shards[0]["loader"]["streams"][1].pop("buffer"), torch.arange(3)) and shard["loader"]["streams"][1].pop("buffer") is not None
    assert shards[0] == shard
    sizes = {name: (tmp_path / "d1" / name).stat().st_size for name in ("model_000012.pt", "optim_000012_rank0.pt")}
    assert meta == {"val_bpb": 1.25, "loop": {"ema": [1, 2.5]}, "step": 12, "files": sizes}
    assert load_checkpoint(tmp_path / "d1", 12)[1] is None


def test_changing_what_was_loaded_does_not_change_the_file(tmp_path):
    save_tiny(tmp_path, 1)
    model, shards, _ = load_checkpoint(tmp_path, 1, load_optimizer=True)
    model["w"].fill_(9)
    shards[0]["optimizer"]["m"].fill_(9)
    assert generation_of(tmp_path, 1) == 1


def test_large_weights_are_not_copied_on_the_way(tmp_path, monkeypatch):
    weights, seen = torch.nn.Parameter(torch.randn(10)), []
    real = torch.save
    monkeypatch.setattr(torch, "save", lambda state, file: (seen.append(state["w"].data_ptr()), real(state, file)))
    save_checkpoint(tmp_path, 1, {"w": weights}, None, {})
    assert seen == [weights.data_ptr()]
    assert type(load_checkpoint(tmp_path, 1)[0]["w"]) is torch.Tensor


def test_without_an_optimizer_a_step_is_whole_but_cannot_be_resumed(tmp_path):
    save_checkpoint(tmp_path, 3, {"w": torch.ones(2)}, None, {})
    assert names(tmp_path) == {"model_000003.pt", "meta_000003.json"} and find_last_step(tmp_path) == 3
    with pytest.raises(UserError, match=r"no optimizer state.*cannot be resumed"):
        load_checkpoint(tmp_path, 3, load_optimizer=True)


def test_steps_of_any_length(tmp_path):
    for step in (0, 999_999, 1_000_000, 12_345_678):
        save_tiny(tmp_path, step)
    assert complete_steps(tmp_path) == [0, 999_999, 1_000_000, 12_345_678] and generation_of(tmp_path, 12_345_678) == 1


def test_saving_again_on_fewer_ranks_leaves_no_shards_of_the_others(tmp_path):
    save_tiny(tmp_path, 5)
    shutil.copy(tmp_path / "optim_000005_rank0.pt", tmp_path / "optim_000005_rank1.pt")
    save_tiny(tmp_path, 5, generation=2)
    assert names(tmp_path) == {"model_000005.pt", "optim_000005_rank0.pt", "meta_000005.json"} and generation_of(tmp_path, 5) == 2


# --- failures --------------------------------------------------------------------------------------------------------

EVENTS = ((os, "fsync"), (os, "replace"), (os, "unlink"), (os, "open"), (tempfile, "mkstemp"), (torch, "save"))


def fail_at(patch: pytest.MonkeyPatch, n: int) -> list[str]:
    """Make the n-th of the calls that change a disk fail. Returns the names of the calls so far."""
    calls: list[str] = []

    def wrap(name, real):
        def call(*args, **kwargs):
            calls.append(name)
            if len(calls) != n:
                return real(*args, **kwargs)
            if name == "save":
                args[1].write(b"the first half")
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

        return call

    for module, name in EVENTS:
        patch.setattr(module, name, wrap(name, getattr(module, name)))
    return calls


@pytest.mark.parametrize("again", [False, True], ids=["new step", "saved before"])
def test_whatever_fails_no_half_step_counts(tmp_path, again):
    failed = set()
    for n in itertools.count(1):
        directory = tmp_path / str(n)
        save_tiny(directory, 10)
        if again:
            save_tiny(directory, 20)
        before = names(directory)
        error = None
        with pytest.MonkeyPatch.context() as patch:
            calls = fail_at(patch, n)
            try:
                save_tiny(directory, 20, generation=2)
            except UserError as caught:
                error = caught
        if len(calls) < n:
            break  # there was nothing left to fail
        assert generation_of(directory, 10) == 1
        if error is None:  # some failures do no harm
            assert complete_steps(directory) == [10, 20] and generation_of(directory, 20) == 2
        else:
            failed.add(calls[n - 1])
            assert "step 20 was not saved" in str(error) and "No space left" in str(error) and "Make room" in str(error)
            if 20 in complete_steps(directory):  # it failed before it began
                assert again and generation_of(directory, 20) == 1
            elif calls[n - 1] != "unlink":
                assert names(directory) == {name for name in before if "000020" not in name}
        save_tiny(directory, 20, generation=3)
        assert generation_of(directory, 20) == 3 and not [name for name in names(directory) if name.startswith(".")]
    assert n > 10 and failed >= {"fsync", "replace", "mkstemp", "save"} | ({"unlink"} if again else set())


def test_the_old_meta_is_gone_for_good_before_anything_new_is_written(tmp_path, monkeypatch):
    """Deleted is not enough: a power cut could bring it back, so its folder is synced as well."""
    save_tiny(tmp_path, 20)
    calls = fail_at(monkeypatch, 0)
    save_tiny(tmp_path, 20, generation=2)
    assert calls[:6] == ["unlink", "unlink", "unlink", "open", "fsync", "mkstemp"]


@pytest.mark.parametrize("large", ["model", "optim", "meta"])
def test_a_real_limit_of_the_disk(tmp_path, large):
    """The kernel refuses to let files grow: the same way that a full disk takes, down to torch's own complaints about it."""
    much = {name: "x" * 300_000 if name == large else "" for name in ("model", "optim", "meta")}
    save_tiny(tmp_path, 10)
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, before[1]))
    try:
        with pytest.raises(UserError, match=r"step 20 was not saved.*File too large.*Make room"):
            state = {"w": torch.frombuffer(bytearray(much["model"].encode() + b"x"), dtype=torch.uint8)}
            save_checkpoint(tmp_path, 20, state, {"text": much["optim"]}, {"text": much["meta"]})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert names(tmp_path) == {"model_000010.pt", "optim_000010_rank0.pt", "meta_000010.json"} and generation_of(tmp_path, 10) == 1


def test_a_meta_that_cannot_be_written_down_fails_before_anything_is_touched(tmp_path):
    save_tiny(tmp_path, 10)
    with pytest.raises(TypeError):
        save_checkpoint(tmp_path, 10, {"w": torch.ones(1)}, None, {"bad": torch.ones(1)})
    assert generation_of(tmp_path, 10) == 1


KILLED = """
import os, signal, sys, itertools
from pathlib import Path
import torch
torch.set_num_threads(1)
sys.path.insert(0, {tests!r})
from test_checkpoint import save_tiny

def die_at(n):
    calls = itertools.count(1)
    def event():
        if next(calls) == n: os.kill(os.getpid(), signal.SIGKILL)
    def wrap(real):
        def call(*args, **kwargs):
            event()
            result = real(*args, **kwargs)
            event()
            return result
        return call
    for name in ("fsync", "replace", "unlink"): setattr(os, name, wrap(getattr(os, name)))
    save = torch.save
    def half_then_whole(state, file):
        file.write(b"the first half"); file.flush()
        event()
        file.seek(0); file.truncate()
        save(state, file)
    torch.save = half_then_whole

for again in (False, True):
    for n in itertools.count(1):
        folder = Path({folder!r}) / f"again{{again:d}}_{{n}}"
        save_tiny(folder, 10)
        if again: save_tiny(folder, 20)
        if (child := os.fork()) == 0:
            die_at(n)
            save_tiny(folder, 20, generation=2)
            os._exit(0)
        if os.waitpid(child, 0)[1] == 0: break
"""


def run_python(code: str, timeout: int = 60) -> None:
    result = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=timeout)
    assert result.returncode == 0, result.stderr


def test_killed_at_any_moment(tmp_path):
    run_python(KILLED.format(tests=str(Path(__file__).parent), folder=str(tmp_path)))
    outcomes = set()
    for directory in sorted(tmp_path.iterdir()):
        again = directory.name.startswith("again1")
        assert generation_of(directory, 10) == 1
        generation = generation_of(directory, 20) if 20 in complete_steps(directory) else None
        leftovers = any(name.startswith(".") for name in names(directory))
        outcomes.add((again, generation, leftovers))
        save_tiny(directory, 30, generation=3)  # the run goes on elsewhere, and tidies up
        assert find_last_step(directory) == 30 and not any(name.startswith(".") for name in names(directory))
    assert len(list(tmp_path.iterdir())) > 30
    assert outcomes >= {(False, None, True), (False, None, False), (False, 2, False), (True, 1, False), (True, None, True), (True, 2, False)}
    assert (False, 1, False) not in outcomes


RANKS = """
import errno, json, os, signal, sys
from pathlib import Path
import torch, torch.distributed as dist
torch.set_num_threads(1)
sys.path.insert(0, {tests!r})
from nanochat import checkpoint_manager as cm
from test_checkpoint import save_tiny, byte_tokenizer

folder, real_save, real_text = Path({folder!r}), torch.save, cm.write_text
def full(*args): raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "the disk")
def bug(*args): raise KeyError("a bug")
CASES = {{"good": None, "shard": (1, torch, "save", full), "model": (0, torch, "save", full), "meta": (0, cm, "write_text", full),
         "bug": (1, torch, "save", bug), "tokenizer": None, "again": None}}

def run(rank):
    signal.alarm(40)
    dist.init_process_group("gloo", init_method=f"file://{{folder}}/store", rank=rank, world_size=2)
    outcomes = {{}}
    for name, fault in CASES.items():
        if fault and fault[0] == rank: setattr(*fault[1:])
        tokenizer = byte_tokenizer(merges=(b"ab",) if name == "tokenizer" else ())
        step = 10 if name in ("good", "tokenizer") else 20
        try:
            save_tiny(folder / "d1", step, generation=1 + (name == "tokenizer"), rank=rank, world_size=2, tokenizer=tokenizer)
            outcomes[name] = "saved"
        except Exception as error:
            outcomes[name] = f"{{type(error).__name__}}: {{error}}"
        torch.save, cm.write_text = real_save, real_text
        dist.barrier()
        outcomes[name] = [outcomes[name], sorted(os.listdir(folder / "d1"))]
        dist.barrier()
    (folder / f"outcomes{{rank}}.json").write_text(json.dumps(outcomes))
    dist.destroy_process_group()
"""


def test_when_one_rank_fails_all_learn_of_it_and_none_waits(tmp_path):
    run_python((RANKS + FORK_TWO).format(tests=str(Path(__file__).parent), folder=str(tmp_path)))
    first, second = (json.loads((tmp_path / f"outcomes{rank}.json").read_text()) for rank in range(2))
    step_10 = ["meta_000010.json", "model_000010.pt", "optim_000010_rank0.pt", "optim_000010_rank1.pt", "tokenizer"]
    assert first["good"] == second["good"] == ["saved", step_10]
    for case, rank in (("shard", 1), ("model", 0), ("meta", 0)):
        for message, files in (first[case], second[case]):
            assert (
                message.startswith("UserError: step 20 was not saved") and f"rank {rank}: No space left on device at the disk. Make room" in message
            )
            assert files == step_10
    assert first["bug"][0].startswith("UserError: step 20") and "rank 1: KeyError: 'a bug'" in first["bug"][0]
    assert second["bug"] == ["KeyError: 'a bug'", step_10]
    for message, files in (first["tokenizer"], second["tokenizer"]):
        assert message.startswith("UserError") and "another tokenizer" in message and files == step_10
    assert first["again"][0] == second["again"][0] == "saved"
    directory = tmp_path / "d1"
    assert complete_steps(directory) == [10, 20] and len(load_checkpoint(directory, 20, load_optimizer=True)[1]) == 2
    assert generation_of(directory, 10) == generation_of(directory, 20) == 1

    (directory / "optim_000020_rank1.pt").unlink()
    assert complete_steps(directory) == [10]  # a step lacks what any rank lacks


# --- damage ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["model_000020.pt", "optim_000020_rank0.pt"])
@pytest.mark.parametrize("damage", ["cut", "longer", "gone"])
def test_a_file_of_the_wrong_size_is_noticed(tmp_path, capsys, name, damage):
    for step in (5, 10, 20):
        save_tiny(tmp_path, step)
    path, size = tmp_path / name, (tmp_path / name).stat().st_size
    if damage == "gone":
        path.unlink()
    else:
        os.truncate(path, size - 1 if damage == "cut" else size + 1)
    assert complete_steps(tmp_path) == [5, 10]
    assert find_last_step(tmp_path) == 10
    assert "step 20 is not whole" in (out := capsys.readouterr().out) and str(path) in out
    with pytest.raises(UserError, match=name) as caught:
        load_checkpoint(tmp_path, 20, load_optimizer=True)
    assert "whole are 5, 10" in str(caught.value)
    if damage != "gone":
        assert f"has {path.stat().st_size:,} bytes and should have {size:,}" in str(caught.value)
    if name.startswith("optim"):  # who only uses the model does not miss it
        assert load_checkpoint(tmp_path, 20)[0]["w"].eq(1).all() and find_last_step(tmp_path, optimizer=False) == 20


@pytest.mark.parametrize("content", [None, b"", b'{"generation": 1, "fi', b"[]", b'{"files": 3}', b'{"files": {}}', b"\xff\xfe\x00"])
def test_a_step_without_a_readable_meta_does_not_count(tmp_path, content):
    save_tiny(tmp_path, 10)
    save_tiny(tmp_path, 20)
    path = tmp_path / "meta_000020.json"
    path.unlink() if content is None else path.write_bytes(content)
    assert complete_steps(tmp_path) == complete_steps(tmp_path, optimizer=False) == [10] and find_last_step(tmp_path) == 10
    with pytest.raises(UserError, match=r"step 20 cannot be loaded: .*meta_000020.json.*whole are 10"):
        load_checkpoint(tmp_path, 20)


def test_a_step_that_does_not_exist(tmp_path):
    save_tiny(tmp_path / "chatsft_checkpoints" / "d1", 10)
    with pytest.raises(UserError, match=r"step 11 cannot be loaded: .*meta_000011.json is missing.*whole are 10"):
        load_checkpoint(tmp_path / "chatsft_checkpoints" / "d1", 11)
    for directory in (tmp_path / "chatsft_checkpoints" / "none", tmp_path / "chatsft_checkpoints"):
        with pytest.raises(UserError, match=f"no whole checkpoint in {directory}: make one with python -m scripts.chat_sft"):
            find_last_step(directory)
    with pytest.raises(UserError, match=r"python -m scripts.base_train"):
        find_last_step(tmp_path / "base_checkpoints" / "d1")


class Malicious:
    def __reduce__(self):
        return os.mkdir, ("executed",)


def test_what_cannot_be_read_is_an_error_with_a_remedy(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    save_tiny(tmp_path, 10)
    path = tmp_path / "model_000010.pt"
    raw = path.read_bytes()
    legacy, evil, plain = tmp_path / "legacy", tmp_path / "evil", tmp_path / "plain"
    legacy.write_bytes(pickle.dumps(Malicious()))
    torch.save({"w": Malicious()}, evil)
    torch.save([1, 2], plain)
    contents = [
        b"",
        b"no zip at all",
        raw[:-30] + bytes(30),
        raw.replace(b"PK\x03\x04", b"XXXX"),
        raw.replace(b"_rebuild_tensor_v2", b"_rebuild_tensor_v9"),
        raw[::-1],
    ]
    for content in [*contents, legacy.read_bytes(), evil.read_bytes(), plain.read_bytes()]:
        path.write_bytes(content)
        change_meta(tmp_path / "meta_000010.json", files={path.name: len(content)})  # as a bad disk would have it: the size is right
        with pytest.raises(UserError, match=r"model_000010.pt") as caught:
            load_checkpoint(tmp_path, 10)
        assert "weights_only=False" not in str(caught.value) and "\n" not in str(caught.value)
    assert not (tmp_path / "executed").exists()


# --- models ----------------------------------------------------------------------------------------------------------


def test_a_model_comes_back_with_its_own_tokenizer(tmp_path):
    directory = tmp_path / "base_checkpoints" / "d2"
    model = save_model(directory, tokenizer=byte_tokenizer(pattern=r"\S+|\s+"))
    byte_tokenizer().save(tmp_path / "tokenizer")  # the base dir's has moved on
    before = torch.get_rng_state()
    loaded, tokenizer, meta = load_model("base", "cpu", "eval")
    assert torch.equal(before, torch.get_rng_state())  # the random numbers of a run that goes on are not used up
    assert torch.equal(logits(loaded), logits(model)) and not loaded.training and loaded.config == CONFIG
    assert tokenizer.pattern == r"\S+|\s+" and meta["step"] == 7 and meta["val_bpb"] == 1.5
    assert load_model("base", torch.device("cpu"), "train", model_tag="d2", step=7)[0].training
    assert all(p.requires_grad for p in loaded.parameters())


@pytest.mark.parametrize("saved, wanted", [("float32", "bfloat16"), ("bfloat16", "float32"), ("bfloat16", "bfloat16"), ("bfloat16", "float16")])
def test_dtypes_are_those_of_the_device_and_not_of_the_file(tmp_path, monkeypatch, saved, wanted):
    monkeypatch.setenv("NANOCHAT_DTYPE", saved)
    model = save_model(tmp_path / "base_checkpoints" / "d2")
    monkeypatch.setenv("NANOCHAT_DTYPE", wanted)
    loaded, _, _ = load_model("base", "cpu", "eval")
    storage = torch.bfloat16 if wanted == "bfloat16" else torch.float32
    assert loaded.compute_dtype == getattr(torch, wanted) == loaded.cos.dtype
    for name, p in loaded.named_parameters():
        assert p.dtype == (storage if "wte" in name or "value_embeds" in name else torch.float32), name
        assert torch.equal(p, model.get_parameter(name).to(p.dtype))


def test_which_model_and_which_step(tmp_path):
    folder = tmp_path / "chatrl_checkpoints"
    save_model(folder / "d4", 10, tiny_model(1))
    save_model(folder / "d4", 20, last := tiny_model(2))
    save_model(folder / "mine", 30, other := tiny_model(3))
    assert torch.equal(logits(load_model("rl", "cpu", "eval")[0]), logits(last))
    assert torch.equal(logits(load_model("rl", "cpu", "eval", model_tag="mine")[0]), logits(other))
    with pytest.raises(UserError, match=r"no model 'd5' in .*: the models there are d4, mine"):
        load_model("rl", "cpu", "eval", model_tag="d5")
    with pytest.raises(UserError, match=r"step 15 cannot be loaded.*whole are 10, 20"):
        load_model("rl", "cpu", "eval", model_tag="d4", step=15)
    with pytest.raises(UserError, match="not usable"):
        load_model("rl", "cpu", "eval", model_tag="../d4")
    with pytest.raises(UserError, match=r"no whole model in .*python -m scripts.chat_sft"):
        load_model("sft", "cpu", "eval")
    with pytest.raises(UserError, match="base, sft, rl"):
        load_model("bass", "cpu", "eval")
    os.truncate(folder / "d4" / "model_000020.pt", 100)
    assert load_model("rl", "cpu", "eval", model_tag="d4")[2]["step"] == 10
    with pytest.raises(UserError, match=r"step 20 cannot be loaded: .*model_000020.pt has 100 bytes.*whole are 10"):
        load_model("rl", "cpu", "eval", model_tag="d4", step=20)


def test_the_largest_model(tmp_path):
    with pytest.raises(UserError, match="no whole model in"):
        find_largest_model(tmp_path)
    for age, tag in enumerate(["old", "mine", "older"]):
        save_tiny(tmp_path / tag, 1)
        os.utime(tmp_path / tag / "meta_000001.json", (0, [2000, 3000, 1000][age]))
    (tmp_path / "d99").mkdir()
    (tmp_path / "a file").touch()
    assert find_largest_model(tmp_path) == "mine"
    for tag in ("d4", "d12", "d12_wide"):
        save_tiny(tmp_path / tag, 1)
    assert find_largest_model(tmp_path) == "d12"
    (tmp_path / "d12" / "meta_000001.json").unlink()  # no whole step any more
    assert find_largest_model(tmp_path) == "d4"


def test_an_upstream_checkpoint_is_loaded(tmp_path):
    """As karpathy/nanochat lays it out: no list of sizes, bare optimizer states, the tokenizer in the base dir alone, names of compiled modules."""
    directory = tmp_path / "base_checkpoints" / "d2"
    directory.mkdir(parents=True)
    model = tiny_model()
    config = {name: value for name, value in asdict(CONFIG).items() if name != "window_pattern"}
    torch.save({f"_orig_mod.{name}": p for name, p in model.state_dict().items()}, directory / "model_000100.pt")
    for rank in range(2):
        torch.save({"state": {0: {"m": torch.full((2,), rank)}}, "param_groups": []}, directory / f"optim_000100_rank{rank}.pt")
    meta = {"step": 100, "val_bpb": 0.9, "model_config": config, "user_config": {"depth": 2}, "device_batch_size": 32, "max_seq_len": 16}
    (directory / "meta_000100.json").write_text(json.dumps(meta))
    byte_tokenizer().save(tmp_path / "tokenizer")

    loaded, tokenizer, loaded_meta = load_model("base", "cpu", "eval")
    assert torch.equal(logits(loaded), logits(model)) and loaded_meta == meta and tokenizer.get_vocab_size() == 265
    assert [shard["state"][0]["m"].tolist() for shard in load_checkpoint(directory, 100, load_optimizer=True)[1]] == [[0, 0], [1, 1]]

    os.truncate(directory / "optim_000100_rank1.pt", 200)
    assert complete_steps(directory) == [] and load_model("base", "cpu", "eval")[2] == meta
    (directory / "optim_000100_rank1.pt").rename(directory / "gone")
    shutil.copy(directory / "optim_000100_rank0.pt", directory / "optim_000100_rank2.pt")
    with pytest.raises(UserError, match=r"ranks \[0, 2\]"):
        load_checkpoint(directory, 100, load_optimizer=True)
    os.truncate(directory / "model_000100.pt", 5000)
    with pytest.raises(UserError, match=r"model_000100.pt has 5,000 bytes and is not a whole file.*No step there is whole"):
        load_model("base", "cpu", "eval", model_tag="d2", step=100)


def test_what_older_models_lacked_is_filled_in(tmp_path, capsys):
    model = tiny_model()
    state = model.state_dict()
    with torch.no_grad():
        for name, value in (("resid_lambdas", 1), ("x0_lambdas", 0), ("smear_gate.weight", 0), ("smear_lambda", 0), ("backout_lambda", 0)):
            state.pop(name).fill_(value)
    save_checkpoint(tmp_path, 1, state, None, {"model_config": asdict(CONFIG)})
    loaded, config = CheckpointManager(tmp_path).load(device="cpu")
    assert torch.equal(logits(loaded), logits(model)) and config == CONFIG
    assert "without resid_lambdas, x0_lambdas, smear_gate.weight, smear_lambda, backout_lambda" in capsys.readouterr().out


def test_a_state_of_another_model_is_refused(tmp_path):
    state = tiny_model().state_dict()
    cases = {
        "value_embeds.1.weight is missing": {name: value for name, value in state.items() if name != "value_embeds.1.weight"},
        "transformer.h.1.attn.ve_gate.weight is missing": {name: value for name, value in state.items() if "ve_gate" not in name},
        "transformer.h.2.ln.weight is unknown": {**state, "transformer.h.2.ln.weight": torch.ones(3)},
        r"lm_head.weight is \[320, 31\] instead of \[320, 32\]": {**state, "lm_head.weight": state["lm_head.weight"][:, :31].clone()},
        "lm_head.weight is a str instead of": {**state, "lm_head.weight": "weights"},
        "; and 7 more like these": {
            **{name: value for name, value in state.items() if "resid" not in name},
            **{f"x{i}": torch.ones(1) for i in range(11)},
        },
    }
    for step, (message, wrong) in enumerate(cases.items()):
        assert wrong.keys() != state.keys() or any(getattr(wrong[k], "shape", 0) != state[k].shape for k in state)
        meta = {"model_config": asdict(CONFIG)}
        save_raw(tmp_path, step, wrong, meta)
        with pytest.raises(UserError, match=rf"model_{step:06d}.pt is no checkpoint of such a model.*{message}"):
            CheckpointManager(tmp_path).load(step, "cpu")


def save_raw(directory: Path, step: int, state: dict, meta: dict) -> None:
    torch.save(state, directory / f"model_{step:06d}.pt")
    (directory / f"meta_{step:06d}.json").write_text(json.dumps(meta))


def test_configurations_of_elsewhere(tmp_path, capsys):
    config = asdict(CONFIG)
    save_model(tmp_path, 1, model_config={**config, "dropout": 0.1, "bias": False})
    loaded, found = CheckpointManager(tmp_path).load(1, "cpu")
    assert found == CONFIG == loaded.config and "ignored: bias, dropout" in capsys.readouterr().out
    for change in ({"n_layer": None}, {"n_embd": 33}, {"n_head": 0}, {"n_kv_head": "1"}, {"vocab_size": 265.0}, {"sequence_len": True}):
        changed = {name: value for name, value in {**config, **change}.items() if value is not None}
        change_meta(tmp_path / "meta_000001.json", model_config=changed)
        with pytest.raises(UserError, match=f"meta_000001.json.*model_config.*{next(iter(change))}"):
            CheckpointManager(tmp_path).load(1, "cpu")
    change_meta(tmp_path / "meta_000001.json", model_config=None)
    with pytest.raises(UserError, match="has no model_config"):
        CheckpointManager(tmp_path).load(1, "cpu")


def test_weights_and_tokenizer_must_fit(tmp_path):
    directory = tmp_path / "base_checkpoints" / "d2"
    save_model(directory)
    shutil.rmtree(directory / "tokenizer")
    with pytest.raises(UserError, match=f"no tokenizer in {tmp_path / 'tokenizer'}"):
        load_model("base", "cpu", "eval")
    byte_tokenizer(merges=(b"ab", b"cd")).save(tmp_path / "tokenizer")
    with pytest.raises(UserError) as caught:
        load_model("base", "cpu", "eval")
    for part in ("267", "265", str(tmp_path / "tokenizer"), str(directory / "meta_000007.json"), str(directory / "tokenizer")):
        assert part in str(caught.value)


def test_a_folder_keeps_to_one_tokenizer(tmp_path):
    save_model(tmp_path, 1)
    raw = (tmp_path / "tokenizer" / "tokenizer.json").read_bytes()
    store_tokenizer(tmp_path, byte_tokenizer())
    for other in (byte_tokenizer(merges=(b"ab",)), byte_tokenizer(pattern=r"\S+|\s+")):
        with pytest.raises(UserError, match=r"holds models with another tokenizer.*--model-tag"):
            save_model(tmp_path, 1, tokenizer=other)
    assert (tmp_path / "tokenizer" / "tokenizer.json").read_bytes() == raw and complete_steps(tmp_path) == [1]


# --- one folder as an object -----------------------------------------------------------------------------------------


def test_manager_saves_and_loads(tmp_path):
    manager = CheckpointManager(str(tmp_path / "d2"))
    assert manager.latest is None
    with pytest.raises(UserError, match="no whole checkpoint"):
        manager.load()
    models = {step: tiny_model(step) for step in (1, 2)}
    for step, model in models.items():
        manager.save(step, model, {"m": torch.ones(1)}, {"val_bpb": 2.0}, tokenizer=byte_tokenizer())
    assert manager.latest == 2
    for step, wanted in ((None, 2), (2, 2), (1, 1)):
        loaded, config = manager.load(step, "cpu")
        assert torch.equal(logits(loaded), logits(models[wanted])) and config == CONFIG and not loaded.training
    assert load_checkpoint(tmp_path / "d2", 2)[2]["val_bpb"] == 2.0
    assert manager.load()[0].get_device().type == cm.autodetect_device_type()


def test_keep_last(tmp_path):
    for step in (10, 20, 30, 40, 50, 60):
        save_tiny(tmp_path, step)
    (tmp_path / "meta_000020.json").unlink()  # broken, and older than the newest whole one
    (tmp_path / "model_000040.pt").unlink()
    (tmp_path / "meta_000060.json").unlink()  # broken, but perhaps just being written
    (tmp_path / ".model_000025.pt.abc.tmp").touch()
    (tmp_path / ".model_000070.pt.abc.tmp").touch()
    (tmp_path / "notes.txt").touch()
    CheckpointManager(tmp_path).keep_last(2)
    assert complete_steps(tmp_path) == [30, 50] and generation_of(tmp_path, 30) == 1
    whole = {f"{name.format(step)}" for step in (30, 50) for name in ("model_0000{}.pt", "optim_0000{}_rank0.pt", "meta_0000{}.json")}
    assert names(tmp_path) == {*whole, "model_000060.pt", "optim_000060_rank0.pt", ".model_000070.pt.abc.tmp", "notes.txt"}
    CheckpointManager(tmp_path).keep_last(5)
    assert complete_steps(tmp_path) == [30, 50]
    with pytest.raises(UserError, match="keep 1 or more"):
        CheckpointManager(tmp_path).keep_last(0)
    assert complete_steps(tmp_path) == [30, 50]


def test_keep_last_without_any_whole_step_deletes_nothing(tmp_path):
    save_tiny(tmp_path, 10)
    (tmp_path / "meta_000010.json").unlink()
    CheckpointManager(tmp_path).keep_last(1)
    assert names(tmp_path) == {"model_000010.pt", "optim_000010_rank0.pt"}


def test_keep_last_spares_models_whose_optimizer_was_taken_away(tmp_path):
    for step in (10, 20, 30, 40):
        save_tiny(tmp_path, step)
    for step in (10, 30):
        (tmp_path / f"optim_0000{step}_rank0.pt").unlink()
    CheckpointManager(tmp_path).keep_last(2)
    assert complete_steps(tmp_path) == [20, 40] and complete_steps(tmp_path, optimizer=False) == [20, 30, 40]


def test_keep_last_deletes_the_meta_first(tmp_path, monkeypatch):
    """So that a crash in between leaves files without a meta, and never a meta without files."""
    for step in (10, 20):
        save_tiny(tmp_path, step)
    deleted, real = [], os.unlink
    monkeypatch.setattr(os, "unlink", lambda path, **kwargs: (deleted.append(Path(path).name), real(path, **kwargs)))
    CheckpointManager(tmp_path).keep_last(1)
    assert deleted[0] == "meta_000010.json" and sorted(deleted[1:]) == ["model_000010.pt", "optim_000010_rank0.pt"]
