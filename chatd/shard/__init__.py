"""A shard's Python side: the loop that drives the engine, and logins. Nothing of a hot frame comes here."""
