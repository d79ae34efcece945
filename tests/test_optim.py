"""The optimizer against straight-line transcriptions of its formulas, on one rank and on several real ones, and what it saves and loads."""

import io
import math
import os
import shutil
import socket

import pytest
import torch
import torch.multiprocessing as mp

from nanochat import cpu_kernels
from nanochat.common import UserError, compute_cleanup, join_ranks
from nanochat.optim import POLAR_EXPRESS, MuonAdamW, gradients_finite, merge_shards

pytestmark = pytest.mark.usefixtures("one_thread")

CPU = torch.device("cpu")
ADAMW = {"kind": "adamw", "lr": 0.02, "betas": (0.8, 0.95), "eps": 1e-10, "weight_decay": 0.1}
MUON = {"kind": "muon", "lr": 0.02, "momentum": 0.95, "ns_steps": 5, "beta2": 0.9, "weight_decay": 0.1}


def parameter(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float32) -> torch.nn.Parameter:
    return torch.nn.Parameter(torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).mul(0.3).to(dtype))


def set_gradients(params: list[torch.Tensor], step: int, rank: int = 0, world_size: int = 1) -> None:
    """Gradients of which the mean over the ranks does not depend on their number: rank r of n adds some noise times r minus the mean r.

    All are small multiples of 1/16, so that neither bf16 nor sums of a few ranks round them.
    """
    for index, p in enumerate(params):
        generator = torch.Generator().manual_seed(1000 * step + index)
        mean, noise = (torch.randn(p.shape, generator=generator).clamp(-4, 4) for _ in range(2))
        p.grad = (mean.mul(16).round() / 16 + (rank - (world_size - 1) / 2) * noise.mul(4).round() / 4).to(p.dtype)


# --- the formulas ------------------------------------------------------------------------------------------------------


def muon_by_the_book(p, grads, lr, momentum, beta2, weight_decay):
    """One matrix, float64, one formula after the other as the papers have them; Polar Express without transposing."""
    m, n = p.shape
    buf, v = torch.zeros_like(p), torch.zeros(m if m >= n else n, dtype=p.dtype)
    for grad in grads:
        buf = momentum * buf + (1 - momentum) * grad
        g = (1 - momentum) * grad + momentum * buf
        norms = torch.stack([row.norm() for row in g])
        g = torch.diag(norms.mean() / norms) @ g
        x = g / (1.01 * math.sqrt((g**2).sum()))
        for a, b, c in POLAR_EXPRESS:
            x = a * x + b * (x @ x.T @ x) + c * (x @ x.T @ x @ x.T @ x)
        u = x * math.sqrt(min(m, n)) / x.norm()
        second = (u**2).mean(dim=1 if m >= n else 0)
        v = beta2 * v + (1 - beta2) * second
        scaled = u / v.sqrt()[:, None] if m >= n else u / v.sqrt()[None, :]
        u = scaled * u.norm() / scaled.norm()
        rate = lr * math.sqrt(max(1, m / n))
        p = p - rate * u - rate * weight_decay * torch.where(u * p >= 0, p, torch.zeros_like(p))
    return p


def off_the_book(shape, dtype, muon_dtype) -> float:
    """How far ten updates of three matrices are from the formulas, at the worst, as a share of the way."""
    params = [parameter(*shape, seed=seed, dtype=dtype) for seed in range(3)]
    before = [p.detach().double().clone() for p in params]  # a copy in float64 too
    optimizer = MuonAdamW([dict(MUON, params=params)], muon_dtype=muon_dtype)
    grads = []
    for step in range(10):
        set_gradients(params, step)
        grads.append([p.grad.double() for p in params])
        optimizer.step()
    errors = []
    for index, p in enumerate(params):
        expected = muon_by_the_book(before[index], [g[index] for g in grads], 0.02, 0.95, 0.9, 0.1)
        errors.append(((p.detach().double() - expected).norm() / (expected - before[index]).norm()).item())
    return max(errors)


@pytest.mark.parametrize("shape", [(48, 16), (16, 48), (24, 24)], ids=["tall", "wide", "square"])
@pytest.mark.parametrize(
    ("dtype", "muon_dtype", "tolerance"),
    [(torch.float64, torch.float64, 1e-11), (torch.float32, torch.float32, 1e-5), (torch.float32, torch.bfloat16, 0.02)],
    ids=["float64", "float32", "bfloat16"],
)
def test_muon_equals_the_formulas(shape, dtype, muon_dtype, tolerance, monkeypatch):
    monkeypatch.setattr(cpu_kernels, "library", lambda name: None)
    assert off_the_book(shape, dtype, muon_dtype) < tolerance


@pytest.mark.parametrize("shape", [(48, 16), (16, 48), (32, 32), (80, 80), (48, 160), (1200, 48)])
def test_the_compiled_muon_equals_the_formulas(shape):
    if not cpu_kernels.muon_usable([parameter(*shape)], torch.bfloat16):
        pytest.skip("no compiled kernel here")
    assert off_the_book(shape, torch.float32, torch.bfloat16) < 0.02


def test_many_matrices_are_updated_as_each_alone():
    """A CPU takes a stack in pieces; 40 of these are more than one piece."""
    params = [parameter(128, 256, seed=seed) for seed in range(40)]
    alone = [torch.nn.Parameter(p.detach().clone()) for p in params]
    together = MuonAdamW([dict(MUON, params=params)], muon_dtype=torch.float32)
    assert together._matrices_at_once(params[0]) < len(params)
    singles = [MuonAdamW([dict(MUON, params=[p])], muon_dtype=torch.float32) for p in (alone[0], alone[17], alone[39])]
    for step in range(2):
        set_gradients(params, step)
        for p, q in zip(params, alone, strict=True):
            q.grad = p.grad.clone()
        for optimizer in (together, *singles):
            optimizer.step()
    for index in (0, 17, 39):
        torch.testing.assert_close(params[index], alone[index], rtol=0, atol=1e-5)


def test_the_compiled_muon_does_the_same_with_any_number_of_threads():
    params = [[parameter(96, 64, seed=seed) for seed in range(5)] for _ in range(2)]
    if not cpu_kernels.muon_usable(params[0], torch.bfloat16):
        pytest.skip("no compiled kernel here")
    for threads, mine in zip((1, 3), params, strict=True):
        torch.set_num_threads(threads)  # one_thread puts it back
        optimizer = MuonAdamW([dict(MUON, params=mine)])
        for step in range(2):
            set_gradients(mine, step)
            optimizer.step()
    assert all(torch.equal(p, q) for p, q in zip(*params, strict=True))


def test_the_compiled_muon_checks_what_it_is_given():
    """It gets bare addresses."""
    weights, grads = ([torch.randn(16, 32) for _ in range(2)] for _ in range(2))
    if not cpu_kernels.muon_usable(weights, torch.bfloat16):
        pytest.skip("no compiled kernel here")
    momenta, squares = torch.zeros(2, 16, 32), torch.zeros(2, 1, 32)
    wrong = [(weights, grads[:1], momenta, squares), (weights, [g.t() for g in grads], momenta, squares), (weights, grads, momenta[:1], squares)]
    wrong += [([w.double() for w in weights], grads, momenta, squares), (weights, grads, momenta.double(), squares)]
    wrong += [(weights, grads, momenta, torch.zeros(2, 16, 1)), ([w.t().contiguous().t() for w in weights], grads, momenta, squares)]
    for arguments in wrong:
        with pytest.raises(AssertionError):
            cpu_kernels.muon_update(*arguments, 0.02, 0.95, 0.1, 0.9, POLAR_EXPRESS)
    with pytest.raises(AssertionError):
        cpu_kernels.muon_update([weights[0][:8]], [grads[0][:8]], momenta[:1, :8], squares[:1], 0.02, 0.95, 0.1, 0.9, POLAR_EXPRESS)
    before = [w.clone() for w in weights]
    cpu_kernels.muon_update(weights, grads, momenta, squares, torch.tensor(0.02), 0, 0, 1, POLAR_EXPRESS)  # numbers may be of any kind
    assert all(0 < (w - b).abs().max() < 1 for w, b in zip(weights, before, strict=True))


@pytest.mark.parametrize("shape", [(70, 33), (5,), (1,), (3000,), ()])
def test_adamw_equals_torch(shape):
    ours, theirs = parameter(*shape), parameter(*shape)
    settings = {name: value for name, value in ADAMW.items() if name != "kind"}
    optimizers = [MuonAdamW([dict(ADAMW, params=[ours])]), torch.optim.AdamW([theirs], **settings)]
    for step in range(10):
        set_gradients([ours], step)
        theirs.grad = ours.grad.clone()
        for optimizer in optimizers:
            optimizer.step()
    torch.testing.assert_close(ours, theirs, rtol=1e-6, atol=1e-7)
    assert not torch.equal(ours, parameter(*shape))


@pytest.mark.parametrize("chunks", [1, 3])
def test_bf16_weights_are_updated_in_float32(chunks, monkeypatch):
    """Float32 averages and arithmetic: what is rounded is the new weight, once a step."""
    monkeypatch.setattr("nanochat.optim.CHUNK", {"cpu": 64 * 33 // chunks + 1, "other": 1})
    p = parameter(64, 33, dtype=torch.bfloat16)
    weight, m, v = p.detach().double(), torch.zeros(64, 33).double(), torch.zeros(64, 33).double()
    optimizer = MuonAdamW([dict(ADAMW, params=[p])])
    for step in range(1, 6):
        set_gradients([p], step)
        optimizer.step()
        g = p.grad.double()
        m, v = 0.8 * m + 0.2 * g, 0.95 * v + 0.05 * g**2
        exact = weight * (1 - 0.02 * 0.1) - 0.02 * (m / (1 - 0.8**step)) / ((v / (1 - 0.95**step)).sqrt() + 1e-10)
        assert (p.detach().double() != exact.bfloat16().double()).float().mean() < 0.002  # a tie of float32 and float64 may round differently
        weight = p.detach().double()
    state = optimizer.state[p]
    assert state["exp_avg"].dtype == state["exp_avg_sq"].dtype == torch.float32
    torch.testing.assert_close(state["exp_avg_sq"].double(), v, rtol=1e-5, atol=0)  # in bf16 it would be off by 1e-3


def test_schedules_from_outside_take_effect():
    def moved(**changes) -> torch.Tensor:
        params = [parameter(16, 8), parameter(20)]
        optimizer = MuonAdamW([dict(MUON, params=params[:1]), dict(ADAMW, params=params[1:])], muon_dtype=torch.float32)
        assert [group["initial_lr"] for group in optimizer.param_groups] == [0.02, 0.02]
        for step in range(2):
            for group in optimizer.param_groups:
                group.update({name: value for name, value in changes.items() if name in group})
            set_gradients(params, step)
            optimizer.step()
        assert [group["initial_lr"] for group in optimizer.param_groups] == [0.02, 0.02]
        return torch.cat([(p - parameter(*p.shape)).flatten() for p in params]).detach()

    plain, muon = moved(), slice(0, 128)
    assert not moved(lr=0.0).any()
    torch.testing.assert_close(moved(lr=0.01, weight_decay=0.0), moved(weight_decay=0.0) / 2, rtol=0.02, atol=1e-4)
    assert not torch.allclose(moved(momentum=0.5)[muon], plain[muon], atol=1e-4)
    assert not torch.allclose(moved(weight_decay=0.5)[muon], plain[muon], atol=1e-4)
    assert not torch.allclose(moved(weight_decay=0.5)[128:], plain[128:], atol=1e-4)


@pytest.mark.parametrize("shape", [(16, 8), (16, 32)], ids=["torch", "compiled, where that is possible"])
def test_zero_and_missing_gradients_do_no_harm(shape):
    """At step 0 only c_proj gets gradients: its neighbours' are all zero. And one row, or everything, may stay so."""
    stack = [parameter(*shape, seed=seed) for seed in range(4)]
    others = [parameter(40), parameter(40, seed=1)]
    optimizer = MuonAdamW([dict(MUON, params=stack), dict(ADAMW, params=others)])
    before = [p.detach().clone() for p in stack + others]
    for _ in range(3):
        optimizer.zero_grad()
        stack[0].grad, others[0].grad = torch.zeros(shape), torch.zeros(40)
        stack[1].grad = torch.randn(shape) * (torch.arange(16) != 5)[:, None]
        stack[3].grad = torch.full(shape, 1e-25)
        optimizer.step()
    assert all(p.isfinite().all() for p in stack + others)
    for index in (0, 2, 4, 5):  # nothing but weight decay, which AdamW applies always and Muon where there is an update or none at all
        assert (stack + others)[index].norm() < before[index].norm()
        torch.testing.assert_close((stack + others)[index], before[index], rtol=0.02, atol=0)
    assert (stack[1] - before[1]).norm() > 0.01


@pytest.mark.skipif(shutil.which("g++") is None, reason="torch.compile needs a C++ compiler on a CPU")
def test_compiled_muon_is_the_same_and_compiled_once():
    """Schedules change three numbers at every step; compiling anew for each would take seconds a step."""
    params, compiled = [[parameter(32, 16, seed=seed) for seed in range(3)] for _ in range(2)]
    optimizers = [MuonAdamW([dict(MUON, params=p)], muon_dtype=torch.float32, compile=p is compiled) for p in (params, compiled)]
    with torch._dynamo.config.patch(error_on_recompile=True):
        for step in range(4):
            for p, optimizer in zip((params, compiled), optimizers, strict=True):
                set_gradients(p, step)
                optimizer.param_groups[0].update(lr=0.02 / (step + 1), momentum=0.8 + 0.02 * step, weight_decay=0.1 * step)
                optimizer.step()
    torch.testing.assert_close(compiled, params, rtol=0, atol=1e-5)


def test_groups_are_checked():
    with pytest.raises(AssertionError, match="one shape"):
        MuonAdamW([dict(MUON, params=[parameter(4, 8), parameter(8, 4)])])
    with pytest.raises(AssertionError, match="sgd"):
        MuonAdamW([dict(MUON, kind="sgd", params=[parameter(4, 8)])])
    with pytest.raises(AssertionError, match="flat views"):
        MuonAdamW([dict(ADAMW, params=[torch.nn.Parameter(torch.randn(4, 8).T)])])


# --- finite gradients --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("device", ["cpu", "cuda"])  # what is done on a GPU can be done to these tensors too
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize(("value", "finite"), [(0.0, True), (math.nan, False), (math.inf, False), (-math.inf, False), ("max", True)])
def test_gradients_finite(device, dtype, value, finite):
    params = [parameter(40, 30, dtype=dtype), parameter(7), parameter(5)]
    set_gradients(params[:2], 0)  # the third has none
    biggest = torch.finfo(dtype).max
    if value == "max":  # a sum or a norm of these overflows
        params[0].grad.fill_(biggest)
    else:
        params[0].grad[11, 13] = value
    assert gradients_finite(params, torch.device(device)) is finite


def test_no_gradients_are_finite():
    assert gradients_finite([parameter(3)], CPU) is True


# --- many ranks --------------------------------------------------------------------------------------------------------


def tiny_model() -> list[torch.nn.Parameter]:
    """A table, one in bf16, one whose rows divide by no number of ranks, small ones, and stacks of 4 and 5, tall and wide."""
    shapes = [(64, 32), (53, 24), (8,), (1, 24)]
    params = [parameter(*shape, seed=seed) for seed, shape in enumerate(shapes)] + [parameter(64, 24, seed=9, dtype=torch.bfloat16)]
    params += [parameter(48, 32, seed=20 + k) for k in range(4)] + [parameter(32, 48, seed=30 + k) for k in range(5)]
    return [*params, parameter(4, 12, seed=40)]


def tiny_optimizer(params: list[torch.Tensor], rank: int = 0, world_size: int = 1) -> MuonAdamW:
    groups = [dict(ADAMW, params=params[:2]), dict(ADAMW, lr=0.1, params=params[2:4]), dict(ADAMW, params=params[4:5])]
    groups += [dict(MUON, params=params[5:9]), dict(MUON, params=params[9:14]), dict(MUON, params=params[14:])]
    compiled = cpu_kernels.muon_usable(params[5:9], torch.bfloat16)  # which treats every matrix as if it were alone; torch's bfloat16 does not
    return MuonAdamW(groups, rank, world_size, muon_dtype=torch.bfloat16 if compiled else torch.float32)


def run_steps(params, optimizer, steps: range) -> None:
    for step in steps:
        set_gradients(params, step, optimizer.rank, optimizer.world_size)
        if step == 1:
            params[3].grad = params[1].grad = params[6].grad = None
        if step == 2:  # only one rank has seen these; the others must not leave it waiting
            whole = [torch.nn.Parameter(p.detach()) for p in params]
            set_gradients(whole, step)
            for index in (0, 2, 9):
                params[index].grad = whole[index].grad * optimizer.world_size if optimizer.rank == 0 else None
        optimizer.step()


def weights(params: list[torch.Tensor]) -> list[torch.Tensor]:
    return [p.detach().clone() for p in params]


def one_rank(steps: int) -> tuple[list[torch.Tensor], dict]:
    params = tiny_model()
    optimizer = tiny_optimizer(params)
    run_steps(params, optimizer, range(steps))
    return weights(params), optimizer.state_dict()


def native_threads() -> int:
    return len(os.listdir("/proc/self/task")) if os.path.exists("/proc/self/task") else 0


def rank_main(rank: int, world_size: int, port: int, folder: str) -> None:
    """What each rank of a test does; its results go to files, one per rank."""
    torch.set_num_threads(1)
    os.environ.update(MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port))
    before = native_threads()
    join_ranks("gloo", rank=rank, world_size=world_size)
    params = tiny_model()
    optimizer = tiny_optimizer(params, rank, world_size)
    run_steps(params, optimizer, range(3))
    middle, state = weights(params), optimizer.state_dict()
    torch.save(state, f"{folder}/optim_{rank}.pt")  # here, because the state is not a copy
    run_steps(params, optimizer, range(3, 5))

    resumed = tiny_model()  # from a checkpoint of 2 ranks, whatever number there are here
    start = torch.load(f"{folder}/from_two.pt", weights_only=True) if os.path.exists(f"{folder}/from_two.pt") else None
    if start:
        with torch.no_grad():
            torch._foreach_copy_(resumed, start["weights"])
        again = tiny_optimizer(resumed, rank, world_size)
        again.load_shards(start["shards"])
        torch.save(again.state_dict(), f"{folder}/reloaded_{rank}.pt")
        run_steps(resumed, again, range(3, 5))

    finite = [gradients_finite(params, CPU, world_size)]
    if rank == world_size - 1:
        params[6].grad[3, 4] = math.nan
    finite.append(gradients_finite(params, CPU, world_size))
    compute_cleanup()
    result = {"middle": middle, "end": weights(params), "resumed": weights(resumed), "finite": finite, "more_threads": native_threads() - before}
    torch.save(result, f"{folder}/result_{rank}.pt")


def run_ranks(world_size: int, folder) -> tuple[list[dict], list[dict]]:
    """(results, optimizer states after three steps) of all ranks."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    mp.spawn(rank_main, (world_size, port, str(folder)), nprocs=world_size)
    return tuple([torch.load(folder / f"{name}_{rank}.pt", weights_only=True) for rank in range(world_size)] for name in ("result", "optim"))


@pytest.fixture(scope="module")
def two_ranks(tmp_path_factory):
    return run_ranks(2, tmp_path_factory.mktemp("two"))


@pytest.fixture(scope="module")
def four_ranks(tmp_path_factory, two_ranks):
    folder = tmp_path_factory.mktemp("four")
    torch.save({"weights": two_ranks[0][0]["middle"], "shards": two_ranks[1]}, folder / "from_two.pt")
    results, states = run_ranks(4, folder)
    return results, states, [torch.load(folder / f"reloaded_{rank}.pt", weights_only=True) for rank in range(4)]


def assert_close(ours: list[torch.Tensor], expected: list[torch.Tensor]) -> None:
    assert len(ours) == len(expected)
    for a, b in zip(ours, expected, strict=True):
        torch.testing.assert_close(a, b, rtol=2**-7 if a.dtype == torch.bfloat16 else 1e-5, atol=1e-5)


def assert_equal(ours, expected) -> None:
    """Bit for bit, dtypes too, however nested."""
    torch.testing.assert_close(ours, expected, rtol=0, atol=0)


@pytest.mark.parametrize("world_size", [2, 4])
def test_ranks_do_what_one_rank_does(world_size, request):
    results, states, *_ = request.getfixturevalue({2: "two_ranks", 4: "four_ranks"}[world_size])
    for result in results[1:]:
        assert_equal(result["end"], results[0]["end"])
    assert_close(results[0]["middle"], one_rank(3)[0])
    assert_close(results[0]["end"], one_rank(5)[0])
    assert not torch.allclose(results[0]["end"][5], results[0]["middle"][5], atol=1e-3)
    owned = [state["state"][0]["exp_avg"].shape[0] for state in states]
    assert owned == [64 // world_size] * world_size, "each rank keeps the averages of its own rows only"
    assert states[0]["state"][9]["momentum_buffer"].shape[0] == -(-5 // world_size)


@pytest.mark.parametrize("world_size", [2, 4])
def test_ranks_agree_on_finite_gradients(world_size, request):
    results = request.getfixturevalue({2: "two_ranks", 4: "four_ranks"}[world_size])[0]
    assert [result["finite"] for result in results] == [[True, False]] * world_size


def test_ranks_leave_no_threads_behind(two_ranks):
    """One that frees a tensor while the interpreter ends aborts the process."""
    assert [result["more_threads"] for result in two_ranks[0]] == [0, 0]


def test_shards_of_two_and_of_four_make_one_state(two_ranks, four_ranks):
    expected = one_rank(3)[1]
    for states in (two_ranks[1], four_ranks[1]):
        merged = merge_shards(states[::-1])
        assert merged["world_size"] == 1 and merged["state"].keys() == expected["state"].keys()
        for index, state in expected["state"].items():
            for name, value in state.items():
                torch.testing.assert_close(merged["state"][index][name], value, rtol=1e-4, atol=1e-5)


def test_a_run_goes_on_with_other_ranks(two_ranks, four_ranks):
    """Saved by two ranks: one rank and four ranks go on as the two did."""
    (result, _), shards = two_ranks
    params = tiny_model()
    with torch.no_grad():
        torch._foreach_copy_(params, result["middle"])
    optimizer = tiny_optimizer(params)
    optimizer.load_shards(shards)
    run_steps(params, optimizer, range(3, 5))
    assert_close(weights(params), result["end"])
    for four in four_ranks[0]:
        assert_equal(four["resumed"], four_ranks[0][0]["resumed"])
    assert_close(four_ranks[0][0]["resumed"], result["end"])


def test_resharding_loses_nothing(two_ranks, four_ranks):
    """2 → 1 → as saved, and 2 → 4 → 1: the same bits."""
    expected = merge_shards(two_ranks[1])["state"]
    optimizer = tiny_optimizer(tiny_model())
    optimizer.load_shards(two_ranks[1])
    assert_equal(optimizer.state_dict()["state"], expected)
    assert_equal(merge_shards(four_ranks[2])["state"], expected)
    for rank in range(2):
        again = tiny_optimizer(tiny_model(), rank, 2)
        again.load_shards([optimizer.state_dict()])
        assert_equal(again.state_dict()["state"], two_ranks[1][rank]["state"])
        again = tiny_optimizer(tiny_model(), rank, 2)
        again.load_state_dict(two_ranks[1][rank])
        assert_equal(again.state_dict()["state"], two_ranks[1][rank]["state"])


# --- checkpoints on one rank -------------------------------------------------------------------------------------------


def through_a_file(state: dict) -> dict:
    file = io.BytesIO()
    torch.save(state, file)
    file.seek(0)
    return torch.load(file, weights_only=True)


def test_resume_is_exact():
    params = tiny_model()
    optimizer = tiny_optimizer(params)
    run_steps(params, optimizer, range(3))
    saved, middle = through_a_file(optimizer.state_dict()), weights(params)
    run_steps(params, optimizer, range(3, 6))

    resumed = tiny_model()
    with torch.no_grad():
        torch._foreach_copy_(resumed, middle)
    again = tiny_optimizer(resumed)
    again.load_state_dict(saved)
    run_steps(resumed, again, range(3, 6))
    assert_equal(weights(resumed), weights(params))
    assert_equal(again.state_dict()["state"], optimizer.state_dict()["state"])


def test_loading_keeps_float32_and_the_rates_of_the_flags():
    params = tiny_model()
    optimizer = tiny_optimizer(params)
    run_steps(params, optimizer, range(2))
    saved = through_a_file(optimizer.state_dict())
    again = tiny_optimizer(tiny_model())
    again.param_groups[0]["lr"] = again.param_groups[0]["initial_lr"] = 0.5
    again.load_state_dict(saved)
    assert again.state[again.param_groups[2]["params"][0]]["exp_avg"].dtype == torch.float32
    assert again.param_groups[0]["lr"] == again.param_groups[0]["initial_lr"] == 0.5


def test_states_of_karpathys_files_are_understood():
    """They lack our three entries, and have their averages of bf16 tables in bf16."""
    params = tiny_model()
    optimizer = tiny_optimizer(params)
    run_steps(params, optimizer, range(2))
    saved = {name: value for name, value in through_a_file(optimizer.state_dict()).items() if name in ("state", "param_groups")}
    saved["state"][4]["exp_avg"] = saved["state"][4]["exp_avg"].bfloat16()
    again = tiny_optimizer(tiny_model())
    again.load_shards([saved])
    assert again.state_dict()["state"][4]["exp_avg"].dtype == torch.float32
    assert_equal(again.state_dict()["state"][4]["exp_avg"], saved["state"][4]["exp_avg"].float())
    assert_equal(again.state_dict()["state"][5], optimizer.state_dict()["state"][5])


@pytest.mark.parametrize("load", ["load_state_dict", "load_shards"])
def test_the_state_of_another_model_is_refused(load):
    def refuse(state: dict, match: str) -> None:
        optimizer = tiny_optimizer(tiny_model())
        before = through_a_file(optimizer.state_dict())
        with pytest.raises(UserError, match=match):
            getattr(optimizer, load)([state] if load == "load_shards" else state)
        assert_equal(optimizer.state_dict()["state"], before["state"])  # nothing was changed halfway

    params = tiny_model()
    shorter = MuonAdamW([dict(ADAMW, params=params[:3])]).state_dict()
    refuse(shorter, "another model: it is for 3 tensors, and this model has 15")
    params[1] = parameter(53, 25)
    refuse(tiny_optimizer(params).state_dict(), r"another model: tensor 1 is \[53, 25\] there and \[53, 24\] here")
    state = tiny_optimizer(tiny_model()).state_dict()
    state["param_groups"][5]["kind"] = "adamw"
    refuse(state, "other groups")
    state = through_a_file(tiny_optimizer(tiny_model()).state_dict())
    state["state"][0]["step"] = 7
    state["state"][9]["second_momentum_buffer"] = torch.zeros(5, 24, 1)
    refuse(state, r"second_momentum_buffer of tensor 9 is of shape \[5, 24, 1\] there and of shape \[5, 1, 48\] here")
    state = through_a_file(tiny_optimizer(tiny_model()).state_dict())
    del state["state"][9]
    refuse(state, "another model: (it lacks|momentum_buffer of tensor 9 is missing)")


def test_the_shards_of_a_run_belong_together():
    shards = [tiny_optimizer(tiny_model(), rank, 2).state_dict() for rank in range(2)]
    with pytest.raises(UserError, match="rank 1 of 2, and this is rank 0 of 1"):
        tiny_optimizer(tiny_model()).load_state_dict(shards[1])
    with pytest.raises(UserError, match=r"saved by 2 ranks, and these are ranks \[1\]"):
        tiny_optimizer(tiny_model()).load_shards(shards[1:])
    with pytest.raises(UserError, match=r"ranks \[0, 0\]"):
        merge_shards([shards[0], shards[0]])
    other = tiny_model()
    other[0] = parameter(64, 33)
    with pytest.raises(UserError, match="different models"):
        merge_shards([shards[0], tiny_optimizer(other, 1, 2).state_dict()])
