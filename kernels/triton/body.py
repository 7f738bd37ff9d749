"""Writes a graph's nodes as lines of Triton source, for the templates to put in their places."""

from __future__ import annotations

from dataclasses import dataclass

from ..ir import ELEMENTWISE, REDUCTIONS, KernelGraph, Node, Op, Space
from .forms import FORMS, number

CELLS = ("first", "stop", "num_cols", "params", "chunk", "owner")  # columns after the addresses
ITEMSIZES = {"bf16": 2, "fp16": 2, "fp32": 4}
FLAT = ("apply", "total", "below", "collect")  # kinds whose chunks are ranges of elements
BY_PLACE = {
    "r": "load_row({}, at_row, m, live, WHOLE)",
    "c": "tl.load({} + at_col, mask=m, other=0.0)",
}
# How a kind of kernel reads a ROW and a COL vector.
VECTORS = {
    **dict.fromkeys(FLAT, BY_PLACE),
    "rows": {"r": "tl.load({} + r)", "c": "tl.load({} + c, mask=m, other=0.0)"},
    "columns": {
        "r": "tl.load({} + r, mask=r < num_rows, other=0.0)[:, None]",
        "c": "tl.load({} + c, mask=c < num_cols, other=0.0)[None, :]",
    },
}


@dataclass(frozen=True)
class Kernel:
    """A generated function, and what a row of its table holds."""

    kind: str
    source: str
    inputs: tuple[str, ...]  # experts, as they were first used
    scalars: tuple[int, ...]  # slots whose numbers are in the parameter buffer
    rows: tuple[int, ...]  # slots of ROW vectors
    cols: tuple[int, ...]  # slots of COL vectors
    reads_base: bool
    sums: tuple[int, ...] = ()  # nodes; a partial result holds the sums, then the extremes
    extremes: tuple[int, ...] = ()

    @property
    def addresses(self) -> tuple[str, ...]:
        """The names of the table's first columns."""
        experts = (f"e{j}" for j in range(len(self.inputs)))
        vectors = (*(f"r{s}" for s in self.rows), *(f"c{s}" for s in self.cols))
        return (*(("base",) if self.reads_base else ()), *experts, *vectors, "out")

    def column(self, name: str) -> int:
        return (*self.addresses, *CELLS).index(name)

    @property
    def width(self) -> int:
        return len(self.addresses) + len(CELLS)


@dataclass(frozen=True)
class Body:
    """The lines of one kernel. Value j of the graph is the variable `vj`; the base is `x`."""

    graph: KernelGraph
    kernel: Kernel
    dtypes: tuple[str, ...]  # formats of the base and the inputs
    merged: bool

    @property
    def out(self) -> str:
        """The format of what the kernel writes."""
        if self.kernel.kind != "apply":
            return "int32"
        return self.dtypes[0] if self.merged else "fp32"

    @property
    def reads(self) -> str:
        """A sentence for the kernel's header: what it reads, and the bytes that move an element."""
        k = self.kernel
        names = [*(["base"] if k.reads_base else []), *map(repr, k.inputs)]
        read = self.dtypes[: len(names)]
        size = sum(ITEMSIZES[d] for d in read) + ITEMSIZES.get(self.out, 0)
        what = ", ".join(f"{name} {dtype}" for name, dtype in zip(names, read, strict=True))
        return f"Reads {what or 'nothing'}: {size} bytes an element."

    def addresses(self) -> list[str]:
        k = self.kernel
        dtypes = dict(
            zip(["base", *(f"e{j}" for j in range(len(k.inputs)))], self.dtypes, strict=True)
        )
        lines = []
        for name in k.addresses:
            cell = f"row + {k.column(name)}"
            if name == "out" and self.out == "int32":
                lines.append(f"out = at_int32({cell})")
            else:
                dtype = self.out if name == "out" else dtypes.get(name, "fp32")
                comment = f"  # {k.inputs[int(name[1:])]!r}" if name[0] == "e" else ""
                lines.append(f"{name} = at_{dtype}({cell}, WHOLE){comment}")
        return lines

    def numbers(self) -> list[str]:
        """Return lines for the values that are the same for all elements."""
        k = self.kernel
        lines = [f"p = numbers + tl.load(row + {k.column('params')})"] if k.scalars else []
        for index, node in enumerate(self.graph.nodes):
            if node.space is not Space.SCALAR or node.op in REDUCTIONS:
                continue
            if node.op is Op.PARAM:
                lines.append(f"v{index} = tl.load(p + {k.scalars.index(node.attrs[0])})")
            elif node.op is Op.CONST:
                lines.append(f"v{index} = {number(node.attrs[0])}")
            else:
                lines.append(elementwise(index, node))
        return lines

    def values(self) -> list[str]:
        """Return lines for all other values, element by element."""
        lines = [f"x = load_{self.dtypes[0]}(base, i, m)"] if self.kernel.reads_base else []
        for index, node in enumerate(self.graph.nodes):
            if node.space is not Space.SCALAR and node.op not in REDUCTIONS:
                lines.append(self.value(index, node))
        return lines

    def value(self, index: int, node: Node) -> str:
        if node.op is Op.INPUT:
            at = self.kernel.inputs.index(node.attrs[0])
            return f"v{index} = load_{self.dtypes[1 + at]}(e{at}, i, m) - x"
        if node.op is Op.PARAM:
            letter = "r" if node.space is Space.ROW else "c"
            form = VECTORS[self.kernel.kind][letter]
            return f"v{index} = {form.format(f'{letter}{node.attrs[0]}')}"
        if node.op is Op.IN_RANGE:
            return f"v{index} = in_range(i, {', '.join(map(str, node.attrs))})"
        if node.op is Op.RANDOM:
            kind, seed, draw = node.attrs
            if self.kernel.kind in FLAT:
                return f"v{index} = block_{kind}({seed}, {draw}, at, BLOCK)"
            return f"v{index} = {kind}({seed}, {draw}, i)"
        return elementwise(index, node)

    @property
    def reads_vectors(self) -> bool:
        return bool(self.kernel.rows or self.kernel.cols)

    @property
    def terms(self) -> list[tuple[int, str, str]]:
        """For each reduction: its number, "sum" or "top", and the value that it runs over."""
        found = [(o, "sum", "{}") for o in self.kernel.sums]
        found += [
            (o, "top", "{}" if self.graph.nodes[o].op is Op.REDUCE_MAX else "-{}")
            for o in self.kernel.extremes
        ]
        return [
            (k, name, form.format(f"v{self.graph.nodes[o].args[0]}"))
            for k, (o, name, form) in enumerate(found)
        ]


def elementwise(index: int, node: Node) -> str:
    assert node.op in ELEMENTWISE, f"{node.op} in a kernel"
    return f"v{index} = {FORMS[node.op](*(f'v{a}' for a in node.args))}"
