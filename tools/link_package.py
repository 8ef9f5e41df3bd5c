"""Make the package of this checkout importable in the running virtual environment.

What `pip install -e .` does, without building: a path entry and the console script.
"""

from __future__ import annotations

import stat
import sys
import sysconfig
from pathlib import Path

SCRIPT = """#!{python}
import sys

from smartstream.cli import main

sys.exit(main())
"""


def link(root: Path) -> None:
    """Write the .pth file and the `smartstream` script."""
    paths = sysconfig.get_paths()
    Path(paths["purelib"], "smartstream.pth").write_text(f"{root / 'src'}\n")
    script = Path(paths["scripts"], "smartstream")
    script.write_text(SCRIPT.format(python=sys.executable))
    script.chmod(script.stat().st_mode | stat.S_IXUSR | stat.S_IXGRP | stat.S_IXOTH)


if __name__ == "__main__":
    link(Path(__file__).resolve().parents[1])
