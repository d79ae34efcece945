"""The head and the loss: product with the vocabulary, soft cap, cross-entropy. The logits are by far the largest matrix of a training step, so where
that pays they are made some rows at a time and turned into their own gradient on the spot; nobody ever holds all of them."""

import torch
import torch.nn.functional as F

from nanochat import cpu_kernels

SOFTCAP = 15.0
LOGITS_ROWS, GRADIENT_ROWS = 1024, 256  # on a CPU, the number of rows at which the products for logits and for the gradient to x are fastest
FEW_IGNORED = 0.05  # of the rows: to leave them out costs a copy of the others
CHUNK_BYTES = {"cpu": 128 << 20, "cuda": 512 << 20}  # of logits held at a time for one product with all their rows
PLAIN_BYTES = {"cpu": 0, "cuda": 8 << 30}  # float32 logits of up to this size are simply materialised: compiled as one, that is the faster way


def head_loss(x: torch.Tensor, weight: torch.Tensor, targets: torch.Tensor, vocab: int, reduction: str = "mean") -> torch.Tensor:
    """Cross-entropy of soft-capped logits. x (N, C) in the compute dtype, weight (V, C) of which the first `vocab` rows are words, targets (N,)
    with -1 ignored. reduction: mean over the targets, sum, or none (N,). Without any target the loss is 0."""
    assert reduction in ("mean", "sum", "none")
    scale = (targets >= 0).float()  # the weight of each row's loss in what is returned
    if reduction == "mean":
        scale = scale / scale.sum().clamp_min(1)
    if x.size(0) * weight.size(0) * 4 <= PLAIN_BYTES.get(x.device.type, 0):
        losses = plain_losses(x, weight, targets, vocab)
    elif not (torch.is_grad_enabled() and (x.requires_grad or weight.requires_grad)):
        losses = losses_and_gradients(x, weight, targets, None, vocab)[0]
    elif reduction == "none" or x.dtype == torch.float16:  # float16's gradients must be made with the loss scale in them, and backward brings it
        losses = _HeadLosses.apply(x, weight, targets, vocab)
    else:
        return _WeightedLoss.apply(x, weight, targets, scale, vocab)
    return losses if reduction == "none" else torch.dot(losses, scale)


def plain_losses(x: torch.Tensor, weight: torch.Tensor, targets: torch.Tensor, vocab: int) -> torch.Tensor:
    """The formula as it stands in the book."""
    logits = F.linear(x, weight.to(x.dtype))[:, :vocab].float()
    return F.cross_entropy(SOFTCAP * torch.tanh(logits / SOFTCAP), targets, ignore_index=-1, reduction="none")


class _WeightedLoss(torch.autograd.Function):
    """Σ scale·loss. The weights are known beforehand, so forward leaves the finished gradients and backward only hands them out."""

    @staticmethod
    def forward(ctx, x, weight, targets, scale, vocab):
        losses, dx, dw = losses_and_gradients(x, weight, targets, scale, vocab)
        ctx.save_for_backward(dx, dw)
        return torch.dot(losses, scale)

    @staticmethod
    def backward(ctx, grad):
        dx, dw = ctx.saved_tensors
        if grad.device.type == "cpu" and grad == 1:  # to look costs nothing there, to multiply two passes over the head
            return dx, dw, None, None, None
        return (dx.float() * grad).to(dx.dtype), dw * grad, None, None, None


class _HeadLosses(torch.autograd.Function):
    """Each row's loss. What weight each will get is known in backward only, which makes the logits again."""

    @staticmethod
    def forward(ctx, x, weight, targets, vocab):
        ctx.save_for_backward(x, weight, targets)
        ctx.vocab = vocab
        return losses_and_gradients(x, weight, targets, None, vocab)[0]

    @staticmethod
    def backward(ctx, grad):
        x, weight, targets = ctx.saved_tensors
        _, dx, dw = losses_and_gradients(x, weight, targets, grad.float().contiguous(), ctx.vocab)
        return dx, dw, None, None


@torch._disable_dynamo  # torch.compiler.disable would import the compiler here and now, which takes as long as all the rest of torch
@torch.no_grad
def losses_and_gradients(
    x: torch.Tensor, weight: torch.Tensor, targets: torch.Tensor, scale: torch.Tensor | None, vocab: int
) -> tuple[torch.Tensor, torch.Tensor | None, torch.Tensor | None]:
    """losses (N,), and with scale (N,) the gradients of Σ scale·loss to x and weight."""
    if x.device.type == "cpu" and (targets < 0).sum() > FEW_IGNORED * len(targets):
        return _of_words_only(x, weight, targets, scale, vocab)
    if x.device.type == "cpu" and cpu_kernels.head_usable(x, weight):
        return cpu_kernels.head_loss(x, weight.to(x.dtype), targets, scale, vocab, SOFTCAP)
    N, V = x.size(0), weight.size(0)
    losses = x.new_empty(N, dtype=torch.float32)
    dx, dw = (torch.empty_like(x), torch.zeros_like(weight, dtype=torch.float32)) if scale is not None else (None, None)
    w = weight.to(x.dtype)
    rows = max(LOGITS_ROWS, CHUNK_BYTES.get(x.device.type, CHUNK_BYTES["cuda"]) // (V * x.element_size()) // LOGITS_ROWS * LOGITS_ROWS)
    buffer = x.new_empty(min(rows, N), V)
    on_cpu = x.device.type == "cpu"
    for start in range(0, N, rows):
        chunk = slice(start, min(start + rows, N))
        logits = buffer[: chunk.stop - start]
        for part in _pieces(chunk, LOGITS_ROWS if on_cpu else rows):
            z = torch.mm(x[part], w.t(), out=logits[part.start - start : part.stop - start])
            _softcap_loss(z, targets[part], None if scale is None else scale[part], losses[part], vocab)
            if scale is not None:
                for piece in _pieces(part, GRADIENT_ROWS if on_cpu else rows):
                    torch.mm(logits[piece.start - start : piece.stop - start], w, out=dx[piece])
        if scale is not None:  # over many rows at once: adding up in float32 costs as much as a product over a few hundred
            _add_product(dw, logits, x[chunk])
    return losses, dx, dw


def _of_words_only(x, weight, targets, scale, vocab) -> tuple[torch.Tensor, torch.Tensor | None, torch.Tensor | None]:
    """The same, without the work for rows that have no target: in a chat nearly half of them are what the user said."""
    kept = (targets >= 0).nonzero()[:, 0]
    losses, dx, dw = losses_and_gradients(x[kept], weight, targets[kept], None if scale is None else scale[kept], vocab)
    losses = x.new_zeros(len(x), dtype=torch.float32).index_copy_(0, kept, losses)
    return losses, None if dx is None else torch.zeros_like(x).index_copy_(0, kept, dx), dw


def _pieces(whole: slice, size: int) -> list[slice]:
    return [slice(first, min(first + size, whole.stop)) for first in range(whole.start, whole.stop, size)]


def _add_product(total: torch.Tensor, dz: torch.Tensor, x: torch.Tensor) -> None:
    """total (V, C) += dz.t() @ x for dz (n, V) and x (n, C)."""
    if x.device.type == "cpu" and cpu_kernels.loss_usable(x.dtype):  # transposing the small factor and the product is quicker than the large one
        cpu_kernels.add_transposed(total, cpu_kernels.transposed(x) @ dz)
    else:
        total += dz.t() @ x


def _softcap_loss(z: torch.Tensor, targets: torch.Tensor, scale: torch.Tensor | None, losses: torch.Tensor, vocab: int) -> None:
    """Fill losses; with scale, turn z (n, V) into the gradient to itself."""
    if z.device.type == "cpu" and cpu_kernels.loss_usable(z.dtype):
        cpu_kernels.softcap_loss(z, targets, scale, losses, vocab, SOFTCAP)
        return
    tanh = torch.tanh(z[:, :vocab].float() / SOFTCAP)
    kept, target = targets >= 0, targets.clamp_min(0)[:, None]
    log_p = F.log_softmax(SOFTCAP * tanh, dim=-1)
    losses.copy_(torch.where(kept, -log_p.gather(1, target)[:, 0], 0))
    if scale is not None:
        gradient = log_p.exp_().scatter_add_(1, target, torch.full_like(target, -1, dtype=torch.float32))
        z[:, :vocab] = gradient * (1 - tanh.square_()) * (scale * kept)[:, None]
        z[:, vocab:] = 0
