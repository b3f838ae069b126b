"""Benchmarks: chatd beside its peers, measured in one run. `python -m bench --help`; the figures: README.md."""
