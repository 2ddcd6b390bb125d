"""What a value of one method could be called: names of the source, of its readers, of its role."""

from __future__ import annotations

from ivyport.core.ir import Node, Value
from ivyport.modules.tree import CallNode

ROLES = {
    "linear": "projected",
    "attention": "attn_output",
    "softmax": "probs",
    "embedding": "embeds",
    "arange": "positions",
    "less_equal": "mask",
    "bitwise_and": "mask",
    "where": "masked",
    "logical_and": "mask",
    "permute_dims": "transposed",
    "full": "filled",
}


class Hints:
    """Names that would suit the values of one method, best first.

    Attributes:
        wanted: what inner calls and updates name each of their operands.
        preferred: the variable of the loop that goes on with a value.
    """

    def __init__(self, call: CallNode) -> None:
        self._call = call
        self._depth = len(call.stack) - 1
        self.wanted: dict[Value, list[str]] = {}
        self.preferred: dict[Value, str] = {}

    def read_by(self, item: Node | CallNode) -> None:
        """Note what an item names the values that it reads."""
        names = item.names if isinstance(item, CallNode) else _attended(item)
        for value, name in names.items():
            self.want(value, name)

    def want(self, value: Value, name: str) -> None:
        """A reader of `value` calls it `name`."""
        self.wanted.setdefault(value, []).append(name)

    def of(self, value: Value) -> list[str]:
        """The names, best first."""
        hints = [self.preferred[value]] if value in self.preferred else []
        depths = (self._depth, *sorted(value.names, reverse=True))
        hints += [value.names[d] for d in depths if d in value.names]
        hints += self.wanted.get(value, [])
        if value.producer is not None:
            hints += self._role(value)
        elif value.name:
            hints.append("_".join(value.name.split(".")[-2:]))
        return hints

    def _role(self, value: Value, steps: int = 4) -> list[str]:
        """A name by the operation, or that of the tensor it goes on working with."""
        producer = value.producer
        if producer is None or value in self._call.inputs:
            name = self._call.names.get(value)
            return [name] if name else []
        if producer.op in ROLES:
            return [ROLES[producer.op]]
        own = [value.names[d] for d in sorted(value.names, reverse=True)]
        first = next(producer.values(), None)
        if own or first is None or steps == 0:
            return own
        return self._role(first, steps - 1)


def _attended(node: Node) -> dict[Value, str]:
    """What attention calls its operands."""
    if node.op != "attention":
        return {}
    pairs = zip(node.inputs, ("query", "key", "value"), strict=False)
    return {x: name for x, name in pairs if isinstance(x, Value)}
