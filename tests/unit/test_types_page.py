"""docs/types.md says what the tests run."""

from __future__ import annotations

from pathlib import Path

from tests.types_table import page


def test_the_page_of_types_is_current() -> None:
    written = (Path(__file__).parents[2] / "docs" / "types.md").read_text(encoding="utf-8")
    assert written == page(), "run: python -m tests.types_table > docs/types.md"
