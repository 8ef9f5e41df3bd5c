"""From what an endpoint says to a connection on this machine."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from threading import Event
from typing import Any

from smartstream.testing.local_dms import source
from smartstream.testing.local_dms.settings import Quirks
from smartstream.testing.local_dms.target import Stream

Clients = Callable[[str], Any]
"""Makes a client of boto3 for a service, such as ``kinesis``."""

ANY_HOST = "*"


class Unreachable(Exception):
    """An endpoint can't be reached from here, by what it says of itself."""


@dataclass(frozen=True)
class Endpoints:
    """Opens what endpoints name.

    Attributes:
        clients: of the services where streams and secrets are.
        hosts: libpq's settings of a local server in place of a host that endpoints or their
            secrets name, such as ``{"db.example.com": "host=127.0.0.1 port=5433"}``; ``*`` is any.
    """

    clients: Clients
    hosts: Mapping[str, str]

    def open_source(self, endpoint: Mapping[str, Any]) -> source.Connection:
        """Connect to the server behind a source endpoint, with the login that it names.

        Raises:
            Unreachable: no local server stands for its host, or its secret lacks a part.
            psycopg.OperationalError: the local server doesn't let it in.
            botocore.exceptions.ClientError: its secret can't be read.
        """
        settings = endpoint.get("PostgreSQLSettings", {})
        login = self._login(endpoint, settings)
        host = str(login["host"])
        overrides = self.hosts.get(host, self.hosts.get(ANY_HOST))
        if overrides is None:
            raise Unreachable(f"no local server stands for the host {host}")
        database = settings.get("DatabaseName") or endpoint.get("DatabaseName")
        if not database:
            raise Unreachable("the endpoint names no database")
        return source.connect(source.local_conninfo(login, database, overrides))

    def open_stream(self, endpoint: Mapping[str, Any], quirks: Quirks, stopping: Event) -> Stream:
        """Return the stream behind a target endpoint, whether it exists or not.

        Raises:
            Unreachable: the endpoint names none.
        """
        arn = endpoint.get("KinesisSettings", {}).get("StreamArn")
        if not arn:
            raise Unreachable("the endpoint names no stream")
        return Stream(self.clients("kinesis"), arn, quirks, stopping)

    def _login(self, endpoint: Mapping[str, Any], settings: Mapping[str, Any]) -> dict[str, Any]:
        """Who and where, from the endpoint's secret or from itself."""
        secret = settings.get("SecretsManagerSecretId")
        if secret:
            answer = self.clients("secretsmanager").get_secret_value(SecretId=secret)
            login = json.loads(answer["SecretString"])
        else:
            names = {"host": "ServerName", "port": "Port", "username": "Username", "password": "Password"}
            login = {
                key: value
                for key, name in names.items()
                if (value := settings.get(name, endpoint.get(name))) is not None
            }
        if missing := {"host", "port", "username", "password"} - login.keys():
            raise Unreachable(f"the endpoint's login lacks {', '.join(sorted(missing))}")
        return dict(login)
