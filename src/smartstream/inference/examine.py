"""Examine: whether the models of smartstream.yaml could run now, without running them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from smartstream.config import Settings
from smartstream.errors import SmartStreamError
from smartstream.inference.config import ModelSettings
from smartstream.inference.features.pinned import Pinned
from smartstream.inference.features.query import FeatureQuery, check_dialect, read_query, running
from smartstream.inference.models.model import Model
from smartstream.inference.models.signature import check_inputs
from smartstream.inference.score import OpenModels
from smartstream.trusted.catalog import TRUSTED, LakeCatalog, open_catalog
from smartstream.trusted.plan import find_table


@dataclass(frozen=True, slots=True)
class Examined:
    """What was found of one model.

    Attributes:
        found: what it is, in a few words; empty with an error.
        error: why it could not run.
        notes: what could not be checked, or matters elsewhere only.
    """

    model: str
    found: str
    error: SmartStreamError | None
    notes: tuple[str, ...] = ()


def examine_models(settings: Settings) -> list[Examined]:
    """Load each model, and compare its inputs with the columns of its feature query.

    Where a trusted table is not there yet, that comparison waits, and a note says so.

    Raises:
        LakeError: the catalog can't be read.
    """
    if not settings.models:
        return []
    catalog = open_catalog(settings.lake)
    return [_examine(settings, model, catalog) for model in settings.models]


def _examine(settings: Settings, model: ModelSettings, catalog: LakeCatalog) -> Examined:
    """One model."""
    folder = settings.path.parent if settings.path else None
    try:
        query = read_query((folder or Path()) / model.features)
        missing = [name for name in query.tables if find_table(catalog, TRUSTED, name) is None]
        with OpenModels(settings, model, folder) as models:
            if not missing:
                _compare(settings, model, query, catalog, models)
            identity = models[0].identity
    except SmartStreamError as error:
        return Examined(model.name, "", error)
    notes = [f"no trusted table {name} yet: its inputs are not checked" for name in missing]
    if settings.lake.warehouse.startswith("s3://"):
        notes += [f"Athena can't run its feature query as it stands: {line}" for line in check_dialect(query)]
    found = f"{identity.format}, version {identity.version}, {len(models[0].inputs)} inputs"
    return Examined(model.name, found, None, tuple(notes))


def _compare(
    settings: Settings, model: ModelSettings, query: FeatureQuery, catalog: LakeCatalog, models: list[Model]
) -> None:
    """Raise where the columns of the query are not what a model takes."""
    pinned = Pinned(query, model.key, catalog)
    with pinned.opened(settings.limits) as connection, running(query):
        sql = f"SELECT * FROM ({pinned.features(connection)}) LIMIT 0"
        columns = connection.sql(sql).to_arrow_table().schema
    for one in models:
        check_inputs(one.inputs, columns)
