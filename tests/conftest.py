"""Loads the shared fixtures (tests/support/fixtures.py) and declares the marker `real`."""

import pytest

pytest.register_assert_rewrite("tests.support")
pytest_plugins = ["tests.support.fixtures"]


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "real: needs a real RabbitMQ or MongoDB server (see tests/support/servers.py)")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Refuse a test that takes a real server and is not marked `real`: it would start one for each core."""
    for item in items:
        if (
            isinstance(item, pytest.Function)
            and {"mongo_url", "rabbit_url"} & {*item.fixturenames}
            and not item.get_closest_marker("real")
        ):
            raise pytest.UsageError(f"{item.nodeid} takes a real server: mark it `real`")
