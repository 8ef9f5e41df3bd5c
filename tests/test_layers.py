"""Data goes one way: which part may import which, and which may use which library."""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parents[1] / "src" / "smartstream"

NOUNS = {"lsn", "schema", "change", "manifest", "errors", "sql_text"}
SETTINGS = NOUNS | {"units", "yaml_file", "secret", "rule_options", "rules_config", "config", "scratch"}
STAGES = {"capture", "raw", "transform", "trusted"}

# Each part (a folder, or a file at the top) and the parts that it may import besides itself.
# A stage imports no other stage, but for BORROWED; query reads where the trusted files lie,
# and for the past the raw zone and what is pure.
MAY_IMPORT: dict[str, set[str]] = {
    **dict.fromkeys(NOUNS, NOUNS),
    "units": NOUNS,
    "yaml_file": NOUNS | {"units"},
    "config": NOUNS
    | {"units", "yaml_file", "secret", "rule_options", "rules_config", "quality", "inference"},
    "secret": NOUNS,
    "scratch": set(),
    "rule_options": NOUNS | {"secret"},
    "rules_config": NOUNS | {"secret", "rule_options", "quality"},
    "capture": SETTINGS,
    "raw": SETTINGS,
    "transform": NOUNS | {"rule_options", "rules_config", "secret", "quality"},
    "trusted": SETTINGS,
    "query": SETTINGS | STAGES | {"quality"},
    "quality": SETTINGS | STAGES | {"query"},
    "verify": SETTINGS | STAGES | {"query", "quality"},
    "inference": SETTINGS | STAGES | {"query"},
    "pipeline": SETTINGS | STAGES | {"quality", "inference"},
    "delivery": SETTINGS | STAGES | {"pipeline"},
    "doctor": SETTINGS | STAGES | {"quality", "inference"},
    "status": SETTINGS | STAGES | {"quality"},
    "testing": NOUNS,
    "demo": SETTINGS | {"pipeline", "query", "verify", "inference", "testing"},
}
# What a check is, and which rows break it: pure, and known to the settings and to the rules' one pass.
QUALITY_PLAIN = {"config", "predicates", "row_checks"}
QUERY_READS = {
    "smartstream.trusted.catalog",
    "smartstream.trusted.plan",
    "smartstream.trusted.position",
    "smartstream.capture.values",
}
# The one place that has the rules of a table under its contract; it imports nothing of query.
RULES_OF = "smartstream.quality.contracted"
# Pure functions of one stage that another uses: a lookup folds what it finds as the applier would.
BORROWED = {
    "raw/lookup.py": {
        "smartstream.capture.values",
        "smartstream.transform.fold",
        "smartstream.transform.keys",
        "smartstream.transform.rows",
    }
}

# Who may use a library.  The pipeline and status only handle connections that capture opens.
USERS: dict[str, set[str]] = {
    # aws/operate prepares a source that no pipeline of ours reads.
    "psycopg": {"capture", "verify", "quality", "doctor", "testing", "demo", "pipeline", "status"}
    | {"aws/operate"},
    "adbc_driver_postgresql": {"capture"},
    "adbc_driver_manager": {"capture"},
    "pyiceberg": {"trusted"},
    "sqlglot": {"inference/features"},
    # The stand-in for DMS speaks to Kinesis, and checks requests by botocore's model of DMS.
    "boto3": {"raw/s3_store.py", "aws", "testing/local_dms", "inference/models/sagemaker.py"},
    "botocore": {"raw/s3_store.py", "aws", "testing/local_dms", "inference/models/sagemaker.py"},
    "onnxruntime": {"inference/models"},
    "lightgbm": {"inference/models"},
    "xgboost": {"inference/models"},
    "skops": {"inference/models"},
    "mlflow": {"inference/models/worker.py"},
    "hcl2": {"aws/cost"},
    "lark": {"aws/cost"},
    "ruamel": {"yaml_file"},
    "typer": {"cli"},
    "rich": {"cli", "demo"},
}
# Types that pass through, for annotations.
TYPES_ELSEWHERE = {
    "query": {"pyiceberg.catalog", "pyiceberg.table"},
    "verify": {"pyiceberg.table", "pyiceberg.table.snapshots"},
    "inference": {"pyiceberg.table"},
}
PURE_LIBRARIES = {"pyarrow", "numpy", "duckdb"}
PURE_STANDARD_LIBRARY_NOT = {"socket", "select", "subprocess", "threading", "time", "random", "os", "urllib"}
# Pure: bytes or tables in, tables out, no clock, driver or file.
PURE = (
    "transform",
    "capture/pgoutput.py",
    "capture/tuples.py",
    "capture/values",
    "delivery/order.py",
    "delivery/records",
    "quality/threshold.py",
    "quality/predicates.py",
    "quality/row_checks.py",
    "quality/metrics.py",
    "quality/breaker.py",
    "quality/schema_contract.py",
    "inference/schedule",
    "inference/quantiles.py",
    "inference/profile.py",
    "inference/drift.py",
    "inference/drift_tables.py",
)


@cache
def _imports() -> tuple[tuple[str, int, str], ...]:
    """(file below the package, line, full name of what is imported) of every import there is."""
    found = []
    for path in sorted(PACKAGE.rglob("*.py")):
        name = path.relative_to(PACKAGE).as_posix()
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            found += [(name, node.lineno, target) for target in _targets(node)]
    return tuple(found)


def _targets(node: ast.AST) -> Iterator[str]:
    if isinstance(node, ast.Import):
        yield from (alias.name for alias in node.names)
    elif isinstance(node, ast.ImportFrom):
        assert node.level == 0, "imports are absolute"
        if node.module == "smartstream":
            yield from (f"smartstream.{alias.name}" for alias in node.names)
        elif node.module:
            yield node.module


def _part(file: str) -> str:
    """The folder, or the file at the top, that a file belongs to."""
    return file.split("/")[0].removesuffix(".py")


def _own(target: str) -> str | None:
    """The part of the package that an import is of, None for other libraries."""
    parts = target.split(".")
    return parts[1] if parts[0] == "smartstream" and len(parts) > 1 else None


def _is_in(file: str, place: str) -> bool:
    return file == place or _part(file) == place or file.startswith(f"{place}/")


def test_every_part_has_its_place() -> None:
    parts = {_part(path.relative_to(PACKAGE).as_posix()) for path in PACKAGE.rglob("*.py")}
    unknown = parts - set(MAY_IMPORT) - {"__init__", "__main__", "cli", "aws"}
    assert not unknown, f"say in MAY_IMPORT what these may import: {sorted(unknown)}"


@pytest.mark.parametrize("part", sorted(MAY_IMPORT))
def test_imports_go_one_way(part: str) -> None:
    wrong = [
        f"{file}:{line} imports {target}"
        for file, line, target in _imports()
        if _part(file) == part and (own := _own(target)) and own != part and own not in MAY_IMPORT[part]
        if target not in BORROWED.get(file, ())
    ]
    assert not wrong, "\n".join(["", *wrong])


def test_query_knows_only_where_files_lie_and_what_values_are() -> None:
    wrong = [
        f"{file}:{line} imports {target}"
        for file, line, target in _imports()
        if _part(file) == "query" and _own(target) in ("trusted", "capture") and target not in QUERY_READS
    ]
    assert not wrong, "\n".join(["", *wrong])


def test_settings_and_rules_know_only_what_a_quality_check_is() -> None:
    wrong = [
        f"{file}:{line} imports {target}"
        for file, line, target in _imports()
        if _part(file) in ("config", "rules_config", "transform")
        and _own(target) == "quality"
        and not QUALITY_PLAIN & set(target.split("."))
    ]
    assert not wrong, "\n".join(["", *wrong])


def test_query_and_status_and_verify_know_of_quality_only_what_the_rules_of_a_table_are() -> None:
    wrong = [
        f"{file}:{line} imports {target}"
        for file, line, target in _imports()
        if _part(file) in ("query", "status", "verify") and _own(target) == "quality" and target != RULES_OF
    ]
    assert not wrong, "\n".join(["", *wrong])


def test_rules_are_compiled_in_one_place() -> None:
    """Under the table's contract: so pipeline, verify, status, plan, validate and the past agree."""
    users = {path for path in PACKAGE.rglob("*.py") if "compile_rules(" in path.read_text(encoding="utf-8")}
    named = {path.relative_to(PACKAGE).as_posix() for path in users}
    assert named == {"transform/rules/compile.py", f"{RULES_OF[12:].replace('.', '/')}.py"}


@pytest.mark.parametrize("library", sorted(USERS))
def test_a_library_is_used_in_its_place_only(library: str) -> None:
    wrong = [
        f"{file}:{line} imports {target}"
        for file, line, target in _imports()
        if target.split(".")[0] == library
        and not any(_is_in(file, place) for place in USERS[library])
        and target not in TYPES_ELSEWHERE.get(_part(file), ())
    ]
    assert not wrong, "\n".join(["", *wrong])


def test_pure_parts_touch_nothing_outside() -> None:
    wrong = []
    for file, line, target in _imports():
        root = target.split(".")[0]
        if not any(_is_in(file, place) for place in PURE) or root == "smartstream":
            continue
        if root not in PURE_LIBRARIES and (
            root not in sys.stdlib_module_names or root in PURE_STANDARD_LIBRARY_NOT
        ):
            wrong.append(f"{file}:{line} imports {target}")
    assert not wrong, "\n".join(["", *wrong])
