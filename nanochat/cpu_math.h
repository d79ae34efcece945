// What the CPU kernels share: bfloat16, and an exponential that vectorizes.

#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <vector>

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
