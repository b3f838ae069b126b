"""The native adapter: the only place that imports chatd._native."""

from chatd._native import LEDGER_HOPS, Engine, HubCore, Portion, Ring, decode_batch

__all__ = ["LEDGER_HOPS", "Engine", "HubCore", "Portion", "Ring", "decode_batch"]
