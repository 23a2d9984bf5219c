"""From a scheduled PrimFunc to machine code: our own passes between TVM's."""

from tvmconv.lower.clip import CLIP, clip_taps, tap_bounds
from tvmconv.lower.pipeline import lower_to_object

__all__ = ["CLIP", "clip_taps", "lower_to_object", "tap_bounds"]
