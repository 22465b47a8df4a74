"""A memory or disk alarm as a client sees it, made by the proxy: told that it is blocked, and read from no more.

RabbitMQ does this to connections that publish (connection.blocked). A real alarm would be everybody's.
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
    """It is over: what the client has sent meanwhile is read."""
    proxy.say(connection, _frame(_UNBLOCKED.to_bytes(4)))
    proxy.release(connection)


def _frame(payload: bytes) -> bytes:
    return frames.FRAME_HEAD.pack(frames.METHOD, 0, len(payload)) + payload + frames.FRAME_END
