"""Limits that every store enforces, so that a service that works on the memory store works on a database too.

`check_records` refuses what a database refuses only sometimes (a `$` field in a replacement, but not in an insert) or not at all
(a body field that would overwrite one of the store's own). Everything else is refused by the database itself, and by
`store.memory` in the same way; the contract tests hold both to it.
"""

from collections.abc import Sequence

from store.document import Record
from store.protocol import DataRefused

#: How often `work` is run again after a write conflict before the store raises WriteConflict.
CONFLICT_RETRIES_MAX = 5

#: The fields that the store writes beside those of the body.
RESERVED_FIELDS = frozenset({"_id", "version"})

#: MongoDB's limit for one document.
BODY_MAX_BYTES = 16 * 1024 * 1024


def check_records(records: Sequence[Record]) -> None:
    """Raise DataRefused for two records of one document, and for a field name that is reserved, no text or begins with `$`."""
    if len({record.key for record in records}) != len(records):
        raise DataRefused("two records for one document in one commit: write only the last state")
    for record in records:
        for name in record.body:
            if not isinstance(name, str) or name in RESERVED_FIELDS or name.startswith("$"):
                msg = f"{record.collection} {record.document_id!r} has a field {name!r}, which the store cannot keep: rename it"
                raise DataRefused(msg)
