"""Weights: memory-mapped stores, transforms, and the reversible weight map."""

from __future__ import annotations

from ivyport.weights.convert import convert, send_home
from ivyport.weights.mapping import Row, WeightMap
from ivyport.weights.store import Pending, TensorInfo, TensorStore, write
from ivyport.weights.transform import Permute, Reshape, Slice, Transform

__all__ = [
    "Pending",
    "Permute",
    "Reshape",
    "Row",
    "Slice",
    "TensorInfo",
    "TensorStore",
    "Transform",
    "WeightMap",
    "convert",
    "send_home",
    "write",
]
