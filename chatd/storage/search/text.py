"""What search takes for a word, the same for messages and for queries, on every store.

A text is cut into words and runs. A word is letters and digits of a script that puts spaces between words; it is found
as a whole, without case, and in Latin and Greek without accents. A run is characters of a script without spaces
(Chinese, Japanese, Korean, Thai …) or emoji; any part of it is found. Everything else separates.

Index terms: every word; of a run, every character and every pair of neighbours. So one and two characters are one
look-up; what is longer is looked for by its pairs and then compared with the text (`Query.matches`).
"""

import re
import unicodedata
from collections.abc import Iterable, Iterator
from itertools import pairwise
from typing import NamedTuple

TERM_CHARACTERS_MAX = 40
"""A longer word is indexed by its beginning and compared in full."""
UNITS_PER_QUERY_MAX = 16

_RUN = (
    "\u0e00-\u0eff\u0f00-\u0fff\u1000-\u109f\u1780-\u17ff"  # Thai, Lao, Tibetan, Burmese, Khmer
    "\u2600-\u27bf\u2e80-\u2fdf\u3005-\u3007\u3021-\u3029\u3031-\u3035\u3041-\u309f\u30a1-\u30fa\u30fc-\u30ff"
    "\u3105-\u312f\u3131-\u318e\u31a0-\u31bf\u31f0-\u31ff\u3400-\u4dbf\u4e00-\u9fff\ua000-\ua48f\uac00-\ud7af"
    "\uf900-\ufaff\uff66-\uff9f\U0001b000-\U0001b16f\U0001f000-\U0001faff\U00020000-\U0003ffff"
)
# Signs that belong to the letter before them; in Indic scripts whole blocks but for the full stops.
_MARK = "\u0300-\u036f\u0483-\u0487\u0591-\u05c7\u0610-\u061a\u064b-\u065f\u0670\u06d6-\u06ed\u0900-\u0963\u0966-\u0dff"
_TOKEN = re.compile(f"([{_RUN}]+)|((?:[^\\W_{_RUN}]|[{_MARK}])+)")
_NOT_DECOMPOSED = str.maketrans({"ø": "o", "đ": "d", "ł": "l", "ħ": "h", "ı": "i", "æ": "ae", "œ": "oe", "ð": "d"})
_FOLDED_SCRIPTS = ("LATIN", "GREEK", "FULLWIDTH LATIN")


class Token(NamedTuple):
    """start, end: characters of the normalised text. text: folded; of a run, one character for each."""

    start: int
    end: int
    is_run: bool
    text: str


class _Folds(dict[str, str]):
    """Character → what it is compared as; made when first met, at most one entry per character there is."""

    def __missing__(self, character: str) -> str:
        self[character] = folded = _fold(character)
        return folded


def _fold(character: str) -> str:
    if "\u0300" <= character <= "\u036f":
        return ""
    plain = unicodedata.normalize("NFKD", character)
    if unicodedata.name(plain[0], "").startswith(_FOLDED_SCRIPTS):
        plain = "".join(part for part in plain if not unicodedata.combining(part))
    else:
        plain = unicodedata.normalize("NFKC", character)
    return plain.casefold().translate(_NOT_DECOMPOSED)


def _fold_run(character: str) -> str:
    """One for one, so that a place in the folded run is a place in the text."""
    plain = unicodedata.normalize("NFKC", character)
    return plain if len(plain) == 1 else character


_folds = _Folds()


class _RunFolds(dict[str, str]):
    def __missing__(self, character: str) -> str:
        self[character] = folded = _fold_run(character)
        return folded


_run_folds = _RunFolds()


def normalised(text: str) -> str:
    """The form in which texts are shown in excerpts and positions are counted."""
    return unicodedata.normalize("NFC", text)


def tokens(text: str) -> Iterator[Token]:
    """Of a normalised text, in order. A word of signs alone folds to nothing and is left out."""
    for found in _TOKEN.finditer(text):
        run, word = found.groups()
        if run is not None:
            yield Token(*found.span(), True, "".join(map(_run_folds.__getitem__, run)))
        elif folded := "".join(map(_folds.__getitem__, word)):
            yield Token(*found.span(), False, folded)


def index_terms(text: str) -> set[str]:
    """Of a text as it was sent."""
    terms: set[str] = set()
    for _, _, is_run, folded in tokens(normalised(text)):
        if is_run:
            terms.update(folded)
            terms.update(map("".join, pairwise(folded)))
        else:
            terms.add(folded[:TERM_CHARACTERS_MAX])
    return terms


class Query(NamedTuple):
    """All of `words` must occur as words, all of `runs` as parts of runs."""

    words: tuple[str, ...]
    runs: tuple[str, ...]

    @property
    def terms(self) -> list[str]:
        """What the index is asked for: the texts that match have all of these."""
        found = {word[:TERM_CHARACTERS_MAX] for word in self.words}
        for run in self.runs:
            found.update(map("".join, pairwise(run)) if len(run) > 1 else run)
        return sorted(found)

    def matches(self, text: str) -> bool:
        words, runs = set[str](), list[str]()
        for _, _, is_run, folded in tokens(normalised(text)):
            if is_run:
                runs.append(folded)
            else:
                words.add(folded)
        return words.issuperset(self.words) and all(any(run in found for found in runs) for run in self.runs)

    def spans(self, text: str) -> list[tuple[int, int]]:
        """Where the query occurs in a normalised text: (start, end) in characters, ascending, apart from each other."""
        found: list[tuple[int, int]] = []
        for start, end, is_run, folded in tokens(text):
            if is_run:
                for run in self.runs:
                    found += ((start + at, start + at + len(run)) for at in _occurrences(folded, run))
            elif folded in self.words:
                found.append((start, end))
        return _joined(sorted(found))


def parse_query(text: str) -> Query:
    """ValueError when there is nothing to look for, or too much."""
    units = list(dict.fromkeys((token.is_run, token.text) for token in tokens(normalised(text))))
    if not units:
        raise ValueError("at least one letter, digit or character")
    if len(units) > UNITS_PER_QUERY_MAX:
        raise ValueError(f"at most {UNITS_PER_QUERY_MAX} words")
    return Query(tuple(unit for is_run, unit in units if not is_run), tuple(unit for is_run, unit in units if is_run))


def _occurrences(text: str, part: str) -> Iterator[int]:
    at = text.find(part)
    while at >= 0:
        yield at
        at = text.find(part, at + 1)


def _joined(spans: Iterable[tuple[int, int]]) -> list[tuple[int, int]]:
    joined: list[tuple[int, int]] = []
    for start, end in spans:
        if joined and start <= joined[-1][1]:
            joined[-1] = (joined[-1][0], max(end, joined[-1][1]))
        else:
            joined.append((start, end))
    return joined


EXCERPT_CHARACTERS_MAX = 160
EXCERPT_BEFORE = 40
CUT = "…"


class Excerpt(NamedTuple):
    """A piece of the text with its matches: (start, length) in bytes of its UTF-8."""

    text: str
    marks: list[tuple[int, int]]


def excerpt(text: str, query: Query) -> Excerpt:
    """Around the first match, at most EXCERPT_CHARACTERS_MAX characters and a sign where it is cut."""
    shown = normalised(text)
    spans = query.spans(shown)
    first = spans[0][0] if spans else 0
    begin = max(0, first - EXCERPT_BEFORE) if len(shown) > EXCERPT_CHARACTERS_MAX else 0
    end = min(len(shown), begin + EXCERPT_CHARACTERS_MAX)
    head = CUT if begin else ""
    piece = head + shown[begin:end] + (CUT if end < len(shown) else "")
    marks = []
    for start, stop in spans:
        match = shown[max(start, begin) : min(stop, end)]
        if match:
            marks.append((len((head + shown[begin : max(start, begin)]).encode()), len(match.encode())))
    return Excerpt(piece, marks)
