"""What every store refuses alike, whatever lies underneath, so that the memory store cannot teach a service bad habits.

These are the refusals that a database makes only sometimes (a `$` field on a replacement, not on an insert) or not
at all (a body field that would overwrite the store's own). The rest is refused by the database itself, and by `store.memory` in
its place; the contract tests hold both to the same.
"""

from collections.abc import Sequence

from store.document import Record
from store.protocol import DataRefused

#: How often `work` is run again after a write conflict before the store gives up with WriteConflict.
CONFLICT_RETRIES_MAX = 5

#: The fields that the store keeps beside a body's own.
RESERVED_FIELDS = frozenset({"_id", "version"})

#: MongoDB's limit for one document.
BODY_MAX_BYTES = 16 * 1024 * 1024


def check_records(records: Sequence[Record]) -> None:
    """Raise DataRefused for what no store takes: two records of one document, a reserved, `$` or nameless field."""
    if len({record.key for record in records}) != len(records):
        raise DataRefused("two records for one document in one commit: write the last state only")
    for record in records:
        for name in record.body:
            if not isinstance(name, str) or name in RESERVED_FIELDS or name.startswith("$"):
                msg = f"{record.collection} {record.document_id!r} has a field {name!r}, which the store cannot keep"
                raise DataRefused(msg)
