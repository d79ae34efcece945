// The head and the loss in bfloat16 on a CPU: product with the vocabulary, soft cap, cross-entropy, and the gradients. A thread takes a block of rows and
// meets the words some at a time: their logits, what the loss needs of them, and what they add to the gradient to x are made while all of it is in the
// thread's cache. Kept of a block are only the gradients to its logits, until they are summed up for the weights together with those of other blocks.
//
// c = cap·tanh(z/cap), loss = log Σ e^c - c[target]. The cap bounds the exponents, so the sum needs no maximum. With u = e^(2z/cap) and r = 1/(1+u):
// tanh = 1 - 2r and dc/dz = 1 - tanh² = 4r(1-r). The sum of a row is known only after its last word: until then gradients are too large by it.
// The target is kept apart from the other words: where a model is sure, they are all of the loss and of the gradient, and would vanish beside it.
//
// Matrices with a row for each word and a column for each row of x: the sums over words are then sums of vectors, and the products find A as it lies.

#include <memory>
#include <utility>

#include "cpu_products.h"

namespace {

constexpr int64_t WORDS = 64;      // that are met at a time
constexpr float NOTHING = -1e30f;  // a logit without a gradient

struct Head {
    const bf16 *x, *w;       // (N, C), (V, C) of which the first `vocab` rows are words
    const int64_t* targets;  // (N,), < 0 does not count
    const float* scale;      // (N,), the weight of each row's loss in what is differentiated; null: losses only
    float* losses;           // (N,)
    bf16* dx;                // (N, C)
    float* dw;               // (V, C)
    int64_t N, C, V, vocab;
    float cap;
};

// Of a block of `width` rows: gradients to its logits (V, width), too large by a factor for each row, and the rows times that factor.
struct Kept {
    bf16 *gradients, *rows;
};

struct Block {  // the working memory of one thread
    const Head& head;
    const int64_t width;
    std::vector<bf16> rows, channels, pairs;
    std::vector<float> z, dx, part, sums, at_target, factors;  // sums: of e^c over all words but the target; part: of a few words

    Block(const Head& head, int64_t width)
        : head(head), width(width), rows(width * head.C), channels(width * head.C), z(WORDS * width), part(width), sums(width), at_target(width), factors(width) {
        if (head.scale) pairs.resize(WORDS * width), dx.resize(head.C * width);
    }

    // Losses of rows first … and, if asked for, dx; `transposed` is w as (C, WORDS) for each WORDS words.
    void run(int64_t first, const bf16* transposed, const Kept& kept) {
        const int64_t count = std::min(width, head.N - first), C = head.C;
        std::fill(rows.begin(), rows.end(), bf16{0});
        for (int64_t i = 0; i < count; i++)
            if (head.targets[first + i] >= 0) memcpy(&rows[i * C], head.x + (first + i) * C, C * sizeof(bf16));
        pack_channels({rows.data(), width, C}, C, width, channels.data());
        for (auto* numbers : {&sums, &at_target, &factors}) std::fill(numbers->begin(), numbers->end(), 0.0f);
        for (int64_t word = 0; word < head.V; word += WORDS) {
            const int64_t words = std::min(WORDS, head.V - word), real = std::clamp<int64_t>(head.vocab - word, 0, words);
            product(words, width, C, head.w + word * C, C, channels.data(), width, z.data(), width);
            for (int64_t i = 0; i < count; i++) {
                const int64_t target = head.targets[first + i] - word;
                if (target >= 0 && target < words) at_target[i] = std::exchange(z[target * width + i], NOTHING);
            }
            std::fill(part.begin(), part.end(), 0.0f);
            if (head.scale) differentiate(words, real, kept.gradients + word * width);
            else add_up(real);
            for (int64_t i = 0; i < width; i++) sums[i] += part[i];  // in two stages: a large word would swallow many small ones
            if (head.scale) product(C, width, words, transposed + word * C, WORDS, pairs.data(), width, dx.data(), width, word > 0);
        }
        for (int64_t i = 0; i < count; i++) finish(i, head.targets[first + i], first + i, kept.gradients);
        if (!head.scale) return;
        for_transposed(dx.data(), C, width, count, [&](int64_t i, float* row) {
            const bf16* target = head.w + std::max<int64_t>(0, head.targets[first + i]) * C;
            const float there = at_target[i];
#pragma omp simd
            for (int64_t c = 0; c < C; c++) row[c] += there * load(target[c]);
            store_scaled(row, factors[i], C, head.dx + (first + i) * C);
        });
        for (int64_t i = 0; i < count; i++) store_scaled(&rows[i * C], factors[i], C, &rows[i * C]);
        pack_rows({rows.data(), width, C}, C, width, kept.rows);
    }

    void add_up(int64_t words) {
        for (int64_t word = 0; word < words; word++)
            for (int64_t i = 0; i < width; i += 16) {
                const floats r = sigmoid_of_minus(load16(&z[word * width + i]) * (2.0f / head.cap));
                store16(&part[i], load16(&part[i]) + exponential(head.cap - 2.0f * head.cap * r));
            }
    }

    // Of z: part, and the gradients e^c·dc/dz both as rows and as pairs of rows.
    void differentiate(int64_t words, int64_t real, bf16* gradients) {
        const float cap = head.cap;
        float* sum = part.data();
        for (int64_t word = 0; word < words; word += 2) {
            const float *za = &z[word * width], *zb = za + width;
            bf16 *a = gradients + word * width, *b = a + width;
            uint32_t* pair = (uint32_t*)pairs.data() + word / 2 * width;
            const float count_a = word < real, count_b = word + 1 < real;
            for (int64_t i = 0; i < width; i += 16) {
                const floats ra = sigmoid_of_minus(load16(za + i) * (2.0f / cap)), rb = sigmoid_of_minus(load16(zb + i) * (2.0f / cap));
                const floats ea = count_a * exponential(cap - 2.0f * cap * ra), eb = count_b * exponential(cap - 2.0f * cap * rb);
                store16(sum + i, load16(sum + i) + (ea + eb));
                const halves low = rounded16(ea * (4.0f * ra * (1.0f - ra))), high = rounded16(eb * (4.0f * rb * (1.0f - rb)));
                store16(a + i, low);
                store16(b + i, high);
                store16(pair + i, widened(low) | widened(high) << 16);
            }
        }
    }

    // A row's loss, what its gradients have to be multiplied by, and the gradient at its target.
    void finish(int64_t i, int64_t target, int64_t row, bf16* gradients) {
        head.losses[row] = 0;
        if (target < 0) return;
        const float others = sums[i] - exponential(-head.cap);  // which is what NOTHING has added
        const float tanh = std::tanh(at_target[i] / head.cap), e = std::exp(head.cap * tanh);
        head.losses[row] = std::log1p(others / e);
        if (!head.scale) return;
        factors[i] = head.scale[row] / (others + e);
        at_target[i] = -others * (1.0f - tanh * tanh);
        store(gradients + target * width + i, at_target[i]);
    }
};

// w (V, C) as (C, WORDS) for each WORDS words
void transpose(const Head& head, bf16* out) {
#pragma omp parallel for
    for (int64_t word = 0; word < head.V; word += WORDS) {
        for (int64_t i = 0; i < std::min(WORDS, head.V - word); i++)
            for (int64_t c = 0; c < head.C; c++) out[word * head.C + c * WORDS + i] = head.w[(word + i) * head.C + c];
    }
}

}  // namespace

extern "C" int head_usable() { return products_work(); }

// Fills losses, and with scale dx and dw; `width` rows, a multiple of 16, are a block, and of at most `at_once` blocks the gradients to logits are kept.
extern "C" void head_loss(const bf16* x, const bf16* w, const int64_t* targets, const float* scale, float* losses, bf16* dx, float* dw, int64_t N,
                          int64_t C, int64_t V, int64_t vocab, int64_t width, int64_t at_once, float cap) {
    const Head head{x, w, targets, scale, losses, dx, dw, N, C, V, vocab, cap};
    const int64_t blocks = (N + width - 1) / width;
    at_once = std::min(at_once, blocks);
    std::unique_ptr<bf16[]> transposed, gradients, rows;
    if (scale) {
        transposed.reset(new bf16[(V + WORDS) * C]);
        gradients.reset(new bf16[at_once * V * width]);
        rows.reset(new bf16[at_once * width * C]);
        transpose(head, transposed.get());
    }
#pragma omp parallel
    {
        Block work(head, width);
        for (int64_t begin = 0; begin < blocks; begin += at_once) {
            const int64_t end = std::min(begin + at_once, blocks);
#pragma omp for schedule(dynamic)
            for (int64_t b = begin; b < end; b++)
                work.run(b * width, transposed.get(), {gradients.get() + (b - begin) * V * width, rows.get() + (b - begin) * width * C});
            if (!scale) continue;
#pragma omp for
            for (int64_t word = 0; word < V; word += WORDS) {
                const int64_t words = std::min(WORDS, V - word);
                for (int64_t b = 0; b < end - begin; b++)
                    product(words, C, width, gradients.get() + (b * V + word) * width, width, rows.get() + b * width * C, C, dw + word * C, C, begin + b > 0);
            }
        }
        at::native::cpublas::brgemm_release(true);
    }
}
