"""ARM templates for NEON on aarch64 and armv7; the target's facts choose sizes, not code."""
