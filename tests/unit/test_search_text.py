"""Words, runs, folding, matching and excerpts of search."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chatd.storage.search.text import (
    EXCERPT_CHARACTERS_MAX,
    UNITS_PER_QUERY_MAX,
    excerpt,
    index_terms,
    normalised,
    parse_query,
    tokens,
)

LETTERS = st.text(alphabet="aAbé eÉ的是我 ß世界，. ｱがe\u0301👍ไท", max_size=30)


@pytest.mark.parametrize(
    ("text", "query", "found"),
    [
        ("Café au lait", "cafe", True),
        ("cafe\u0301", "CAFÉ", True),
        ("Straße", "STRASSE", True),
        ("Łódź", "lodz", True),
        ("ＦＵＬＬ width", "full", True),
        ("full", "ful", False),
        ("不知道", "知道", True),
        ("不知道", "不道", False),
        ("不知道", "道", True),
        ("知，道", "知道", False),
        ("知，道", "道 知", True),
        ("用Python编程", "python 编程", True),
        ("用Python编程", "编程python", True),
        ("Ёлка", "ЁЛКА", True),
        ("がぎぐ", "か", False),
        ("한국어 공부", "국어", True),
        ("ok 👍", "👍", True),
        ("one two", "two one", True),
        ("one two", "one three", False),
    ],
)
def test_what_matches(text: str, query: str, found: bool) -> None:
    asked = parse_query(query)
    assert asked.matches(text) == found
    if found:
        assert set(asked.terms) <= index_terms(text), "what matches has all terms"


@pytest.mark.parametrize("query", ["", " ，. ", "\u0301", " ".join(map(str, range(UNITS_PER_QUERY_MAX + 1)))])
def test_queries_that_ask_nothing_or_too_much(query: str) -> None:
    with pytest.raises(ValueError, match="at "):
        parse_query(query)


def plain_match(text: str, query: str) -> bool:
    """The rule said once more, token by token."""
    held = [(token.is_run, token.text) for token in tokens(normalised(text))]
    return all(
        any(
            is_run == asked.is_run and (asked.text in folded if is_run else asked.text == folded)
            for is_run, folded in held
        )
        for asked in tokens(normalised(query))
    )


@given(LETTERS, LETTERS)
def test_the_index_never_misses_what_matches(text: str, query: str) -> None:
    try:
        asked = parse_query(query)
    except ValueError:
        return
    assert asked.matches(text) == plain_match(text, query)
    if asked.matches(text):
        assert set(asked.terms) <= index_terms(text)


@given(st.text(max_size=400), LETTERS)
def test_marks_are_places_in_the_utf8_of_the_excerpt(text: str, query: str) -> None:
    try:
        asked = parse_query(query)
    except ValueError:
        return
    shown = excerpt(text + query, asked)
    assert len(shown.text) <= EXCERPT_CHARACTERS_MAX + 2
    encoded, at = shown.text.encode(errors="surrogatepass"), 0
    for start, length in shown.marks:
        assert at <= start < start + length <= len(encoded)
        at = start + length
        marked = encoded[start:at].decode(errors="surrogatepass")
        assert any(token.text in (*asked.words, *asked.runs) or any(run in token.text for run in asked.runs)
                   for token in tokens(marked)), (marked, asked)  # fmt: skip


def test_an_excerpt_is_cut_around_the_first_match() -> None:
    text = "很" * 500 + "needle" + "长" * 500
    shown = excerpt(text, parse_query("Needle"))
    assert len(shown.text) == EXCERPT_CHARACTERS_MAX + 2
    assert shown.text.startswith("…很")
    ((start, length),) = shown.marks
    assert shown.text.encode()[start : start + length] == b"needle"
