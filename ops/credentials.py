"""The secrets of a stack, as files: made once, kept from then on, each account's in a folder of its own.

What `saga admin secrets` fills, and who gets which part:

    <mode>/<account>/saga_broker_url, saga_store_url   that worker: the URLs with its own user and password (files of these names
                                                       are settings, see cli.settings)
    FOLDER/rabbitmq/definitions.json                   the broker: topology, users, permissions; hashes, no passwords
    mongo/keyfile, root                                the database: its replica set's key, the administrator's password

Passwords live in the URLs and nowhere else. A folder that is lost means new passwords: run the admin step again.
"""

import json
import os
import secrets
from dataclasses import dataclass
from pathlib import Path

from yarl import URL

from bootstrap.modes import Mode
from ops.permissions import Account, accounts
from ops.rabbitmq_definitions import definitions

BROKER_URL, STORE_URL = "saga_broker_url", "saga_store_url"
#: Random bytes of a password and of the key file (whose text MongoDB limits to 1,024 characters).
PASSWORD_BYTES, KEYFILE_BYTES = 24, 512
OWNER_READ_ONLY, WORLD_READABLE = 0o400, 0o444
#: Where the database looks its users up, and its first administrator.
AUTH_DATABASE, ADMINISTRATOR = "admin", "root"


@dataclass(frozen=True, slots=True)
class FileOwners:
    """The users that read the files, by number; None leaves what is written with whoever writes it."""

    workers: int | None = None
    mongo: int | None = None


@dataclass(frozen=True, slots=True)
class Credentials:
    """The folder. `broker_url`, `store_url`: where both are, without user and password."""

    folder: Path
    broker_url: URL
    store_url: URL

    def create_folders(self) -> None:
        """Make the folders, and nothing in them."""
        for name in (*(f"{account.mode}/{account.worker}" for account in self.accounts()), "rabbitmq", "mongo"):
            (self.folder / name).mkdir(parents=True, exist_ok=True)

    def generate(self, owners: FileOwners) -> list[str]:
        """Make what is missing and write the definitions anew. Gives the files that are new, by path in the folder."""
        self.create_folders()
        created = []
        for account in self.accounts():
            if not self._path(account, BROKER_URL).exists() or not self._path(account, STORE_URL).exists():
                created += self._create_account_files(account, owners.workers)
        for name, text in {"mongo/root": _password(), "mongo/keyfile": _keyfile()}.items():
            if not (self.folder / name).exists():
                _write(self.folder / name, text, OWNER_READ_ONLY, owners.mongo)
                created.append(name)
        passwords = {account.name: self.password_for(account) for account in self.accounts()}
        _write(self.folder / "rabbitmq" / "definitions.json", json.dumps(definitions(passwords), indent=1), WORLD_READABLE, None)
        return created

    def accounts(self) -> list[Account]:
        """Every account of both modes."""
        return [account for mode in Mode for account in accounts(mode)]

    def url_for(self, account: Account, name: str) -> str:
        """The text of BROKER_URL or STORE_URL for an account. Raises FileNotFoundError."""
        return self._path(account, name).read_text().strip()

    def password_for(self, account: Account) -> str:
        """The same on the broker and in the database. Raises FileNotFoundError."""
        return URL(self.url_for(account, BROKER_URL)).password or ""

    def root_url(self) -> str:
        """The database for its administrator, reached directly: there may be no replica set yet."""
        query = {"directConnection": "true", "authSource": AUTH_DATABASE}
        url = self.store_url.with_user(ADMINISTRATOR).with_password((self.folder / "mongo" / "root").read_text().strip())
        return str(url.with_query(query))

    def _create_account_files(self, account: Account, owner: int | None) -> list[str]:
        password = _password()
        urls = {BROKER_URL: self.broker_url, STORE_URL: self.store_url.update_query(authSource=AUTH_DATABASE)}
        for name, url in urls.items():
            _write(self._path(account, name), str(url.with_user(account.name).with_password(password)), OWNER_READ_ONLY, owner)
        return [f"{account.mode}/{account.worker}/{name}" for name in urls]

    def _path(self, account: Account, name: str) -> Path:
        return self.folder / account.mode / account.worker / name


def _password() -> str:
    return secrets.token_urlsafe(PASSWORD_BYTES)


def _keyfile() -> str:
    return secrets.token_hex(KEYFILE_BYTES)


def _write(file: Path, text: str, permissions: int, owner: int | None) -> None:
    """Whole or not at all, and never readable by others while it is written."""
    temporary = file.with_name(f".{file.name}")
    temporary.unlink(missing_ok=True)
    with os.fdopen(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as stream:
        stream.write(text)
    if owner is not None:
        os.chown(temporary, owner, owner)
    temporary.chmod(permissions)
    temporary.replace(file)
