// 16 numbers at a time, for what compilers make slow loops of: numbers of two and four bytes together. Where the processor has no such vectors all of
// this compiles, and is slow.

#pragma once

#include "cpu_math.h"

#ifdef __AVX512F__
#include <immintrin.h>
#endif

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

// e^x, 0 for -∞ and ∞ for what is too large; otherwise as exponential(float).
inline floats exponential(floats x) {
#ifdef __AVX512F__
    const floats y = x * 1.44269504089f, n = (floats)_mm512_roundscale_ps((__m512)y, _MM_FROUND_TO_NEAREST_INT), f = y - n;
    return (floats)_mm512_scalef_ps((__m512)power_of_two(f), (__m512)n);
#else
    return each([](float one) { return exponential(one); }, x);
#endif
}

// 1/(1 + e^x), 0 where e^x is too large
inline floats sigmoid_of_minus(floats x) {
#ifdef __AVX512F__
    const floats y = 1.0f + exponential((floats)_mm512_min_ps(_mm512_set1_ps(87.0f), (__m512)x));  // which is x, if that is NaN
    const floats r = (floats)_mm512_rcp14_ps((__m512)y);
    return r * (2.0f - y * r);
#else
    return each([](float one) { return sigmoid_of_minus(one); }, x);
#endif
}
