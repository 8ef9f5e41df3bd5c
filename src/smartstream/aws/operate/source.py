"""The source behind the tunnel: how it is reached, and what is put into it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import LiteralString

import psycopg
from psycopg import sql
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from smartstream.aws.operate.calls import Aws
from smartstream.aws.operate.stack import StackOutputs
from smartstream.capture.catalog import discover
from smartstream.capture.connect import connect, map_error
from smartstream.errors import ConfigInvalid, ConfigMissing, StackMissing, TableWithoutKey
from smartstream.schema import TableSchema

SETUP, SAMPLE = "source-setup.sql", "sample-data.sql"
SAMPLE_TABLES = ("departments", "employees", "salaries")
DMS_ROLE = "dms_replication"
DMS_SCHEMA = "awsdms"

_OTHER_IDENTITIES: LiteralString = """
SELECT n.nspname || '.' || c.relname
FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
WHERE c.relkind = 'r' AND c.relpersistence = 'p' AND c.relreplident IN ('n', 'i')
  AND n.nspname <> 'information_schema' AND n.nspname !~ '^pg_' AND n.nspname <> %s
  AND EXISTS (SELECT FROM pg_catalog.pg_index i WHERE i.indrelid = c.oid AND i.indisprimary)
ORDER BY 1
"""


@dataclass(frozen=True, slots=True)
class TunnelSource:
    """The database at an address of this machine; the address may hold a password and is never shown."""

    dsn: str = field(repr=False)
    connect_timeout: float = 10.0
    silence_max: float = 60.0


@dataclass(frozen=True, slots=True)
class Seeded:
    """What the source has now: row counts of the sample tables, and whether DMS's password was set."""

    rows: dict[str, int]
    is_password_set: bool


def source_at(aws: Aws, stack: StackOutputs, url: str | None, *, as_master: bool = False) -> TunnelSource:
    """Return the way to the database.

    Args:
        url: connection URL; without one, libpq's variables (PGHOST and so on) say it.
        as_master: log in as the user whose secret RDS keeps, read from Secrets Manager.
    Raises:
        ConfigInvalid: the URL is not one.
        AwsRightMissing: the secret may not be read.
    """
    try:
        given = {name: str(value) for name, value in conninfo_to_dict(url or "").items() if value is not None}
    except psycopg.ProgrammingError:
        # Without the reason: libpq quotes the URL, password and all.
        raise ConfigInvalid(
            "--url is not a PostgreSQL connection URL",
            hint="Write it as postgresql://user@host:port/database.",
        ) from None
    if as_master:
        arn = stack.text("rds_master_secret_arn")
        secret = aws.ask("secretsmanager", "get_secret_value", arn, SecretId=arn)
        found = json.loads(secret["SecretString"])
        given |= {"user": found["username"], "password": found["password"]}
        given.setdefault("dbname", stack.text("rds_database"))
    return TunnelSource(make_conninfo("", **given))


def sql_folder(stack_folder: Path) -> Path:
    """Return the folder of the SQL files that belong to a stack's folder.

    Raises:
        StackMissing: they are not there.
    """
    folder = stack_folder.resolve().parent / "docs" / "aws"
    if not all((folder / name).is_file() for name in (SETUP, SAMPLE)):
        raise StackMissing(
            f"there is no {SETUP} in {folder}", hint="Name the stack of a checkout with --stack DIR."
        )
    return folder


def seed(source: TunnelSource, folder: Path, *, password: str | None, sample: bool = True) -> Seeded:
    """Prepare the source for DMS and fill the sample tables; what is there already stays.

    All or nothing, in one transaction.

    Args:
        folder: with both SQL files.
        password: of DMS's login, sent as its hash only; None leaves it as it is.
        sample: whether to make the sample tables and their rows.
    Raises:
        SourceError: as the server answers.
    """
    names = [SETUP, *([SAMPLE] if sample else [])]
    with closing(connect(source)) as connection:
        doing = "preparing the source"
        try:
            with connection.transaction():
                connection.execute('SET LOCAL search_path = "$user", public')
                connection.execute("SET LOCAL client_min_messages = warning")
                for name in names:
                    doing = f"running {name}"
                    connection.execute((folder / name).read_bytes())
                if password is not None:
                    doing = f"setting the password of {DMS_ROLE}"
                    _set_password(connection, password)
                rows = {table: _count(connection, table) for table in SAMPLE_TABLES} if sample else {}
        except psycopg.Error as error:
            # Without the cause: the server may quote the statement, and with it the hash.
            raise map_error(error, doing) from None
    return Seeded(rows, password is not None)


def source_tables(source: TunnelSource, names: Sequence[str] | None = None) -> tuple[TableSchema, ...]:
    """Return the source's tables with a key, but DMS's own.

    Args:
        names: ``schema.table``; all without.
    Raises:
        ConfigMissing: one of them is not there, or has no key.
    """
    with closing(connect(source)) as connection:
        wanted = None if names is None else set(names)
        found = discover(
            connection,
            lambda name: name.partition(".")[0] != DMS_SCHEMA if wanted is None else name in wanted,
        ).tables
    if wanted is not None and (missing := sorted(wanted - {one.id for one in found})):
        raise ConfigMissing(
            f"the source has no table with a key called {', '.join(missing)}",
            hint="Write it as schema.table; DMS follows tables with a primary key only.",
        )
    return tuple(found)


def check_identities(source: TunnelSource) -> None:
    """Make sure that the log has the old key of each row that gets another one.

    Raises:
        TableWithoutKey: it has not of some tables with a primary key, which DMS follows all the same:
            their old rows would stay beside the new ones, and no record tells of it.
    """
    with closing(connect(source)) as connection:
        try:
            found = connection.execute(_OTHER_IDENTITIES, (DMS_SCHEMA,)).fetchall()
        except psycopg.Error as error:
            raise map_error(error, "reading the system catalog") from error
    if found:
        names = ", ".join(str(name) for (name,) in found)
        raise TableWithoutKey(
            f"REPLICA IDENTITY is NOTHING or USING INDEX, so updates of the key are lost: {names}"
        )


def _set_password(connection: psycopg.Connection[tuple[object, ...]], password: str) -> None:
    """As psql's \\password: the server sees no more than the hash."""
    hashed = connection.pgconn.encrypt_password(password.encode(), DMS_ROLE.encode(), b"scram-sha-256")
    statement = sql.SQL("ALTER ROLE {} PASSWORD {}")
    connection.execute(statement.format(sql.Identifier(DMS_ROLE), sql.Literal(hashed.decode())))


def _count(connection: psycopg.Connection[tuple[object, ...]], table: str) -> int:
    """Rows of a sample table."""
    statement = sql.SQL("SELECT count(*) FROM {}").format(sql.Identifier("public", table))
    row = connection.execute(statement).fetchone()
    assert row is not None
    return int(str(row[0]))
