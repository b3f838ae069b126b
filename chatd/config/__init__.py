"""The operator's settings: TOML file, environment (CHATD_SECTION__KEY), flags; in this order, the later one wins.

Only the supervisor and the commands import this: pydantic costs 0.3 s and 30 MB, so workers get `plain()`.
"""

from chatd.config.example import example_toml
from chatd.config.load import Settings, load, plain

__all__ = ["Settings", "example_toml", "load", "plain"]
