"""The keys and values that a model has computed for the tokens so far, so that each new token costs one position and not all of them again.

Rows of a cache stand at positions of their own: KVCache holds them, and Append says which rows and positions one forward pass adds to.
"""

import functools

import torch

from nanochat import cpu_kernels
from nanochat.flash_attention import attention, attention_over


class KVCache:
    """Keys and values (layers, B, T, H, D), and each row's position: how many tokens it holds. What lies beyond is leftovers."""

    def __init__(self, batch_size: int, num_heads: int, seq_len: int, head_dim: int, num_layers: int, device: torch.device | str, dtype: torch.dtype):
        self.batch_size, self.seq_len = batch_size, seq_len
        # Zeros, since what a mask hides is still multiplied, and leftovers of other programs may be NaN
        self.k_cache = torch.zeros(num_layers, batch_size, seq_len, num_heads, head_dim, device=device, dtype=dtype)
        self.v_cache = torch.zeros_like(self.k_cache)
        self.previous: torch.Tensor | None = None  # (B, n_embd): each row's last embedding, which the next one is smeared with
        self.positions = [0] * batch_size

    @classmethod
    def for_model(cls, model, batch_size: int, seq_len: int) -> "KVCache":
        config = model.config
        head_dim = config.n_embd // config.n_head
        return cls(batch_size, config.n_kv_head, seq_len, head_dim, config.n_layer, model.get_device(), model.compute_dtype)

    def get_pos(self, row: int = 0) -> int:
        return self.positions[row]

    def get_layer_cache(self, layer: int) -> tuple[torch.Tensor, torch.Tensor]:
        return self.k_cache[layer], self.v_cache[layer]

    def reset(self) -> None:
        """Empty all rows."""
        self.positions = [0] * self.batch_size
        self.previous = None

    def advance(self, tokens: int, rows: int | None = None) -> None:
        """What was appended to the first `rows` rows (all, if None) counts from now on."""
        for row in range(self.batch_size if rows is None else rows):
            self.positions[row] += tokens

    def append(self, tokens: int, rows: int | None = None) -> "Append":
        """A forward pass that adds so many tokens to each of the first `rows` rows. They count after advance()."""
        return Append(self, self.positions[:rows], tokens)

    def prefill(self, other: "KVCache") -> None:
        """Take over another cache's rows, or its only row into all rows: a prompt is computed once for all of its samples."""
        assert other.batch_size in (1, self.batch_size) and not any(self.positions), "only an empty cache is prefilled"
        for row in range(self.batch_size):
            self.copy_row(row, other, row if other.batch_size > 1 else 0)

    @torch.inference_mode
    def copy_row(self, row: int, other: "KVCache", other_row: int) -> None:
        length = other.positions[other_row]
        assert length <= self.seq_len, (length, self.seq_len)
        for mine, theirs in ((self.k_cache, other.k_cache), (self.v_cache, other.v_cache)):
            mine[:, row, :length] = theirs[:, other_row, :length]
        self._embeddings(other.previous)[row] = other.previous[other_row]
        self.positions[row] = length

    def _embeddings(self, like: torch.Tensor) -> torch.Tensor:
        """The rows' last embeddings; of what width is known when the first one comes."""
        if self.previous is None:
            self.previous = like.new_zeros(self.batch_size, like.size(-1))
        return self.previous


class Append:
    """One forward pass: T tokens for each of the first R rows of a cache, whose position before it is `starts`.

    lengths (R,) tensor: how many of a row's tokens are real, the others being padding at its end; None if all are.
    end: up to where keys are looked at. More than needed is harmless, and keeps shapes the same for CUDA graphs.
    """

    def __init__(self, cache: KVCache, starts: list[int] | torch.Tensor, T: int, lengths: torch.Tensor | None = None, end: int | None = None):
        self.cache, self.rows, self.T, self.lengths = cache, len(starts), T, lengths
        self.start = None  # the one that all rows have in common
        if isinstance(starts, list):
            self.end = max(starts) + T
            assert self.end <= cache.seq_len, f"{self.end} tokens do not fit into a cache of {cache.seq_len}"
            if min(starts) == max(starts):
                self.start = starts[0]
            starts = torch.tensor(starts, device=cache.k_cache.device)
        self.end = end or self.end
        self.positions = starts[:, None] + torch.arange(T, device=starts.device)  # (R, T)
        self.masks: dict[int, torch.Tensor | None] = {}

    def rotary(self, table: torch.Tensor) -> torch.Tensor:
        """The part of a table (1, T_max, 1, D/2) that belongs to the tokens, (1 or R, T, 1, D/2)."""
        return table[0][self.positions] if self.start is None else table[:, self.start : self.end]

    def predecessors(self, x: torch.Tensor) -> torch.Tensor:
        """For x (R, T, C), unsmeared, what stands before each of its tokens; remembers what will stand before the next."""
        kept = self.cache._embeddings(x)[: self.rows]
        before = torch.cat((kept[:, None], x[:, :-1]), dim=1)
        kept.copy_(x[:, -1] if self.lengths is None else x[torch.arange(self.rows, device=x.device), self.lengths - 1])
        return before

    def layer(self, layer: int) -> "LayerAppend":
        return LayerAppend(self, *self.cache.get_layer_cache(layer))

    def mask(self, window: int) -> torch.Tensor | None:
        """(R, T, end): 0 where a token sees a key, -inf where not. None if all see all. The same for all layers of one window."""
        if window not in self.masks:
            self.masks[window] = self._mask(window)
        return self.masks[window]

    def _mask(self, window: int) -> torch.Tensor | None:
        if self.T == 1 and self.start is not None and self.start <= window:
            return None
        query, key = self.positions[..., None], torch.arange(self.end, device=self.positions.device)
        hidden = (key > query) | (query - key > window)
        return torch.zeros(hidden.shape, dtype=self.cache.k_cache.dtype, device=hidden.device).masked_fill_(hidden, float("-inf"))

    @functools.cached_property
    def places(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Row and column in the cache of every token."""
        return torch.arange(self.rows, device=self.positions.device)[:, None], self.positions


class LayerAppend:
    """The share of one layer."""

    def __init__(self, append: Append, keys: torch.Tensor, values: torch.Tensor):
        self.append, self.keys, self.values = append, keys, values

    def attend(self, q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, window: int, kernel: str) -> torch.Tensor:
        """Store k and v (R, T, H_kv, D), and have q (R, T, H, D) attend to all that its rows hold by now."""
        append, rows = self.append, self.append.rows
        if append.T == 1 and q.device.type == "cpu" and cpu_kernels.decode_usable(q.dtype):
            return cpu_kernels.attend(q, k, v, self.keys[:rows], self.values[:rows], append.positions, window)
        for store, new in ((self.keys, k.detach()), (self.values, v.detach())):
            if append.start is None:
                store[append.places] = new
            else:
                store[:rows, append.start : append.start + append.T] = new
        if append.start == 0:  # there is nothing before: the kernel for training is the fastest. It ignores padding, being causal
            return attention(q, k, v, window, kernel)
        return attention_over(q, self.keys[:rows, : append.end], self.values[:rows, : append.end], append.mask(window))
