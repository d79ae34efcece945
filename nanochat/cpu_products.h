// Products of small bfloat16 matrices on a CPU by torch's brgemm, which uses AMX or AVX512, and how its operands are laid out.
//
// It multiplies A (M, K) and B in pairs: B (K/2, N, 2), where a pair holds two neighbours along K. What is B somewhere is packed first.

#pragma once

#include "cpu_vectors.h"

namespace c10 {
struct BFloat16;
}  // namespace c10

namespace at::native::cpublas {  // of ATen/native/CPUBlas.h, whose inclusion would take half a minute to compile
void brgemm(int64_t M, int64_t N, int64_t K, int64_t ld_a, int64_t ld_b, int64_t ld_c, bool add_c, const c10::BFloat16* A, const c10::BFloat16* B,
            float* C, bool is_vnni);
void brgemm_release(bool is_vnni);
}  // namespace at::native::cpublas

namespace {

void product(int64_t M, int64_t N, int64_t K, const bf16* A, int64_t ld_a, const bf16* B, int64_t ld_b, float* C, int64_t ld_c, bool add = false) {
    at::native::cpublas::brgemm(M, N, K, ld_a, ld_b, ld_c, add, (const c10::BFloat16*)A, (const c10::BFloat16*)B, C, true);
}

struct Matrix {  // rows of numbers, `stride` apart: a part of a matrix, or one head of a (B, T, H, D) tensor
    const bf16* data;
    int64_t rows, stride;
    const bf16* row(int64_t i) const { return data + i * stride; }
};

// 16 × 16 numbers, transposed: pairs of rows 1, 2, 4 and 8 apart swap what the other should have.
inline void transpose_tile(const uint32_t* in, int64_t in_stride, uint32_t* out, int64_t out_stride) {
#ifdef __AVX512F__
    const __m512i lane = _mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
    __m512i row[16];
    for (int i = 0; i < 16; i++) row[i] = _mm512_loadu_si512(in + i * in_stride);
#pragma GCC unroll 4
    for (int apart = 1; apart < 16; apart *= 2) {
        const __mmask16 odd = _mm512_test_epi32_mask(lane, _mm512_set1_epi32(apart));
        const __m512i first = _mm512_mask_add_epi32(lane, odd, lane, _mm512_set1_epi32(16 - apart));
        const __m512i second = _mm512_add_epi32(first, _mm512_set1_epi32(apart));
#pragma GCC unroll 16
        for (int i = 0; i < 16; i++) {
            if (i & apart) continue;
            const __m512i a = row[i], b = row[i + apart];
            row[i] = _mm512_permutex2var_epi32(a, first, b);
            row[i + apart] = _mm512_permutex2var_epi32(a, second, b);
        }
    }
    for (int i = 0; i < 16; i++) _mm512_storeu_si512(out + i * out_stride, row[i]);
#else
    for (int i = 0; i < 16; i++)
        for (int j = 0; j < 16; j++) out[j * out_stride + i] = in[i * in_stride + j];
#endif
}

// x (rows, D) as B of a product with xᵀ: pairs of channels, (D/2, width, 2), zeros after the last row
void pack_channels(const Matrix& x, int64_t D, int64_t width, bf16* out) {
    uint32_t* pairs = (uint32_t*)out;
    const uint32_t* in = (const uint32_t*)x.data;
    const int64_t stride = x.stride / 2, rows = x.rows / 16 * 16, channels = D / 32 * 16;  // that make up tiles
    for (int64_t i = 0; i < rows; i += 16)
        for (int64_t p = 0; p < channels; p += 16) transpose_tile(in + i * stride + p, stride, pairs + p * width + i, width);
    for (int64_t i = 0; i < width; i++)
        for (int64_t p = i < rows ? channels : 0; p < D / 2; p++) pairs[p * width + i] = i < x.rows ? in[i * stride + p] : 0;
}

// x (rows, D) transposed, (D, width), from its pairs of channels
inline void unpack_channels(const bf16* packed, int64_t D, int64_t width, bf16* out) {
    const uint32_t* pairs = (const uint32_t*)packed;
    for (int64_t p = 0; p < D / 2; p++) {
#pragma omp simd
        for (int64_t i = 0; i < width; i++) {
            out[2 * p * width + i].bits = uint16_t(pairs[p * width + i]);
            out[(2 * p + 1) * width + i].bits = uint16_t(pairs[p * width + i] >> 16);
        }
    }
}

// two rows as one row of pairs
void interleave(const bf16* a, const bf16* b, int64_t n, bf16* out) {
    uint32_t* pairs = (uint32_t*)out;
#pragma omp simd
    for (int64_t i = 0; i < n; i++) pairs[i] = uint32_t(a[i].bits) | uint32_t(b[i].bits) << 16;
}

// x (rows, D) as B of a product with x: pairs of rows, (length/2, D, 2), zeros after the last row
void pack_rows(const Matrix& x, int64_t D, int64_t length, bf16* out) {
    const std::vector<bf16> zeros(D, bf16{0});
    for (int64_t i = 0; i < length; i += 2) {
        const bf16* a = i < x.rows ? x.row(i) : zeros.data();
        const bf16* b = i + 1 < x.rows ? x.row(i + 1) : zeros.data();
        interleave(a, b, D, out + i * D);
    }
}

// The rows of xᵀ (D, width) in float32: take(i, row) gets each of the first `rows`, and may spoil it
template <typename Take>
void for_transposed(const float* x, int64_t D, int64_t width, int64_t rows, Take take) {
    std::vector<float> tile(16 * D);
    for (int64_t first = 0; first < rows; first += 16) {
        for (int64_t d = 0; d + 16 <= D; d += 16) transpose_tile((const uint32_t*)x + d * width + first, width, (uint32_t*)tile.data() + d, D);
        for (int64_t d = D / 16 * 16; d < D; d++)
            for (int64_t i = 0; i < 16; i++) tile[i * D + d] = x[d * width + first + i];
        for (int64_t i = first; i < std::min(first + 16, rows); i++) take(i, &tile[(i - first) * D]);
    }
}

// Does brgemm work here? It says no by an exception.
int products_work() {
#ifdef __AVX512BF16__
    try {
        const bf16 zeros[32 * 32] = {};
        float out[32 * 32];
        product(32, 32, 32, zeros, 32, zeros, 32, out, 32);
        at::native::cpublas::brgemm_release(true);
        return 1;
    } catch (...) {
    }
#endif
    return 0;
}

}  // namespace
