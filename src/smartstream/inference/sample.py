"""Sample: what a model says of a few rows; nothing is written."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from smartstream.config import Settings
from smartstream.errors import FeaturesInvalid
from smartstream.inference.config import Feature, ModelSettings
from smartstream.inference.features.pinned import Pinned
from smartstream.inference.features.query import read_query, running
from smartstream.inference.models.model import Identity
from smartstream.inference.models.signature import as_inputs, bad_rows, check_inputs
from smartstream.inference.score import OpenModels
from smartstream.sql_text import literal, quoted
from smartstream.trusted.catalog import LakeCatalog, open_catalog


@dataclass(frozen=True, slots=True)
class Sample:
    """Rows as a model sees them, and what it says.

    Attributes:
        inputs: that the model takes.
        features: (n, columns of the query), as the query gives them.
        predictions: (n, prediction columns), in the order of ``features``; null for rows that
            can't be scored.
        reasons: (n,) text, why a row can't be scored; null where it can.
        lsn: the source's position that the rows are as of.
    """

    model: Identity
    inputs: tuple[Feature, ...]
    features: pa.Table
    predictions: pa.Table
    reasons: pa.Array
    lsn: int


def sample(
    settings: Settings,
    model: ModelSettings,
    *,
    rows: int,
    key: Sequence[str] = (),
    catalog: LakeCatalog | None = None,
) -> Sample:
    """Compute the features of a few rows and predict them.

    Args:
        rows: at most; in the order of the key.
        key: values of the model's key columns, as text: that one row.
    Raises:
        FeaturesInvalid: the query fails, or ``key`` has not as many values as the model's key.
        SignatureMismatch: the query's columns are not what the model takes.
        ModelMissing, ModelHashMismatch, ModelFailed, …: as for a run.
    """
    if key and len(key) != len(model.key):
        raise FeaturesInvalid(
            f"model {model.name}: its key is {', '.join(model.key)}; {len(key)} values are given",
            hint="Give one --key for each, in this order.",
        )
    folder = settings.path.parent if settings.path else None
    query = read_query((folder or Path()) / model.features)
    pinned = Pinned(query, model.key, catalog or open_catalog(settings.lake))
    with OpenModels(settings, model, folder) as models, pinned.opened(settings.limits) as connection:
        with running(query):
            features = connection.sql(_few(pinned.features(connection), model, rows, key)).to_arrow_table()
        champion = models[0]
        check_inputs(champion.inputs, features.schema)
        inputs = as_inputs(features, champion.inputs)
        bad, reasons = bad_rows(champion.inputs, inputs)
        usable = inputs.filter(pa.array(~bad))
        found = champion.predict(usable) if usable.num_rows else champion.outputs.empty_table()
        return Sample(champion.identity, champion.inputs, features, _spread(found, ~bad), reasons, pinned.lsn)


def _few(sql: str, model: ModelSettings, rows: int, key: Sequence[str]) -> str:
    """The query's first rows in the order of the key, or the one with this key."""
    names = [quoted(name) for name in model.key]
    wanted = zip(names, key, strict=False)
    where = " AND ".join(f"CAST({name} AS VARCHAR) = {literal(text)}" for name, text in wanted)
    order = f"ORDER BY {', '.join(names)} LIMIT {rows:d}"
    return f"SELECT * FROM ({sql}) WHERE {where or 'true'} {order}"


def _spread(found: pa.Table, good: npt.NDArray[np.bool_]) -> pa.Table:
    """Predictions of the good rows in the places of those; null elsewhere."""
    return found.take(pa.array(np.cumsum(good) - 1, mask=~good))
