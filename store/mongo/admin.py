"""Administration of MongoDB, done once for each deployment: the replica set, and a user for each account.

Workers use store/mongo/store.py and need none of these rights. Every operation may be repeated.
"""

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from pymongo import MongoClient
from pymongo.errors import ConnectionFailure, OperationFailure, PyMongoError

from store.mongo.errors import ACCESS_DENIED
from store.protocol import NoPrimary, StoreError, StoreUnavailable, UserRefused

#: Seconds that the server may take to answer, and again to elect its primary.
STARTUP_TIMEOUT_S = 60.0
PAUSE_S = 0.2
ALREADY_INITIATED = 23
USER_EXISTS = 51003


@contextmanager
def open_administrator(url: str, timeout_s: float = STARTUP_TIMEOUT_S) -> "Iterator[Administrator]":
    """Connect to the server at `url` as an administrator. The URL has user, password and directConnection=true.

    Waits until the server answers. Raises StoreUnavailable, UserRefused and StoreError, also for the calls in the block."""
    options: dict[str, Any] = {"serverSelectionTimeoutMS": int(timeout_s * 1000), "socketTimeoutMS": 10_000}
    try:
        with MongoClient[dict[str, Any]](url, **options) as client:
            yield Administrator(client, timeout_s)
    except OperationFailure as error:
        if error.code in ACCESS_DENIED:
            raise UserRefused(f"the database refuses the administrator; check user and password: {error!s:.200}") from error
        raise StoreError(f"the database refuses the command: {error!s:.200}") from error
    except ConnectionFailure as error:
        raise StoreUnavailable(f"{error!s:.200}") from error
    except PyMongoError as error:
        raise StoreError(f"{error!s:.200}") from error


class Administrator:
    """The administrator's operations on one server. Created by `open_administrator`."""

    def __init__(self, client: "MongoClient[dict[str, Any]]", timeout_s: float) -> None:
        self._client = client
        self._timeout_s = timeout_s

    def initiate(self, name: str, member: str) -> bool:
        """Make the server the only member of the replica set `name`; `member` is the host:port by which clients reach it.

        Returns once the server is primary: True if the set is new, False if there was one. Raises NoPrimary on a timeout."""
        is_new = "setName" not in self._hello()
        if is_new:
            config = {"_id": name, "members": [{"_id": 0, "host": member}]}
            try:
                self._client.admin.command("replSetInitiate", config)
            except OperationFailure as error:
                if error.code != ALREADY_INITIATED:
                    raise
        deadline = time.monotonic() + self._timeout_s
        while not self._hello().get("isWritablePrimary"):
            if time.monotonic() > deadline:
                raise NoPrimary(f"the replica set {name} has no primary after {self._timeout_s:g} s")
            time.sleep(PAUSE_S)
        return is_new

    def grant(self, user: str, password: str, databases: Sequence[str]) -> None:
        """Create or update a user with read and write access to these databases and no other rights."""
        roles = [{"role": "readWrite", "db": name} for name in databases]
        try:
            self._client.admin.command("createUser", user, pwd=password, roles=roles)
        except OperationFailure as error:
            if error.code != USER_EXISTS:
                raise
            self._client.admin.command("updateUser", user, pwd=password, roles=roles)

    def _hello(self) -> dict[str, Any]:
        return dict(self._client.admin.command("hello"))
