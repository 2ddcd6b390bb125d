"""NumPy: plain classes that hold arrays, and compute in eval mode alone.

Nothing starts at random, for nothing is trained: every weight is a `Weight`, a place of a shape,
until one is loaded.
"""

from __future__ import annotations

import ast
from types import ModuleType
from typing import Any

from ivyport.backends import pyast
from ivyport.backends.numpy import LANGUAGE
from ivyport.backends.pyast import Exprs
from ivyport.core.errors import GraphError
from ivyport.core.ir import Node, Param
from ivyport.modules import leaves
from ivyport.modules.blocks_python import Statements
from ivyport.modules.custom import Part
from ivyport.modules.form import (
    LOADING,
    METHODS,
    BaseWriter,
    Form,
    Starts,
    is_constant,
    packed,
    parameters,
)
from ivyport.modules.formulas import Formula, spelled
from ivyport.modules.instances import LayerSpec, ParamSpec
from ivyport.modules.layout import RESERVED, Naming
from ivyport.modules.leaves import absent, features, present, rank, shape
from ivyport.modules.tree import CallNode
from ivyport.weights.transform import Permute

#: Arguments that are left out where they have these values.
DEFAULTS = {"eps": 1e-5, "groups": 1}


def leaf(call: CallNode, params: list[Param]) -> LayerSpec | None:
    """The layer of the file that does exactly what this call does, or None."""
    return leaves.match(call, params, _RULES)


def _linear(node: Node, names: list[str]) -> LayerSpec | None:
    flipped = node.attrs["weight_layout"] == "io"
    weight = ParamSpec("weight", (Permute((1, 0)),) if flipped else ())
    params = {names[0]: weight, **present({names[1]: ParamSpec("bias")})}
    return LayerSpec("Linear", features(node), absent(bias=names[1]), params, 2)


def _embedding(node: Node, names: list[str]) -> LayerSpec | None:
    count, width = shape(node, 1)
    numbers = {"num_embeddings": count, "embedding_dim": width}
    return LayerSpec("Embedding", numbers, {}, {names[0]: ParamSpec("weight")}, 2)


def _norm(node: Node, names: list[str]) -> LayerSpec | None:
    count = len(node.attrs["axis"])
    axes = sorted(a % rank(node) for a in node.attrs["axis"])
    trailing = list(range(rank(node) - count, rank(node)))
    if axes != trailing or not names[0] or len(shape(node, 1)) != count:
        return None
    layered = node.op == "layer_norm"
    found = shape(node, 1)
    sizes: dict[str, Any] = {f"size_{i}": size for i, size in enumerate(found)}
    sizes = {"normalized_shape": found[0]} if count == 1 else sizes
    numbers = {**sizes, "eps": node.attrs["eps"]}
    bias = names[1] if len(names) > 1 else ""
    params = {names[0]: ParamSpec("weight"), **present({bias: ParamSpec("bias")})}
    kind = "LayerNorm" if layered else "RMSNorm"
    return LayerSpec(kind, numbers, absent(bias=bias) if layered else {}, params, count)


def _group_norm(node: Node, names: list[str]) -> LayerSpec | None:
    if node.attrs["layout"] != "channels_last" or not names[0] or not names[1]:
        return None
    numbers = {
        "num_groups": node.attrs["groups"],
        "num_channels": shape(node, 1)[0],
        "eps": node.attrs["eps"],
    }
    params = {names[0]: ParamSpec("weight"), names[1]: ParamSpec("bias")}
    return LayerSpec("GroupNorm", numbers, {}, params, positional=2)


def _batch_norm(node: Node, names: list[str]) -> LayerSpec | None:
    scale, bias, mean, var = names
    last = node.attrs["axis"] % rank(node) == rank(node) - 1
    if not last or not mean or not var:
        return None
    numbers = {"num_features": shape(node, 3)[0], "eps": node.attrs["eps"]}
    params = present({scale: ParamSpec("weight"), bias: ParamSpec("bias")})
    params |= {mean: ParamSpec("running_mean"), var: ParamSpec("running_var")}
    flags = absent(weight=scale, bias=bias)
    return LayerSpec("BatchNorm", numbers, flags, params, positional=1)


def _conv(node: Node, names: list[str]) -> LayerSpec | None:
    attrs = node.attrs
    if attrs["layout"] != "channels_last":
        return None
    out, inner, *kernel = shape(node, 1)
    numbers: dict[str, Any] = {
        "in_channels": inner * attrs["groups"],
        "out_channels": out,
        "kernel_size": tuple(kernel),
    }
    ones = (1,) * len(kernel)
    if tuple(attrs["stride"]) != ones:
        numbers["stride"] = tuple(attrs["stride"])
    if any(map(any, attrs["padding"])):
        numbers["padding"] = tuple(map(tuple, attrs["padding"]))
    if tuple(attrs["dilation"]) != ones:
        numbers["dilation"] = tuple(attrs["dilation"])
    if attrs["groups"] != 1:
        numbers["groups"] = attrs["groups"]
    # The windows of an image are rows of a matrix, whose columns are the channels.
    axes = (0, *range(2, 2 + len(kernel)), 1)
    params = {names[0]: ParamSpec("weight", (Permute(axes),))}
    params |= present({names[1]: ParamSpec("bias")})
    return LayerSpec("Conv", numbers, absent(bias=names[1]), params, positional=3)


def _conv_transpose(node: Node, names: list[str]) -> LayerSpec | None:
    attrs = node.attrs
    if attrs["layout"] != "channels_last":
        return None
    inner, out, *kernel = shape(node, 1)
    numbers = {
        "in_channels": inner,
        "out_channels": out * attrs["groups"],
        "kernel_size": tuple(kernel),
        **{
            name: tuple(attrs[name])
            for name in ("stride", "padding", "output_padding", "dilation")
        },
        "groups": attrs["groups"],
    }
    params = {names[0]: ParamSpec("weight"), **present({names[1]: ParamSpec("bias")})}
    flags = absent(bias=names[1])
    return LayerSpec("ConvTranspose", numbers, flags, params, positional=3)


_RULES = {
    "linear": _linear,
    "embedding": _embedding,
    "layer_norm": _norm,
    "rms_norm": _norm,
    "group_norm": _group_norm,
    "batch_norm": _batch_norm,
    "conv": _conv,
    "conv_transpose": _conv_transpose,
}


class NumPy(BaseWriter):
    """How plain classes of NumPy are written (`ivyport.modules.form.Writer`)."""

    blocks = Statements
    module_base = "Module"
    call_method = "__call__"
    at_birth = True

    def __init__(self, exprs: Exprs) -> None:
        super().__init__(exprs)
        self.classes |= {"Module", "Weight"}

    def layer(
        self, spec: LayerSpec, numbers: dict[str, ast.expr], starts: Starts
    ) -> ast.expr:
        """``Linear(768, 3072)``; arguments that are the layer's defaults are left out."""
        args = list(numbers.values())[: spec.positional]
        rest = {
            name: value
            for name, value in list(numbers.items())[spec.positional :]
            if spec.kind == "RMSNorm" or not is_constant(value, DEFAULTS.get(name))
        }
        flags = {k: self.exprs.const(v) for k, v in spec.flags.items()}
        self.classes.add(spec.kind)
        called = _layers().CALLED.get(spec.kind)
        if called:
            self.exprs.helpers.add(called)
        return pyast.call(pyast.name(spec.kind), args, **rest, **flags)

    def child(
        self, name: str, args: list[ast.expr], kwargs: dict[str, ast.expr]
    ) -> ast.expr:
        """``BertLayer(config)``."""
        return pyast.call(pyast.name(name), args, **kwargs)

    def list_of(self, items: ast.expr, trained: bool = False) -> ast.expr:
        """A plain list."""
        return items

    def dict_of(self, items: ast.expr, trained: bool = False) -> ast.expr:
        """A plain dictionary."""
        return items

    def dropout(
        self, rate: ast.expr, broadcast: tuple[int, ...], always: bool
    ) -> ast.expr:
        """Never: nothing is drawn (`core.passes.inference`)."""
        raise GraphError("dropout in a port that computes eval mode alone")

    def parameter(
        self,
        attr: str,
        param: Param,
        shape: ast.expr,
        frozen: bool = False,
        formula: Formula | None = None,
    ) -> ast.expr:
        """``Weight(1, 1, 768)``."""
        return pyast.call(pyast.name("Weight"), _sizes(shape))

    def restart(self, param: ast.expr, formula: Formula, frozen: bool) -> ast.stmt:
        """Never: weights start as nothing."""
        raise GraphError("a weight of this form starts as nothing")

    def freeze(self, module: ast.expr) -> ast.stmt:
        """Never: nothing is trained."""
        raise GraphError("a module of this form is never trained")

    def freeze_param(self, param: ast.expr) -> ast.stmt:
        """Never: nothing is trained."""
        raise GraphError("a weight of this form is never trained")

    def frozen(self, made: ast.expr, parts: list[tuple[str, ...]]) -> ast.expr:
        """Nothing is trained."""
        return made

    def buffer(
        self, attr: str, param: Param, shape: ast.expr, formula: Formula | None
    ) -> ast.stmt:
        """``self.mask = np.tril(...)``, or ``Weight(4, 4)``."""
        if formula is None:
            value = self.parameter(attr, param, shape)
        else:
            dtype = self.exprs.dtype(param.type.dtype)
            value = spelled(self.exprs, formula, shape, dtype)
            self.classes |= formula.helpers
        return pyast.assign(pyast.attribute(pyast.name("self"), attr), value)

    def training(self) -> ast.expr:
        """Never: the graph is that of eval mode."""
        raise GraphError("train mode in a port that computes eval mode alone")

    def update(
        self, buffer: ast.expr, new: ast.expr, *, trains: bool = False
    ) -> ast.stmt:
        """``self.count = count``."""
        return pyast.assign(buffer, new)

    def function(self, name: str, forward: Part, backward: Part) -> list[ast.stmt]:
        """The function alone: nothing asks for its derivative."""
        returned = ast.Return(packed(forward.results))
        return [
            pyast.function(name, forward.arguments, [*forward.statements, returned])
        ]

    def constructor(
        self, name: str, body: list[ast.stmt], arguments: dict[str, str], config: bool
    ) -> list[ast.stmt]:
        """``def __init__(self, config: BertConfig, size)``; none for what holds nothing."""
        args = parameters(arguments, config)
        if not body and len(args) == 1:
            return []
        signature = ast.arguments([], args, None, [], [], None, [])
        return [
            ast.FunctionDef("__init__", signature, body or [ast.Pass()], [], lineno=0)
        ]


def _sizes(shape: ast.expr) -> list[ast.expr]:
    """Sizes as separate arguments."""
    assert isinstance(shape, ast.Tuple)
    return shape.elts


def _layers() -> ModuleType:
    from ivyport.backends.numpy import _layers

    return _layers


FORM = Form(
    language=LANGUAGE,
    imports={},
    leaf=leaf,
    writer=NumPy,
    layers=_layers,
    naming=lambda: Naming(RESERVED | {"places"}),
    load_file="from safetensors.numpy import load_file, save_file",
    methods=METHODS,
    loading=LOADING,
    construct=("cls(config)", "cls()"),
)
