"""Where a change stands: DMS's stream position as LSN and ordinal.

A position is published as ``HHHHHHHH/HHHHHHHH.n.HHHHHHHH/HHHHHHHH``: two LSNs, of which the
larger is the change's own, around its number among its transaction's messages.  A row's
changes have ascending LSNs, because the second waits for the first one's transaction.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

PATTERN = r"^[0-9A-Fa-f]{8}/[0-9A-Fa-f]{8}\.[0-9]{1,18}\.[0-9A-Fa-f]{8}/[0-9A-Fa-f]{8}$"
LSN_CHARACTERS = 17
_HIGH, _LOW = slice(0, 8), slice(9, 17)

Ints = npt.NDArray[np.int64]
Mask = npt.NDArray[np.bool_]


def places(positions: pa.Array) -> tuple[Ints, Ints, Mask]:
    """LSN, ordinal and whether there is one at all, (n,) each; 0 where there is none.

    Args:
        positions: (n,) string, null where a record has none.
    """
    count = len(positions)
    lsn, ordinal = np.zeros(count, np.int64), np.zeros(count, np.int64)
    good: Mask = pc.fill_null(pc.match_substring_regex(positions, PATTERN), False).to_numpy(
        zero_copy_only=False
    )
    if good.any():
        chosen = positions if good.all() else positions.filter(pa.array(good))
        parts = pc.list_flatten(pc.split_pattern(chosen, "."))
        number = np.arange(0, len(parts), 3)
        own, first = (_lsns(parts.take(pa.array(number + at))) for at in (0, 2))
        lsn[good] = np.maximum(own, first)
        ordinal[good] = parts.take(pa.array(number + 1)).cast(pa.int64()).to_numpy()
    good &= lsn >= 0  # beyond 2^63, which no server reaches
    lsn[~good] = 0
    return lsn, ordinal, good


def _lsns(texts: pa.Array) -> Ints:
    """LSNs of texts of the one length."""
    offsets = np.frombuffer(texts.buffers()[1], np.int32)[texts.offset : texts.offset + len(texts) + 1]
    data = np.frombuffer(texts.buffers()[2], np.uint8)[offsets[0] : offsets[-1]]
    digits = _DIGITS[data.reshape(len(texts), LSN_CHARACTERS)]
    high, low = digits[:, _HIGH] @ _WEIGHTS, digits[:, _LOW] @ _WEIGHTS
    return (high << 32) | low


_WEIGHTS: Ints = 16 ** np.arange(7, -1, -1, dtype=np.int64)
_DIGITS: Ints = np.zeros(256, np.int64)
for _digit in "0123456789abcdefABCDEF":
    _DIGITS[ord(_digit)] = int(_digit, 16)
