// Decoding on a CPU: products with few rows, where reading the weights is all the work; a query over the keys of its row; soft-capped logits.
// For processors that multiply bfloat16 in 512-bit vectors. Elsewhere there is torch.

#include "cpu_math.h"

#ifdef __AVX512BF16__
#include <immintrin.h>

namespace {

constexpr int64_t LANES = 32;  // bfloat16 numbers in a vector
constexpr int64_t MANY = 8;    // rows from which on it pays to repack weights while they are in cache
constexpr int64_t BLOCK = 64;  // rows of weights that are repacked at a time
constexpr int64_t FEW = 8;     // rows of a cache, up to which their heads are shared out among threads
constexpr int64_t KEYS = 32;   // looked at together for all heads

__mmask32 first(int64_t lanes) { return lanes >= LANES ? ~0u : (__mmask32)((1u << lanes) - 1); }
__m512bh load_bf16(const bf16* x) { return (__m512bh)_mm512_loadu_si512(x); }
__m512bh load_bf16(const bf16* x, __mmask32 mask) { return (__m512bh)_mm512_maskz_loadu_epi16(mask, x); }

// The sums of four vectors.
__m128 sums(const __m512* v) {
    const __m512 ab = _mm512_add_ps(_mm512_unpacklo_ps(v[0], v[1]), _mm512_unpackhi_ps(v[0], v[1]));
    const __m512 cd = _mm512_add_ps(_mm512_unpacklo_ps(v[2], v[3]), _mm512_unpackhi_ps(v[2], v[3]));
    const __m512d low = _mm512_unpacklo_pd(_mm512_castps_pd(ab), _mm512_castps_pd(cd)), high = _mm512_unpackhi_pd(_mm512_castps_pd(ab), _mm512_castps_pd(cd));
    const __m512 all = _mm512_add_ps(_mm512_castpd_ps(low), _mm512_castpd_ps(high));
    const __m256 half = _mm256_add_ps(_mm512_castps512_ps256(all), _mm512_extractf32x8_ps(all, 1));
    return _mm_add_ps(_mm256_castps256_ps128(half), _mm256_extractf128_ps(half, 1));
}

// 16 rows of 16 pairs, `stride` apart, turned: out[k] holds pair k of all rows.
void turn(const bf16* rows, int64_t stride, bf16* out, int64_t out_stride) {
    __m512i a[16], b[16];
    for (int i = 0; i < 16; i++) a[i] = _mm512_loadu_si512(rows + i * stride);
    for (int i = 0; i < 16; i += 2) {  // pairs of neighbouring rows, then fours, then 128-bit lanes
        b[i] = _mm512_unpacklo_epi32(a[i], a[i + 1]);
        b[i + 1] = _mm512_unpackhi_epi32(a[i], a[i + 1]);
    }
    for (int i = 0; i < 16; i += 4) {
        a[i] = _mm512_unpacklo_epi64(b[i], b[i + 2]);
        a[i + 1] = _mm512_unpackhi_epi64(b[i], b[i + 2]);
        a[i + 2] = _mm512_unpacklo_epi64(b[i + 1], b[i + 3]);
        a[i + 3] = _mm512_unpackhi_epi64(b[i + 1], b[i + 3]);
    }
    for (int i = 0; i < 4; i++) {  // a[4r + i] holds pairs i, 4+i, 8+i, 12+i of rows 4r … 4r+3, a lane each
        const __m512i low = _mm512_shuffle_i32x4(a[i], a[4 + i], 0x88), high = _mm512_shuffle_i32x4(a[i], a[4 + i], 0xdd);
        const __m512i low2 = _mm512_shuffle_i32x4(a[8 + i], a[12 + i], 0x88), high2 = _mm512_shuffle_i32x4(a[8 + i], a[12 + i], 0xdd);
        _mm512_storeu_si512(out + i * out_stride, _mm512_shuffle_i32x4(low, low2, 0x88));
        _mm512_storeu_si512(out + (8 + i) * out_stride, _mm512_shuffle_i32x4(low, low2, 0xdd));
        _mm512_storeu_si512(out + (4 + i) * out_stride, _mm512_shuffle_i32x4(high, high2, 0x88));
        _mm512_storeu_si512(out + (12 + i) * out_stride, _mm512_shuffle_i32x4(high, high2, 0xdd));
    }
}

// ROWS rows of x by BLOCK rows of weights that have been turned: (K/2, BLOCK, 2)
template <int ROWS>
void wide_tile(const bf16* x, const bf16* turned, bf16* y, int64_t N, int64_t K, const bf16* next) {
    __m512 sum[ROWS][4];
    for (auto& row : sum)
        for (auto& s : row) s = _mm512_setzero_ps();
    for (int64_t k = 0; k < K; k += 2) {
        __m512bh weights[4];
        for (int n = 0; n < 4; n++) weights[n] = load_bf16(turned + k * BLOCK + n * LANES);
        _mm_prefetch(next + k * LANES / 2, _MM_HINT_T1);
        for (int m = 0; m < ROWS; m++) {
            int32_t pair;
            memcpy(&pair, x + m * K + k, 4);
            for (int n = 0; n < 4; n++) sum[m][n] = _mm512_dpbf16_ps(sum[m][n], (__m512bh)_mm512_set1_epi32(pair), weights[n]);
        }
    }
    for (int m = 0; m < ROWS; m++)
        for (int n = 0; n < 4; n++) _mm256_storeu_si256((__m256i*)(y + m * N + n * LANES / 2), (__m256i)_mm512_cvtneps_pbh(sum[m][n]));
}

// ROWS rows of x by four rows of w: 4·ROWS sums that stay in registers.
template <int ROWS>
void tile(const bf16* x, const bf16* w, bf16* y, int64_t N, int64_t K) {
    __m512 sum[ROWS][4];
    for (auto& row : sum)
        for (auto& s : row) s = _mm512_setzero_ps();
    int64_t k = 0;
    for (; k + LANES <= K; k += LANES) {
        __m512bh weights[4];
        for (int n = 0; n < 4; n++) weights[n] = load_bf16(w + n * K + k);
        for (int m = 0; m < ROWS; m++) {
            const __m512bh row = load_bf16(x + m * K + k);
            for (int n = 0; n < 4; n++) sum[m][n] = _mm512_dpbf16_ps(sum[m][n], row, weights[n]);
        }
    }
    if (k < K) {
        const __mmask32 rest = first(K - k);
        for (int m = 0; m < ROWS; m++)
            for (int n = 0; n < 4; n++) sum[m][n] = _mm512_dpbf16_ps(sum[m][n], load_bf16(x + m * K + k, rest), load_bf16(w + n * K + k, rest));
    }
    for (int m = 0; m < ROWS; m++) _mm_storel_epi64((__m128i*)(y + m * N), (__m128i)_mm_cvtneps_pbh(sums(sum[m])));
}

float dot(const bf16* a, const bf16* b, int64_t length) {
    __m512 sum = _mm512_setzero_ps();
    for (int64_t i = 0; i < length; i += LANES)
        sum = _mm512_dpbf16_ps(sum, load_bf16(a + i, first(length - i)), load_bf16(b + i, first(length - i)));
    return _mm512_reduce_add_ps(sum);
}

// scores (n) = keys (n, D), `stride` apart, times the query
void score(const bf16* query, const bf16* keys, int64_t stride, int64_t n, int64_t D, float* scores) {
    int64_t j = 0;
    for (; j + 4 <= n; j += 4) {
        __m512 sum[4] = {};
        for (int64_t d = 0; d < D; d += LANES) {
            const __m512bh q = load_bf16(query + d, first(D - d));
            for (int i = 0; i < 4; i++) sum[i] = _mm512_dpbf16_ps(sum[i], q, load_bf16(keys + (j + i) * stride + d, first(D - d)));
        }
        _mm_storeu_ps(scores + j, sums(sum));
    }
    for (; j < n; j++) scores[j] = dot(query, keys + j * stride, D);
}

// sums (D) += weights · values (n, D), `stride` apart; 64 channels at a time, whose sums stay in registers
void mix(const float* weights, const bf16* values, int64_t stride, int64_t n, int64_t D, float* sums) {
    constexpr int64_t HALF = LANES / 2;
    for (int64_t d = 0; d < D; d += 4 * HALF) {
        __mmask16 masks[4];
        __m512 sum[4];
        for (int i = 0; i < 4; i++) {
            masks[i] = (__mmask16)first(std::clamp<int64_t>(D - d - i * HALF, 0, HALF));
            sum[i] = _mm512_maskz_loadu_ps(masks[i], sums + d + i * HALF);
        }
        for (int64_t j = 0; j < n; j++) {
            const __m512 weight = _mm512_set1_ps(weights[j]);
            for (int i = 0; i < 4; i++) {
                const __m256i half = _mm256_maskz_loadu_epi16(masks[i], values + j * stride + d + i * HALF);
                const __m512 value = _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(half), 16));
                sum[i] = _mm512_fmadd_ps(weight, value, sum[i]);
            }
        }
        for (int i = 0; i < 4; i++) _mm512_mask_storeu_ps(sums + d + i * HALF, masks[i], sum[i]);
    }
}

}  // namespace

extern "C" int decode_usable() { return 1; }

// y (M, N) = x (M, K) wᵀ for w (N, K)
extern "C" void linear(const bf16* x, const bf16* w, bf16* y, int64_t M, int64_t N, int64_t K) {
    if (M >= MANY && N % BLOCK == 0 && K % LANES == 0) {
#pragma omp parallel
        {
            std::vector<bf16> turned(BLOCK * K);
#pragma omp for schedule(static)
            for (int64_t n = 0; n < N; n += BLOCK) {
                for (int64_t i = 0; i < BLOCK; i += 16)
                    for (int64_t k = 0; k < K; k += LANES) turn(w + (n + i) * K + k, K, turned.data() + k * BLOCK + 2 * i, 2 * BLOCK);
                const bf16* next = w + (n + BLOCK) * K;  // comes into the cache while these are at work
                int64_t m = 0;
                for (; m + 6 <= M; m += 6, next += LANES / 2 * K) wide_tile<6>(x + m * K, turned.data(), y + m * N + n, N, K, next);
                for (; m + 2 <= M; m += 2, next += LANES / 2 * K) wide_tile<2>(x + m * K, turned.data(), y + m * N + n, N, K, next);
                for (; m < M; m++) wide_tile<1>(x + m * K, turned.data(), y + m * N + n, N, K, next);
            }
        }
        return;
    }
    const int64_t fours = N / 4;
#pragma omp parallel for schedule(static)
    for (int64_t four = 0; four < fours; four++) {
        const bf16* rows = w + 4 * four * K;
        bf16* out = y + 4 * four;
        int64_t m = 0;
        for (; m + 4 <= M; m += 4) tile<4>(x + m * K, rows, out + m * N, N, K);
        for (; m < M; m++) tile<1>(x + m * K, rows, out + m * N, N, K);
    }
    for (int64_t n = 4 * fours; n < N; n++)
        for (int64_t m = 0; m < M; m++) store(y + m * N + n, dot(x + m * K, w + n * K, K));
}

// For each row b: its new key and value go to positions[b] of the cache, and its query sees all from positions[b] - window on.
// q, y: (B, H, D); new_keys, new_values: (B, K, D); keys, values: (B, T, K, D), whose rows are `row_stride` numbers apart. |score| is bounded by
// QK-norm: no maximum is needed. A block of keys is read for all heads at once, since their parts of it lie side by side.
extern "C" void attend(const bf16* q, const bf16* new_keys, const bf16* new_values, bf16* keys, bf16* values, const int64_t* positions, bf16* y,
                       int64_t B, int64_t H, int64_t K, int64_t D, int64_t row_stride, int64_t window) {
    const float factor = 1 / std::sqrt(float(D));
    const int64_t parts = B < FEW ? K : 1, kv_heads = K / parts, heads = H / parts;  // few rows are not enough to go round
#pragma omp parallel
    {
        std::vector<float> weights, total(heads), sum(heads * D);
#pragma omp for collapse(2)
        for (int64_t b = 0; b < B; b++) {
            for (int64_t part = 0; part < parts; part++) {
                const int64_t begin = std::max<int64_t>(0, positions[b] - window), n = positions[b] + 1 - begin, stride = K * D;
                const bf16* query = q + (b * H + part * heads) * D;
                const int64_t fresh = (b * K + part * kv_heads) * D, old = b * row_stride + part * kv_heads * D;
                memcpy(keys + old + positions[b] * stride, new_keys + fresh, kv_heads * D * sizeof(bf16));
                memcpy(values + old + positions[b] * stride, new_values + fresh, kv_heads * D * sizeof(bf16));
                weights.resize(KEYS * heads);
                std::fill(sum.begin(), sum.end(), 0.0f);
                std::fill(total.begin(), total.end(), 0.0f);
                for (int64_t j = 0; j < n; j += KEYS) {
                    const int64_t count = std::min(KEYS, n - j);
                    for (int64_t h = 0; h < heads; h++) {
                        const int64_t place = old + (begin + j) * stride + h / (heads / kv_heads) * D;
                        float* weight = weights.data() + h * KEYS;
                        score(query + h * D, keys + place, stride, count, D, weight);
                        float partial = 0;
#pragma omp simd reduction(+ : partial)
                        for (int64_t i = 0; i < count; i++) partial += weight[i] = exponential(weight[i] * factor);
                        total[h] += partial;
                    }
                    for (int64_t h = 0; h < heads; h++) {
                        const int64_t place = old + (begin + j) * stride + h / (heads / kv_heads) * D;
                        mix(weights.data() + h * KEYS, values + place, stride, count, D, sum.data() + h * D);
                    }
                }
                for (int64_t h = 0; h < heads; h++)
                    for (int64_t d = 0; d < D; d++) store(y + (b * H + part * heads + h) * D + d, sum[h * D + d] / total[h]);
            }
        }
    }
}

// out (rows, columns) = cap·tanh(z/cap) of the first columns of z (rows, stride)
extern "C" void softcap(const bf16* z, float* out, int64_t rows, int64_t columns, int64_t stride, float cap) {
    constexpr int64_t PIECE = 4096;
    const int64_t pieces = (columns + PIECE - 1) / PIECE;
#pragma omp parallel for collapse(2)
    for (int64_t row = 0; row < rows; row++) {
        for (int64_t piece = 0; piece < pieces; piece++) {
            const bf16* in = z + row * stride;
            float* to = out + row * columns;
#pragma omp simd
            for (int64_t i = piece * PIECE; i < std::min(columns, (piece + 1) * PIECE); i++)
                to[i] = cap - 2.0f * cap * reciprocal(1.0f + exponential(clamped(load(in[i]) * (2.0f / cap))));
        }
    }
}

#else
extern "C" int decode_usable() { return 0; }
#endif
