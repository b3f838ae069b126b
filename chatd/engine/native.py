"""The native adapter: the only place that imports chatd._native."""

from chatd._native import Ring

__all__ = ["Ring"]
