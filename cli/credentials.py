"""The credentials in a folder, for the servers that the settings name."""

from pathlib import Path

from yarl import URL

from cli.settings import load
from ops.credentials import Credentials


def credentials_in(folder: Path) -> Credentials:
    """The secrets in a folder, for the servers that the settings name."""
    settings = load()
    broker_url, store_url = URL(settings.broker_url), URL(settings.store_url)
    return Credentials(folder, broker_url.with_user(None), store_url.with_user(None))
