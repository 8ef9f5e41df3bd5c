"""The Glue catalog, in which each of the lake's zones is a database with a prefix of its own."""

from __future__ import annotations

from pyiceberg.catalog import Catalog
from pyiceberg.catalog.glue import GlueCatalog
from pyiceberg.exceptions import NoSuchNamespaceError, NoSuchTableError
from pyiceberg.typedef import Identifier

DATABASE_PREFIX = "database_prefix"
"""Property of the catalog: ``shop_prod_`` makes the zone ``trusted`` the database ``shop_prod_trusted``."""


class ZoneCatalog(GlueCatalog):
    """Glue's databases are shared by a whole account, so that "trusted" alone would not do."""

    def __init__(self, name: str, **properties: str) -> None:
        super().__init__(name, **properties)
        self._prefix = properties.get(DATABASE_PREFIX, "")

    # pyiceberg's are static methods that it calls on the instance.
    def identifier_to_database(  # type: ignore[override]
        self,
        identifier: str | Identifier,
        err: type[ValueError] | type[NoSuchNamespaceError] = ValueError,
    ) -> str:
        """The database of a zone."""
        return self._database(Catalog.identifier_to_database(identifier, err))

    def identifier_to_database_and_table(  # type: ignore[override]
        self,
        identifier: str | Identifier,
        err: type[ValueError] | type[NoSuchTableError] | type[NoSuchNamespaceError] = ValueError,
    ) -> tuple[str, str]:
        """The database and the name of a table."""
        zone, table = Catalog.identifier_to_database_and_table(identifier, err)
        return self._database(zone), table

    def _database(self, zone: str) -> str:
        """A name with the prefix; pyiceberg hands back names that have it already."""
        return zone if zone.startswith(self._prefix) else f"{self._prefix}{zone}"
