"""Features are held against a model's signature: columns all at once, rows without a loop."""

from __future__ import annotations

import random
from decimal import Decimal
from typing import Any

import pyarrow as pa
import pytest

from smartstream.errors import SignatureMismatch
from smartstream.inference.config import Feature
from smartstream.inference.models.model import sample, top_contributions
from smartstream.inference.models.signature import as_inputs, bad_rows, check_inputs


def inputs(*made: dict[str, Any]) -> tuple[Feature, ...]:
    """Features."""
    return tuple(Feature.model_validate(one) for one in made)


def test_everything_that_is_wrong_is_said_at_once() -> None:
    wanted = inputs(
        {"name": "gone"},
        {"name": "text"},
        {"name": "wide", "type": "int64"},
        {"name": "empty"},
        {"name": "twice"},
        {"name": "fine"},
        {"name": "odd", "categories": ["a"]},
    )
    fields = [("text", pa.string()), ("wide", pa.uint64()), ("empty", pa.null()), ("twice", pa.int8())]
    fields += [("twice", pa.int8()), ("fine", pa.int16()), ("odd", pa.float64()), ("more", pa.binary())]
    with pytest.raises(SignatureMismatch) as caught:
        check_inputs(wanted, pa.schema(fields))
    text = str(caught.value)
    for part in ("gone is missing", "text is string, not float64", "wide is uint64", "empty is always null"):
        assert part in text
    assert "twice is there twice" in text and "odd is float64: categories" in text
    assert "fine" not in text and "more" not in text


@pytest.mark.parametrize(
    ("given", "wanted", "fits"),
    [
        (pa.int64(), "float64", True),
        (pa.decimal128(20, 4), "float64", True),
        (pa.decimal128(20, 4), "int64", False),
        (pa.decimal128(18, 0), "int64", True),
        (pa.decimal128(19, 0), "int64", False),
        (pa.float64(), "int64", False),
        (pa.float64(), "float32", True),
        (pa.bool_(), "float32", True),
        (pa.int8(), "bool", False),
        (pa.string(), "float64", False),
        (pa.int64(), "string", False),
        (pa.large_string(), "string", True),
        (pa.dictionary(pa.int32(), pa.string()), "string", True),
        (pa.timestamp("us"), "int64", False),
        (pa.date32(), "float64", False),
    ],
)
def test_a_type_fits_where_nothing_that_counts_is_lost(given: pa.DataType, wanted: str, fits: bool) -> None:
    features = inputs({"name": "a", "type": wanted, "nullable": True})
    schema = pa.schema([("a", given)])
    if fits:
        check_inputs(features, schema)
        assert as_inputs(schema.empty_table(), features)["a"].type == sample(features)["a"].type
    else:
        with pytest.raises(SignatureMismatch):
            check_inputs(features, schema)


def test_decimals_become_numbers_with_a_point_where_the_model_asks_for_these() -> None:
    table = pa.table({"a": pa.array([Decimal("1.10"), None], pa.decimal128(10, 2))})
    assert as_inputs(table, inputs({"name": "a"}))["a"].to_pylist() == [1.1, None]


def test_bad_rows_agree_with_a_slow_reading_of_the_signature(seed: str) -> None:
    wanted = inputs(
        {"name": "age", "minimum": 0, "maximum": 9},
        {"name": "pay", "nullable": True, "minimum": 1},
        {"name": "grade", "type": "string", "categories": ["a", "b"]},
        {"name": "note", "type": "string", "nullable": True, "categories": ["x"]},
        {"name": "years", "type": "int64", "maximum": 3},
    )
    rng = random.Random(seed)
    numbers = [None, float("nan"), float("inf"), -1.0, 0.0, 1.0, 9.0, 9.5]
    choices: dict[str, list[Any]] = {
        "age": numbers,
        "pay": numbers,
        "grade": [None, "a", "b", "c", ""],
        "note": [None, "x", "y"],
        "years": [None, 0, 3, 4],
    }
    rows = [{name: rng.choice(values) for name, values in choices.items()} for _ in range(500)]
    types = {"age": pa.float64(), "pay": pa.float64(), "years": pa.int64()}
    table = pa.table({n: pa.array([r[n] for r in rows], types.get(n, pa.string())) for n in choices})
    bad, reasons = bad_rows(wanted, table)
    assert reasons.to_pylist() == [_reason(row, wanted) for row in rows]
    assert bad.tolist() == [reason is not None for reason in reasons.to_pylist()]


def _reason(row: dict[str, Any], wanted: tuple[Feature, ...]) -> str | None:
    """The first reason against a row."""
    for one in wanted:
        value = row[one.name]
        if value is None:
            if not one.nullable:
                return f"{one.name} is null"
            continue
        if one.type == "float64" and value - value != 0:
            return f"{one.name} is not finite"
        if one.minimum is not None and value < one.minimum:
            return f"{one.name} is too small"
        if one.maximum is not None and value > one.maximum:
            return f"{one.name} is too large"
        if one.categories is not None and value not in one.categories:
            return f"{one.name} has an unknown category"
    return None


def test_the_largest_contributions_come_first_and_equal_ones_in_the_order_of_the_inputs(seed: str) -> None:
    rng = random.Random(seed)
    names = tuple("abcde")
    values = [[rng.choice([-2.0, -1.0, 0.0, 1.0, 2.5]) for _ in names] for _ in range(50)]
    import numpy as np

    found = top_contributions(np.array(values), names, 3).to_pylist()
    for row, given in zip(found, values, strict=True):
        order = sorted(range(5), key=lambda at: -abs(given[at]))[:3]
        assert [(one["feature"], one["contribution"]) for one in row] == [(names[i], given[i]) for i in order]
    assert len(top_contributions(np.empty((0, 5)), names, 3)) == 0
