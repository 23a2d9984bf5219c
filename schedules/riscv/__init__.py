"""RISC-V templates for RV64GC, which has no vectors: two sums at a time in scalar registers."""
