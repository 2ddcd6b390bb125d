"""Operations without a rule of their own, taken apart by torch's own definitions.

Composite operations (`cross_entropy`, `tensordot`, `pairwise_distance`) are what torch itself
makes of them when it differentiates: values and gradients are theirs by construction. Of the
definitions that torch keeps for other operations (`torch._decomp`) those of the list below are
taken, whose derivatives the tests compare.

Source: https://docs.pytorch.org/docs/stable/torch.compiler_ir.html.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import Any

import torch
from torch import fx
from torch._C import DispatchKey
from torch._decomp import decomposition_table
from torch._guards import detect_fake_mode
from torch.fx.experimental.proxy_tensor import make_fx
from torch.utils import _pytree

from ivyport.core.errors import GraphError
from ivyport.core.gaps import COMPLEX, NO_RULE

aten = torch.ops.aten

DEFINED = {
    aten.affine_grid_generator.default,
    aten.binary_cross_entropy.default,
    aten.binary_cross_entropy_with_logits.default,
    aten.dist.default,
    aten.special_entr.default,
    aten.tril_indices.default,
    aten.triu_indices.default,
    aten.ldexp.Tensor,
    aten.log_sigmoid_forward.default,
    aten.mse_loss.default,
    aten.nll_loss_forward.default,
    aten.nll_loss2d_forward.default,
    aten.smooth_l1_loss.default,
    aten.soft_margin_loss.default,
}


def _multi_margin_loss(
    x: torch.Tensor,
    target: torch.Tensor,
    p: float = 1,
    margin: float = 1,
    weight: torch.Tensor | None = None,
    reduction: int = 1,
) -> torch.Tensor:
    """As torch's kernel has it: a margin that is met exactly has no gradient."""
    one, classes = torch.atleast_2d(x), torch.atleast_1d(target)
    own = one.gather(1, classes[:, None])
    short = torch.relu(margin - own + one)
    short = short if p == 1 else short * short
    if weight is not None:
        short = short * weight[classes][:, None]
    others = torch.arange(one.shape[1], device=x.device) != classes[:, None]
    loss = torch.where(others, short, 0).mean(1)
    if reduction:
        return loss.mean() if reduction == 1 else loss.sum()
    return loss if target.ndim else loss[0]


OWN: dict[Any, Callable[..., Any]] = {
    aten.multi_margin_loss.default: _multi_margin_loss
}
# Composite operations that draw, look at data, or are the concern of other rules.
_LEFT_OUT = ("embedding_bag", "ctc_loss", "stft", "istft", "data", "is_nonzero")
_KEPT = "ivyport parts"  # in the metadata of a node: its parts, or why there are none


def refuse_complex(node: torch.fx.Node) -> None:
    """Say what to do about complex numbers, where an operation without a rule has any.

    Raises:
        GraphError: it has.
    """
    held = [node.meta.get("val"), *(x.meta.get("val") for x in node.all_input_nodes)]
    if any(torch.is_tensor(x) and x.is_complex() for x in held):
        raise GraphError(COMPLEX)


def definition(target: Any) -> Callable[..., Any] | None:
    """What computes an operation by other ones, if torch has such a definition."""
    if not isinstance(target, torch._ops.OpOverload) or target._schema.is_mutable:
        return None
    if any(r.alias_info is not None for r in target._schema.returns):
        return None
    name = target._schema.name.removeprefix("aten::")
    if target.namespace != "aten" or name in _LEFT_OUT:
        return None
    if target in OWN:
        return OWN[target]
    if target in DEFINED:
        found: Callable[..., Any] = decomposition_table[target]
        return found
    # Some operations are of TorchScript alone and have no kernel at all.
    if not torch._C._dispatch_has_kernel(target.name()):
        return None
    key = DispatchKey.CompositeImplicitAutograd
    if not torch._C._dispatch_has_kernel_for_dispatch_key(target.name(), key):
        return None
    made: Callable[..., Any] = target.decompose
    return made


def parts(node: fx.Node) -> tuple[fx.GraphModule, list[fx.Node]] | None:
    """The operations that a node consists of, and the nodes that they are computed from.

    Raises:
        GraphError: the definition asks for more of the sizes than the capture did.
    """
    if _KEPT not in node.meta:
        define = definition(node.target)
        node.meta[_KEPT] = None if define is None else _taken_apart(node, define)
    found = node.meta[_KEPT]
    if isinstance(found, str):
        raise GraphError(found)
    return found


def _taken_apart(node: fx.Node, define: Callable[..., Any]) -> Any:
    leaves, spec = _pytree.tree_flatten((list(node.args), dict(node.kwargs)))
    places = [i for i, x in enumerate(leaves) if isinstance(x, fx.Node)]
    operands = [leaves[i] for i in places]
    values = [x.meta["val"] for x in operands]

    def function(*given: Any) -> Any:
        filled = list(leaves)
        for place, value in zip(places, given, strict=True):
            filled[place] = value
        args, kwargs = _pytree.tree_unflatten(filled, spec)
        return node.target(*args, **kwargs)

    mode = detect_fake_mode(values)
    asked = _guards(mode)
    with mode if mode is not None else contextlib.nullcontext():
        try:
            table = {node.target: define}
            made = make_fx(function, table, pre_dispatch=True)(*values)
        # Whatever torch's definition raises of this call says that it cannot be taken apart.
        except Exception as error:  # noqa: BLE001
            return f"torch's definition of it fails: {str(error).splitlines()[0]}"
    made.graph.eliminate_dead_code()
    if _guards(mode) > asked:
        return "torch's definition of it computes for the example's sizes alone"
    for inner in made.graph.nodes:
        if inner.target is node.target or inner.op == "get_attr":
            return None
        kept = ("nn_module_stack", "stack_trace")
        inner.meta |= {key: node.meta[key] for key in kept if key in node.meta}
    return made, operands


def viewed(node: fx.Node, operands: list[fx.Node]) -> list[fx.Node]:
    """The operands whose memory a node's result shares, which no schema says.

    Raises:
        GraphError: the result is several tensors, of which writes cannot be followed.
    """
    results = _tensors(node.meta.get("val"))
    found = [
        operand
        for operand in operands
        for held in _tensors(operand.meta.get("val"))
        if any(_shares(result, held) for result in results)
    ]
    if found and not isinstance(node.meta["val"], torch.Tensor):
        raise GraphError(NO_RULE)
    return found[:1]


def _tensors(value: Any) -> list[torch.Tensor]:
    items = value if isinstance(value, list | tuple) else [value]
    return [x for x in items if isinstance(x, torch.Tensor)]


def _shares(one: torch.Tensor, other: torch.Tensor) -> bool:
    mine, theirs = one.untyped_storage(), other.untyped_storage()
    return bool(mine._cdata == theirs._cdata)


def _guards(mode: Any) -> int:
    env = getattr(mode, "shape_env", None)
    return len(env.guards) if env is not None else 0
