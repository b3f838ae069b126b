"""Full-text search: words, blocks of postings, the indexer. docs/internals/search.md."""
