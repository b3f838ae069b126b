"""`chatd migrate`: what a new version changes in the store, before it is started."""

from typing import Annotated

import typer

from chatd.cli.login import DEFAULT_DATA, DEFAULT_STORE, Data, Store

app = typer.Typer(add_completion=False)


@app.command(
    help="Bring the store to this version, as a start of the server does. --plan only says what would be done."
)
def migrate(
    data: Data = DEFAULT_DATA,
    store: Store = DEFAULT_STORE,
    plan: Annotated[bool, typer.Option("--plan", help="Change nothing; print what is pending, with its SQL.")] = False,
) -> None:
    from chatd.storage.stores import migration_plan, open_store

    found = migration_plan(store, data)
    for migration in found.applied:
        typer.echo(f"{migration.number:04d}_{migration.name}: applied")
    for migration in found.pending:
        typer.echo(f"{migration.number:04d}_{migration.name}: pending, sha256 {migration.sha256[:16]}")
        if plan:
            typer.echo(migration.sql)
    if not found.pending:
        typer.echo("nothing to do")
    elif not plan:
        open_store(store, data).close()
        typer.echo(f"{len(found.pending)} applied")
