"""What the tests of the commands share: a folder with a configuration, and its answers."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML

from smartstream.cli import main
from smartstream.config import Settings, load

Capture = pytest.CaptureFixture[str]


class Shop:
    """A folder with a smartstream.yaml for a database, and the commands in it."""

    def __init__(self, folder: Path, url: str, capsys: Capture) -> None:
        self.folder, self._url, self._capsys = folder, url, capsys

    def configure(self, **tables: Any) -> Settings:
        """Write the file: tables by name in ``public``, with their rules."""
        content = {
            "source": {"url": self._url, "discover_every": "300ms", "heartbeat": "300ms"},
            "defaults": {"flush": {"every": "100ms"}},
            "tables": {f"public.{name}": rules for name, rules in tables.items()},
        }
        file = self.folder / "smartstream.yaml"
        with file.open("w") as out:
            YAML().dump(content, out)
        return load(file)

    def say(self, *arguments: str) -> tuple[int, str, str]:
        """Exit code, output and errors of a command."""
        self._capsys.readouterr()
        code = main(["-C", str(self.folder), *arguments])
        shown = self._capsys.readouterr()
        return code, shown.out, shown.err

    def ask(self, *arguments: str) -> Any:
        """The JSON answer of a command that succeeds."""
        code, out, err = self.say(*arguments, "--json")
        assert code == 0, out + err
        return json.loads(out)

    def refusal(self, *arguments: str) -> str:
        """What a command says when it refuses."""
        code, out, err = self.say(*arguments)
        assert code != 0, out
        assert "Traceback" not in err
        return err
