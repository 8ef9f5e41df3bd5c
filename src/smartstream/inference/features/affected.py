"""Whose features can have changed: a feature query turned into queries for keys.

When rows of a table T change, the features of a key can change only if one of these rows
has a part in them: if the query's joins lead from the row to the key, in the state before
or after.  So the query is reduced to its joins, with T cut down to the changed rows, and
asked for its keys.  WHERE and aggregates are dropped, which can only give more keys than
needed.  What is not understood for certain gives None: then all features are compared.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from sqlglot import exp
from sqlglot.errors import SqlglotError
from sqlglot.optimizer.qualify import qualify

from smartstream.errors import FeaturesInvalid
from smartstream.inference.features.narrow import narrow
from smartstream.inference.features.query import DIALECT, FeatureQuery
from smartstream.inference.features.tree import (
    AFFECTED,
    BEFORE,
    DELTA,
    NOW,
    is_aggregate,
    named,
    sources,
    start_of,
)

Columns = dict[str, dict[str, str]]
"""Table → column → SQL type."""


def qualified(query: FeatureQuery, columns: Columns) -> exp.Select:
    """The query with every column under its table's name and every CTE in the place of its use.

    Raises:
        FeaturesInvalid: it names a column that no table has, or one that several have.
    """
    tree = query.tree.copy()
    for table in tree.find_all(exp.Table):
        if table.db:
            table.set("db", None)
            if not table.alias:
                table.set("alias", exp.TableAlias(this=exp.to_identifier(table.name, quoted=True)))
    try:
        tree = qualify(tree, schema=dict(columns), dialect=DIALECT, quote_identifiers=True)
    except SqlglotError as error:
        raise FeaturesInvalid(f"{query.path}: {str(error).splitlines()[0]}") from error
    inlined = _inline(tree)
    assert isinstance(inlined, exp.Select)
    _spell(inlined, query, columns)
    return inlined


def _spell(tree: exp.Select, query: FeatureQuery, columns: Columns) -> None:
    """Give tables and output columns the case that they were written in; ``qualify`` makes all small."""
    tables = {name.lower(): name for name in columns}
    if len(tables) < len(columns):
        raise FeaturesInvalid(f"{query.path}: two tables differ in capital letters only")
    for table in tree.find_all(exp.Table):
        table.set("this", exp.to_identifier(tables.get(table.name.lower(), table.name), quoted=True))
    written = [one.name for one in query.tree.find_all(exp.Identifier)]
    written += [name for table in columns.values() for name in table]
    written += [one.alias_or_name for one in query.tree.expressions if not one.is_star]
    spelled = {name.lower(): name for name in written}
    made = []
    for projection in tree.expressions:
        inside = projection.this if isinstance(projection, exp.Alias) else projection
        name = spelled.get(projection.alias_or_name.lower(), projection.alias_or_name)
        made.append(exp.alias_(inside, name, quoted=True))
    tree.set("expressions", made)


def key_queries(
    tree: exp.Select, key: Sequence[str], table: str, table_key: Sequence[str]
) -> list[str] | None:
    """Queries for the keys that changed rows of ``table`` lead to; None: not understood.

    They read ``before.<table>`` or ``trusted.<table>`` for each table, and the keys of the
    changed rows from ``delta.<table>``; where the table's key is the query's, only the latter.
    """
    count = sum(1 for node in tree.find_all(exp.Table) if node.name == table)
    found = []
    for number in range(count):
        reduced = tree.copy()
        target = [node for node in reduced.find_all(exp.Table) if node.name == table][number]
        direct = _direct(reduced, key, target, table_key)
        if not _reduce(reduced, target, set(key), outer=True):
            return None
        if direct is not None:
            found.append(direct)
            continue
        for state in (BEFORE, NOW):
            asked = reduced.copy()
            chosen = [node for node in asked.find_all(exp.Table) if node.name == table]
            _point(asked, state)
            # What was reduced may have lost occurrences: the target is marked.
            (cut,) = [node for node in chosen if node.meta.get("target")] or [None]
            if cut is None:
                return None
            cut.replace(_cut(cut, table_key, state))
            found.append(asked.sql(DIALECT))
    return found


def columns_used(tree: exp.Select) -> set[str]:
    """The names of all columns that a query reads, of whatever table, in small letters."""
    return {column.name.lower() for column in tree.find_all(exp.Column)}


def feature_query(
    tree: exp.Select, key: Sequence[str], *, affected: bool, by_key: Mapping[str, str] | None = None
) -> str:
    """The query's own SQL over ``trusted.<table>``, of all keys or of those in ``affected`` only.

    Args:
        by_key: see ``narrow``.
    """
    asked = tree.copy()
    if affected:
        narrow(asked, key, by_key or {})
    _point(asked, NOW)
    sql: str = asked.sql(DIALECT)
    if not affected:
        return sql
    names = ", ".join(exp.to_identifier(name, quoted=True).sql(DIALECT) for name in key)
    return f"SELECT * FROM ({sql}) SEMI JOIN {AFFECTED} USING ({names})"


def _direct(tree: exp.Select, key: Sequence[str], target: exp.Table, table_key: Sequence[str]) -> str | None:
    """The changed rows' keys as the query calls them, if they are its keys."""
    if all(source is not target for source in sources(tree)):
        return None
    called: dict[str, str] = {}
    for projection in tree.expressions:
        inside = projection.this if isinstance(projection, exp.Alias) else projection
        if projection.alias_or_name in key:
            if not isinstance(inside, exp.Column) or inside.table != target.alias_or_name:
                return None
            called[projection.alias_or_name] = inside.name
    if sorted(name.lower() for name in called.values()) != sorted(name.lower() for name in table_key):
        return None
    names = [(named(called[name]), named(name)) for name in key]
    columns = ", ".join(f"{column} AS {name}" for column, name in names)
    return f'SELECT {columns} FROM "{DELTA}".{named(target.name)}'


def _inline(tree: exp.Expression) -> exp.Expression:
    """Put each CTE where it is read."""
    with_ = tree.args.get("with_") or tree.args.get("with")
    if with_ is not None:
        if with_.args.get("recursive"):
            raise FeaturesInvalid("features can't be recursive")
        made: dict[str, exp.Expression] = {}
        for cte in with_.expressions:
            made[cte.alias_or_name] = _replaced(cte.this.copy(), made)
        tree = tree.copy()
        for name in ("with_", "with"):
            if tree.args.get(name) is not None:
                tree.set(name, None)
        tree = _replaced(tree, made)
    for inner in list(tree.find_all(exp.Subquery)):
        if inner.this.args.get("with_") or inner.this.args.get("with"):
            inner.set("this", _inline(inner.this))
    return tree


def _replaced(tree: exp.Expression, made: dict[str, exp.Expression]) -> exp.Expression:
    """A tree with the tables that CTEs made replaced by what they are."""
    for table in list(tree.find_all(exp.Table)):
        if not table.db and table.name in made:
            alias = exp.to_identifier(table.alias_or_name, quoted=True)
            table.replace(exp.Subquery(this=made[table.name].copy(), alias=exp.TableAlias(this=alias)))
    return tree


def _reduce(select: exp.Expression, target: exp.Table, keep: set[str], *, outer: bool) -> bool:
    """Cut a SELECT down to its joins around ``target``, and to the columns that are sure to lead on.

    Returns whether it was understood.
    """
    if not isinstance(select, exp.Select) or any(
        select.args.get(part) is not None for part in ("limit", "offset", "laterals", "pivots", "match")
    ):
        return False
    distinct = select.args.get("distinct")
    if distinct is not None and distinct.args.get("on") is not None:
        return False
    source = _source_of(select, target)
    if source is None or any(one.args.get("pivots") for one in sources(select)):
        return False
    lasting = _lasting(select)
    if not _joins_are_plain(select, source):
        return False
    names = _leading(select, keep, lasting, outer=outer)
    if names is None or (outer and names != keep):
        return False
    if isinstance(source, exp.Subquery):
        wanted = {
            column.name for column in select.find_all(exp.Column) if column.table == source.alias_or_name
        }
        if not _reduce(source.this, target, wanted, outer=False):
            return False
    else:
        target.meta["target"] = True
    _strip(select, names)
    return _conditions_left(select, source)


def _source_of(select: exp.Select, target: exp.Table) -> exp.Expression | None:
    """The table or subquery of FROM and JOIN in which ``target`` is; None if it is elsewhere."""
    for source in sources(select):
        if source is target or any(node is target for node in source.find_all(exp.Table)):
            return source
    return None


def _lasting(select: exp.Select) -> set[str]:
    """Names of what is read before the first outer join.

    A changed row on the outer side takes the place of nulls, or leaves them behind: only what
    stands before it is the same in both states.
    """
    start = start_of(select)
    found = {start.this.alias_or_name} if start is not None else set()
    for join in select.args.get("joins") or ():
        if join.side:
            break
        found.add(join.this.alias_or_name)
    return found


def _joins_are_plain(select: exp.Select, source: exp.Expression) -> bool:
    """Whether every join is inner, left or cross; the one of ``source`` becomes inner.

    Those behind an outer join become outer too: a row that they would drop in one state
    can have stood in the way of another one, which they keep, in the other state.
    """
    is_outer = False
    for join in select.args.get("joins") or ():
        if not isinstance(join.this, exp.Table | exp.Subquery):
            return False  # LATERAL and the like
        side, kind = (join.side or "").upper(), (join.kind or "").upper()
        if side not in ("", "LEFT") or kind not in ("", "INNER", "CROSS", "OUTER") or join.args.get("using"):
            return False
        if join.args.get("method"):
            return False
        is_outer = is_outer or side == "LEFT"
        if join.this is source:
            join.set("side", None)
            join.set("kind", None if kind == "OUTER" else join.args.get("kind"))
        elif is_outer:
            join.set("side", "LEFT")
            join.set("kind", None)
            join.set("on", join.args.get("on") or exp.true())
    return True


def _leading(select: exp.Select, keep: set[str], lasting: set[str], *, outer: bool) -> set[str] | None:
    """The output columns whose values say which rows of the result a changed row has a part in.

    With GROUP BY these are grouping columns, with windows the columns of every PARTITION
    BY, else all of them; and they come from ``lasting`` tables.
    """
    for clause in ("where", "having", "qualify", "order"):
        node = select.args.get(clause)
        if node is not None and node.find(exp.Select) is not None:
            return None
    group = select.args.get("group")
    if group is not None and any(
        group.args.get(part) for part in ("grouping_sets", "cube", "rollup", "totals")
    ):
        return None
    grouping = [node.sql(DIALECT) for node in group.expressions] if group is not None else []
    windows = [
        window
        for part in (*select.expressions, select.args.get("qualify"))
        if part is not None
        for window in part.find_all(exp.Window)
    ]
    if outer and windows:
        return None
    partitions = [{node.sql(DIALECT) for node in window.args.get("partition_by") or ()} for window in windows]
    found = set()
    for number, projection in enumerate(select.expressions, 1):
        if projection.find(exp.Select) is not None:
            return None
        inside = projection.this if isinstance(projection, exp.Alias) else projection
        name, text = projection.alias_or_name, inside.sql(DIALECT)
        if name not in keep or is_aggregate(inside) or inside.find(exp.Window) is not None:
            continue
        if any(column.table not in lasting for column in inside.find_all(exp.Column)):
            continue
        grouped = not grouping or text in grouping or str(number) in grouping
        if grouped and all(text in partition for partition in partitions):
            found.add(name)
    aggregated = any(is_aggregate(p) and not p.find(exp.Window) for p in select.expressions)
    if aggregated and group is None:
        return None  # one row for the whole table
    return found or None


def _strip(select: exp.Select, names: set[str]) -> None:
    """Leave DISTINCT ``names`` from the joins, nothing else."""
    select.set("expressions", [p for p in select.expressions if p.alias_or_name in names])
    for part in ("where", "group", "having", "qualify", "order", "windows"):
        select.set(part, None)
    select.set("distinct", exp.Distinct())


def _conditions_left(select: exp.Select, source: exp.Expression) -> bool:
    """Drop the conditions of joins on columns that ``source`` has no more; whether some condition stays."""
    if not isinstance(source, exp.Subquery):
        return True
    alias, left = source.alias_or_name, {p.alias_or_name for p in source.this.expressions}
    for projection in select.expressions:
        if any(c.table == alias and c.name not in left for c in projection.find_all(exp.Column)):
            return False
    for join in select.args.get("joins") or ():
        condition = join.args.get("on")
        if condition is None:
            continue
        parts = list(condition.flatten()) if isinstance(condition, exp.And) else [condition]
        kept = [
            part
            for part in parts
            if not any(c.table == alias and c.name not in left for c in part.find_all(exp.Column))
        ]
        if not kept:
            return False
        join.set("on", exp.and_(*kept) if len(kept) > 1 else kept[0])
    return True


def _point(tree: exp.Expression, state: str) -> None:
    """Let every table be one of a state."""
    for table in tree.find_all(exp.Table):
        if table.db:
            continue
        if not table.alias:
            table.set("alias", exp.TableAlias(this=exp.to_identifier(table.name, quoted=True)))
        table.set("db", exp.to_identifier(state, quoted=True))


def _cut(table: exp.Table, key: Sequence[str], state: str) -> exp.Subquery:
    """The table's rows whose key is in ``delta``."""
    name = exp.to_identifier(table.name, quoted=True).sql(DIALECT)
    columns = ", ".join(exp.to_identifier(column, quoted=True).sql(DIALECT) for column in key)
    inner = exp.maybe_parse(
        f'SELECT * FROM "{state}".{name} SEMI JOIN "{DELTA}".{name} USING ({columns})', dialect=DIALECT
    )
    alias = exp.TableAlias(this=exp.to_identifier(table.alias_or_name, quoted=True))
    return exp.Subquery(this=inner, alias=alias)
