"""Flax NNX: which modules are its own layers, and how its classes are written.

https://flax.readthedocs.io/en/stable/api_reference/flax.nnx/nn/index.html
"""

from __future__ import annotations

import ast
import math
from types import ModuleType
from typing import Any

from ivyport.backends import pyast
from ivyport.backends.jax import LANGUAGE
from ivyport.core.ir import Node, Param, Value
from ivyport.modules import leaves
from ivyport.modules.form import (
    LOADING,
    METHODS,
    Form,
    Starts,
    parameters,
)
from ivyport.modules.formulas import UNKNOWN, Formula, initial, spelled
from ivyport.modules.instances import LayerSpec, ParamSpec
from ivyport.modules.jax_writer import JaxWriter
from ivyport.modules.layout import RESERVED, Naming
from ivyport.modules.leaves import absent, features, present, rank, shape
from ivyport.modules.tree import CallNode
from ivyport.weights.transform import Permute

KERNEL = ParamSpec("kernel", (Permute((1, 0)),))
# Of a depthwise kernel that is written as a sum: each is an operation to compile.
MOST_POINTS = 128


def leaf(call: CallNode, params: list[Param]) -> LayerSpec | None:
    """The NNX layer that does exactly what this call does, or None."""
    spec = leaves.match(call, params, _RULES)
    if spec is None:
        return None
    (node,) = call.items
    assert isinstance(node, Node)
    dtypes = {x.type.dtype for x in node.inputs[1:] if isinstance(x, Value)}
    if dtypes and dtypes != {"float32"}:
        # NNX layers remember the dtype they were made with, and compute in it.
        spec.flags = {**spec.flags, "param_dtype": sorted(dtypes)[0]}
    return spec


def _linear(node: Node, names: list[str]) -> LayerSpec | None:
    weight = KERNEL if node.attrs["weight_layout"] == "oi" else ParamSpec("kernel")
    params = {names[0]: weight, **present({names[1]: ParamSpec("bias")})}
    return LayerSpec(
        "nnx.Linear", features(node), absent(use_bias=names[1]), params, positional=2
    )


def _embedding(node: Node, names: list[str]) -> LayerSpec | None:
    count, features = shape(node, 1)
    numbers = {"num_embeddings": count, "features": features}
    params = {names[0]: ParamSpec("embedding")}
    padding = node.attrs["padding"]
    if padding is not None:
        flags = {"padding_idx": padding}
        return LayerSpec("PaddedEmbed", numbers, flags, params, positional=2)
    return LayerSpec("nnx.Embed", numbers, {}, params, positional=2)


def _norm(node: Node, names: list[str]) -> LayerSpec | None:
    axes = tuple(a % rank(node) for a in node.attrs["axis"])
    if axes != (rank(node) - 1,) or not names[0]:
        return None
    kind = "nnx.LayerNorm" if node.op == "layer_norm" else "nnx.RMSNorm"
    numbers = {"num_features": shape(node, 1)[0], "epsilon": node.attrs["eps"]}
    bias = names[1] if len(names) > 1 else ""
    # NNX's default variance, E[x^2] - E[x]^2, loses digits where the mean is large.
    exact = {"use_fast_variance": False}
    flags = {**absent(use_bias=bias), **exact} if node.op == "layer_norm" else {}
    params = {names[0]: ParamSpec("scale"), **present({bias: ParamSpec("bias")})}
    return LayerSpec(kind, numbers, flags, params, positional=1)


def _group_norm(node: Node, names: list[str]) -> LayerSpec | None:
    if node.attrs["layout"] != "channels_last" or not names[0] or not names[1]:
        return None
    numbers = {
        "num_features": shape(node, 1)[0],
        "num_groups": node.attrs["groups"],
        "epsilon": node.attrs["eps"],
    }
    params = {names[0]: ParamSpec("scale"), names[1]: ParamSpec("bias")}
    flags = {"use_fast_variance": False}
    return LayerSpec("nnx.GroupNorm", numbers, flags, params, positional=1)


def _batch_norm(node: Node, names: list[str]) -> LayerSpec | None:
    attrs = node.attrs
    channels_last = attrs["axis"] % rank(node) == rank(node) - 1
    if not channels_last or not all(names[2:]) or attrs["momentum"] is None:
        return None
    numbers = {
        "num_features": shape(node, 3)[0],
        "momentum": round(1 - attrs["momentum"], 12),
        "epsilon": attrs["eps"],
    }
    scale, bias, mean, var = names
    params = present({scale: ParamSpec("scale"), bias: ParamSpec("bias")})
    flags = absent(use_scale=scale, use_bias=bias)
    if attrs["debias"]:
        params[mean] = ParamSpec("mean_ema.average")
        params[var] = ParamSpec("var_ema.average")
        return LayerSpec("DebiasedBatchNorm", numbers, flags, params, positional=1)
    params |= {mean: ParamSpec("mean"), var: ParamSpec("var")}
    if attrs["unbiased"]:
        return LayerSpec("BatchNorm", numbers, flags, params, positional=1)
    flags["use_fast_variance"] = False
    return LayerSpec("nnx.BatchNorm", numbers, flags, params, positional=1)


def _conv(node: Node, names: list[str]) -> LayerSpec | None:
    attrs = node.attrs
    if attrs["layout"] != "channels_last":
        return None
    out, inner, *kernel = shape(node, 1)
    padding = tuple(lo if lo == hi else (lo, hi) for lo, hi in attrs["padding"])
    numbers: dict[str, Any] = {
        "in_features": inner * attrs["groups"],
        "out_features": out,
        "kernel_size": tuple(kernel),
        "strides": tuple(attrs["stride"]),
        "padding": padding,
    }
    if any(d != 1 for d in attrs["dilation"]):
        numbers["kernel_dilation"] = tuple(attrs["dilation"])
    if attrs["groups"] != 1:
        numbers["feature_group_count"] = attrs["groups"]
    axes = (*range(2, 2 + len(kernel)), 1, 0)
    params = {names[0]: ParamSpec("kernel", (Permute(axes),))}
    params |= present({names[1]: ParamSpec("bias")})
    flags = absent(use_bias=names[1])
    return LayerSpec(_conv_class(node), numbers, flags, params, positional=2)


def _conv_class(node: Node) -> str:
    """`nnx.Conv`, or the runtime class that is faster than it on a CPU."""
    attrs = node.attrs
    out, inner, *kernel = shape(node, 1)
    if (
        attrs["groups"] == 1
        and {*kernel} == {1}
        and not any(map(any, attrs["padding"]))
    ):
        return "PointwiseConv"
    depthwise = inner == 1 and attrs["groups"] == out > 1
    plain = {*attrs["dilation"]} == {1} and math.prod(kernel) <= MOST_POINTS
    return "DepthwiseConv" if depthwise and plain else "nnx.Conv"


def _dropout(node: Node, names: list[str]) -> LayerSpec | None:
    if node.attrs["always"]:
        return None
    axes = node.attrs["broadcast"]
    flags = {"broadcast_dims": axes} if axes else {}
    numbers = {"rate": node.attrs["rate"]}
    return LayerSpec("nnx.Dropout", numbers, flags, {}, positional=1, random=True)


_RULES = {
    "linear": _linear,
    "embedding": _embedding,
    "layer_norm": _norm,
    "rms_norm": _norm,
    "group_norm": _group_norm,
    "batch_norm": _batch_norm,
    "conv": _conv,
    "dropout": _dropout,
}

RNGS = pyast.name("rngs")


class NNX(JaxWriter):
    """How Flax NNX writes modules (`ivyport.modules.form.Writer`)."""

    module_base = "nnx.Module"
    at_birth = False

    def layer(
        self, spec: LayerSpec, numbers: dict[str, ast.expr], starts: Starts
    ) -> ast.expr:
        """``nnx.Linear(768, 3072, rngs=rngs)``."""
        function, args, rest, flags = self.made_of(spec, numbers)
        return pyast.call(function, args, **rest, **flags, rngs=RNGS)

    def child(
        self, name: str, args: list[ast.expr], kwargs: dict[str, ast.expr]
    ) -> ast.expr:
        """``BertLayer(config, rngs=rngs)``."""
        return pyast.call(pyast.name(name), args, **kwargs, rngs=RNGS)

    def list_of(self, items: ast.expr, trained: bool = False) -> ast.expr:
        """``nnx.List(...)``: NNX does not look into plain lists."""
        return self.exprs.call("nnx.List", items)

    def dict_of(self, items: ast.expr, trained: bool = False) -> ast.expr:
        """``nnx.Dict(...)``."""
        return self.exprs.call("nnx.Dict", items)

    def dropout(
        self, rate: ast.expr, broadcast: tuple[int, ...], always: bool
    ) -> ast.expr:
        """``nnx.Dropout(rate, rngs=rngs)``."""
        axes = {"broadcast_dims": self.exprs.const(broadcast)} if broadcast else {}
        return pyast.call(self.exprs.name("nnx.Dropout"), [rate], **axes, rngs=RNGS)

    def parameter(
        self,
        attr: str,
        param: Param,
        shape: ast.expr,
        frozen: bool = False,
        formula: Formula | None = None,
    ) -> ast.expr:
        """A parameter starts as a small normal, or what its formula says.

        A frozen one is no `nnx.Param`; of unknown values it is ``Unset``.
        """
        dtype = self.exprs.dtype(param.type.dtype)
        plain = param.type.dtype == "float32"
        if formula is UNKNOWN:
            zeros = self.exprs.call("jnp.zeros", shape, dtype)
            return self._unset(zeros, frozen)
        if formula is None:
            initializer = self.exprs.call("nnx.initializers.normal", 0.02)
            key = pyast.call(pyast.attribute(RNGS, "params"))
            args = [key, shape] if plain else [key, shape, dtype]
            value: ast.expr = pyast.call(initializer, args)
        else:
            value = initial(self.exprs, formula, shape, dtype, plain)
            self.classes |= formula.helpers
        kind = self.exprs.name("nnx.Param")
        if frozen:
            self.classes.add("Frozen")
            kind = pyast.name("Frozen")
        return pyast.call(kind, [value])

    def _unset(self, zeros: ast.expr, frozen: bool) -> ast.expr:
        """``UnsetParam(jnp.zeros((4, 8)))``."""
        name = "Unset" if frozen else "UnsetParam"
        self.classes |= {"Unset", name}
        return pyast.call(pyast.name(name), [zeros])

    def restart(self, param: ast.expr, formula: Formula, frozen: bool) -> ast.stmt:
        """``self.out.kernel[...] = jnp.zeros_like(self.out.kernel)``."""
        if formula is UNKNOWN or formula.kind not in ("full", "eye"):
            zeros = self.exprs.call("jnp.zeros_like", param)
            return pyast.assign(param, self._unset(zeros, frozen))
        whole = pyast.subscript(param, ast.Constant(...))
        if formula.kind == "eye":
            shape = ast.Starred(pyast.attribute(param, "shape"), ast.Load())
            return pyast.assign(whole, self.exprs.call("jnp.eye", shape))
        if formula.number in (0, 1):
            name = ("zeros_like", "ones_like")[int(formula.number)]
            return pyast.assign(whole, self.exprs.call(f"jnp.{name}", param))
        made = self.exprs.call("jnp.full_like", param, formula.number)
        return pyast.assign(whole, made)

    def freeze(self, module: ast.expr) -> ast.stmt:
        """``freeze(self.encoder)``."""
        self.classes |= {"Frozen", "freeze"}
        return ast.Expr(pyast.call(pyast.name("freeze"), [module]))

    def freeze_param(self, param: ast.expr) -> ast.stmt:
        """``self.embed.embedding = Frozen(self.embed.embedding[...])``."""
        self.classes.add("Frozen")
        return pyast.assign(
            param, pyast.call(pyast.name("Frozen"), [self._value(param)])
        )

    def buffer(
        self, attr: str, param: Param, shape: ast.expr, formula: Formula | None
    ) -> ast.stmt:
        """``self.mask = Buffer(jnp.tril(...))``, or ``Unset(jnp.zeros(...))``."""
        dtype = self.exprs.dtype(param.type.dtype)
        if formula is None:
            kind, value = "Unset", self.exprs.call("jnp.zeros", shape, dtype)
        else:
            kind, value = "Buffer", spelled(self.exprs, formula, shape, dtype)
            self.classes |= formula.helpers
        self.classes.add(kind)
        made = pyast.call(pyast.name(kind), [value])
        return pyast.assign(pyast.attribute(pyast.name("self"), attr), made)

    @property
    def modes(self) -> dict[str, ast.expr]:
        """``deterministic``, which `nnx.Module.train` and `eval` set where they find it."""
        return {"deterministic": ast.Constant(True)}

    def stream(self) -> ast.expr | None:
        """``rngs.noise.fork()``."""
        return pyast.call(pyast.attribute(RNGS, "noise", "fork"))

    def key(self) -> ast.expr | None:
        """None: keys are of the stream."""
        return None

    def training(self) -> ast.expr:
        """``not self.deterministic``."""
        return ast.UnaryOp(ast.Not(), pyast.name("self.deterministic"))

    def update(
        self, buffer: ast.expr, new: ast.expr, *, trains: bool = False
    ) -> ast.stmt:
        """``self.count[...] = jax.lax.stop_gradient(count)``."""
        target = ast.Subscript(buffer, ast.Constant(...), ast.Store())
        value = self.exprs.call("jax.lax.stop_gradient", new)
        return ast.Assign([target], value, lineno=0)

    def read(self, expr: ast.expr, param: Param) -> ast.expr:
        """``self.weight[...]``."""
        return self._value(expr)

    def _value(self, expr: ast.expr) -> ast.expr:
        return pyast.subscript(expr, ast.Constant(...))

    def weight(self, layer: ast.expr, spec: ParamSpec, param: Param) -> ast.expr:
        """``self.embed.embedding[...]``."""
        return self._value(pyast.attribute(layer, *spec.attr.split(".")))

    def constructor(
        self, name: str, body: list[ast.stmt], arguments: dict[str, str], config: bool
    ) -> list[ast.stmt]:
        """``def __init__(self, config: BertConfig, size, *, rngs: nnx.Rngs)``."""
        args = parameters(arguments, config)
        rngs = ast.arg("rngs", self.exprs.name("nnx.Rngs"))
        signature = ast.arguments([], args, None, [rngs], [None], None, [])
        return [
            ast.FunctionDef("__init__", signature, body or [ast.Pass()], [], lineno=0)
        ]

    def frozen(self, made: ast.expr, parts: list[tuple[str, ...]]) -> ast.expr:
        """Modules are frozen by `freeze`."""
        return made


def _layers() -> ModuleType:
    from ivyport.backends.jax import _layers

    return _layers


def _naming() -> Naming:
    from flax import nnx

    # `train` and `eval` set these on every module that has them.
    modes = {"deterministic", "use_running_average"}
    return Naming(RESERVED | modes | frozenset(dir(nnx.Module)))


FORM = Form(
    language=LANGUAGE,
    imports={},
    leaf=leaf,
    writer=NNX,
    layers=_layers,
    naming=_naming,
    load_file="from safetensors.flax import load_file, save_file",
    methods=METHODS,
    loading=LOADING,
    construct=(
        "lambda: cls(config, rngs=nnx.Rngs(0))",
        "lambda: cls(rngs=nnx.Rngs(0))",
    ),
)
