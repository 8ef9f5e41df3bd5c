"""The configuration: what is wrong is blamed on its line; secrets stay secret."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from smartstream.config import Settings, load, matches
from smartstream.errors import ConfigInvalid, ConfigMissing

MINIMAL = "source: {url: 'postgresql://u:hidden@h/d'}\n"


def write(folder: Path, text: str) -> Path:
    path = folder / "smartstream.yaml"
    path.write_text(text, encoding="utf-8")
    return path


def refused(folder: Path, text: str) -> str:
    """The message for a file that is refused, without its folder."""
    path = write(folder, text)
    with pytest.raises(ConfigInvalid) as caught:
        load(path)
    return str(caught.value).replace(str(path), "FILE")


def settings(**more: Any) -> Settings:
    return Settings.model_validate({"source": {"url": "postgresql://u@h/d"}, **more})


def test_a_url_is_all_that_is_needed(tmp_path: Path) -> None:
    loaded = load(write(tmp_path, MINIMAL))
    assert loaded.source.dsn == "postgresql://u:hidden@h/d"
    assert loaded.source.slot.name == loaded.source.publication == "smartstream"
    assert loaded.lake.warehouse == str(tmp_path / "lake")
    assert loaded.path == tmp_path / "smartstream.yaml"
    assert matches(loaded, "public.orders")
    assert not matches(loaded, "sales.orders")


def test_an_unknown_key_is_blamed_on_its_line_with_a_suggestion(tmp_path: Path) -> None:
    text = MINIMAL + "lake:\n  warehouse: ./x\n  catalogue: {}\n"
    assert refused(tmp_path, text) == "FILE:4: unknown key lake.catalogue; did you mean catalog?"


def test_a_key_in_the_wrong_place_is_shown_its_place(tmp_path: Path) -> None:
    assert refused(tmp_path, MINIMAL + "warehouse: ./x\n").endswith("did you mean lake.warehouse?")


def test_an_unknown_key_like_no_other_lists_the_known_ones(tmp_path: Path) -> None:
    assert refused(tmp_path, MINIMAL + "lake: {zzz: 1}\n").endswith("known here: warehouse, catalog, s3")


def test_an_unknown_key_of_a_table_is_found_too(tmp_path: Path) -> None:
    message = refused(tmp_path, MINIMAL + "tables:\n  public.a:\n    exlude: true\n")
    assert message == "FILE:4: unknown key tables.public.a.exlude; did you mean exclude?"


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("version: 2", "version: expected 1"),
        ("limits: {threads: many}", "limits.threads: expected a valid integer"),
        ("limits: {threads: 0}", "limits.threads: expected greater than or equal to 1"),
        ("limits: {memory_bytes: 5 gigs}", "limits.memory_bytes: expected a size like"),
        ("limits: {memory_bytes: -1MiB}", "limits.memory_bytes: expected a size like"),
        ("limits: {memory_bytes: true}", "limits.memory_bytes: expected a size like"),
        ("maintenance: {every: soon}", "maintenance.every: expected a duration like"),
        ("maintenance: {every: .inf}", "maintenance.every: expected a duration like"),
        ("maintenance: {grace: 5}\nlake: [1]", "lake: expected"),
        ("lake: {warehouse: 'gs://bucket'}", "lake.warehouse: expected a folder or s3://"),
        ("lake: {warehouse: '${env:X}'}", "references like ${env:NAME} stand for secrets only"),
        ("lake: {s3: {region: 3}}", "lake.s3.region: expected a valid string"),
        ("lake: {s3: {access_key_id: '${aws:x}'}}", "not a reference that is known"),
        ("tables: {orders: {}}", "did you mean 'public.orders'?"),
        ("tables: {}", "tables: "),
        ("name: 'a b'", "name: expected"),
    ],
)
def test_a_wrong_value_is_blamed_on_its_line(tmp_path: Path, line: str, says: str) -> None:
    message = refused(tmp_path, MINIMAL + line + "\n")
    assert message.startswith("FILE:")
    assert int(message.split(":")[1]) >= 2
    assert says in message


def test_all_mistakes_are_told_at_once_in_the_order_of_the_file(tmp_path: Path) -> None:
    message = refused(tmp_path, "naem: x\nsource: {url: a, slot: {name: NO}}\nlimits: {threads: x}\n")
    assert [line.split(": ")[0] for line in message.splitlines()] == ["FILE:1", "FILE:2", "FILE:3"]


@pytest.mark.parametrize("text", ["", "- a\n", "a: [\n", "a: 1\na: 2\n", "\tx", "just text", "? [a]\n: 1\n"])
def test_what_is_not_a_mapping_is_refused_with_a_line(tmp_path: Path, text: str) -> None:
    assert refused(tmp_path, text).startswith("FILE:")


def test_bytes_that_are_no_text_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "smartstream.yaml"
    path.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ConfigInvalid, match="not UTF-8"):
        load(path)


def test_a_missing_file_says_how_to_make_one(tmp_path: Path) -> None:
    with pytest.raises(ConfigMissing) as caught:
        load(tmp_path / "smartstream.yaml")
    assert "smartstream init" in caught.value.hint


def test_a_folder_in_place_of_the_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigInvalid, match="-C"):
        load(tmp_path)


def test_secrets_come_from_the_environment_when_they_are_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    loaded = load(write(tmp_path, "source:\n  url: 'postgresql://u:${env:SS_PW}@h/d'\n"))
    monkeypatch.setenv("SS_PW", "first")
    assert loaded.source.dsn == "postgresql://u:first@h/d"
    monkeypatch.setenv("SS_PW", "second")
    assert loaded.source.dsn == "postgresql://u:second@h/d"


def test_secrets_come_from_files_beside_the_configuration(tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("postgresql://u@h/d\n")
    assert load(write(tmp_path, "source: {url: '${file:secret}'}\n")).source.dsn == "postgresql://u@h/d"


@pytest.mark.parametrize(
    "reference", ["${env:SS_NOT_SET}", "${file:nothing/here}", "${file:.}", "${file:empty}"]
)
def test_a_reference_that_leads_nowhere_is_blamed_on_its_line(tmp_path: Path, reference: str) -> None:
    (tmp_path / "empty").write_text("\n")
    loaded = load(write(tmp_path, f"name: x\nsource:\n  url: '{reference}'\n"))
    with pytest.raises(ConfigMissing) as caught:
        loaded.source.url.reveal()
    assert str(caught.value).startswith(f"{tmp_path / 'smartstream.yaml'}:3: ")


def test_secrets_are_never_shown() -> None:
    shown = settings(
        source={"url": "postgresql://u:canary@h/d"},
        lake={
            "catalog": {"uri": "canary", "properties": {"token": "canary"}},
            "s3": {"access_key_id": "canary"},
        },
    )
    for text in (
        repr(shown),
        str(shown),
        shown.model_dump_json(),
        repr(shown.source.url),
        repr(shown.secrets()),
    ):
        assert "canary" not in text
    assert len(shown.secrets()) == 4
    assert shown.lake.catalog.uri == "canary"
    assert shown.lake.catalog.properties == {"token": "canary"}


def test_a_secret_in_a_wrong_place_is_not_quoted_in_the_message(tmp_path: Path) -> None:
    assert "canary" not in refused(tmp_path, "source: {url: [canary]}\nname: 'canary canary'\n")


def test_the_most_specific_pattern_decides() -> None:
    wanted = settings(
        tables={
            "*.*": {},
            "public.*": {"exclude": True},
            "public.order*": {},
            "public.orders_old": {"exclude": True},
        }
    )
    answers = {"sales.x": True, "public.x": False, "public.orders": True, "public.orders_old": False}
    assert {table: matches(wanted, table) for table in answers} == answers


def test_patterns_take_other_signs_literally() -> None:
    assert not matches(settings(tables={"public.a+b": {}}), "public.aab")
    assert matches(settings(tables={"public.we.ird": {}}), "public.we.ird")


def test_settings_do_not_change() -> None:
    with pytest.raises(ValueError, match="frozen"):
        settings().source.publication = "other"  # type: ignore[misc]


def test_the_json_schema_accepts_what_load_accepts() -> None:
    schema = Settings.model_json_schema()
    file = {
        "version": 1,
        "source": {"url": "${env:X}", "heartbeat": "30s"},
        "tables": {"public.*": {"exclude": False}},
    }
    jsonschema.validate(json.loads(json.dumps(file)), schema)
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate({**file, "naem": 1}, schema)
