"""Many reads of one kind in few round trips.

A function of a view reads one thing with a few small statements. For hundreds of things (the conversations of a SYNC,
the devices that log in at one moment) the statements are the same and only what is bound to them differs, so they are
asked together: each function runs until it needs an answer that is not there, all questions of one statement become one
statement over arrays, and the functions run again, from their beginning, with what is known by then. What reads three
things one after the other costs three round trips, for one key or for hundreds. Price: its Python runs once more for
each of them, and it may depend on nothing but its view and its key.
"""

import re
from collections.abc import Callable, Iterable, Sequence
from functools import lru_cache
from typing import Any, TypeVar

_TYPES = ((int, "bigint"), (str, "text"), (bytes, "bytea"))

Key = TypeVar("Key")
Answer = TypeVar("Answer")
Rows = list[Sequence[Any]]
Bindings = tuple[Any, ...]
Run = Callable[..., Iterable[Sequence[Any]]]
"""Of a statement whose placeholders are those of PostgreSQL, with its bindings."""


class _NotKnownError(Exception):
    """The function goes on when the questions of this round are answered."""


class Together:
    """ask: for views instead of their `rows`, while `answers` runs."""

    def __init__(self, run: Run) -> None:
        self._run = run
        self._known: dict[tuple[str, Bindings], Rows] = {}
        self._asked: dict[str, dict[Bindings, None]] = {}

    def ask(self, sql: str, *bindings: Any) -> Rows:
        found = self._known.get((sql, bindings))
        if found is None:
            self._asked.setdefault(sql, {})[bindings] = None
            raise _NotKnownError
        return found

    def answers(self, read: Callable[[Key], Answer], keys: Sequence[Key]) -> list[Answer]:
        """[read(key) for key in keys]"""
        while True:
            answers = []
            for key in keys:
                try:
                    answers.append(read(key))
                except _NotKnownError:
                    continue
            if not self._asked:
                return answers
            for sql, questions in self._asked.items():
                self._answer(sql, list(questions))
            self._asked = {}

    def _answer(self, sql: str, questions: list[Bindings]) -> None:
        """A nested loop is the only plan for LATERAL: the rows of a question come in the order of its statement."""
        found: list[Rows] = [[] for _ in questions]
        types = tuple(next(name for kind, name in _TYPES if isinstance(value, kind)) for value in questions[0])
        columns = (list(column) for column in zip(*questions, strict=True))
        for number, *row in self._run(over_arrays(sql, types), *columns):
            found[number - 1].append(row)
        self._known.update(zip(((sql, bindings) for bindings in questions), found, strict=True))


@lru_cache(maxsize=512)
def over_arrays(sql: str, types: tuple[str, ...]) -> str:
    """The statement for many bindings at once, each an element of arrays; the first column counts them from 1."""
    bound = ", ".join(f"${number}::{name}[]" for number, name in enumerate(types, 1))
    columns = ", ".join(f"value{number}" for number in range(1, len(types) + 1))
    statement = re.sub(r"\?(\d+)", r"asked.value\1", sql)
    return (
        f"SELECT asked.number, found.* FROM unnest({bound}) WITH ORDINALITY AS asked({columns}, number) "  # noqa: S608
        f"CROSS JOIN LATERAL ({statement}) AS found"
    )
