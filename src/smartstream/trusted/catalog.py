"""The Iceberg catalog of a lake, and how its failures become our errors."""

from __future__ import annotations

import errno
import hashlib
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

from pyiceberg.catalog import Catalog, load_catalog
from pyiceberg.exceptions import CommitFailedException, NamespaceAlreadyExistsError, RESTError

from smartstream.errors import (
    CatalogUnavailable,
    CommitConflict,
    DiskFull,
    LakeNotWritable,
    SmartStreamError,
    StoreUnavailable,
)

NAMESPACES = ("trusted", "quarantine", "analytics")
TRUSTED, QUARANTINE, ANALYTICS = NAMESPACES
CATALOG_NAME = "smartstream"
LakeCatalog = Catalog
"""An open catalog, for those who only hand it on."""
SQLITE_BUSY_S_MAX = 30
"""How long a SQLite catalog waits for another process that is committing."""


class CatalogSettings(Protocol):
    """The part of the configuration that says which catalog."""

    @property
    def type(self) -> str: ...
    @property
    def uri(self) -> str | None: ...
    @property
    def properties(self) -> Mapping[str, Any]: ...


class LakeSettings(Protocol):
    """The part of the configuration that says where the lake lies."""

    @property
    def warehouse(self) -> str: ...
    @property
    def catalog(self) -> CatalogSettings: ...
    @property
    def s3(self) -> Any: ...


def open_catalog(lake: LakeSettings) -> Catalog:
    """Open the lake's catalog, creating it and its namespaces when they are missing.

    A local warehouse without ``catalog.uri`` keeps its catalog in
    ``<warehouse>/catalog.db`` (SQLite).

    Raises:
        LakeNotWritable, DiskFull: the warehouse's folder cannot be made.
        CatalogUnavailable: the catalog does not answer.
    """
    with lake_errors("open the catalog"):
        properties = _catalog_properties(lake)
        kind = lake.catalog.type
        if kind == "sqlite":
            from pyiceberg.catalog.sql import SqlCatalog  # SQLAlchemy only where it is needed

            catalog: Catalog = SqlCatalog(CATALOG_NAME, **properties)
        elif kind == "glue":
            from smartstream.trusted.glue import ZoneCatalog  # boto3 only where it is needed

            catalog = ZoneCatalog(CATALOG_NAME, **properties)
        else:
            catalog = load_catalog(CATALOG_NAME, type=kind, **properties)
        for namespace in NAMESPACES:
            try:
                catalog.create_namespace(namespace)
            except NamespaceAlreadyExistsError:
                continue
    return catalog


def table_location(catalog: Catalog, lake_name: str, namespace: str = TRUSTED) -> str:
    """Return the folder of a table, as a URI below the warehouse.

    Names that are not plain words are written so that no store, file system or
    URI parser can take them for something else; a short hash keeps them apart.
    """
    safe = re.sub(r"[^A-Za-z0-9_-]", "_", lake_name)
    if safe != lake_name or safe != safe.lower():
        safe = f"{safe[:100]}-{hashlib.sha256(lake_name.encode()).hexdigest()[:8]}"
    return f"{str(catalog.properties['warehouse']).rstrip('/')}/{namespace}/{safe}"


def _catalog_properties(lake: LakeSettings) -> dict[str, str]:
    """pyiceberg's properties for the lake."""
    properties = {str(key): str(value) for key, value in dict(lake.catalog.properties or {}).items()}
    if lake.warehouse.startswith("s3://"):
        warehouse = lake.warehouse.rstrip("/")
        properties |= _s3_properties(lake.s3)
    else:
        folder = Path(lake.warehouse).expanduser().absolute()
        if {"#", "?", "%"} & set(str(folder)):
            raise LakeNotWritable(
                f"the warehouse {folder} has #, ? or % in its name, which Iceberg's URIs cannot hold",
                hint="Choose another folder for lake.warehouse.",
            )
        folder.mkdir(parents=True, exist_ok=True)
        warehouse = f"file://{folder}"
    uri = lake.catalog.uri
    if lake.catalog.type == "sqlite" and uri is None:
        if warehouse.startswith("s3://"):
            raise LakeNotWritable(
                "a SQLite catalog cannot live in s3://",
                hint="Set lake.catalog.uri to a local file (sqlite:////path/catalog.db), or use glue.",
            )
        database = str(Path(warehouse.removeprefix("file://")) / "catalog.db")
        uri = _sqlite_url(database)
    if uri is not None:
        properties["uri"] = uri
    properties["warehouse"] = warehouse
    return properties


def _sqlite_url(database: str) -> str:
    """SQLAlchemy's URL of a SQLite file."""
    from sqlalchemy import URL

    query = {"timeout": str(SQLITE_BUSY_S_MAX)}
    return URL.create("sqlite", database=database, query=query).render_as_string(hide_password=False)


def _s3_properties(s3: Any) -> dict[str, str]:
    """pyiceberg's S3 properties; absent options are left to the AWS defaults."""
    names = {
        "s3.endpoint": "endpoint",
        "s3.region": "region",
        "s3.access-key-id": "access_key_id",
        "s3.secret-access-key": "secret_access_key",
    }
    found: dict[str, str] = {}
    for name, attribute in names.items():
        value = getattr(s3, attribute, None)
        if value is not None:
            found[name] = str(value if isinstance(value, str) else value.reveal())
    return found


@contextmanager
def lake_errors(action: str) -> Iterator[None]:
    """Turn failures of the file system, the store and the catalog into our errors.

    ``action`` completes "cannot …" in the message.  Errors of our own tree and
    unknown exceptions pass unchanged.
    """
    try:
        yield
    except SmartStreamError:
        raise
    except CommitFailedException as error:
        raise CommitConflict(f"cannot {action}: {error}") from error
    except RESTError as error:
        raise CatalogUnavailable(f"cannot {action}: {type(error).__name__}") from error
    except OSError as error:
        raise _from_os(action, error) from error
    except Exception as error:
        kinds = {f"{kind.__module__}.{kind.__name__}" for kind in type(error).__mro__}
        if "sqlalchemy.exc.OperationalError" in kinds:
            raise _from_sql(action, error) from error
        if "sqlalchemy.exc.SQLAlchemyError" in kinds:
            raise CatalogUnavailable(f"cannot {action}: {type(error).__name__}") from error
        raise


def _from_sql(action: str, error: Any) -> SmartStreamError:
    """A database error of the catalog (SQLAlchemy's OperationalError), by what SQLite says."""
    text = str(error.orig)
    if "readonly" in text or "unable to open" in text:
        return LakeNotWritable(f"cannot {action}: {text}")
    if "full" in text:
        return DiskFull(f"cannot {action}: {text}")
    return CatalogUnavailable(f"cannot {action}: {text}")


def _from_os(action: str, error: OSError) -> SmartStreamError:
    """A system error, by its number; without one it came from an object store."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return DiskFull(f"cannot {action}: no space left")
    if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR):
        return LakeNotWritable(f"cannot {action}: {error.strerror}")
    return StoreUnavailable(f"cannot {action}: {error}")
