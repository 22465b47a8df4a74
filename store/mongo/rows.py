"""The layout of documents, outbox rows and inbox keys in MongoDB, and the names of the store's own collections.

A document is {_id, version, **body}, an outbox row {_id, written_at, payload}, an inbox key {_id, at}.
"""

from collections import defaultdict
from collections.abc import Collection
from typing import Any

from pymongo import InsertOne, ReplaceOne

from store.document import Record
from store.protocol import OutboxRow

INBOX, OUTBOX = "inbox", "outbox"

Row = dict[str, Any]


def as_row(record: Record) -> Row:
    return {"_id": record.document_id, "version": record.version, **record.body}


def as_record(collection: str, row: Row) -> Record:
    return Record(collection, row.pop("_id"), row.pop("version"), row)


def as_outbox_row(row: OutboxRow) -> Row:
    return {"_id": row.message_id, "written_at": row.written_at, "payload": row.payload}


def write_of(record: Record) -> InsertOne[Row] | ReplaceOne[Row]:
    if record.version == 1:
        return InsertOne(as_row(record))
    return ReplaceOne({"_id": record.document_id}, as_row(record))


def by_collection(records: Collection[Record]) -> dict[str, list[Record]]:
    groups = defaultdict(list)
    for record in records:
        groups[record.collection].append(record)
    return groups
