"""Linear layers whose three products run in float8 (arXiv 2209.05433): inputs and weights in e4m3, gradients in e5m2, each with a scale that puts its
largest value at the end of the range. Twice the speed of bfloat16 on Hopper and later; the weights stay float32 and the state dict is the same."""

import torch

from nanochat.common import UserError
from nanochat.gpt import GPT, MLP, Linear

RECIPES = ("tensorwise", "rowwise")  # one scale for a matrix: fast; one for each row: closer, and slower
SMALLEST = 128  # a product with a dimension below this is over before its inputs are converted


def check_fp8(device: torch.device, recipe: str, dtype: torch.dtype) -> None:
    if recipe not in RECIPES:
        raise UserError(f"--fp8-recipe {recipe!r}: use one of {', '.join(RECIPES)}")
    if device.type != "cuda" or torch.cuda.get_device_capability(device) < (8, 9):
        raise UserError(f"--fp8 needs a GPU with float8 products (compute capability 8.9 or later: H100, L40S, RTX 4090 …), and this is "
                        f"{torch.cuda.get_device_name(device) if device.type == 'cuda' else device.type}: leave --fp8 out")  # fmt: skip
    if dtype != torch.bfloat16:
        raise UserError(f"--fp8 goes with bfloat16, and NANOCHAT_DTYPE asks for {str(dtype)[6:]}: leave one of the two out")


def check_fp8_tokens(tokens: int) -> None:
    """The gradient to a weight is a product over all tokens of a micro-batch, and float8 kernels want multiples of 16."""
    if tokens % 16:
        raise UserError(f"--fp8 needs micro-batches of a multiple of 16 tokens, not {tokens}: change --max-seq-len or --device-batch-size")


def convert_to_fp8(model: GPT, recipe: str) -> int:
    """Make the blocks' large layers compute in float8 while training. Returns how many there are."""
    count = 0
    for module in list(model.transformer.h.modules()):
        for name, child in list(module.named_children()):
            rows, columns = child.weight.shape if type(child) is Linear else (0, 0)
            if min(rows, columns) >= SMALLEST and rows % 16 == columns % 16 == 0:  # what the kernels ask for
                setattr(module, name, Float8Linear(child, recipe))
                if isinstance(module, MLP):
                    module.cpu_training = False  # which would pass its layers by
                count += 1
    return count


class Float8Linear(Linear):
    def __init__(self, linear: Linear, recipe: str):
        torch.nn.Module.__init__(self)  # takes over the weight and makes none
        self.weight, self.recipe = linear.weight, recipe
        self.out_features, self.in_features = linear.weight.shape

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if not self.training:  # what is evaluated is the model that others will load
            return super().forward(x)
        y = _Product.apply(x.reshape(-1, x.size(-1)).contiguous(), self.weight, self.recipe == "rowwise")
        return y.view(*x.shape[:-1], -1)


class _Product(torch.autograd.Function):
    """y = x @ w.T for x (M, K) and w (N, K)."""

    @staticmethod
    def forward(ctx, x, w, rowwise):
        ctx.save_for_backward(x, w)
        ctx.rowwise = rowwise
        return scaled_product(x, w.to(x.dtype), torch.float8_e4m3fn, torch.float8_e4m3fn, rowwise)

    @staticmethod
    def backward(ctx, dy):
        x, w = ctx.saved_tensors
        dy, fast, wide = dy.contiguous(), torch.float8_e4m3fn, torch.float8_e5m2  # gradients need range more than digits
        dx = scaled_product(dy, w.to(dy.dtype).t().contiguous(), wide, fast, ctx.rowwise)
        dw = scaled_product(dy.t().contiguous(), x.t().contiguous(), wide, fast, ctx.rowwise)
        return dx, dw.to(w.dtype), None


def scaled_product(a: torch.Tensor, b: torch.Tensor, a_type: torch.dtype, b_type: torch.dtype, rowwise: bool) -> torch.Tensor:
    """a (M, K) @ b (N, K).T, both contiguous, in float8; the result in a's dtype."""
    assert a.is_contiguous() and b.is_contiguous() and a.size(1) == b.size(1)
    a8, a_scale = to_float8(a, a_type, rowwise)
    b8, b_scale = to_float8(b, b_type, rowwise)
    # The kernel wants its second matrix column-major, which is b.t() of a contiguous b. Fast accumulation costs digits that gradients need.
    fast = a_type == torch.float8_e4m3fn
    return torch._scaled_mm(a8, b8.t(), scale_a=a_scale, scale_b=b_scale.t(), out_dtype=a.dtype, use_fast_accum=fast)


def to_float8(x: torch.Tensor, dtype: torch.dtype, rowwise: bool) -> tuple[torch.Tensor, torch.Tensor]:
    """x (M, K) in float8, and what to multiply it with to get x back: one number, or one for each row (M, 1)."""
    largest = x.abs().amax(dim=1, keepdim=True).float() if rowwise else x.abs().amax().float()
    inverse = largest.clamp_min(1e-12) / torch.finfo(dtype).max
    limit = torch.finfo(dtype).max
    return (x.float() / inverse).clamp(-limit, limit).to(dtype), inverse
