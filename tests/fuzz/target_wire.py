"""Invariant: bytes become the same frames and the same error however they are cut; what decodes encodes to itself."""

from pathlib import Path

from chatd.wire import Frame, Framer, WireError, encode
from chatd.wire.explain import explain

CORPUS = Path(__file__).resolve().parents[2] / "protocol/corpus"
SEEDS = [path.read_bytes() for path in sorted(CORPUS.iterdir())]


def run(pieces: list[bytes]) -> tuple[list[Frame], str]:
    framer = Framer()
    frames: list[Frame] = []
    try:
        for piece in pieces:
            data = piece
            while got := framer.feed(data):
                frames += got
                data = b""
    except WireError as error:
        return frames, str(error)
    return frames, ""


def one(data: bytes) -> None:
    frames, error = run([data])
    half = len(data) // 2
    assert run([data[:half], data[half:]]) == (frames, error)
    assert run([data[at : at + 7] for at in range(0, len(data), 7)]) == (frames, error)
    if all(frame.known for frame in frames):
        assert data.startswith(b"".join(encode(frame) for frame in frames))
    assert explain(data)
