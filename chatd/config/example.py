"""`chatd config example`: a complete TOML file with every default, made from the model, so that it cannot go stale."""

import json
import textwrap
from typing import Any

from pydantic.fields import FieldInfo

from chatd.config.load import Settings
from chatd.config.model import Issuer, OwnKind, OwnRole, Section

WIDTH = 110
TABLES = {"issuers", "kinds", "roles"}
"""Settings that are tables of their own; a sample of each stands at the end."""
HEAD = """\
# chatd.toml: every setting with its default. `chatd serve --check` says what is wrong with a configuration.
# The environment overrides the file (CHATD_SESSION__SENDS_PER_S=20); flags override both
# (--set session.sends_per_s=20).
"""


def example_toml() -> str:
    """The text of a configuration file in which every setting has its default."""
    parts = [HEAD]
    for name, field in Settings.model_fields.items():
        default = field.get_default(call_default_factory=True, validated_data={})
        if isinstance(default, Section):
            parts.append(_section(name, default))
        else:
            parts.append(_entry(name, field, default))
    parts += [_issuer(), _role(), _kind()]
    return "\n".join(parts)


def _section(name: str, section: Section) -> str:
    head = textwrap.fill((type(section).__doc__ or "").strip(), WIDTH, initial_indent="# ", subsequent_indent="# ")
    values = section.model_dump(mode="json")
    entries = [
        _entry(key, field, values[key]) for key, field in type(section).model_fields.items() if key not in TABLES
    ]
    return "\n".join([head, f"[{name}]", *entries])


def _entry(name: str, field: FieldInfo, value: Any) -> str:
    limits = {type(rule).__name__.lower(): rule for rule in field.metadata}
    low = getattr(limits.get("ge"), "ge", None)
    high = getattr(limits.get("le"), "le", None)
    text = " ".join((field.description or "").split())
    if low is not None and high is not None:
        text += f" Range: {low} to {high}."
    comment = textwrap.fill(text, WIDTH, initial_indent="# ", subsequent_indent="# ")
    if value is None:
        return f"{comment}\n# {name} = \n"
    if not isinstance(value, bool | int | list):
        value = str(value)
    return f"{comment}\n{name} = {json.dumps(value)}\n"


def _role() -> str:
    sample = {"code": 8, "name": "herald", "inherits": "member", "grants": ["mention_all"], "denies": []}
    return _table("hub.roles", OwnRole, {name: json.dumps(value) for name, value in sample.items()})


def _kind() -> str:
    shape = '{ type = "object", required = ["title"], properties = { title = { type = "string", maxLength = 100 } } }'
    return _table("hub.kinds", OwnKind, {"name": json.dumps("event"), "content": shape})


def _table(name: str, section: type[Section], values: dict[str, str]) -> str:
    lines = [f"# {line}" for line in textwrap.wrap((section.__doc__ or "").strip(), WIDTH)]
    lines.append(f"# [[{name}]]")
    for key, field in section.model_fields.items():
        lines.append(f"# {key} = {values[key]}    # {' '.join((field.description or '').split())}")
    return "\n".join(lines) + "\n"


def _issuer() -> str:
    sample: dict[str, Any] = {
        "issuer": "https://id.example.org",
        "audience": "chatd",
        "algorithm": "EdDSA",
        "types": ["JWT", "at+jwt"],
        "create_users": True,
    }
    values = {name: json.dumps(value) for name, value in sample.items()}
    return _table("auth.issuers", Issuer, {**values, "keys": '{ "2026-01" = "secrets/issuer.pem" }'})
