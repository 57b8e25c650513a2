"""What of a Python script is run in one go: what stands in another block may be run later, more often, or never."""

from __future__ import annotations

import ast

# A branch, a loop or a function with the part of it (its body, its else); None: the script itself.
Block = tuple[ast.AST, str] | None

_BRANCHING = (
    ast.AsyncFor,
    ast.AsyncFunctionDef,
    ast.ExceptHandler,
    ast.For,
    ast.FunctionDef,
    ast.If,
    ast.Lambda,
    ast.Try,
    ast.TryStar,
    ast.While,
    ast.match_case,
)
_PARTS = frozenset({"body", "finalbody", "orelse"})


def blocks_of(tree: ast.AST) -> dict[ast.AST, Block]:
    """The block of each node."""
    blocks: dict[ast.AST, Block] = {tree: None}
    for node in ast.walk(tree):
        for part, inside in ast.iter_fields(node):
            opens = isinstance(node, _BRANCHING) and part in _PARTS and not _asks_whether_it_is_the_script(node)
            for child in inside if isinstance(inside, list) else [inside]:
                if isinstance(child, ast.AST):
                    blocks[child] = (node, part) if opens else blocks[node]
    return blocks


def _asks_whether_it_is_the_script(node: ast.AST) -> bool:
    """Whether it is ``if __name__ == "__main__"``, which whoever runs the script passes."""
    test = node.test.left if isinstance(node, ast.If) and isinstance(node.test, ast.Compare) else None
    return isinstance(test, ast.Name) and test.id == "__name__"
