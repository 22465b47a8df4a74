"""Loads the credentials of a folder for the servers in the settings."""

from pathlib import Path

from yarl import URL

from cli.settings import load
from ops.credentials import Credentials


def credentials_in(folder: Path) -> Credentials:
    """The credentials in `folder`, with the URLs of the settings but without their user and password."""
    settings = load()
    broker_url, store_url = URL(settings.broker_url), URL(settings.store_url)
    return Credentials(folder, broker_url.with_user(None), store_url.with_user(None))
