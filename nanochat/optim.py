"""MuonAdamW: Muon for the matrices of the blocks, AdamW for everything else, on one rank or on many.

On many ranks the optimizer averages the gradients itself and shares out the work: each rank gets the mean gradient of the rows it owns, updates
those, and gathers the rows of the others. So state is sharded, and all ranks hold the same weights, bit for bit. Tensors too small to be worth it
are updated everywhere. A step is three verbs: reduce, update, gather. All reductions are in flight before the first is waited for.

    adamw: dict(kind="adamw", params=…, lr=…, betas=…, eps=…, weight_decay=…)
    muon:  dict(kind="muon", params=…, lr=…, momentum=…, ns_steps=…, beta2=…, weight_decay=…)     # matrices of one shape

Schedules write group["lr"], group["momentum"] and group["weight_decay"] before a step; group["initial_lr"] keeps what they multiply.
A gradient that is None counts as zero, so that ranks never wait for each other over a parameter that only some of them have used.
"""

import math
from collections.abc import Iterable, Sequence
from typing import NamedTuple

import torch
import torch.distributed as dist

from nanochat import cpu_kernels
from nanochat.common import UserError

# (a, b, c) of the five steps X ← aX + (bA + cA²)X, A = XXᵀ, of Polar Express (arXiv 2505.16932; safety 2e-2, cushion 2).
POLAR_EXPRESS = (
    (8.156554524902461, -22.48329292557795, 15.878769915207462),
    (4.042929935166739, -2.808917465908714, 0.5000178451051316),
    (3.8916678022926607, -2.772484153217685, 0.5060648178503393),
    (3.285753657755655, -2.3681294933425376, 0.46449024233003106),
    (2.3465413258596377, -1.7097828382687081, 0.42323551169305323),
)
TINY = 1e-20  # added to norms of gradients: zero gives a zero update and no NaN. Squares of smaller numbers are zero in float32 anyway
SHARD_FROM = 1024  # elements; below that a reduce-scatter and a gather cost more than updating on every rank
CHUNK = {"cpu": 2**18, "other": 2**25}  # elements in float32 at a time: on a CPU what fits the cache, elsewhere what is no burden on memory


# --- the arithmetic of one update --------------------------------------------------------------------------------------


@torch.no_grad
def adamw_update(weight, grad, exp_avg, exp_avg_sq, step: int, lr: float, betas: tuple[float, float], eps: float, weight_decay: float) -> None:
    """Decay the weights by lr·wd, then move them by lr · m̂ / (√v̂ + eps), in the dtype of the states: float32 for bf16 weights.

    torch's fused kernel reads and writes each number once, which is all that counts here. It wants one dtype for all of its arguments, so weights
    and gradients of another one pass through float32 in pieces.
    """
    tensors = [t.reshape(-1) for t in (weight, grad, exp_avg, exp_avg_sq)]
    same = weight.dtype == grad.dtype == exp_avg.dtype
    chunk = weight.numel() if same else min(weight.numel(), CHUNK.get(weight.device.type, CHUNK["other"]))
    p32, g32 = exp_avg.new_empty(2, 0 if same else chunk)  # made once: fresh memory for every piece would take longer than the arithmetic
    steps = torch.full((), float(step), device=weight.device)
    for p, g, m, v in zip(*(t.split(chunk) for t in tensors), strict=True):
        weights, grads = (p, g) if same else (p32[: len(p)].copy_(p), g32[: len(g)].copy_(g))
        torch._fused_adamw_([weights], [grads], [m], [v], [], [steps], lr=lr, beta1=betas[0], beta2=betas[1],
                            weight_decay=weight_decay, eps=eps, amsgrad=False, maximize=False)  # fmt: skip
        if not same:
            p.copy_(weights)


def orthogonalize(x: torch.Tensor, steps: int, dtype: torch.dtype) -> torch.Tensor:
    """Polar Express: (K, m, n) matrices to nearly the closest ones with all singular values 1. No SVD, only products, in `dtype`."""
    tall = x.size(-2) > x.size(-1)
    x = (x / (1.01 * _norm(x) + TINY)).to(dtype)  # singular values in [0, 1]
    for a, b, c in POLAR_EXPRESS[:steps]:
        gram = x.mT @ x if tall else x @ x.mT  # (K, k, k), k = min(m, n): a tall matrix is done as its transpose would be
        gram = torch.baddbmm(gram, gram, gram, beta=b, alpha=c)
        x = torch.baddbmm(x, x, gram, beta=a) if tall else torch.baddbmm(x, gram, x, beta=a)
    return x


def muon_update(weight, grad, momentum_buffer, second_momentum_buffer, lr, momentum, weight_decay, beta2: float, ns_steps: int, dtype) -> None:
    """Update (K, m, n) matrices in place; `grad` is used up. lr, momentum and weight_decay are numbers, or 0-D tensors when compiled.

    second_momentum_buffer is (K, m, 1) for tall and square matrices, (K, 1, n) for wide ones: NorMuon's neurons.
    """
    m, n = weight.shape[-2:]
    norm, across = math.sqrt(min(m, n)), -1 if m >= n else -2
    # Nesterov: the gradient mixed with an average of gradients that includes it already.
    momentum_buffer.lerp_(grad, 1 - momentum)
    update = grad.lerp_(momentum_buffer, momentum)
    # Row equilibration (arXiv 2603.28254): rows of one length are a better start for Polar Express, which has few steps to even them out.
    # The floor keeps the rounding errors of an all but empty row from becoming its direction.
    rows = update.square().sum(-1, keepdim=True).sqrt()  # (K, m, 1)
    mean = rows.mean(-2, keepdim=True)
    update *= mean / torch.maximum(rows, 1e-7 * mean + TINY)
    update = orthogonalize(update, ns_steps, dtype).to(weight.dtype)
    # Five steps end near singular values of 1, not at them; the size of the whole, at least, is made exact (arXiv 2602.21545).
    square = update.square().sum(across, keepdim=True)  # (K, m, 1) or (K, 1, n)
    snap = norm / square.sum((-2, -1), keepdim=True).sqrt().clamp_min(1e-6)  # (K, 1, 1); such a small update comes of zeros only
    # NorMuon (arXiv 2510.05491): neurons that have been moving much move less, at the same size of the whole.
    square *= snap * snap
    second_momentum_buffer.lerp_(square / weight.size(across), 1 - beta2)
    scale = second_momentum_buffer.clamp_min(1e-10).rsqrt()
    size = (square * scale.square()).sum((-2, -1), keepdim=True).sqrt()
    update *= scale * (snap * norm / size.clamp_min(1e-6))  # both in one pass
    # Cautious weight decay: only where the update pulls towards zero as well.
    update += weight * (update * weight >= 0) * weight_decay
    weight -= update * lr


def _norm(x: torch.Tensor) -> torch.Tensor:
    """Frobenius norms (K, 1, 1) of (K, m, n). On a CPU several times as fast as linalg.vector_norm."""
    return x.square().sum((-2, -1), keepdim=True).sqrt()


# --- ranks -------------------------------------------------------------------------------------------------------------


class InFlight(NamedTuple):
    """A collective that may still be running. Its inputs are kept here: freed too early, their memory would be reused under it."""

    result: torch.Tensor | list[torch.Tensor]
    handle: dist.Work | None = None
    inputs: torch.Tensor | None = None
    divide_by: int = 1  # gloo only knows sums

    def wait(self) -> torch.Tensor | list[torch.Tensor]:
        if self.handle is not None:
            self.handle.wait()
        return self.result if self.divide_by == 1 else self.result.div_(self.divide_by)


def _padded(rows: torch.Tensor, length: int) -> torch.Tensor:
    """The rows, followed by rows of zeros."""
    return rows if len(rows) == length else torch.cat([rows, rows.new_zeros(length - len(rows), *rows.shape[1:])])


def gradients_finite(params: Iterable[torch.Tensor], device: torch.device, world_size: int = 1) -> bool:
    """Is there neither NaN nor infinity in any gradient on any rank? All ranks get the same answer; ask before step().

    Maxima, unlike sums and norms, cannot overflow: large gradients are no false alarm. NaN wins every maximum.
    """
    grads = [p.grad for p in params if p.grad is not None]
    if torch.device(device).type == "cpu":  # both extremes in one pass; ten times as fast as the norm
        extremes = [extreme.double() for grad in grads for extreme in grad.aminmax()]
    else:
        by_dtype = [[grad for grad in grads if grad.dtype == dtype] for dtype in {grad.dtype for grad in grads}]  # one kernel for each list
        extremes = [norm.float() for same in by_dtype for norm in torch._foreach_norm(same, math.inf)]
    finite = torch.stack(extremes).isfinite().all() if extremes else torch.ones((), dtype=torch.bool, device=device)
    if world_size > 1:
        finite = finite.to(torch.int32)
        dist.all_reduce(finite, op=dist.ReduceOp.MIN)
    return bool(finite.item())


# --- the optimizer -----------------------------------------------------------------------------------------------------


class MuonAdamW(torch.optim.Optimizer):
    """See the top of this file. muon_dtype is that of Polar Express; compile=True fuses Muon's element-wise work (worth it on CUDA)."""

    def __init__(self, param_groups: list[dict], rank: int = 0, world_size: int = 1, muon_dtype: torch.dtype = torch.bfloat16, compile: bool = False):
        super().__init__([dict(group) for group in param_groups], defaults={})
        self.rank, self.world_size, self.muon_dtype = rank, world_size, muon_dtype
        # Compiled code is made for the values of the numbers it gets, and anew when they change; 0-D tensors it takes as they come.
        self.muon_update = torch.compile(muon_update, dynamic=False) if compile else muon_update
        self.number = torch.tensor if compile else float
        for group in self.param_groups:
            group["initial_lr"] = group["lr"]
            self._check_group(group)
            self._init_state(group)

    def _check_group(self, group: dict) -> None:
        params = group["params"]
        assert group["kind"] in ("adamw", "muon"), group["kind"]
        assert all(p.is_contiguous() for p in params), "weights are updated through flat views and slices of rows"
        if group["kind"] == "muon":
            assert params[0].ndim == 2 and len({p.shape for p in params}) == 1, "a muon group is a stack: matrices of one shape"
            assert group["ns_steps"] <= len(POLAR_EXPRESS), f"Polar Express has coefficients for {len(POLAR_EXPRESS)} steps"

    def _init_state(self, group: dict) -> None:
        """All state is made at once, so what it takes of memory is known from the start. Float32 also for bf16 weights."""
        first = group["params"][0]
        if group["kind"] == "muon":
            owned, (m, n) = self._share(len(group["params"])), first.shape
            self.state[first]["momentum_buffer"] = self._zeros(first, (owned, m, n))
            self.state[first]["second_momentum_buffer"] = self._zeros(first, (owned, m, 1) if m >= n else (owned, 1, n))
            return
        for p in group["params"]:
            shape = (self._share(p.size(0)), *p.shape[1:]) if self._sharded(p) else p.shape
            self.state[p].update(step=0, exp_avg=self._zeros(p, shape), exp_avg_sq=self._zeros(p, shape))

    def _zeros(self, like: torch.Tensor, shape: Sequence[int]) -> torch.Tensor:
        return torch.zeros(shape, dtype=torch.promote_types(like.dtype, torch.float32), device=like.device)

    def _sharded(self, p: torch.Tensor) -> bool:
        return self.world_size > 1 and p.numel() >= SHARD_FROM

    def _share(self, rows: int) -> int:
        """How many of the rows (matrices, of a stack) each rank owns; the last ranks may have fewer to show for it, down to none."""
        return -(-rows // self.world_size)

    def _mine(self, rows: int) -> slice:
        share = self._share(rows)
        return slice(min(rows, self.rank * share), min(rows, (self.rank + 1) * share))

    @torch.no_grad
    def step(self, closure=None) -> None:
        """Average the gradients over the ranks and update all weights."""
        assert closure is None, "gradients are computed before"
        reducing = [self._start_reduce(group) for group in self.param_groups]
        gathering = []
        for group, gradients in zip(self.param_groups, reducing, strict=True):
            gathering += self._update_muon(group, gradients[0]) if group["kind"] == "muon" else self._update_adamw(group, gradients)
            gradients.clear()  # their memory is free for the next group
        for gathered, params in gathering:
            self._finish_gather(gathered, params)

    # reduce

    def _start_reduce(self, group: dict) -> list[InFlight]:
        """Begin to average the gradients: one for each tensor of AdamW, one for the whole stack of Muon."""
        grads = [torch.zeros_like(p) if p.grad is None else p.grad for p in group["params"]]
        if self.world_size == 1:
            return [InFlight(grads)] if group["kind"] == "muon" else [InFlight(grad) for grad in grads]
        if grads[0].device.type == "cpu":  # gloo would round every partial sum
            grads = [grad.to(torch.promote_types(grad.dtype, torch.float32)) for grad in grads]
        if group["kind"] == "muon":
            return [self._start_mean(torch.stack(grads), sharded=True)]
        return [self._start_mean(grad.contiguous(), self._sharded(grad)) for grad in grads]

    def _start_mean(self, grad: torch.Tensor, sharded: bool) -> InFlight:
        """Begin to average over the ranks: this rank's share of the rows, padded with zeros, or all of it, in place."""
        op, divide_by = (dist.ReduceOp.AVG, 1) if grad.device.type == "cuda" else (dist.ReduceOp.SUM, self.world_size)
        if not sharded:
            return InFlight(grad, dist.all_reduce(grad, op=op, async_op=True), divide_by=divide_by)
        share = self._share(len(grad))
        grad = _padded(grad, share * self.world_size)
        mean = torch.empty_like(grad[:share])
        reduce_scatter = getattr(dist, "reduce_scatter_single", None) or dist.reduce_scatter_tensor  # renamed in torch 2.13
        return InFlight(mean, reduce_scatter(mean, grad, op=op, async_op=True), grad, divide_by)

    # update

    def _update_adamw(self, group: dict, gradients: list[InFlight]) -> list[tuple[InFlight, torch.Tensor]]:
        gathering = []
        for p, gradient in zip(group["params"], gradients, strict=True):
            state, p, grad = self.state[p], p.detach(), gradient.wait()
            state["step"] += 1
            mine = p[self._mine(p.size(0))] if self._sharded(p) else p
            tensors = grad, state["exp_avg"], state["exp_avg_sq"]
            if self._sharded(p):  # these may be padded
                tensors = (t[: mine.size(0)] for t in tensors)
            adamw_update(mine, *tensors, state["step"], group["lr"], group["betas"], group["eps"], group["weight_decay"])
            if self._sharded(p):
                gathering.append(self._start_gather(p, mine))
        return gathering

    def _update_muon(self, group: dict, gradients: InFlight) -> list[tuple[InFlight, list]]:
        params, grads = group["params"], gradients.wait()
        mine, state, (m, n) = params[self._mine(len(params))], self.state[params[0]], params[0].shape
        numbers = group["lr"] * max(1, m / n) ** 0.5, group["momentum"], group["weight_decay"]
        buffers = state["momentum_buffer"], state["second_momentum_buffer"]
        if mine and cpu_kernels.muon_usable(mine, self.muon_dtype):
            cpu_kernels.muon_update(mine, list(grads)[: len(mine)], *buffers, *numbers, group["beta2"], POLAR_EXPRESS[: group["ns_steps"]])
        else:
            self._update_stacks(mine, grads, buffers, [self.number(x) for x in numbers], group)
        return [self._start_gather(params, mine)] if self.world_size > 1 else []

    def _update_stacks(self, mine: list, grads: torch.Tensor | list, buffers: tuple, numbers: list, group: dict) -> None:
        size = self._matrices_at_once(mine[0]) if mine else 1
        for part in (slice(at, min(at + size, len(mine))) for at in range(0, len(mine), size)):
            weights = torch.stack(mine[part]).to(buffers[0].dtype)  # (≤ size, m, n)
            grad = (torch.stack(grads[part]) if isinstance(grads, list) else grads[part]).to(buffers[0].dtype)
            self.muon_update(weights, grad, *(b[part] for b in buffers), *numbers, group["beta2"], group["ns_steps"], self.muon_dtype)
            torch._foreach_copy_(mine[part], list(weights.unbind()))

    def _matrices_at_once(self, matrix: torch.Tensor) -> int:
        """A GPU takes the whole stack. A CPU gives each thread a matrix, or several small ones, and has them in its cache meanwhile."""
        return torch.get_num_threads() * max(1, 2**19 // matrix.numel()) if matrix.device.type == "cpu" else 2**30

    # gather

    def _start_gather(self, params: torch.Tensor | list[torch.Tensor], mine: torch.Tensor | list[torch.Tensor]) -> tuple[InFlight, object]:
        """Begin to bring every rank's rows of a tensor, or matrices of a stack, together: in place if rows divide, else in a padded copy."""
        share = self._share(len(params))
        whole, own = params, slice(self.rank * share, (self.rank + 1) * share)
        if isinstance(params, list) or len(params) % self.world_size:
            whole = params[0].new_zeros(share * self.world_size, *params[0].shape)
            pieces = enumerate(mine) if isinstance(params, list) else [(slice(len(mine)), mine)]
            for at, updated in pieces:
                whole[own][at] = updated
        gather = getattr(dist, "all_gather_single", None) or dist.all_gather_into_tensor  # renamed in torch 2.13
        return InFlight(whole, gather(whole, whole[own], async_op=True)), params

    def _finish_gather(self, gathered: InFlight, params: torch.Tensor | list[torch.Tensor]) -> None:
        whole = gathered.wait()
        if isinstance(params, list):
            torch._foreach_copy_(params, list(whole[: len(params)].unbind()))
        elif whole is not params:
            params.copy_(whole[: len(params)])

    # checkpoints

    def state_dict(self) -> dict:
        """This rank's share of the state: tensors and plain numbers, with whose it is and of what shapes."""
        return {**super().state_dict(), "rank": self.rank, "world_size": self.world_size, "shapes": self._shapes()}

    def load_state_dict(self, state_dict: dict) -> None:
        """Take over what this rank saved, of as many ranks as there are now. Rates and betas are those of the constructor, not of the file.

        torch's own would round the float32 averages of bf16 weights to bf16, and bring back learning rates that flags have since changed.
        """
        saved = {"rank": self.rank, "world_size": self.world_size, "shapes": self._shapes(), **state_dict}  # karpathy/nanochat saves no such
        if (saved["rank"], saved["world_size"]) != (self.rank, self.world_size):
            raise UserError(f"the optimizer state is that of rank {saved['rank']} of {saved['world_size']}, and this is rank {self.rank} of "
                            f"{self.world_size}: load_shards puts together the states of all ranks")  # fmt: skip
        self._check_same_model(saved)
        entries = [(index, self.state[p], saved["state"].get(index, {})) for index, p in enumerate(self._params()) if p in self.state]
        for index, mine, theirs in entries:  # all is checked before anything is changed
            for name in mine:
                if (there := _form(theirs, name)) != (here := _form(mine, name)):
                    raise _another_model(f"{name} of tensor {index} is {there} there and {here} here")
        for _, mine, theirs in entries:
            for name, value in mine.items():
                mine[name] = value.copy_(theirs[name]) if torch.is_tensor(value) else int(theirs[name])

    def load_shards(self, shards: Sequence[dict]) -> None:
        """Take over what any number of ranks saved at one moment (the state_dicts of all, in any order), bit for bit."""
        shards = [{"rank": rank, "world_size": len(shards), "shapes": self._shapes(), **shard} for rank, shard in enumerate(shards)]
        merged = merge_shards(shards)
        self._check_same_model(merged)
        state = {index: self._cut(merged["state"][index], rows) for index, rows in _rows_of_states(merged).items()}
        self.load_state_dict({**merged, "state": state, "rank": self.rank, "world_size": self.world_size})

    def _cut(self, state: dict, rows: int) -> dict:
        """This rank's share of a whole state, padded as its own is; `rows` is 0 where every rank holds all of it."""
        return {
            name: _padded(value[self._mine(rows)], self._share(rows)) if rows and torch.is_tensor(value) else value for name, value in state.items()
        }

    def _params(self) -> list[torch.Tensor]:
        return [p for group in self.param_groups for p in group["params"]]

    def _shapes(self) -> list[list[int]]:
        return [list(p.shape) for p in self._params()]

    def _check_same_model(self, saved: dict) -> None:
        here, there = self._shapes(), [list(shape) for shape in saved["shapes"]]
        if len(here) != len(there):
            raise _another_model(f"it is for {len(there)} tensors, and this model has {len(here)}")
        if differing := [index for index in range(len(here)) if here[index] != there[index]]:
            raise _another_model(f"tensor {differing[0]} is {there[differing[0]]} there and {here[differing[0]]} here")
        kinds = [[(group["kind"], list(group["params"])) for group in state["param_groups"]] for state in (saved, super().state_dict())]
        if kinds[0] != kinds[1]:
            raise _another_model("its tensors are in other groups")


def merge_shards(shards: Sequence[dict]) -> dict:
    """What one rank alone would have saved, from what all ranks of a run saved (the state_dicts, in any order). Nothing is rounded."""
    shards = sorted(shards, key=lambda shard: shard["rank"])
    first, ranks = shards[0], [shard["rank"] for shard in shards]
    if ranks != list(range(first["world_size"])):
        raise UserError(f"the optimizer state was saved by {first['world_size']} ranks, and these are ranks {ranks}: bring the files of all of them")
    if any(shard["shapes"] != first["shapes"] or shard["state"].keys() != first["state"].keys() for shard in shards):
        raise UserError("the optimizer states are of different models: bring the files that the ranks of one run saved at one step")
    counts = _rows_of_states(first)
    if missing := counts.keys() - first["state"].keys():
        raise _another_model(f"it lacks what belongs to tensors {sorted(missing)}")
    state = {index: _merge_states([shard["state"][index] for shard in shards], rows) for index, rows in counts.items()}
    return {**first, "state": state, "rank": 0, "world_size": 1}


def _merge_states(states: list[dict], rows: int) -> dict:
    """Rows are put together and their padding cut off; what every rank holds whole is taken from the first."""
    return {
        name: torch.cat([state[name] for state in states])[:rows] if rows and torch.is_tensor(value) else value for name, value in states[0].items()
    }


def _rows_of_states(saved: dict) -> dict[int, int]:
    """Where in a saved state which tensor's averages are, and how many rows they have as a whole: 0 if every rank holds all of them."""
    rows = {}
    for group in saved["param_groups"]:
        if group["kind"] == "muon":
            rows[group["params"][0]] = len(group["params"])
        else:
            rows |= {i: saved["shapes"][i][0] if math.prod(saved["shapes"][i]) >= SHARD_FROM else 0 for i in group["params"]}
    return rows


def _form(state: dict, name: str) -> str:
    value = state.get(name)
    return "missing" if value is None else f"of shape {list(value.shape)}" if torch.is_tensor(value) else "a number"


def _another_model(detail: str) -> UserError:
    return UserError(f"the optimizer state belongs to another model: {detail}. Resume with the flags of the run that saved it, or without its state")
