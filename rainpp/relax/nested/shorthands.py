"""SQL shorthands written out before names are resolved, and names that are taken."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import NoReturn, cast

import duckdb
from sqlglot import exp

from rainpp.errors import QueryError, UnsupportedQueryError
from rainpp.relax.catalog import rows
from rainpp.relax.nested.rewriting import items_of, order_keys, sources_of

_TAKEN = re.compile(
    r"__(row|key|rid|left\d*|group|distinct|unused|rainpp_\w*"
    r"|(value|class|prediction|base|predictions_of_slot)_\d\w*)",
    re.IGNORECASE,
)
_AROUND = ("order", "limit", "offset")


def check_names(names: list[str]) -> None:
    """Refuse names under which the evaluation keeps its own columns.

    Raises
    ------
    QueryError : the name.
    """
    for name in names:
        if _TAKEN.fullmatch(name):
            raise QueryError(
                f"the name `{name}` is reserved for columns that rainpp adds; rename it, for "
                f"example to `{name.strip('_')}`."
            )


@dataclass(frozen=True, eq=False, slots=True)
class Shorthands:
    """Writes out what a parsed query abbreviates; `shown` spells a node as the user did."""

    con: duckdb.DuckDBPyConnection
    shown: Callable[[exp.Expr], str]

    def written_out(self, tree: exp.Query) -> exp.Query:
        """`tree`, changed in place where that is possible.

        Raises
        ------
        QueryError : a reserved name, or a window or position that does not exist.
        UnsupportedQueryError : a LIMIT that is not a number of rows, COLUMNS(...).
        """
        check_names([node.name for node in tree.find_all(exp.Identifier)])
        for node in list(tree.find_all(exp.Query)):
            self._check(node)
            self._count(node)
            self._order(node)
            if isinstance(node, exp.Select):
                self._windows(node)
                self._grouping_positions(node)
        _strip_schemas(tree)
        holder = exp.Paren(this=tree)
        for node in reversed(list(tree.find_all(exp.Subquery))):
            if any(node.args.get(key) for key in _AROUND):
                node.replace(_pushed_in(node))
        return cast(exp.Query, holder.this)

    def _check(self, node: exp.Query) -> None:
        for source in sources_of(node) if isinstance(node, exp.Select) else []:
            inner = source.this if isinstance(source, (exp.Paren, exp.Subquery)) else None
            if isinstance(inner, exp.Table):
                self._refuse(source, "a join in parentheses has no relaxation", "Write it without")
        for item in items_of(node) if isinstance(node, exp.Select) else []:
            found = item.find(exp.Columns)
            if found is not None:
                self._refuse(found, "it stands for several columns", "Name the columns")

    def _count(self, node: exp.Query) -> None:
        """LIMIT and OFFSET as whole numbers; LIMIT ALL and LIMIT NULL are none."""
        for key in ("limit", "offset"):
            clause = node.args.get(key)
            if clause is None:
                continue
            options = clause.args.get("limit_options")
            if options is not None and (
                options.args.get("percent") or options.args.get("with_ties")
            ):
                self._refuse(clause, "only a number of rows is understood here", "Write LIMIT 10")
            value = cast(exp.Expr, clause.args.get("expression") or clause.args.get("count"))
            number = self._constant(value, clause)
            made = exp.Limit if key == "limit" else exp.Offset
            kept = None if number is None else made(expression=exp.Literal.number(number))
            if kept is None or not isinstance(value, exp.Literal) or isinstance(clause, exp.Fetch):
                node.set(key, kept)

    def _constant(self, value: exp.Expr, clause: exp.Expr) -> int | None:
        if value.find(exp.Query, exp.Parameter, exp.Placeholder) is not None:
            self._refuse(clause, "only a constant number of rows is understood", "Write LIMIT 10")
        if isinstance(value, (exp.Column, exp.Var)) and value.name.upper() == "ALL":
            return None
        try:
            found = rows(self.con, f"SELECT CAST({value.sql(dialect='duckdb')} AS BIGINT)")[0][0]
        except duckdb.Error:
            self._refuse(clause, "only a constant number of rows is understood", "Write LIMIT 10")
        if found is not None and int(cast(int, found)) < 0:
            raise QueryError(f"`{self.shown(clause)}` is negative; give a number of rows from 0.")
        return None if found is None else int(cast(int, found))

    def _order(self, node: exp.Query) -> None:
        """ORDER BY ALL as all positions."""
        keys = order_keys(node)
        if not any(
            isinstance(key.this, exp.Var) and key.this.name.upper() == "ALL" for key in keys
        ):
            return
        first: exp.Expr = node
        while isinstance(first, (exp.SetOperation, exp.Subquery)):
            first = cast(exp.Expr, first.this)
        items = items_of(first)
        if any(item.find(exp.Star) is not None and item.is_star for item in items):
            self._refuse(node.args["order"], "the columns of * have no order here", "Name them")
        key = keys[0]
        node.args["order"].set(
            "expressions",
            [
                exp.Ordered(
                    this=exp.Literal.number(place + 1),
                    desc=key.args.get("desc"),
                    nulls_first=key.args.get("nulls_first"),
                )
                for place in range(len(items))
            ],
        )

    def _windows(self, select: exp.Select) -> None:
        """OVER w as the definition of w in the WINDOW clause."""
        clauses = cast("list[exp.Expr]", select.args.get("windows") or [])
        known = {clause.this.name.lower(): clause for clause in clauses}
        for window in [*clauses, *select.find_all(exp.Window)]:
            name = window.args.get("alias")
            if name is None or window.parent_select is not select:
                continue
            if name.name.lower() not in known:
                raise QueryError(f"`{self.shown(window)}` names no window of the WINDOW clause.")
            for key in ("partition_by", "order", "spec"):
                given = known[name.name.lower()].args.get(key)
                if given and not window.args.get(key):
                    copies = [e.copy() for e in given] if isinstance(given, list) else given.copy()
                    window.set(key, copies)
            window.set("alias", None)
        select.set("windows", None)

    def _grouping_positions(self, select: exp.Select) -> None:
        """Positions inside ROLLUP, CUBE and GROUPING SETS as the items they stand for."""
        group, items = select.args.get("group"), items_of(select)
        kinds = (exp.Rollup, exp.Cube, exp.GroupingSets)
        for part in list(group.find_all(*kinds) if group is not None else []):
            for number in list(part.find_all(exp.Literal)):
                inside = number.parent
                while isinstance(inside, (exp.Tuple, exp.Paren)):
                    inside = inside.parent
                if not number.is_int or not isinstance(inside, kinds):
                    continue
                place = int(number.name)
                if not 1 <= place <= len(items) or any(item.is_star for item in items[:place]):
                    raise QueryError(
                        f"`{self.shown(part)}` has no column {place} to group by; name the column."
                    )
                number.replace(items[place - 1].unalias().copy())

    def _refuse(self, node: exp.Expr, why: str, instead: str) -> NoReturn:
        raise UnsupportedQueryError(self.shown(node), why=why, instead=instead)


def _pushed_in(node: exp.Subquery) -> exp.Query:
    """``(query) ORDER BY ... LIMIT n`` as one query."""
    inner = cast(exp.Query, node.this)
    own = [key for key in (*_AROUND, "with_") if inner.args.get(key)]
    if own or isinstance(inner, exp.Subquery):
        inner = exp.select("*").from_(exp.Subquery(this=inner, alias=exp.TableAlias(this="inside")))
    for key in (*_AROUND, "with_"):
        inner.set(key, node.args.get(key))
        node.set(key, None)
    if node.args.get("alias") is None:
        return inner
    node.set("this", inner)
    return node


def _strip_schemas(tree: exp.Query) -> None:
    """``main.t.id`` as ``t.id``, where t is a table of the query and main is not."""
    tables = list(tree.find_all(exp.Table))
    named = {table.name.lower() for table in tables}
    aliases = {table.alias_or_name.lower() for table in tables}
    for column in tree.find_all(exp.Column):
        schema = column.args.get("db")
        if schema is None or schema.name.lower() in aliases or column.table.lower() not in named:
            continue
        column.set("catalog", None)
        column.set("db", None)
