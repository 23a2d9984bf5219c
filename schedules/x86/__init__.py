"""x86-64 templates for SSE4.2, AVX2 and AVX-512; the target's facts choose sizes, not code."""
