"""What a killed process leaves in the temporary folder, and who removes it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from smartstream.scratch import MAY_BE_NEW_S

WRITE = """
import sys
from smartstream.scratch import scratch_folder
(scratch_folder() / "spilled").write_bytes(b"many rows")
print(scratch_folder(), flush=True)
sys.stdin.readline()
"""


def writer(folder: Path) -> tuple[subprocess.Popen[str], Path]:
    """A process that has written there and waits, and its folder."""
    process = subprocess.Popen(
        [sys.executable, "-c", WRITE],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "TMPDIR": str(folder)},
    )
    assert process.stdout is not None
    return process, Path(process.stdout.readline().strip())


def end(process: subprocess.Popen[str]) -> None:
    assert process.communicate("\n", timeout=30) and process.returncode == 0


def age(folder: Path) -> None:
    then = folder.stat().st_mtime - MAY_BE_NEW_S - 1
    os.utime(folder, (then, then))


def test_a_process_that_ends_leaves_nothing(tmp_path: Path) -> None:
    process, folder = writer(tmp_path)
    assert (folder / "spilled").exists() and folder.parent == tmp_path
    end(process)
    assert list(tmp_path.iterdir()) == []


def test_what_a_killed_process_leaves_is_removed_by_the_next(tmp_path: Path) -> None:
    killed, folder = writer(tmp_path)
    killed.kill()
    killed.communicate(timeout=30)
    age(folder)
    assert (folder / "spilled").exists()
    process, other = writer(tmp_path)
    assert list(tmp_path.iterdir()) == [other]
    end(process)


@pytest.mark.parametrize("old", [True, False], ids=["that_lives", "that_was_killed_just_now"])
def test_the_folder_of_a_process_stays(tmp_path: Path, old: bool) -> None:
    """A young folder may be one that is not locked yet."""
    first, folder = writer(tmp_path)
    if old:
        age(folder)
    else:
        first.kill()
        first.communicate(timeout=30)
    second, _ = writer(tmp_path)
    assert (folder / "spilled").exists()
    end(second)
    if old:
        end(first)


def test_somebody_elses_folder_stays(tmp_path: Path) -> None:
    """Of another name, or no folder at all."""
    others = [tmp_path / "smartstream-demo-1", tmp_path / "other-scratch-2"]
    for other in others:
        other.mkdir()
        age(other)
    process, _ = writer(tmp_path)
    end(process)
    assert sorted(tmp_path.iterdir()) == sorted(others)
