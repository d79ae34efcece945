import json
import math

import pytest

from nanochat.common import UserError
from nanochat.scaling import LR_GROUPS, dimensions, flops_per_token, make_plan, memory_estimate, padded_vocab, param_counts, window_sizes

# --- two sizes by hand -----------------------------------------------------------------------------------------------


def test_depth_12_by_hand():
    plan = make_plan(12, 32768)
    assert (plan.n_embd, plan.n_head, plan.head_dim) == (768, 6, 128)  # 12 · 64 = 768 = 6 · 128
    assert plan.counts == {
        "wte": 25_165_824,  # 32768 · 768
        "value_embeds": 150_994_944,  # layers 1, 3, 5, 7, 9, 11: 6 · 25165824
        "lm_head": 25_165_824,
        # A layer has 4 · 768² = 2359296 in attention and 8 · 768² = 4718592 in the MLP: 7077888. Twelve of them: 84934656.
        # The gates of six layers: 6 · 6 · 12 = 432.
        "transformer_matrices": 84_935_088,
        "scalars": 50,  # 12 + 12 + 24 + 1 + 1
        "total": 286_261_730,
    }
    assert plan.num_scaling_params == 110_100_912  # 84935088 + 25165824
    # Short windows are 2048 / 4 = 512. Nine short and three long: 9 · 512 + 3 · 2048 = 10752. 12 · 768 · 10752 = 99090432.
    # 6 · 110100912 = 660605472. Together:
    assert plan.flops_per_token == 759_695_904
    # Tokens: 12 · 110100912 = 1321210944. This is the reference, so the batch is 2^19 = 524288, and nothing is scaled.
    assert plan.total_batch_size == 524_288
    assert plan.num_iterations == 2520  # 2520 · 524288 = 1321205760, and 5184 tokens are left over
    assert plan.total_tokens == 1_321_205_760
    assert plan.total_flops == 759_695_904 * 1_321_205_760
    assert plan.tokens_per_param == pytest.approx(11.999953)
    assert plan.lr == pytest.approx(
        {"lm_head": 0.008, "wte": 0.3, "value_embeds": 0.15, "resid_lambdas": 0.005, "x0_lambdas": 0.5, "smear_backout": 0.2, "matrices": 0.02}
    )
    assert plan.weight_decay == pytest.approx(0.28)


def test_depth_24_by_hand():
    plan = make_plan(24, 32768)
    assert (plan.n_embd, plan.n_head) == (1536, 12)
    assert plan.counts == {
        "wte": 50_331_648,  # 32768 · 1536
        "value_embeds": 603_979_776,  # 12 layers
        "lm_head": 50_331_648,
        # 12 · 1536² = 28311552 a layer, 24 layers: 679477248. Gates: 12 layers · 12 heads · 12 = 1728.
        "transformer_matrices": 679_478_976,
        "scalars": 74,  # 24 + 24 + 26
        "total": 1_384_122_122,
    }
    assert plan.num_scaling_params == 729_810_624
    # 18 · 512 + 6 · 2048 = 21504; 12 · 1536 · 21504 = 396361728; 6 · 729810624 = 4378863744
    assert plan.flops_per_token == 4_775_225_472
    # Tokens: 12 · 729810624 = 8757727488, which is 6.628561 times the reference's. ln 6.628561 = 1.891388, times 0.383 is 0.724401,
    # over ln 2 is 1.045090: so 2^20.045, rounded to 2^20.
    assert plan.total_batch_size == 1_048_576
    assert plan.num_iterations == 8352  # 8352 · 1048576 = 8757706752, and 20736 are left over
    assert plan.total_tokens == 8_757_706_752
    # Twice the batch: rates times √2 = 1.414214. Twice the width: AdamW's three big groups times 1/√2. So those stay as they are.
    assert plan.lr == pytest.approx(
        {"lm_head": 0.008, "wte": 0.3, "value_embeds": 0.15, "resid_lambdas": 0.00707107, "x0_lambdas": 0.707107, "smear_backout": 0.2,
         "matrices": 0.0282843}, rel=1e-5
    )  # fmt: skip
    assert plan.weight_decay == pytest.approx(0.0597384, rel=1e-5)  # 0.28 · 1.414214 / 6.628561


def test_odd_sizes_by_hand():
    """A width that needs rounding, a vocabulary that needs padding, an odd number of layers, a context that is no power of two."""
    plan = make_plan(5, 1000, sequence_len=600, window_pattern="sl")
    assert (plan.n_embd, plan.n_head) == (384, 3)  # 320 → 384
    assert plan.padded_vocab_size == 1024
    assert plan.windows == [256, 600, 256, 600, 600]  # 600 / 4 = 150 → 256
    assert plan.window_pattern == "SL"
    assert plan.counts["wte"] == plan.counts["lm_head"] == 393_216  # 1024 · 384
    assert plan.counts["value_embeds"] == 1_179_648  # layers 0, 2, 4
    assert plan.counts["transformer_matrices"] == 8_847_468  # 5 · 12 · 384² = 8847360, and gates 3 · 3 · 12 = 108
    assert plan.flops_per_token == 6 * 9_240_684 + 12 * 384 * 2312


# --- sizes -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("depth", "aspect_ratio", "head_dim", "expected"),
    [(1, 64, 128, (128, 1)), (2, 64, 128, (128, 1)), (3, 64, 128, (256, 2)), (20, 64, 128, (1280, 10)), (13, 64, 128, (896, 7)),
     (4, 64, 64, (256, 4)), (4, 6, 2, (24, 12)), (4, 100, 128, (512, 4))],
)  # fmt: skip
def test_dimensions(depth, aspect_ratio, head_dim, expected):
    assert dimensions(depth, aspect_ratio, head_dim) == expected


@pytest.mark.parametrize(
    ("kwargs", "message"),
    [
        ({"depth": 0}, "--depth 0: .*at least 1"),
        ({"depth": -3}, "--depth -3"),
        ({"depth": 4, "aspect_ratio": 0}, "--aspect-ratio 0: .*at least 1"),
        ({"depth": 4, "head_dim": 127}, "--head-dim 127: .*even"),
        ({"depth": 4, "head_dim": 0}, "--head-dim 0: .*at least 2"),
        ({"depth": 4, "head_dim": -128}, "--head-dim -128"),
    ],
)
def test_impossible_dimensions(kwargs, message):
    with pytest.raises(UserError, match=message):
        dimensions(**kwargs)


def test_windows():
    assert window_sizes("SSSL", 8, 2048) == [512, 512, 512, 2048] * 2
    assert window_sizes("SSSL", 6, 2048) == [512, 512, 512, 2048, 512, 2048]  # the last layer is long whatever its letter
    assert window_sizes("s", 3, 4096) == [1024, 1024, 4096]
    assert window_sizes("L", 2, 64) == [64, 64]
    assert window_sizes("S", 2, 2052) == [640, 2052]  # 513 → 640
    assert window_sizes("S", 2, 200) == [128, 200]
    assert window_sizes("S", 2, 100) == [100, 100]  # never more than there is
    assert window_sizes("SL", 1, 2048) == [2048]


@pytest.mark.parametrize("pattern", ["", "SXL", "S L", "1"])
def test_bad_window_patterns(pattern):
    with pytest.raises(UserError, match=r"--window-pattern .*S \(a short window\) or L"):
        window_sizes(pattern, 4, 2048)


def test_fewer_kv_heads():
    whole, grouped = param_counts(4, 256, 4, 4, 512), param_counts(4, 256, 4, 1, 512)
    # c_k and c_v go from 256 · 256 to 256 · 64 in 4 layers; the gates of 2 layers lose 3 heads
    assert whole["transformer_matrices"] - grouped["transformer_matrices"] == 4 * 2 * 256 * 192 + 2 * 3 * 12
    assert grouped["value_embeds"] == 2 * 512 * 64
    assert grouped["wte"] == whole["wte"]


def test_padded_vocab():
    assert [padded_vocab(n) for n in (1, 64, 65, 32768, 50257)] == [64, 64, 128, 32768, 50304]


def test_flops_of_windows_longer_than_the_rows():
    counts = param_counts(2, 128, 1, 1, 64)
    assert flops_per_token(counts, 128, [100, 2048], 256) == 6 * (counts["transformer_matrices"] + counts["lm_head"]) + 12 * 128 * (100 + 256)


# --- the horizon and the batch ---------------------------------------------------------------------------------------


def test_horizon_by_precedence():
    flops = 759_695_904 * 524_288  # of one step of d12
    assert make_plan(12, 32768, num_iterations=7, target_flops=1e18).num_iterations == 7
    assert make_plan(12, 32768, target_flops=100.4 * flops).num_iterations == 100
    assert make_plan(12, 32768, target_flops=100.6 * flops).num_iterations == 101
    assert make_plan(12, 32768, target_param_data_ratio=6).num_iterations == 1260
    assert make_plan(12, 32768, target_flops=1.0).num_iterations == 1
    assert make_plan(12, 32768, target_param_data_ratio=1e-12).num_iterations == 1
    with pytest.raises(UserError, match=r"--num-iterations, --target-flops or --target-param-data-ratio"):
        make_plan(12, 32768, target_param_data_ratio=-1)


def test_the_ratio_sets_horizon_but_not_batch():
    """Both D and D_ref are measured with it, so more data per parameter means more steps of the same size."""
    for ratio in (1, 12, 20, 100):
        plan = make_plan(12, 32768, target_param_data_ratio=ratio)
        assert plan.total_batch_size == 524_288
        assert plan.weight_decay == pytest.approx(0.28)
    free = make_plan(24, 32768, num_iterations=10, target_param_data_ratio=-1)
    assert (free.total_batch_size, free.num_iterations) == (1_048_576, 10)
    assert free.weight_decay == pytest.approx(0.0597384, rel=1e-5)


def test_explicit_batch():
    plan = make_plan(12, 32768, total_batch_size=2**17)
    assert (plan.total_batch_size, plan.num_iterations) == (131_072, 10_080)
    assert plan.lr["matrices"] == pytest.approx(0.01)  # a quarter of the batch, half of the rate
    assert plan.lr["wte"] == pytest.approx(0.15)
    assert plan.lr["smear_backout"] == 0.2
    assert plan.weight_decay == pytest.approx(0.14)
    assert make_plan(4, 32768, total_batch_size=2048).total_batch_size == 2048
    assert make_plan(4, 32768, total_batch_size=5000).total_batch_size == 5000  # the script divides it among ranks and says so


@pytest.mark.parametrize("batch", [0, -2, -524288, 1, 2047])
def test_batch_without_a_row(batch):
    with pytest.raises(UserError, match=rf"--total-batch-size {batch}: .*multiple"):
        make_plan(12, 32768, total_batch_size=batch)


def test_a_long_context_gets_its_row():
    assert make_plan(1, 64, sequence_len=2**20, num_iterations=1).total_batch_size == 2**20
    with pytest.raises(UserError, match="--max-seq-len 0"):
        make_plan(12, 32768, sequence_len=0)


def test_the_reference_has_the_same_shape_as_the_model():
    """With other heads, ratios and vocabularies depth 12 stays the reference: nothing is scaled but by width."""
    for kwargs in ({"aspect_ratio": 32}, {"head_dim": 64, "aspect_ratio": 100}, {"aspect_ratio": 128}):
        plan = make_plan(12, 5000, **kwargs)
        assert plan.total_batch_size == 524_288
        assert plan.weight_decay == pytest.approx(0.28)
        assert plan.lr["matrices"] == pytest.approx(0.02)
        assert plan.lr["lm_head"] == pytest.approx(0.008 * math.sqrt(768 / plan.n_embd))


def test_rates_are_what_was_asked_for():
    plan = make_plan(12, 32768, embedding_lr=1.0, unembedding_lr=2.0, matrix_lr=3.0, scalar_lr=4.0, weight_decay=5.0)
    assert plan.lr == pytest.approx(
        {"lm_head": 2, "wte": 1, "value_embeds": 0.5, "resid_lambdas": 0.04, "x0_lambdas": 4, "smear_backout": 0.2, "matrices": 3}
    )
    assert plan.weight_decay == pytest.approx(5.0)
    assert tuple(plan.lr) == LR_GROUPS


@pytest.mark.parametrize("depth", range(1, 33))
def test_every_depth_has_a_plan(depth):
    plan = make_plan(depth, 32768)
    smaller = make_plan(depth - 1, 32768) if depth > 1 else None
    assert plan.n_embd % 128 == 0 and plan.n_embd >= 64 * depth
    assert plan.total_batch_size & (plan.total_batch_size - 1) == 0
    assert abs(plan.tokens_per_param - 12) < 0.1
    assert json.loads(json.dumps(plan._asdict())) == plan._asdict()
    if smaller:
        assert plan.counts["total"] > smaller.counts["total"] and plan.total_flops > smaller.total_flops


# --- memory ----------------------------------------------------------------------------------------------------------


def test_memory_by_hand():
    """A model small enough to add up: depth 1, width 128, 64 tokens of vocabulary, 2 rows of 16."""
    plan = make_plan(1, 64, sequence_len=16, num_iterations=1, window_pattern="L")
    # wte = value_embeds = lm_head = 64 · 128 = 8192; matrices 12 · 128² + 12 = 196620; scalars 28
    assert plan.counts["total"] == 3 * 8192 + 196_620 + 28
    memory = memory_estimate(plan, rows=2)
    weights = 2 * 16384 + 4 * (8192 + 196_620 + 28)
    assert memory["weights"] == memory["gradients"] == weights == 852_128
    assert memory["weight_casts"] == 2 * (196_620 + 8192)
    assert memory["optimizer"] == 4 * (2 * (24_576 + 28) + 196_620 + 12 * 128)
    assert memory["activations"] == 32 * 128 * 2 * (19 + 4)
    assert memory["logits"] == 32 * 64 * (2 + 4 + 4)
    assert memory["total"] == sum(size for name, size in memory.items() if name != "total")


def test_memory_follows_the_switches():
    plan = make_plan(12, 32768)
    memory = memory_estimate(plan, 32)
    assert memory_estimate(plan, 64)["activations"] == 2 * memory["activations"]
    assert memory_estimate(plan, 64)["weights"] == memory["weights"]
    assert memory_estimate(plan, 32, world_size=8)["optimizer"] == -(-memory["optimizer"] // 8)
    checkpointed = memory_estimate(plan, 32, activation_checkpointing=True)
    assert checkpointed["activations"] < memory["activations"] / 5
    assert checkpointed["weight_casts"] < memory["weight_casts"]
    assert memory["logits"] == 32 * 2048 * 32768 * 10
    assert memory_estimate(plan, 32, logits_chunked=True)["logits"] == 2048 * 32768 * 10
    full = memory_estimate(plan, 32, compute_bytes=4)
    assert full["weight_casts"] == 0 and full["weights"] == 4 * plan.counts["total"]
    assert full["activations"] == 2 * memory["activations"]


# --- words -----------------------------------------------------------------------------------------------------------


def test_description():
    text = make_plan(24, 32768).describe()
    facts = """depth 24, width 1536, 12 heads of 128; 1,384,122,122; 679,478,976; 729,810,624; 1,048,576; 8,352; 8,757,706,752;
        12.00 per scaling parameter; 0.028284; 0.059738; 4.182e+19; SSSL: 18 layers with a window of 512, 6 with all of it"""
    for fact in map(str.strip, facts.split(";")):
        assert fact in text
    lines = text.splitlines()
    column = lines[0].index("depth 24")
    assert all(line[column - 1] == " " and not line.endswith(" ") for line in lines)
    assert max(len(line) for line in lines) <= 120


def test_description_without_short_windows():
    assert "every layer sees all of it" in make_plan(4, 32768, window_pattern="L").describe()
    assert "SSSL: 1 layer with a window of 512, 1 with all of it" in make_plan(2, 32768).describe()
    assert "1 head of 128" in make_plan(1, 32768).describe()
