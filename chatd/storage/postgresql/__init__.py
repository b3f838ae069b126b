"""The store on PostgreSQL. docs/internals/postgresql.md has the overview."""
