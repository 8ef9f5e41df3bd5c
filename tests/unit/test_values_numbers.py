"""Numbers: exactly, or flagged, or refused."""

from __future__ import annotations

import decimal
import math
import random
import struct
from decimal import Decimal

import pyarrow as pa
import pytest

from smartstream.capture.values import cast
from smartstream.errors import ProtocolError
from smartstream.schema import Kind, PgType


def of(kind: Kind) -> PgType:
    return PgType(str(kind), kind)


def numeric(precision: int | None = None, scale: int | None = None) -> PgType:
    return PgType("numeric", Kind.NUMERIC, precision=precision, scale=scale)


def typed(texts: list[str | None], type_: PgType) -> tuple[list[object], list[int]]:
    """The values, and the indices of the untyped ones."""
    done = cast(pa.array([t if t is None else t.encode() for t in texts], pa.binary()), type_)
    assert done.values.type == type_.arrow
    flags = done.untyped.to_pylist() if done.untyped is not None else []
    return done.values.to_pylist(), [n for n, flag in enumerate(flags) if flag]


@pytest.mark.parametrize(
    ("kind", "low", "high"),
    [(Kind.INT2, -(2**15), 2**15 - 1), (Kind.INT4, -(2**31), 2**31 - 1), (Kind.INT8, -(2**63), 2**63 - 1)],
)
def test_integers_are_exact_to_their_limits_and_refused_beyond(kind: Kind, low: int, high: int) -> None:
    assert typed([str(low), None, "0", str(high)], of(kind)) == ([low, None, 0, high], [])
    for text in (str(low - 1), str(high + 1), "", "1.0", "x"):
        with pytest.raises(ProtocolError):
            typed([text], of(kind))


def test_floats_keep_nan_infinities_and_the_sign_of_zero() -> None:
    for kind in (Kind.FLOAT4, Kind.FLOAT8):
        values, flagged = typed(["NaN", "Infinity", "-Infinity", "-0", None], of(kind))
        assert [repr(v) for v in values] == ["nan", "inf", "-inf", "-0.0", "None"]
        assert not flagged


def test_a_float_too_large_is_refused_not_made_infinite() -> None:
    for kind, text in ((Kind.FLOAT8, "1e400"), (Kind.FLOAT4, "1e40"), (Kind.FLOAT8, "inf")):
        with pytest.raises(ProtocolError):
            typed(["1", text], of(kind))


@pytest.mark.parametrize("seed", range(3))
def test_floats_are_the_bits_that_were_printed(seed: int) -> None:
    rng = random.Random(seed)
    bits = [rng.getrandbits(64) for _ in range(2000)]
    doubles = [x for b in bits for (x,) in [struct.unpack("d", struct.pack("Q", b))] if math.isfinite(x)]
    assert typed([repr(x) for x in doubles], of(Kind.FLOAT8))[0] == doubles, f"seed {seed}"
    bits = [rng.getrandbits(32) for _ in range(2000)]
    floats = [x for b in bits for (x,) in [struct.unpack("f", struct.pack("I", b))] if math.isfinite(x)]
    # nine digits tell all floats apart
    assert typed([f"{x:.9g}" for x in floats], of(Kind.FLOAT4))[0] == floats, f"seed {seed}"


def test_booleans_are_t_and_f() -> None:
    assert typed(["t", None, "f"], of(Kind.BOOL)) == ([True, None, False], [])
    with pytest.raises(ProtocolError):
        typed(["t", "true"], of(Kind.BOOL))


def test_numerics_are_never_rounded() -> None:
    values, flagged = typed(["1.50", "1.500", "1.005", "NaN", "-0.01", None, "100000000"], numeric(10, 2))
    assert values == [Decimal("1.50"), Decimal("1.50"), None, None, Decimal("-0.01"), None, None]
    assert flagged == [2, 3, 6]


def test_a_numeric_with_more_digits_than_38_is_untyped_alone() -> None:
    """Arrow's own cast returns wrapped numbers for these, without an error."""
    large = [
        "742339135128645349171.159083016",
        "340282366920938463463374607431768211457.000000000000000001",
        "9" * 60,
    ]
    for text in large:
        for sign in ("", "-"):
            values, flagged = typed(["7", sign + text, "0.5"], numeric())
            assert (values, flagged) == ([Decimal(7), None, Decimal("0.5")], [1])


def test_numerics_wider_than_arrow_are_text() -> None:
    assert typed(["NaN", "1.10"], numeric(60, 5)) == (["NaN", "1.10"], [])
    assert typed(["1200"], numeric(3, -2)) == (["1200"], [])


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("size", [(None, None), (38, 10), (38, 0), (12, 2), (4, 4), (38, 38)])
def test_numerics_are_the_printed_number_or_untyped(seed: int, size: tuple[int | None, int | None]) -> None:
    rng, type_ = random.Random(seed), numeric(*size)
    precision, scale = type_.arrow.precision, type_.arrow.scale
    texts = [a_numeric(rng, precision, scale) for _ in range(400)]
    # one column each, and all in one: a value decides which path its column takes
    alone = [typed([text], type_) for text in texts]
    values, flagged = typed(texts, type_)
    for n, text in enumerate(texts):
        with decimal.localcontext(prec=200):
            number = Decimal(text)
            fits = number == round(number, scale) and abs(number) < Decimal(10) ** (precision - scale)
        expected = number if fits else None
        assert values[n] == expected, f"seed {seed}: {text}"
        assert alone[n] == ([expected], [] if fits else [0]), f"seed {seed}: {text}"
        assert (n in flagged) == (not fits), f"seed {seed}: {text}"


def a_numeric(rng: random.Random, precision: int, scale: int) -> str:
    """A numeric as the server prints it, often at or just beyond what the type holds."""
    whole = rng.choice([0, 1, precision - scale, precision - scale + 1, rng.randint(1, 60)])
    decimals = rng.choice([0, scale, scale + 1, rng.randint(0, 45)])
    text = "".join(rng.choice("0123456789") for _ in range(whole)).lstrip("0") or "0"
    if decimals:
        text += "." + "".join(rng.choice("0009") for _ in range(decimals))
    return text if rng.random() < 0.6 or not text.strip("0.") else "-" + text
