// The passes over large matrices of scores and logits, for a CPU. Matrix products stay with torch; what is written here is what lies between them:
// one visit to every row while it is in cache, where a chain of torch operations would fetch it from memory again and again.
// Compiled on first use by cpu_kernels.py. No header but the standard ones, so that takes a second.

#include <cmath>
#include <cstdint>
#include <cstring>
#include <vector>

namespace {

struct bf16 {
    uint16_t bits;
};

inline float load(float x) { return x; }

inline float load(bf16 x) {
    uint32_t bits = uint32_t(x.bits) << 16;
    float value;
    memcpy(&value, &bits, 4);
    return value;
}

inline void store(float* place, float value) { *place = value; }

inline void store(bf16* place, float value) {  // rounds to nearest, ties to even; NaN stays NaN
    uint32_t bits;
    memcpy(&bits, &value, 4);
    place->bits = uint16_t((bits + 0x7fff + ((bits >> 16) & 1)) >> 16);
}

// e^x to float32's precision, written so that compilers vectorize it: x = (n + f) ln 2, a polynomial for 2^f, n into the exponent.
// NaN comes out as NaN, since it goes through the product; below -87 the result is about 1e-38.
inline float exponential(float x) {
    x = x > 88.0f ? 88.0f : x;
    x = x < -87.0f ? -87.0f : x;
    float y = x * 1.44269504089f;
    float n = std::nearbyint(y);
    float f = (x - n * 0.693359375f) + n * 2.12194440e-4f;  // ln 2 in two parts: n times the first is exact
    float p = 1.0f + f * (1.0f + f * (0.5f + f * (0.16666667f + f * (0.041666567f + f * (0.0083345090f + f * 0.0013981999f)))));
    uint32_t bits = uint32_t(int32_t(n) + 127) << 23;
    float power;
    memcpy(&power, &bits, 4);
    return p * power;
}

// Logits -> losses and the gradient to the logits, in place. c = 15·tanh(z/15), loss = log Σ e^c - c[target]. The cap bounds the exponents, so the
// sum needs no maximum. With u = e^(2z/15) and r = 1/(1+u): tanh = 1 - 2r and dc/dz = 1 - tanh² = 4r(1-r).
// z (rows, stride): the first `vocab` of each row are logits, the rest is padding and gets gradient 0. A target < 0 is ignored.
// scale (rows): the weight of each row's loss in what is differentiated; null: losses only, z stays as it is.
template <typename T>
void softcap_loss(T* logits, const int64_t* targets, const float* scale, float* losses, int64_t rows, int64_t vocab, int64_t stride, float cap) {
#pragma omp parallel
    {
        std::vector<float> kept(scale ? vocab : 0);
#pragma omp for
        for (int64_t row = 0; row < rows; row++) {
            T* z = logits + row * stride;
            float* gradient = kept.data();
            const int64_t target = targets[row];
            losses[row] = 0;
            if (target < 0) {
                if (scale) memset(z, 0, stride * sizeof(T));
                continue;
            }
            float sum = 0;
            if (scale) {
#pragma omp simd reduction(+ : sum)
                for (int64_t i = 0; i < vocab; i++) {
                    float r = 1.0f / (1.0f + exponential(load(z[i]) * (2.0f / cap)));
                    float e = exponential(cap - 2.0f * cap * r);
                    sum += e;
                    gradient[i] = e * (4.0f * r * (1.0f - r));
                }
            } else {
#pragma omp simd reduction(+ : sum)
                for (int64_t i = 0; i < vocab; i++) sum += exponential(cap - 2.0f * cap / (1.0f + exponential(load(z[i]) * (2.0f / cap))));
            }
            const float tanh_target = std::tanh(load(z[target]) / cap);
            losses[row] = std::log(sum) - cap * tanh_target;
            if (!scale) continue;
            const float factor = scale[row] / sum;
            const float at_target = (std::exp(cap * tanh_target) / sum - 1.0f) * (1.0f - tanh_target * tanh_target) * scale[row];
#pragma omp simd
            for (int64_t i = 0; i < vocab; i++) store(z + i, gradient[i] * factor);
            store(z + target, at_target);
            memset(z + vocab, 0, (stride - vocab) * sizeof(T));
        }
    }
}

// Which of a block's keys a query sees: positions query-window … query, as columns of a block whose first key is `first_key`.
struct Visible {
    int64_t begin, end;
    Visible(int64_t query, int64_t first_key, int64_t window) : begin(query - window - first_key), end(query + 1 - first_key) {
        if (begin < 0) begin = 0;
    }
};

// Scores -> probabilities, in place, for `heads` blocks of (queries, keys); inverse_sums (heads, queries at stride sums_stride) is kept for backward.
// Queries and keys are normalized vectors, so scores are small (1.44·√head_dim at most) and the sum needs no maximum.
template <typename T>
void softmax(T* scores, float* inverse_sums, int64_t heads, int64_t queries, int64_t keys, int64_t first_query, int64_t first_key, int64_t window,
             int64_t sums_stride, float factor) {
#pragma omp parallel
    {
        std::vector<float> kept(keys);
#pragma omp for
        for (int64_t row = 0; row < heads * queries; row++) {
            T* s = scores + row * keys;
            float* e = kept.data();
            const int64_t query = row % queries;
            const Visible see(first_query + query, first_key, window);
            float sum = 0;
#pragma omp simd reduction(+ : sum)
            for (int64_t i = see.begin; i < see.end; i++) {
                e[i] = exponential(load(s[i]) * factor);
                sum += e[i];
            }
            const float inverse = 1.0f / sum;
            inverse_sums[row / queries * sums_stride + query] = inverse;
            memset(s, 0, see.begin * sizeof(T));
#pragma omp simd
            for (int64_t i = see.begin; i < see.end; i++) store(s + i, e[i] * inverse);
            memset(s + see.end, 0, (keys - see.end) * sizeof(T));
        }
    }
}

// Backward of softmax, transposed: for `heads` blocks of (keys, queries), scores become probabilities again, and dp, the gradient to the
// probabilities, becomes the one to the scores. means (as inverse_sums): Σ p·dp of each query, the inner product of its output with its gradient.
template <typename T>
void softmax_backward(T* scores, T* dp, const float* inverse_sums, const float* means, int64_t heads, int64_t queries, int64_t keys,
                      int64_t first_query, int64_t first_key, int64_t window, int64_t sums_stride, float factor) {
#pragma omp parallel for
    for (int64_t row = 0; row < heads * keys; row++) {
        T *s = scores + row * queries, *d = dp + row * queries;
        const int64_t at = row / keys * sums_stride, key = first_key + row % keys;
        const float *inverse = inverse_sums + at, *mean = means + at;
        const int64_t begin = key > first_query ? key - first_query : 0;  // it is seen by queries key … key + window
        const int64_t end = key + window + 1 < first_query + queries ? key + window + 1 - first_query : queries;
        memset(s, 0, begin * sizeof(T));
        memset(d, 0, begin * sizeof(T));
#pragma omp simd
        for (int64_t i = begin; i < end; i++) {
            float p = exponential(load(s[i]) * factor) * inverse[i];
            store(s + i, p);
            store(d + i, p * (load(d[i]) - mean[i]) * factor);
        }
        memset(s + end, 0, (queries - end) * sizeof(T));
        memset(d + end, 0, (queries - end) * sizeof(T));
    }
}

}  // namespace

#define FOR_TYPE(T, suffix)                                                                                                                         \
    extern "C" void softcap_loss_##suffix(T* z, const int64_t* targets, const float* scale, float* losses, int64_t rows, int64_t vocab,             \
                                          int64_t stride, float cap) {                                                                              \
        softcap_loss(z, targets, scale, losses, rows, vocab, stride, cap);                                                                          \
    }                                                                                                                                               \
    extern "C" void softmax_##suffix(T* s, float* sums, int64_t heads, int64_t queries, int64_t keys, int64_t first_query, int64_t first_key,       \
                                     int64_t window, int64_t stride, float factor) {                                                                \
        softmax(s, sums, heads, queries, keys, first_query, first_key, window, stride, factor);                                                     \
    }                                                                                                                                               \
    extern "C" void softmax_backward_##suffix(T* s, T* dp, const float* sums, const float* means, int64_t heads, int64_t queries, int64_t keys,     \
                                              int64_t first_query, int64_t first_key, int64_t window, int64_t stride, float factor) {               \
        softmax_backward(s, dp, sums, means, heads, queries, keys, first_query, first_key, window, stride, factor);                                 \
    }

FOR_TYPE(float, float32)
FOR_TYPE(bf16, bfloat16)
