"""RISC-V templates: pairs of sums in scalar registers on RV64GC, vectors of eight with V."""
