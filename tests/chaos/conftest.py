"""A fixture that requires the servers that `saga chaos` starts."""

import pytest

from lab.chaos.servers import NotInstalled, rabbitmq_server, secantusd
from tests.support import prerequisites


@pytest.fixture(scope="module")
def installed() -> None:
    """Skip a test, or fail it in CI, unless both servers are installed."""
    try:
        rabbitmq_server()
        secantusd()
    except NotInstalled as reason:
        prerequisites.OWN_SERVERS.missing(str(reason))
