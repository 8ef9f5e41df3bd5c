"""Rules for personal data: hash and tokenise, keyed digests of values.

Both are HMAC-SHA256 of the value's text in UTF-8, so equal values stay equal, in every
table that uses the same key, and nobody without the key can try values out.  There is
no way back: SmartStream keeps no vault of what a token stood for.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from smartstream.errors import ConfigInvalid
from smartstream.rule_options import Keyed
from smartstream.sql_text import quoted
from smartstream.transform.rules import types
from smartstream.transform.rules.builder import NOT_REPRESENTABLE, Builder, codes
from smartstream.transform.rules.casts import text_sql
from smartstream.transform.rules.shape import Slot
from smartstream.transform.rules.steps import ArrowStep, Columns
from smartstream.transform.rules.types import TEXT

KEY_BYTES_MIN = 16
HASH_SIGNS = 64
"""All 256 bits."""
TOKEN_SIGNS = 24
"""120 bits: two of a billion values share a token with a chance of less than one in 10^18."""
_BLOCK = 64
_LETTERS = {
    4: np.frombuffer(b"0123456789abcdef", np.uint8),
    5: np.frombuffer(b"abcdefghijklmnopqrstuvwxyz234567", np.uint8),
}


@dataclass(frozen=True, slots=True)
class Look:
    """How a digest is written: a prefix, and so many signs for so many bits each."""

    prefix: str
    signs: int
    bits: int


@dataclass(slots=True)
class Key:
    """A secret key, read when it is first used."""

    rule: Keyed
    where: str
    _pads: tuple[bytes, bytes] | None = field(default=None, repr=False)

    def pads(self) -> tuple[bytes, bytes]:
        """Return the inner and the outer pad of HMAC (RFC 2104).

        Raises:
            ConfigMissing: the reference leads nowhere.
            ConfigInvalid: the key is too short.
        """
        if self._pads is None:
            key = self.rule.key.reveal().encode()
            if len(key) < KEY_BYTES_MIN:
                raise ConfigInvalid(f"{self.where}: the key is shorter than {KEY_BYTES_MIN} bytes")
            padded = (hashlib.sha256(key).digest() if len(key) > _BLOCK else key).ljust(_BLOCK, b"\0")
            self._pads = bytes(b ^ 0x36 for b in padded), bytes(b ^ 0x5C for b in padded)
        return self._pads


def hash_values(builder: Builder, rule: Keyed) -> list[Key]:
    """Put ``h1:`` and 64 hexadecimal digits in place of values."""
    return _digest(builder, rule, Look(f"h{rule.version}:", HASH_SIGNS, bits=4))


def tokenise(builder: Builder, rule: Keyed) -> list[Key]:
    """Put ``tok1_`` and 24 letters and digits in place of values."""
    return _digest(builder, rule, Look(f"tok{rule.version}_", TOKEN_SIGNS, bits=5))


def _digest(builder: Builder, rule: Keyed, look: Look) -> list[Key]:
    """The steps of either rule: text in SQL, digests of its different values in Python."""
    key = Key(rule, builder.place.where(builder.kind, "key"))
    for slot in builder.slots(rule.column, _no_list, "no list"):
        name = text = slot.name
        if not types.is_text(slot.type):
            text = builder.fresh(f"text {name}")
            builder.sql({text: text_sql(slot.type).replace("{old}", quoted(name))}, [name])
        if slot.may_flag:
            flagged, flags = builder.flagged([slot])
            code = builder.test(name, [NOT_REPRESENTABLE], [slot])
            builder.sql({code: codes([flagged])}, flags)
        _add(builder, slot, text, key, look)
    return [key]


def _add(builder: Builder, slot: Slot, text: str, key: Key, look: Look) -> None:
    """The step that digests one column."""
    builder.shape[slot.name] = replace(slot, type=TEXT, may_flag=False)

    def run(columns: Columns) -> Mapping[str, pa.ChunkedArray]:
        return {slot.name: _digests(columns[text], key, look)}

    label = f"{builder.label}: {slot.name} := HMAC-SHA256 of {text}"
    builder.arrow(ArrowStep(label, frozenset({text}), frozenset({slot.name}), run))


def _no_list(slot: Slot) -> bool:
    """Whether a column has plain values."""
    return not types.is_list(slot.type)


def _digests(texts: pa.ChunkedArray, key: Key, look: Look) -> pa.ChunkedArray:
    """Digests of texts, each different one digested once."""
    encoded = pc.dictionary_encode(texts.cast(TEXT)).combine_chunks()
    hashed = _hmacs(encoded.dictionary.to_pylist(), key)
    return pa.chunked_array([_shown(hashed, look).take(encoded.indices)])


def _hmacs(texts: Sequence[str], key: Key) -> bytes:
    """HMAC-SHA256 of each text; the padded key is hashed once, which ``hmac`` would do for each."""
    inner_pad, outer_pad = key.pads()
    inner, outer = hashlib.sha256(inner_pad), hashlib.sha256(outer_pad)
    found = []
    for text in texts:
        first, second = inner.copy(), outer.copy()
        first.update(text.encode())
        second.update(first.digest())
        found.append(second.digest())
    return b"".join(found)


def _numbers(raw: npt.NDArray[np.uint8], look: Look) -> npt.NDArray[np.uint8]:
    """The bits of digests in groups, each the number of a sign."""
    if look.bits == 4:
        return np.stack([raw >> np.uint8(4), raw & np.uint8(15)], axis=2).reshape(len(raw), look.signs)
    bits = np.unpackbits(raw, axis=1).reshape(len(raw), look.signs, look.bits)
    numbers: npt.NDArray[np.uint8] = np.packbits(bits, axis=2)[:, :, 0] >> np.uint8(8 - look.bits)
    return numbers


def _shown(digests: bytes, look: Look) -> pa.Array:
    """Digests as texts, all of one length."""
    raw = np.frombuffer(digests, np.uint8).reshape(-1, hashlib.sha256().digest_size)
    numbers = _numbers(raw[:, : look.signs * look.bits // 8], look)
    prefix = np.frombuffer(look.prefix.encode(), np.uint8)
    letters = np.empty((len(raw), len(prefix) + look.signs), np.uint8)
    letters[:, : len(prefix)] = prefix
    letters[:, len(prefix) :] = _LETTERS[look.bits][numbers]
    offsets = (np.arange(len(raw) + 1) * letters.shape[1]).astype(np.int64)
    return pa.LargeStringArray.from_buffers(len(raw), pa.py_buffer(offsets), pa.py_buffer(letters)).cast(TEXT)
