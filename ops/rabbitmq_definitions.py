"""RabbitMQ's definitions of both modes: users, permissions, exchanges, queues and bindings, in one document to load at start.

Exchanges and queues come from `broker.declarations`, users from `ops.permissions`. Format:
https://www.rabbitmq.com/docs/definitions.
"""

import base64
import hashlib
import secrets
from collections.abc import Callable, Mapping
from typing import Any

from bootstrap.modes import Mode
from broker import declarations
from ops.permissions import Account, accounts, topologies

VHOST = "/"
SALT_BYTES = 4


def definitions(passwords: Mapping[str, str], *, hash_password: Callable[[str], str] | None = None) -> dict[str, Any]:
    """The definitions document, ready for JSON. `passwords`: account name -> password; the document has only their hashes."""
    hash_password = hash_password or salted_hash
    all_accounts = [account for mode in Mode for account in accounts(mode)]
    all_topologies = [topology for mode in Mode for topology in topologies(mode)]
    kinds = {name: kind for topology in all_topologies for name, kind in declarations.exchanges(topology).items()}
    specs = {spec.name: spec for topology in all_topologies for spec in declarations.queues(topology)}
    return {
        "vhosts": [{"name": VHOST}],
        "users": [_user(account, hash_password(passwords[account.name])) for account in all_accounts],
        "permissions": [_permission(account) for account in all_accounts],
        "topic_permissions": [
            {"user": account.name, "vhost": VHOST, "exchange": exchange, "write": keys, "read": "^$"}
            for account in all_accounts
            for exchange, keys in account.routing_keys.items()
        ],
        "exchanges": [{"name": name, "type": kind, "internal": False, **_durable({})} for name, kind in kinds.items()],
        "queues": [{"name": spec.name, **_durable(spec.arguments)} for spec in specs.values()],
        "bindings": [
            {
                "source": exchange,
                "vhost": VHOST,
                "destination": spec.name,
                "destination_type": "queue",
                "routing_key": key,
                "arguments": {},
            }
            for spec in specs.values()
            for exchange, key in spec.bindings
        ],
    }


def salted_hash(password: str) -> str:
    """RabbitMQ's hash of a password: base64 of a random salt followed by the SHA-256 of salt and password."""
    salt = secrets.token_bytes(SALT_BYTES)
    return base64.b64encode(salt + hashlib.sha256(salt + password.encode()).digest()).decode()


def _user(account: Account, password_hash: str) -> dict[str, Any]:
    """A user without tags, so it has no access to the management interface."""
    return {
        "name": account.name,
        "password_hash": password_hash,
        "hashing_algorithm": "rabbit_password_hashing_sha256",
        "tags": [],
        "limits": {},
    }


def _permission(account: Account) -> dict[str, Any]:
    patterns = {"configure": account.configure, "write": account.write, "read": account.read}
    return {"user": account.name, "vhost": VHOST, **patterns}


def _durable(arguments: Mapping[str, Any]) -> dict[str, Any]:
    return {"vhost": VHOST, "durable": True, "auto_delete": False, "arguments": dict(arguments)}
