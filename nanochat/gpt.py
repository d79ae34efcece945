"""The model: a GPT with rotary positions, QK-norm, relu² MLPs, value embeddings, smeared inputs and sliding windows. GPT.hidden is the story."""

import math
from dataclasses import dataclass

import torch
import torch.nn as nn
import torch.nn.functional as F
from torch.utils.checkpoint import checkpoint

from nanochat import cpu_kernels
from nanochat.common import UserError, compute_dtype
from nanochat.flash_attention import attention, best_kernel
from nanochat.head_loss import SOFTCAP, head_loss
from nanochat.scaling import SMEAR_CHANNELS, VE_GATE_CHANNELS, padded_vocab, window_sizes


@dataclass
class GPTConfig:
    sequence_len: int = 2048
    vocab_size: int = 32768
    n_layer: int = 12
    n_head: int = 6
    n_kv_head: int = 6
    n_embd: int = 768
    window_pattern: str = "SSSL"  # tiled over the layers: L sees everything before it, S a quarter of the context


def norm(x: torch.Tensor) -> torch.Tensor:
    return F.rms_norm(x, (x.size(-1),))


class Linear(nn.Linear):
    """No bias. The master weight is float32; the product runs in the dtype of its input."""

    product = staticmethod(F.linear)  # for_inference may know a better one

    def __init__(self, inputs: int, outputs: int):
        super().__init__(inputs, outputs, bias=False)

    def reset_parameters(self) -> None:
        """Nothing yet: init_weights does it."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.product(x, self.weight.to(x.dtype))


class Embedding(nn.Embedding):
    reset_parameters = Linear.reset_parameters


def rotate(x: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor) -> torch.Tensor:
    """Rotary positions (arXiv 2104.09864) on x (B, T, H, D); the pairs are (i, i + D/2), and the angle is -θ."""
    x1, x2 = x.chunk(2, dim=-1)
    return torch.cat((x1 * cos + x2 * sin, x2 * cos - x1 * sin), dim=-1)


def has_value_embedding(layer: int, n_layer: int) -> bool:
    """Every other layer, the last one always."""
    return layer % 2 == (n_layer - 1) % 2


class CausalSelfAttention(nn.Module):
    def __init__(self, config: GPTConfig, layer: int):
        super().__init__()
        self.n_head, self.n_kv_head = config.n_head, config.n_kv_head
        self.head_dim = config.n_embd // config.n_head
        assert config.n_embd % config.n_head == 0 and config.n_head % config.n_kv_head == 0
        self.c_q = Linear(config.n_embd, self.n_head * self.head_dim)
        self.c_k = Linear(config.n_embd, self.n_kv_head * self.head_dim)
        self.c_v = Linear(config.n_embd, self.n_kv_head * self.head_dim)
        self.c_proj = Linear(config.n_embd, config.n_embd)
        self.ve_gate = Linear(VE_GATE_CHANNELS, self.n_kv_head) if has_value_embedding(layer, config.n_layer) else None

    def forward(self, x, ve: torch.Tensor | None, cos_sin: tuple[torch.Tensor, torch.Tensor], window: int, kernel: str, past=None) -> torch.Tensor:
        B, T, C = x.shape
        q = self.c_q(x).view(B, T, self.n_head, self.head_dim)
        k = self.c_k(x).view(B, T, self.n_kv_head, self.head_dim)
        v = self.c_v(x).view(B, T, self.n_kv_head, self.head_dim)
        if ve is not None:  # what a token is, whatever its context (arXiv 2410.17897), as much of it as each head wants
            gate = 3 * torch.sigmoid(self.ve_gate(x[..., :VE_GATE_CHANNELS]))  # (B, T, H_kv), in (0, 3)
            v = v + gate.unsqueeze(-1) * ve.view(B, T, self.n_kv_head, self.head_dim)
        # Normed after rotating, so scores are bounded by 1.44·√D; 1.2 each sharpens the softmax
        q, k = norm(rotate(q, *cos_sin)) * 1.2, norm(rotate(k, *cos_sin)) * 1.2
        y = attention(q, k, v, window, kernel) if past is None else past.attend(q, k, v, window, kernel)
        return self.c_proj(y.reshape(B, T, C))


class MLP(nn.Module):
    def __init__(self, config: GPTConfig):
        super().__init__()
        self.c_fc = Linear(config.n_embd, 4 * config.n_embd)
        self.c_proj = Linear(4 * config.n_embd, config.n_embd)
        self.cpu_training = False  # with a kernel of our own; init_weights decides

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if self.cpu_training:
            mlp = cpu_kernels.mlp if torch.is_grad_enabled() or torch.compiler.is_compiling() else cpu_kernels.mlp_forward
            return mlp(x, self.c_fc.weight, self.c_proj.weight)[0]
        return self.c_proj(F.relu(self.c_fc(x)).square())


class Block(nn.Module):
    def __init__(self, config: GPTConfig, layer: int):
        super().__init__()
        self.attn = CausalSelfAttention(config, layer)
        self.mlp = MLP(config)

    def forward(self, x, x0, resid_lambda, x0_lambda, ve, cos_sin, window: int, kernel: str, past=None) -> torch.Tensor:
        x = resid_lambda * x + x0_lambda * x0  # every block sees the embedding again
        x = x + self.attn(norm(x), ve, cos_sin, window, kernel, past)
        return x + self.mlp(norm(x))


def new_model(config: GPTConfig, device: torch.device | str) -> "GPT":
    """A model before its first step."""
    with torch.device(device):
        model = GPT(config)
    model.init_weights()
    return model


class GPT(nn.Module):
    """Its constructor only says what there is; see new_model."""

    def __init__(self, config: GPTConfig):
        super().__init__()
        self.config = config
        self.windows = window_sizes(config.window_pattern, config.n_layer, config.sequence_len)
        self.padded_vocab_size = padded_vocab(config.vocab_size)  # logits are cropped back
        self.transformer = nn.ModuleDict({
            "wte": Embedding(self.padded_vocab_size, config.n_embd),
            "h": nn.ModuleList(Block(config, i) for i in range(config.n_layer)),
        })  # fmt: skip
        self.lm_head = Linear(config.n_embd, self.padded_vocab_size)
        kv_width = config.n_kv_head * (config.n_embd // config.n_head)
        with_ve = [i for i in range(config.n_layer) if has_value_embedding(i, config.n_layer)]
        self.value_embeds = nn.ModuleDict({str(i): Embedding(self.padded_vocab_size, kv_width) for i in with_ve})
        self.resid_lambdas = nn.Parameter(torch.empty(config.n_layer))
        self.x0_lambdas = nn.Parameter(torch.empty(config.n_layer))
        self.smear_gate = Linear(SMEAR_CHANNELS, 1)
        self.smear_lambda = nn.Parameter(torch.empty(1))
        self.backout_lambda = nn.Parameter(torch.empty(1))
        for name in ("cos", "sin"):  # (1, T, 1, D/2), filled by init_weights
            self.register_buffer(name, torch.empty(1, config.sequence_len, 1, config.n_embd // config.n_head // 2), persistent=False)
        self.compute_dtype = torch.float32  # of activations and products; init_weights asks the device
        self.kernel = "sdpa"  # for attention; likewise
        self.cpu_decoding = False  # with kernels of our own; for_inference decides
        self.activation_checkpointing = False  # keep only each block's input and compute the block again in backward

    # --- weights -----------------------------------------------------------------------------------------------------

    @torch.no_grad
    def init_weights(self) -> None:
        """Set every parameter and buffer, and choose dtype and attention kernel for the device that the model is on."""
        bound = math.sqrt(3 / self.config.n_embd)  # a uniform distribution with standard deviation 1/√n_embd
        nn.init.normal_(self.transformer.wte.weight, std=0.8)
        nn.init.normal_(self.lm_head.weight, std=0.001)
        for block in self.transformer.h:
            for matrix in (block.attn.c_q, block.attn.c_k, block.attn.c_v):
                nn.init.uniform_(matrix.weight, -bound, bound)
            nn.init.uniform_(block.mlp.c_fc.weight, -0.4 * bound, 0.4 * bound)
            nn.init.zeros_(block.attn.c_proj.weight)  # with both at zero a block begins as the identity
            nn.init.zeros_(block.mlp.c_proj.weight)
            if block.attn.ve_gate is not None:
                nn.init.uniform_(block.attn.ve_gate.weight, 0, 0.02)
        for embedding in self.value_embeds.values():
            nn.init.uniform_(embedding.weight, -bound, bound)
        self.resid_lambdas.copy_(torch.linspace(1.15, 1.05, self.config.n_layer))
        self.x0_lambdas.copy_(torch.linspace(0.20, 0.05, self.config.n_layer))
        nn.init.uniform_(self.smear_gate.weight, 0, 0.02)
        self.smear_lambda.zero_()
        self.backout_lambda.fill_(0.2)

        device = self.get_device()
        self.compute_dtype = compute_dtype(device)
        self.kernel = best_kernel(device, self.compute_dtype)
        for block in self.transformer.h:
            block.mlp.cpu_training = device.type == "cpu" and cpu_kernels.mlp_usable(self.compute_dtype, self.config.n_embd)
        self.cos, self.sin = self._rotary_tables(device, self.config.sequence_len)
        # Embeddings are the largest tables and are only looked up. float16 has too little range for what the optimizer does to them.
        storage = torch.float32 if self.compute_dtype == torch.float16 else self.compute_dtype
        for embedding in (self.transformer.wte, *self.value_embeds.values()):
            embedding.to(storage)

    def _rotary_tables(self, device: torch.device, length: int, base: float = 100_000) -> tuple[torch.Tensor, torch.Tensor]:
        half = self.config.n_embd // self.config.n_head // 2
        frequencies = base ** (-torch.arange(half, dtype=torch.float32, device=device) / half)
        angles = torch.arange(length, dtype=torch.float32, device=device)[:, None] * frequencies
        return angles.cos().to(self.compute_dtype)[None, :, None], angles.sin().to(self.compute_dtype)[None, :, None]

    def extend_rotary(self, length: int) -> None:
        """A cache may go on beyond the rows that the model was trained on."""
        if length > self.cos.size(1):
            with torch.inference_mode(False):  # training goes on with them
                self.cos, self.sin = self._rotary_tables(self.get_device(), length)

    def for_inference(self) -> "GPT":
        """A copy with its matrices in the compute dtype, so that they are cast once and not at every use. What needs no cast is shared."""
        with torch.device("meta"):
            twin = GPT(self.config)
        state = {name: p.detach().to(self.compute_dtype) if p.ndim == 2 else p.detach() for name, p in self.state_dict().items()}
        twin.load_state_dict(state, assign=True)
        twin.compute_dtype, twin.kernel, twin.cos, twin.sin = self.compute_dtype, self.kernel, self.cos, self.sin
        twin.cpu_decoding = self.get_device().type == "cpu" and cpu_kernels.decode_usable(self.compute_dtype)
        if twin.cpu_decoding:
            for module in twin.modules():
                if isinstance(module, Linear):
                    module.product = cpu_kernels.linear
        return twin.eval().requires_grad_(False)

    def get_device(self) -> torch.device:
        return self.transformer.wte.weight.device

    # --- forward -----------------------------------------------------------------------------------------------------

    def forward(self, idx: torch.Tensor, targets: torch.Tensor | None = None, kv_cache=None, loss_reduction: str = "mean") -> torch.Tensor:
        """idx (B, T) -> float32 logits (B, T, vocab_size); with targets (B, T), -1 ignored, the loss: mean, sum or none (B, T).
        With a kv_cache (kv_cache.KVCache) the tokens are appended to what its rows hold."""
        if kv_cache is None:
            x = self.hidden(idx)
        else:
            x = self.hidden(idx, kv_cache.append(idx.size(1)))
            kv_cache.advance(idx.size(1))
        if targets is None:
            return self.logits(x)
        loss = head_loss(x.view(-1, x.size(-1)), self.lm_head.weight, targets.reshape(-1), self.config.vocab_size, loss_reduction)
        return loss.view(targets.shape) if loss_reduction == "none" else loss

    def logits(self, x: torch.Tensor) -> torch.Tensor:
        z = self.lm_head(x)
        if self.cpu_decoding:
            return cpu_kernels.softcap(z, self.config.vocab_size, SOFTCAP)
        return SOFTCAP * torch.tanh(z[..., : self.config.vocab_size].float() / SOFTCAP)

    def hidden(self, idx: torch.Tensor, append=None) -> torch.Tensor:
        """idx (B, T) -> what the head reads (B, T, n_embd). `append` is where in a cache the tokens go (kv_cache.Append)."""
        T = idx.size(1)
        if append is not None:
            self.extend_rotary(append.end)
            cos_sin = append.rotary(self.cos), append.rotary(self.sin)
        elif self.config.sequence_len < T:
            raise UserError(f"{T} tokens, but this model was built for {self.config.sequence_len}: shorten the text")
        else:
            cos_sin = self.cos[:, :T], self.sin[:, :T]
        x = x0 = self.embed(idx, append)
        for i, block in enumerate(self.transformer.h):
            ve = self.value_embeds[str(i)](idx).to(x.dtype) if str(i) in self.value_embeds else None
            arguments = (x, x0, self.resid_lambdas[i], self.x0_lambdas[i], ve, cos_sin, self.windows[i], self.kernel)
            if append is not None:
                x = block(*arguments, append.layer(i))
            elif self.activation_checkpointing and torch.is_grad_enabled():
                x = checkpoint(block, *arguments, use_reentrant=False)
            else:
                x = block(*arguments)
            if i == self.config.n_layer // 2:
                kept = x
        return self.back_out(x, kept)

    def back_out(self, x: torch.Tensor, kept: torch.Tensor) -> torch.Tensor:
        """What the middle layers wrote for themselves is taken back."""
        return norm(x - self.backout_lambda.to(x.dtype) * kept)

    def embed(self, idx: torch.Tensor, append=None) -> torch.Tensor:
        """Token embeddings, each smeared with its predecessor's: bigrams for the price of a gate."""
        x = norm(self.transformer.wte(idx).to(self.compute_dtype))
        if append is not None:  # the first position's predecessor is zero, which changes nothing
            gate = self.smear_lambda.to(x.dtype) * torch.sigmoid(self.smear_gate(x[..., :SMEAR_CHANNELS]))  # (B, T, 1)
            return x + gate * append.predecessors(x)
        gate = self.smear_lambda.to(x.dtype) * torch.sigmoid(self.smear_gate(x[:, 1:, :SMEAR_CHANNELS]))  # (B, T-1, 1)
        return torch.cat((x[:, :1], x[:, 1:] + gate * x[:, :-1]), dim=1)

    @torch.no_grad
    def generate(self, tokens: list[int], max_tokens: int, temperature: float = 1.0, top_k: int = 0, seed: int = 42):
        """Yield tokens one by one, computing everything anew for each: slow, and so plain that other ways are measured by it."""
        generator = torch.Generator(self.get_device()).manual_seed(seed)
        idx = torch.tensor([tokens], device=self.get_device())
        for _ in range(max_tokens):
            logits = self.logits(self.hidden(idx[:, -self.config.sequence_len :])[:, -1])  # (1, V)
            if top_k > 0:
                threshold = logits.topk(min(top_k, logits.size(-1))).values[:, -1:]
                logits = logits.masked_fill(logits < threshold, -math.inf)
            if temperature > 0:
                chosen = torch.multinomial(F.softmax(logits / temperature, dim=-1), 1, generator=generator)
            else:
                chosen = logits.argmax(dim=-1, keepdim=True)
            idx = torch.cat((idx, chosen), dim=1)
            yield chosen.item()

    def compile_blocks(self) -> None:
        """For a CPU: blocks are alike, so they compile in a quarter of the time of the whole, which runs no faster there."""
        import torch._functorch.config as compiler  # it takes a second to import

        compiler.activation_memory_budget = 0.8  # of what backward would like to keep: what is cheap to compute again is not kept
        for block in self.transformer.h:
            block.compile(dynamic=False)
        self.embed, self.back_out = (torch.compile(piece, dynamic=False) for piece in (self.embed, self.back_out))

    # --- what training asks ------------------------------------------------------------------------------------------

    def param_groups(self, unembedding_lr=0.008, embedding_lr=0.3, matrix_lr=0.02, scalar_lr=0.5, weight_decay=0.28) -> list[dict]:
        """Who learns how. The rates of the tables were found at width 768 and scale with its inverse root; weight_decay is that of the matrices."""
        scale = (self.config.n_embd / 768) ** -0.5

        def adamw(params, lr, betas, weight_decay):
            return {"kind": "adamw", "params": params, "lr": lr, "betas": betas, "eps": 1e-10, "weight_decay": weight_decay}

        groups = [
            adamw([self.lm_head.weight], unembedding_lr * scale, (0.8, 0.96), 0.01),
            adamw([self.transformer.wte.weight], embedding_lr * scale, (0.8, 0.995), 0.001),
            adamw([e.weight for e in self.value_embeds.values()], embedding_lr * scale * 0.5, (0.8, 0.995), 0.01),
            adamw([self.resid_lambdas], scalar_lr * 0.01, (0.8, 0.95), 0.05),
            adamw([self.x0_lambdas], scalar_lr, (0.96, 0.95), 0.0),
            adamw([self.smear_gate.weight, self.smear_lambda, self.backout_lambda], 0.2, (0.8, 0.95), 0.0),
        ]
        matrices = list(self.transformer.h.parameters())
        for shape in sorted({p.shape for p in matrices}):
            alike = [p for p in matrices if p.shape == shape]
            groups.append(
                {"kind": "muon", "params": alike, "lr": matrix_lr, "momentum": 0.95, "ns_steps": 5, "beta2": 0.9, "weight_decay": weight_decay}
            )
        assert sum(len(group["params"]) for group in groups) == len(list(self.parameters()))
        return groups

    def num_scaling_params(self) -> dict[str, int]:
        """Parameters by kind. The plan scales with transformer_matrices + lm_head."""
        counts = {
            "wte": self.transformer.wte.weight.numel(),
            "value_embeds": sum(e.weight.numel() for e in self.value_embeds.values()),
            "lm_head": self.lm_head.weight.numel(),
            "transformer_matrices": sum(p.numel() for p in self.transformer.h.parameters()),
        }
        total = sum(p.numel() for p in self.parameters())
        return {**counts, "scalars": total - sum(counts.values()), "total": total}

    def estimate_flops(self) -> int:
        """Per token, forward and backward: 6 for each weight of a matrix product (arXiv 2204.02311), 12 for each channel of each key that is seen."""
        counts = self.num_scaling_params()
        attended = sum(min(window, self.config.sequence_len) for window in self.windows)
        return 6 * (counts["transformer_matrices"] + counts["lm_head"]) + 12 * self.config.n_embd * attended
