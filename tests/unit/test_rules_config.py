"""Rules in smartstream.yaml: forms, mistakes with their lines, and several patterns for one table."""

from __future__ import annotations

import json
from datetime import date
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from smartstream.config import Settings, load, matches, rules_of
from smartstream.errors import ConfigInvalid
from smartstream.rules_config import TableRules


def settings(tables: dict[str, Any]) -> Settings:
    return Settings.model_validate({"source": {"url": "x"}, "tables": tables})


def written(folder: Path, rules: str) -> Path:
    path = folder / "smartstream.yaml"
    path.write_text(f"source: {{url: x}}\ntables:\n  public.t:\n{rules}", encoding="utf-8")
    return path


def refused(folder: Path, rules: str) -> str:
    path = written(folder, rules)
    with pytest.raises(ConfigInvalid) as caught:
        load(path)
    return str(caught.value).replace(str(path), "FILE")


def test_one_thing_stands_for_a_list_and_a_name_for_its_options() -> None:
    rules = rules_of(
        settings(
            {
                "public.t": {
                    "clean": [{"trim": "a"}, {"mask": ["a", "b"]}, {"hook": "m.n:f"}, {"null_if": {"a": 1}}],
                    "quality": [{"not_null": "a"}, {"one_of": {"column": "a", "values": True}}],
                }
            }
        ),
        "public.t",
    )
    trim, mask, hook, null_if = (rule.body for rule in rules.clean)
    assert trim == ("a",) and mask.column == ("a", "b") and hook.call == "m.n:f" and null_if == {"a": ("1",)}
    assert rules.row_rules[0].body == ("a",)
    assert rules.row_rules[1].one_of is not None and rules.row_rules[1].one_of.values == ("true",)


def test_values_keep_the_form_that_the_file_gives_them(tmp_path: Path) -> None:
    rules = "    clean:\n    - null_if: {a: [0.10, 2026-01-31, 2026-01-31 10:00:00, NO, '', 1e3]}\n"
    (rule,) = load(written(tmp_path, rules)).tables["public.t"].clean
    assert rule.body == {"a": ("0.1", "2026-01-31", "2026-01-31 10:00:00", "NO", "", "1000.0")}
    assert date.fromisoformat(rule.body["a"][1])


@pytest.mark.parametrize(
    ("rules", "line", "problem"),
    [
        ("    clean:\n    - trimm: a\n", 5, "did you mean trim?"),
        ("    clean:\n    - trim: a\n    - {}\n", 6, "expected one rule, found none"),
        ("    clean:\n    - {trim: a, lower: a}\n", 5, "expected one rule, found trim and lower"),
        ("    clean:\n    - trim: []\n", 5, "at least 1 item"),
        ("    clean:\n    - trim: a\n      onfail: drop\n", 6, "did you mean on_fail?"),
        ("    clean:\n    - required: a\n      on_fail: hide\n", 6, "'quarantine', 'drop', 'warn' or 'stop'"),
        ("    clean:\n    - replace: {colum: a, pattern: b}\n", 5, "did you mean column?"),
        ("    clean:\n    - replace: {column: a}\n", 5, "pattern is missing"),
        ("    clean:\n    - cast: {a: 5}\n", 5, "expected a valid string"),
        ("    clean:\n    - hash: {column: a}\n", 5, "key is missing"),
        ("    clean:\n    - hash: {column: a, key: '${vault:x}'}\n", 5, "not a reference that is known"),
        ("    clean:\n    - trim: ['${env:X}']\n", 5, "references like ${env:NAME} stand for secrets only"),
        ("    clean:\n    - hook: nothing\n", 5, "expected string should match pattern"),
        ("    clean:\n    - null_if: {a: [null]}\n", 5, "expected a valid string"),
        ("    clean:\n    - not_null: a\n", 5, "unknown key"),
        ("    quality:\n    - notnull: a\n", 5, "did you mean not_null?"),
        ("    quality:\n    - range: {column: a}\n", 5, "expected min, max or both"),
        ("    quality:\n    - {metric: nullValues, mustBe: 0}\n", 5, "nullValues needs a column"),
        ("    on_bad_update: keep\n", 4, "'remove', 'keep_previous_marked' or 'null_value'"),
        ("    claen: []\n", 4, "did you mean clean?"),
    ],
)
def test_a_mistake_is_blamed_on_its_line(tmp_path: Path, rules: str, line: int, problem: str) -> None:
    message = refused(tmp_path, rules)
    assert problem in message
    assert message.startswith(f"FILE:{line}: "), message
    assert "<" not in message


def test_lists_of_several_patterns_are_joined_the_general_ones_first() -> None:
    wanted = settings(
        {
            "public.orders": {"clean": [{"trim": "c"}], "quality": [{"not_null": "c"}]},
            "*.*": {"clean": [{"trim": "a"}], "on_bad_update": "null_value", "allow_code": True},
            "public.*": {"clean": [{"trim": "b"}], "quality": [{"not_null": "b"}], "allow_code": False},
            "sales.*": {"clean": [{"trim": "z"}]},
        }
    )
    rules = rules_of(wanted, "public.orders")
    assert [rule.body for rule in rules.clean] == [("a",), ("b",), ("c",)]
    assert [rule.body for rule in rules.row_rules] == [("b",), ("c",)]
    assert rules.on_bad_update == "null_value", "the only pattern that says it"
    assert rules.allow_code is False, "the most specific pattern that says it"
    assert [rule.body for rule in rules_of(wanted, "sales.x").clean] == [("a",), ("z",)]
    assert rules_of(wanted, "public.orders").clean[0].place.text == "tables.*.*.clean[0]"


def test_a_pattern_can_forget_what_more_general_ones_say() -> None:
    tables = {
        "public.*": {"clean": [{"trim": "*"}], "on_bad_update": "null_value"},
        "public.t*": {"inherit": False, "clean": [{"lower": "a"}]},
        "public.t1": {"clean": [{"upper": "a"}]},
    }
    rules = rules_of(settings(tables), "public.t1")
    assert [rule.kind for rule in rules.clean] == ["lower", "upper"]
    assert rules.on_bad_update == "remove"


def test_whether_a_table_is_wanted_is_still_for_the_most_specific_pattern_to_say() -> None:
    wanted = settings({"public.*": {"exclude": True}, "public.t": {"clean": [{"trim": "a"}]}})
    assert matches(wanted, "public.t") and not matches(wanted, "public.u")


def test_a_table_without_rules_has_none() -> None:
    assert rules_of(settings({"public.*": {}}), "public.t") == TableRules()


def test_rules_do_not_change_and_their_secrets_are_known_to_the_settings() -> None:
    wanted = settings({"public.*": {"clean": [{"tokenise": {"column": "a", "key": "canary-canary-canary"}}]}})
    assert [secret.reveal() for secret in wanted.secrets()] == ["x", "canary-canary-canary"]
    assert "canary" not in repr(wanted) + wanted.model_dump_json()
    with pytest.raises(ValueError, match="frozen"):
        wanted.tables["public.*"].clean[0].trim = ("b",)  # type: ignore[misc]


def test_editors_get_a_schema_that_takes_what_load_takes(tmp_path: Path) -> None:
    schema = Settings.model_json_schema()
    rules = {
        "clean": [
            {"trim": "a"},
            {"mask": "a", "name": "hidden"},
            {"hook": "m:f"},
            {"null_if": {"a": [1, "x"], "b": 2.5}},
            {"parse_timestamp": {"column": ["a"], "formats": "iso", "zone": "UTC"}},
        ],
        "quality": [{"range": {"column": "a", "min": 0}}, {"metric": "rowCount", "mustBeGreaterThan": 0}],
    }
    file = {"source": {"url": "x"}, "tables": {"public.t": rules}}
    jsonschema.validate(json.loads(json.dumps(file)), schema)
    Settings.model_validate(file)
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate({**file, "tables": {"public.t": {"clean": [{"trimm": "a"}]}}}, schema)
