"""The lake as a function sees it: its configuration, its store and its catalog.

The folder of a project (smartstream.yaml, and the models and SQL files that it names) is
copied to ``config/`` of the lake's bucket.  A function copies it back, so that everything
in it means the same as on the machine where it was tried.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from smartstream.aws.lambda_settings import LambdaSettings
from smartstream.config import FILE_NAME, Lake, Settings, load
from smartstream.errors import RawCorrupt
from smartstream.raw.store import Store

CONFIG_PREFIX = "config/"
DEFINITIONS_PREFIX = f"{CONFIG_PREFIX}tables/"
DATABASE_PREFIX = "database_prefix"
_NO_SOURCE = {"url": "postgresql://the-source-is-read-by-dms"}


def lake_of(found: LambdaSettings, environment: dict[str, str] | Any) -> Lake:
    """The lake that Terraform describes to its functions; an emulator's address is taken over."""
    endpoint = environment.get("AWS_ENDPOINT_URL_S3") or environment.get("AWS_ENDPOINT_URL")
    properties = {DATABASE_PREFIX: f"{found.glue_catalog_prefix}_"}
    return Lake.model_validate(
        {
            "warehouse": f"s3://{found.bucket}",
            "catalog": {"type": "glue", "properties": properties},
            "s3": {"endpoint": endpoint, "region": environment.get("AWS_REGION")},
        }
    )


class LambdaConfig:
    """The configuration in ``config/`` of a lake, copied into a folder and read anew when it changes."""

    def __init__(self, store: Store, lake: Lake, folder: Path) -> None:
        self._store, self._lake, self._folder = store, lake, folder
        self._seen: dict[str, Any] = {}
        self._settings: Settings | None = None

    def settings(self) -> Settings:
        """What smartstream.yaml says, with the lake that the function has; defaults without one.

        Raises:
            ConfigInvalid: the file is wrong.
        """
        present = {
            found.key: (found.modified, found.size_bytes)
            for found in self._store.list(CONFIG_PREFIX)
            if not found.key.startswith(DEFINITIONS_PREFIX)
        }
        if self._settings is None or present != self._seen:
            for key in present:
                if present[key] != self._seen.get(key):
                    self._copy(key)
            for key in self._seen.keys() - present.keys():
                self._path(key).unlink(missing_ok=True)
            self._settings, self._seen = self._read(), present
        return self._settings

    def _read(self) -> Settings:
        """The settings in the folder."""
        path = self._folder / FILE_NAME
        if path.exists():
            return load(path).model_copy(update={"lake": self._lake})
        everything: dict[str, Any] = {"source": _NO_SOURCE, "tables": {"*.*": None}}
        return Settings.model_validate(everything).model_copy(update={"lake": self._lake})

    def _copy(self, key: str) -> None:
        """Fetch one file."""
        path = self._path(key)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(self._store.get(key))

    def _path(self, key: str) -> Path:
        """Where a file lies in the folder, and nowhere else."""
        path = (self._folder / key.removeprefix(CONFIG_PREFIX)).resolve()
        if not path.is_relative_to(self._folder.resolve()):
            raise RawCorrupt(f"the object {key} leads out of its folder")
        return path
