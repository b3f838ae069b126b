"""Rows about messages and what became of them, and how long conversations keep them."""

from typing import NamedTuple


class EditRow(NamedTuple):
    """Event seq is an edit of target."""

    cid: int
    target: int
    seq: int


class ReactionRow(NamedTuple):
    """As it stands: seq is the event that added it."""

    cid: int
    target: int
    uid: int
    emoji: str
    seq: int


class PinRow(NamedTuple):
    cid: int
    target: int
    uid: int
    seq: int


class MentionRow(NamedTuple):
    """uid 0: everyone."""

    cid: int
    seq: int
    uid: int


class ExpiryRow(NamedTuple):
    cid: int
    seq: int
    due_ms: int


class ScheduledRow(NamedTuple):
    """content: the extension block (has_ext) and the payload, as a SEND would have them."""

    uid: int
    number: int
    cid: int
    due_ms: int
    kind: int
    has_ext: int
    content: bytes


class DraftRow(NamedTuple):
    uid: int
    cid: int
    content: bytes
    changed_ms: int


class RetentionRow(NamedTuple):
    """days, events: what the conversation says itself, 0: nothing. floor_seq: the first event it still has, 0: all are
    there. below_count: messages below it. due_ms: when the folder has to look for what lies below the floor.
    """

    cid: int
    days: int
    events: int
    floor_seq: int
    below_count: int
    due_ms: int


class Kept(NamedTuple):
    """A conversation, its folded head, and its retention: zeros where it has none."""

    cid: int
    head_seq: int
    days: int
    events: int
    floor_seq: int
