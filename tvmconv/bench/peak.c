/* Measures one core: multiply-adds in registers, reads from the second-level cache and from memory.
 *
 * Prints three numbers: operations, cache bytes and memory bytes per second. Built with
 * -DLANES=<float32 values in a vector register> and the flags of the machine it runs on.
 */
#define _POSIX_C_SOURCE 199309L
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

typedef float vec __attribute__((vector_size(4 * LANES)));

enum {
    ACCUMULATORS = 12, /* two FMA units of four cycles need 8; with two operands 14 registers */
    ROUNDS = 400000,
    REPEATS = 7,
    CACHE_BYTES = 256 << 10, /* above every L1, below every L2 */
    MEMORY_BYTES = 128 << 20 /* above the last-level cache of one core's share */
};

static volatile float sink;

static double now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec + 1e-9 * t.tv_nsec;
}

static vec splat(float value) {
    vec v;
    for (int i = 0; i < LANES; ++i) v[i] = value;
    return v;
}

static double multiply_adds(void) {
    volatile float half = 0.5f;
    const vec m = splat(half), c = splat(half);
    /* Different numbers, or the compiler keeps only one of the chains. */
    vec a0 = splat(1), a1 = splat(2), a2 = splat(3), a3 = splat(4), a4 = splat(5), a5 = splat(6);
    vec b0 = splat(7), b1 = splat(8), b2 = splat(9), b3 = -a0, b4 = -a1, b5 = -a2;
    const double start = now();
    for (int i = 0; i < ROUNDS; ++i) {
        a0 = a0 * m + c, a1 = a1 * m + c, a2 = a2 * m + c;
        a3 = a3 * m + c, a4 = a4 * m + c, a5 = a5 * m + c;
        b0 = b0 * m + c, b1 = b1 * m + c, b2 = b2 * m + c;
        b3 = b3 * m + c, b4 = b4 * m + c, b5 = b5 * m + c;
        __asm__ volatile("" ::: "memory");
    }
    const double seconds = now() - start;
    const vec sum = a0 + a1 + a2 + a3 + a4 + a5 + b0 + b1 + b2 + b3 + b4 + b5;
    sink = sum[0];
    return 2.0 * LANES * ACCUMULATORS * ROUNDS / seconds;
}

static double read_all(const vec *data, size_t bytes, size_t total) {
    const size_t count = bytes / sizeof(vec);
    vec s0 = splat(0), s1 = s0, s2 = s0, s3 = s0, s4 = s0, s5 = s0, s6 = s0, s7 = s0;
    const double start = now();
    for (size_t done = 0; done < total; done += bytes) {
        for (size_t i = 0; i + 8 <= count; i += 8) {
            s0 += data[i], s1 += data[i + 1], s2 += data[i + 2], s3 += data[i + 3];
            s4 += data[i + 4], s5 += data[i + 5], s6 += data[i + 6], s7 += data[i + 7];
        }
        __asm__ volatile("" ::: "memory");
    }
    const double seconds = now() - start;
    const vec sum = s0 + s1 + s2 + s3 + s4 + s5 + s6 + s7;
    sink = sum[0];
    return total / seconds;
}

static double larger(double a, double b) { return a > b ? a : b; }

int main(void) {
    vec *data = aligned_alloc(64, MEMORY_BYTES);
    if (!data) return 1;
    for (size_t i = 0; i < MEMORY_BYTES / sizeof(vec); ++i) data[i] = splat(1);
    double flops = 0, cache = 0, memory = 0;
    for (int i = 0; i < REPEATS; ++i) {
        flops = larger(flops, multiply_adds());
        cache = larger(cache, read_all(data, CACHE_BYTES, 64 * (size_t)CACHE_BYTES));
        memory = larger(memory, read_all(data, MEMORY_BYTES, MEMORY_BYTES));
    }
    printf("%.6g %.6g %.6g\n", flops, cache, memory);
    free(data);
    return 0;
}
