// Causal attention in bfloat16 on a CPU. A thread takes one head at a time, whose blocks stay in its own cache, and does everything with them there:
// products by torch's small-matrix kernel (brgemm, which uses AMX or AVX512), softmax and its gradient between them on float32 scores.
// Nothing that causality or the window hides is computed, but for the corners of blocks.
//
// q, y: (B, T, H, D), k, v: (B, T, K, D) with H a multiple of K. Queries and keys are normalized, so |score| is bounded by 1.44·√D, and the softmax
// needs no maximum.

#include "cpu_products.h"

namespace {

constexpr int64_t QUERIES = 128, KEYS = 64;  // in a block, forward and backward
constexpr int64_t ROUND = 32;                // lengths are padded to this, with zeros

int64_t padded(int64_t length) { return (length + ROUND - 1) / ROUND * ROUND; }

struct Shape {
    int64_t T, H, K, D, window;
    Matrix head(const bf16* x, int64_t heads, int64_t batch, int64_t h) const { return {x + (batch * T * heads + h) * D, T, heads * D}; }
};

struct Range {  // of what a row of scores is for: from begin to end, and in whole vectors
    const int32_t begin, end, from, to;
    Range(int64_t begin, int64_t end) : begin(begin), end(end), from(begin / 16 * 16), to((end + 15) / 16 * 16) {}
    floats of(int32_t j, floats values) const {  // those of j … j + 15 that are in it
        const numbers at = numbers{0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15} + j;
        return ((at >= begin) & (at < end)) ? values : floats{};
    }
};

struct Forward {  // the working memory of one thread
    std::vector<bf16> keys, values, p;
    std::vector<float> scores, sums;
    Forward(const Shape& s)
        : keys(padded(s.T) * s.D), values(padded(s.T) * s.D), p(QUERIES * padded(s.T)), scores(QUERIES * std::max(padded(s.T), s.D)), sums(QUERIES) {}

    void run(const Shape& s, const Matrix& q, const Matrix& k, const Matrix& v, bf16* y, float* inverse_sums) {
        const int64_t width = padded(s.T), D = s.D;
        const float factor = 1 / std::sqrt(float(D));
        pack_channels(k, D, width, keys.data());
        pack_rows(v, D, width, values.data());
        for (int64_t first = 0; first < s.T; first += QUERIES) {
            const int64_t queries = std::min(QUERIES, s.T - first);
            const int64_t first_key = std::max<int64_t>(0, first - s.window) / ROUND * ROUND;
            const int64_t n = padded(first + queries) - first_key;
            product(queries, n, D, q.row(first), q.stride, keys.data() + 2 * first_key, width, scores.data(), n);
            for (int64_t i = 0; i < queries; i++) {
                const Range seen(std::max<int64_t>(0, first + i - s.window - first_key), first + i + 1 - first_key);
                const float* row = scores.data() + i * n;
                bf16* e = p.data() + i * n;
                floats sum{};
                std::fill(e, e + seen.from, bf16{0});
                for (int32_t j = seen.from; j < seen.to; j += 16) {
                    const floats value = seen.of(j, exponential(load16(row + j) * factor));
                    sum += value;
                    store16(e + j, rounded16(value));
                }
                std::fill(e + seen.to, e + n, bf16{0});
                sums[i] = inverse_sums[first + i] = 1 / total(sum);
            }
            product(queries, D, n, p.data(), n, values.data() + first_key * D, D, scores.data(), D);
            for (int64_t i = 0; i < queries; i++) store_scaled(&scores[i * D], sums[i], D, y + (first + i) * q.stride);
        }
    }
};

// Backward makes the scores transposed, keys as rows, so that both of its products with probabilities find them where they are needed.
struct Backward {
    std::vector<bf16> keys, query_channels, query_rows, dy_channels, dy_rows, p, ds, ds_pairs;
    std::vector<float> scores, dp, dq, dk, dv, means, inverse;

    Backward(const Shape& s) {
        const int64_t n = padded(s.T);
        for (auto* x : {&keys, &query_channels, &query_rows, &dy_channels, &dy_rows}) x->resize(n * s.D);
        for (auto* x : {&p, &ds, &ds_pairs}) x->resize(KEYS * n);
        for (auto* x : {&scores, &dp}) x->resize(KEYS * n);
        for (auto* x : {&dq, &dk, &dv}) x->resize(n * s.D);
        means.resize(n);
        inverse.resize(n);
    }

    void start(const Shape& s, const Matrix& k) {
        pack_channels(k, s.D, padded(s.T), query_channels.data());
        unpack_channels(query_channels.data(), s.D, padded(s.T), keys.data());
        std::fill(dk.begin(), dk.end(), 0.0f);
        std::fill(dv.begin(), dv.end(), 0.0f);
    }

    // Adds one query head's part to dk and dv, and writes its dq.
    void run(const Shape& s, const Matrix& q, const Matrix& k, const Matrix& v, const Matrix& y, const Matrix& dy, const float* inverse_sums, bf16* dq_out) {
        const int64_t width = padded(s.T), D = s.D;
        pack_channels(q, D, width, query_channels.data());
        pack_rows(q, D, width, query_rows.data());
        pack_channels(dy, D, width, dy_channels.data());
        pack_rows(dy, D, width, dy_rows.data());
        for (int64_t i = 0; i < s.T; i++) {  // Σ p·dp of a query is the product of its output with the gradient to it
            const bf16 *a = y.row(i), *b = dy.row(i);
            float sum = 0;
#pragma omp simd reduction(+ : sum)
            for (int64_t d = 0; d < D; d++) sum += load(a[d]) * load(b[d]);
            means[i] = sum;
            inverse[i] = inverse_sums[i];
        }
        std::fill(dq.begin(), dq.end(), 0.0f);
        for (int64_t first = 0; first < s.T; first += KEYS) {
            const int64_t rows = std::min(KEYS, s.T - first);
            const int64_t n = std::min(width, padded(first + rows + s.window)) - first;  // queries from `first` on
            product(rows, n, D, k.row(first), k.stride, query_channels.data() + 2 * first, width, scores.data(), n);
            product(rows, n, D, v.row(first), v.stride, dy_channels.data() + 2 * first, width, dp.data(), n);
            for (int64_t i = 0; i < rows; i++) gradient(s, i, n, std::min(n, s.T - first), inverse.data() + first, means.data() + first);
            const int64_t even = padded(rows);
            std::fill(ds.data() + rows * n, ds.data() + even * n, bf16{0});
            for (int64_t i = 0; i < even; i += 2) interleave(&ds[i * n], &ds[(i + 1) * n], n, &ds_pairs[i * n]);
            product(rows, D, n, p.data(), n, dy_rows.data() + first * D, D, dv.data() + first * D, D, true);
            product(rows, D, n, ds.data(), n, query_rows.data() + first * D, D, dk.data() + first * D, D, true);
            product(D, n, even, keys.data() + first, width, ds_pairs.data(), n, dq.data() + first, width, true);  // dqᵀ
        }
        for_transposed(dq.data(), D, width, s.T, [&](int64_t i, const float* row) { store_scaled(row, 1, D, dq_out + i * q.stride); });
    }

    // Row i of a block: probabilities, and the gradient to the scores. Key `i` is seen by the queries i … i + window.
    void gradient(const Shape& s, int64_t i, int64_t n, int64_t limit, const float* inverse_sums, const float* mean) {
        const float factor = 1 / std::sqrt(float(s.D));
        const Range seen(std::min(i, limit), std::min(limit, i + s.window + 1));
        const float *score = &scores[i * n], *d = &dp[i * n];
        bf16 *p_row = &p[i * n], *ds_row = &ds[i * n];
        std::fill(p_row, p_row + seen.from, bf16{0});
        std::fill(ds_row, ds_row + seen.from, bf16{0});
        for (int32_t j = seen.from; j < seen.to; j += 16) {
            const floats value = exponential(load16(score + j) * factor) * load16(inverse_sums + j);
            store16(p_row + j, rounded16(seen.of(j, value)));
            store16(ds_row + j, rounded16(seen.of(j, value * (load16(d + j) - load16(mean + j)) * factor)));
        }
        std::fill(p_row + seen.to, p_row + n, bf16{0});
        std::fill(ds_row + seen.to, ds_row + n, bf16{0});
    }

    void finish(const Shape& s, int64_t stride, bf16* dk_out, bf16* dv_out) const {
        for (int64_t i = 0; i < s.T; i++) {
            store_scaled(&dk[i * s.D], 1, s.D, dk_out + i * stride);
            store_scaled(&dv[i * s.D], 1, s.D, dv_out + i * stride);
        }
    }
};

}  // namespace

extern "C" int attention_usable() { return products_work(); }

extern "C" void attention_forward(const bf16* q, const bf16* k, const bf16* v, bf16* y, float* inverse_sums, int64_t B, int64_t T, int64_t H, int64_t K,
                                  int64_t D, int64_t window) {
    const Shape s{T, H, K, D, window};
#pragma omp parallel
    {
        Forward work(s);
#pragma omp for collapse(2)
        for (int64_t b = 0; b < B; b++) {
            for (int64_t h = 0; h < H; h++) {
                const int64_t kv = h / (H / K);
                work.run(s, s.head(q, H, b, h), s.head(k, K, b, kv), s.head(v, K, b, kv), y + (b * T * H + h) * D, inverse_sums + (b * H + h) * T);
            }
        }
        at::native::cpublas::brgemm_release(true);
    }
}

extern "C" void attention_backward(const bf16* dy, const bf16* q, const bf16* k, const bf16* v, const bf16* y, const float* inverse_sums, bf16* dq,
                                   bf16* dk, bf16* dv, int64_t B, int64_t T, int64_t H, int64_t K, int64_t D, int64_t window) {
    const Shape s{T, H, K, D, window};
#pragma omp parallel
    {
        Backward work(s);
#pragma omp for collapse(2)
        for (int64_t b = 0; b < B; b++) {
            for (int64_t kv = 0; kv < K; kv++) {
                const Matrix keys = s.head(k, K, b, kv), values = s.head(v, K, b, kv);
                work.start(s, keys);
                for (int64_t h = kv * (H / K); h < (kv + 1) * (H / K); h++)
                    work.run(s, s.head(q, H, b, h), keys, values, s.head(y, H, b, h), s.head(dy, H, b, h), inverse_sums + (b * H + h) * T,
                             dq + (b * T * H + h) * D);
                work.finish(s, K * D, dk + (b * T * K + kv) * D, dv + (b * T * K + kv) * D);
            }
        }
        at::native::cpublas::brgemm_release(true);
    }
}
