"""`chatd check`: is the store sound?"""

import json

import typer

from chatd.cli.login import DEFAULT_DATA, DEFAULT_STORE, Data, Json, Store

app = typer.Typer(add_completion=False)


@app.command(help="Verify the store of a data directory, beside a running server or without. Exits with 1 on findings.")
def check(data: Data = DEFAULT_DATA, store: Store = DEFAULT_STORE, as_json: Json = False) -> None:
    from chatd.storage.journal_codec import decode_batch
    from chatd.storage.stores import check_store

    report = check_store(store, data, decode_batch)
    if as_json:
        findings = [finding._asdict() for finding in report.findings]
        typer.echo(json.dumps({"sound": not findings, "findings": findings, "checked": report.checked}))
    else:
        for finding in report.findings:
            typer.echo(f"{finding.file}: {finding.text} [{finding.check}]")
        looked = ", ".join(f"{count} {name}" for name, count in report.checked.items())
        verdict = f"{len(report.findings)} problems" if report.findings else "the store is sound"
        typer.echo(f"{data}: {verdict} ({looked})")
    if report.findings:
        raise typer.Exit(1)
