"""PyTorch: which modules are its own layers, and how its classes are written.

https://docs.pytorch.org/docs/stable/nn.html
"""

from __future__ import annotations

import ast
from types import ModuleType
from typing import Any

from ivyport.backends import pyast
from ivyport.backends.pyast import Exprs
from ivyport.backends.torch import LANGUAGE
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
    snake_case,
)
from ivyport.modules.formulas import UNKNOWN, Formula, initial, spelled
from ivyport.modules.instances import LayerSpec, ParamSpec
from ivyport.modules.layout import Naming
from ivyport.modules.leaves import absent, features, present, rank, shape
from ivyport.modules.tree import CallNode
from ivyport.weights.transform import Permute

DIMENSIONS = {3: "1d", 4: "2d", 5: "3d"}  # of a convolution, by the rank of its input
# Arguments that are left out where they have these values.
DEFAULTS: dict[str, Any] = {
    "stride": 1,
    "padding": 0,
    "output_padding": 0,
    "dilation": 1,
    "groups": 1,
    "eps": 1e-5,
    "momentum": 0.1,
}


def leaf(call: CallNode, params: list[Param]) -> LayerSpec | None:
    """The layer of `torch.nn` that does exactly what this call does, or None."""
    return leaves.match(call, params, _RULES)


def _linear(node: Node, names: list[str]) -> LayerSpec | None:
    flipped = node.attrs["weight_layout"] == "io"
    weight = ParamSpec("weight", (Permute((1, 0)),) if flipped else ())
    params = {names[0]: weight, **present({names[1]: ParamSpec("bias")})}
    return LayerSpec(
        "nn.Linear", features(node), absent(bias=names[1]), params, positional=2
    )


def _embedding(node: Node, names: list[str]) -> LayerSpec | None:
    count, features = shape(node, 1)
    numbers = {"num_embeddings": count, "embedding_dim": features}
    params = {names[0]: ParamSpec("weight")}
    padding = node.attrs["padding"]
    flags = {} if padding is None else {"padding_idx": padding}
    return LayerSpec("nn.Embedding", numbers, flags, params, positional=2)


def _norm(node: Node, names: list[str]) -> LayerSpec | None:
    count = len(node.attrs["axis"])
    axes = sorted(a % rank(node) for a in node.attrs["axis"])
    trailing = list(range(rank(node) - count, rank(node)))
    if axes != trailing or not names[0] or len(shape(node, 1)) != count:
        return None
    kind = "nn.LayerNorm" if node.op == "layer_norm" else "nn.RMSNorm"
    sizes = shape(node, 1)
    normalized = sizes[0] if count == 1 else sizes
    numbers = {"normalized_shape": normalized, "eps": node.attrs["eps"]}
    bias = names[1] if len(names) > 1 else ""
    flags = absent(bias=bias) if node.op == "layer_norm" else {}
    params = {names[0]: ParamSpec("weight"), **present({bias: ParamSpec("bias")})}
    return LayerSpec(kind, numbers, flags, params, positional=1)


def _group_norm(node: Node, names: list[str]) -> LayerSpec | None:
    if node.attrs["layout"] != "channels_first" or not names[0] or not names[1]:
        return None
    numbers = {
        "num_groups": node.attrs["groups"],
        "num_channels": shape(node, 1)[0],
        "eps": node.attrs["eps"],
    }
    params = {names[0]: ParamSpec("weight"), names[1]: ParamSpec("bias")}
    return LayerSpec("nn.GroupNorm", numbers, {}, params, positional=2)


def _batch_norm(node: Node, names: list[str]) -> LayerSpec | None:
    attrs = node.attrs
    if attrs["axis"] % rank(node) != 1 or attrs["momentum"] is None:
        return None
    if not all(names[2:]):
        return None
    numbers = {
        "num_features": shape(node, 3)[0],
        "eps": attrs["eps"],
        "momentum": attrs["momentum"],
    }
    scale, bias, mean, var = names
    params = present({scale: ParamSpec("weight"), bias: ParamSpec("bias")})
    if attrs["debias"]:
        return _debiased(numbers, params, names)
    params |= {mean: ParamSpec("running_mean"), var: ParamSpec("running_var")}
    if attrs["unbiased"] and bool(scale) == bool(bias):
        kind = f"nn.BatchNorm{DIMENSIONS.get(rank(node), '1d')}"
        flags = {} if scale else {"affine": False}
        return LayerSpec(kind, numbers, flags, params, positional=1)
    if attrs["unbiased"]:
        return None
    return LayerSpec(
        "BatchNorm", numbers, absent(scale=scale, bias=bias), params, positional=1
    )


def _debiased(
    numbers: dict[str, Any], params: dict[str, ParamSpec], names: list[str]
) -> LayerSpec:
    """haiku's batch norm, with its averages in parts of their own."""
    scale, bias, mean, var = names
    params = params | {
        mean: ParamSpec("mean_ema.average"),
        var: ParamSpec("var_ema.average"),
    }
    flags = absent(scale=scale, bias=bias)
    return LayerSpec("DebiasedBatchNorm", numbers, flags, params, positional=1)


def _conv(node: Node, names: list[str]) -> LayerSpec | None:
    attrs = node.attrs
    even = all(lo == hi for lo, hi in attrs["padding"])
    if attrs["layout"] != "channels_first" or not even:
        return None
    out, inner, *kernel = shape(node, 1)
    numbers = {
        "in_channels": inner * attrs["groups"],
        "out_channels": out,
        "kernel_size": _one(kernel),
        "stride": _one(attrs["stride"]),
        "padding": _one([lo for lo, _ in attrs["padding"]]),
        "dilation": _one(attrs["dilation"]),
        "groups": attrs["groups"],
    }
    return _convolution("nn.Conv", numbers, node, names)


def _conv_transpose(node: Node, names: list[str]) -> LayerSpec | None:
    attrs = node.attrs
    if attrs["layout"] != "channels_first":
        return None
    inner, out, *kernel = shape(node, 1)
    numbers = {
        "in_channels": inner,
        "out_channels": out * attrs["groups"],
        "kernel_size": _one(kernel),
        "stride": _one(attrs["stride"]),
        "padding": _one(attrs["padding"]),
        "output_padding": _one(attrs["output_padding"]),
        "dilation": _one(attrs["dilation"]),
        "groups": attrs["groups"],
    }
    return _convolution("nn.ConvTranspose", numbers, node, names)


def _convolution(
    kind: str, numbers: dict[str, Any], node: Node, names: list[str]
) -> LayerSpec:
    params = {names[0]: ParamSpec("weight"), **present({names[1]: ParamSpec("bias")})}
    kind += DIMENSIONS[rank(node)]
    return LayerSpec(kind, numbers, absent(bias=names[1]), params, positional=2)


def _one(sizes: Any) -> Any:
    """Equal sizes as one number, as people write them."""
    return sizes[0] if len(set(sizes)) == 1 else tuple(sizes)


def _dropout(node: Node, names: list[str]) -> LayerSpec | None:
    if node.attrs["always"]:
        return None
    axes = node.attrs["broadcast"]
    numbers = {"p": node.attrs["rate"]}
    if axes:
        flags = {"axes": axes}
        return LayerSpec("SharedDropout", numbers, flags, {}, 1, random=True)
    return LayerSpec("nn.Dropout", numbers, {}, {}, positional=1, random=True)


_RULES = {
    "linear": _linear,
    "embedding": _embedding,
    "layer_norm": _norm,
    "rms_norm": _norm,
    "group_norm": _group_norm,
    "batch_norm": _batch_norm,
    "conv": _conv,
    "conv_transpose": _conv_transpose,
    "dropout": _dropout,
}


class Torch(BaseWriter):
    """How PyTorch writes modules (`ivyport.modules.form.Writer`)."""

    blocks = Statements
    module_base = "nn.Module"
    call_method = "forward"
    at_birth = False
    permute = "permute"

    def __init__(self, exprs: Exprs) -> None:
        super().__init__(exprs.within(training=pyast.name("self.training")))

    def layer(
        self, spec: LayerSpec, numbers: dict[str, ast.expr], starts: Starts
    ) -> ast.expr:
        """``nn.Linear(768, 3072)``; arguments that are the layer's defaults are left out."""
        args = list(numbers.values())[: spec.positional]
        # The default eps of nn.RMSNorm is the dtype's own.
        defaults = {} if spec.kind == "nn.RMSNorm" else DEFAULTS
        rest = {
            name: value
            for name, value in list(numbers.items())[spec.positional :]
            if not is_constant(value, defaults.get(name))
        }
        flags = {k: self.exprs.const(v) for k, v in spec.flags.items()}
        if "." in spec.kind:
            return pyast.call(self.exprs.name(spec.kind), args, **rest, **flags)
        self.classes.add(spec.kind)
        return pyast.call(pyast.name(spec.kind), args, **rest, **flags)

    def child(
        self, name: str, args: list[ast.expr], kwargs: dict[str, ast.expr]
    ) -> ast.expr:
        """``BertLayer(config)``."""
        return pyast.call(pyast.name(name), args, **kwargs)

    def list_of(self, items: ast.expr, trained: bool = False) -> ast.expr:
        """``nn.ModuleList([...])``."""
        kind = "nn.ParameterList" if trained else "nn.ModuleList"
        return self.exprs.call(kind, items)

    def dict_of(self, items: ast.expr, trained: bool = False) -> ast.expr:
        """``nn.ModuleDict({...})``."""
        kind = "nn.ParameterDict" if trained else "nn.ModuleDict"
        return self.exprs.call(kind, items)

    def gap(self) -> ast.expr:
        """``nn.Identity()``."""
        return self.exprs.call("nn.Identity")

    def dropout(
        self, rate: ast.expr, broadcast: tuple[int, ...], always: bool
    ) -> ast.expr:
        """``nn.Dropout(rate)``."""
        if not broadcast:
            return self.exprs.call("nn.Dropout", rate)
        self.classes.add("SharedDropout")
        function = pyast.name("SharedDropout")
        return self.exprs.call(function, rate, axes=broadcast)

    def parameter(
        self,
        attr: str,
        param: Param,
        shape: ast.expr,
        frozen: bool = False,
        formula: Formula | None = None,
    ) -> ast.expr:
        """A parameter starts as a small normal, or what its formula says.

        A frozen one of unknown values is ``Unset``.
        """
        plain = param.type.dtype == "float32"
        dtype = self.exprs.dtype(param.type.dtype)
        if formula is UNKNOWN:
            value = self._unset(param, shape)
        elif formula is None:
            normal = self.exprs.call("torch.randn", *_sizes(shape))
            value = self.exprs.binary("*", normal, 0.02)
        else:
            value = initial(self.exprs, formula, shape, dtype, plain)
            self.classes |= formula.helpers
        trains = {"requires_grad": False} if frozen else {}
        return self.exprs.call("nn.Parameter", value, **trains)

    def _unset(self, param: Param, shape: ast.expr) -> ast.expr:
        """``torch.zeros(...).as_subclass(Unset)``."""
        self.classes.add("Unset")
        plain = param.type.dtype == "float32"
        kind = pyast.OMIT if plain else self.exprs.dtype(param.type.dtype)
        zeros = self.exprs.call("torch.zeros", *_sizes(shape), dtype=kind)
        return self.exprs.method(zeros, "as_subclass", pyast.name("Unset"))

    def restart(self, param: ast.expr, formula: Formula, frozen: bool) -> ast.stmt:
        """``nn.init.zeros_(self.out.weight)``."""
        if formula is UNKNOWN or formula.kind not in ("full", "eye"):
            self.classes.add("Unset")
            zeros = self.exprs.call("torch.zeros_like", param)
            unset = self.exprs.method(zeros, "as_subclass", pyast.name("Unset"))
            trains = {"requires_grad": False} if frozen else {}
            made = self.exprs.call("nn.Parameter", unset, **trains)
            return pyast.assign(param, made)
        if formula.kind == "eye":
            return ast.Expr(self.exprs.call("nn.init.eye_", param))
        if formula.number in (0, 1):
            name = ("zeros_", "ones_")[int(formula.number)]
            return ast.Expr(self.exprs.call(f"nn.init.{name}", param))
        made = self.exprs.call("nn.init.constant_", param, formula.number)
        return ast.Expr(made)

    def freeze(self, module: ast.expr) -> ast.stmt:
        """``self.encoder.requires_grad_(False)``."""
        return ast.Expr(self.exprs.method(module, "requires_grad_", False))

    def freeze_param(self, param: ast.expr) -> ast.stmt:
        """``self.embed.weight.requires_grad_(False)``."""
        return self.freeze(param)

    def buffer(
        self, attr: str, param: Param, shape: ast.expr, formula: Formula | None
    ) -> ast.stmt:
        """Holds ``torch.tril(...)``, or ``torch.zeros(...).as_subclass(Unset)``."""
        dtype = self.exprs.dtype(param.type.dtype)
        if formula is None:
            value = self._unset(param, shape)
        else:
            value = spelled(self.exprs, formula, shape, dtype)
            self.classes |= formula.helpers
        register = self.exprs.method(pyast.name("self"), "register_buffer", attr, value)
        return ast.Expr(register)

    def training(self) -> ast.expr:
        """``self.training``."""
        return pyast.name("self.training")

    def update(
        self, buffer: ast.expr, new: ast.expr, *, trains: bool = False
    ) -> ast.stmt:
        """``self.count = count.detach()``, of a parameter ``self.weight.data = ...``."""
        held = pyast.attribute(buffer, "data") if trains else buffer
        return pyast.assign(held, self.exprs.method(new, "detach"))

    def function_name(self, name: str) -> str:
        """``RoundStraightThrough``."""
        return "".join(w[:1].upper() + w[1:] for w in snake_case(name).split("_"))

    def call_of(self, name: str) -> ast.expr:
        """``RoundStraightThrough.apply``."""
        return pyast.name(f"{name}.apply")

    def function(self, name: str, forward: Part, backward: Part) -> list[ast.stmt]:
        """A `torch.autograd.Function`."""
        operands = forward.arguments
        count = len(operands)
        inner, grads = backward.arguments[:count], backward.arguments[count:]
        kept = [i for i, n in enumerate(inner) if backward.uses(n)]
        context = pyast.name("ctx")
        before: list[ast.stmt] = []
        after: list[ast.stmt] = []
        if kept:
            saved = [pyast.name(operands[i]) for i in kept]
            keep = self.exprs.method(context, "save_for_backward", *saved)
            before = [ast.Expr(keep)]
            left = pyast.tuple_of(pyast.name(inner[i]) for i in kept)
            after = [pyast.assign(left, pyast.attribute(context, "saved_tensors"))]
        results: list[ast.expr | None] = [
            ast.Constant(None) if r is None else r for r in backward.results
        ]
        methods: list[ast.stmt] = []
        for method, arguments, body in (
            (
                "forward",
                operands,
                [*before, *forward.statements, ast.Return(packed(forward.results))],
            ),
            (
                "backward",
                grads,
                [*after, *backward.statements, ast.Return(packed(results))],
            ),
        ):
            made = pyast.function(method, ["ctx", *arguments], body)
            made.decorator_list = [pyast.name("staticmethod")]
            methods.append(made)
        base = self.exprs.name("torch.autograd.Function")
        return [ast.ClassDef(name, [base], [], methods, [])]

    def constructor(
        self, name: str, body: list[ast.stmt], arguments: dict[str, str], config: bool
    ) -> list[ast.stmt]:
        """``def __init__(self, config: BertConfig, size): super().__init__()``."""
        args = parameters(arguments, config)
        signature = ast.arguments([], args, None, [], [], None, [])
        first = ast.parse("super().__init__()").body
        return [ast.FunctionDef("__init__", signature, [*first, *body], [], lineno=0)]

    def frozen(self, made: ast.expr, parts: list[tuple[str, ...]]) -> ast.expr:
        """Modules are frozen by `freeze`."""
        return made


def _layers() -> ModuleType:
    from ivyport.backends.torch import _layers

    return _layers


def _sizes(shape: ast.expr) -> list[ast.expr]:
    """Sizes as separate arguments; an empty shape needs its tuple."""
    return (isinstance(shape, ast.Tuple) and shape.elts) or [shape]


def _naming() -> Naming:
    from torch import nn

    containers = (nn.ModuleDict, nn.ModuleList, nn.ParameterDict, nn.ParameterList)
    return Naming(
        frozenset(dir(nn.Module())), frozenset(n for c in containers for n in dir(c()))
    )


FORM = Form(
    language=LANGUAGE,
    imports={"nn": "from torch import nn"},
    leaf=leaf,
    writer=Torch,
    layers=_layers,
    naming=_naming,
    load_file="from safetensors.torch import load_file, save_file",
    methods=METHODS,
    loading=LOADING,
    construct=("lambda: cls(config)", "cls"),
    draws_biases=True,
)
