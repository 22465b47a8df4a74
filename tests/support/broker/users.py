"""Accounts on the broker under test, with given permissions. Needs rabbitmqctl for that broker."""

import subprocess
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from yarl import URL

from tests.support import prerequisites, servers

#: A pattern that no name and no routing key matches.
NOTHING = "^$"


@contextmanager
def lent(url: str, *, write: str = NOTHING, read: str = NOTHING, keys: Mapping[str, str] | None = None) -> Iterator[str]:
    """Create an account without the permission to declare, yield the broker's URL with it, and delete it.

    `write` and `read` are patterns of names. `keys`: exchange -> pattern of the routing keys that may be written there, any by
    default. Without rabbitmqctl the test is skipped."""
    control = servers.rabbitmqctl(url)
    if control is None:
        prerequisites.BROKER_ADMINISTRATION.missing("a container with its port, and a broker of this machine")
    user, vhost = f"u{uuid.uuid4().hex[:8]}", URL(url).path.strip("/") or "/"
    calls = [_call("add_user", user, "secret"), _call("set_permissions", user, vhost, NOTHING, write, read)]
    calls += [_call("set_topic_permissions", user, vhost, name, pattern, NOTHING) for name, pattern in (keys or {}).items()]
    # One call for all, because each call of rabbitmqctl takes a second or more.
    subprocess.run([*control, "eval", f"{', '.join(calls)}."], check=True, capture_output=True, timeout=60)
    try:
        yield str(URL(url).with_user(user).with_password("secret"))
    finally:
        subprocess.run([*control, "delete_user", user], check=True, capture_output=True, timeout=60)


def _call(function: str, *texts: str) -> str:
    """Return the Erlang expression that rabbitmqctl's command of that name evaluates."""
    quoted = [f'<<"{text}">>'.replace("\\", "\\\\") for text in (*texts, "tests")]
    return f"ok = rabbit_auth_backend_internal:{function}({', '.join(quoted)})"
