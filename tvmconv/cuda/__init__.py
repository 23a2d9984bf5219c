"""CUDA: from scheduled loops to device code, to a cubin, to launches through the driver."""
