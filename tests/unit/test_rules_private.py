"""The rules hash and tokenise: keyed, the same everywhere, and without a way back."""

from __future__ import annotations

import base64
import hmac
import json
from collections.abc import Callable
from datetime import date
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from smartstream.config import load, rules_of
from smartstream.errors import ConfigInvalid, ConfigMissing
from smartstream.transform.rules import Verdict, compile_rules
from tests.rule_setting import batch, compiled, run, table

KEY = "a key of 16 bytes or more"


def hashed(text: str, version: int = 1, key: str = KEY) -> str:
    """The value as the standard library makes it."""
    return f"h{version}:{hmac.new(key.encode(), text.encode(), 'sha256').hexdigest()}"


def token(text: str, version: int = 1) -> str:
    digest = hmac.new(KEY.encode(), text.encode(), "sha256").digest()
    return f"tok{version}_{base64.b32encode(digest[:15]).decode().lower()}"


@pytest.mark.parametrize(("rule", "made"), [("hash", hashed), ("tokenise", token)])
def test_values_become_hmacs_of_their_texts(rule: str, made: Callable[[str], str]) -> None:
    texts = ["ann@example.com", "", "žluť 😀", "ann@example.com", None, "x" * 10_000]
    rules = compiled({"x": "text"}, clean=[{rule: {"column": "x", "key": KEY}}])
    result = run(rules, [{"x": text} for text in texts])
    assert result.column("x") == [None if text is None else made(text) for text in texts]


@pytest.mark.parametrize("key", ["k" * 16, "k" * 64, "k" * 65, "ž" * 100])
def test_keys_of_any_length_are_those_of_hmac(key: str) -> None:
    rules = compiled({"x": "text"}, clean=[{"hash": {"column": "x", "key": key, "version": 7}}])
    assert run(rules, [{"x": "a"}]).column("x") == [hashed("a", 7, key)]


@pytest.mark.parametrize(
    ("kind", "value", "text"),
    [
        ("integer", 5, "5"),
        ("numeric(10,2)", Decimal("1.50"), "1.50"),
        ("boolean", True, "true"),
        ("date", date(2026, 1, 2), "2026-01-02"),
        ("double precision", 1.0, "1"),
        ("bytea", b"\x01", "\\x01"),
        ("uuid", "a0ee", "a0ee"),
    ],
)
def test_other_types_are_hashed_as_postgresql_prints_them(kind: str, value: Any, text: str) -> None:
    rules = compiled({"x": kind}, clean=[{"hash": {"column": "x", "key": KEY}}])
    assert run(rules, [{"x": value}]).column("x") == [hashed(text)]


def test_a_flagged_value_is_held_instead_of_hashed_as_null() -> None:
    rules = compiled({"x": "date"}, clean=[{"tokenise": {"column": "x", "key": KEY}}])
    result = run(rules, [{"_flags": {"x": "infinity"}}, {}])
    assert result.verdicts == [Verdict.QUARANTINE, Verdict.GOOD]
    assert result.column("x") == [None, None]


def test_what_comes_before_and_after_acts_on_text_and_digest() -> None:
    clean = [
        {"lower": "x"},
        {"hash": {"column": "x", "key": KEY}},
        {"compute": {"column": "short", "sql": "left(x, 6)"}},
    ]
    rules = compiled({"x": "text"}, clean=clean)
    assert run(rules, [{"x": "A"}]).rows[0]["short"] == hashed("a")[:6]
    assert rules.sql.count("WITH s0") == 1, "kernels first, then one statement"


def write(folder: Path, key: str) -> Path:
    path = folder / "smartstream.yaml"
    rule = f"{{hash: {{column: x, key: '{key}'}}}}"
    path.write_text(f"source: {{url: x}}\ntables:\n  public.t:\n    clean:\n    - {rule}\n")
    return path


def test_the_key_is_read_with_the_first_batch_and_never_shown(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = load(write(tmp_path, "${env:RULES_KEY}"))
    schema = table({"x": "text"})
    rules = compile_rules(schema, rules_of(settings, "public.t"))
    assert rules is not None
    with pytest.raises(ConfigMissing, match=r"smartstream.yaml:5: .*RULES_KEY is not set"):
        rules.apply(batch(schema, [{"x": "a"}]))
    monkeypatch.setenv("RULES_KEY", KEY)
    assert rules.apply(batch(schema, [{"x": "a"}])).rows["x"].to_pylist() == [hashed("a")]
    for text in (
        repr(rules),
        rules.sql,
        rules.version,
        repr(settings),
        json.dumps(settings.model_dump(mode="json")),
    ):
        assert KEY not in text
    assert [secret.reveal() for secret in settings.secrets() if secret.is_reference] == [KEY]


def test_a_short_key_is_refused_at_its_line(tmp_path: Path) -> None:
    (tmp_path / "key").write_text("short\n")
    settings = load(write(tmp_path, "${file:key}"))
    rules = compile_rules(table({"x": "text"}), rules_of(settings, "public.t"))
    assert rules is not None
    with pytest.raises(ConfigInvalid, match=r"smartstream.yaml:5: the key is shorter than 16 bytes"):
        rules.prepare()


def test_the_version_of_the_rules_follows_the_reference_not_the_key(monkeypatch: pytest.MonkeyPatch) -> None:
    def version(**options: Any) -> str:
        return compiled({"x": "text"}, clean=[{"hash": {"column": "x", **options}}]).version

    monkeypatch.setenv("RULES_KEY", KEY)
    first = version(key="${env:RULES_KEY}")
    monkeypatch.setenv("RULES_KEY", KEY + "!")
    assert version(key="${env:RULES_KEY}") == first
    assert version(key="${env:OTHER_KEY}") != first
    assert version(key="${env:RULES_KEY}", version=2) != first
