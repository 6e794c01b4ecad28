"""PostgREST's query language → SQL. Pure: names are quoted, values become parameters.

`select=a,b:c,d->e::text`, `col=op.value`, `or=(a.eq.1,not.and(b.is.null,c.in.(1,2)))`, `order=a.desc.nullslast`,
`limit`, `offset`; in a select also the one row of another table to which a foreign key or a function leads:
`contacts(name)`, `who:contacts(name)`, `contacts!call_logs_contact_id_fkey(name)`. Lists of rows of other tables,
embeds in embeds, and aggregates are refused as not done.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from adapter.sandbox.gateway.catalog import SCHEMA, Column, Relation, Table, identifier, literal
from adapter.sandbox.gateway.errors import ApiError, not_done

RESERVED = frozenset({"select", "order", "limit", "offset", "columns", "on_conflict", "apikey"})
"""Query parameters that are no filters."""

LOGIC = frozenset({"and", "or", "not.and", "not.or"})

_COMPARISONS: Mapping[str, str] = {
    "eq": "=",
    "neq": "<>",
    "gt": ">",
    "gte": ">=",
    "lt": "<",
    "lte": "<=",
    "isdistinct": "is distinct from",
    "cs": "@>",
    "cd": "<@",
    "ov": "&&",
}
"""Operators whose right side has the type of the left."""

_PATTERNS: Mapping[str, str] = {"like": "like", "ilike": "ilike", "match": "~", "imatch": "~*"}
"""Operators whose right side is text."""

_IS = frozenset({"null", "not_null", "true", "false", "unknown"})

_NAME = re.compile(r'"(?:[^"\\]|\\.)*"|[^\s"(),.:>-]+')
_STEP = re.compile(r"(->>?)('?)([^\s'(),.:>-]+)\2")
_MEMBER = re.compile(rf"((?:{_NAME.pattern})(?:->>?[^.]+)*)\.((?:not\.)?[a-z_]+)\.(.*)", re.DOTALL)
_CAST = re.compile(r"::([a-z][a-z0-9_ ]*(?:\[\])?)$")


@dataclass(slots=True)
class Parameters:
    """Collects the values of one statement."""

    values: list[str | list[str]] = field(default_factory=list)

    def add(self, value: str | list[str]) -> str:
        """Remember `value`; returns its place as SQL. Every value is sent as text: PostgreSQL converts it itself."""
        self.values.append(value)
        return f"${len(self.values)}::text{'[]' if isinstance(value, list) else ''}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """What the names of a query mean: a table's (or result's) alias in the SQL, and its columns."""

    alias: str
    name: str
    columns: Mapping[str, Column]
    relations: Sequence[Relation] = ()
    pointed_at: frozenset[str] = frozenset()

    @classmethod
    def of(cls, table: Table) -> "Source":
        """A table, named `t` in the SQL."""
        return cls(
            alias="t",
            name=table.name,
            columns=table.columns,
            relations=table.relations,
            pointed_at=table.pointed_at,
        )

    def column(self, name: str) -> Column:
        """The column of this name, or PostgreSQL's own complaint."""
        if name not in self.columns:
            raise ApiError(400, "42703", f"column {self.name}.{name} does not exist")
        return self.columns[name]


@dataclass(frozen=True, slots=True, kw_only=True)
class Value:
    """An SQL expression with its type and the name it has in the answer."""

    sql: str
    type: str
    name: str


# ---------------------------------------------------------------- text


def split(text: str) -> list[str]:
    """Split at commas that are not inside quotes, parentheses or braces."""
    parts: list[str] = []
    start = depth = 0
    quoted = False
    place = 0
    while place < len(text):
        char = text[place]
        if quoted:
            if char == "\\":
                place += 1
            quoted = char != '"'
        elif char == '"':
            quoted = True
        elif char in "({":
            depth += 1
        elif char in ")}":
            depth -= 1
        elif char == "," and depth == 0:
            parts.append(text[start:place])
            start = place + 1
        place += 1
    parts.append(text[start:])
    return parts


def unquote(text: str) -> str:
    """A name or value without its double quotes."""
    if len(text) >= 2 and text.startswith('"') and text.endswith('"'):
        return re.sub(r"\\(.)", r"\1", text[1:-1])
    return text


def _bad(text: str) -> ApiError:
    return ApiError(400, "PGRST100", f'"failed to parse ({text})" (line 1, column 1)', details="unexpected input")


# ---------------------------------------------------------------- names


def value(text: str, source: Source) -> Value:
    """`name`, `name->key->>key`: a column, or a place inside a JSON column."""
    found = _NAME.match(text)
    if not found:
        raise _bad(text)
    name = unquote(found.group())
    column = source.column(name)
    sql, type_, place = f"{source.alias}.{identifier(name)}", column.type, found.end()
    while place < len(text):
        step = _STEP.match(text, place)
        if not step:
            raise _bad(text)
        arrow, _, key = step.groups()
        sql = f"({sql}{arrow}{key if re.fullmatch(r'-?[0-9]+', key) else literal(key)})"
        type_, name, place = ("text" if arrow == "->>" else "jsonb"), key, step.end()
    return Value(sql=sql, type=type_, name=name)


def selected(text: str, source: Source) -> list[Value]:
    """The columns of a `select` parameter."""
    chosen: list[Value] = []
    for item in split(text):
        item = item.strip()  # noqa: PLW2901 - the same item without spaces
        if item in ("*", ""):
            chosen += [value(identifier(name), source) for name in source.columns]
        elif "(" in item:
            chosen.append(_embed(item, source))
        else:
            chosen.append(_selected_item(item, source))
    return chosen


_EMBED = re.compile(rf"(?:({_NAME.pattern}):)?([^\s!.:()]+)(?:!([^\s!.:()]+))?\((.*)\)", re.DOTALL)
"""`alias:target!hint(columns)`."""


def _embed(item: str, source: Source) -> Value:
    """The one row of another table as an object, null where there is none."""
    found = _EMBED.fullmatch(item)
    if not found or "(" in found[4] or not found[4] or found[3] in ("inner", "left"):
        raise not_done(f"{item} in select")
    alias, target, hint, inside = found.groups()
    relation = _relation(source, unquote(target), unquote(hint) if hint else None, item)
    inner = Source(alias="e", name=relation.target, columns=relation.columns)
    chosen = select_list(selected(inside, inner))
    one = f"select {chosen} from {relation.sql(source.alias, inner.alias)} limit 1"  # noqa: S608 - quoted names
    return Value(sql=f"(select row_to_json(r) from ({one}) r)", type="json", name=unquote(alias or target))  # noqa: S608


def _relation(source: Source, target: str, hint: str | None, item: str) -> Relation:
    fitting = [way for way in source.relations if way.called(target) and (hint is None or way.called(hint))]
    # A function takes the place of the keys to the same table.
    fitting = [way for way in fitting if way.computed] or fitting
    if not fitting and target in source.pointed_at:
        raise not_done(f"{item} in select")
    if not fitting:
        using = f" using the hint '{hint}'" if hint else ""
        raise ApiError(
            400,
            "PGRST200",
            f"Could not find a relationship between '{source.name}' and '{target}' in the schema cache",
            details=f"Searched for a foreign key relationship between '{source.name}' and '{target}'{using} in the "
            f"schema '{SCHEMA}', but no matches were found.",
        )
    if len(fitting) > 1:
        choices = ", ".join(f"'{way.target}!{way.name}'" for way in fitting)
        raise ApiError(
            300,
            "PGRST201",
            f"Could not embed because more than one relationship was found for '{source.name}' and '{target}'",
            hint=f"Try changing '{target}' to one of the following: {choices}. Find the desired relationship in the "
            "'details' key.",
        )
    return fitting[0]


def _selected_item(item: str, source: Source) -> Value:
    alias = re.match(r'("(?:[^"\\]|\\.)*"|[^:"]+):(?!:)', item)
    rest = item[alias.end() :] if alias else item
    cast = _CAST.search(rest)
    found = value(rest[: cast.start()] if cast else rest, source)
    return Value(
        sql=f"({found.sql})::{cast.group(1)}" if cast else found.sql,
        type=cast.group(1) if cast else found.type,
        name=unquote(alias.group(1)) if alias else found.name,
    )


def select_list(chosen: Iterable[Value]) -> str:
    """SQL for the chosen values; a name given twice is kept once, as in a JSON object."""
    by_name = {item.name: item.sql for item in chosen}
    return ", ".join(f"{sql} as {identifier(name)}" for name, sql in by_name.items())


# ---------------------------------------------------------------- filters


def where(pairs: Iterable[tuple[str, str]], source: Source, parameters: Parameters) -> str:
    """All filters among the query's parameters, joined with AND; "" if there are none."""
    conditions = []
    for key, text in pairs:
        if key in RESERVED:
            continue
        if key in LOGIC:
            conditions.append(_logic(key, text, source, parameters))
        else:
            conditions.append(_condition(value(key, source), text, parameters))
    return " and ".join(conditions)


def _logic(kind: str, text: str, source: Source, parameters: Parameters) -> str:
    if not (text.startswith("(") and text.endswith(")")):
        raise _bad(text)
    conditions = [_member(part.strip(), source, parameters) for part in split(text[1:-1])]
    negated, word = kind.startswith("not."), kind.removeprefix("not.")
    return f"{'not ' if negated else ''}({f' {word} '.join(conditions)})"


def _member(text: str, source: Source, parameters: Parameters) -> str:
    """One part of `or=(…)`: a nested group or `column.op.value`."""
    group = re.match(r"(not\.)?(and|or)\(", text)
    if group:
        return _logic(text[: group.end() - 1], text[group.end() - 1 :], source, parameters)
    member = _MEMBER.fullmatch(text)
    if not member:
        raise _bad(text)
    name, operator, operand = member.groups()
    return _condition(value(name, source), f"{operator}.{unquote(operand)}", parameters)


def _condition(left: Value, text: str, parameters: Parameters) -> str:
    negated = text.startswith("not.")
    operator, dot, operand = text.removeprefix("not.").partition(".")
    if not dot:
        raise _bad(text)
    sql = _operation(left, operator, operand, parameters)
    return f"not ({sql})" if negated else sql


def _operation(left: Value, operator: str, operand: str, parameters: Parameters) -> str:
    if operator in _COMPARISONS:
        return f"{left.sql} {_COMPARISONS[operator]} ({parameters.add(operand)})::{left.type}"
    if operator in _PATTERNS:
        pattern = operand.replace("*", "%") if operator.endswith("like") else operand
        return f"{left.sql} {_PATTERNS[operator]} {parameters.add(pattern)}"
    if operator == "is" and operand.lower() in _IS:
        return f"{left.sql} is {operand.lower().replace('_', ' ')}"
    if operator == "in" and operand.startswith("(") and operand.endswith(")"):
        inside = operand[1:-1]
        members = [unquote(member) for member in split(inside)] if inside else []
        return f"{left.sql} = any (({parameters.add(members)})::{left.type}[])"
    raise _bad(f"{operator}.{operand}")


# ---------------------------------------------------------------- order and paging


def order(text: str, source: Source) -> str:
    """SQL after ORDER BY."""
    parts = []
    for item in split(text):
        name, *words = re.split(r"\.(?=asc|desc|nullsfirst|nullslast)", item.strip())
        known = {"asc": "asc", "desc": "desc", "nullsfirst": "nulls first", "nullslast": "nulls last"}
        if any(word not in known for word in words):
            raise _bad(item)
        parts.append(" ".join([value(name, source).sql, *(known[word] for word in words)]))
    return ", ".join(parts)


@dataclass(frozen=True, slots=True, kw_only=True)
class Page:
    """The rows asked for. `limit` None = all that the server gives."""

    offset: int
    limit: int | None

    @classmethod
    def asked(cls, query: Mapping[str, str], range_header: str | None) -> "Page":
        """From `limit` and `offset`, else from the header `Range: 0-9`."""
        given = re.fullmatch(r"(?:items=)?(\d+)-(\d*)", range_header or "")
        offset, limit = 0, None
        if given:
            offset = int(given.group(1))
            limit = int(given.group(2)) - offset + 1 if given.group(2) else None
        try:
            offset = int(query.get("offset", offset))
            limit = int(query["limit"]) if "limit" in query else limit
        except ValueError:
            raise _bad(f"{query.get('limit')} {query.get('offset')}") from None
        if offset < 0 or (limit is not None and limit < 0):
            raise ApiError(416, "PGRST103", "Requested range not satisfiable")
        return cls(offset=offset, limit=limit)

    def at_most(self, rows: int) -> "Page":
        """The same page, cut to the server's own limit."""
        return Page(offset=self.offset, limit=min(rows, self.limit if self.limit is not None else rows))

    @property
    def sql(self) -> str:
        """LIMIT and OFFSET."""
        return (f" limit {self.limit}" if self.limit is not None else "") + (
            f" offset {self.offset}" if self.offset else ""
        )
