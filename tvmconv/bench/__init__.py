"""Times kernels beside their peers, checks every answer, and reports the result."""
