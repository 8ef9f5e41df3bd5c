"""The lake side."""

from __future__ import annotations

from smartstream.errors.base import Retry, SmartStreamError


class LakeError(SmartStreamError):
    """The lake side."""

    hint = "Run `smartstream doctor` to check the lake."


class LakeNotWritable(LakeError):
    """The warehouse refuses writes."""

    hint = "Check lake.warehouse and the rights of the user that runs SmartStream."


class DiskFull(LakeError):
    """No space left where the lake lies."""

    hint = "Free space on the warehouse's disk; SmartStream continues where it stopped, nothing is lost."


class StoreUnavailable(LakeError):
    """The object store does not answer."""

    retry = Retry.TRANSIENT
    hint = "SmartStream tries again by itself; check the network and the store's credentials."


class RawCorrupt(LakeError):
    """A file of the raw changelog is damaged or missing."""

    retry = Retry.NEVER
    hint = "Restore the file from a backup, or run `smartstream resync TABLE` to copy the table again."


class ManifestConflict(LakeError):
    """Another process wrote the manifest entry that was ours to write."""

    retry = Retry.NEVER
    hint = "Two SmartStream processes write to one lake: stop one of them."


class CatalogUnavailable(LakeError):
    """The Iceberg catalog does not answer."""

    retry = Retry.TRANSIENT
    hint = "SmartStream tries again by itself; check lake.catalog."


class CommitConflict(LakeError):
    """An Iceberg commit lost a race or its outcome is unknown."""

    retry = Retry.VERIFY
    hint = "SmartStream reloads the table and looks whether the commit happened."


class TablesPaused(LakeError):
    """What was asked needs trusted tables to go on, and a person has paused them."""

    retry = Retry.NEVER
    hint = "`smartstream resume` lets them go on."


class TableCorrupt(LakeError):
    """A trusted table's metadata or files do not hold together."""

    retry = Retry.NEVER
    hint = "Run `smartstream resync TABLE` to build the table again."
