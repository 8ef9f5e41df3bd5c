"""Query: SQL over the lake sees the live rows, and can do nothing but read."""

from __future__ import annotations

import io
import json
import os
import threading
import time
from pathlib import Path

import boto3
import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from moto.server import ThreadedMotoServer
from pyiceberg.table import Table
from pyiceberg.types import LongType

from smartstream.config import Settings
from smartstream.errors import QueryError
from smartstream.query import OUTPUTS, open_lake, run_sql
from smartstream.query.relation import relation
from smartstream.query.statement import tables
from smartstream.trusted.catalog import open_catalog
from smartstream.trusted.plan import plan
from tests.integration.lake_setup import delete_rows, settings_of

URL = "postgresql://nobody@127.0.0.1:1/none"


@pytest.fixture
def settings(request: pytest.FixtureRequest, tmp_path: Path) -> Settings:
    """A lake in a folder with a plain name, or in the one that a test asks for."""
    return settings_of(URL, tmp_path / getattr(request, "param", "lake"))


# The second has every sign that DuckDB could misread.
in_odd_folders_too = pytest.mark.parametrize("settings", ["lake", "la[k]e * 'x'"], indirect=True)


def make(settings: Settings, name: str, *parts: pa.Table, namespace: str = "trusted") -> Table:
    """An Iceberg table with a data file for each part."""
    table = open_catalog(settings.lake).create_table((namespace, name), parts[0].schema)
    for part in parts:
        table.append(part)
    return table


def people(ids: range) -> pa.Table:
    """Rows (id, name)."""
    names = [f"name {i}" for i in ids]
    return pa.table({"id": pa.array(ids, pa.int32()), "name": pa.array(names, pa.string())})


def sql(settings: Settings, text: str, output: str = "json") -> bytes:
    """Run one statement on a fresh connection."""
    with open_lake(settings) as lake:
        return b"".join(run_sql(lake, text, output=output))


def rows(settings: Settings, text: str) -> list[dict[str, object]]:
    """The rows of a statement."""
    found: list[dict[str, object]] = json.loads(sql(settings, text))
    return found


@in_odd_folders_too
def test_every_zone_is_a_schema_and_trusted_tables_need_none(settings: Settings) -> None:
    make(settings, "people", people(range(3)))
    make(settings, "scores", people(range(2)), namespace="analytics")
    with open_lake(settings) as lake:
        assert tables(lake) == ["analytics.scores", "people", "trusted.people"]
    for name in ("people", "trusted.people", "main.people"):
        assert rows(settings, f"SELECT count(*) AS n FROM {name}") == [{"n": 3}]
    assert rows(settings, "FROM analytics.scores SELECT max(id) AS top") == [{"top": 1}]


def test_a_table_without_rows_has_its_columns(settings: Settings) -> None:
    open_catalog(settings.lake).create_table("trusted.empty", people(range(0)).schema)
    assert rows(settings, "SELECT * FROM empty") == []
    assert [row["column_name"] for row in rows(settings, "DESCRIBE empty")] == ["id", "name"]


@in_odd_folders_too
def test_deleted_positions_are_not_seen(settings: Settings) -> None:
    table = make(settings, "people", people(range(10)), people(range(10, 20)), people(range(20, 30)))
    files = sorted(table.inspect.files()["file_path"].to_pylist())
    first, second = files[0], files[1]
    gone = {first: [0, 9], second: [5]}
    expected = set(range(30)) - _ids_at(gone)
    delete_rows(table, gone)
    found = {row["id"] for row in rows(settings, "SELECT id FROM people")}
    assert found == expected
    assert rows(settings, "SELECT count(*) AS n FROM people") == [{"n": 27}]


def test_renamed_added_dropped_and_widened_columns_are_read_by_field_id(settings: Settings) -> None:
    table = make(settings, "people", people(range(2)))
    with table.update_schema() as update:
        update.rename_column("name", "label")
        update.update_column("id", LongType())
    with table.update_schema() as update:
        update.add_column("name", LongType())
    new = pa.table({"id": pa.array([1 << 40]), "label": ["new"], "name": pa.array([7])})
    table.append(new.select([field.name for field in table.schema().fields]))
    assert rows(settings, "SELECT id, label, name FROM people ORDER BY id") == [
        {"id": 0, "label": "name 0", "name": None},
        {"id": 1, "label": "name 1", "name": None},
        {"id": 1 << 40, "label": "new", "name": 7},
    ]
    with table.update_schema() as update:
        update.delete_column("label")
    assert rows(settings, "SELECT * FROM people WHERE name IS NOT NULL") == [{"id": 1 << 40, "name": 7}]


def test_an_older_snapshot_is_planned_with_its_own_columns(settings: Settings) -> None:
    table = make(settings, "people", people(range(2)))
    before = table.current_snapshot()
    with table.update_schema() as update:
        update.rename_column("name", "label")
    table.append(people(range(2, 4)).rename_columns(["id", "label"]))
    old, new = plan(table, before), plan(table)
    assert [column.name for column in old.columns] == ["id", "name"]
    assert [column.name for column in new.columns] == ["id", "label"]
    assert (len(old.data_files), len(new.data_files)) == (1, 2)
    assert duckdb.sql(f"SELECT count(*) FROM ({relation(old)})").fetchall() == [(2,)]


def test_odd_column_names_do_not_clash_with_ours(settings: Settings) -> None:
    names = ["filename", "file_row_number", "f1", "pos", 'q"uo', "it's", "select"]
    table = make(settings, "odd", pa.table({name: [n] for n, name in enumerate(names)}))
    table.append(pa.table({name: [n + 10] for n, name in enumerate(names)}))
    delete_rows(table, {sorted(table.inspect.files()["file_path"].to_pylist())[0]: [0]})
    (row,) = rows(settings, "FROM odd")
    assert list(row) == names
    assert len({int(str(value)) - n for n, value in enumerate(row.values())}) == 1


@pytest.mark.parametrize(
    "statement",
    [
        "DROP VIEW people",
        "CREATE TABLE x AS SELECT 1",
        "INSERT INTO people VALUES (1)",
        "UPDATE people SET id = 1",
        "DELETE FROM people",
        "COPY people TO '{0}/out.csv'",
        "WITH x AS (COPY (SELECT 1) TO '{0}/out.csv') SELECT * FROM x",
        "EXPLAIN ANALYZE COPY (SELECT 1) TO '{0}/out.csv'",
        "/* a */ -- b\n EXPLAIN ANALYZE COPY (SELECT 1) TO '{0}/out.csv'",
        "EXPLAIN (FORMAT json) COPY (SELECT 1) TO '{0}/out.csv'",
        "EXPLAIN ANALYZE WITH x AS (COPY (SELECT 1) TO '{0}/out.csv') SELECT * FROM x",
        "SET threads = 1",
        "SET enable_external_access = true",
        "ATTACH '{0}/catalog.db' AS c",
        "INSTALL httpfs",
        "LOAD httpfs",
        "PRAGMA enable_profiling",
        "CALL pragma_version()",
        "EXPORT DATABASE '{0}'",
        "SELECT 1; SELECT 2",
        "BEGIN",
        "",
    ],
)
def test_only_one_statement_that_reads_is_run(settings: Settings, statement: str) -> None:
    make(settings, "people", people(range(3)))
    before = _files(Path(settings.lake.warehouse))
    with pytest.raises(QueryError):
        sql(settings, statement.format(settings.lake.warehouse.replace("'", "''")))
    assert _files(Path(settings.lake.warehouse)) == before


@pytest.mark.parametrize(
    "statement",
    [
        "SELECT * FROM read_text('/etc/passwd')",
        "SELECT * FROM '/etc/passwd'",
        "SELECT * FROM glob('/*')",
        "SELECT * FROM read_text('{0}/../secret')",
        "SELECT * FROM read_csv('https://example.org/x.csv')",
        "SELECT * FROM settings",
        "SELECT getenv('HOME')",
    ],
)
@in_odd_folders_too
def test_nothing_outside_the_warehouse_can_be_read(settings: Settings, statement: str) -> None:
    make(settings, "people", people(range(3)))
    (Path(settings.lake.warehouse).parent / "secret").write_text("secret")
    with pytest.raises(QueryError):
        sql(settings, statement.format(settings.lake.warehouse.replace("'", "''")))


@pytest.mark.parametrize(
    "statement",
    [
        "SELECT 1",
        "WITH x AS (SELECT 1) SELECT * FROM x",
        "FROM people",
        "VALUES (1)",
        "DESCRIBE people",
        "SHOW TABLES",
        "SUMMARIZE people",
        "EXPLAIN SELECT 1",
        "EXPLAIN ANALYZE SELECT count(*) FROM people",
        "-- a comment\nSELECT 1 -- another\n;",
    ],
)
def test_statements_that_read_are_run(settings: Settings, statement: str) -> None:
    make(settings, "people", people(range(3)))
    with open_lake(settings) as lake:
        for output in OUTPUTS:
            assert b"".join(run_sql(lake, statement, output=output))


def test_a_wrong_table_name_gets_a_guess(settings: Settings) -> None:
    make(settings, "employees", people(range(3)))
    with pytest.raises(QueryError) as caught:
        sql(settings, "SELECT * FROM employes")
    assert "Did you mean employees?" in caught.value.hint


def test_an_error_says_where(settings: Settings) -> None:
    make(settings, "people", people(range(3)))
    with pytest.raises(QueryError, match=r"nme(.|\n)*name"):
        sql(settings, "SELECT nme FROM people")
    with pytest.raises(QueryError, match="syntax error"):
        sql(settings, "SELEC 1")
    with pytest.raises(QueryError, match="unknown output"):
        sql(settings, "SELECT 1", "xml")


def test_a_statement_is_stopped_when_its_time_is_over(settings: Settings) -> None:
    endless = "SELECT sum(a.range * b.range) FROM range(10000000) a, range(1000000) b"
    start = time.monotonic()
    with open_lake(settings) as lake, pytest.raises(QueryError, match=r"stopped after 0\.3 s"):
        b"".join(run_sql(lake, endless, timeout=0.3))
    assert time.monotonic() - start < 5
    with open_lake(settings) as lake, pytest.raises(QueryError, match=r"stopped after 0\.3 s"):
        for _ in run_sql(lake, "SELECT range FROM range(1000000000)", output="csv", timeout=0.3):
            pass


def test_a_result_that_is_not_read_to_its_end_holds_up_nobody(settings: Settings) -> None:
    make(settings, "people", people(range(3)))
    with open_lake(settings) as lake:
        pieces = run_sql(lake, "SELECT range FROM range(10000000)", output="csv", timeout=60)
        next(pieces)
        assert b"3" in b"".join(run_sql(lake, "SELECT count(*) FROM people", output="csv"))
        pieces.close()
    assert not [t for t in threading.enumerate() if isinstance(t, threading.Timer) and t.is_alive()]


def test_outputs_keep_every_value(settings: Settings) -> None:
    query = (
        "SELECT NULL AS none, '' AS empty, 'a,\"b\nc' AS text,"
        " 12345678901234567890.123456789012345678::DECIMAL(38,18) AS exact,"
        " 'NaN'::DOUBLE AS nan, '-Infinity'::FLOAT AS low, [1, NULL] AS list, 9223372036854775807 AS big,"
        " TIMESTAMPTZ '2024-01-01 02:00:00+02' AS at, 'NaN, Infinity' AS words"
    )
    assert sql(settings, query, "csv").decode() == (
        "none,empty,text,exact,nan,low,list,big,at,words\n"
        ',"","a,""b\nc",12345678901234567890.123456789012345678,nan,-inf,"[1, NULL]",9223372036854775807,'
        '2024-01-01 00:00:00+00,"NaN, Infinity"\n'
    )
    text = sql(settings, query, "json").decode()
    assert "12345678901234567890.123456789012345678" in text
    (row,) = json.loads(text)
    assert (row["none"], row["empty"], row["list"]) == (None, "", [1, None])
    assert (row["nan"], row["low"], row["words"]) == ("NaN", "-Infinity", "NaN, Infinity")
    assert 'NULL │       │ a,"b\\nc │' in sql(settings, query, "table").decode()
    assert sql(settings, "SELECT 1 AS a, 2 AS a", "csv") == b"a,a\n1,2\n"
    assert json.loads(sql(settings, "SELECT 1 AS a WHERE false")) == []


def test_parquet_output_is_a_whole_file_however_large(settings: Settings) -> None:
    data = sql(settings, "SELECT range AS a, range AS a FROM range(300000)", "parquet")
    table = pq.read_table(io.BytesIO(data))
    assert (table.num_rows, table.column_names) == (300_000, ["a", "a_1"])
    assert table["a"][299_999].as_py() + 1 == 300_000


def test_the_table_for_people_is_cut_and_says_so(settings: Settings) -> None:
    lines = sql(settings, "SELECT range FROM range(5000)", "table").decode().splitlines()
    assert len(lines) == 1003
    assert "first 1000 rows" in lines[-1]


def test_memory_is_limited_and_spilling_leaves_nothing_behind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "temp"))
    (tmp_path / "temp").mkdir()
    settings = settings_of(URL, tmp_path, duckdb_memory="64MiB")
    query = "SELECT count(*) AS n FROM (SELECT range, hash(range) h FROM range(8000000) ORDER BY h)"
    sorted_ = (
        "SELECT sum(n) AS n FROM (SELECT row_number() OVER (ORDER BY hash(range)) n FROM range(8000000))"
    )
    assert rows(settings, query) == [{"n": 8_000_000}]
    with open_lake(settings) as lake:
        assert json.loads(b"".join(run_sql(lake, sorted_, output="json"))) == [
            {"n": 8_000_000 * 8_000_001 // 2}
        ]
    assert list((tmp_path / "temp").iterdir()) == []


def test_a_lake_in_s3_is_read_and_nothing_beside_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "key")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0)
    server.start()
    try:
        endpoint = "http://{}:{}".format(*server.get_host_and_port())
        boto3.client("s3", endpoint_url=endpoint, region_name="us-east-1").create_bucket(Bucket="bucket")
        settings = Settings.model_validate(
            {
                "source": {"url": URL},
                "lake": {
                    "warehouse": "s3://bucket/the lake",
                    "catalog": {"uri": f"sqlite:///{tmp_path}/catalog.db"},
                    "s3": {"endpoint": endpoint, "region": "us-east-1"},
                },
            }
        )
        table = make(settings, "people", people(range(10)), people(range(10, 20)))
        delete_rows(table, {table.inspect.files()["file_path"][0].as_py(): [0, 1]})
        assert rows(settings, "SELECT count(*) AS n, count(DISTINCT name) AS names FROM people") == [
            {"n": 18, "names": 18}
        ]
        with pytest.raises(QueryError, match="disabled"):
            sql(settings, "SELECT * FROM read_text('s3://bucket/other/x')")
    finally:
        server.stop()


def test_thousands_of_files_are_planned_and_read_quickly(tmp_path: Path) -> None:
    """A SQL text of several 100 KB: planning the view must not show."""
    folder = tmp_path / ("d" * 100)
    folder.mkdir()
    schema = pa.schema([pa.field("id", pa.int64(), metadata={"PARQUET:field_id": "1"})])
    pq.write_table(pa.table([[1, 2]], schema=schema), folder / "0.parquet")
    for number in range(1, 2000):
        os.link(folder / "0.parquet", folder / f"{number}.parquet")
    table = make(settings_of(URL, tmp_path), "t", pa.table({"id": [1]}))
    one = plan(table)
    files = tuple(f"file://{folder}/{number}.parquet" for number in range(2000))
    many = type(one)(one.table, 1, files, (), (), one.columns)
    with duckdb.connect() as connection:
        start = time.monotonic()
        connection.execute(f"CREATE VIEW t AS {relation(many)}")
        assert connection.execute("SELECT count(*), sum(id) FROM t").fetchall() == [(4000, 6000)]
        assert time.monotonic() - start < 3


def _ids_at(gone: dict[str, list[int]]) -> set[int]:
    """The ids of rows at positions, read before they are deleted."""
    found: set[int] = set()
    for path, positions in gone.items():
        ids = pq.read_table(path.removeprefix("file://"), partitioning=None)["id"].to_pylist()
        found |= {ids[position] for position in positions}
    return found


def _files(folder: Path) -> set[Path]:
    """Every file below a folder, but those of SQLite's journal."""
    return {path for path in folder.rglob("*") if path.is_file() and "-journal" not in path.name}
