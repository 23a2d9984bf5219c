"""Convolutions as matrix products on tensor cores: CUDA written by hand, sized by constants.

TVM's own path to tensor cores ends at wmma, which hides where a lane's elements lie, so weights
cannot be packed in the order in which lanes multiply them, and which later chips run at a fraction
of their rate. These kernels are CUDA text; all that depends on a spec or a config is a constant.
"""
