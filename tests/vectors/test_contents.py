"""The vectors of what frames carry: payloads of kinds, extensions, MessagePack maps of methods and notices."""

from typing import Any

import msgpack
import pytest
from support import vectors

from chatd.services.methods import METHODS
from chatd.services.params import checked, request_key
from chatd.wire.layout import Layout, decode_fields, encode_fields
from chatd.wire.schema import EXTENSIONS, KINDS, Kind, Method, NoticeTopic, Op

CONTENTS = vectors.read("contents")
PAYLOADS = [vector for vector in CONTENTS if "payload" in vector]
EXTENDED = [vector for vector in CONTENTS if "extension" in vector]
MAPS = [vector for vector in CONTENTS if "map" in vector]
CARRIER = {"REQUEST": "params", "REPLY": "result", "NOTICE": "content"}


def fields_of(layout: Layout, given: dict[str, Any]) -> dict[str, Any]:
    return {field.name: vectors.value_of(field, given[field.name]) for field in layout.fields}


def packed(vector: dict[str, Any]) -> bytes:
    return bytes(vectors.frame_of(vector)[CARRIER[vector["op"]]])


@pytest.mark.parametrize("vector", PAYLOADS, ids=vectors.named)
def test_a_payload_is_its_fields(vector: dict[str, Any]) -> None:
    frame = vectors.frame_of(vector)
    layout = KINDS[frame["kind"]].layout
    assert layout is not None
    expected = fields_of(layout, vector["payload"])
    assert decode_fields(layout, frame["payload"]) == expected
    assert encode_fields(layout.fields, expected) == frame["payload"]


@pytest.mark.parametrize("vector", EXTENDED, ids=vectors.named)
def test_an_extension_is_its_fields(vector: dict[str, Any]) -> None:
    frame = vectors.frame_of(vector)
    for tag, content in frame.extensions:
        layout = EXTENSIONS[frame.op, tag]
        expected = fields_of(layout, vector["extension"][str(tag)])
        assert decode_fields(layout, content) == expected
        assert encode_fields(layout.fields, expected) == content


@pytest.mark.parametrize("vector", MAPS, ids=vectors.named)
def test_a_map_is_its_keys_and_values(vector: dict[str, Any]) -> None:
    assert msgpack.unpackb(packed(vector), strict_map_key=False) == vectors.map_of(vector["map"])


@pytest.mark.parametrize("vector", [vector for vector in MAPS if vector["op"] == "REQUEST"], ids=vectors.named)
def test_a_server_takes_the_params(vector: dict[str, Any]) -> None:
    params = msgpack.unpackb(packed(vector), strict_map_key=False)
    table = METHODS[vectors.frame_of(vector)["method"]].params
    checked(params, table)
    request_key(params)
    assert params.keys() - {0} <= {param.key for param in table}


def test_every_kind_extension_method_and_notice_has_a_vector() -> None:
    kinds = {vectors.frame_of(vector)["kind"] for vector in PAYLOADS}
    assert {kind for kind in Kind if KINDS[kind].layout is not None} <= kinds
    tags = {(Op[vector["op"]], int(tag)) for vector in EXTENDED for tag in vector["extension"]}
    assert EXTENSIONS.keys() <= tags
    asked = {vectors.frame_of(vector)["method"] for vector in MAPS if vector["op"] == "REQUEST"}
    answered = {vector["method"] for vector in MAPS if vector["op"] == "REPLY"}
    assert ({*Method}, {method.name for method in Method}) == (asked, answered)
    assert {vectors.frame_of(vector)["topic"] for vector in MAPS if vector["op"] == "NOTICE"} == {*NoticeTopic}
