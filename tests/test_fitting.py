"""How a batch is divided into rows that fit."""

import os
import re
import socket

import pytest
import torch
import torch.multiprocessing as mp

from nanochat import fitting
from nanochat.common import Compute, UserError, compute_cleanup, join_ranks
from nanochat.fitting import corrected_rows, estimated_rows, largest_rows, row_choices
from nanochat.gpt import GPT, GPTConfig
from nanochat.scaling import Plan, make_plan, memory_estimate

ALONE = Compute(False, 0, 0, 1, torch.device("cpu"))


def plan_of(batch: int, sequence_len: int = 128) -> Plan:
    return make_plan(2, 500, aspect_ratio=16, head_dim=16, sequence_len=sequence_len, num_iterations=1, total_batch_size=batch)


def tiny_model(plan: Plan) -> GPT:
    model = GPT(GPTConfig(plan.sequence_len, plan.vocab_size, plan.depth, plan.n_head, plan.n_kv_head, plan.n_embd))
    model.init_weights()
    return model


# --- what divides ----------------------------------------------------------------------------------------------------


def test_choices():
    assert row_choices(plan_of(12 * 128), 1) == [1, 2, 3, 4, 6, 12]
    assert row_choices(plan_of(12 * 128), 2) == [1, 2, 3, 6]
    assert row_choices(plan_of(12 * 128), 12) == [1]
    assert row_choices(make_plan(12, 32768), 8) == [1, 2, 4, 8, 16, 32]


@pytest.mark.parametrize(("batch", "world_size"), [(1000, 1), (12 * 128, 5), (12 * 128, 8), (129, 1), (128, 3), (128 * 7 + 1, 7)])
def test_what_cannot_be_divided(batch, world_size):
    """The message names numbers that can, one on each side where there are two."""
    with pytest.raises(UserError, match=rf"a batch of {batch} tokens .* rows of 128 on {world_size} rank") as error:
        row_choices(plan_of(batch), world_size)
    named = [int(number) for number in re.findall(r"\d+", str(error.value).split("--total-batch-size")[1])]
    assert min(named, key=lambda n: abs(n - batch)) - batch < 128 * world_size
    assert all(row_choices(plan_of(number), world_size) for number in named)
    assert named[-1] > batch and (len(named) == 1 if batch < 128 * world_size else len(named) == 2 and named[0] < batch)


def test_a_wish_is_corrected_and_said_so(capsys):
    plan = plan_of(12 * 128)
    for wish, rows in ((5, 4), (7, 6), (100, 12)):
        assert corrected_rows(wish, plan, 1) == rows
        assert capsys.readouterr().out == f"--device-batch-size {wish} does not divide the batch of 1,536 tokens: using {rows}\n"
    for rows in (1, 2, 3, 4, 6, 12):
        assert corrected_rows(rows, plan, 1) == rows
    assert corrected_rows(3, plan, 4) == 3
    assert capsys.readouterr().out == ""
    assert corrected_rows(12, plan, 4) == 3
    assert "using 3" in capsys.readouterr().out


# --- what fits -------------------------------------------------------------------------------------------------------


def test_more_memory_is_never_fewer_rows():
    plan = make_plan(12, 32768)
    rows = [estimated_rows(plan, 8, memory, 2, False, False) for memory in range(0, 150 << 30, 1 << 30)]
    assert rows == sorted(rows) and rows[0] == 1 and rows[-1] == 32 and len(set(rows)) > 4
    for memory in (20 << 30, 40 << 30, 80 << 30):
        found = estimated_rows(plan, 8, memory, 2, False, False)
        assert memory_estimate(plan, found, 8)["total"] <= 0.92 * memory < memory_estimate(plan, 2 * found, 8)["total"]


def test_what_saves_memory_makes_room():
    plan, memory = make_plan(12, 32768), 12 << 30

    def rows(compute_bytes=2, checkpointing=False, chunked=False, **settings):
        return estimated_rows(plan, 1, memory, compute_bytes, checkpointing, chunked, **settings)

    assert rows(4) <= rows() < rows(chunked=True) < rows(checkpointing=True, chunked=True)
    assert rows(checkpointing=True, chunked=True, most=3) == 2
    assert estimated_rows(plan, 1, 1e15, 2, False, False) == 256  # no more than that


@pytest.mark.parametrize("sequence_len", [128, 24])
def test_largest_rows_on_a_cpu(monkeypatch, sequence_len):
    plan = plan_of(60 * sequence_len, sequence_len)
    model = tiny_model(plan)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    found = []
    for memory in (0, 3 << 20, 10 << 20, 1 << 40):
        monkeypatch.setattr(fitting, "free_memory", lambda device, memory=memory: memory)
        found.append(largest_rows(model, plan, ALONE))
        assert 60 % found[-1] == 0
    assert found == sorted(found) and found[0] == 1 and found[-1] == 60
    monkeypatch.setattr(fitting, "CPU_TOKENS", 25 * sequence_len)
    assert largest_rows(model, plan, ALONE) == 20
    monkeypatch.setattr(fitting, "CPU_TOKENS", 1)
    assert largest_rows(model, plan, ALONE) == 1
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())
    assert all(p.grad is None for p in model.parameters())


def test_largest_rows_on_this_machine():
    plan = plan_of(60 * 128)
    rows = largest_rows(tiny_model(plan), plan, ALONE)
    assert rows >= 1 and 60 % rows == 0


def on_a_rank(rank: int, port: int, results) -> None:
    os.environ.update(MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port))
    join_ranks("gloo", rank=rank, world_size=2)
    fitting.free_memory = lambda device: (1 << 40) if rank == 0 else (1 << 23)
    plan = plan_of(120 * 128)
    results[rank] = largest_rows(tiny_model(plan), plan, Compute(True, rank, rank, 2, torch.device("cpu")))
    alone = estimated_rows(plan, 2, fitting.free_memory(None) / 2, 2, False, True, fitting.CPU_TOKENS // 128)
    results[2 + rank] = alone
    compute_cleanup()


def test_all_ranks_take_what_the_poorest_can():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    results = torch.zeros(4, dtype=torch.int64).share_memory_()
    mp.spawn(on_a_rank, (port, results), nprocs=2)
    rich, poor = results[2:].tolist()
    assert results[:2].tolist() == [poor, poor] and poor < rich


# --- a GPU, played -----------------------------------------------------------------------------------------------------


class Card:
    """Stands in for a GPU on which `room` rows fit."""

    def __init__(self, monkeypatch, room: int):
        self.tried, self.room = [], room
        self.device = torch.device("cuda", 0)
        properties = type("Properties", (), {"total_memory": 1 << 40})
        monkeypatch.setattr(torch.cuda, "get_device_properties", lambda device: properties)
        monkeypatch.setattr(fitting, "_fits", self.fits)

    def fits(self, model, rows, sequence_len, device, memory) -> bool:
        assert sequence_len == 128 and device == self.device and memory == 0.92 * (1 << 40)
        self.tried.append(rows)
        return rows <= self.room


def test_a_gpu_is_tried_from_above(monkeypatch):
    plan = plan_of(60 * 128)
    card = Card(monkeypatch, room=13)
    assert largest_rows(tiny_model(plan), plan, ALONE._replace(device=card.device)) == 12
    assert card.tried == [60, 30, 20, 15, 12]


def test_a_gpu_that_is_too_small(monkeypatch):
    plan = plan_of(4 * 128)
    card = Card(monkeypatch, room=0)
    with pytest.raises(UserError, match=r"not even one row.*--activation-checkpointing.*--max-seq-len.*--depth"):
        largest_rows(tiny_model(plan), plan, ALONE._replace(device=card.device))
    assert card.tried == [4, 2, 1]
