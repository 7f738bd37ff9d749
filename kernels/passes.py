"""The compiler's front: Graph -> Graph passes with names, each verified, and what follows them.

    canonical(graph)        one graph for one meaning: simplify, order commutative arguments, renumber
    compile_graph(graph)    canonical, then a Plan that ends in one element-wise pass
    compile_values(graph)   the same for a question: a Plan whose outputs are small values

Nothing here changes a result by more than float32 rounding of a constant product.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Sequence

import torch

from .ir import COMMUTATIVE, ELEMENTWISE, LEAVES, Builder, Graph, Node, Op, Space, join
from .reference import ELEMENTWISE_FORMS
from .stages import Plan
from .staging import stage_merge, stage_values
from .verify import verify


def canonical(graph: Graph) -> Graph:
    """The graph in the form in which equal meanings have equal fingerprints."""
    verify(graph)
    for step in PASSES:
        graph = step(graph)
        verify(graph)
    return graph


def compile_graph(graph: Graph) -> Plan:
    """A plan for one update; its last stage is the Apply."""
    assert len(graph.outputs) == 1, "one program, one update"
    return stage_merge(canonical(graph))


def compile_values(graph: Graph) -> Plan:
    """A plan for the small values that are the graph's outputs."""
    return stage_values(canonical(graph))


# ---- simplify: constants folded, neutral operations dropped, equal nodes made once ----------------


def simplify(graph: Graph) -> Graph:
    """Rebuild node by node; a rule may answer a node with an existing one."""
    builder, new = Builder(), list[int]()
    for node in graph.nodes:
        new.append(simplified(builder, node, tuple(new[a] for a in node.args)))
    return builder.graph(*(new[output] for output in graph.outputs))


def simplified(b: Builder, node: Node, args: tuple[int, ...]) -> int:
    if node.op in ELEMENTWISE:
        numbers = [number(b, a) for a in args]
        if all(n is not None for n in numbers):
            return b.const(fold(node.op, [n for n in numbers if n is not None]))
        if (rule := RULES.get(node.op)) and (found := rule(b, args, numbers)) is not None:
            return found
    space = None if node.op in ELEMENTWISE else node.space
    return b.add(node.op, *args, attrs=node.attrs, space=space)


def number(b: Builder, index: int) -> float | None:
    """The constant that a node is, or None."""
    node = b.nodes[index]
    return node.attrs[0] if node.op is Op.CONST else None


def fold(op: Op, numbers: Sequence[float]) -> float:
    """In float32, as the kernel would."""
    return float(ELEMENTWISE_FORMS[op](*(torch.tensor(n, dtype=torch.float32) for n in numbers)))


Numbers = list[float | None]
Rule = Callable[[Builder, tuple[int, ...], Numbers], int | None]


def add_rule(b: Builder, args: tuple[int, ...], numbers: Numbers) -> int | None:
    for mine, other in ((0, 1), (1, 0)):
        if numbers[mine] == 0.0:
            return args[other]
    return None


def sub_rule(b: Builder, args: tuple[int, ...], numbers: Numbers) -> int | None:
    if numbers[1] == 0.0:
        return args[0]
    return b.add(Op.NEG, args[1]) if numbers[0] == 0.0 else None


def mul_rule(b: Builder, args: tuple[int, ...], numbers: Numbers) -> int | None:
    for mine, other in ((0, 1), (1, 0)):
        factor = numbers[mine]
        if factor is None:
            continue
        if factor == 1.0:
            return args[other]
        if factor == -1.0:
            return b.add(Op.NEG, args[other])
        return merged_factor(b, factor, args[other])
    return None


def merged_factor(b: Builder, factor: float, index: int) -> int | None:
    """c1 * (c2 * x) as (c1 c2) * x, where the product is an ordinary number."""
    node = b.nodes[index]
    if node.op is not Op.MUL:
        return None
    for mine, other in ((0, 1), (1, 0)):
        if (second := number(b, node.args[mine])) is None:
            continue
        product = fold(Op.MUL, [factor, second])
        if math.isfinite(product) and abs(product) > 1e-30:
            return b.add(Op.MUL, node.args[other], b.const(product))
    return None


def div_rule(b: Builder, args: tuple[int, ...], numbers: Numbers) -> int | None:
    divisor = numbers[1]
    if divisor == 1.0:
        return args[0]
    if divisor and math.isfinite(divisor) and math.frexp(abs(divisor))[0] == 0.5:
        return b.add(Op.MUL, args[0], b.const(1.0 / divisor))  # a power of two: exact
    return None


def neg_rule(b: Builder, args: tuple[int, ...], numbers: Numbers) -> int | None:
    inner = b.nodes[args[0]]
    return inner.args[0] if inner.op is Op.NEG else None


def abs_rule(b: Builder, args: tuple[int, ...], numbers: Numbers) -> int | None:
    inner = b.nodes[args[0]]
    if inner.op is Op.ABS:
        return args[0]
    return b.add(Op.ABS, inner.args[0]) if inner.op is Op.NEG else None


def where_rule(b: Builder, args: tuple[int, ...], numbers: Numbers) -> int | None:
    _condition, yes, no = args
    whole = join(*(b.nodes[a].space for a in args))
    if yes == no and b.nodes[yes].space is whole:  # a smaller one would change a sum over it
        return yes
    if numbers[0] is None:
        return None
    chosen = yes if numbers[0] != 0.0 else no
    return chosen if b.nodes[chosen].space is Space.FULL else None


def extreme_rule(b: Builder, args: tuple[int, ...], numbers: Numbers) -> int | None:
    return args[0] if args[0] == args[1] else None


def max_rule(b: Builder, args: tuple[int, ...], numbers: Numbers) -> int | None:
    same = extreme_rule(b, args, numbers)
    return chosen_by_truth(b, *args) if same is None else same


def chosen_by_truth(b: Builder, x: int, y: int) -> int | None:
    """(c and yes) or (not c and no), all of them truth values, is `yes if c else no`."""
    for one, other in ((x, y), (y, x)):
        first, second = b.nodes[one], b.nodes[other]
        if first.op is not Op.MUL or second.op is not Op.MUL:
            return None
        for c, yes in (first.args, first.args[::-1]):
            for denied, no in (second.args, second.args[::-1]):
                if is_not(b, denied, c) and all(is_truth(b, v) for v in (c, yes, no)):
                    return b.add(Op.WHERE, c, yes, no)
    return None


def is_not(b: Builder, index: int, of: int) -> bool:
    """Whether a node is `of == 0`."""
    node = b.nodes[index]
    return node.op is Op.EQ and of in node.args and any(number(b, a) == 0.0 for a in node.args)


def is_truth(b: Builder, index: int) -> bool:
    """Whether a node is 0 or 1 for all inputs."""
    node = b.nodes[index]
    if node.op in (Op.LT, Op.LE, Op.EQ, Op.NE, Op.IN_RANGE):
        return True
    if node.op is Op.CONST:
        return node.attrs[0] in (0.0, 1.0)
    if node.op in (Op.MUL, Op.MAX, Op.MIN):
        return all(is_truth(b, a) for a in node.args)
    return node.op is Op.WHERE and all(is_truth(b, a) for a in node.args[1:])


RULES: dict[Op, Rule] = {
    Op.ADD: add_rule,
    Op.SUB: sub_rule,
    Op.MUL: mul_rule,
    Op.DIV: div_rule,
    Op.NEG: neg_rule,
    Op.ABS: abs_rule,
    Op.WHERE: where_rule,
    Op.MAX: max_rule,
    Op.MIN: extreme_rule,
}

# ---- order: arguments of commutative ops by meaning, then one numbering for one graph -------------


def digests(graph: Graph, constants: bool = True) -> list[str]:
    """A hash of each node's meaning, whatever its number and the order of commutative arguments.

    Without `constants`, of its structure alone.
    """
    found: list[str] = []
    for node in graph.nodes:
        args = [found[a] for a in node.args]
        args = sorted(args) if node.op in COMMUTATIVE else args
        told = node.attrs if constants or node.op is not Op.CONST else ()
        attrs = [a.hex() if isinstance(a, float) else repr(a) for a in told]
        text = "|".join([node.op.value, node.space.value, *attrs, *args])
        found.append(hashlib.sha256(text.encode()).hexdigest()[:24])
    return found


def order(graph: Graph) -> Graph:
    """Sort commutative arguments; number nodes as a walk from the outputs meets them.

    By structure first: 0.3 a + 0.7 b and 0.4 a + 0.6 b are one kernel with other parameters.
    """
    names = list(zip(digests(graph, constants=False), digests(graph), strict=True))
    builder, new = Builder(), dict[int, int]()
    for root in graph.outputs:
        todo = [root]
        while todo:
            index = todo[-1]
            node = graph.nodes[index]
            args = list(node.args)
            if node.op in COMMUTATIVE:
                args.sort(key=names.__getitem__)
            waiting = [a for a in reversed(args) if a not in new]
            if waiting:
                todo += waiting
                continue
            if todo.pop() not in new:
                space = None if node.op in ELEMENTWISE else node.space
                mapped = (new[a] for a in args)
                new[index] = builder.add(node.op, *mapped, attrs=node.attrs, space=space)
    return builder.graph(*(new[output] for output in graph.outputs))


PASSES: tuple[Callable[[Graph], Graph], ...] = (simplify, order)


# ---- printing -------------------------------------------------------------------------------------


def describe(plan: Plan) -> str:
    """The plan as commented Python, one assignment a node."""
    lines = [f"# {len(plan.params)} constants, {plan.num_slots} slots"]
    lines += [f"s{i} = {value!r}" for i, value in enumerate(plan.params)]
    for stage in plan.stages:
        lines += ["", f"# {type(stage).__name__.lower()}: {HEADINGS[type(stage).__name__]}"]
        lines += [f"{name_of(stage.graph, i)} = {text_of(stage.graph, i)}"
                  for i, node in enumerate(stage.graph.nodes) if node.op not in LEAVES]  # fmt: skip
        slots = getattr(stage, "slots", ())
        lines += [
            f"s{slot} = {name_of(stage.graph, output)}"
            for slot, output in zip(slots, stage.graph.outputs, strict=bool(slots))
        ]
        if not slots:
            lines.append(f"merged = base + {name_of(stage.graph, stage.graph.outputs[0])}")
    if plan.outputs:
        lines.append(f"answers = {', '.join(f's{output}' for output in plan.outputs)}")
    return "\n".join(lines)


HEADINGS = {
    "Sweep": "one pass over the task vectors, reductions only",
    "Host": "small values",
    "Apply": "one pass, reads base and experts once, writes once",
}


def name_of(graph: Graph, index: int) -> str:
    node = graph.nodes[index]
    if node.op is Op.INPUT:
        return f"task_vector[{node.attrs[0]!r}]"
    if node.op is Op.PARAM:
        return f"s{node.attrs[0]}"
    if node.op is Op.CONST:
        return repr(node.attrs[0])
    if node.op in LEAVES:
        return f"{node.op.value}{node.attrs}"
    return f"v{index}"


def text_of(graph: Graph, index: int) -> str:
    node = graph.nodes[index]
    words = [name_of(graph, a) for a in node.args] + [repr(a) for a in node.attrs]
    return f"{node.op.value}({', '.join(words)})  # {node.space.value}"
