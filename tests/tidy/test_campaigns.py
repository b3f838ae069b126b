"""What the documents say of the fault programme is what its results and its tables say."""

import json

from campaigns import figures, sabotages
from campaigns.figures import CAMPAIGNS, RESULTS

DOCS = RESULTS.parents[1] / "docs"


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
