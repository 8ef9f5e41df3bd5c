"""The command line: exit codes, words, and no traceback."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
from typer.testing import CliRunner

from smartstream.cli import app, main
from smartstream.cli.app import COMMANDS
from smartstream.cli.inspect import degraded
from smartstream.config import Settings
from smartstream.errors import ExitCode, SlotLost
from smartstream.status import LakeStatus, SourceStatus

UNREACHABLE = "postgresql://u:canary@127.0.0.1:1/d"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with a valid configuration whose server does not answer."""
    (tmp_path / "smartstream.yaml").write_text(f"source: {{url: '{UNREACHABLE}', connect_timeout: 1s}}\n")
    return tmp_path


def test_help_lists_every_command_in_the_order_of_use() -> None:
    shown = CliRunner().invoke(app, ["--help"])
    assert shown.exit_code == 0
    places = [shown.output.index(f"\n│ {name} ") for name in COMMANDS]
    assert places == sorted(places)


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_help(command: str) -> None:
    assert CliRunner().invoke(app, [command, "--help"]).exit_code == 0


@pytest.mark.parametrize("arguments", [["tabels"], ["run", "--twice"], ["sql"], ["init", "x"]])
def test_a_wrong_command_line_ends_with_2(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(arguments) == ExitCode.CONFIGURATION
    assert "Traceback" not in capsys.readouterr().err


def test_a_wrong_command_line_with_json_is_answered_in_json(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["status", "--wacht", "--json"]) == ExitCode.CONFIGURATION
    assert json.loads(capsys.readouterr().out)["error"]["type"] == "UsageError"


@pytest.mark.parametrize(
    "command",
    [["run"], ["status"], ["tables"], ["sql", "SELECT 1"], ["verify"], ["doctor"], ["resync", "--yes"]],
)
def test_without_a_configuration_every_command_says_how_to_begin(
    command: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["-C", str(tmp_path), *command]) == ExitCode.CONFIGURATION
    shown = capsys.readouterr()
    assert shown.err.startswith("error: there is no ")
    assert "next: " in shown.err
    assert "smartstream init" in shown.err
    assert shown.out == ""


def test_an_error_with_json_is_one_object_on_stdout(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["-C", str(tmp_path), "tables", "--json"]) == ExitCode.CONFIGURATION
    shown = capsys.readouterr()
    answer = json.loads(shown.out)
    assert shown.err == ""
    assert answer["ok"] is False
    assert answer["error"]["type"] == "ConfigMissing"
    assert answer["error"]["hint"]


def test_a_mistake_in_the_file_is_shown_with_its_line(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (folder / "smartstream.yaml").write_text("source: {url: x}\nlimits: {thread: 2}\n")
    assert main(["-C", str(folder), "validate"]) == ExitCode.CONFIGURATION
    assert f"{folder / 'smartstream.yaml'}:2: unknown key limits.thread; did you mean threads?" in (
        capsys.readouterr().err
    )


def test_the_file_itself_can_be_named(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "smartstream.yaml").rename(folder / "other.yaml")
    assert main(["-C", str(folder), "--config", "other.yaml", "validate"]) == ExitCode.OK
    assert main(["--config", str(folder / "other.yaml"), "validate", "--json"]) == ExitCode.OK
    assert "next: `smartstream doctor`" in capsys.readouterr().out


def test_validate_finds_secrets_that_are_not_set(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "smartstream.yaml").write_text("source:\n  url: '${env:SS_NOT_SET}'\n")
    assert main(["-C", str(folder), "validate"]) == ExitCode.CONFIGURATION
    assert ":2: the environment variable SS_NOT_SET is not set" in capsys.readouterr().err


def test_validate_warns_of_a_password_in_the_file(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["-C", str(folder), "validate"]) == ExitCode.OK
    shown = capsys.readouterr()
    assert "warning: source.url stands in the file itself" in shown.err
    assert "canary" not in shown.err + shown.out


def test_validate_prints_the_json_schema_without_a_file(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["validate", "--json-schema"]) == ExitCode.OK
    assert json.loads(capsys.readouterr().out)["required"] == ["source"]


def test_a_source_that_does_not_answer_is_a_fact_for_status(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["-C", str(folder), "status", "--json"]) == ExitCode.DEGRADED
    answer = json.loads(capsys.readouterr().out)
    assert answer["source"]["reachable"] is False
    assert answer["lake"]["tables"] == []
    assert main(["-C", str(folder), "status"]) == ExitCode.DEGRADED
    shown = capsys.readouterr().out
    assert "unreachable" in shown
    assert "canary" not in shown + json.dumps(answer)


@pytest.mark.parametrize("command", [["status"], ["tables"]])
def test_looking_at_an_empty_lake_does_not_make_one(folder: Path, command: list[str]) -> None:
    main(["-C", str(folder), *command])
    assert not (folder / "lake").exists()


@pytest.mark.parametrize("command", [["run"], ["run", "--once"], ["verify"]])
def test_a_source_that_does_not_answer_fails_a_run(
    folder: Path, command: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["-C", str(folder), *command]) == ExitCode.FAILED
    shown = capsys.readouterr()
    assert "error: connecting to 127.0.0.1:1" in shown.err
    assert "next: Check that the server runs" in shown.err
    assert "Traceback" not in shown.err
    assert "canary" not in shown.err


def test_with_v_there_is_a_traceback(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["-v", "-C", str(folder), "run", "--once"]) == ExitCode.FAILED
    shown = capsys.readouterr().err
    assert "Traceback" in shown
    assert "canary" not in shown


def test_run_with_json_progress_reports_its_error_in_json(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["-C", str(folder), "run", "--progress", "json"]) == ExitCode.FAILED
    assert json.loads(capsys.readouterr().out.splitlines()[-1])["error"]["type"] == "SourceUnreachable"


def test_a_defect_shows_its_kind_only(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def broken(*_: object) -> None:
        raise RuntimeError("canary")

    monkeypatch.setattr("smartstream.status.read_lake", broken)
    assert main(["-C", str(folder), "tables"]) == ExitCode.FAILED
    shown = capsys.readouterr().err
    assert shown.startswith("error: unexpected RuntimeError\nnext: ")
    assert "-v" in shown
    assert "canary" not in shown
    assert main(["-C", str(folder), "tables", "--json"]) == ExitCode.FAILED
    assert json.loads(capsys.readouterr().out)["error"]["type"] == "RuntimeError"


def test_resync_asks_first(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "stdin", SimpleNamespace(isatty=lambda: False))
    assert main(["-C", str(folder), "resync"]) == ExitCode.CONFIGURATION
    assert "--yes" in capsys.readouterr().err


def test_sql_on_an_empty_lake_says_so(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["-C", str(folder), "sql", "SELECT * FROM orders"]) == ExitCode.FAILED
    assert "no table orders" in capsys.readouterr().err


def test_sql_writes_a_result_whole_or_not_at_all(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    target = folder / "result.csv"
    assert main(["-C", str(folder), "sql", "SELECT 1 AS a", "-o", "csv", "--to", str(target)]) == ExitCode.OK
    assert target.read_text() == "a\n1\n"
    assert (
        main(["-C", str(folder), "sql", "SELECT nope", "-o", "csv", "--to", str(target)]) == ExitCode.FAILED
    )
    assert target.read_text() == "a\n1\n"
    assert [path.name for path in folder.iterdir() if "unfinished" in path.name] == []
    missing = str(folder / "none" / "x.csv")
    assert main(["-C", str(folder), "sql", "SELECT 1", "--to", missing]) == ExitCode.FAILED
    assert "cannot write" in capsys.readouterr().err


def test_a_reader_that_goes_away_is_no_failure(folder: Path) -> None:
    command = f"{sys.executable} -m smartstream -C '{folder}' sql 'FROM range(3000000)' -o csv | head -1"
    ended = subprocess.run(
        ["bash", "-o", "pipefail", "-c", command],
        capture_output=True,
        text=True,
        env=environment(),
        check=False,
    )
    assert ended.stdout == "range\n"
    assert ended.stderr == ""


def test_sigterm_ends_a_command_without_a_traceback(folder: Path) -> None:
    process = subprocess.Popen(
        [sys.executable, "-m", "smartstream", "-C", str(folder), "status", "--watch"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment(),
    )
    assert process.stdout is not None
    assert process.stdout.readline().startswith("smartstream: ")
    process.send_signal(signal.SIGTERM)
    _, errors = process.communicate(timeout=20)
    assert process.returncode in (0, 130)
    assert "Traceback" not in errors


def environment() -> dict[str, str]:
    """For a process of its own."""
    return {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2] / "src")}


def test_what_is_degraded_comes_with_a_way_out() -> None:
    settings = Settings.model_validate({"source": {"url": UNREACHABLE}})
    lake = LakeStatus("./lake", 100, 1, ())
    assert "doctor" in (degraded(settings, lake, SourceStatus(error="gone")) or "")
    assert "resync" in (degraded(settings, lake, SourceStatus(None, 100, 0, None)) or "")
    assert degraded(settings, LakeStatus("./lake", 0, 0, ()), SourceStatus(None, 100, None, None)) is None


def test_a_hint_of_an_error_is_the_next_step(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def lost(*_: object) -> None:
        raise SlotLost("the slot smartstream is gone")

    monkeypatch.setattr("smartstream.pipeline.Pipeline.run", lambda *_, **__: lost())
    assert main(["-C", str(folder), "run"]) == ExitCode.FAILED
    assert capsys.readouterr().err == f"error: the slot smartstream is gone\nnext: {SlotLost.hint}\n"
