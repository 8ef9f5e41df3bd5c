"""How DMS was told to write records, and the words for what is wrong with one."""

from __future__ import annotations

from dataclasses import dataclass

NOT_JSON = "is not JSON"
NOT_DMS = "is not a record of DMS"
NO_PLACE = "does not say where in the log it stands"
NO_KEY = "lacks a column of its key"
NO_BEFORE_IMAGE = "lacks its before-image"
UNKNOWN_COLUMN = "has a column that the definition lacks"
LOB_CUT = "has a large value that DMS may have cut off"
INEXACT = "has a number that DMS has rounded"
WRONG_VALUE = "has a value that its column's type does not have"
KEY_UNTYPED = "has a key that the lake's type can't hold"


@dataclass(frozen=True, slots=True)
class Options:
    """What terraform/dms.tf says, as far as records depend on it.

    Attributes:
        lob_bytes_max: LobMaxSize in bytes: DMS cuts bytea there, and text at half as many
            characters, of which it counts two bytes each.
        before_image: name of the field with an updated row's key before the update.
        before_image_required: an update without that field is damaged, for it may have
            changed the key; otherwise its key counts as kept.
        chunk_rows: records parsed at once.
    """

    lob_bytes_max: int = 64 * 1024
    before_image: str = "before-image"
    before_image_required: bool = True
    chunk_rows: int = 8192
