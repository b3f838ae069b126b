"""`chatd epoch`: which log this is, and a new one for a store that went back."""

from typing import Annotated

import typer

from chatd.cli.login import DEFAULT_DATA, DEFAULT_STORE, Data, Store

app = typer.Typer(add_completion=False)


@app.command(
    help="Print the log epoch of the store. --new begins another one, with the server stopped: say it once after the "
    "store went back to an earlier state by other means than `chatd restore` (pg_restore, point-in-time recovery, a "
    "snapshot). Clients then discard their positions, and no id is given out a second time."
)
def epoch(
    data: Data = DEFAULT_DATA,
    store: Store = DEFAULT_STORE,
    new: Annotated[bool, typer.Option("--new", help="Begin a new log.")] = False,
) -> None:
    from chatd.storage.stores import begin_new_log, opened_reader, refuse_to_mix

    if new:
        from chatd.engine.native import Portion

        typer.echo(begin_new_log(store, data, Portion))
        return
    refuse_to_mix(store, data)
    with opened_reader(store, data) as reader, reader.view() as view:
        typer.echo(view.meta("log_epoch"))
