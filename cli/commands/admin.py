"""`saga admin`: what is done once a deployment, with rights that no worker has.

`secrets` before the servers start, `database` after. Both may be run again, and change nothing that is right already.
"""

from pathlib import Path
from typing import Annotated

import typer

from cli.credentials import keyring_in
from cli.options import JsonFlag
from cli.output import Code, console, data, ending, print_json, stop
from cli.typer_app import Program
from ops.credentials import Keyring, Owners
from store.mongo.admin import administering

Folder = Annotated[Path, typer.Argument(help="The folder of the secrets.")]

group = Program(help="Once a deployment: passwords, users, permissions, topology.", no_args_is_help=True)


def register(app: typer.Typer) -> None:
    """Add the commands to the app."""
    app.add_typer(group, name="admin")


@group.command(epilog="Example: saga admin secrets .saga/secrets")
def secrets(
    folder: Folder,
    workers_uid: Annotated[int | None, typer.Option(help="The user that workers run as; needs root.")] = None,
    mongo_uid: Annotated[int | None, typer.Option(help="The user that MongoDB runs as; needs root.")] = None,
    only_folders: Annotated[bool, typer.Option("--only-folders", help="Make the folders, empty.")] = False,
    as_json: JsonFlag = False,
) -> None:
    """Make passwords for every worker of both modes, MongoDB's key file, and RabbitMQ's definitions (users, rights, topology).

    What is there is kept. The servers are those of SAGA_BROKER_URL and SAGA_STORE_URL, without user and password."""
    made = _fill(keyring_in(folder), Owners(workers_uid, mongo_uid), only_folders=only_folders)
    if as_json:
        print_json({"folder": str(folder), "made": made})
    else:
        data.print(f"{folder}: {len(made)} new files; RabbitMQ loads {folder}/rabbitmq/definitions.json", highlight=False)


@group.command(epilog="Example: saga admin database .saga/secrets")
def database(folder: Folder, as_json: JsonFlag = False) -> None:
    """Initiate MongoDB's replica set if it is not, and make each worker's user with rights on its own database."""
    keyring = keyring_in(folder)
    name = keyring.store_url.query.get("replicaSet")
    if not name:
        stop(Code.USAGE, "SAGA_STORE_URL names no replica set: add ?replicaSet=rs0.")
    with ending():
        accounts = keyring.accounts()
        try:
            passwords = [keyring.password_of(account) for account in accounts]
            root_url = keyring.root_url()
        except OSError as error:
            stop(Code.FAILED, f"{error.filename}: {error.strerror}. Make the secrets first: saga admin secrets {folder}.")
        with administering(root_url) as administrator:
            fresh = administrator.initiate(name, keyring.store_url.authority)
            for account, password in zip(accounts, passwords, strict=True):
                administrator.grant(account.name, password, account.databases)
    if as_json:
        print_json({"replica_set": name, "initiated": fresh, "users": [account.name for account in accounts]})
    else:
        console.print(f"replica set {name}: {'initiated' if fresh else 'there'}; {len(accounts)} users", highlight=False)


def _fill(keyring: Keyring, owners: Owners, *, only_folders: bool) -> list[str]:
    try:
        if only_folders:
            keyring.lay_out()
        return [] if only_folders else keyring.fill(owners)
    except OSError as error:
        stop(Code.FAILED, f"{error.filename or keyring.folder}: {error.strerror}. Give a folder that may be written to.")
