"""The model against a reference that was written from the design alone, and what training asks of it."""

import itertools
import math
import shutil

import pytest
import torch
import torch.nn.functional as F

from nanochat.common import Compute, UserError
from nanochat.gpt import GPT, GPTConfig, new_model
from nanochat.scaling import flops_per_token, make_plan, param_counts
from nanochat.training import build_optimizer

CPU = torch.device("cpu")
SMALL = GPTConfig(sequence_len=64, vocab_size=100, n_layer=3, n_head=4, n_kv_head=2, n_embd=64, window_pattern="SL")
# Long enough for short windows (512 / 4 = 128) to hide something from rows of 320
LONG = GPTConfig(sequence_len=512, vocab_size=100, n_layer=3, n_head=4, n_kv_head=4, n_embd=64, window_pattern="SSL")
T_LONG = 320


@pytest.fixture(autouse=True)
def float32(monkeypatch):
    """Exact enough to compare, and one thread: the tensors are small."""
    monkeypatch.setenv("NANOCHAT_DTYPE", "float32")
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def like(config: GPTConfig, **changes) -> GPTConfig:
    return GPTConfig(**{**vars(config), **changes})


def fresh(config: GPTConfig) -> GPT:
    """As it is before the first step."""
    torch.manual_seed(0)
    return new_model(config, CPU)


@torch.no_grad()
def trained(config: GPTConfig) -> GPT:
    """As if it had learned: nothing is zero, nothing alike, gates open and close, and logits reach the cap, so that every path counts."""
    model = fresh(config)
    generator = torch.Generator().manual_seed(1)
    for name, p in model.named_parameters():
        noise = torch.randn(p.shape, generator=generator)
        if name.endswith("c_proj.weight"):
            p.copy_(noise * 0.15)
        elif "gate" in name:
            p.copy_(noise)
        elif "lambda" in name:
            p.add_(noise * 0.2 + 0.1)
        elif name == "lm_head.weight":
            p.copy_(noise * 0.7)
    return model


def tokens(config: GPTConfig, rows: int, T: int, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    """Inputs, and targets of which some do not count."""
    generator = torch.Generator().manual_seed(seed)
    idx, targets = torch.randint(config.vocab_size, (2, rows, T), generator=generator)
    targets[torch.rand(rows, T, generator=generator) < 0.2] = -1
    return idx, targets


def gradients(model: GPT, loss: torch.Tensor) -> dict[str, torch.Tensor]:
    names, params = zip(*model.named_parameters(), strict=True)
    return without_noise(model.config, dict(zip(names, torch.autograd.grad(loss, params), strict=True)))


def without_noise(config: GPTConfig, found: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """With 1 or 2 layers the stream that is kept is the last one: what is taken back scales it, the norm undoes that, and the gradient is nothing."""
    return {name: gradient for name, gradient in found.items() if config.n_layer > 2 or name != "backout_lambda"}


def assert_same(found: dict[str, torch.Tensor], expected: dict[str, torch.Tensor], tolerance: float) -> None:
    assert found.keys() == expected.keys()
    for name in found:
        largest = expected[name].abs().max()
        assert largest > 0, f"nothing depends on {name}"
        error = (found[name].double() - expected[name].double()).abs().max() / largest
        assert error <= tolerance, f"{name} is off by {error:.1e}"


# --- the design's section 2, once more, word by word -----------------------------------------------------------------


def rms(x):
    return x / (x.pow(2).mean(-1, keepdim=True) + torch.finfo(torch.float32).eps).sqrt()


def turned(x):
    """(B, T, D): a pair is a complex number, and position t turns it by -tθ."""
    half = x.size(-1) // 2
    theta = torch.tensor([100_000 ** (-2 * i / x.size(-1)) for i in range(half)], dtype=torch.float64)
    angle = torch.arange(x.size(1), dtype=torch.float64)[:, None] * theta
    z = torch.complex(x[..., :half], x[..., half:]) * torch.exp(-1j * angle)
    return torch.cat((z.real, z.imag), -1)


def reference_logits(w: dict[str, torch.Tensor], config: GPTConfig, idx: torch.Tensor) -> torch.Tensor:
    """w: the state dict in float64."""
    T, D, L = idx.size(1), config.n_embd // config.n_head, config.n_layer
    e = rms(w["transformer.wte.weight"][idx])
    columns = [e[:, 0]]
    for t in range(1, T):
        gate = torch.sigmoid(e[:, t, :24] @ w["smear_gate.weight"].T)
        columns.append(e[:, t] + w["smear_lambda"] * gate * e[:, t - 1])
    x = x0 = torch.stack(columns, 1)
    for i in range(L):
        at, here = f"transformer.h.{i}.", f"transformer.h.{i}.attn."
        long = i == L - 1 or config.window_pattern[i % len(config.window_pattern)] == "L"
        window = config.sequence_len if long else math.ceil(config.sequence_len / 4 / 128) * 128
        hidden_from = torch.tensor([[not 0 <= t - s <= window for s in range(T)] for t in range(T)])
        x = w["resid_lambdas"][i] * x + w["x0_lambdas"][i] * x0
        n = rms(x)
        outputs = []
        for head in range(config.n_head):
            kv = head // (config.n_head // config.n_kv_head)
            mine, theirs = slice(head * D, head * D + D), slice(kv * D, kv * D + D)
            q = 1.2 * rms(turned(n @ w[here + "c_q.weight"][mine].T))
            k = 1.2 * rms(turned(n @ w[here + "c_k.weight"][theirs].T))
            v = n @ w[here + "c_v.weight"][theirs].T
            if (L - 1 - i) % 2 == 0:
                v = v + 3 * torch.sigmoid(n[..., :12] @ w[here + "ve_gate.weight"][kv, :, None]) * w[f"value_embeds.{i}.weight"][idx][..., theirs]
            scores = (q @ k.mT / math.sqrt(D)).masked_fill(hidden_from, -math.inf)
            outputs.append(scores.softmax(-1) @ v)
        x = x + torch.cat(outputs, -1) @ w[here + "c_proj.weight"].T
        x = x + (rms(x) @ w[at + "mlp.c_fc.weight"].T).clamp_min(0) ** 2 @ w[at + "mlp.c_proj.weight"].T
        if i == L // 2:
            kept = x
    z = rms(x - w["backout_lambda"] * kept) @ w["lm_head.weight"].T
    return 15 * torch.tanh(z[..., : config.vocab_size] / 15)


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"n_layer": 4, "n_kv_head": 2},
        {"n_layer": 4, "n_kv_head": 1, "window_pattern": "S"},
        {"n_layer": 5, "n_kv_head": 2, "vocab_size": 129, "window_pattern": "SL"},
        {"n_layer": 1},
    ],
    ids=["plain", "even, grouped", "one key head", "odd, two letters", "one layer"],
)
def test_the_model_is_that_of_the_design(changes):
    config = like(LONG, **changes)
    model = trained(config)
    idx, targets = tokens(config, 2, T_LONG)
    w = {name: tensor.detach().double().requires_grad_() for name, tensor in model.state_dict().items()}
    expected = reference_logits(w, config, idx)
    counted = [(b, t) for b in range(2) for t in range(T_LONG) if targets[b, t] != -1]
    loss = sum(expected[b, t].logsumexp(-1) - expected[b, t, targets[b, t]] for b, t in counted) / len(counted)

    logits = model(idx)
    assert logits.dtype == torch.float32 and logits.shape == (2, T_LONG, config.vocab_size)
    assert expected.abs().max() > 12, "the cap should matter here"
    torch.testing.assert_close(logits.double(), expected, rtol=0, atol=1e-4)
    found = model(idx, targets)
    torch.testing.assert_close(found.double(), loss, rtol=1e-5, atol=0)
    right = dict(zip(w, torch.autograd.grad(loss, list(w.values())), strict=True))
    assert_same(gradients(model, found), without_noise(config, right), 1e-4)


def test_the_past_does_not_know_the_future():
    model, (idx, _) = trained(LONG), tokens(LONG, 1, T_LONG)
    other = idx.clone()
    other[:, 200:] = (other[:, 200:] + 1) % LONG.vocab_size
    before, after = model(idx), model(other)
    torch.testing.assert_close(before[:, :200], after[:, :200], rtol=0, atol=1e-5)
    assert (before[:, 200:] - after[:, 200:]).abs().amax(-1).min() > 0.01


# --- the weights -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("n_layer", [1, 4, 5])
def test_names_and_shapes(n_layer):
    model = fresh(like(SMALL, n_layer=n_layer))
    expected = {"transformer.wte.weight": (128, 64), "lm_head.weight": (128, 64), "resid_lambdas": (n_layer,), "x0_lambdas": (n_layer,),
                "smear_gate.weight": (1, 24), "smear_lambda": (1,), "backout_lambda": (1,)}  # fmt: skip
    for i in range(n_layer):
        at = f"transformer.h.{i}."
        expected |= {at + f"attn.{name}.weight": (64, 64) for name in ("c_q", "c_proj")}
        expected |= {at + f"attn.{name}.weight": (32, 64) for name in ("c_k", "c_v")}
        expected |= {at + "mlp.c_fc.weight": (256, 64), at + "mlp.c_proj.weight": (64, 256)}
    for i in {1: [0], 4: [1, 3], 5: [0, 2, 4]}[n_layer]:
        expected |= {f"transformer.h.{i}.attn.ve_gate.weight": (2, 12), f"value_embeds.{i}.weight": (128, 32)}
    assert {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()} == expected
    assert set(dict(model.named_parameters())) == set(expected)


def test_a_new_model_as_the_design_has_it():
    config = GPTConfig(sequence_len=128, vocab_size=1000, n_layer=4, n_head=4, n_kv_head=2, n_embd=256)
    model = fresh(config)
    w = {name: tensor.float() for name, tensor in model.state_dict().items()}

    def is_normal(name, std):
        assert w[name].std().item() == pytest.approx(std, rel=0.01) and abs(w[name].mean().item()) < 0.01 * std, name
        assert 3.8 < w[name].abs().max().item() / std < 6.5, name  # a uniform distribution would end at 1.73

    def is_uniform(name, low, high):
        assert low <= w[name].min() and w[name].max() <= high, name
        few = 0.5 if w[name].numel() < 100 else 0.01
        assert w[name].max() - w[name].min() > (high - low) * (1 - few), name
        assert w[name].mean().item() == pytest.approx((low + high) / 2, abs=few * (high - low)), name

    is_normal("transformer.wte.weight", 0.8)
    is_normal("lm_head.weight", 0.001)
    bound = math.sqrt(3) / math.sqrt(256)
    for i in range(4):
        at = f"transformer.h.{i}."
        for name in ("c_q", "c_k", "c_v"):
            is_uniform(at + f"attn.{name}.weight", -bound, bound)
        is_uniform(at + "mlp.c_fc.weight", -0.4 * bound, 0.4 * bound)
        assert not w[at + "attn.c_proj.weight"].any() and not w[at + "mlp.c_proj.weight"].any()
    for i in (1, 3):
        is_uniform(f"value_embeds.{i}.weight", -bound, bound)
        is_uniform(f"transformer.h.{i}.attn.ve_gate.weight", 0, 0.02)
    is_uniform("smear_gate.weight", 0, 0.02)
    torch.testing.assert_close(w["resid_lambdas"], torch.tensor([1.15, 1.15 - 0.1 / 3, 1.05 + 0.1 / 3, 1.05]))
    torch.testing.assert_close(w["x0_lambdas"], torch.tensor([0.20, 0.15, 0.10, 0.05]))
    assert w["smear_lambda"].item() == 0 and w["backout_lambda"].item() == pytest.approx(0.2)


def test_built_on_meta_and_set_entirely():
    """What to_empty leaves is garbage, and not one number of it may survive."""
    with torch.device("meta"):
        model = GPT(SMALL)
    assert all(tensor.is_meta for tensor in itertools.chain(model.parameters(), model.buffers()))
    model.to_empty(device=CPU)
    with torch.no_grad():
        for tensor in itertools.chain(model.parameters(), model.buffers()):
            tensor.fill_(math.nan)
    model.init_weights()
    assert all(tensor.isfinite().all() for tensor in itertools.chain(model.parameters(), model.buffers()))
    assert model.get_device() == CPU
    torch.testing.assert_close(model(torch.tensor([[1, 2, 3]])).abs().max(), torch.tensor(0.0), rtol=0, atol=0.1)  # std 0.001 in the head

    other = trained(SMALL)
    model.load_state_dict(other.state_dict())
    idx, targets = tokens(SMALL, 2, 30)
    assert torch.equal(model(idx, targets), other(idx, targets))


@pytest.mark.parametrize(("wish", "compute", "stored"), [("bf16", torch.bfloat16, torch.bfloat16), ("fp16", torch.float16, torch.float32),
                                                        ("fp32", torch.float32, torch.float32)])  # fmt: skip
def test_dtypes(wish, compute, stored, monkeypatch):
    """Embeddings are stored as they are used, but not in float16; all else is float32; logits and loss are float32."""
    monkeypatch.setenv("NANOCHAT_DTYPE", wish)
    model = fresh(SMALL)
    assert model.compute_dtype == compute
    for name, p in model.named_parameters():
        assert p.dtype == (stored if "wte" in name or "value_embeds" in name else torch.float32), name
    idx, targets = tokens(SMALL, 2, 30)
    loss = model(idx, targets)
    loss.backward()
    assert loss.dtype == model(idx).dtype == torch.float32 and model.hidden(idx).dtype == compute
    assert all(p.grad.dtype == p.dtype for p in model.parameters())
    assert loss.item() == pytest.approx(math.log(100), abs=0.02)


@pytest.mark.parametrize("kernels", ["the best", "torch's"])
@pytest.mark.parametrize("n_kv_head", [4, 2])
def test_bf16_is_close_to_float32(monkeypatch, kernels, n_kv_head):
    config = like(LONG, n_kv_head=n_kv_head)
    exact = trained(config)
    monkeypatch.setenv("NANOCHAT_DTYPE", "bfloat16")
    model = fresh(config)
    model.load_state_dict(exact.state_dict())
    if kernels == "torch's":
        model.kernel = "sdpa"
        for block in model.transformer.h:
            block.mlp.cpu_training = False
    idx, targets = tokens(config, 2, T_LONG)
    # a rounding to 8 bits is off by 1/512 at most; a few dozen of them lie on the way, in both directions
    assert (model(idx) - exact(idx)).norm() / exact(idx).norm() < 0.03
    loss, expected = model(idx, targets), exact(idx, targets)
    assert loss.item() == pytest.approx(expected.item(), rel=0.01)
    right = gradients(exact, expected)
    for name, found in gradients(model, loss).items():
        assert F.cosine_similarity(found.double().flatten(), right[name].double().flatten(), dim=0) > 0.99, name


# --- loss ------------------------------------------------------------------------------------------------------------


def test_reductions_agree():
    model, (idx, targets) = trained(SMALL), tokens(SMALL, 3, 40)
    plain = F.cross_entropy(model(idx).view(-1, 100), targets.view(-1), ignore_index=-1, reduction="none").view(3, 40)
    each = model(idx, targets, loss_reduction="none")
    torch.testing.assert_close(each, plain)
    assert not each[targets == -1].any()
    torch.testing.assert_close(model(idx, targets, loss_reduction="sum"), plain.sum())
    torch.testing.assert_close(model(idx, targets), plain.sum() / (targets != -1).sum())
    torch.testing.assert_close(model(idx, targets, loss_reduction="mean"), model(idx, targets))


@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
def test_gradients_of_reductions(reduction):
    """none with a weight for each token is how RL learns."""
    model, (idx, targets) = trained(SMALL), tokens(SMALL, 3, 40)
    weights = torch.randn(3, 40, generator=torch.Generator().manual_seed(3)) if reduction == "none" else torch.ones(3, 40)
    plain = (F.cross_entropy(model(idx).view(-1, 100), targets.view(-1), ignore_index=-1, reduction="none").view(3, 40) * weights).sum()
    if reduction == "mean":
        plain = plain / (targets != -1).sum()
    found = model(idx, targets, loss_reduction=reduction)
    assert_same(gradients(model, (found * weights).sum() if reduction == "none" else found), gradients(model, plain), 1e-5)


@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
def test_nothing_to_learn(reduction):
    model, (idx, targets) = trained(SMALL), tokens(SMALL, 2, 20)
    loss = model(idx, torch.full_like(targets, -1), loss_reduction=reduction)
    assert not loss.any() and not loss.isnan().any()
    loss.sum().backward()
    assert all(not p.grad.any() for p in model.parameters())  # NaN would count as something


def test_activation_checkpointing_changes_nothing():
    model, (idx, targets) = trained(LONG), tokens(LONG, 1, T_LONG)
    plain = model(idx, targets)
    expected = gradients(model, plain)
    calls = [0] * LONG.n_layer
    for i, block in enumerate(model.transformer.h):
        block.register_forward_pre_hook(lambda *_, i=i: calls.__setitem__(i, calls[i] + 1))
    model.activation_checkpointing = True
    loss = model(idx, targets)
    assert torch.equal(loss, plain)
    assert_same(gradients(model, loss), expected, 1e-6)
    assert calls == [2] * LONG.n_layer  # once more in backward
    with torch.no_grad():
        torch.testing.assert_close(model(idx, targets), plain, rtol=1e-6, atol=0)  # nothing is kept for gradients: sums add up in another order
    assert calls == [3] * LONG.n_layer


@pytest.mark.skipif(shutil.which("g++") is None, reason="torch.compile needs a C++ compiler on a CPU")
def test_compiled_blocks_compute_the_same():
    config = like(SMALL, n_layer=2)
    model, (idx, targets) = trained(config), tokens(config, 2, 32)
    plain = model(idx, targets)
    expected = gradients(model, plain)
    counter = torch._dynamo.utils.counters["stats"]
    before = counter["unique_graphs"]
    with torch._functorch.config.patch(activation_memory_budget=1.0):  # it sets this for the whole process; here it is set back
        model.compile_blocks()
        loss = model(idx, targets)
        found = gradients(model, loss)
    torch.testing.assert_close(loss, plain, rtol=1e-6, atol=0)
    assert_same(found, expected, 1e-5)
    assert counter["unique_graphs"] >= before + 2, "nothing was compiled"


# --- what it refuses -------------------------------------------------------------------------------------------------


def test_refusals():
    model = fresh(SMALL)
    model(torch.zeros(1, 64, dtype=torch.int64))
    with pytest.raises(UserError, match="65 tokens, but this model was built for 64"):
        model(torch.zeros(1, 65, dtype=torch.int64))
    with pytest.raises(UserError, match="--window-pattern 'SXL'"):
        GPT(like(SMALL, window_pattern="SXL"))
    with pytest.raises(AssertionError):
        GPT(like(SMALL, n_kv_head=3))


# --- talking ---------------------------------------------------------------------------------------------------------


def test_greedy_is_the_argmax_of_all_that_came_before():
    model, prompt = trained(SMALL), [5, 17, 3]
    written = list(model.generate(prompt, 70, temperature=0))
    assert len(written) == 70 and len(set(written)) > 5
    everything = prompt + written
    for n in range(3, 73):  # in the end it sees the last 64 only
        assert everything[n] == model(torch.tensor([everything[max(0, n - 64) : n]]))[0, -1].argmax().item()


def test_sampling():
    model = trained(SMALL)

    def write(count=25, **settings):
        return list(model.generate([1, 2], count, **settings))

    assert write(seed=3) == write(seed=3) != write(seed=4)
    assert write(seed=3) == write(seed=3, temperature=1.0, top_k=0) == write(seed=3, top_k=1000)
    assert write(top_k=1) == write(temperature=0) == write(temperature=1e-4, seed=9) != write()
    text = [1, 2, *write(top_k=3, temperature=5.0)]
    ranks = [(model(torch.tensor([text[:n]]))[0, -1] > model(torch.tensor([text[:n]]))[0, -1, text[n]]).sum().item() for n in range(2, 27)]
    assert set(ranks) == {0, 1, 2}


def test_samples_follow_the_probabilities():
    model = trained(SMALL)
    with torch.no_grad():
        model.lm_head.weight.mul_(0.1)  # so that many tokens have a chance
        p = F.softmax(model(torch.tensor([[7]]))[0, -1] / 0.5, dim=-1)
    counts = torch.zeros(100)
    for seed in range(1500):
        counts[next(model.generate([7], 1, temperature=0.5, seed=seed))] += 1
    assert (counts / 1500 - p).abs().sum() < 0.25  # the mean of this distance is about √(2/π · 100/1500) = 0.2 at most
    assert (counts / 1500 - torch.full((100,), 0.01)).abs().sum() > 0.35  # and from the uniform distribution it is far


# --- what training asks ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("depth", [1, 2, 3, 5, 12, 20])
@pytest.mark.parametrize("n_kv_head", [-1, 1])
def test_counts_are_those_of_the_plan(depth, n_kv_head):
    plan = make_plan(depth, 5000, n_kv_head=n_kv_head, sequence_len=1024, window_pattern="SSL")
    with torch.device("meta"):
        model = GPT(GPTConfig(1024, 5000, depth, plan.n_head, plan.n_kv_head, plan.n_embd, "SSL"))
    counts = param_counts(depth, plan.n_embd, plan.n_head, plan.n_kv_head, 5000)
    assert model.num_scaling_params() == counts == plan.counts
    assert counts["total"] == sum(p.numel() for p in model.parameters())
    assert model.windows == plan.windows
    assert model.estimate_flops() == flops_per_token(counts, plan.n_embd, plan.windows, 1024) == plan.flops_per_token


def test_who_learns_how():
    plan = make_plan(3, 500, aspect_ratio=16, head_dim=16, sequence_len=128, num_iterations=1, total_batch_size=2**15, n_kv_head=1,
                     embedding_lr=0.31, unembedding_lr=0.007, matrix_lr=0.023, scalar_lr=0.6, weight_decay=0.3)  # fmt: skip
    model = fresh(GPTConfig(128, 500, 3, plan.n_head, plan.n_kv_head, plan.n_embd))
    rates = {"embedding_lr": 0.31, "unembedding_lr": 0.007, "matrix_lr": 0.023, "scalar_lr": 0.6}
    rates = {name: rate * plan.batch_scale for name, rate in rates.items()}
    optimizer = build_optimizer(model, rates, plan.weight_decay, Compute(False, 0, 0, 1, CPU), False)

    group_of = {p: group for group in optimizer.param_groups for p in group["params"]}
    owned = [p for group in optimizer.param_groups for p in group["params"]]
    assert len(owned) == len(group_of) == len(list(model.parameters())) and set(model.parameters()) == set(group_of)
    expected = {  # plan's name, betas, weight decay
        "lm_head.weight": ("lm_head", (0.8, 0.96), 0.01),
        "transformer.wte.weight": ("wte", (0.8, 0.995), 0.001),
        "value_embeds.0.weight": ("value_embeds", (0.8, 0.995), 0.01),
        "value_embeds.2.weight": ("value_embeds", (0.8, 0.995), 0.01),
        "resid_lambdas": ("resid_lambdas", (0.8, 0.95), 0.05),
        "x0_lambdas": ("x0_lambdas", (0.96, 0.95), 0.0),
        "smear_gate.weight": ("smear_backout", (0.8, 0.95), 0.0),
        "smear_lambda": ("smear_backout", (0.8, 0.95), 0.0),
        "backout_lambda": ("smear_backout", (0.8, 0.95), 0.0),
    }
    for name, p in model.named_parameters():
        group = group_of[p]
        if name in expected:
            rate, betas, weight_decay = expected.pop(name)
            assert (group["kind"], group["betas"], group["eps"], group["weight_decay"]) == ("adamw", betas, 1e-10, weight_decay), name
            assert group["lr"] == group["initial_lr"] == pytest.approx(plan.lr[rate], rel=1e-12), name
        else:
            assert name.startswith("transformer.h.") and group["kind"] == "muon", name
            assert (group["momentum"], group["ns_steps"], group["beta2"]) == (0.95, 5, 0.9)
            assert group["lr"] == pytest.approx(plan.lr["matrices"], rel=1e-12) and group["weight_decay"] == plan.weight_decay
            assert len({q.shape for q in group["params"]}) == 1
    assert not expected
    assert plan.batch_scale == 0.25  # so that forgetting it would show
