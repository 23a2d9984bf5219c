// bfloat16 elements: two in a register, sums in float32; from sm_80 on.
typedef unsigned short element;

__device__ inline float float_of(element bits) { return __uint_as_float((unsigned)bits << 16); }

__device__ inline element element_of(float value) {
    unsigned bits;
    asm("cvt.rn.bf16x2.f32 %0, %1, %1;" : "=r"(bits) : "f"(value));
    return (element)bits;
}

__device__ inline void round_operands(unsigned (&a)[4]) {}

// sums[16][8] += a[16][16] * b[16][8].
__device__ inline void multiply_add(float (&sums)[4], const unsigned (&a)[4], unsigned b_low,
                                    unsigned b_high) {
    asm volatile("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 "
                 "{%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
                 : "+f"(sums[0]), "+f"(sums[1]), "+f"(sums[2]), "+f"(sums[3])
                 : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b_low), "r"(b_high));
}
