// Muon's update (see optim.muon_update, which has the formulas and their sources) on a CPU: a thread takes a matrix and does everything to it in its
// own cache. Polar Express runs in bfloat16; of its products XXᵀ and A², which are symmetric, only one half is computed.

#include "cpu_products.h"

namespace {

constexpr float TINY = 1e-20f;         // as in optim.py
constexpr int64_t ROWS = 32;           // of a symmetric product at a time, up to their diagonal
constexpr int64_t COLUMNS = 128;       // of a product with X at a time
constexpr int64_t LONGEST_SUM = 1024;  // in one product, so that its factors stay in cache

struct Settings {
    int64_t m, n;
    float lr, momentum, weight_decay, beta2;
    const float* coefficients;  // (steps, 3)
    int64_t steps;
};

struct Matrices {  // of one update; all (m, n), and the average of squares (m) or (n)
    float *weight, *momentum, *squares;
    const float* grad;
};

// X is wide, (k, l): a tall update is done as its transpose would be.
struct PolarExpress {
    const int64_t k, l;
    std::vector<bf16> x, gram, packed;
    std::vector<float> sums;

    PolarExpress(int64_t m, int64_t n)
        : k(std::min(m, n)), l(std::max(m, n)), x(k * l), gram(k * k), packed(k * std::max(k, LONGEST_SUM)), sums(k * std::max(k, COLUMNS)) {}

    // X ← aX + (bA + cA²)X with A = XXᵀ
    void step(float a, float b, float c) {
        for (int64_t first = 0; first < l; first += LONGEST_SUM) {
            const int64_t length = std::min(LONGEST_SUM, l - first);
            pack_channels({x.data() + first, k, l}, length, k, packed.data());
            lower_half(x.data() + first, l, length, first > 0);
        }
        for_lower_half([](float sum, bf16) { return sum; });
        pack_rows({gram.data(), k, k}, k, k, packed.data());  // A is its own transpose
        lower_half(gram.data(), k, k, false);
        for_lower_half([=](float sum, bf16 old) { return b * load(old) + c * sum; });
        for (int64_t first = 0; first < l; first += COLUMNS) {
            const int64_t columns = std::min(COLUMNS, l - first);
            pack_rows({x.data() + first, k, l}, columns, k, packed.data());
            product(k, columns, k, gram.data(), k, packed.data(), columns, sums.data(), columns);
            for (int64_t i = 0; i < k; i++) {
                bf16* row = &x[i * l + first];
#pragma omp simd
                for (int64_t j = 0; j < columns; j++) store(row + j, a * load(row[j]) + sums[i * columns + j]);
            }
        }
    }

    void lower_half(const bf16* A, int64_t stride, int64_t length, bool add) {
        for (int64_t i = 0; i < k; i += ROWS)
            product(std::min(ROWS, k - i), std::min(i + ROWS, k), length, A + i * stride, stride, packed.data(), k, &sums[i * k], k, add);
    }

    // gram ← put(sum, gram) below the diagonal, and the same above it
    template <typename Put>
    void for_lower_half(Put put) {
        for (int64_t i = 0; i < k; i++) {
#pragma omp simd
            for (int64_t j = 0; j <= i; j++) store(&gram[i * k + j], put(sums[i * k + j], gram[i * k + j]));
        }
        constexpr int64_t SIDE = 32;
        for (int64_t top = 0; top < k; top += SIDE)
            for (int64_t left = top; left < k; left += SIDE)
                for (int64_t i = top; i < std::min(top + SIDE, k); i++)
                    for (int64_t j = std::max(left, i + 1); j < std::min(left + SIDE, k); j++) gram[i * k + j] = gram[j * k + i];
    }
};

struct Update {  // the working memory of one thread
    const Settings& s;
    const int64_t m, n;
    std::vector<float> update, factors;
    PolarExpress polar;

    Update(const Settings& s) : s(s), m(s.m), n(s.n), update(m * n), factors(std::max(m, n)), polar(m, n) {}

    void run(const Matrices& to) {
        mix(to);
        equilibrate();
        for (int64_t i = 0; i < s.steps; i++) polar.step(s.coefficients[3 * i], s.coefficients[3 * i + 1], s.coefficients[3 * i + 2]);
        even_out(to.squares);
        move(to.weight);
    }

    // Nesterov: the gradient mixed with an average of gradients that includes it already.
    void mix(const Matrices& to) {
        const float fresh = 1 - s.momentum;
#pragma omp simd
        for (int64_t i = 0; i < m * n; i++) {
            to.momentum[i] += fresh * (to.grad[i] - to.momentum[i]);
            update[i] = to.momentum[i] + fresh * (to.grad[i] - to.momentum[i]);
        }
    }

    // Rows of one length, and the whole of norm 1/1.01, as X.
    void equilibrate() {
        float mean = 0, whole = 0;
        for (int64_t i = 0; i < m; i++) {
            float sum = 0;
#pragma omp simd reduction(+ : sum)
            for (int64_t j = 0; j < n; j++) sum += update[i * n + j] * update[i * n + j];
            factors[i] = std::sqrt(sum);
            mean += factors[i] / m;
        }
        for (int64_t i = 0; i < m; i++) {
            const float length = factors[i];
            factors[i] = mean / std::max(length, 1e-7f * mean + TINY);
            whole += factors[i] * length * factors[i] * length;
        }
        const float shrink = 1 / (1.01f * std::sqrt(whole) + TINY);
        for (int64_t i = 0; i < m; i++) {
            const float factor = factors[i] * shrink;
#pragma omp simd
            for (int64_t j = 0; j < n; j++) update[i * n + j] *= factor;
        }
        if (m <= n) {
#pragma omp simd
            for (int64_t i = 0; i < m * n; i++) store(&polar.x[i], update[i]);
        } else {
            for_blocks([&](int64_t i, int64_t j) { store(&polar.x[j * m + i], update[i * n + j]); });
        }
    }

    // The size of the whole made exact; then NorMuon: neurons that have been moving much move less, at the same size of the whole.
    void even_out(float* squares) {
        const bool by_row = m >= n;
        const int64_t neurons = by_row ? m : n, inputs = by_row ? n : m;
        if (m <= n) {
#pragma omp simd
            for (int64_t i = 0; i < m * n; i++) update[i] = load(polar.x[i]);
        } else {
            for_blocks([&](int64_t i, int64_t j) { update[i * n + j] = load(polar.x[j * m + i]); });
        }
        std::fill(factors.begin(), factors.end(), 0.0f);
        for (int64_t i = 0; i < m; i++) {
            const float* row = &update[i * n];
            if (by_row) {
                float sum = 0;
#pragma omp simd reduction(+ : sum)
                for (int64_t j = 0; j < n; j++) sum += row[j] * row[j];
                factors[i] = sum;
            } else {
#pragma omp simd
                for (int64_t j = 0; j < n; j++) factors[j] += row[j] * row[j];
            }
        }
        const float norm = std::sqrt(float(std::min(m, n)));
        float whole = 0, size = 0;
        for (int64_t i = 0; i < neurons; i++) whole += factors[i];
        const float snap = norm / std::max(std::sqrt(whole), 1e-6f);
        for (int64_t i = 0; i < neurons; i++) {
            const float square = factors[i] * snap * snap;
            squares[i] += (1 - s.beta2) * (square / inputs - squares[i]);
            factors[i] = 1 / std::sqrt(std::max(squares[i], 1e-10f));
            size += square * factors[i] * factors[i];
        }
        const float whole_again = snap * norm / std::max(std::sqrt(size), 1e-6f);
        for (int64_t i = 0; i < neurons; i++) factors[i] *= whole_again;
    }

    // Cautious weight decay: only where the update pulls towards zero as well.
    void move(float* weight) {
        for (int64_t i = 0; i < m; i++) {
            const float *row = &update[i * n], factor = factors[i];
            float* w = weight + i * n;
            if (m >= n) {
#pragma omp simd
                for (int64_t j = 0; j < n; j++) w[j] = moved(w[j], row[j] * factor);
            } else {
#pragma omp simd
                for (int64_t j = 0; j < n; j++) w[j] = moved(w[j], row[j] * factors[j]);
            }
        }
    }

    float moved(float w, float by) const { return w - (by + (by * w >= 0 ? w * s.weight_decay : 0.0f)) * s.lr; }

    // Every i < m and j < n in an order that finds both a matrix and its transpose in the nearest cache.
    template <typename Visit>
    void for_blocks(Visit visit) const {
        constexpr int64_t SIDE = 32;
        for (int64_t top = 0; top < m; top += SIDE)
            for (int64_t left = 0; left < n; left += SIDE)
                for (int64_t j = left; j < std::min(left + SIDE, n); j++)
                    for (int64_t i = top; i < std::min(top + SIDE, m); i++) visit(i, j);
    }
};

}  // namespace

extern "C" int muon_usable() { return products_work(); }

// `count` matrices (m, n): weights and grads by their addresses; momenta (count, m, n); squares (count, m) if m ≥ n, else (count, n).
extern "C" void muon_update(float* const* weights, const float* const* grads, float* momenta, float* squares, int64_t count, int64_t m, int64_t n,
                            float lr, float momentum, float weight_decay, float beta2, const float* coefficients, int64_t steps) {
    const Settings s{m, n, lr, momentum, weight_decay, beta2, coefficients, steps};
#pragma omp parallel
    {
        Update work(s);
#pragma omp for schedule(dynamic)
        for (int64_t i = 0; i < count; i++) work.run({weights[i], momenta + i * m * n, squares + i * std::max(m, n), grads[i]});
        at::native::cpublas::brgemm_release(true);
    }
}
