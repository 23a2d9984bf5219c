"""Declarations: TE compute only. Stages have fixed names that the templates rely on.

``xpad`` the staged input, ``xcol`` and ``sample`` what is gathered from it, ``conv`` the
reduction, ``out`` the epilogue in blocked order, ``packed_weight`` and ``packed_vectors`` the
pack-time layout.
"""

from tvmconv.declare.declaration import Declaration, Placement
from tvmconv.declare.deformable import declare_deformable
from tvmconv.declare.direct import declare_direct
from tvmconv.declare.form import Form
from tvmconv.declare.im2col import declare_im2col
from tvmconv.declare.packing import declare_packing

__all__ = [
    "Declaration",
    "Form",
    "Placement",
    "declare_deformable",
    "declare_direct",
    "declare_im2col",
    "declare_packing",
]
