"""Finds programs that compare the type of a tensor, or derive from it: no lazy tensor can pass as one."""

from __future__ import annotations

import ast

TENSORS = ("Tensor", "Parameter", "FloatTensor", "TensorBase")


def tensor_type_line(code: str) -> int | None:
    """The line of a comparison of `type(x)` with torch.Tensor, or of a class derived from it."""
    if "type(" not in code and "__class__" not in code and "Tensor)" not in code:
        return None
    nodes = ast.walk(ast.parse(code))
    return next(
        (n.lineno for n in nodes if isinstance(n, ast.stmt | ast.expr) and decides(n)), None
    )


def decides(node: ast.stmt | ast.expr) -> bool:
    """Tells whether a program chooses by a tensor's type here."""
    match node:
        case ast.Compare(left=left, comparators=others):
            return any(map(asks_type, [left, *others])) and any(map(names_tensor, [left, *others]))
        case ast.ClassDef(bases=bases):
            return any(map(is_tensor, bases))
        case ast.Subscript(slice=key):
            return asks_type(key)
        case ast.Call(func=ast.Attribute(attr="get"), args=keys):
            return any(map(asks_type, keys))
        case _:
            return False


def asks_type(node: ast.expr) -> bool:
    match node:
        case ast.Attribute(attr="__class__") | ast.Call(func=ast.Name(id="type"), args=[_]):
            return True
        case _:
            return False


def names_tensor(side: ast.expr) -> bool:
    return any(is_tensor(node) for node in ast.walk(side))


def is_tensor(node: ast.AST) -> bool:
    match node:
        case ast.Attribute(attr=name) | ast.Name(id=name):
            return name in TENSORS
        case _:
            return False
