"""Whether features are what a model expects: their columns once, their values row by row."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from smartstream.errors import SignatureMismatch
from smartstream.inference.config import Feature
from smartstream.inference.models.model import TYPES

Mask = npt.NDArray[np.bool_]
_SHOWN_MAX = 20


@dataclass(frozen=True, slots=True)
class Declared:
    """What the configuration says of a model's inputs.

    Attributes:
        exact: the list is the model's own; else (a challenger) the model may take others,
            and leave some of them.
    """

    features: tuple[Feature, ...] = ()
    exact: bool = True

    def merged(self, own: tuple[Feature, ...], what: str) -> tuple[Feature, ...]:
        """The model's inputs in its own order, each as declared where it is.

        Args:
            own: what the model says of itself; empty: nothing.
        Raises:
            SignatureMismatch: neither says anything, or they contradict each other.
        """
        if not own:
            if not self.features:
                raise SignatureMismatch(f"{what} does not name its columns: list them as `inputs`")
            return self.features
        listed, taken = {one.name: one for one in self.features}, {one.name for one in own}
        if listed and self.exact and set(listed) != taken:
            facts = [("it lacks", taken - set(listed)), ("the model does not take", set(listed) - taken)]
            parts = [f"{fact} {_few(sorted(names))}" for fact, names in facts if names]
            raise SignatureMismatch(f"{what}: `inputs` is not what the model takes: {'; '.join(parts)}")
        return tuple(listed.get(one.name, one) for one in own)


def numbers_only(inputs: tuple[Feature, ...], what: str) -> tuple[Feature, ...]:
    """The inputs of a model that takes numbers.

    Raises:
        SignatureMismatch: one is a text.
    """
    if texts := [one.name for one in inputs if one.type == "string"]:
        raise SignatureMismatch(f"{what} takes numbers only; `inputs` has as string: {_few(texts)}")
    return inputs


def check_inputs(inputs: tuple[Feature, ...], schema: pa.Schema) -> None:
    """Make sure that features have the columns of a model, in types that lose nothing.

    Whole numbers and decimals become floating point numbers only where the model asks for
    these; a text never becomes a number.  Columns that the model does not take are fine.

    Raises:
        SignatureMismatch: names everything that is wrong at once.
    """
    problems, times = [], Counter(schema.names)
    for one in inputs:
        if times[one.name] != 1:
            problems.append(f"{one.name} is {'there twice' if times[one.name] else 'missing'}")
            continue
        given, is_text = schema.field(one.name).type, one.type == "string"
        if (one.categories is not None and not is_text) or (is_text and _has_range(one)):
            problems.append(f"{one.name} is {one.type}: categories are for strings, a range for numbers")
        if pa.types.is_null(given):
            if not one.nullable:
                problems.append(f"{one.name} is always null")
        elif not _fits(given, one.type):
            problems.append(f"{one.name} is {given}, not {one.type}")
    if problems:
        raise SignatureMismatch(f"the features do not fit the model: {'; '.join(problems)}")


def as_inputs(features: pa.Table, inputs: tuple[Feature, ...]) -> pa.Table:
    """The model's columns in its order and types; needs ``check_inputs``."""
    arrays = [features[one.name].cast(TYPES[one.type], safe=False) for one in inputs]
    return pa.table(arrays, names=[one.name for one in inputs])


def bad_rows(inputs: tuple[Feature, ...], features: pa.Table) -> tuple[Mask, pa.Array]:
    """Judge the rows of features.

    Args:
        features: (n, the model's inputs); see ``as_inputs``.
    Returns:
        (n,) which rows the model must not see, and (n,) the first reason: constant words
        and the column's name, never a value.
    """
    count = features.num_rows
    bad: Mask = np.zeros(count, np.bool_)
    reasons = pa.nulls(count, pa.string())
    for one in inputs:
        for broken, reason in _tests(one, features[one.name].combine_chunks()):
            first = broken & ~bad
            if first.any():
                reasons = pc.if_else(pa.array(first), f"{one.name} {reason}", reasons)
                bad |= broken
    return bad, reasons


def _has_range(one: Feature) -> bool:
    """Whether a feature has a smallest or largest value."""
    return one.minimum is not None or one.maximum is not None


def _few(names: Iterable[str]) -> str:
    """Names for a message."""
    shown = list(names)
    more = f" and {len(shown) - _SHOWN_MAX} more" if len(shown) > _SHOWN_MAX else ""
    return ", ".join(shown[:_SHOWN_MAX]) + more


def _fits(given: pa.DataType, wanted: str) -> bool:
    """Whether a column can become what the model wants without losing what counts."""
    if pa.types.is_dictionary(given):
        given = given.value_type
    if wanted in ("float64", "float32"):
        number = pa.types.is_floating(given) or pa.types.is_integer(given) or pa.types.is_decimal(given)
        return bool(number or pa.types.is_boolean(given))
    if wanted == "int64":
        whole = pa.types.is_integer(given) and given != pa.uint64()
        return bool(whole or (pa.types.is_decimal(given) and given.scale == 0 and given.precision <= 18))
    if wanted == "bool":
        return bool(pa.types.is_boolean(given))
    return bool(pa.types.is_string(given) or pa.types.is_large_string(given))


def _tests(one: Feature, column: pa.Array) -> list[tuple[Mask, str]]:
    """What a column must be, each with the rows that are not."""
    missing = pc.is_null(column).to_numpy(zero_copy_only=False)
    found = [] if one.nullable else [(missing, "is null")]
    if pa.types.is_floating(column.type):
        finite = pc.fill_null(pc.is_finite(column), True).to_numpy(zero_copy_only=False)
        found.append((~finite, "is not finite"))
    limits = [(one.minimum, pc.less, "is too small"), (one.maximum, pc.greater, "is too large")]
    for limit, compare, reason in limits:
        if limit is not None:
            column = column.cast(pa.int8()) if pa.types.is_boolean(column.type) else column
            found.append((_yes(compare(column, pa.scalar(limit))), reason))
    if one.categories is not None:
        known = pc.is_in(column, value_set=pa.array(list(one.categories), column.type))
        found.append((~known.to_numpy(zero_copy_only=False) & ~missing, "has an unknown category"))
    return found


def _yes(answers: pa.Array) -> Mask:
    """Which answers are true."""
    yes: Mask = pc.fill_null(answers, False).to_numpy(zero_copy_only=False)
    return yes
