"""`chatd migrate`: says what is pending, applies it, and then has nothing to do; on both stores."""

import os
import subprocess
import sys

from support.stores import StorePlace


def migrate(place: StorePlace, *options: str) -> str:
    command = [sys.executable, "-m", "chatd", "migrate", "--data", str(place.directory), *options]
    environment = os.environ | {"CHATD_STORE": place.where}
    done = subprocess.run(command, capture_output=True, text=True, check=True, env=environment)
    return done.stdout


def test_the_plan_is_printed_and_then_applied(place: StorePlace) -> None:
    planned = migrate(place, "--plan")
    assert "0001_base: pending, sha256 " in planned
    assert "CREATE TABLE conversation(" in planned
    assert migrate(place, "--plan") == planned, "it changed nothing"
    applied = migrate(place)
    assert applied.endswith(" applied\n")
    assert "CREATE TABLE" not in applied
    assert migrate(place).splitlines()[-1] == "nothing to do"
    assert migrate(place, "--plan").splitlines()[0] == "0001_base: applied"
