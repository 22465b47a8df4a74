"""The fixture that requires the servers which `saga chaos` starts itself."""

import pytest

from lab.chaos.servers import NotInstalled, rabbitmq_server, secantusd
from tests.support import prerequisites


@pytest.fixture(scope="module")
def installed() -> None:
    """Both servers can be started here; otherwise the test is skipped, or failed in CI."""
    try:
        rabbitmq_server()
        secantusd()
    except NotInstalled as reason:
        prerequisites.OWN_SERVERS.missing(str(reason))
