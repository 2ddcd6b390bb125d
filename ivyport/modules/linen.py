"""Flax linen: which modules are its own layers, and how its classes are written.

A class has its arguments as fields and makes its parts in ``setup``. Whether it trains is the field
``deterministic``, which parents hand on: ``module.clone(deterministic=False)`` trains. Parameters
are in the collection "params", frozen ones in "frozen", running statistics in "batch_stats", other
state in "buffers".
https://flax-linen.readthedocs.io/en/latest/guides/flax_fundamentals/setup_or_nncompact.html
"""

from __future__ import annotations

import ast
import re
from types import ModuleType
from typing import Any

from ivyport.backends import pyast
from ivyport.backends.jax import LANGUAGE
from ivyport.backends.pyast import Exprs
from ivyport.core.ir import Node, Param, Value
from ivyport.modules import leaves
from ivyport.modules.form import Form, Starts
from ivyport.modules.formulas import UNKNOWN, Formula, spelled
from ivyport.modules.instances import LayerSpec, ParamSpec
from ivyport.modules.jax_writer import PureWriter, lambda_of
from ivyport.modules.layout import RESERVED, Naming
from ivyport.modules.leaves import absent, features, present, rank, shape
from ivyport.modules.tree import CallNode
from ivyport.weights.transform import Permute

KERNEL = ParamSpec("kernel", (Permute((1, 0)),))
FLAG = "deterministic"
# Layers that need to know whether the model trains, and how their argument is called.
MODAL = {
    "nn.Dropout": FLAG,
    "nn.BatchNorm": "use_running_average",
    "BatchNorm": "use_running_average",
    "DebiasedBatchNorm": "use_running_average",
}


def leaf(call: CallNode, params: list[Param]) -> LayerSpec | None:
    """The linen layer that does exactly what this call does, or None."""
    spec = leaves.match(call, params, _RULES)
    if spec is None:
        return None
    (node,) = call.items
    assert isinstance(node, Node)
    dtypes = {x.type.dtype for x in node.inputs[1:] if isinstance(x, Value)}
    if dtypes and dtypes != {"float32"}:
        spec.flags = {**spec.flags, "param_dtype": sorted(dtypes)[0]}
    return spec


def _linear(node: Node, names: list[str]) -> LayerSpec | None:
    weight = KERNEL if node.attrs["weight_layout"] == "oi" else ParamSpec("kernel")
    params = {names[0]: weight, **present({names[1]: ParamSpec("bias")})}
    numbers = {"features": features(node)["out_features"]}
    return LayerSpec(
        "nn.Dense", numbers, absent(use_bias=names[1]), params, positional=1
    )


def _embedding(node: Node, names: list[str]) -> LayerSpec | None:
    count, width = shape(node, 1)
    numbers = {"num_embeddings": count, "features": width}
    params = {names[0]: ParamSpec("embedding")}
    padding = node.attrs["padding"]
    if padding is not None:
        flags = {"padding_idx": padding}
        return LayerSpec("PaddedEmbed", numbers, flags, params, positional=2)
    return LayerSpec("nn.Embed", numbers, {}, params, positional=2)


def _norm(node: Node, names: list[str]) -> LayerSpec | None:
    axes = tuple(a % rank(node) for a in node.attrs["axis"])
    if axes != (rank(node) - 1,) or not names[0]:
        return None
    bias = names[1] if len(names) > 1 else ""
    numbers = {"epsilon": node.attrs["eps"]}
    params = {names[0]: ParamSpec("scale"), **present({bias: ParamSpec("bias")})}
    if node.op == "rms_norm":
        return LayerSpec("nn.RMSNorm", numbers, {}, params)
    # linen's default variance, E[x^2] - E[x]^2, loses digits where the mean is large.
    flags = {**absent(use_bias=bias), "use_fast_variance": False}
    return LayerSpec("nn.LayerNorm", numbers, flags, params)


def _group_norm(node: Node, names: list[str]) -> LayerSpec | None:
    if node.attrs["layout"] != "channels_last" or not names[0] or not names[1]:
        return None
    numbers = {"num_groups": node.attrs["groups"], "epsilon": node.attrs["eps"]}
    params = {names[0]: ParamSpec("scale"), names[1]: ParamSpec("bias")}
    flags = {"use_fast_variance": False}
    return LayerSpec("nn.GroupNorm", numbers, flags, params, positional=1)


def _batch_norm(node: Node, names: list[str]) -> LayerSpec | None:
    attrs = node.attrs
    channels_last = attrs["axis"] % rank(node) == rank(node) - 1
    if not channels_last or not all(names[2:]) or attrs["momentum"] is None:
        return None
    momentum = round(1 - attrs["momentum"], 12)
    numbers = {"momentum": momentum, "epsilon": attrs["eps"]}
    scale, bias, mean, var = names
    params = present({scale: ParamSpec("scale"), bias: ParamSpec("bias")})
    flags = absent(use_scale=scale, use_bias=bias)
    if attrs["debias"]:
        params[mean] = ParamSpec("mean_ema.average")
        params[var] = ParamSpec("var_ema.average")
        return LayerSpec("DebiasedBatchNorm", numbers, flags, params)
    params |= {mean: ParamSpec("mean"), var: ParamSpec("var")}
    if attrs["unbiased"]:
        return LayerSpec("BatchNorm", numbers, flags, params)
    return LayerSpec(
        "nn.BatchNorm", numbers, {**flags, "use_fast_variance": False}, params
    )


def _conv(node: Node, names: list[str]) -> LayerSpec | None:
    attrs = node.attrs
    if attrs["layout"] != "channels_last":
        return None
    out, _, *kernel = shape(node, 1)
    padding = tuple(lo if lo == hi else (lo, hi) for lo, hi in attrs["padding"])
    numbers: dict[str, Any] = {
        "features": out,
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
    return LayerSpec(
        "nn.Conv", numbers, absent(use_bias=names[1]), params, positional=2
    )


def _dropout(node: Node, names: list[str]) -> LayerSpec | None:
    if node.attrs["always"]:
        return None
    axes = node.attrs["broadcast"]
    flags = {"broadcast_dims": axes} if axes else {}
    numbers = {"rate": node.attrs["rate"]}
    return LayerSpec("nn.Dropout", numbers, flags, {}, positional=1, random=True)


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


class Linen(PureWriter):
    """How Flax linen writes modules (`ivyport.modules.form.Writer`)."""

    module_base = "nn.Module"
    normal = "nn.initializers.normal"
    constant = "nn.initializers.constant"
    same = "nn.initializers"
    given = ("_", "shape", "dtype")

    def __init__(self, exprs: Exprs) -> None:
        super().__init__(exprs.within(pools="nn"))

    def _flag(self) -> ast.expr:
        self._flagged = True
        return pyast.name(f"self.{FLAG}")

    def layer(
        self, spec: LayerSpec, numbers: dict[str, ast.expr], starts: Starts
    ) -> ast.expr:
        """``nn.Dense(3072)``."""
        function, args, rest, flags = self.made_of(spec, numbers)
        if spec.kind in MODAL:
            flags[MODAL[spec.kind]] = self._flag()
        for name, (formula, sizes) in starts.items():
            flags[f"{name}_init"] = self.initializer(name, formula, sizes)
        return pyast.call(function, args, **rest, **flags)

    def child(
        self, name: str, args: list[ast.expr], kwargs: dict[str, ast.expr]
    ) -> ast.expr:
        """``BertLayer(self.config, deterministic=self.deterministic)``."""
        flag = {FLAG: self._flag()} if name in self.modal else {}
        return pyast.call(pyast.name(name), args, **kwargs, **flag)

    def dropout(
        self, rate: ast.expr, broadcast: tuple[int, ...], always: bool
    ) -> ast.expr:
        """``nn.Dropout(rate, deterministic=self.deterministic)``."""
        axes = {"broadcast_dims": self.exprs.const(broadcast)} if broadcast else {}
        # One that always drops is told so by its call.
        flag = {} if always else {FLAG: self._flag()}
        return pyast.call(self.exprs.name("nn.Dropout"), [rate], **axes, **flag)

    def parameter(
        self,
        attr: str,
        param: Param,
        shape: ast.expr,
        frozen: bool = False,
        formula: Formula | None = None,
    ) -> ast.expr:
        """``self.param("weight", nn.initializers.normal(0.02), (4, 8))``.

        A frozen one is in a collection of its own.
        """
        dtype = param.type.dtype
        made = self.initializer(attr, formula, shape, dtype)
        given = [shape] if dtype == "float32" else [shape, self.exprs.dtype(dtype)]
        if isinstance(made, ast.Lambda):  # its result is of that shape
            given = []
        name = ast.Constant(attr)
        if not frozen:
            return pyast.call(pyast.name("self.param"), [name, made, *given])
        rest: list[ast.expr] = []
        if isinstance(made, ast.Lambda):
            start: ast.expr = lambda_of(made.body)
        elif formula is UNKNOWN:
            start, rest = made, [ast.Constant(None), *given]
        else:
            key = pyast.call(pyast.name("self.make_rng"), [ast.Constant("params")])
            start = lambda_of(pyast.call(made, [key, *given]))
        kept = [ast.Constant("frozen"), name, start, *rest]
        held = pyast.call(pyast.name("self.variable"), kept)
        return pyast.attribute(held, "value")

    def frozen(self, made: ast.expr, parts: list[tuple[str, ...]]) -> ast.expr:
        """``frozen(BertEncoder)(self.config)``."""
        assert isinstance(made, ast.Call)
        self.classes.add("frozen")
        told = [self.exprs.const(part) for part in parts]
        made.func = pyast.call(pyast.name("frozen"), [made.func, *told])
        return made

    def buffer(
        self, attr: str, param: Param, shape: ast.expr, formula: Formula | None
    ) -> ast.stmt:
        """``self.mask = self.variable("buffers", "mask", lambda: jnp.tril(...))``."""
        dtype = self.exprs.dtype(param.type.dtype)
        rest: list[ast.expr] = []
        if formula is None:
            start: ast.expr = self.unset(attr)
            plain = param.type.dtype == "float32"
            rest = [ast.Constant(None), shape, *([] if plain else [dtype])]
        else:
            self.classes |= formula.helpers
            start = lambda_of(spelled(self.exprs, formula, shape, dtype))
        given = [ast.Constant("buffers"), ast.Constant(attr), start, *rest]
        made = pyast.call(pyast.name("self.variable"), given)
        return pyast.assign(pyast.attribute(pyast.name("self"), attr), made)

    def at_root(self) -> None:
        """The model has the flag in any case: code that trains sets it."""
        self._flagged = True

    def key(self) -> ast.expr | None:
        """``self.make_rng("noise")``."""
        return pyast.call(pyast.name("self.make_rng"), [ast.Constant("noise")])

    def training(self) -> ast.expr:
        """``not self.deterministic``."""
        return ast.UnaryOp(ast.Not(), self._flag())

    def update(
        self, buffer: ast.expr, new: ast.expr, *, trains: bool = False
    ) -> ast.stmt:
        """``self.count.value = jax.lax.stop_gradient(count)``, except while it is made."""
        value = self.exprs.call("jax.lax.stop_gradient", new)
        if trains:
            assert isinstance(buffer, ast.Attribute)
            put = pyast.attribute(buffer.value, "put_variable")
            names = [ast.Constant("params"), ast.Constant(buffer.attr)]
            made: ast.stmt = ast.Expr(pyast.call(put, [*names, value]))
        else:
            made = pyast.assign(pyast.attribute(buffer, "value"), value)
        asked = pyast.call(pyast.name("self.is_initializing"))
        return ast.If(ast.UnaryOp(ast.Not(), asked), [made], [])

    def read(self, expr: ast.expr, param: Param) -> ast.expr:
        """``self.weight``, ``self.mask.value``."""
        return expr if param.kind == "parameter" else pyast.attribute(expr, "value")

    def weight(self, layer: ast.expr, spec: ParamSpec, param: Param) -> ast.expr:
        """``self.embed.variables["params"]["embedding"]``."""
        kind = collection(param, native=True)
        expr = pyast.subscript(pyast.attribute(layer, "variables"), ast.Constant(kind))
        for part in spec.attr.split("."):
            expr = pyast.subscript(expr, ast.Constant(part))
        return expr

    def constructor(
        self, name: str, body: list[ast.stmt], arguments: dict[str, str], config: bool
    ) -> list[ast.stmt]:
        """The fields, and ``setup``."""
        fields = [ast.AnnAssign(_stored("config"), pyast.name("config"), None, 1)]
        fields = fields if config else []
        for argument, kind in arguments.items():
            given = self.exprs.name(kind) if "." in kind else pyast.name(kind)
            fields.append(ast.AnnAssign(_stored(argument), given, None, 1))
        if self._flagged:
            self.modal.add(name)
            fields.append(
                ast.AnnAssign(_stored(FLAG), pyast.name("bool"), ast.Constant(True), 1)
            )
        self._flagged = False
        held = {*arguments, *(["config"] if config else [])}
        made = [_OnSelf(held).visit(statement) for statement in body]
        made = [s for s in made if not _is_itself(s)]
        setup = [pyast.function("setup", ["self"], made)] if made else []
        return [*fields, *setup]


class _OnSelf(ast.NodeTransformer):
    """Arguments of a constructor as the fields that linen makes of them."""

    def __init__(self, names: set[str]) -> None:
        self.names = names

    def visit_Name(self, node: ast.Name) -> ast.expr:
        if node.id in self.names and isinstance(node.ctx, ast.Load):
            return pyast.attribute(pyast.name("self"), node.id)
        return node


def _is_itself(statement: ast.stmt) -> bool:
    """Whether it is ``self.size = self.size``."""
    if not isinstance(statement, ast.Assign):
        return False
    return ast.unparse(statement.targets[0]) == ast.unparse(statement.value)


def _stored(name: str) -> ast.Name:
    return ast.Name(pyast.identifier(name), ast.Store())


def collection(param: Param, native: bool) -> str:
    """The collection of variables that holds a parameter or buffer."""
    if param.kind == "parameter":
        return "params" if param.trainable else "frozen"
    return "batch_stats" if native else "buffers"


def path(attributes: str, param: Param, native: bool) -> str:
    """``params.encoder.layer_0.kernel`` of ``encoder.layer.0.kernel``."""
    return f"{collection(param, native)}.{numbered(attributes)}"


def numbered(attributes: str) -> str:
    """``encoder.layer_0`` of ``encoder.layer.0``: linen names an entry after its list."""
    return re.sub(r"\.(\d+)", r"_\1", attributes)


def _layers() -> ModuleType:
    from ivyport.backends.jax import _linen

    return _linen


def _naming() -> Naming:
    from flax import linen

    own = frozenset(dir(linen.Module))
    words = {FLAG, "name", "parent", "scope", "params"}
    return Naming(RESERVED | own | words, numbered=True)


_CONFIGURED = '''
@classmethod
def from_pretrained(cls, folder: str, changed: bool = False) -> tuple["Model", dict]:
    """The module and the variables saved in `folder`.

    With `changed`, files may be other ones than those that were saved.
    """
    files = saved_files(folder, changed)
    fields = [field.name for field in dataclasses.fields(Config)]
    config = Config(**config_values(files, fields))
    return {make}, load_variables(files)

def save_pretrained(self, variables: dict, folder: str) -> None:
    """Write the model to `folder`, for `from_pretrained` and for ivyport."""
    save_variables(variables, folder, __file__, dataclasses.asdict(self.config))
'''
_PLAIN = '''
@classmethod
def from_pretrained(cls, folder: str, changed: bool = False) -> tuple["Model", dict]:
    """The module and the variables saved in `folder`.

    With `changed`, files may be other ones than those that were saved.
    """
    return {make}, load_variables(saved_files(folder, changed))

def save_pretrained(self, variables: dict, folder: str) -> None:
    """Write the model to `folder`, for `from_pretrained` and for ivyport."""
    save_variables(variables, folder, __file__, {{}})
'''

FORM = Form(
    language=LANGUAGE,
    imports={
        "nn": "from flax import linen as nn",
        "traverse_util": "from flax import traverse_util",
    },
    leaf=leaf,
    writer=Linen,
    layers=_layers,
    naming=_naming,
    load_file="from safetensors.flax import load_file, save_file",
    construct=("cls(config)", "cls()"),
    methods=(_CONFIGURED, _PLAIN),
    loading=(
        "load_variables",
        "saved_files",
        "save_variables",
        "config_values",
        "write_pretrained",
    ),
    path=path,
    refused=frozenset({"variables", "rngs", "method", "mutable", "scope"}),
)
