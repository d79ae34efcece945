// What the CPU kernels share: bfloat16, and an exponential that vectorizes.

#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <vector>

#ifdef __AVX512F__
#include <immintrin.h>
#endif

struct bf16 {
    uint16_t bits;
};

inline float load(bf16 x) {
    uint32_t bits = uint32_t(x.bits) << 16;
    float value;
    memcpy(&value, &bits, 4);
    return value;
}

inline uint32_t rounded(float value) {  // the bits of the nearest bfloat16, ties to even; NaN stays NaN
    uint32_t bits;
    memcpy(&bits, &value, 4);
    return (bits + 0x7fff + ((bits >> 16) & 1)) >> 16;
}

inline void store(bf16* place, float value) { place->bits = uint16_t(rounded(value)); }

template <typename Number>
inline Number power_of_two(Number f) {  // of |f| ≤ 1/2
    return 1.0f + f * (0.693147181f + f * (0.240226507f + f * (0.0555041087f + f * (0.00961812911f + f * 0.00133335581f))));
}

// e^x for |x| < 87, with a relative error of 2e-6 at |x| = 15, where float32's own x is no better: 2^(n+f), n into the exponent.
// Written so that compilers vectorize it. NaN comes out as NaN, since it goes through the product.
inline float exponential(float x) {
    const float y = x * 1.44269504089f, n = std::nearbyint(y), p = power_of_two(y - n);
    const uint32_t bits = uint32_t(int32_t(n) + 127) << 23;
    float power;
    memcpy(&power, &bits, 4);
    return p * power;
}

// 1/x for x ≥ 1: a guess from the exponent, then three steps of Newton's, each doubling the digits. A division takes four times as long.
inline float reciprocal(float x) {
    uint32_t bits;
    memcpy(&bits, &x, 4);
    bits = 0x7ef311c7u - bits;
    float r;
    memcpy(&r, &bits, 4);
    r = r * (2.0f - x * r);
    r = r * (2.0f - x * r);
    return r * (2.0f - x * r);
}

inline float clamped(float x) { return x > 87.0f ? 87.0f : x < -87.0f ? -87.0f : x; }  // NaN stays NaN

inline float sigmoid_of_minus(float x) { return reciprocal(1.0f + exponential(clamped(x))); }

// 16 numbers at a time, for what compilers make slow loops of: numbers of two and four bytes together.
typedef float floats __attribute__((vector_size(64)));
typedef int32_t numbers __attribute__((vector_size(64)));
typedef uint32_t words __attribute__((vector_size(64)));
typedef uint16_t halves __attribute__((vector_size(32)));

inline words widened(halves x) { return __builtin_convertvector(x, words); }

inline floats load16(const bf16* x) {
    halves bits;
    memcpy(&bits, x, sizeof(bits));
    return (floats)(widened(bits) << 16);
}

inline floats load16(const float* x) {
    floats values;
    memcpy(&values, x, sizeof(values));
    return values;
}

inline halves rounded16(floats x) {
#ifdef __AVX512BF16__
    return (halves)_mm512_cvtneps_pbh((__m512)x);
#else
    const words bits = (words)x;
    return __builtin_convertvector((bits + 0x7fff + ((bits >> 16) & 1)) >> 16, halves);
#endif
}

template <typename T, typename Vector>
inline void store16(T* place, Vector values) {
    memcpy(place, &values, sizeof(values));
}

inline float load(float x) { return x; }

// out = x·factor
template <typename Number>
void store_scaled(const Number* x, float factor, int64_t n, bf16* out) {
    const int64_t whole = n / 16 * 16;
    for (int64_t i = 0; i < whole; i += 16) store16(out + i, rounded16(load16(x + i) * factor));
    for (int64_t i = whole; i < n; i++) store(out + i, load(x[i]) * factor);
}

inline float total(floats x) {
    float sum = 0;
    for (int i = 0; i < 16; i++) sum += x[i];
    return sum;
}

template <typename Function>
inline floats each(Function function, floats x) {
    for (int i = 0; i < 16; i++) x[i] = function(x[i]);
    return x;
}

inline floats exponential(floats x) {
#ifdef __AVX512F__
    const floats y = x * 1.44269504089f, n = (floats)_mm512_roundscale_ps((__m512)y, _MM_FROUND_TO_NEAREST_INT), f = y - n;
    return (floats)_mm512_scalef_ps((__m512)power_of_two(f), (__m512)n);
#else
    return each([](float one) { return exponential(one); }, x);
#endif
}

inline floats sigmoid_of_minus(floats x) {
#ifdef __AVX512F__
    const floats y = 1.0f + exponential((floats)_mm512_min_ps(_mm512_set1_ps(87.0f), (__m512)x));  // which is x, if that is NaN
    const floats r = (floats)_mm512_rcp14_ps((__m512)y);
    return r * (2.0f - y * r);
#else
    return each([](float one) { return sigmoid_of_minus(one); }, x);
#endif
}
