"""Copying a store to another kind of store, beside the server that writes to it."""
