"""Read less where only some keys are asked for, without another result."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from sqlglot import exp

from smartstream.inference.features.query import DIALECT
from smartstream.inference.features.tree import AFFECTED, FOUND, NOW, named, sources, start_of


def narrow(tree: exp.Select, key: Sequence[str], by_key: Mapping[str, str]) -> None:
    """Let tables that carry the key be read for the affected keys only, where that is safe.

    Args:
        by_key: table → its key, of tables whose rows with an affected key stand in
            ``found.<table>``.
    """
    if len(key) != 1 or any(part.find(exp.Window) for part in tree.expressions):
        return
    (projection,) = [p for p in tree.expressions if p.alias_or_name == key[0]] or [None]
    column = projection.this if isinstance(projection, exp.Alias) else projection
    if not isinstance(column, exp.Column):
        return
    owner = next((s for s in sources(tree) if s.alias_or_name == column.table), None)
    start = start_of(tree)
    if owner is None or start is None or start.this is not owner:
        return
    for join in tree.args.get("joins") or ():
        inner, other = join.this, _equal_to(join, column)
        if other is not None and isinstance(inner, exp.Subquery):
            _narrow_group(inner.this, other, key[0], by_key)
    if isinstance(owner, exp.Table):
        owner.replace(_only_affected(owner, column.name, key[0], by_key))


def _equal_to(join: exp.Join, column: exp.Column) -> str | None:
    """The column of what is joined that must equal ``column``."""
    condition = join.args.get("on")
    parts = condition.flatten() if isinstance(condition, exp.And) else [condition]
    for part in parts:
        if isinstance(part, exp.EQ):
            for one, other in ((part.left, part.right), (part.right, part.left)):
                mine = isinstance(one, exp.Column) and one.table == join.this.alias_or_name
                if mine and isinstance(other, exp.Column) and other.sql() == column.sql():
                    return str(one.name)
    return None


def _narrow_group(select: exp.Expression, name: str, key: str, by_key: Mapping[str, str]) -> None:
    """Read only the affected groups of a grouped SELECT of one table."""
    if not isinstance(select, exp.Select) or select.args.get("limit") is not None or select.args.get("joins"):
        return
    start, group = start_of(select), select.args.get("group")
    (projection,) = [p for p in select.expressions if p.alias_or_name == name] or [None]
    inside = projection.this if isinstance(projection, exp.Alias) else projection
    if not isinstance(inside, exp.Column) or start is None or not isinstance(start.this, exp.Table):
        return
    if group is None or inside.sql(DIALECT) not in [node.sql(DIALECT) for node in group.expressions]:
        return
    if select.find(exp.Window) is None:
        start.this.replace(_only_affected(start.this, inside.name, key, by_key))


def _only_affected(table: exp.Table, column: str, key: str, by_key: Mapping[str, str]) -> exp.Subquery:
    """A table's rows whose ``column`` is an affected key."""
    name = named(table.name)
    if by_key.get(table.name, "").lower() == column.lower():
        text = f'SELECT * FROM "{FOUND}".{name}'
    else:
        asked = f"SELECT {named(key)} FROM main.{AFFECTED}"
        text = f'SELECT * FROM "{NOW}".{name} WHERE {named(column)} IN ({asked})'
    inner = exp.maybe_parse(text, dialect=DIALECT)
    return exp.Subquery(
        this=inner, alias=exp.TableAlias(this=exp.to_identifier(table.alias_or_name, quoted=True))
    )
