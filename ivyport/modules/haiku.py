"""haiku: which modules are its own layers, and how its classes are written.

A class makes its parts in ``__init__``, so that parameters are named by the tree of attributes
(``model/~/encoder/~/layer_1/~/query``). Whether it trains is the argument ``is_training``, which
parents hand on. What the source does not train is in the state (`with_frozen`).
https://dm-haiku.readthedocs.io/en/latest/api.html
"""

from __future__ import annotations

import ast
from collections.abc import Sequence
from types import ModuleType
from typing import Any

from ivyport.backends import pyast
from ivyport.backends.jax import LANGUAGE
from ivyport.backends.pyast import Exprs
from ivyport.core.errors import UnsupportedOpsError
from ivyport.core.ir import Node, Param
from ivyport.modules import leaves
from ivyport.modules.form import Form, Starts, parameters
from ivyport.modules.formulas import Formula, spelled
from ivyport.modules.instances import LayerSpec, ParamSpec
from ivyport.modules.jax_writer import PureWriter, lambda_of
from ivyport.modules.layout import RESERVED, Naming
from ivyport.modules.leaves import absent, features, present, rank, shape
from ivyport.modules.tree import CallNode
from ivyport.weights.mapping import Row
from ivyport.weights.transform import Permute

KERNEL = ParamSpec("w", (Permute((1, 0)),))
FLAG = "is_training"
ROOT = "model"
MODAL = {"Dropout", "BatchNorm", "DebiasedBatchNorm"}


def leaf(call: CallNode, params: list[Param]) -> LayerSpec | None:
    """The haiku layer that does exactly what this call does, or None.

    haiku's layers have the dtype of their inputs: others than float32 are written out.
    """
    if any(p.type.dtype != "float32" for p in params):
        return None
    return leaves.match(call, params, _RULES)


def _linear(node: Node, names: list[str]) -> LayerSpec | None:
    weight = KERNEL if node.attrs["weight_layout"] == "oi" else ParamSpec("w")
    params = {names[0]: weight, **present({names[1]: ParamSpec("b")})}
    numbers = {"output_size": features(node)["out_features"]}
    flags = absent(with_bias=names[1])
    return LayerSpec("hk.Linear", numbers, flags, params, positional=1)


def _embedding(node: Node, names: list[str]) -> LayerSpec | None:
    count, width = shape(node, 1)
    numbers = {"vocab_size": count, "embed_dim": width}
    params = {names[0]: ParamSpec("embeddings")}
    padding = node.attrs["padding"]
    if padding is not None:
        flags = {"padding_idx": padding}
        return LayerSpec("PaddedEmbed", numbers, flags, params, positional=2)
    return LayerSpec("hk.Embed", numbers, {}, params, positional=2)


def _norm(node: Node, names: list[str]) -> LayerSpec | None:
    axes = tuple(a % rank(node) for a in node.attrs["axis"])
    if axes != (rank(node) - 1,) or not names[0]:
        return None
    bias = names[1] if len(names) > 1 else ""
    params = {names[0]: ParamSpec("scale"), **present({bias: ParamSpec("offset")})}
    numbers = {"eps": node.attrs["eps"]}
    if node.op == "rms_norm":
        return LayerSpec("hk.RMSNorm", numbers, {"axis": -1}, params)
    flags = {"axis": -1, "create_scale": True, "create_offset": bool(bias)}
    return LayerSpec("hk.LayerNorm", numbers, flags, params)


def _batch_norm(node: Node, names: list[str]) -> LayerSpec | None:
    attrs = node.attrs
    channels_last = attrs["axis"] % rank(node) == rank(node) - 1
    if not channels_last or not all(names[2:]) or attrs["momentum"] is None:
        return None
    momentum = round(1 - attrs["momentum"], 12)
    numbers = {"momentum": momentum, "epsilon": attrs["eps"]}
    scale, bias, mean, var = names
    params = present({scale: ParamSpec("scale"), bias: ParamSpec("offset")})
    flags = absent(use_scale=scale, use_bias=bias)
    if attrs["debias"]:
        params[mean] = ParamSpec("mean_ema.average")
        params[var] = ParamSpec("var_ema.average")
        return LayerSpec("DebiasedBatchNorm", numbers, flags, params)
    params |= {mean: ParamSpec("mean"), var: ParamSpec("var")}
    if not attrs["unbiased"]:
        flags["unbiased"] = False
    return LayerSpec("BatchNorm", numbers, flags, params)


def _conv(node: Node, names: list[str]) -> LayerSpec | None:
    attrs = node.attrs
    out, _, *kernel = shape(node, 1)
    if attrs["layout"] != "channels_last" or len(kernel) > 3:
        return None
    numbers: dict[str, Any] = {
        "output_channels": out,
        "kernel_shape": tuple(kernel),
        "stride": tuple(attrs["stride"]),
        "padding": tuple(tuple(pair) for pair in attrs["padding"]),
    }
    if any(d != 1 for d in attrs["dilation"]):
        numbers["rate"] = tuple(attrs["dilation"])
    if attrs["groups"] != 1:
        numbers["feature_group_count"] = attrs["groups"]
    axes = (*range(2, 2 + len(kernel)), 1, 0)
    params = {names[0]: ParamSpec("w", (Permute(axes),))}
    params |= present({names[1]: ParamSpec("b")})
    kind = f"hk.Conv{len(kernel)}D"
    return LayerSpec(kind, numbers, absent(with_bias=names[1]), params, positional=2)


def _dropout(node: Node, names: list[str]) -> LayerSpec | None:
    if node.attrs["always"]:
        return None
    axes = node.attrs["broadcast"]
    flags = {"broadcast_dims": axes} if axes else {}
    numbers = {"rate": node.attrs["rate"]}
    return LayerSpec("Dropout", numbers, flags, {}, positional=1, random=True)


_RULES = {
    "linear": _linear,
    "embedding": _embedding,
    "layer_norm": _norm,
    "rms_norm": _norm,
    "batch_norm": _batch_norm,
    "conv": _conv,
    "dropout": _dropout,
}


class Haiku(PureWriter):
    """How haiku writes modules (`ivyport.modules.form.Writer`)."""

    module_base = "hk.Module"
    normal = "hk.initializers.RandomNormal"
    constant = "hk.initializers.Constant"
    same = "jnp"
    given = ("shape", "dtype")

    def __init__(self, exprs: Exprs) -> None:
        # hk.max_pool takes no padding by numbers
        super().__init__(exprs.within(pools=""))
        self._modules: list[ast.Call] = []  # the calls that make its parts

    def _made(self, call: ast.Call, modal: bool) -> ast.Call:
        if modal:
            self._flagged = True
            call.keywords.append(ast.keyword(FLAG, pyast.name(FLAG)))
        self._modules.append(call)
        return call

    def layer(
        self, spec: LayerSpec, numbers: dict[str, ast.expr], starts: Starts
    ) -> ast.expr:
        """``hk.Linear(3072, name="up")``; `constructor` gives the name."""
        function, args, rest, flags = self.made_of(spec, numbers)
        for name, (formula, sizes) in starts.items():
            # The table of an embedding is the one weight whose argument has another name.
            called = "w" if name == "embeddings" else name
            flags[f"{called}_init"] = self.initializer(name, formula, sizes)
        call = pyast.call(function, args, **flags, **rest)
        return self._made(call, spec.kind in MODAL)

    def child(
        self, name: str, args: list[ast.expr], kwargs: dict[str, ast.expr]
    ) -> ast.expr:
        """``BertLayer(config, is_training=is_training, name="layer")``."""
        call = pyast.call(pyast.name(name), args, **kwargs)
        return self._made(call, name in self.modal)

    def dropout(
        self, rate: ast.expr, broadcast: tuple[int, ...], always: bool
    ) -> ast.expr:
        """``Dropout(rate, is_training=is_training, name="dropout")``."""
        self.classes.add("Dropout")
        axes = {"broadcast_dims": self.exprs.const(broadcast)} if broadcast else {}
        call = pyast.call(pyast.name("Dropout"), [rate], **axes)
        # One that always drops is told so by its call.
        return self._made(call, not always)

    def parameter(
        self,
        attr: str,
        param: Param,
        shape: ast.expr,
        frozen: bool = False,
        formula: Formula | None = None,
    ) -> ast.expr:
        """``hk.get_parameter("weight", (4, 8), init=hk.initializers.RandomNormal(0.02))``."""
        dtype = param.type.dtype
        start = self.initializer(attr, formula, shape, dtype)
        kind = [] if dtype == "float32" else [self.exprs.dtype(dtype)]
        args = [ast.Constant(attr), shape, *kind]
        return pyast.call(self.exprs.name("hk.get_parameter"), args, init=start)

    def frozen(self, made: ast.expr, parts: list[tuple[str, ...]]) -> ast.expr:
        """The call itself: `with_frozen` knows what is frozen."""
        return made

    def buffer(
        self, attr: str, param: Param, shape: ast.expr, formula: Formula | None
    ) -> ast.stmt:
        """``hk.get_state("mask", (8, 8), init=lambda *_: jnp.tril(...))``."""
        dtype = self.exprs.dtype(param.type.dtype)
        if formula is None:
            start: ast.expr = self.unset(attr)
        else:
            self.classes |= formula.helpers
            start = lambda_of(spelled(self.exprs, formula, shape, dtype), rest="_")
        given = [ast.Constant(attr), shape, dtype]
        made = pyast.call(self.exprs.name("hk.get_state"), given, init=start)
        return ast.Expr(made)

    def key(self) -> ast.expr | None:
        """``hk.next_rng_key()``."""
        return self.exprs.call("hk.next_rng_key")

    def training(self) -> ast.expr:
        """``self.is_training``."""
        self._flagged = True
        return pyast.name(f"self.{FLAG}")

    def update(
        self, buffer: ast.expr, new: ast.expr, *, trains: bool = False
    ) -> ast.stmt:
        """``hk.set_state("count", jax.lax.stop_gradient(count))``."""
        name = _own(buffer)
        if trains or name is None:
            raise UnsupportedOpsError(
                f"{ast.unparse(buffer)} is written when the model is called, and it is a weight "
                "of a layer or one that trains: haiku writes a module's own state alone; port "
                "to linen or NNX, or keep what is written in a buffer of the module that writes it"
            )
        value = self.exprs.call("jax.lax.stop_gradient", new)
        return ast.Expr(self.exprs.call("hk.set_state", name, value))

    def read(self, expr: ast.expr, param: Param) -> ast.expr:
        """``self.weight``, ``hk.get_state("mask")``."""
        if param.kind == "parameter":
            return expr
        name = _own(expr)
        if name is not None:
            return self.exprs.call("hk.get_state", name)
        assert isinstance(expr, ast.Attribute)
        holder = pyast.call(pyast.attribute(expr.value, "state_dict"))
        path = ast.JoinedStr(
            [
                ast.FormattedValue(pyast.attribute(expr.value, "module_name"), -1),
                ast.Constant(f"/{expr.attr}"),
            ]
        )
        return pyast.subscript(holder, path)

    def weight(self, layer: ast.expr, spec: ParamSpec, param: Param) -> ast.expr:
        """``self.embed.embeddings``, ``weight(self.up, "w")``."""
        if spec.attr == "embeddings":
            return pyast.attribute(layer, "embeddings")
        self.classes.add("weight")
        return pyast.call(pyast.name("weight"), [layer, ast.Constant(spec.attr)])

    def constructor(
        self, name: str, body: list[ast.stmt], arguments: dict[str, str], config: bool
    ) -> list[ast.stmt]:
        """``def __init__(self, config, size, *, is_training=False, name=None)``."""
        made = set(map(id, self._modules))
        for statement in body:
            if isinstance(statement, ast.Assign):
                target = statement.targets[0]
                assert isinstance(target, ast.Attribute)
                for call in ast.walk(statement.value):
                    if id(call) in made and isinstance(call, ast.Call):
                        _named(call, target.attr)
        flag = [ast.arg(FLAG)] if self._flagged else []
        defaults: list[ast.expr | None] = [ast.Constant(False)] if flag else []
        if flag:
            self.modal.add(name)
            kept = pyast.assign(f"self.{FLAG}", pyast.name(FLAG))
            body = [kept, *body]
        self._flagged, self._modules = False, []
        signature = ast.arguments(
            [], parameters(arguments, config), None, [*flag, ast.arg("name")],
            [*defaults, ast.Constant(None)], None, [],
        )  # fmt: skip
        first = ast.parse("super().__init__(name=name)").body
        return [ast.FunctionDef("__init__", signature, [*first, *body], [], lineno=0)]


def _named(call: ast.Call, name: str) -> None:
    """The call with its module's name; one call may stand for several entries of a list."""
    if not any(k.arg == "name" for k in call.keywords):
        call.keywords.append(ast.keyword("name", ast.Constant(name)))


def _own(expr: ast.expr) -> str | None:
    """``mask`` of ``self.mask``."""
    own = isinstance(expr, ast.Attribute) and isinstance(expr.value, ast.Name)
    return expr.attr if own and isinstance(expr, ast.Attribute) else None


def path(attributes: str, param: Param, native: bool) -> str:
    """``params/model/~/layer_1/w`` of ``layer.1.w``: haiku counts modules of one name.

    The first of a list has no number.
    """
    module, _, name = attributes.rpartition(".")
    trains = param.kind == "parameter" and param.trainable
    return f"{'params' if trains else 'state'}/{module_name(module)}/{name}"


def module_name(attributes: str) -> str:
    """``model/~/layer_1/~/attention`` of ``layer.1.attention``; the model's own for nothing."""
    found = [ROOT]
    for part in attributes.split(".") if attributes else []:
        if not part.isdigit():
            found.append(part)
        elif part != "0":
            found[-1] = f"{found[-1]}_{part}"
    return "/~/".join(found)


_TAIL = '''
def transformed(config: Config = Config()) -> hk.TransformedWithState:
    """The model's call as a pair of pure functions; `is_training=True` is train mode."""

    def forward(*args, is_training=False, **kwargs):
        return Model({arguments})(*args, **kwargs)

    return {made}


def load(folder: str, changed: bool = False) -> tuple[hk.TransformedWithState, dict, dict]:
    """The function, the parameters and the state saved in `folder`.

    With `changed`, files may be other ones than those that were saved.
    """
    files = saved_files(folder, changed)
    fields = [field.name for field in dataclasses.fields(Config)]
    config = Config(**config_values(files, fields))
    return transformed(config), *load_trees(files)


def save(params: dict, state: dict, folder: str) -> None:
    """Write the model to `folder`, for `load` and for ivyport."""
    save_trees(params, state, folder, __file__)
'''


def tail(
    rows: Sequence[Row], cls: str, config: str | None, flagged: bool
) -> list[ast.stmt]:
    """The functions that make, load and save the model, and the names of what is frozen."""
    kept = sorted(
        {
            tuple(r.target.partition("/")[2].rpartition("/")[::2])
            for r in rows
            if r.kind == "frozen"
        }
    )
    arguments = ["config"] if config else []
    arguments += [f"{FLAG}={FLAG}"] if flagged else []
    made = "hk.transform_with_state(forward)"
    if kept:
        made = f"with_frozen({made}, FROZEN)"
    text = _TAIL.format(arguments=", ".join([*arguments, f'name="{ROOT}"']), made=made)
    if not config:
        text = (
            text.replace("config: Config = Config()", "")
            .replace(
                "    fields = [field.name for field in dataclasses.fields(Config)]\n"
                "    config = Config(**config_values(files, fields))\n",
                "",
            )
            .replace("transformed(config)", "transformed()")
        )
    tree = ast.parse(text)
    for node in ast.walk(tree):
        if isinstance(node, ast.Name) and node.id in ("Config", "Model"):
            node.id = str(config) if node.id == "Config" else cls
    if kept:
        names = ast.Tuple(
            [pyast.tuple_of(map(ast.Constant, name)) for name in kept], ast.Load()
        )
        held = pyast.call(pyast.name("frozenset"), [names])
        return [pyast.assign("FROZEN", held), *tree.body]
    return tree.body


def _layers() -> ModuleType:
    from ivyport.backends.jax import _haiku

    return _haiku


def _naming() -> Naming:
    import haiku

    own = frozenset(dir(haiku.Module))
    words = {FLAG, "name", "module_name"}
    return Naming(RESERVED | own | words, numbered=True, ascii=True)


FORM = Form(
    language=LANGUAGE,
    imports={"hk": "import haiku as hk"},
    leaf=leaf,
    writer=Haiku,
    layers=_layers,
    naming=_naming,
    load_file="from safetensors.flax import load_file, save_file",
    construct=("", ""),
    methods=("", ""),
    loading=(
        "load_trees",
        "saved_files",
        "save_trees",
        "config_values",
        "write_pretrained",
        "with_frozen",
    ),
    path=path,
    tail=tail,
    refused=frozenset({"params", "state", "rng", FLAG}),
)
