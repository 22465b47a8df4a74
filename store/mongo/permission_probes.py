"""Permission probes for MongoDB: try operations that an account should not be allowed. For `saga doctor --security`.

A probe that turns out to be allowed leaves no data behind. It uses the driver's synchronous client, so run it in a thread.
"""

import secrets
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from pymongo import MongoClient
from pymongo.errors import OperationFailure, PyMongoError

from store.mongo.errors import ACCESS_DENIED
from store.protocol import StoreError, StoreUnavailable

PROBE_COLLECTION = "security_probe"


class MongoPermissionProbe:
    """The probes of one account. Each returns whether the operation was allowed; raises StoreError if that is unknown."""

    def __init__(self, client: "MongoClient[dict[str, Any]]") -> None:
        self._client = client

    def read(self, database: str) -> bool:
        return _is_allowed(self._client[database][PROBE_COLLECTION].find_one)

    def write(self, database: str) -> bool:
        """Insert one document and delete it."""

        def attempt() -> None:
            rows, row = self._client[database][PROBE_COLLECTION], {"_id": secrets.token_hex(8)}
            rows.insert_one(row)
            rows.delete_one(row)

        return _is_allowed(attempt)

    def write_through_aggregation(self, source: str, target: str) -> bool:
        """Run a pipeline over `source`, which may be the account's own, that writes to `target`. It matches nothing."""
        stages: list[dict[str, Any]] = [
            {"$match": {"_id": PROBE_COLLECTION}},
            {"$merge": {"into": {"db": target, "coll": PROBE_COLLECTION}}},
        ]
        return _is_allowed(lambda: list(self._client[source][PROBE_COLLECTION].aggregate(stages)))

    def list_databases(self) -> bool:
        return _is_allowed(self._client.list_database_names)

    def read_users(self) -> bool:
        return _is_allowed(self._client.admin["system.users"].find_one)

    def make_user(self) -> bool:
        """Create a user with no rights and drop it."""

        def attempt() -> None:
            name = f"{PROBE_COLLECTION}_{secrets.token_hex(8)}"
            self._client.admin.command("createUser", name, pwd=secrets.token_hex(16), roles=[])
            self._client.admin.command("dropUser", name)

        return _is_allowed(attempt)

    def promote(self, user: str, database: str) -> bool:
        """Grant `user` the right to read one more database, and revoke it."""

        def attempt() -> None:
            role = [{"role": "read", "db": database}]
            self._client.admin.command("grantRolesToUser", user, roles=role)
            self._client.admin.command("revokeRolesFromUser", user, roles=role)

        return _is_allowed(attempt)


@contextmanager
def permission_probe(url: str) -> "Iterator[MongoPermissionProbe]":
    """The probes of the account in `url`. It logs in at the first one."""
    options: dict[str, Any] = {"serverSelectionTimeoutMS": 5_000, "socketTimeoutMS": 10_000}
    with MongoClient[dict[str, Any]](url, **options) as client:
        yield MongoPermissionProbe(client)


def _is_allowed(attempt: Callable[[], object]) -> bool:
    try:
        attempt()
    except OperationFailure as error:
        if error.code in ACCESS_DENIED:
            return False
        raise StoreError(f"{error!s:.200}") from error
    except PyMongoError as error:
        raise StoreUnavailable(f"{error!s:.200}") from error
    return True
