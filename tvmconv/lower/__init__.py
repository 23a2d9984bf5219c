"""From a scheduled PrimFunc to machine code: our own passes between TVM's."""

from tvmconv.lower.clip import CLIP, bound_loops, find_bounds
from tvmconv.lower.pipeline import lower_to_object

__all__ = ["CLIP", "bound_loops", "find_bounds", "lower_to_object"]
