"""Polls: a question and two to ten choices, as MessagePack {"question": str, "choices": [str]}."""

import msgpack


def check(content: bytes) -> None:
    """What the server calls for each poll before it is stored. ValueError says what is wrong with it."""
    try:
        poll = msgpack.unpackb(content)
    except (ValueError, msgpack.UnpackException):
        raise ValueError("not MessagePack") from None
    if not isinstance(poll, dict) or set(poll) != {"question", "choices"}:
        raise ValueError("a poll is a map of question and choices")
    question, choices = poll["question"], poll["choices"]
    if not isinstance(question, str) or not question.strip():
        raise ValueError("the question is empty")
    if not isinstance(choices, list) or not 2 <= len(choices) <= 10:
        raise ValueError("two to ten choices")
    if not all(isinstance(choice, str) and choice.strip() for choice in choices):
        raise ValueError("every choice is a text")
