"""Print what pyproject.toml asks for, extras included, one requirement a line."""

from __future__ import annotations

import sys
import tomllib
from pathlib import Path


def requirements(pyproject: Path) -> list[str]:
    """The direct dependencies, of running and of developing."""
    project = tomllib.loads(pyproject.read_text(encoding="utf-8"))["project"]
    extras = project.get("optional-dependencies", {}).values()
    return sorted({*project["dependencies"], *(one for extra in extras for one in extra)})


if __name__ == "__main__":
    root = Path(__file__).resolve().parents[1]
    sys.stdout.write("\n".join(requirements(root / "pyproject.toml")) + "\n")
