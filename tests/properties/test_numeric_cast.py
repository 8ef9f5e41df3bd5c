"""Numerics are held exactly or flagged, however many digits they have."""

from __future__ import annotations

import random
from decimal import Decimal, localcontext

import pyarrow as pa
import pytest

from smartstream.capture.values import cast
from smartstream.schema import Kind, PgType

TYPES = [(10, 2), (38, 0), (38, 10), (38, 37), (4, 4), (38, 38), (1, 0), (None, None)]


def random_numeric(rng: random.Random) -> str:
    """A numeric as PostgreSQL prints it: no exponent, no leading zeros."""
    if rng.random() < 0.05:
        return rng.choice(["NaN", "Infinity", "-Infinity"])
    whole = "".join(rng.choices("0123456789", k=rng.choice([1, 5, 18, 19, 20, 38, 39, 45, 80, 2000])))
    behind = "".join(rng.choices("0123456789", k=rng.choice([0, 1, 2, 4, 10, 20, 21, 38, 39, 60])))
    behind += "0" * rng.choice([0, 0, 3, 30])
    text = (whole.lstrip("0") or "0") + (f".{behind}" if behind else "")
    return f"-{text}" if rng.random() < 0.5 and Decimal(text) else text


@pytest.mark.parametrize("seed", range(30))
@pytest.mark.parametrize(("precision", "scale"), TYPES)
def test_every_numeric_is_exact_or_flagged(seed: int, precision: int | None, scale: int | None) -> None:
    rng = random.Random(seed)
    type_ = PgType("numeric", Kind.NUMERIC, precision=precision, scale=scale)
    target = type_.arrow
    texts = [random_numeric(rng) for _ in range(rng.choice([1, 2, 50]))]
    if rng.random() < 0.5:  # columns without anything odd take the fast path
        texts = [t for t in texts if len(t) < 25 and "a" not in t.lower()] or ["0"]
    done = cast(pa.array(texts), type_)
    flagged = done.untyped.to_pylist() if done.untyped is not None else [False] * len(texts)
    with localcontext() as context:
        context.prec = 5000
        for text, value, flag in zip(texts, done.values.to_pylist(), flagged, strict=True):
            number = Decimal(text)
            fits = number.is_finite() and number == round(number, target.scale) and (
                abs(number) < Decimal(10) ** (target.precision - target.scale)
            )  # fmt: skip
            assert flag == (not fits), f"seed {seed}: {text}"
            assert value == (number if fits else None), f"seed {seed}: {text}"
