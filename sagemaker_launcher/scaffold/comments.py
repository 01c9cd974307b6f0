"""The comments on the keys of a tree of defaults: the manual, taken from the source without running it. Pure."""

from __future__ import annotations

import ast
import io
import itertools
import tokenize


def key_comments(source: str) -> dict[str, str]:
    """The comment on each assignment to a dotted name: in its lines, or else right above it.

    Args:
        source: Python, such as `_C.SEED = 0  # everything random comes from it`.

    Returns:
        The comments by the names as written, such as `_C.SEED`; empty where there is none.

    Raises:
        SyntaxError: The source is not Python.
    """
    comments, alone = {}, set()
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type == tokenize.COMMENT:
            comments[token.start[0]] = token.string.removeprefix("#").strip(" -")
            if token.line.lstrip().startswith("#"):
                alone.add(token.start[0])
    found = {}
    for statement in ast.walk(ast.parse(source)):
        if isinstance(statement, ast.Assign):
            lines = [*range(statement.lineno, (statement.end_lineno or 0) + 1)]
            if not comments.keys() & set(lines):
                above = itertools.takewhile(alone.__contains__, itertools.count(statement.lineno - 1, -1))
                lines = sorted(above)
            texts = [comments[line] for line in lines if line in comments]
            found[ast.unparse(statement.targets[0])] = " ".join(texts)
    return found
