// float32 elements, multiplied as tf32: operands are rounded to eleven bits, to the nearest. The weights
// are rounded when they are packed.
typedef float element;

__device__ inline float float_of(element value) { return value; }

__device__ inline element element_of(float value) { return value; }

__device__ inline void round_operands(unsigned (&a)[4]) {
#pragma unroll
    for (int i = 0; i < 4; ++i)
        asm("cvt.rna.tf32.f32 %0, %1;" : "=r"(a[i]) : "f"(__uint_as_float(a[i])));
}

// sums[16][8] += a[16][8] * b[8][8].
__device__ inline void multiply_add(float (&sums)[4], const unsigned (&a)[4], unsigned b_low,
                                    unsigned b_high) {
    asm volatile("mma.sync.aligned.m16n8k8.row.col.f32.tf32.tf32.f32 "
                 "{%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
                 : "+f"(sums[0]), "+f"(sums[1]), "+f"(sums[2]), "+f"(sums[3])
                 : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b_low), "r"(b_high));
}
