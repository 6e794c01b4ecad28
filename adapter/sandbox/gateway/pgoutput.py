"""Decoder of PostgreSQL's logical replication messages (plugin pgoutput, protocol version 1, values as text). Pure.

https://www.postgresql.org/docs/16/protocol-logicalrep-message-formats.html
"""

import struct
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

_EPOCH = datetime(2000, 1, 1, tzinfo=UTC)
_KINDS: Mapping[bytes, str] = {b"I": "INSERT", b"U": "UPDATE", b"D": "DELETE"}


@dataclass(frozen=True, slots=True, kw_only=True)
class RelationColumn:
    """A column of a changed table: its type's oid, and whether it belongs to the replica identity."""

    name: str
    type_oid: int
    key: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Relation:
    """A changed table. `full`: the whole old row is logged (replica identity full)."""

    oid: int
    schema: str
    table: str
    full: bool
    columns: tuple[RelationColumn, ...]


Row = Mapping[str, str | None]
"""Text values by column; a column whose large value was left untouched by an UPDATE is missing."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """One committed row change."""

    relation: Relation
    kind: str
    committed: str
    new: Row | None
    old: Row | None


class _Reader:
    def __init__(self, data: bytes) -> None:
        self.data = data
        self.place = 0

    def take(self, count: int) -> bytes:
        self.place += count
        return self.data[self.place - count : self.place]

    def number(self, form: str) -> int:
        return int(struct.unpack(f">{form}", self.take(struct.calcsize(f">{form}")))[0])

    def text(self) -> str:
        end = self.data.index(b"\0", self.place)
        found = self.take(end - self.place).decode()
        self.place += 1
        return found

    def row(self, relation: Relation) -> Row:
        values: dict[str, str | None] = {}
        for number in range(self.number("H")):
            kind = self.take(1)
            name = relation.columns[number].name
            if kind == b"n":
                values[name] = None
            elif kind == b"t":
                values[name] = self.take(self.number("I")).decode()
        return values


class Decoder:
    """Keeps what one slot has told about its tables; feed it everything that slot gives, in order."""

    def __init__(self) -> None:
        self._relations: dict[int, Relation] = {}
        self._committed = ""

    def changes(self, messages: Iterable[bytes]) -> Iterator[Change]:
        """The row changes among the messages."""
        for message in messages:
            reader = _Reader(message)
            kind = reader.take(1)
            if kind == b"B":
                reader.take(8)
                self._committed = _milliseconds(reader.number("q"))
            elif kind == b"R":
                relation = _relation(reader)
                self._relations[relation.oid] = relation
            elif kind in _KINDS:
                yield self._change(_KINDS[kind], reader)

    def _change(self, kind: str, reader: _Reader) -> Change:
        relation = self._relations[reader.number("I")]
        new: Row | None = None
        old: Row | None = None
        while reader.place < len(reader.data):
            if reader.take(1) == b"N":
                new = reader.row(relation)
            else:
                old = reader.row(relation)
        return Change(relation=relation, kind=kind, committed=self._committed, new=new, old=old)


def _relation(reader: _Reader) -> Relation:
    oid, schema, table, identity = reader.number("I"), reader.text(), reader.text(), reader.take(1)
    columns = []
    for _ in range(reader.number("H")):
        key = bool(reader.number("B") & 1)
        name, type_oid = reader.text(), reader.number("I")
        reader.take(4)
        columns.append(RelationColumn(name=name, type_oid=type_oid, key=key))
    return Relation(oid=oid, schema=schema, table=table, full=identity == b"f", columns=tuple(columns))


def _milliseconds(microseconds: int) -> str:
    moment = _EPOCH + timedelta(microseconds=microseconds)
    return moment.strftime("%Y-%m-%dT%H:%M:%S") + f".{moment.microsecond // 1000:03d}Z"
