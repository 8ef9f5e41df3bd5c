"""SQL expressions that users write: one value of one row, the same whenever and however it is computed."""

from __future__ import annotations

import difflib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import duckdb

from smartstream.sql_text import literal
from smartstream.transform.rules import functions, types
from smartstream.transform.rules.engine import ROWS, evaluate, first_line, result_types
from smartstream.transform.rules.shape import Shape

EXPRESSION_NODES_MAX = 2_000

_REFUSED = {
    "SUBQUERY": "a subquery",
    "WINDOW": "a window function, which looks at other rows",
    "STAR": "a star; name the columns",
    "PARAMETER": "a parameter",
    "POSITIONAL_REFERENCE": "a position; name the column",
    "DEFAULT": "DEFAULT",
    "LAMBDA_REF": "a lambda without its list",
}
_ALLOWED = {
    "BETWEEN",
    "CASE",
    "CAST",
    "COLLATE",
    "COLUMN_REF",
    "COMPARISON",
    "CONJUNCTION",
    "CONSTANT",
    "FUNCTION",
    "LAMBDA",
    "OPERATOR",
    "TYPE",
}


class ExpressionInvalid(ValueError):
    """An expression can't be used; the text says why."""


@dataclass(frozen=True, slots=True)
class Expression:
    """An expression over columns of the working shape.

    Attributes:
        sql: as it was written, in parentheses.
        columns: those that it reads, as they are called in the shape.
        sql_type: DuckDB's name of its type.
    """

    sql: str
    columns: frozenset[str]
    sql_type: str


def parse(text: str, shape: Shape) -> Expression:
    """Check an expression and return it.

    Args:
        shape: the columns that it may use.
    Raises:
        ExpressionInvalid: it is not one scalar expression, or its value could depend on
            anything but this row: other rows, files, the network, time, chance, settings.
    """
    tree = _tree(text)
    columns = frozenset(_columns(tree, shape))
    sql = f"(\n{text.strip()}\n)"
    try:
        if not columns:
            evaluate(f"SELECT {sql}")  # what can't be computed for any row is known now
        read = {name: shape[name].type for name in columns} or _NOTHING
        found = result_types(f"SELECT {sql} AS value FROM {ROWS}", read)
    except duckdb.Error as error:
        raise ExpressionInvalid(first_line(error)) from error
    return Expression(sql, columns, found["value"])


_NOTHING = {"~nothing": types.TEXT}


def guarded(expression: Expression) -> str:
    """Return SQL that gives a struct with the value ``v``, or null where it can't be computed.

    An error of one row (a bad cast, an overflow) then stays with that row.
    """
    return f"TRY(struct_pack(v := {expression.sql}))"


def _tree(text: str) -> Any:
    """The parsed expression, if it is one and nothing besides."""
    statement = f"SELECT\n{text.strip()}\nAS value"
    parsed = json.loads(
        evaluate(f"SELECT json_serialize_sql({literal(statement)}) AS tree")["tree"][0].as_py()
    )
    if parsed["error"]:
        raise ExpressionInvalid(str(parsed.get("error_message", "not SQL")).splitlines()[0])
    (one, *others) = parsed["statements"]
    node = one["node"]
    chosen = node.get("select_list", [])
    clauses = ("where_clause", "group_expressions", "having", "sample", "qualify", "modifiers")
    plain = node["type"] == "SELECT_NODE" and node["from_table"]["type"] == "EMPTY"
    plain = plain and not any(node[clause] for clause in clauses) and not node["cte_map"]["map"]
    if others or not plain or len(chosen) != 1 or chosen[0].get("alias") != "value":
        raise ExpressionInvalid("expected one expression, without SELECT, FROM or commas around it")
    return chosen[0]


def _columns(tree: Any, shape: Shape) -> Iterator[str]:
    """The columns that an expression reads; everything else in it is checked."""
    by_name = {name.lower(): name for name in shape}
    nodes = list(_nodes(tree, frozenset()))
    if len(nodes) > EXPRESSION_NODES_MAX:
        raise ExpressionInvalid(f"it has more than {EXPRESSION_NODES_MAX} parts")
    for node, bound in nodes:
        kind = node["class"]
        if kind in _REFUSED or kind not in _ALLOWED:
            raise ExpressionInvalid(f"it contains {_REFUSED.get(kind, kind.lower())}")
        if node["type"] == "GROUPING_FUNCTION":
            raise ExpressionInvalid("it contains an aggregate")
        if kind == "FUNCTION":
            _check_call(node)
        if kind == "COLUMN_REF":
            names = node["column_names"]
            if names[0].lower() in bound:
                continue
            yield _column(names, by_name)


def _column(names: list[str], by_name: Mapping[str, str]) -> str:
    """The column that a reference means."""
    if len(names) > 1:
        raise ExpressionInvalid(f"{'.'.join(names)}: a column is named alone, without its table")
    found = by_name.get(names[0].lower())
    if found is None:
        close = difflib.get_close_matches(names[0].lower(), by_name, n=1, cutoff=0.6)
        more = (
            f"; did you mean {by_name[close[0]]}?" if close else f"; there are {', '.join(by_name.values())}"
        )
        raise ExpressionInvalid(f"there is no column {names[0]}{more}")
    return found


def _nodes(value: Any, bound: frozenset[str]) -> Iterator[tuple[dict[str, Any], frozenset[str]]]:
    """Every node of a tree, with the parameters of the lambdas around it."""
    if isinstance(value, list):
        for item in value:
            yield from _nodes(item, bound)
    elif isinstance(value, dict):
        if "class" in value:
            yield value, bound
            if value["class"] == "LAMBDA":
                bound = bound | frozenset(_parameters(value["lhs"]))
        for item in value.values():
            yield from _nodes(item, bound)


def _parameters(lhs: Any) -> Iterator[str]:
    """The names of a lambda's parameters."""
    for node, _ in _nodes(lhs, frozenset()):
        if node["class"] == "COLUMN_REF":
            yield node["column_names"][-1].lower()


def _check_call(node: Mapping[str, Any]) -> None:
    """Raise ExpressionInvalid for a function that looks at more than its arguments."""
    name = str(node["function_name"]).lower()
    path = (node.get("qualified_name") or {}).get("path") or [name]
    if len(path) > 1 or node.get("schema") or node.get("catalog"):
        raise ExpressionInvalid(f"{'.'.join(path)}: write function(column), not column.function()")
    if node.get("distinct") or node.get("filter") or (node.get("order_bys") or {}).get("orders"):
        raise ExpressionInvalid(f"{name} is called as an aggregate")
    problem = functions.problem(name)
    if problem:
        raise ExpressionInvalid(problem)
