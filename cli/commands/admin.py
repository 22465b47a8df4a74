"""`saga admin`: the steps of an administrator, once per deployment, with permissions that no worker has.

`secrets` runs before the servers start, `database` after. Both can be repeated and keep what exists.
"""

from pathlib import Path
from typing import Annotated

import typer

from cli.credentials import credentials_in
from cli.options import JsonFlag
from cli.output import Code, console, data, exit_on_error, print_json, stop
from cli.typer_app import TyperApp
from ops.credentials import Credentials, FileOwners
from store.mongo.admin import open_administrator

Folder = Annotated[Path, typer.Argument(help="The folder of the secrets.")]

group = TyperApp(help="Set up a deployment, once: passwords, users, permissions, topology.", no_args_is_help=True)


def register(app: typer.Typer) -> None:
    """Add the commands to the app."""
    app.add_typer(group, name="admin")


@group.command(epilog="Example: saga admin secrets .saga/secrets")
def secrets(
    folder: Folder,
    workers_uid: Annotated[int | None, typer.Option(help="The user that workers run as; needs root.")] = None,
    mongo_uid: Annotated[int | None, typer.Option(help="The user that MongoDB runs as; needs root.")] = None,
    only_folders: Annotated[bool, typer.Option("--only-folders", help="Make only the folders, empty.")] = False,
    as_json: JsonFlag = False,
) -> None:
    """Make passwords for every worker of both modes, MongoDB's key file, and RabbitMQ's users, permissions and topology.

    Existing files are kept. The servers are those of SAGA_BROKER_URL and SAGA_STORE_URL, without user and password."""
    created = _create_secrets(credentials_in(folder), FileOwners(workers_uid, mongo_uid), only_folders=only_folders)
    if as_json:
        print_json({"folder": str(folder), "made": created})
    else:
        data.print(f"{folder}: {len(created)} new files; RabbitMQ loads {folder}/rabbitmq/definitions.json", highlight=False)


@group.command(epilog="Example: saga admin database .saga/secrets")
def database(folder: Folder, as_json: JsonFlag = False) -> None:
    """Initiate MongoDB's replica set if necessary, and create each worker's user with permissions on its own database."""
    credentials = credentials_in(folder)
    name = credentials.store_url.query.get("replicaSet")
    if not name:
        stop(Code.USAGE, "SAGA_STORE_URL names no replica set, which transactions need. Add ?replicaSet=rs0.")
    with exit_on_error():
        accounts = credentials.accounts()
        try:
            passwords = [credentials.password_for(account) for account in accounts]
            root_url = credentials.root_url()
        except OSError as error:
            stop(Code.FAILED, f"{error.filename}: {error.strerror}. Make the secrets first: saga admin secrets {folder}.")
        with open_administrator(root_url) as administrator:
            initiated = administrator.initiate(name, credentials.store_url.authority)
            for account, password in zip(accounts, passwords, strict=True):
                administrator.grant(account.name, password, account.databases)
    if as_json:
        print_json({"replica_set": name, "initiated": initiated, "users": [account.name for account in accounts]})
    else:
        console.print(f"replica set {name}: {'initiated' if initiated else 'exists'}; {len(accounts)} users", highlight=False)


def _create_secrets(credentials: Credentials, owners: FileOwners, *, only_folders: bool) -> list[str]:
    try:
        if only_folders:
            credentials.create_folders()
        return [] if only_folders else credentials.generate(owners)
    except OSError as error:
        stop(Code.FAILED, f"{error.filename or credentials.folder}: {error.strerror}. Name a folder that this user can write to.")
