"""The supervisor: holds sockets, makes rings; starts, watches and replaces workers. docs/internals/process.md."""
