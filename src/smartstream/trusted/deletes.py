"""Position delete files: which rows of one data file are no longer there.

Each data file has at most one of them.  It is replaced, never added to, so a
reader merges one small list per data file however many commits there were.
"""

from __future__ import annotations

import uuid
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from pyiceberg.io import FileIO
from pyiceberg.manifest import DataFile, DataFileContent, FileFormat
from pyiceberg.table.locations import LocationProvider
from pyiceberg.typedef import Record
from pyroaring import BitMap

from smartstream.errors import TableCorrupt
from smartstream.trusted.fields import PARQUET_FIELD_ID
from smartstream.trusted.files import described

PATH_FIELD_ID = 2147483546
POSITION_FIELD_ID = 2147483545
READERS_MAX = 8

_SCHEMA = pa.schema(
    [
        pa.field("file_path", pa.string(), False, {PARQUET_FIELD_ID: str(PATH_FIELD_ID).encode()}),
        pa.field("pos", pa.int64(), False, {PARQUET_FIELD_ID: str(POSITION_FIELD_ID).encode()}),
    ]
)


def positions_of(rows: BitMap) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
    """Return the positions in ``rows``, ascending."""
    return np.frombuffer(rows.to_array(), dtype=np.uint32).astype(np.int64)


def write_deletes(io: FileIO, locations: LocationProvider, data_path: str, rows: BitMap) -> DataFile:
    """Write the position delete file of one data file.

    Its bounds name that data file alone, which is what makes it file-scoped:
    readers need not look into it for any other file.

    Args:
        rows: all deleted positions of the data file; at least one.
    """
    count = len(rows)
    path = pa.DictionaryArray.from_arrays(pa.repeat(pa.scalar(0, pa.int32()), count), [data_path])
    table = pa.table([path.cast(pa.string()), pa.array(positions_of(rows))], schema=_SCHEMA)
    location = locations.new_data_location(f"{uuid.uuid4()}-deletes.parquet")
    with io.new_output(location).create() as sink:
        pq.write_table(table, sink, compression="zstd", compression_level=1, use_dictionary=["file_path"])
        size = sink.tell()
    bound = {PATH_FIELD_ID: data_path.encode()}
    return described(
        DataFile.from_args(
            content=DataFileContent.POSITION_DELETES,
            file_path=location,
            file_format=FileFormat.PARQUET,
            partition=Record(),
            record_count=count,
            file_size_in_bytes=size,
            column_sizes=None,
            value_counts=None,
            null_value_counts=None,
            nan_value_counts=None,
            lower_bounds=bound,
            upper_bounds=bound,
            key_metadata=None,
            split_offsets=None,
            equality_ids=None,
            sort_order_id=None,
        )
    )


def data_path_of(file: DataFile) -> str:
    """Return the one data file that a position delete file is about.

    Raises:
        TableCorrupt: it is about several, or no position deletes at all; we
            write no such files.
    """
    bounds = [(b or {}).get(PATH_FIELD_ID) for b in (file.lower_bounds, file.upper_bounds)]
    if file.content != DataFileContent.POSITION_DELETES or bounds[0] is None or bounds[0] != bounds[1]:
        raise TableCorrupt(f"delete file {file.file_path} was not written by SmartStream")
    return bounds[0].decode()


def read_deletes(io: FileIO, files: list[DataFile]) -> list[BitMap]:
    """Read the positions in each of ``files``, in order."""

    def read(file: DataFile) -> BitMap:
        with io.new_input(file.file_path).open() as source:
            column = pq.read_table(source, columns=["pos"])["pos"]
        return BitMap(column.to_numpy().astype(np.uint32))

    if len(files) < 2:
        return [read(file) for file in files]
    with ThreadPoolExecutor(READERS_MAX) as pool:
        return list(pool.map(read, files))
