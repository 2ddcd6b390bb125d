"""The tree of module calls in a graph.

Every node carries the stack of calls it was made in. Grouping by that stack gives, for each call,
an ordered body of nodes and inner calls, the values that flow in and the values that flow out.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence

from ivyport.core.control import opened
from ivyport.core.dims import Dim, as_symbol, multiple, symbols
from ivyport.core.errors import GraphError
from ivyport.core.ir import Call, Graph, Node, Param, Scalar, Scope, Value, leaves
from ivyport.core.ops import attr_sizes


@dataclasses.dataclass(eq=False)
class CallNode:
    """One call of one module.

    Attributes:
        stack: enclosing calls, this one last; its length is the depth.
        items: operations and inner calls in execution order.
        inputs: values made outside and used inside, with the names the source gives them.
        outputs: values made inside and used outside; the root's are all results as often
            as they are returned, inputs and parameters included.
        params: parameters and buffers used inside that this module or its children own.
        updates: buffers that the call writes at its end, with their new values.
        trained: those of the buffers that it writes in train mode alone.
        late: the operations at the end that only serve updates of train mode.
    """

    stack: tuple[Scope, ...]
    items: list[Node | CallNode]
    inputs: list[Value] = dataclasses.field(default_factory=list)
    names: dict[Value, str] = dataclasses.field(default_factory=dict)
    outputs: list[Value] = dataclasses.field(default_factory=list)
    params: list[Param] = dataclasses.field(default_factory=list)
    updates: list[tuple[Param, Value]] = dataclasses.field(default_factory=list)
    trained: frozenset[Param] = frozenset()
    late: frozenset[Node] = frozenset()
    alias: str = ""
    group: object = None  # calls of one class and method are equal here
    method: str = "__call__"

    @property
    def path(self) -> str:
        """Path of the module in the source."""
        return self.stack[-1].path

    @property
    def cls(self) -> str:
        """Qualified class name in the source."""
        return self.stack[-1].cls

    def nodes(self) -> Iterator[Node]:
        """Every operation inside, inner calls included."""
        for item in self.items:
            if isinstance(item, CallNode):
                yield from item.nodes()
            else:
                yield item

    def first_late(self) -> int:
        """Where the items begin that only serve updates of train mode."""
        found = (
            i
            for i, item in enumerate(self.items)
            if self.late and all(n in self.late for n in _nodes(item))
        )
        return next(found, len(self.items))

    def writes(self) -> bool:
        """Whether this call or one inside updates buffers."""
        return any(call.updates for call in self.calls())

    def calls(self) -> Iterator[CallNode]:
        """This call and every call inside, outermost first."""
        yield self
        for item in self.items:
            if isinstance(item, CallNode):
                yield from item.calls()


CONTAINERS = (".Sequential", ".ModuleList")


def written(call: CallNode) -> set[Value]:
    """The buffers that a call writes, itself or by calls inside."""
    return {p.value for inner in call.calls() for p, _ in inner.updates}


def under(path: str, owner: str) -> bool:
    """Whether `path` is `owner` or lies below it."""
    return not owner or path == owner or path.startswith(owner + ".")


def build(graph: Graph) -> CallNode:
    """The call tree of a graph; the root is the whole model."""
    opened(graph)
    root_scope = next((n.scope[:1] for n in graph.nodes if n.scope), ())
    if not root_scope:
        root_scope = (Scope("", graph.name),)
    for node in graph.nodes:
        if node.scope[:1] != root_scope:
            node.scope = root_scope
    root = _group(root_scope, graph.nodes)
    _assign_updates(root, graph)
    owners = {p.value: p.owner for p in graph.params.values()}
    _inline_stateless(root, owners)
    connect(root, graph)
    if graph.trained:
        _defer(root)
        connect(root, graph)
    return root


def _group(stack: tuple[Scope, ...], nodes: list[Node]) -> CallNode:
    """Collect the nodes of one call; inner calls whose order is cyclic are dissolved."""
    return CallNode(stack, _items(stack, nodes, set()))


def _items(
    stack: tuple[Scope, ...], nodes: list[Node], dissolved: set[tuple[Scope, ...]]
) -> list[Node | CallNode]:
    depth = len(stack)
    while True:
        groups: dict[object, list[Node]] = {}
        position = 0
        while position < len(nodes):
            node = nodes[position]
            inner = node.scope[: depth + 1]
            is_call = len(node.scope) > depth and inner not in dissolved
            region = 1
            if not is_call and node.op == "control_begin":
                region = closing(nodes, position) + 1 - position
            found = nodes[position : position + region]
            groups.setdefault(inner if is_call else node, []).extend(found)
            position += region
        order, cyclic = _topological(groups)
        if not cyclic:
            break
        dissolved = dissolved | cyclic
    items: list[Node | CallNode] = []
    for key in order:
        if isinstance(key, tuple):
            items.append(_group(key, groups[key]))
        else:
            items += _own(stack, groups[key], dissolved)
    return items


def _own(
    stack: tuple[Scope, ...], nodes: list[Node], dissolved: set[tuple[Scope, ...]]
) -> list[Node | CallNode]:
    """One operation of a call, or a whole loop: what is between its marks stays there."""
    items: list[Node | CallNode] = []
    inside: list[Node] = []
    level = 0
    for node in nodes:
        begins, ends = node.op == "control_begin", node.op == "control_end"
        own = level == (0 if begins else 1)
        if begins or ends or node.op == "control_next":
            level += begins - ends
            if own:
                items += _items(stack, inside, dissolved)
                inside = []
                node.scope = stack
                items.append(node)
                continue
        if level:
            inside.append(node)
        else:
            node.scope = stack
            items.append(node)
    return items


def closing(items: Sequence[Node | CallNode], start: int) -> int:
    """The position of the mark that ends the loop or branches begun at `start`."""
    level = 0
    for position in range(start, len(items)):
        item = items[position]
        if isinstance(item, Node):
            level += (item.op == "control_begin") - (item.op == "control_end")
            if level == 0:
                return position
    raise GraphError("a loop that does not end")


def _topological(
    groups: dict[object, list[Node]],
) -> tuple[list[object], set[tuple[Scope, ...]]]:
    """Group keys in dependency order, close to the given one, or the calls of a cycle."""
    maker = {v: key for key, nodes in groups.items() for n in nodes for v in n.outputs}
    needs = {
        key: {maker[v] for n in nodes for v in n.values() if v in maker} - {key}
        for key, nodes in groups.items()
    }
    order: list[object] = []
    done: set[object] = set()
    pending = list(groups)
    while pending:
        waiting = []
        for key in pending:
            if needs[key] <= done:
                order.append(key)
                done.add(key)
            else:
                waiting.append(key)
        if len(waiting) == len(pending):
            return [], {k for k in pending if isinstance(k, tuple)}
        pending = waiting
    return order, set()


def _assign_updates(root: CallNode, graph: Graph) -> None:
    """Give each update to the innermost call that makes the value and owns the buffer."""
    calls = {call.stack: call for call in root.calls()}
    for path, value in graph.updates.items():
        param = graph.params[path]
        stack = value.producer.scope if value.producer else root.stack
        while stack not in calls or not under(param.owner, stack[-1].path):
            stack = stack[:-1]
        call = calls[stack]
        call.updates.append((param, value))
        if path in graph.trained:
            call.trained |= {param}


def _defer(call: CallNode) -> None:
    """Put what only serves updates last, in every call that is made in both modes."""
    needed = set(call.outputs)
    needed |= {v for p, v in call.updates if p not in call.trained}
    kept: list[list[Node | CallNode]] = []
    late: list[list[Node | CallNode]] = []
    for unit in reversed(_units(call.items)):
        if any(v in needed for v in unit[-1].outputs) or _always_writes(unit[-1]):
            needed.update(v for item in unit for v in _read(item))
            kept.insert(0, unit)
        else:
            late.insert(0, unit)
    call.items = [item for unit in (*kept, *late) for item in unit]
    call.late = frozenset(n for unit in late for item in unit for n in _nodes(item))
    for unit in kept:
        (first, *rest) = unit
        if isinstance(first, CallNode) and not rest:
            _defer(first)


def _always_writes(item: Node | CallNode) -> bool:
    """Whether a call writes buffers in eval mode too."""
    return isinstance(item, CallNode) and any(
        param not in call.trained for call in item.calls() for param, _ in call.updates
    )


def _units(items: Sequence[Node | CallNode]) -> list[list[Node | CallNode]]:
    """The items, those of a loop or of branches together."""
    units: list[list[Node | CallNode]] = []
    position = 0
    while position < len(items):
        item = items[position]
        end = position
        if isinstance(item, Node) and item.op == "control_begin":
            end = closing(items, position)
        units.append(list(items[position : end + 1]))
        position = end + 1
    return units


def _read(item: Node | CallNode) -> list[Value]:
    return item.inputs if isinstance(item, CallNode) else list(item.values())


def _nodes(item: Node | CallNode) -> Iterator[Node]:
    return item.nodes() if isinstance(item, CallNode) else iter([item])


def _inline_stateless(call: CallNode, owners: dict[Value, str]) -> None:
    """Dissolve inner calls that own nothing (activations, identities) into their caller."""
    items: list[Node | CallNode] = []
    for item in call.items:
        if isinstance(item, CallNode):
            _inline_stateless(item, owners)
            nodes = list(item.nodes())
            stateless = not any(
                v in owners and under(owners[v], item.path)
                for n in nodes
                for v in n.values()
            ) and not any(is_random(n) or _knows_mode(n) for n in nodes)
            container = item.cls.endswith(CONTAINERS)
            if (stateless or container) and not item.updates:
                items += adopt(item, call)
                continue
        items.append(item)
    call.items = items


def _knows_mode(node: Node) -> bool:
    """Whether a choice by mode begins: the module may be in another mode than its caller."""
    return node.op == "control_begin" and node.attrs["style"] == "mode"


def is_random(node: Node) -> bool:
    """Whether the operation draws random numbers, be it in training alone."""
    if node.op == "dropout":
        return bool(node.attrs["rate"])
    if node.op == "attention":
        return bool(node.attrs["dropout"])
    return draws(node)


def draws(node: Node) -> bool:
    """Whether the operation draws random numbers in eval mode too."""
    if node.op == "dropout":
        return bool(node.attrs["always"] and node.attrs["rate"])
    return node.op.startswith("random_")


def adopt(item: CallNode, caller: CallNode) -> list[Node | CallNode]:
    """The items of an inner call that is dissolved, as items of its caller."""
    for inner in item.items:
        if isinstance(inner, Node):
            inner.scope = caller.stack
            for value in inner.outputs:
                # The caller's variable names move up with the node.
                depth = len(caller.stack) - 1
                if depth not in value.names and len(item.stack) - 1 in value.names:
                    value.names[depth] = value.names[len(item.stack) - 1]
    return item.items


def connect(root: CallNode, graph: Graph) -> None:
    """Fill in what flows into and out of every call, anew."""
    params = {p.value: p for p in graph.params.values()}
    signatures = {c.stack: c for c in graph.calls}
    uses: dict[Value, list[Node]] = graph.uses()
    results = set(leaves(graph.outputs))
    writers = {v: call.stack for call in root.calls() for _, v in call.updates}
    visible: dict[CallNode, list[Value]] = {}
    for call in root.calls():
        call.params, call.names = [], {}
        nodes = list(call.nodes())
        inside = set(map(id, nodes))
        made = {v for n in nodes for v in n.outputs}
        inputs: dict[Value, None] = {}
        for node in nodes:
            for value in node.values():
                if value in made:
                    continue
                param = params.get(value)
                if param and under(param.owner, call.path):
                    if param not in call.params:
                        call.params.append(param)
                elif param and under(param.owner, node.scope[-1].path):
                    continue  # a shared layer holds it, and is handed down itself
                else:
                    inputs[value] = None
        call.params += [p for p, _ in call.updates if p not in call.params]
        call.outputs = [
            v
            for n in nodes
            for v in n.outputs
            if v in results
            or any(id(u) not in inside for u in uses.get(v, []))
            or len(writers.get(v, call.stack)) < len(call.stack)
        ]
        signature = signatures.get(call.stack)
        if call is not root:
            _cover_sizes(call, inputs, signature, visible[call])
        _name_inputs(call, inputs, signature)
        if call is root:
            root.inputs = list(graph.inputs)
            root.outputs = list(leaves(graph.outputs))
            root.names = {v: v.name or "input" for v in graph.inputs}
        seen = list(call.inputs)
        begun: list[int] = []  # how much was seen where each open loop begins
        for item in call.items:
            if isinstance(item, CallNode):
                visible[item] = list(seen)
                seen += _made(item)
                continue
            if item.op == "control_begin":
                begun.append(len(seen))
            elif item.op == "control_end":
                del seen[begun.pop() :]
            elif item.op == "control_next" and item.attrs["style"] != "while_loop":
                del seen[begun[-1] :]
            seen += item.outputs


def _made(call: CallNode) -> list[Value]:
    return [v for n in call.nodes() for v in n.outputs]


def _cover_sizes(
    call: CallNode,
    inputs: dict[Value, None],
    signature: Call | None,
    visible: list[Value],
) -> None:
    """Add inputs that a body needs for their shape alone (positions from a length, say)."""
    needed: set[Dim] = set()
    for node in call.nodes():
        needed |= attr_sizes(node.attrs)
        needed |= {
            x.value
            for x in node.inputs
            if isinstance(x, Scalar) and isinstance(x.value, Dim)
        }
    made = {s for v in _made(call) for s in v.type.shape}
    arguments = [v for _, v in signature.args] if signature else []
    candidates = [v for v in arguments if v in visible] + visible[::-1]
    for dim in sorted(needed, key=str):
        have = {s for v in inputs for s in v.type.shape}
        if dim in have or (symbols(dim) <= {n for s in have for n in _plain(s)}):
            continue
        if any(multiple(dim, size) for size in have):
            continue  # ``2 * x.shape[0]``
        exact = [v for v in candidates if dim in v.type.shape]
        if exact and dim not in made:
            inputs[exact[0]] = None
            continue
        for name in sorted(symbols(dim) - {n for s in have for n in _plain(s)}):
            plain = [
                v for v in candidates if any(name in _plain(s) for s in v.type.shape)
            ]
            if plain:
                inputs[plain[0]] = None


def _plain(size: object) -> set[str]:
    name = as_symbol(size)
    return {name} if name else set()


def _carrier(value: Value, inputs: dict[Value, None]) -> Value | None:
    """The input that stands for an argument: itself, or what it was broadcast or cut from."""
    current: Value | None = value
    while current is not None and current not in inputs:
        producer = current.producer
        through = producer is not None and producer.op in PASSED_THROUGH
        first = producer.inputs[0] if producer is not None and through else None
        current = first if isinstance(first, Value) else None
    return current


PASSED_THROUGH = ("broadcast_to", "reshape", "permute_dims", "getitem", "astype")


def _name_inputs(
    call: CallNode, inputs: dict[Value, None], signature: Call | None
) -> None:
    """Order inputs as the source's signature does; the others follow in order of use."""
    args = signature.args if signature else []
    call.alias = signature.alias if signature else ""
    for name, value in args:
        carrier = _carrier(value, inputs)
        if carrier is not None and carrier not in call.names:
            call.names[carrier] = name
    rest = [v for v in inputs if v not in call.names]
    call.inputs = [*call.names, *rest]
