"""What the exposed schema has: tables, the ways between them, functions. PostgREST calls it the schema cache."""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeAlias

import asyncpg

AnyConnection: TypeAlias = "asyncpg.Connection[asyncpg.Record] | asyncpg.pool.PoolConnectionProxy[asyncpg.Record]"
"""A connection, from the pool or not."""

SCHEMA = "public"
"""The only schema the gateway exposes."""

HOISTED = frozenset({"statement_timeout", "plan_filter.statement_cost_limit", "default_transaction_isolation"})
"""PostgREST's `db-hoisted-tx-settings` as it comes (since 12.2)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Column:
    """A column, or a field of a function's result. `default`: the SQL expression for a value not given."""

    name: str
    type: str
    default: str | None = None
    generated: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Relation:
    """A way from a row to at most one row of another table: a foreign key, or a function of the row.

    `pairs`: the key's columns here and there; none: the function of the same name as the embed.
    """

    name: str
    target: str
    columns: Mapping[str, Column]
    pairs: tuple[tuple[str, str], ...] = ()

    @property
    def computed(self) -> bool:
        """Whether a function makes it."""
        return not self.pairs

    def called(self, name: str) -> bool:
        """Whether an embed of this name means it: the table, the constraint, or the only column of the key."""
        if self.computed:
            return name == self.name
        return name in (self.target, self.name) or [name] == [ours for ours, _ in self.pairs]

    def sql(self, row: str, alias: str) -> str:
        """FROM and WHERE that give the other row, named `alias`, of the row named `row`."""
        if self.computed:
            return f"{identifier(SCHEMA)}.{identifier(self.name)}({row}) {alias}"
        same = " and ".join(f"{alias}.{identifier(there)} = {row}.{identifier(here)}" for here, there in self.pairs)
        return f"{identifier(SCHEMA)}.{identifier(self.target)} {alias} where {same}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    """A table or view. `pointed_at`: tables whose keys lead here."""

    name: str
    columns: Mapping[str, Column]
    key: tuple[str, ...]
    relations: tuple[Relation, ...] = ()
    pointed_at: frozenset[str] = frozenset()

    @property
    def sql(self) -> str:
        """The table's quoted name with its schema."""
        return f"{identifier(SCHEMA)}.{identifier(self.name)}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Parameter:
    """An argument of a function."""

    name: str
    type: str
    required: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Function:
    """A function that can be called by name.

    `fields`: the result's columns if it has any (a row type). `hoisted`: settings of its own that PostgREST makes for
    the whole transaction; in the function alone a statement_timeout does nothing for the statement that calls it.
    """

    name: str
    parameters: tuple[Parameter, ...]
    void: bool
    many: bool
    fields: Mapping[str, Column] | None
    volatile: bool
    hoisted: Mapping[str, str]

    def takes(self, given: frozenset[str]) -> bool:
        """Whether it can be called with exactly these named arguments."""
        return given <= {p.name for p in self.parameters} and {p.name for p in self.parameters if p.required} <= given


@dataclass(frozen=True, slots=True, kw_only=True)
class Catalog:
    """All of it, and each role's own settings (PostgREST applies them to the requests of that role)."""

    tables: Mapping[str, Table]
    functions: Mapping[str, tuple[Function, ...]]
    role_settings: Mapping[str, Mapping[str, str]]


def identifier(name: str) -> str:
    """`name` quoted for SQL; cannot be broken out of."""
    return '"' + name.replace('"', '""').replace("\x00", "") + '"'


def literal(text: str) -> str:
    """`text` as an SQL string constant; for the places where a parameter cannot stand (JSON paths)."""
    return "'" + text.replace("'", "''").replace("\x00", "") + "'"


# Types are printed with modifier -1: without (null), char(5) comes out as "character", which read back is char(1).
_TABLES = """
select coalesce(json_agg(json_build_object(
  'name', c.relname,
  'key', coalesce((select json_agg(a.attname order by array_position(i.indkey::int2[], a.attnum))
                   from pg_index i join pg_attribute a on a.attrelid = i.indrelid and a.attnum = any (i.indkey)
                   where i.indrelid = c.oid and i.indisprimary), '[]'),
  'columns', (select json_agg(json_build_object(
      'name', a.attname, 'type', format_type(a.atttypid, -1), 'generated', a.attgenerated <> '',
      'default', case
        when a.attgenerated <> '' then null
        when a.attidentity <> ''
          then format('nextval(%L::regclass)', pg_get_serial_sequence(c.oid::regclass::text, a.attname))
        else pg_get_expr(d.adbin, d.adrelid) end) order by a.attnum)
    from pg_attribute a left join pg_attrdef d on d.adrelid = a.attrelid and d.adnum = a.attnum
    where a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped))), '[]')::text
from pg_class c
where c.relnamespace = $1::text::regnamespace and c.relkind in ('r', 'p', 'v', 'm', 'f')
"""

_FUNCTIONS = """
select coalesce(json_agg(json_build_object(
  'name', p.proname, 'volatile', p.provolatile = 'v', 'many', p.proretset,
  'void', p.prorettype = 'void'::regtype, 'settings', p.proconfig,
  'names', p.proargnames, 'modes', p.proargmodes, 'defaults', p.pronargdefaults,
  'types', (select json_agg(format_type(t, -1) order by n)
            from unnest(coalesce(p.proallargtypes, p.proargtypes::oid[])) with ordinality as x (t, n)),
  'fields', (select json_agg(json_build_object('name', a.attname, 'type', format_type(a.atttypid, -1))
                             order by a.attnum)
             from pg_type t join pg_attribute a on a.attrelid = t.typrelid
             where t.oid = p.prorettype and t.typtype = 'c' and a.attnum > 0 and not a.attisdropped))), '[]')::text
from pg_proc p
where p.pronamespace = $1::text::regnamespace and p.prokind = 'f' and p.provariadic = 0
  and p.prorettype not in ('trigger'::regtype, 'event_trigger'::regtype)
"""

_KEYS = """
select coalesce(json_agg(json_build_object(
  'table', c.relname, 'name', k.conname, 'target', f.relname,
  'pairs', (select json_agg(json_build_array(a.attname, b.attname) order by n)
            from unnest(k.conkey, k.confkey) with ordinality as x (here, there, n)
            join pg_attribute a on a.attrelid = c.oid and a.attnum = here
            join pg_attribute b on b.attrelid = f.oid and b.attnum = there)) order by k.conname), '[]')::text
from pg_constraint k join pg_class c on c.oid = k.conrelid join pg_class f on f.oid = k.confrelid
where k.contype = 'f' and k.conparentid = 0
  and c.relnamespace = $1::text::regnamespace and f.relnamespace = $1::text::regnamespace
"""

# Only those of at most one row: `rows 1` is how PostgREST tells them.
_COMPUTED = """
select coalesce(json_agg(json_build_object('table', c.relname, 'name', p.proname, 'target', f.relname)), '[]')::text
from pg_proc p
join pg_class c on c.reltype = p.proargtypes[0] join pg_class f on f.reltype = p.prorettype
where p.pronamespace = $1::text::regnamespace and p.pronargs = 1 and p.proretset and p.prorows = 1
  and c.relnamespace = p.pronamespace and f.relnamespace = p.pronamespace
"""

_ROLES = """
select coalesce(json_object_agg(r.rolname, s.setconfig), '{}')::text
from pg_roles r join pg_db_role_setting s on s.setrole = r.oid and s.setdatabase = 0
where r.rolname <> 'authenticator' and not r.rolcanlogin
"""


async def read_catalog(connection: AnyConnection) -> Catalog:
    """Ask the database for all of it; about 10 ms."""
    # Types and defaults are printed with their schema unless it is on the path; an empty path prints them all safely.
    async with connection.transaction(readonly=True):
        await connection.execute("set local search_path = ''")
        tables = [_table(found) for found in json.loads(await connection.fetchval(_TABLES, SCHEMA))]
        functions = [_function(found) for found in json.loads(await connection.fetchval(_FUNCTIONS, SCHEMA))]
        keys = json.loads(await connection.fetchval(_KEYS, SCHEMA))
        computed = json.loads(await connection.fetchval(_COMPUTED, SCHEMA))
        roles: Mapping[str, list[str]] = json.loads(await connection.fetchval(_ROLES))
    by_name: dict[str, tuple[Function, ...]] = {}
    for function in functions:
        by_name[function.name] = (*by_name.get(function.name, ()), function)
    return Catalog(
        tables={table.name: table for table in _related(tables, keys, computed)},
        functions=by_name,
        role_settings={role: _settings(lines) for role, lines in roles.items()},
    )


def _table(found: Mapping[str, Any]) -> Table:
    columns = [Column(**column) for column in found["columns"] or ()]
    return Table(name=found["name"], key=tuple(found["key"]), columns={column.name: column for column in columns})


def _related(
    tables: Sequence[Table], keys: Iterable[Mapping[str, Any]], computed: Iterable[Mapping[str, Any]]
) -> Iterable[Table]:
    """The tables with the ways that lead from and to them."""
    keys = list(keys)
    columns = {table.name: table.columns for table in tables}
    ways: dict[str, tuple[Relation, ...]] = {}
    for way in (*computed, *keys):
        relation = Relation(
            name=way["name"],
            target=way["target"],
            columns=columns[way["target"]],
            pairs=tuple((here, there) for here, there in way.get("pairs", ())),
        )
        ways[way["table"]] = (*ways.get(way["table"], ()), relation)
    for table in tables:
        backward = frozenset(key["table"] for key in keys if key["target"] == table.name)
        yield replace(table, relations=ways.get(table.name, ()), pointed_at=backward)


def _function(found: Mapping[str, Any]) -> Function:
    types: list[str] = found["types"] or []
    names: list[str] = found["names"] or [""] * len(types)
    modes: list[str] = found["modes"] or ["i"] * len(types)
    arguments = list(zip(names, types, modes, strict=True))
    inputs = [(name, type_) for name, type_, mode in arguments if mode in "ib"]
    outputs = [Column(name=name, type=type_) for name, type_, mode in arguments if mode in "obt"]
    first_default = len(inputs) - found["defaults"]
    fields = [Column(**field) for field in found["fields"] or ()]
    if len(outputs) > 1 or any(mode == "t" for mode in modes):
        fields = outputs
    return Function(
        name=found["name"],
        parameters=tuple(
            Parameter(name=name, type=type_, required=place < first_default)
            for place, (name, type_) in enumerate(inputs)
        ),
        void=found["void"],
        many=found["many"],
        fields={field.name: field for field in fields} if fields else None,
        volatile=found["volatile"],
        hoisted={name: text for name, text in _settings(found["settings"] or ()).items() if name in HOISTED},
    )


def _settings(lines: Iterable[str]) -> dict[str, str]:
    return dict(line.split("=", 1) for line in lines)
