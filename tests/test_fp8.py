"""Float8 layers on a CPU, where torch has the product too; what only the GPU's kernel asks for is asserted on the way to it."""

import math

import pytest
import torch

from nanochat import fp8
from nanochat.common import UserError
from nanochat.fp8 import RECIPES, Float8Linear, check_fp8, convert_to_fp8, scaled_product, to_float8
from nanochat.gpt import GPT, GPTConfig, Linear

pytestmark = pytest.mark.usefixtures("one_thread")

E4M3, E5M2 = torch.float8_e4m3fn, torch.float8_e5m2
STEP = {E4M3: 2**-4, E5M2: 2**-3}  # the largest relative error of rounding to 3 and to 2 bits behind the point
CONFIG = GPTConfig(sequence_len=64, vocab_size=300, n_layer=3, n_head=2, n_kv_head=1, n_embd=128)


@pytest.fixture(autouse=True)
def products(monkeypatch) -> list[tuple]:
    """The types of each product's matrices, and (M, K, N). Products go through torch with the rules of the GPU's kernel held."""
    made, real = [], torch._scaled_mm

    def strict(a, b, *, scale_a, scale_b, out_dtype, use_fast_accum):
        (M, K), N = a.shape, b.size(1)
        assert a.dtype in (E4M3, E5M2) and b.dtype in (E4M3, E5M2) and not a.dtype == b.dtype == E5M2
        assert a.stride() == (K, 1), "the first matrix must be row-major"
        assert b.shape == (K, N) and b.stride() == (1, K), "the second matrix must be column-major"
        assert K % 16 == N % 16 == 0, "whole pieces of 16 bytes"
        assert scale_a.dtype == scale_b.dtype == torch.float32
        assert (scale_a.shape, scale_b.shape) in [((), ()), ((M, 1), (1, N))]
        assert scale_a.is_contiguous() and scale_b.is_contiguous()
        assert scale_a.dim() == 0 or (out_dtype == torch.bfloat16 and b.dtype == E4M3), "the kernel for rows knows no other"
        assert not use_fast_accum or a.dtype == E4M3, "gradients need all digits"
        made.append((a.dtype, b.dtype, M, K, N))
        return real(a, b, scale_a=scale_a, scale_b=scale_b, out_dtype=out_dtype, use_fast_accum=use_fast_accum)

    monkeypatch.setattr(torch, "_scaled_mm", strict)
    return made


def random(*shape: int, seed: int = 0, uneven: bool = False) -> torch.Tensor:
    """Numbers in bfloat16; uneven: rows of very different sizes."""
    x = torch.randn(shape, generator=torch.Generator().manual_seed(seed))
    return (x * torch.logspace(-3, 3, shape[0])[:, None] if uneven else x).bfloat16()


def plain_layer(inputs: int, outputs: int) -> Linear:
    layer = Linear(inputs, outputs)
    with torch.no_grad():
        layer.weight.copy_(random(outputs, inputs, seed=3) / inputs**0.5)
    return layer


def model_like(monkeypatch) -> GPT:
    monkeypatch.setenv("NANOCHAT_DTYPE", "bfloat16")
    torch.manual_seed(0)
    model = GPT(CONFIG)
    model.init_weights()
    with torch.no_grad():
        for block in model.transformer.h:
            for layer in (block.attn.c_proj, block.mlp.c_proj):
                layer.weight.normal_(std=0.1)
        model.lm_head.weight.normal_(std=0.2)
    return model


# --- conversion of numbers -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [E4M3, E5M2])
@pytest.mark.parametrize("rowwise", [False, True])
def test_rounding(dtype, rowwise):
    x = random(32, 64, uneven=rowwise)
    small, scale = to_float8(x, dtype, rowwise)
    assert small.dtype == dtype and scale.shape == ((32, 1) if rowwise else ()) and scale.dtype == torch.float32
    largest = x.abs().amax(1, keepdim=True).float() if rowwise else x.abs().max().float()
    torch.testing.assert_close(scale, largest / torch.finfo(dtype).max)  # the end of the range is used
    reached = small.float().abs().amax(1, keepdim=True) if rowwise else small.float().abs().max()
    assert (reached == torch.finfo(dtype).max).all()
    bound = x.float().abs() * STEP[dtype] + scale * torch.finfo(dtype).smallest_normal  # below the normal numbers steps are constant
    assert ((small.float() * scale - x.float()).abs() <= bound * 1.001).all()


@pytest.mark.parametrize("rowwise", [False, True])
def test_extremes(rowwise):
    zero, scale = to_float8(torch.zeros(16, 16), E4M3, rowwise)
    assert not zero.float().any() and (scale > 0).all() and scale.isfinite().all()
    for wrong in (math.nan, math.inf):
        x = torch.ones(16, 16)
        x[3, 4] = wrong
        small, scale = to_float8(x, E4M3, rowwise)
        assert (small.float() * scale)[3, 4].isnan(), "a broken run must look broken"
    tiny, scale = to_float8(torch.full((16, 16), 1e-9), E5M2, rowwise)
    torch.testing.assert_close(tiny.float() * scale, torch.full((16, 16), 1e-9))


@pytest.mark.parametrize("rowwise", [False, True])
@pytest.mark.parametrize(("a_type", "b_type"), [(E4M3, E4M3), (E5M2, E4M3)])
def test_products(products, rowwise, a_type, b_type):
    a, b = random(48, 256, seed=1, uneven=rowwise), random(80, 256, seed=2, uneven=rowwise)
    y = scaled_product(a, b, a_type, b_type, rowwise)
    assert y.dtype == torch.bfloat16 and products == [(a_type, b_type, 48, 256, 80)]
    a, b, exact = a.double(), b.double(), a.double() @ b.double().T
    # At most: each factor off by its step (and by what lies below the smallest normal number, which matters little), the result by 2^-8
    bound = (a.abs() @ b.abs().T) * (STEP[a_type] + STEP[b_type]) * 1.1 + exact.abs() * 2**-8
    assert ((y.double() - exact).abs() <= bound).all()
    off = (y.double() - exact) / (a.norm(dim=1)[:, None] * b.norm(dim=1))  # errors go both ways: together they are far smaller, in every row
    assert off.pow(2).mean(1).sqrt().max() < (STEP[a_type] + STEP[b_type]) / math.sqrt(256)


def test_a_scale_for_each_row_is_closer():
    a, b = random(48, 256, seed=1, uneven=True), random(80, 256, seed=2)
    exact = a.double() @ b.double().T
    errors = [((scaled_product(a, b, E4M3, E4M3, rowwise).double() - exact).norm(dim=1) / exact.norm(dim=1)) for rowwise in (False, True)]
    assert errors[0][0] > 0.5 > 0.05 > errors[1].max()  # by one scale for all the smallest row is rounded away


# --- layers ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("recipe", RECIPES)
def test_gradients_of_a_layer(products, recipe):
    plain = plain_layer(256, 128)
    layer = Float8Linear(plain, recipe)
    assert layer.weight is plain.weight and (layer.in_features, layer.out_features) == (256, 128) and layer.training
    x, dy = random(96, 256, seed=1).view(2, 48, 256).requires_grad_(), random(96, 128, seed=2).view(2, 48, 128)
    y, expected = layer(x), plain(x)
    assert y.shape == expected.shape and y.dtype == torch.bfloat16
    found, right = (torch.autograd.grad(out, (x, plain.weight), dy) for out in (y, expected))
    assert [g.dtype for g in found] == [torch.bfloat16, torch.float32] == [g.dtype for g in right]
    for a, b, bound in ((y, expected, 0.05), (found[0], right[0], 0.08), (found[1], right[1], 0.08)):  # rounding is off by half of STEP on average
        assert 0.005 < (a.float() - b.float()).norm() / b.float().norm() < bound  # and not by nothing: it was float8
    assert products == [(E4M3, E4M3, 96, 256, 128), (E5M2, E4M3, 96, 128, 256), (E5M2, E4M3, 128, 96, 256)]


def test_gradients_in_any_layout(products):
    """What comes from above may be one number for all."""
    layer, x = Float8Linear(plain_layer(128, 128), "tensorwise"), random(32, 128)
    layer(x).sum().backward()
    expected = x.float().sum(0).expand(128, 128)
    assert (layer.weight.grad - expected).norm() / expected.norm() < 0.1


@pytest.mark.parametrize("recipe", RECIPES)
def test_evaluation_is_that_of_the_plain_layer(products, recipe):
    plain, x = plain_layer(128, 256), random(5, 128)
    layer = Float8Linear(plain, recipe).eval()
    assert torch.equal(layer(x), plain(x)) and not products


# --- models ----------------------------------------------------------------------------------------------------------


def test_only_large_layers(monkeypatch):
    model = model_like(monkeypatch)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    parameters = list(model.parameters())
    # of each block c_q, c_proj, c_fc and c_proj; c_k and c_v have 64 rows, ve_gate 1, and the head stays as it is
    assert convert_to_fp8(model, "tensorwise") == 12
    converted = {name for name, module in model.named_modules() if isinstance(module, Float8Linear)}
    assert converted == {f"transformer.h.{i}.{name}" for i in range(3) for name in ("attn.c_q", "attn.c_proj", "mlp.c_fc", "mlp.c_proj")}
    after = model.state_dict()
    assert list(after) == list(before) and all(torch.equal(after[name], before[name]) for name in before)
    assert all(p is q for p, q in zip(model.parameters(), parameters, strict=True)), "the optimizer's are still the model's"
    assert convert_to_fp8(model, "tensorwise") == 0
    GPT(CONFIG).load_state_dict(after)


def test_sizes_that_the_kernel_does_not_take():
    holder = torch.nn.ModuleDict({"transformer": torch.nn.ModuleDict({"h": torch.nn.ModuleDict(
        {f"{n}x{m}": Linear(n, m) for n, m in ((128, 128), (120, 256), (256, 120), (136, 256), (256, 136), (144, 128))})})})  # fmt: skip
    holder.transformer, blocks = holder["transformer"], holder["transformer"]["h"]
    holder.transformer.h = blocks
    assert convert_to_fp8(holder, "rowwise") == 2
    assert {name for name, module in blocks.items() if isinstance(module, Float8Linear)} == {"128x128", "144x128"}


@pytest.mark.parametrize("recipe", RECIPES)
def test_a_model_learns_as_in_bf16(monkeypatch, products, recipe):
    plain, model = model_like(monkeypatch), model_like(monkeypatch)
    convert_to_fp8(model, recipe)
    for block in plain.transformer.h:
        block.mlp.cpu_training = False  # so that both, when evaluated, compute alike
    idx = torch.randint(300, (2, 32), generator=torch.Generator().manual_seed(0))
    loss, expected = model(idx, idx.roll(-1)), plain(idx, idx.roll(-1))
    loss.backward()
    expected.backward()
    assert len(products) == 3 * 12 and loss.item() == pytest.approx(expected.item(), rel=0.02) and loss.item() != expected.item()
    for (name, p), q in zip(model.named_parameters(), plain.parameters(), strict=True):
        if q.grad.any():
            similarity = torch.nn.functional.cosine_similarity(p.grad.double().flatten(), q.grad.double().flatten(), dim=0)
            assert similarity > 0.95, name
    model.eval(), plain.eval()
    assert torch.equal(model(idx), plain(idx))


# --- refusals --------------------------------------------------------------------------------------------------------


def test_refusals(monkeypatch):
    with pytest.raises(UserError, match=r"--fp8 needs a GPU with float8 products .* this is cpu: leave --fp8 out"):
        check_fp8(torch.device("cpu"), "tensorwise", torch.bfloat16)
    with pytest.raises(UserError, match=r"--fp8-recipe 'blockwise': use one of tensorwise, rowwise"):
        check_fp8(torch.device("cpu"), "blockwise", torch.bfloat16)
    monkeypatch.setattr(fp8.torch.cuda, "get_device_name", lambda device: "Ampere 1")
    for capability in ((8, 0), (8, 6)):
        monkeypatch.setattr(fp8.torch.cuda, "get_device_capability", lambda device, capability=capability: capability)
        with pytest.raises(UserError, match="this is Ampere 1: leave --fp8 out"):
            check_fp8(torch.device("cuda"), "tensorwise", torch.bfloat16)
    for capability in ((8, 9), (9, 0), (12, 0)):
        monkeypatch.setattr(fp8.torch.cuda, "get_device_capability", lambda device, capability=capability: capability)
        check_fp8(torch.device("cuda"), "rowwise", torch.bfloat16)
