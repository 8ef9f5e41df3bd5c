"""The rule ``cast``, and the conversions that it and others rest on: without loss, or a violation."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace

import pyarrow as pa

from smartstream.sql_text import literal, quoted
from smartstream.transform.rules import types
from smartstream.transform.rules.builder import Builder, Failure, change_code
from smartstream.transform.rules.engine import evaluate
from smartstream.transform.rules.shape import Slot, flag_of, text_of
from smartstream.transform.rules.types import TEXT, TIMESTAMP, TIMESTAMPTZ

_WHOLE = r"[+-]?[0-9]+"
_DECIMAL = r"[+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)"
_FLOAT = rf"{_DECIMAL}(?:[eE][+-]?[0-9]{{1,9}})?|NaN|[+-]?Infinity"
_DATE = r"[0-9]{4}-(?:0[1-9]|1[0-2])-(?:0[1-9]|[12][0-9]|3[01])"
_CLOCK = r"(?:[01][0-9]|2[0-3]):[0-5][0-9](?::[0-5][0-9](?:\.[0-9]{1,6}0*)?)?"
_OFFSET = r"(?:[zZ]|[+-](?:0[0-9]|1[0-5])(?::?[0-5][0-9])?)"
LOCAL_ISO = rf"{_DATE}(?:[T ]{_CLOCK})?"
ZONED_ISO = rf"{_DATE}[T ]{_CLOCK}{_OFFSET}"
_TRUE, _FALSE = "'t', 'true', 'y', 'yes', 'on', '1'", "'f', 'false', 'n', 'no', 'off', '0'"

ROUNDED = "would be rounded"
YEARS = "is outside the years 1 to 9999"


@dataclass(frozen=True, slots=True)
class Conversion:
    """How values of one type become those of another.

    Attributes:
        value: SQL over ``{old}``.
        lost, kept: what makes a value fail; see ``Builder.change``.
    """

    value: str
    lost: tuple[Failure, ...] = ()
    kept: tuple[Failure, ...] = ()


def cast(builder: Builder, casts: Mapping[str, str]) -> None:
    """Change the types of columns.

    Raises:
        RuleInvalid: no such type, or a type that never becomes the other.
    """
    for name, wanted in casts.items():
        target = types.parse(wanted)
        if target is None:
            raise builder.wrong(f"there is no type {wanted}; there are {types.KNOWN}", name)
        for slot in builder.slots([name], _no_list, "no list", option=name):
            if slot.type != target:
                _cast(builder, slot, target, name)


def _no_list(slot: Slot) -> bool:
    """Whether a column has plain values."""
    return not types.is_list(slot.type)


def _cast(builder: Builder, slot: Slot, target: pa.DataType, name: str) -> None:
    """Change one column's type."""
    conversion = convert(slot.type, target)
    if conversion is None:
        was, wanted = types.name_of(slot.type), types.name_of(target)
        raise builder.wrong(f"{slot.name} is {was}, which never becomes {wanted}{_instead(target)}", name)
    if types.is_text(target) and slot.may_flag:
        _with_texts(builder, slot, conversion)
        return
    value = conversion.value.replace("{old}", quoted(slot.name))
    builder.change(slot, value, target, lost=conversion.lost, kept=conversion.kept)


def _with_texts(builder: Builder, slot: Slot, conversion: Conversion) -> None:
    """To text: values that only ``_untyped`` holds come from there, and need not stand there any more."""
    flagged, flags = builder.flagged([slot])
    builder.texts.add(slot.name)
    text = text_of(slot.name)
    plain = conversion.value.replace("{old}", quoted(slot.name))
    value = f"CASE WHEN {flagged} THEN {quoted(text)} ELSE {plain} END"
    builder.sql({slot.name: value, flag_of(slot.name): "false"}, [slot.name, text, *flags])
    builder.shape[slot.name] = replace(slot, type=TEXT, may_flag=False)


def _instead(target: pa.DataType) -> str:
    """What else may help."""
    return "; parse_timestamp may be what you want" if target in (TIMESTAMP, TIMESTAMPTZ) else ""


def convert(was: pa.DataType, target: pa.DataType) -> Conversion | None:
    """Return how to convert values without loss, None where no value can be."""
    if types.is_list(was) or types.is_list(target):
        return None
    if types.is_text(target):
        return Conversion(text_sql(was))
    if types.is_text(was):
        return _from_text(target)
    numbers = [
        pa.types.is_integer(k) or pa.types.is_floating(k) or pa.types.is_decimal(k) for k in (was, target)
    ]
    if all(numbers):
        return _number(was, target)
    return _other(was, target)


def text_sql(was: pa.DataType) -> str:
    """SQL over ``{old}`` for the text that PostgreSQL prints of a value."""
    text = "CAST({old} AS VARCHAR)"
    if types.is_text(was):
        return "{old}"
    if pa.types.is_floating(was):
        special = " ".join(
            f"WHEN {value} THEN {literal(shown)}"
            for value, shown in (
                ("isnan({old})", "NaN"),
                ("{old} = 'Infinity'", "Infinity"),
                ("{old} = '-Infinity'", "-Infinity"),
            )
        )
        return f"CASE {special} ELSE regexp_replace({text}, '\\.0$', '') END"
    if pa.types.is_binary(was):
        return "'\\x' || lower(hex({old}))"
    return text


def _from_text(target: pa.DataType) -> Conversion | None:
    """From text, in exactly one form for each type; no white space, no words."""
    cast_ = f"TRY_CAST({{old}} AS {types.sql_of(target)})"
    what = types.name_of(target)
    if types.is_whole(target):
        return _formed(_WHOLE, cast_, "is not a whole number", f"is out of range for {what}")
    if pa.types.is_decimal(target):
        places = rf"[0-9]{{1,{target.scale}}}0*" if target.scale else "0+"
        exact = rf"[+-]?(?:[0-9]+(?:\.(?:{places})?)?|\.{places})"
        not_one = Failure(_unlike(_DECIMAL), "is not a decimal number")
        lost = (not_one, Failure(_unlike(exact), ROUNDED), Failure("true", f"does not fit {what}"))
        return Conversion(f"CASE WHEN {_like(exact)} THEN {cast_} END", lost)
    if pa.types.is_floating(target):
        return _float(cast_, f"is out of range for {what}")
    if pa.types.is_boolean(target):
        yes, no = f"lower({{old}}) IN ({_TRUE})", f"lower({{old}}) IN ({_FALSE})"
        value = f"CASE WHEN {yes} THEN true WHEN {no} THEN false END"
        return Conversion(value, (Failure("true", "is neither true nor false"),))
    return _moment(target, cast_)


def _float(cast_: str, out_of_range: str) -> Conversion:
    """Floating point: DuckDB reads too large numbers as infinity and too small ones as 0."""
    value = f"CASE WHEN {_like(_FLOAT)} THEN {cast_} END"
    huge = Failure("isinf({new}) AND NOT ends_with({old}, 'y')", out_of_range)
    digits = "regexp_matches({old}, '^[^eE]*[1-9]')"
    tiny = Failure(f"CASE WHEN {{new}} = 0 THEN {digits} END", out_of_range)
    return Conversion(value, (Failure("true", "is not a number"),), (huge, tiny))


def _moment(target: pa.DataType, cast_: str) -> Conversion | None:
    """Dates and times from text, in ISO 8601 only."""
    no_time = "is a timestamp that does not exist"
    if pa.types.is_date(target):
        found = _formed(_DATE, cast_, "is not a date (YYYY-MM-DD)", "is a date that does not exist")
        return replace(found, kept=(_outside("DATE", "0001-01-01", "9999-12-31"),))
    if pa.types.is_time(target):
        return _formed(_CLOCK, cast_, "is not a time (HH:MM:SS)", "is a time that does not exist")
    first, last = "0001-01-01 00:00:00", "9999-12-31 23:59:59.999999"
    if target == TIMESTAMP:
        found = _formed(LOCAL_ISO, cast_, "is not a timestamp (YYYY-MM-DD HH:MM:SS)", no_time)
        return replace(found, kept=(_outside("TIMESTAMP", first, last),))
    if target == TIMESTAMPTZ:
        form = "is not a timestamp with an offset (YYYY-MM-DD HH:MM:SS+00:00)"
        found = _formed(ZONED_ISO, cast_, form, no_time)
        return replace(found, kept=(_outside("TIMESTAMP WITH TIME ZONE", f"{first}+00", f"{last}+00"),))
    return None


def _formed(form: str, value: str, unlike: str, impossible: str) -> Conversion:
    """A conversion of texts that have a form: those without, and those that mean nothing, are lost."""
    lost = (Failure(_unlike(form), unlike), Failure("true", impossible))
    return Conversion(f"CASE WHEN {_like(form)} THEN {value} END", lost)


def _like(form: str) -> str:
    """A text has a form."""
    return f"regexp_full_match({{old}}, {literal(form)})"


def _unlike(form: str) -> str:
    """A text does not have a form."""
    return f"NOT {_like(form)}"


def _outside(kind: str, first: str, last: str) -> Failure:
    """The year 0, or one that an offset moves out of range."""
    return Failure(f"{{new}} NOT BETWEEN CAST('{first}' AS {kind}) AND CAST('{last}' AS {kind})", YEARS)


def _number(was: pa.DataType, target: pa.DataType) -> Conversion:
    """Between numbers: the value must come back as it was.

    Between decimal and floating point both ways go through the shortest decimal text,
    as PostgreSQL does it: 0.1 is 0.1.
    """
    there, back = types.sql_of(target), types.sql_of(was)
    range_ = Failure("true", f"is out of range for {types.name_of(target)}")
    decimals = pa.types.is_decimal(was) != pa.types.is_decimal(target)
    if decimals and (pa.types.is_floating(was) or pa.types.is_floating(target)):
        value = f"TRY_CAST(CAST({{old}} AS VARCHAR) AS {there})"
        returned = f"TRY_CAST(CAST({{new}} AS VARCHAR) AS {back})"
    else:
        value, returned = f"TRY_CAST({{old}} AS {there})", f"TRY_CAST({{new}} AS {back})"
    if pa.types.is_float32(was) and pa.types.is_float64(target):
        return Conversion(value)
    kept = [Failure(f"{returned} IS DISTINCT FROM {{old}}", ROUNDED)]
    if _floats(was, target):
        kept.insert(0, Failure("isinf({new}) AND NOT isinf({old})", range_.reason))
    return Conversion(value, (range_,), tuple(kept))


def _floats(was: pa.DataType, target: pa.DataType) -> bool:
    """Whether both are floating point."""
    return bool(pa.types.is_floating(was) and pa.types.is_floating(target))


def _other(was: pa.DataType, target: pa.DataType) -> Conversion | None:
    """The few other pairs."""
    if pa.types.is_boolean(was) and types.is_whole(target):
        return Conversion(f"CAST({{old}} AS {types.sql_of(target)})")
    if types.is_whole(was) and pa.types.is_boolean(target):
        return Conversion(
            "CASE {old} WHEN 0 THEN false WHEN 1 THEN true END", (Failure("true", "is neither 0 nor 1"),)
        )
    if pa.types.is_date(was) and target == TIMESTAMP:
        return Conversion("CAST({old} AS TIMESTAMP)")
    if was == TIMESTAMP and pa.types.is_date(target):
        moved = Failure("CAST({new} AS TIMESTAMP) <> {old}", "has a time of day")
        return Conversion("CAST({old} AS DATE)", kept=(moved,))
    if was == TIMESTAMPTZ and target == TIMESTAMP:
        return Conversion("make_timestamp(epoch_us({old}))")
    return None


def constant(builder: Builder, text: str, kind: pa.DataType, *inner: str | int) -> str:
    """Return SQL of a value that the file gives as text.

    Raises:
        RuleInvalid: it is no value of the type.
    """
    found = constant_or_none(text, kind)
    if found is None:
        raise builder.wrong(f"{text!r} is not a value of {types.name_of(kind)}", *inner)
    return found


def constant_or_none(text: str, kind: pa.DataType) -> str | None:
    """Return SQL of a value, None if it is no value of the type."""
    if types.is_text(kind):
        return literal(text)
    if kind == TIMESTAMPTZ and re.fullmatch(LOCAL_ISO, text):
        text = f"{text}+00" if len(text) > len("YYYY-MM-DD") else f"{text} 00:00+00"
    conversion = convert(TEXT, kind)
    if conversion is None:
        return None
    value = conversion.value.replace("{old}", literal(text))
    code = change_code(literal(text), "new", conversion.lost, conversion.kept)
    found = evaluate(f"SELECT {code} AS code FROM (SELECT {value} AS new)")["code"][0].as_py()
    return f"CAST({literal(text)} AS {types.sql_of(kind)})" if found == 0 else None
