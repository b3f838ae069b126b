"""chatd: a messaging server. See ARCHITECTURE.md for the map."""

__version__ = "0.1.0"
