"""What a channel wants to hear of row changes: the `postgres_changes` list of its join. Pure."""

import json
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

EVENTS = ("INSERT", "UPDATE", "DELETE")

OPERATORS: Mapping[str, str] = {
    "eq": "=",
    "neq": "<>",
    "lt": "<",
    "lte": "<=",
    "gt": ">",
    "gte": ">=",
    "in": "= any",
    "like": "like",
    "ilike": "ilike",
}
"""Filter operators and their SQL."""


class BadBinding(Exception):
    """The subscription cannot be made; the text is the system message."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Filter:
    """`column=[not.]operator.value`."""

    column: str
    operator: str
    value: str
    negated: bool

    @property
    def sql(self) -> str:
        """A condition on parameters $1 (the row's value) and $2 (ours); `{type}` is the column's type."""
        if self.operator == "in":
            test = "($1::text)::{type} = any ((string_to_array($2::text, ','))::{type}[])"
        elif self.operator in ("like", "ilike"):
            test = f"$1::text {self.operator} $2::text"
        else:
            test = f"($1::text)::{{type}} {OPERATORS[self.operator]} ($2::text)::{{type}}"
        return f"not ({test})" if self.negated else test

    @property
    def operand(self) -> str:
        """The value without the parentheses of a list."""
        return self.value[1:-1] if self.operator == "in" and self.value.startswith("(") else self.value


@dataclass(frozen=True, slots=True, kw_only=True)
class Binding:
    """One entry. `sent` is echoed in the join's reply; `id` is the same for the same entry, on every channel."""

    id: int
    event: str
    schema: str
    table: str
    filters: tuple[Filter, ...]
    columns: tuple[str, ...] | None
    sent: Mapping[str, Any]

    def hears(self, schema: str, table: str, event: str) -> bool:
        """Whether a change of this kind in this table is for it, filters aside."""
        return self.concerns(schema, table) and self.event in ("*", event)

    def concerns(self, schema: str, table: str) -> bool:
        """Whether any change in this table may be for it."""
        return self.schema in ("*", schema) and self.table in ("*", table)

    @property
    def described(self) -> str:
        """As the server's messages print it."""
        filters = ", ".join(f'{{"{f.column}", "{f.operator}", "{f.value}"}}' for f in self.filters)
        columns = "nil" if self.columns is None else json.dumps(list(self.columns))
        what = f"event: {self.event}, schema: {self.schema}, table: {self.table}"
        return f"[{what}, filters: [{filters}], select: {columns}]"

    @property
    def not_published(self) -> str:
        """The system message when no published table fits."""
        return (
            "Unable to subscribe to changes with given parameters. Please check Realtime is enabled for the given "
            f"connect parameters: {self.described}"
        )

    def failed(self, exception: str) -> str:
        """The system message when the database refuses the entry."""
        return (
            "Unable to subscribe to changes with given parameters. An exception happened so please check your connect "
            f"parameters: {self.described}. Exception: {exception}"
        )


def read_bindings(config: Any) -> tuple[Binding, ...]:
    """The entries of a join's `config.postgres_changes`; anything but a list means none. Raises BadBinding."""
    listed = config.get("postgres_changes") if isinstance(config, Mapping) else None
    if not isinstance(listed, list):
        return ()
    return tuple(_binding(entry) for entry in listed if isinstance(entry, Mapping))


def reply(bindings: Sequence[Binding]) -> list[dict[str, Any]]:
    """The list in the join's reply: ids, and what was sent."""
    return [{"id": binding.id, **binding.sent} for binding in bindings]


def _binding(entry: Mapping[str, Any]) -> Binding:
    event = str(entry.get("event", "*")).upper()
    columns = entry.get("select")
    return Binding(
        # The real server's ids are 27-bit hashes, too.
        id=zlib.crc32(json.dumps(entry, sort_keys=True).encode()) % 2**27,
        event=event if event in EVENTS else "*",
        schema=str(entry.get("schema", "public")),
        table=str(entry.get("table", "*")),
        filters=_filters(entry["filter"]) if entry.get("filter") else (),
        columns=tuple(columns) if isinstance(columns, list) else None,
        sent=entry,
    )


def unsubscribable(bindings: Sequence[Binding]) -> str | None:
    """The system message for an entry that says nothing (empty, or `"filter": null`)."""
    for binding in bindings:
        if not binding.sent or ("filter" in binding.sent and binding.sent["filter"] is None):
            return (
                f"No subscription params provided. Please provide at least a `schema` or `table`: {binding.described}"
            )
    return None


def _filters(text: str) -> tuple[Filter, ...]:
    found = []
    for part in _parts(text):
        column, _, condition = part.partition("=")
        negated = condition.startswith("not.")
        operator, dot, value = condition.removeprefix("not.").partition(".")
        if not dot or operator not in OPERATORS:
            raise BadBinding(f"Error parsing `filter` params: {json.dumps([column, condition])}")
        found.append(Filter(column=column, operator=operator, value=value, negated=negated))
    return tuple(found)


def _parts(text: str) -> list[str]:
    """Comma means AND, except inside a list."""
    parts, depth = [""], 0
    for char in text:
        depth += (char == "(") - (char == ")")
        if char == "," and depth == 0:
            parts.append("")
        else:
            parts[-1] += char
    return parts
