"""bytea: hexadecimal at once, escaped one by one."""

from __future__ import annotations

import random

import pyarrow as pa
import pytest

from smartstream.capture.values import cast
from smartstream.errors import ProtocolError
from smartstream.schema import Kind, PgType

BYTEA = PgType("bytea", Kind.BYTEA)


def typed(texts: list[str | None]) -> list[bytes | None]:
    done = cast(pa.array(texts, pa.string()), BYTEA)
    assert done.untyped is None
    done.values.validate(full=True)
    return list(done.values.to_pylist())


def escaped(value: bytes) -> str:
    """As bytea_output = escape prints it."""
    return "".join(
        "\\\\" if byte == 92 else chr(byte) if 32 <= byte < 127 else f"\\{byte:03o}" for byte in value
    )


@pytest.mark.parametrize("seed", range(5))
def test_bytes_come_back_from_both_forms_mixed_with_nulls(seed: int) -> None:
    rng = random.Random(seed)
    values = [None if rng.random() < 0.2 else rng.randbytes(rng.choice([0, 1, 7, 300])) for _ in range(100)]
    as_hex = [None if v is None else "\\x" + v.hex() for v in values]
    mixed = [None if v is None else rng.choice([escaped(v), "\\x" + v.hex()]) for v in values]
    assert typed(as_hex) == values, f"seed {seed}"
    assert typed(mixed) == values, f"seed {seed}"
    assert cast(pa.array(["\\xff", *as_hex], pa.string()).slice(1), BYTEA).values.to_pylist() == values


def test_columns_of_nulls_or_empty_values_only() -> None:
    for texts in ([], [None, None], ["\\x"], ["\\x", None]):
        assert typed(texts) == [None if t is None else b"" for t in texts]


@pytest.mark.parametrize("text", ["\\x0", "\\xzz", "\\x 0", "\\", "\\8", "a\\b", "\\400"])
def test_what_is_neither_form_is_refused(text: str) -> None:
    with pytest.raises(ProtocolError):
        typed(["\\x00", text])
