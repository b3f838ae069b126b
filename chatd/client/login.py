"""Who logs in, and the frames that say so: one exchange for every kind of credential."""

import hashlib
import hmac
from dataclasses import dataclass, field

from chatd.wire import Frame, make, schema
from chatd.wire.schema import Feature, Op

DEVICE_KEY_LABEL = b"chatd.v1 device"


@dataclass(frozen=True, slots=True)
class Credential:
    """Made by one of the constructors below. proof is never shown by repr."""

    kind: schema.Credential
    identity: str = ""
    proof: bytes = field(default=b"", repr=False)
    device: int = 0

    @classmethod
    def jwt(cls, token: str) -> "Credential":
        """A JSON Web Token (HS256 or EdDSA)."""
        return cls(schema.Credential.JWT, proof=token.encode())

    @classmethod
    def api_key(cls, key: str, act_as: str = "") -> "Credential":
        """An API key as printed once by its creation; act_as: the user to act as, for keys that may."""
        return cls(schema.Credential.API_KEY, identity=act_as, proof=key.encode())

    @classmethod
    def password(cls, name: str, password: str) -> "Credential":
        return cls(schema.Credential.PASSWORD, identity=name, proof=password.encode())

    @classmethod
    def guest(cls, display_name: str = "") -> "Credential":
        return cls(schema.Credential.GUEST, identity=display_name)

    @classmethod
    def device_key(cls, device: int, key: bytes) -> "Credential":
        """The key of a device, 32 bytes, as given once by DEVICE_KEY_CREATE; it never crosses the wire."""
        return cls(schema.Credential.DEVICE_KEY, proof=key, device=device)

    @property
    def wants_challenge(self) -> bool:
        return self.kind == schema.Credential.DEVICE_KEY


def hello(credential: Credential, agent: str, window_frames: int, window_bytes: int) -> Frame:
    features = Feature.RECEIPTS | Feature.STREAMS | (Feature.CHALLENGE if credential.wants_challenge else Feature(0))
    return make(
        Op.HELLO,
        major=schema.MAJOR,
        features=int(features),
        frame_bytes_max=schema.BODY_BYTES_MAX,
        window_frames=window_frames,
        window_bytes=window_bytes,
        agent=agent,
    )


def auth(credential: Credential, device: int, label: str, nonce: bytes) -> Frame:
    """nonce: of CHALLENGE, for device keys; the proof is then its HMAC and the key stays here."""
    proof = credential.proof
    if credential.wants_challenge:
        device = credential.device
        message = DEVICE_KEY_LABEL + nonce + device.to_bytes(8, "big")
        proof = hmac.new(credential.proof, message, hashlib.sha256).digest()
    return make(
        Op.AUTH,
        credential=int(credential.kind),
        device=device,
        identity=credential.identity,
        proof=proof,
        label=label,
    )


def reauth(credential: Credential) -> Frame:
    return make(Op.REAUTH, credential=int(credential.kind), identity=credential.identity, proof=credential.proof)
