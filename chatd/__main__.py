"""`chatd` and `python -m chatd`: the command line, where the libraries that it needs are installed."""

import sys


def main() -> None:
    try:
        from chatd.cli import main as run
    except ModuleNotFoundError as missing:
        if missing.name is None or missing.name.startswith("chatd"):
            raise
        sys.exit(f"chatd: the commands need the module {missing.name}: install chatd with the extra tui or server")
    run()


if __name__ == "__main__":
    main()
