"""What the documents say of the fault programme is what its results and its tables say."""

import importlib.util
import json

from campaigns import figures, sabotages
from campaigns.figures import CAMPAIGNS, RESULTS

ROOT = RESULTS.parents[1]
DOCS = ROOT / "docs"


def test_reliability_quotes_the_published_results() -> None:
    assert figures.table() in (DOCS / "reliability.md").read_text(encoding="utf-8"), (
        "put in what `PYTHONPATH=.:tests python -m campaigns.figures` prints"
    )


def test_a_campaign_has_one_published_result_at_most_which_says_of_which_commit() -> None:
    for name in CAMPAIGNS:
        published = list(RESULTS.glob(f"{name}-*.json"))
        if not published:
            continue
        (path,) = published
        commit = json.loads(path.read_text(encoding="utf-8"))["machine"]["commit"]
        assert path.stem.endswith(commit[:8]), f"{path.name} was made from {commit}"


def test_the_table_of_sabotages_is_that_of_the_campaign() -> None:
    assert sabotages.table() in (DOCS / "internals/sabotages.md").read_text(encoding="utf-8")


def test_parsing_files_are_there_and_marks_stand_nowhere_else() -> None:
    """`make coverage` judges a file by its name, and a mark only in a file that it judges."""
    spec = importlib.util.spec_from_file_location("covered", ROOT / "tools/covered.py")
    assert spec is not None
    assert spec.loader is not None
    covered = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(covered)
    assert all((ROOT / name).is_file() for name in covered.PARSERS)
    for path in [*(ROOT / "native").rglob("*.p*"), *(ROOT / "chatd").rglob("*.py")]:
        name = path.relative_to(ROOT).as_posix()
        is_judged = name in covered.PARSERS or name.startswith(covered.PARSERS_UNDER)
        assert is_judged or not covered.MARK.search(path.read_text(encoding="utf-8")), name
