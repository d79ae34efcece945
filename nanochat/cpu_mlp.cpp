// The MLP of a block in bfloat16 on a CPU, y = relu(x·upᵀ)²·downᵀ, and its gradients. A thread takes a block of rows and meets the hidden channels, four
// times as many as x has, a strip at a time: what it makes of a strip is used while it is in cache. Only u = x·upᵀ goes through memory, for backward.
// There the gradients to the weights are products over rows, and want many of them: their factors are kept until a number of blocks is done.

#include <memory>

#include "cpu_products.h"

namespace {

constexpr int64_t STRIP = 128;  // hidden channels that are met at a time; of a sum for the weights other channels, too

struct MLP {
    int64_t N, C, H, size;      // rows, channels, hidden channels; rows in a block, an even number
    const bf16 *x, *up, *down;  // (N, C), (H, C), (C, H)
    bf16* u;                    // a (rows, strip) for each block and strip, one after the other

    int64_t blocks() const { return (N + size - 1) / size; }
    int64_t rows(int64_t block) const { return std::min(size, N - block * size); }
    int64_t strip(int64_t h) const { return std::min(STRIP, H - h); }
};

// The weights as second factors, strip by strip: of what enters the hidden channels and of what leaves them. In forward x meets up and relu² of u meets
// down, in backward dy meets down and the gradient to u meets up.
struct Weights {
    std::unique_ptr<bf16[]> in, out;

    Weights(const MLP& mlp, bool forward) : in(new bf16[mlp.H * mlp.C]), out(new bf16[mlp.H * mlp.C]) {
        const int64_t C = mlp.C;
#pragma omp parallel for
        for (int64_t h = 0; h < mlp.H; h += STRIP) {
            const int64_t strip = mlp.strip(h);
            const Matrix up{mlp.up + h * C, strip, C}, down{mlp.down + h, C, mlp.H};
            if (forward) {
                pack_channels(up, C, strip, in.get() + h * C);
                pack_channels(down, strip, C, out.get() + h * C);
            } else {
                pack_rows(down, strip, C, in.get() + h * C);
                pack_rows(up, C, strip, out.get() + h * C);
            }
        }
    }
};

// Of some blocks of rows: a (rows, C) transposed and b (rows, H) in pairs of rows, which is what a product over rows takes.
struct Factors {
    const MLP& mlp;
    std::unique_ptr<bf16[]> a, b;

    Factors(const MLP& mlp, int64_t blocks) : mlp(mlp), a(new bf16[blocks * mlp.size * mlp.C]), b(new bf16[blocks * mlp.size * mlp.H]) {}

    bf16* transposed(int64_t block) const { return a.get() + block * mlp.size * mlp.C; }
    bf16* pairs(int64_t block, int64_t h) const { return b.get() + (block * mlp.H + h) * mlp.size; }

    // aᵀb (C, H) from row c and column h on
    void sum_up(int64_t c, int64_t h, int64_t blocks, bool add, float* out) const {
        const int64_t strip = mlp.strip(h), size = mlp.size;
        for (int64_t block = 0; block < blocks; block++)
            product(std::min(STRIP, mlp.C - c), strip, size, transposed(block) + c * size, size, pairs(block, h), strip, out + c * mlp.H + h, mlp.H,
                    add || block > 0);
    }
};

struct Work {  // the working memory of one thread
    const MLP& mlp;
    std::vector<bf16> hidden, packed, nothing;
    std::vector<float> z, sums;

    Work(const MLP& mlp)
        : mlp(mlp), hidden(mlp.size * STRIP), packed(mlp.size * mlp.C), nothing(STRIP, bf16{0}), z(mlp.size * STRIP), sums(mlp.size * mlp.C) {}

    void forward(const Weights& weights, int64_t block, bf16* y) {
        const int64_t C = mlp.C, rows = mlp.rows(block), first = block * mlp.size;
        for (int64_t h = 0; h < mlp.H; h += STRIP) {
            const int64_t strip = mlp.strip(h);
            product(rows, strip, C, mlp.x + first * C, C, weights.in.get() + h * C, strip, z.data(), strip);
            for (int64_t i = 0; i < rows; i++) {
                const float* from = &z[i * strip];
                bf16 *u = mlp.u + first * mlp.H + h * rows + i * strip, *square = &hidden[i * strip];
                for (int64_t j = 0; j < strip; j += 16) {
                    store16(u + j, rounded16(load16(from + j)));
                    const floats active = positive(load16(u + j));
                    store16(square + j, rounded16(active * active));
                }
            }
            product(rows, C, strip, hidden.data(), strip, weights.out.get() + h * C, C, sums.data(), C, h > 0);
        }
        store_scaled(sums.data(), 1, rows * C, y + first * C);
    }

    void backward(const Weights& weights, int64_t block, const bf16* dy, bf16* dx, Factors& of_up, Factors& of_down, int64_t place) {
        const int64_t C = mlp.C, rows = mlp.rows(block), first = block * mlp.size;
        transpose({mlp.x + first * C, rows, C}, of_up.transposed(place));
        transpose({dy + first * C, rows, C}, of_down.transposed(place));
        for (int64_t h = 0; h < mlp.H; h += STRIP) {
            const int64_t strip = mlp.strip(h);
            product(rows, strip, C, dy + first * C, C, weights.in.get() + h * C, strip, z.data(), strip);
            differentiate(first, rows, h, strip, (uint32_t*)of_up.pairs(place, h), (uint32_t*)of_down.pairs(place, h));
            product(rows, C, strip, hidden.data(), strip, weights.out.get() + h * C, C, sums.data(), C, h > 0);
        }
        store_scaled(sums.data(), 1, rows * C, dx + first * C);
    }

    // z, the gradient to relu² of u, becomes that to u: as rows and as pairs of them, and relu² of u as pairs. Rows that there are not are zeros.
    void differentiate(int64_t first, int64_t rows, int64_t h, int64_t strip, uint32_t* gradients, uint32_t* squares) {
        const bf16* u = mlp.u + first * mlp.H + h * rows;
        for (int64_t i = 0; i < mlp.size; i += 2) {
            const bf16* ua = i < rows ? u + i * strip : nothing.data();
            const bf16* ub = i + 1 < rows ? u + (i + 1) * strip : nothing.data();
            const float *za = &z[i * strip], *zb = za + strip;
            bf16 *a = &hidden[i * strip], *b = a + strip;
            uint32_t *gradient = gradients + i / 2 * strip, *square = squares + i / 2 * strip;
            for (int64_t j = 0; j < strip; j += 16) {
                const floats ra = positive(load16(ua + j)), rb = positive(load16(ub + j));
                const halves low = rounded16(slope(ra, load16(za + j))), high = rounded16(slope(rb, load16(zb + j)));
                store16(a + j, low);
                store16(b + j, high);
                store16(gradient + j, widened(low) | widened(high) << 16);
                store16(square + j, widened(rounded16(ra * ra)) | widened(rounded16(rb * rb)) << 16);
            }
        }
    }

    static floats positive(floats u) { return u < 0 ? floats{} : u; }                                       // NaN stays NaN
    static floats slope(floats active, floats z) { return active == 0 ? floats{} : (active + active) * z; }  // whatever z is

    void transpose(const Matrix& x, bf16* out) {
        pack_channels(x, mlp.C, mlp.size, packed.data());
        unpack_channels(packed.data(), mlp.C, mlp.size, out);
    }
};

// x (rows, columns) as (columns, rows)
void transpose_all(const float* x, int64_t rows, int64_t columns, float* out) {
#pragma omp parallel for
    for (int64_t j = 0; j < columns; j += 16)
        for (int64_t i = 0; i < rows; i += 16) transpose_tile((const uint32_t*)x + i * columns + j, columns, (uint32_t*)out + j * rows + i, rows);
}

}  // namespace

extern "C" int mlp_usable() { return products_work(); }

extern "C" void mlp_forward(const bf16* x, const bf16* up, const bf16* down, bf16* u, bf16* y, int64_t N, int64_t C, int64_t H, int64_t size) {
    const MLP mlp{N, C, H, size, x, up, down, u};
    const Weights weights(mlp, true);
#pragma omp parallel
    {
        Work work(mlp);
#pragma omp for schedule(dynamic)
        for (int64_t block = 0; block < mlp.blocks(); block++) work.forward(weights, block, y);
        at::native::cpublas::brgemm_release(true);
    }
}

extern "C" void mlp_backward(const bf16* dy, const bf16* x, const bf16* up, const bf16* down, bf16* u, bf16* dx, float* dup, float* ddown, int64_t N,
                             int64_t C, int64_t H, int64_t size, int64_t at_once) {
    const MLP mlp{N, C, H, size, x, up, down, u};
    const Weights weights(mlp, false);
    at_once = std::min(at_once, mlp.blocks());
    Factors of_up(mlp, at_once), of_down(mlp, at_once);
    std::unique_ptr<float[]> transposed(new float[C * H]);
#pragma omp parallel
    {
        Work work(mlp);
        for (int64_t begin = 0; begin < mlp.blocks(); begin += at_once) {
            const int64_t count = std::min(at_once, mlp.blocks() - begin);
#pragma omp for schedule(dynamic)
            for (int64_t block = 0; block < count; block++) work.backward(weights, begin + block, dy, dx, of_up, of_down, block);
#pragma omp for collapse(2)
            for (int64_t h = 0; h < H; h += STRIP)
                for (int64_t c = 0; c < C; c += STRIP) {
                    of_up.sum_up(c, h, count, begin > 0, transposed.get());
                    of_down.sum_up(c, h, count, begin > 0, ddown);
                }
        }
        at::native::cpublas::brgemm_release(true);
    }
    transpose_all(transposed.get(), C, H, dup);
}
