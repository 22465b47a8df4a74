"""Loads the shared fixtures (tests/support/fixtures.py) and declares the marker `real`."""

import pytest

pytest.register_assert_rewrite("tests.support")
pytest_plugins = ["tests.support.fixtures"]


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "real: needs a real RabbitMQ or MongoDB server (see tests/support/servers.py)")
