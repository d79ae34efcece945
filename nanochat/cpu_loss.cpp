// Soft cap, cross-entropy and their gradient in float32 on a CPU (cpu_head.cpp does it in bfloat16): one visit to every row of logits while it is in
// cache, where a chain of torch operations would fetch it from memory again and again.

#include "cpu_math.h"

namespace {

// Calls put(i, j) with i = column·rows + row and j = row·columns + column for all of a matrix (rows, columns), in blocks that fit the nearest cache.
template <typename Put>
void for_transposed(int64_t rows, int64_t columns, Put put) {
    constexpr int64_t SIDE = 64;
#pragma omp parallel for
    for (int64_t left = 0; left < columns; left += SIDE) {
        for (int64_t top = 0; top < rows; top += SIDE) {
            for (int64_t column = left; column < std::min(left + SIDE, columns); column++) {
#pragma omp simd
                for (int64_t row = top; row < std::min(top + SIDE, rows); row++) put(column * rows + row, row * columns + column);
            }
        }
    }
}

}  // namespace

// sum (columns, rows) += xᵀ for x (rows, columns)
extern "C" void add_transposed(float* sum, const float* x, int64_t rows, int64_t columns) {
    for_transposed(rows, columns, [=](int64_t i, int64_t j) { sum[i] += x[j]; });
}

// out (columns, rows) = xᵀ
extern "C" void transpose(float* out, const float* x, int64_t rows, int64_t columns) {
    for_transposed(rows, columns, [=](int64_t i, int64_t j) { out[i] = x[j]; });
}

// Logits -> losses and the gradient to the logits, in place. c = 15·tanh(z/15), loss = log Σ e^c - c[target]. The cap bounds the exponents, so the
// sum needs no maximum. With u = e^(2z/15) and r = 1/(1+u): tanh = 1 - 2r and dc/dz = 1 - tanh² = 4r(1-r).
// z (rows, stride): the first `vocab` of each row are logits, the rest is padding and gets gradient 0. A target < 0 is ignored.
// scale (rows): the weight of each row's loss in what is differentiated; null: losses only, z stays as it is.
extern "C" void softcap_loss(float* logits, const int64_t* targets, const float* scale, float* losses, int64_t rows, int64_t vocab, int64_t stride,
                             float cap) {
#pragma omp parallel
    {
        std::vector<float> kept(scale ? vocab : 0);
#pragma omp for
        for (int64_t row = 0; row < rows; row++) {
            float* z = logits + row * stride;
            float* gradient = kept.data();
            const int64_t target = targets[row];
            losses[row] = 0;
            if (target < 0) {
                if (scale) memset(z, 0, stride * sizeof(float));
                continue;
            }
            float sum = 0;
            if (scale) {
#pragma omp simd reduction(+ : sum)
                for (int64_t i = 0; i < vocab; i++) {
                    float r = sigmoid_of_minus(z[i] * (2.0f / cap));
                    float e = exponential(cap - 2.0f * cap * r);
                    sum += e;
                    gradient[i] = e * (4.0f * r * (1.0f - r));
                }
            } else {
#pragma omp simd reduction(+ : sum)
                for (int64_t i = 0; i < vocab; i++) sum += exponential(cap - 2.0f * cap * sigmoid_of_minus(z[i] * (2.0f / cap)));
            }
            const float tanh_target = std::tanh(z[target] / cap);
            losses[row] = std::log(sum) - cap * tanh_target;
            if (!scale) continue;
            const float factor = scale[row] / sum;
            const float at_target = (std::exp(cap * tanh_target) / sum - 1.0f) * (1.0f - tanh_target * tanh_target) * scale[row];
#pragma omp simd
            for (int64_t i = 0; i < vocab; i++) z[i] = gradient[i] * factor;
            z[target] = at_target;
            memset(z + vocab, 0, (stride - vocab) * sizeof(float));
        }
    }
}
