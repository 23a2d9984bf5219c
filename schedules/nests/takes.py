"""Which specs a template of a kind takes, whatever the family: None, or the reason in words."""

from __future__ import annotations

from tvmconv.template import Task

DEFORMABLE = "deformable sampling has a template of its own"
MOST_CHANNELS_PER_GROUP = 16
# Outputs that fill a quarter of a vector at most, and channels of a pixel that become rows at once.
FEW_OUTPUTS = 4
TURNED_CHANNELS = 4


def anything(task: Task) -> str | None:
    """Everything."""
    return None


def dense(task: Task) -> str | None:
    """Any forward spec with taps; lanes idle when a group has few outputs."""
    if task.spec.op != "conv":
        return f"{task.spec.op} has a template of its own"
    if task.spec.is_pointwise:
        return "1x1 has a template of its own"
    return None


def pointwise(task: Task) -> str | None:
    """Any 1x1 forward spec."""
    if not (task.spec.op == "conv" and task.spec.is_pointwise):
        return "only for 1x1 kernels"
    return None


def gathered(task: Task) -> str | None:
    """Any forward spec with taps."""
    if task.spec.op != "conv":
        return f"{task.spec.op} has a template of its own"
    if task.spec.is_pointwise:
        return "1x1 has no taps to gather"
    return None


def rows_of_columns(task: Task) -> str | None:
    """Any forward or transposed spec whose output columns are neighbours in memory."""
    problem = task.problem
    if task.spec.op == "deform_conv":
        return DEFORMABLE
    if problem.y.space[2] != 1:
        return "output columns are not neighbours in this layout"
    if problem.x.space[2] != 1:
        return "input columns are not neighbours in this layout"
    return None


def rows_or_few_outputs(task: Task) -> str | None:
    """The same, or few outputs of channels-last inputs, whose channels come in fours."""
    reason, problem = rows_of_columns(task), task.problem
    if reason is None or reason == DEFORMABLE:
        return reason
    pixels = problem.channels_last and problem.icg % TURNED_CHANNELS == 0 and problem.g == 1
    if pixels and problem.ocg <= FEW_OUTPUTS and problem.axes[2].stride == 1 and task.target.masks:
        return None
    return reason


def depthwise(task: Task) -> str | None:
    """Specs with one input channel per group and more than one group."""
    if task.spec.op == "deform_conv":
        return DEFORMABLE
    if not (task.problem.icg == 1 and task.problem.g > 1):
        return "only for one input channel per group"
    return None


def small_groups(task: Task) -> str | None:
    """Several groups of two to sixteen input channels."""
    problem = task.problem
    if task.spec.op == "deform_conv":
        return DEFORMABLE
    if problem.g == 1 or not 2 <= problem.icg <= MOST_CHANNELS_PER_GROUP:
        return "only for several groups of 2 to 16 input channels"
    return None


def transposed(task: Task) -> str | None:
    """Any transposed spec."""
    if task.spec.op != "conv_transpose":
        return "only for transposed convolutions"
    return None


def deformable(task: Task) -> str | None:
    """Deformable specs, version 1 and 2."""
    if task.spec.op != "deform_conv":
        return "only for deformable convolutions"
    return None
