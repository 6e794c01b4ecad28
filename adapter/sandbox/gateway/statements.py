# ruff: noqa: S608 - this module makes SQL: names are quoted by `identifier`, values are parameters
"""The SQL of one REST request. Pure.

PostgreSQL itself makes the JSON of the answer and reads the JSON of the body, so that numbers keep all their digits.
Every statement gives one row: `body` (JSON text), `rows` (how many rows it holds), and where asked for `total`
(how many there are) and `added` (how many an upsert inserted).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from adapter.sandbox.gateway import query
from adapter.sandbox.gateway.catalog import SCHEMA, Column, Function, Table, identifier, literal
from adapter.sandbox.gateway.errors import ApiError
from adapter.sandbox.gateway.query import Page, Parameters, Source


@dataclass(frozen=True, slots=True, kw_only=True)
class Statement:
    """SQL with its parameters."""

    sql: str
    values: Sequence[str | list[str]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Wishes:
    """What the request's query and headers ask for. `pairs`: the query in order; `columns`: of the body's objects."""

    pairs: Sequence[tuple[str, str]]
    page: Page
    count: bool = False
    representation: bool = False
    conflict: str | None = None
    """Of an upsert: merge or ignore."""
    defaults_for_missing: bool = False

    @property
    def query(self) -> Mapping[str, str]:
        """The last value of each parameter."""
        return dict(self.pairs)


def _answer(rows: str, *, extra: str = "") -> str:
    """`rows`: a subselect with only the answer's columns."""
    return f"select coalesce(json_agg(r), '[]')::text as body, count(*) as rows{extra} from ({rows}) r"


def read(table: Table, wishes: Wishes) -> Statement:
    """SELECT."""
    source = Source.of(table)
    return _filtered(f"{table.sql} t", source, wishes)


def _filtered(origin: str, source: Source, wishes: Wishes, parameters: Parameters | None = None) -> Statement:
    parameters = parameters or Parameters()
    chosen = query.select_list(query.selected(wishes.query.get("select", "*"), source))
    filters = query.where(wishes.pairs, source, parameters)
    condition = f" where {filters}" if filters else ""
    ordered = f" order by {query.order(wishes.query['order'], source)}" if "order" in wishes.query else ""
    total = f", (select count(*) from {origin}{condition}) as total" if wishes.count else ""
    rows = f"select {chosen} from {origin}{condition}{ordered}{wishes.page.sql}"
    return Statement(sql=_answer(rows, extra=total), values=parameters.values)


# ---------------------------------------------------------------- writing


def insert(table: Table, columns: Sequence[str], body: str, wishes: Wishes) -> Statement:
    """INSERT of the objects in `body` (the text of a JSON array), all with these columns."""
    parameters = Parameters([body] if columns else [])
    written = [_written(table, name) for name in columns]
    if written:
        names = ", ".join(identifier(column.name) for column in written)
        fields = ", ".join(f"p.{identifier(column.name)}" for column in written)
        what = f" ({names}) select {fields} from {_objects(written, wishes)}"
    else:
        what = " default values"  # An empty object: the row is all defaults.
    conflict = _on_conflict(table, written, wishes)
    returning, answer = _returned(table, wishes, added=bool(wishes.conflict))
    sql = f"with w as (insert into {table.sql} as t{what}{conflict} returning {returning}) {answer}"
    return Statement(sql=sql, values=parameters.values)


def update(table: Table, columns: Sequence[str], body: str, wishes: Wishes) -> Statement:
    """UPDATE of the rows that the filters leave, with the fields of one JSON object."""
    parameters = Parameters([body])
    source = Source.of(table)
    written = [_written(table, name) for name in columns]
    changes = ", ".join(f"{identifier(column.name)} = p.{identifier(column.name)}" for column in written)
    filters = query.where(wishes.pairs, source, parameters) or _no_filter("UPDATE")
    returning, answer = _returned(table, wishes)
    sql = (
        f"with w as (update {table.sql} as t set {changes} from json_to_record($1::text::json) as p ({_types(written)})"
        f" where {filters} returning {returning}) {answer}"
    )
    return Statement(sql=sql, values=parameters.values)


def delete(table: Table, wishes: Wishes) -> Statement:
    """DELETE of the rows that the filters leave."""
    parameters = Parameters()
    source = Source.of(table)
    filters = query.where(wishes.pairs, source, parameters) or _no_filter("DELETE")
    returning, answer = _returned(table, wishes)
    sql = f"with w as (delete from {table.sql} as t where {filters} returning {returning}) {answer}"
    return Statement(sql=sql, values=parameters.values)


def _no_filter(what: str) -> str:
    # Supabase loads the module safeupdate into API connections; this is its refusal.
    raise ApiError(400, "21000", f"{what} requires a WHERE clause")


def _written(table: Table, name: str) -> Column:
    if name not in table.columns:
        raise ApiError(400, "PGRST204", f"Could not find the '{name}' column of '{table.name}' in the schema cache")
    return table.columns[name]


def _types(columns: Sequence[Column]) -> str:
    return ", ".join(f"{identifier(column.name)} {column.type}" for column in columns)


def _objects(columns: Sequence[Column], wishes: Wishes) -> str:
    """The body's objects as rows `p`; a key that an object lacks is NULL, or the column's default where wished."""
    if not wishes.defaults_for_missing:
        return f"json_to_recordset($1::text::json) as p ({_types(columns)})"
    defaults = " || ".join(
        f"jsonb_build_object({_text(column.name)}, {column.default})" for column in columns if column.default
    )
    merged = f"{defaults} || o" if defaults else "o"
    return f"jsonb_array_elements($1::text::jsonb) o, jsonb_to_record({merged}) as p ({_types(columns)})"


def _text(name: str) -> str:
    return literal(name) + "::text"


def _on_conflict(table: Table, written: Sequence[Column], wishes: Wishes) -> str:
    if not wishes.conflict:
        return ""
    named = wishes.query.get("on_conflict")
    target = [query.unquote(name.strip()) for name in query.split(named)] if named else list(table.key)
    for name in target:
        _written(table, name)
    places = f" ({', '.join(map(identifier, target))})" if target else ""
    if wishes.conflict == "ignore" or not written or not target:
        return f" on conflict{places} do nothing"
    changes = ", ".join(f"{identifier(c.name)} = excluded.{identifier(c.name)}" for c in written)
    return f" on conflict{places} do update set {changes}"


def _returned(table: Table, wishes: Wishes, *, added: bool = False) -> tuple[str, str]:
    """What RETURNING gives and the statement that makes the answer of it.

    Without a wish for the rows nothing of them is touched, for that would need the right to read them.
    """
    extra = ", coalesce(sum(w.added), 0) as added" if added else ""
    is_new = ", (t.xmax = 0)::int as added" if added else ""
    if not wishes.representation:
        return f"1{is_new}", f"select '[]' as body, count(*) as rows{extra} from w"
    source = Source.of(table)
    chosen = query.selected(wishes.query.get("select", "*"), source)
    row = f"(select to_json(r) from (select {query.select_list(chosen)}) r) as row"
    return f"{row}{is_new}", f"select coalesce(json_agg(w.row), '[]')::text as body, count(*) as rows{extra} from w"


# ---------------------------------------------------------------- functions


def call(function: Function, given: Sequence[str], body: str, wishes: Wishes) -> Statement:
    """SELECT from a function called with the named arguments in `body` (the text of a JSON object)."""
    parameters = Parameters([body])
    taken = [parameter for parameter in function.parameters if parameter.name in given]
    arguments = ", ".join(f"{identifier(p.name)} => a.{identifier(p.name)}" for p in taken)
    invoked = f"{identifier(SCHEMA)}.{identifier(function.name)}({arguments})"
    fields = ", ".join(f"{identifier(p.name)} {p.type}" for p in taken)
    # Without arguments the body still has to be a parameter of the statement.
    given_row = f"json_to_record($1::text::json) as a ({fields})" if fields else "(select $1::text) as a (body)"
    if function.fields is None:
        rows = f"select {invoked} as value from {given_row}"
        total = ", count(*) as total" if wishes.count else ""
        page = wishes.page.sql if function.many else ""
        sql = f"select coalesce(json_agg(r.value), '[]')::text as body, count(*) as rows{total} from ({rows}{page}) r"
        return Statement(sql=sql, values=parameters.values)
    source = Source(alias="t", name=function.name, columns=function.fields)
    inner = _filtered("f t", source, wishes, parameters)
    # Materialized: the function runs once, also where both rows and total are asked for.
    sql = f"with f as materialized (select v.* from {given_row}, lateral {invoked} v) {inner.sql}"
    return Statement(sql=sql, values=inner.values)
