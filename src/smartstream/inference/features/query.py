"""The text of a feature query: one SELECT over trusted tables that says the same whenever it runs."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import duckdb
import sqlglot
from sqlglot import exp
from sqlglot.errors import SqlglotError

from smartstream.errors import FeaturesInvalid

DIALECT = "duckdb"
TRUSTED = "trusted"

_CLOCK_AND_CHANCE = re.compile(
    r"now|today|current_(date|time|timestamp|localtime|localtimestamp)|get_current_\w+|localtime(stamp)?"
    r"|transaction_timestamp|random|rand|setseed|uuid|uuidv[47]|gen_random_uuid|nextval|currval|sample"
)
_OUTSIDE = re.compile(
    r"(read_|parquet_|sniff_|duckdb_|pragma_|iceberg_|postgres_|sqlite_|query)\w*|\w*_scan|glob|getenv"
    r"|current_setting|getvariable|(current|session)_(user|database|schema)s?|txid_current|version"
)
_NAMES = {
    exp.CurrentTimestamp: "current_timestamp",
    exp.CurrentDate: "current_date",
    exp.CurrentTime: "current_time",
    exp.CurrentDatetime: "now",
    exp.Rand: "random",
    exp.Uuid: "uuid",
}


@dataclass(frozen=True, slots=True)
class FeatureQuery:
    """A query whose text has been checked.

    Attributes:
        sql: as it stands in the file.
        tree: parsed; never changed.
        tables: names of the trusted tables that it reads.
    """

    path: Path
    sql: str
    tree: exp.Select
    tables: tuple[str, ...]


def read_query(path: Path) -> FeatureQuery:
    """Read and check the SQL file of a model.

    Raises:
        FeaturesInvalid: it is missing, not one SELECT, reads anything but trusted tables,
            or calls a function whose result depends on the moment or on chance.
    """
    try:
        sql = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise FeaturesInvalid(f"cannot read the features {path}: {error}") from error
    return parse_query(sql, path)


def parse_query(sql: str, path: Path) -> FeatureQuery:
    """Check the text of a query; see ``read_query``."""
    try:
        trees = [tree for tree in sqlglot.parse(sql, dialect=DIALECT) if tree is not None]
    except SqlglotError as error:
        where = error.errors[0] if getattr(error, "errors", None) else {}
        raise FeaturesInvalid(
            f"{path}:{where.get('line', 1)}: {where.get('description', 'not SQL')}"
        ) from error
    if len(trees) != 1 or not isinstance(trees[0], exp.Select):
        raise FeaturesInvalid(f"{path}: features are one SELECT, which may begin with WITH")
    tree = trees[0]
    _refuse_functions(tree, path)
    tables = _tables(tree, path)
    if not tables:
        raise FeaturesInvalid(f"{path}: the query reads no trusted table")
    return FeatureQuery(path, sql, tree, tables)


@contextmanager
def running(query: FeatureQuery) -> Iterator[None]:
    """Raise DuckDB's errors as FeaturesInvalid, with what may be shown: the query's text, never values."""
    try:
        yield
    except duckdb.Error as error:
        shown = isinstance(error, (duckdb.BinderException, duckdb.CatalogException, duckdb.ParserException))
        text = f": {str(error).splitlines()[0]}" if shown else ""
        raise FeaturesInvalid(f"{query.path}: the query fails: {type(error).__name__}{text}") from None


def check_dialect(query: FeatureQuery, dialect: str = "athena") -> list[str]:
    """What of a query another engine has no words for; empty when it can be translated."""
    try:
        sqlglot.transpile(query.sql, read=DIALECT, write=dialect, unsupported_level=sqlglot.ErrorLevel.RAISE)
    except SqlglotError as error:
        return [str(line) for line in str(error).splitlines() if line]
    return []


def _refuse_functions(tree: exp.Expression, path: Path) -> None:
    """No clocks, no chance, no files."""
    for node in tree.find_all(exp.Func, exp.TableSample):
        if isinstance(node, exp.TableSample):
            raise FeaturesInvalid(f"{path}: features must not be a sample")
        name = _NAMES.get(type(node)) or (node.name if isinstance(node, exp.Anonymous) else node.sql_name())
        name = str(name).lower()
        if _CLOCK_AND_CHANCE.fullmatch(name):
            raise FeaturesInvalid(
                f"{path}: {name}() gives another value each time: nobody could tell which features changed",
                hint="Compute such a value from a column, or keep the moment in a table.",
            )
        if name == "age" and len(list(node.iter_expressions())) == 1:
            raise FeaturesInvalid(
                f"{path}: age() of one time counts to the present day, which is another one each time",
                hint="Give it both times: age(later, earlier).",
            )
        if _OUTSIDE.fullmatch(name):
            raise FeaturesInvalid(f"{path}: {name}() reads something else than trusted tables")


def _tables(tree: exp.Expression, path: Path) -> tuple[str, ...]:
    """The trusted tables that a query names."""
    made = {cte.alias_or_name.lower() for cte in tree.find_all(exp.CTE)}
    found = []
    for table in tree.find_all(exp.Table):
        if not isinstance(table.this, exp.Identifier):
            raise FeaturesInvalid(f"{path}: {table.sql(DIALECT)} is not a table")
        if table.catalog or table.db not in ("", TRUSTED):
            raise FeaturesInvalid(f"{path}: {table.sql(DIALECT)}: features come from trusted tables only")
        if table.db or table.name.lower() not in made:
            found.append(table.name)
    return tuple(dict.fromkeys(found))
