// How the matrix product sees the convolution: rows are output pixels of one phase, columns are
// output channels of one group, the depth runs over taps and input channels.

struct Pixel {
    int n, d, h, w;  // batch, and the quotients of the output's coordinates by the phases
};

struct Slice {
    int group, phase_d, phase_h, phase_w;
};

template <int count>
struct alignas(count * sizeof(element)) Vector {
    element at[count];
};

__device__ inline Pixel pixel_of(int row) {
    int w = row % PIXELS_W, rest = row / PIXELS_W;
    int h = rest % PIXELS_H;
    rest /= PIXELS_H;
    return {rest / PIXELS_D, rest % PIXELS_D, h, w};
}

__device__ inline Slice slice_of(int index) {
    int group = index / PHASES, phase = index % PHASES;
    int inner = phase % (PHASES_H * PHASES_W);
    return {group, phase / (PHASES_H * PHASES_W), inner / PHASES_W, inner % PHASES_W};
}

// Elements summed in a phase: a transposed convolution's phases have their own numbers of taps.
__device__ inline int depth_of(Slice slice) {
    return taps_d(slice.phase_d) * taps_h(slice.phase_h) * taps_w(slice.phase_w) * RUN;
}
