"""The plan of a run, from one dial. `depth` gives the width; width and vocabulary give the parameters; those give the number of tokens; that gives
the batch, and the batch gives learning rates and weight decay. All of it is arithmetic, done before anything is built, and can be printed.

    plan = make_plan(depth=12, vocab_size=32768)
    print(plan.describe())

What was tuned was tuned on the reference, depth 12 with batches of 2^19 tokens; every rule below carries those values over to other sizes.
"""

import math
from typing import NamedTuple

from nanochat.common import UserError

REFERENCE_DEPTH = 12
REFERENCE_BATCH = 2**19  # tokens per step at which the learning rates and the weight decay of the reference were tuned
REFERENCE_WIDTH = 768  # n_embd at which the AdamW learning rates were tuned
BATCH_EXPONENT = 0.383  # the best batch grows with the number of tokens to this power

VOCAB_MULTIPLE = 64  # rows of embeddings and head: tensor cores like round sizes, and ranks can share the rows evenly
SHORT_WINDOW_MULTIPLE = 128  # the tile of attention kernels
VE_GATE_CHANNELS = 12  # channels of the stream that the gate of a value embedding reads
SMEAR_CHANNELS = 24  # the same for the smear gate
SMEAR_BACKOUT_LR = 0.2  # follows neither batch nor width: these are three tensors of 26 numbers in all

LR_GROUPS = ("lm_head", "wte", "value_embeds", "resid_lambdas", "x0_lambdas", "smear_backout", "matrices")

# --- sizes -----------------------------------------------------------------------------------------------------------


def dimensions(depth: int, aspect_ratio: int = 64, head_dim: int = 128) -> tuple[int, int]:
    """(n_embd, n_head): the width is depth times aspect_ratio, rounded up to whole heads."""
    if depth < 1:
        raise UserError(f"--depth {depth}: a model needs at least 1 layer; 4 trains on a laptop, 12 and 24 want GPUs")
    if aspect_ratio < 1:
        raise UserError(f"--aspect-ratio {aspect_ratio}: the width is depth × aspect ratio, so it must be at least 1 (the default is 64)")
    if head_dim < 2 or head_dim % 2:
        raise UserError(f"--head-dim {head_dim}: rotary embeddings turn pairs of channels, so it must be even and at least 2 (the default is 128)")
    n_embd = _round_up(depth * aspect_ratio, head_dim)
    if n_embd < SMEAR_CHANNELS:
        raise UserError(f"a width of {n_embd}, by --depth {depth}, --aspect-ratio {aspect_ratio} and --head-dim {head_dim}, is too small: "
                        f"the smear gate reads {SMEAR_CHANNELS} channels")  # fmt: skip
    return n_embd, n_embd // head_dim


def window_sizes(pattern: str, n_layer: int, sequence_len: int) -> list[int]:
    """How many tokens each layer looks back. The pattern is repeated over the layers; the last layer always sees everything."""
    if not pattern or set(pattern.upper()) - {"S", "L"}:
        raise UserError(f"--window-pattern {pattern!r}: write one letter per layer, S (a short window) or L (the whole sequence), "
                        f"for example SSSL; it is repeated over the layers")  # fmt: skip
    short = min(_round_up(-(-sequence_len // 4), SHORT_WINDOW_MULTIPLE), sequence_len)
    letters = [pattern[i % len(pattern)].upper() for i in range(n_layer - 1)] + ["L"]
    return [sequence_len if letter == "L" else short for letter in letters]


def padded_vocab(vocab_size: int) -> int:
    return _round_up(vocab_size, VOCAB_MULTIPLE)


def param_counts(n_layer: int, n_embd: int, n_head: int, n_kv_head: int, vocab_size: int) -> dict[str, int]:
    """Parameters by group, without building the model."""
    rows, head_dim = padded_vocab(vocab_size), n_embd // n_head
    gated_layers = -(-n_layer // 2)  # every second layer has a value embedding, counted back from the last
    projections = 2 * n_embd * n_head * head_dim + 2 * n_embd * n_kv_head * head_dim  # c_q and c_proj, c_k and c_v
    counts = {
        "wte": rows * n_embd,
        "value_embeds": gated_layers * rows * n_kv_head * head_dim,
        "lm_head": rows * n_embd,
        "transformer_matrices": n_layer * (projections + 2 * 4 * n_embd**2) + gated_layers * n_kv_head * VE_GATE_CHANNELS,
        "scalars": 2 * n_layer + SMEAR_CHANNELS + 2,  # resid_lambdas and x0_lambdas, the smear gate, smear_lambda and backout_lambda
    }
    return {**counts, "total": sum(counts.values())}


def scaling_params(counts: dict[str, int]) -> int:
    """The parameters that every token is multiplied with: they decide how much data and compute a model wants. Embeddings are looked up."""
    return counts["transformer_matrices"] + counts["lm_head"]


def flops_per_token(counts: dict[str, int], n_embd: int, windows: list[int], sequence_len: int) -> int:
    """Forward and backward. 6 for each multiplied parameter (2 forward, 4 backward), and 12 per channel and token looked at in attention.

    The window is counted as if all of it were always full, which overstates attention by the causal mask; so do others, and numbers compare.
    """
    return 6 * scaling_params(counts) + sum(12 * n_embd * min(window, sequence_len) for window in windows)


def _round_up(number: int, multiple: int) -> int:
    return -(-number // multiple) * multiple


# --- the plan --------------------------------------------------------------------------------------------------------


class Plan(NamedTuple):
    """Everything that follows from the dial and its companions. `plan._asdict()` goes into JSON as it is."""

    depth: int
    n_embd: int
    n_head: int
    n_kv_head: int
    head_dim: int
    sequence_len: int
    vocab_size: int
    padded_vocab_size: int
    window_pattern: str
    windows: list[int]
    counts: dict[str, int]
    num_scaling_params: int
    flops_per_token: int
    total_batch_size: int  # tokens per optimizer step, all ranks together
    num_iterations: int
    total_tokens: int
    total_flops: int
    tokens_per_param: float  # tokens trained on for each scaling parameter
    lr: dict[str, float]  # by parameter group
    weight_decay: float  # of Muon, at the start

    @property
    def batch_scale(self) -> float:
        """What the learning rates are multiplied with for the size of the batch; it is in `lr` already."""
        return math.sqrt(self.total_batch_size / REFERENCE_BATCH)

    def describe(self) -> str:
        return describe(self)


def make_plan(
    depth: int,
    vocab_size: int,
    *,
    aspect_ratio: int = 64,
    head_dim: int = 128,
    n_embd: int = -1,
    n_kv_head: int = -1,
    sequence_len: int = 2048,
    window_pattern: str = "SSSL",
    num_iterations: int = -1,
    target_flops: float = -1.0,
    target_param_data_ratio: float = 12.0,
    total_batch_size: int = -1,
    embedding_lr: float = 0.3,
    unembedding_lr: float = 0.008,
    matrix_lr: float = 0.02,
    scalar_lr: float = 0.5,
    weight_decay: float = 0.28,
) -> Plan:
    """The plan for one model. -1 means: follow from the rest (n_embd given is taken as it is). The horizon is num_iterations, else target_flops,
    else the data ratio."""
    assert vocab_size > 0, "a tokenizer has tokens"
    n_embd, n_head = dimensions(depth, aspect_ratio, head_dim) if n_embd == -1 else (n_embd, n_embd // head_dim)
    n_kv_head = n_head if n_kv_head == -1 else n_kv_head
    if sequence_len < 1:
        raise UserError(f"--max-seq-len {sequence_len}: a row needs at least 1 token (the default is 2048)")
    windows = window_sizes(window_pattern, depth, sequence_len)
    counts = param_counts(depth, n_embd, n_head, n_kv_head, vocab_size)
    flops = flops_per_token(counts, n_embd, windows, sequence_len)

    growth = _data_growth(scaling_params(counts), _reference_params(vocab_size, aspect_ratio, head_dim), target_param_data_ratio)
    batch = _batch_size(total_batch_size, growth, sequence_len)
    target_tokens = target_param_data_ratio * scaling_params(counts)
    steps = _iterations(batch, flops, num_iterations, target_flops, target_tokens)
    batch_scale = math.sqrt(batch / REFERENCE_BATCH)
    return Plan(
        depth=depth, n_embd=n_embd, n_head=n_head, n_kv_head=n_kv_head, head_dim=head_dim, sequence_len=sequence_len,
        vocab_size=vocab_size, padded_vocab_size=padded_vocab(vocab_size), window_pattern=window_pattern.upper(), windows=windows,
        counts=counts, num_scaling_params=scaling_params(counts), flops_per_token=flops,
        total_batch_size=batch, num_iterations=steps, total_tokens=steps * batch, total_flops=steps * batch * flops,
        tokens_per_param=steps * batch / scaling_params(counts),
        lr=_learning_rates(batch_scale, n_embd, embedding_lr, unembedding_lr, matrix_lr, scalar_lr),
        weight_decay=weight_decay * batch_scale / growth,
    )  # fmt: skip


def _reference_params(vocab_size: int, aspect_ratio: int, head_dim: int) -> int:
    n_embd, n_head = dimensions(REFERENCE_DEPTH, aspect_ratio, head_dim)
    return scaling_params(param_counts(REFERENCE_DEPTH, n_embd, n_head, n_head, vocab_size))


def _data_growth(params: int, reference_params: int, ratio: float) -> float:
    """D / D_ref, the tokens this model wants over those the reference wants. Without a ratio, by the parameters alone: it cancels anyway."""
    if ratio <= 0:
        return params / reference_params
    return max(1, int(ratio * params)) / (ratio * reference_params)


def _batch_size(wish: int, growth: float, sequence_len: int) -> int:
    """Tokens per step: as asked for, or the power of two that fits the tokens. How ranks and micro-batches divide it is the script's business."""
    if wish == -1:
        return max(2 ** round(math.log2(REFERENCE_BATCH * growth**BATCH_EXPONENT)), sequence_len)
    if wish < sequence_len:
        raise UserError(f"--total-batch-size {wish}: it counts tokens, and one row has {sequence_len}: "
                        f"ask for a multiple of that, or leave it out (-1) and the plan chooses")  # fmt: skip
    return wish


def _iterations(batch: int, flops: int, num_iterations: int, target_flops: float, target_tokens: float) -> int:
    if num_iterations > 0:
        return num_iterations
    if target_flops > 0:
        return max(1, round(target_flops / (flops * batch)))
    if target_tokens > 0:
        return max(1, int(target_tokens) // batch)
    raise UserError("nothing says how long to train: give --num-iterations, --target-flops or --target-param-data-ratio (12 is the default) above 0")


def _learning_rates(
    batch_scale: float, n_embd: int, embedding_lr: float, unembedding_lr: float, matrix_lr: float, scalar_lr: float
) -> dict[str, float]:
    """By parameter group. A batch k times as large is less noisy and bears √k times the rate; AdamW's wide layers want smaller steps."""
    width_scale = (n_embd / REFERENCE_WIDTH) ** -0.5
    return {
        "lm_head": unembedding_lr * batch_scale * width_scale,
        "wte": embedding_lr * batch_scale * width_scale,
        "value_embeds": 0.5 * embedding_lr * batch_scale * width_scale,
        "resid_lambdas": 0.01 * scalar_lr * batch_scale,
        "x0_lambdas": scalar_lr * batch_scale,
        "smear_backout": SMEAR_BACKOUT_LR,
        "matrices": matrix_lr * batch_scale,
    }


# --- memory ----------------------------------------------------------------------------------------------------------

FLOAT32_BYTES = 4
# What backward needs again from a block, in tensors of n_embd numbers per token. Counted off the formulas, to be calibrated by measurement:
# a compiler recomputes some of it and an eager run keeps a little more.
KEPT_PER_BLOCK = {
    "stream before mixing, after it, after attention": 3,
    "normed input of attention and of the MLP": 2,
    "q and k before they are rotated and normed": 2,
    "q, k, v as attention takes them": 3,
    "attention's output": 1,
    "MLP hidden, 4 wide, before and after squaring": 8,
}
KEPT_AROUND_BLOCKS = 4  # the embedding, x0, the stream kept for the backout, the normed end: an estimate as well
LOGITS_CHUNK_TOKENS = 2048  # tokens whose logits exist at once when the loss is computed in chunks: an estimate as well


def memory_estimate(
    plan: Plan,
    rows: int,
    world_size: int = 1,
    compute_bytes: int = 2,
    activation_checkpointing: bool = False,
    logits_chunked: bool = False,
) -> dict[str, int]:
    """Bytes on one rank at the peak of a training step, by purpose, with `rows` sequences per micro-batch. An estimate, not a promise."""
    counts, tokens = plan.counts, rows * plan.sequence_len
    embeddings = counts["wte"] + counts["value_embeds"]  # stored in the compute dtype; the rest are float32 masters
    weights = compute_bytes * embeddings + FLOAT32_BYTES * (counts["total"] - embeddings)
    logit_tokens = min(tokens, LOGITS_CHUNK_TOKENS) if logits_chunked else tokens
    parts = {
        "weights": weights,
        "weight_casts": _cast_bytes(plan, compute_bytes, activation_checkpointing),
        "gradients": weights,
        "optimizer": -(-_optimizer_bytes(plan) // world_size),
        "activations": _activation_bytes(plan, tokens, compute_bytes, activation_checkpointing),
        # As the head makes them, in float32 after the soft cap, and their gradient.
        "logits": logit_tokens * plan.padded_vocab_size * (compute_bytes + 2 * FLOAT32_BYTES),
    }
    return {**parts, "total": sum(parts.values())}


def _cast_bytes(plan: Plan, compute_bytes: int, activation_checkpointing: bool) -> int:
    """Linear layers cast their weight to the compute dtype, and the copy lives until its backward is done."""
    if compute_bytes >= FLOAT32_BYTES:
        return 0
    matrices = plan.counts["transformer_matrices"] // (plan.depth if activation_checkpointing else 1)
    return compute_bytes * (matrices + plan.counts["lm_head"])


def _optimizer_bytes(plan: Plan) -> int:
    """AdamW keeps two numbers per parameter. Muon keeps one, and one per row of a tall or column of a wide matrix: 12 n_embd in a block."""
    matrices = plan.counts["transformer_matrices"]
    adamw = 2 * (plan.counts["total"] - matrices)
    return FLOAT32_BYTES * (adamw + matrices + 12 * plan.n_embd * plan.depth)


def _activation_bytes(plan: Plan, tokens: int, compute_bytes: int, activation_checkpointing: bool) -> int:
    """With checkpointing a block keeps its input alone, and one block at a time has everything again."""
    block = sum(KEPT_PER_BLOCK.values())
    blocks = plan.depth + block if activation_checkpointing else plan.depth * block
    return tokens * plan.n_embd * compute_bytes * (blocks + KEPT_AROUND_BLOCKS)


# --- words -----------------------------------------------------------------------------------------------------------


def describe(plan: Plan) -> str:
    """The plan for the eyes, a line per decision."""
    names = {"transformer_matrices": "matrices", "value_embeds": "value embeddings", "wte": "embedding", "lm_head": "head"}
    lines = [
        ("model", f"depth {plan.depth}, width {plan.n_embd}, {_plural(plan.n_head, 'head')} of {plan.head_dim}"),
        ("vocabulary", f"{plan.vocab_size:,} tokens in {plan.padded_vocab_size:,} rows"),
        ("context", f"{plan.sequence_len:,} tokens; {_describe_windows(plan)}"),
        ("parameters", f"{plan.counts['total']:>17,}"),
        *((f"  {names.get(name, name)}", f"{n:>17,}") for name, n in plan.counts.items() if name != "total"),
        ("scaling parameters", f"{plan.num_scaling_params:>17,}  matrices and head: these decide the horizon"),
        ("tokens", f"{plan.total_tokens:>17,}  {plan.tokens_per_param:.2f} per scaling parameter"),
        ("batch", f"{plan.total_batch_size:>17,}  tokens per step"),
        ("steps", f"{plan.num_iterations:>17,}"),
        ("FLOPs per token", f"{plan.flops_per_token:>17,}"),
        ("FLOPs", f"{plan.total_flops:>17.3e}"),
        *((f"learning rate {name}", f"{plan.lr[name]:>17.6f}") for name in LR_GROUPS),
        ("weight decay", f"{plan.weight_decay:>17.6f}  of the matrices, falling to 0"),
    ]
    width = max(len(label) for label, _ in lines)
    return "\n".join(f"{label:<{width}}  {text}" for label, text in lines)


def _describe_windows(plan: Plan) -> str:
    full = sum(window == plan.sequence_len for window in plan.windows)
    if full == plan.depth:
        return "every layer sees all of it"
    return f"{plan.window_pattern}: {_plural(plan.depth - full, 'layer')} with a window of {min(plan.windows):,}, {full} with all of it"


def _plural(number: int, noun: str) -> str:
    return f"{number} {noun}" + ("" if number == 1 else "s")
