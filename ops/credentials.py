"""The secrets of a stack as files. Each is generated once and kept; each account's are in a folder of their own.

`saga admin secrets FOLDER` writes these files into FOLDER, for the reader named on the right:

    <mode>/<account>/saga_broker_url, saga_store_url   that worker: the URLs with its own user and password (files of these names
                                                       are settings, see cli.settings)
    FOLDER/rabbitmq/definitions.json                   the broker: topology, users, permissions; hashes, no passwords
    mongo/keyfile, root                                the database: its replica set's key, the administrator's password

The accounts' passwords are stored in the URLs only. When the folder is lost, generate new ones: run the admin commands again.
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
#: Random bytes in a password and in the key file. MongoDB limits the key file to 1,024 characters.
PASSWORD_BYTES, KEYFILE_BYTES = 24, 512
OWNER_READ_ONLY, WORLD_READABLE = 0o400, 0o444
#: The database in which MongoDB keeps its users, and the name of the administrator.
AUTH_DATABASE, ADMINISTRATOR = "admin", "root"


@dataclass(frozen=True, slots=True)
class FileOwners:
    """The user ids that will own the files; None keeps the owner that writes them."""

    workers: int | None = None
    mongo: int | None = None


@dataclass(frozen=True, slots=True)
class Credentials:
    """The secrets in `folder`. `broker_url`, `store_url`: the servers' URLs without user and password."""

    folder: Path
    broker_url: URL
    store_url: URL

    def create_folders(self) -> None:
        """Create the folders and leave them empty."""
        for name in (*(f"{account.mode}/{account.worker}" for account in self.accounts()), "rabbitmq", "mongo"):
            (self.folder / name).mkdir(parents=True, exist_ok=True)

    def generate(self, owners: FileOwners) -> list[str]:
        """Generate what is missing and rewrite the definitions. Returns the new secrets by path in the folder. Raises OSError."""
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
        """An account's URL; `name` is BROKER_URL or STORE_URL. Raises FileNotFoundError."""
        return self._path(account, name).read_text().strip()

    def password_for(self, account: Account) -> str:
        """An account's password, the same on the broker and in the database. Raises FileNotFoundError."""
        return URL(self.url_for(account, BROKER_URL)).password or ""

    def root_url(self) -> str:
        """The database's URL for its administrator, with a direct connection: there may be no replica set yet."""
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
    """Write a file atomically. Until it is complete, only its writer can read it."""
    temporary = file.with_name(f".{file.name}")
    temporary.unlink(missing_ok=True)
    with os.fdopen(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as stream:
        stream.write(text)
    if owner is not None:
        os.chown(temporary, owner, owner)
    temporary.chmod(permissions)
    temporary.replace(file)
