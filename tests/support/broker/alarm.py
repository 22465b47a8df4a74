"""Simulates a memory or disk alarm for one connection: the proxy sends connection.blocked and stops reading from the client.

RabbitMQ does this to connections that publish. A real alarm would affect every client.
"""

from broker.rabbitmq import frames
from tests.support.network.tcp_proxy import Proxy

_BLOCKED, _UNBLOCKED = 0x000A003C, 0x000A003D


def block(proxy: Proxy, connection: int) -> None:
    """Raise the alarm for one connection, by its number at the proxy."""
    proxy.hold(connection)
    reason = b"low on memory"
    proxy.say(connection, _frame(_BLOCKED.to_bytes(4) + bytes((len(reason),)) + reason))


def unblock(proxy: Proxy, connection: int) -> None:
    """End the alarm: forward what the client has sent meanwhile."""
    proxy.say(connection, _frame(_UNBLOCKED.to_bytes(4)))
    proxy.release(connection)


def _frame(payload: bytes) -> bytes:
    return frames.FRAME_HEAD.pack(frames.METHOD, 0, len(payload)) + payload + frames.FRAME_END
