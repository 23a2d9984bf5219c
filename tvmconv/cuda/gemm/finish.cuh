// From a sum to an element of y: bias, scale and shift, residual, activation.

// Epilogue values of the channels that one lane stores at once.
struct Finish {
    Vector<OWN_CHANNELS> bias, scale, shift;

    __device__ inline Finish(const element* packed, int channel) {
        const element* at = packed + VECTORS_AT + channel;
        if (HAS_BIAS) bias = *(const Vector<OWN_CHANNELS>*)at;
        at += HAS_BIAS * VECTOR_ELEMS;
        if (HAS_SCALE) scale = *(const Vector<OWN_CHANNELS>*)at;
        if (HAS_SCALE) shift = *(const Vector<OWN_CHANNELS>*)(at + VECTOR_ELEMS);
    }

    __device__ inline element operator()(float value, int own, element added) const {
        if (HAS_BIAS) value += float_of(bias.at[own]);
        if (HAS_SCALE) value = value * float_of(scale.at[own]) + float_of(shift.at[own]);
        if (HAS_RESIDUAL) value += float_of(added);
        return element_of(activate(value));
    }
};
