"""Variables of symbolic sizes in one method: ``B, S, _ = hidden_states.shape``."""

from __future__ import annotations

import ast
from collections.abc import Callable, Sequence

from ivyport.backends import pyast
from ivyport.core.dims import Dim, as_symbol, multiple, symbols
from ivyport.core.ir import Value
from ivyport.modules.checks import SYMBOL_NAMES
from ivyport.modules.tree import CallNode
from ivyport.modules.variables import Variables


class Sizes:
    """The sizes that one method reads, each a variable that its head assigns.

    Attributes:
        names: the variable of each size that some input has as an axis.
    """

    def __init__(
        self, call: CallNode, variables: Variables, keep: Callable[[Value], None]
    ) -> None:
        """`keep` hears of each value whose shape is read in the middle of the method."""
        self._call = call
        self._variables = variables
        self._keep = keep
        self.names: dict[Dim, str] = {}

    def symbols(self) -> set[str]:
        """The letters of the sizes that inputs have."""
        axes = (d for v in self._call.inputs for d in v.type.shape)
        return {s for d in axes if (s := as_symbol(d)) is not None}

    def spelled(self, dim: Dim) -> ast.expr | None:
        """The variable of a size that some input has as an axis.

        A size that only a value of the method has is read of that value; None if none has it.
        """
        if dim in self.names:
            return pyast.name(self.names[dim])
        for value in self._call.inputs:
            if dim in value.type.shape:
                self.names[dim] = self._name(dim, value)
                return pyast.name(self.names[dim])
        for value in self._variables.entries:
            name = self._variables.held_by(value)
            if name is not None and dim in value.type.shape:
                self._keep(value)
                axis = value.type.shape.index(dim)
                shape = pyast.attribute(pyast.name(name), "shape")
                return pyast.subscript(shape, ast.Constant(axis))
        return self._multiple(dim)

    def _multiple(self, dim: Dim) -> ast.expr | None:
        """``2 * N`` where an input has an axis of a size that goes into this one.

        A size whose symbols are axes of inputs is spelled by those.
        """
        if symbols(dim) <= self.symbols():
            return None
        for value in self._call.inputs:
            for size in value.type.shape:
                times = multiple(dim, size)
                if times is not None and isinstance(size, Dim):
                    left, right = ast.Constant(times), self.spelled(size)
                    assert right is not None  # an input has it
                    return ast.BinOp(left, ast.Mult(), right)
        return None

    def _name(self, dim: Dim, value: Value) -> str:
        symbol = as_symbol(dim)
        if symbol:
            base = SYMBOL_NAMES.get(symbol, symbol)
        else:
            base = "N" if value.type.shape.index(dim) == 0 else "L"
        return self._variables.size(base)

    def header(self, arguments: Sequence[str]) -> list[ast.stmt]:
        """``B, S, _ = hidden_states.shape`` for the sizes that were spelled."""
        wanted = dict(self.names)
        header: list[ast.stmt] = []
        for value, argument in zip(self._call.inputs, arguments, strict=True):
            axes = {
                axis: wanted.pop(dim)
                for axis, dim in enumerate(value.type.shape)
                if isinstance(dim, Dim) and dim in wanted
            }
            shape = pyast.attribute(pyast.name(argument), "shape")
            if len(axes) == 1:
                ((axis, name),) = axes.items()
                index = pyast.subscript(shape, ast.Constant(axis))
                header.append(pyast.assign(name, index))
            elif axes:
                rank = value.type.rank
                names = [pyast.name(axes.get(axis, "_")) for axis in range(rank)]
                header.append(pyast.assign(pyast.tuple_of(names), shape))
        return header
