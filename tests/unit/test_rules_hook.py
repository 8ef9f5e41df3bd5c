"""The rule hook: a Python function, allowed, checked, and held to its word."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest

from smartstream.config import load, rules_of
from smartstream.errors import HookFailed, RuleInvalid
from smartstream.transform.rules import CompiledRules, Verdict, compile_rules
from smartstream.transform.rules.hooks import HOOK_FAILURES_MAX
from tests.rule_setting import batch, run, table

MODULE = """
import pyarrow as pa
import pyarrow.compute as pc

CALLS = []

def double(rows):
    CALLS.append(rows.num_rows)
    doubled = pc.multiply(rows["n"], pa.scalar(2, pa.int32()))
    return rows.set_column(rows.column_names.index("n"), "n", doubled)

def add(rows):
    return rows.append_column("label", pc.cast(rows["n"], pa.string()))

def refuses_seven(rows):
    CALLS.append(rows.num_rows)
    if 7 in rows["n"].to_pylist():
        raise ValueError("a secret value: 7")
    return rows

def raises(rows):
    raise KeyError("nothing")

def raises_with_rows(rows):
    if rows.num_rows:
        raise KeyError("a secret value")
    return rows

def shortens(rows):
    return rows.slice(0, 1)

def gives_none(rows):
    return None

def retypes(rows):
    return rows.set_column(1, "n", rows["n"].cast(pa.int64()))

def drops(rows):
    return rows.drop_columns(["n"])

def shuffles(rows):
    return rows.take(pa.array(range(rows.num_rows - 1, -1, -1), pa.int64()))

NUMBER = 1
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with smartstream.yaml's hooks in it."""
    name = f"hooks_{tmp_path.name.replace('-', '_')}"
    (tmp_path / f"{name}.py").write_text(MODULE)
    monkeypatch.setattr(sys, "path", list(sys.path))
    yield tmp_path / name
    sys.modules.pop(name, None)


def compiled(folder: Path, hook: Any, *, allow: bool = True) -> CompiledRules:
    """Rules of a table (id, n integer, d date, s text) with one hook, read from a file."""
    rule = (
        {"call": f"{folder.name}:{hook}"}
        if isinstance(hook, str)
        else {**hook, "call": f"{folder.name}:{hook['call']}"}
    )
    path = folder.parent / "smartstream.yaml"
    path.write_text(
        f"source: {{url: x}}\ntables:\n  public.t:\n    allow_code: {str(allow).lower()}\n"
        f"    clean:\n    - hook: {rule}\n"
    )
    schema = table({"n": "integer", "d": "date", "s": "text"})
    rules = compile_rules(schema, rules_of(load(path), "public.t"))
    assert rules is not None
    return rules


def calls(folder: Path) -> list[int]:
    return sys.modules[folder.name].CALLS


def test_a_hook_changes_the_columns_that_it_gets(folder: Path) -> None:
    result = run(compiled(folder, {"call": "double", "column": "n"}), [{"n": 1, "s": "a"}, {"n": None}])
    assert result.column("n") == [2, None]
    assert result.column("s") == ["a", None]
    assert calls(folder) == [0, 2], "once without rows when compiled, once with the batch"


def test_a_hook_adds_columns_that_it_announces(folder: Path) -> None:
    rules = compiled(folder, {"call": "add", "returns": {"label": "text"}})
    assert [column.name for column in rules.output] == ["id", "n", "d", "s", "label"]
    assert run(rules, [{"n": 5}]).column("label") == ["5"]
    assert not rules.carries("n") and not rules.carries("s")


def test_code_runs_only_where_it_is_allowed(folder: Path) -> None:
    with pytest.raises(RuleInvalid, match=r"smartstream.yaml:6: public.t: hook: say allow_code: true"):
        compiled(folder, "double", allow=False)
    assert folder.name not in sys.modules


@pytest.mark.parametrize(
    ("hook", "problem"),
    [
        ("missing", "has no function missing"),
        ("NUMBER", "has no function NUMBER"),
        ("raises", "raises KeyError for a table without rows"),
        ("gives_none", "gives NoneType, not a pyarrow.Table"),
        ("retypes", "gives n as int64 instead of int32"),
        ("drops", "lacks n"),
        ("add", "has label too much"),
        ({"call": "double", "returns": {"m": "text"}}, "lacks m"),
        ({"call": "double", "returns": {"n": "text"}}, "gives n as int32 instead of string"),
        ({"call": "double", "returns": {"n": "texts"}}, "there is no type texts"),
        ({"call": "double", "returns": {"id": "text"}}, "id is a key column"),
        ({"call": "double", "returns": {"_lsn": "text"}}, "reserved"),
        ({"call": "double", "column": "m"}, "no column m"),
    ],
)
def test_a_hook_that_is_not_what_it_says_is_refused_at_its_line(
    folder: Path, hook: Any, problem: str
) -> None:
    with pytest.raises(RuleInvalid, match=problem) as caught:
        compiled(folder, hook)
    assert "smartstream.yaml:6: public.t: hook: " in str(caught.value)


def test_a_module_that_is_not_there_is_refused(folder: Path) -> None:
    (folder.parent / f"{folder.name}.py").write_text("import nothing_of_that_name\n")
    with pytest.raises(RuleInvalid, match="can't be imported: ModuleNotFoundError"):
        compiled(folder, "double")


@pytest.mark.parametrize(
    ("hook", "problem"),
    [("shortens", "gives 1 rows for 3"), ("shuffles", "changes id, a key column, or the order of rows")],
)
def test_a_hook_that_breaks_its_word_later_stops(folder: Path, hook: str, problem: str) -> None:
    with pytest.raises(HookFailed, match=problem):
        run(compiled(folder, hook), [{"n": number} for number in range(3)])


def test_rows_for_which_a_hook_raises_are_held_and_only_they(folder: Path) -> None:
    rules = compiled(folder, "refuses_seven")
    rows = [{"n": 7 if number in (0, 13, 14, 99) else number % 7} for number in range(100)]
    whole = run(rules, rows)
    bad = [number for number, verdict in enumerate(whole.verdicts) if verdict is not Verdict.GOOD]
    assert bad == [0, 13, 14, 99]
    assert whole.reasons[13] == "the hook raises an error for this row"
    assert whole.bad_columns[13] is None
    single = [run(rules, [{"id": number + 1, **row}]).verdicts[0] for number, row in enumerate(rows)]
    assert single == whole.verdicts


def test_a_hook_that_always_raises_stops_without_quoting_rows(folder: Path) -> None:
    rules = compiled(folder, "raises_with_rows")
    with pytest.raises(HookFailed) as caught:
        run(rules, [{"n": 1}] * (HOOK_FAILURES_MAX + 1))
    assert "KeyError" in str(caught.value) and "secret" not in str(caught.value)
    assert caught.value.__cause__ is None and caught.value.__suppress_context__


def test_a_flagged_value_that_a_hook_would_take_for_null_is_held(folder: Path) -> None:
    rows = [{"n": 1, "_flags": {"d": "infinity"}}, {"n": 2}]
    result = run(compiled(folder, "double"), rows)
    assert result.verdicts == [Verdict.QUARANTINE, Verdict.GOOD]
    result = run(compiled(folder, {"call": "double", "column": "n"}), rows)
    assert result.verdicts == [Verdict.GOOD, Verdict.GOOD]
    assert result.column("_untyped") == ['{"d": "infinity"}', None]


def test_no_rows_do_not_bother_a_hook(folder: Path) -> None:
    rules = compiled(folder, "double")
    rules.apply(batch(rules.schema, []))
    assert calls(folder) == [0]


def test_changed_code_changes_the_version_of_the_rules(folder: Path) -> None:
    before = compiled(folder, "double").version
    assert compiled(folder, "double").version == before
    path = folder.parent / f"{folder.name}.py"
    path.write_text(MODULE + "\n# changed\n")
    assert compiled(folder, "double").version == before, "the code that runs is still the old one"
    del sys.modules[folder.name]
    assert compiled(folder, "double").version != before
