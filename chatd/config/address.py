"""host:port as the operator writes it."""

from typing import Any, NamedTuple

from pydantic import GetCoreSchemaHandler
from pydantic_core import CoreSchema, core_schema


class Address(NamedTuple):
    """Where to listen. host: an IP address, "" for all."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    @classmethod
    def parse(cls, value: object) -> "Address":
        """From "host:port" or "[v6]:port". ValueError says what is wrong."""
        if isinstance(value, Address):
            return value
        if not isinstance(value, str):
            raise ValueError('must be text like "127.0.0.1:7350"')
        host, colon, port = value.rpartition(":")
        if not colon or not port.isascii() or not port.isdigit() or int(port) > 65_535:
            raise ValueError(f'{value!r} must be host:port with a port from 0 to 65535, like "127.0.0.1:7350"')
        if host.startswith("[") and host.endswith("]"):
            host = host[1:-1]
        elif ":" in host:
            raise ValueError(f"{value!r}: write IPv6 addresses in brackets, like [::1]:7350")
        return cls(host, int(port))

    @classmethod
    def __get_pydantic_core_schema__(cls, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        del source, handler
        return core_schema.no_info_plain_validator_function(
            cls.parse, serialization=core_schema.plain_serializer_function_ser_schema(str)
        )
