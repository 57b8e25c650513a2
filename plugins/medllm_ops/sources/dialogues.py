"""What the formats of instruction and preference sets share: turns checked, ids from the content, language."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import orjson

from medllm_ops.files import text_hash
from medllm_ops.records import Dialogue, Message, Role
from medllm_ops.sources.row import RowError

CHINESE_SHARE = 0.2
"""From this share of Han characters among the letters on a text counts as Chinese: drug names are often Latin."""

_ROLES: Mapping[str, Role] = {
    "system": "system",
    "user": "user",
    "human": "user",
    "assistant": "assistant",
    "gpt": "assistant",
}
_LANGUAGES = {"zh": "zh", "chinese": "zh", "en": "en", "english": "en"}
_MEDIA_KEYS = ("image", "images", "audio", "audios", "video", "videos", "objects")
# ms-swift's marks for media. An <img …> with attributes is a remnant of a web page, not a picture.
_MEDIA_TAG = re.compile(r"<(?:img|image|audio|video)>")
_PLACEHOLDER = re.compile(r"\{\{(?:NAME|AUTHOR)\}\}")
_LETTER = re.compile(r"[^\W\d_]")
_HAN = re.compile(r"[\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U000323af]")
_INVISIBLE = "\u200b\u200c\u200d\u2060\ufeff"


def is_blank(text: str) -> bool:
    """Whether nothing of ``text`` can be seen."""
    return not text.strip().strip(_INVISIBLE).strip()


def language_of(texts: Iterable[str], named: object = None) -> str:
    """``zh`` or ``en``: as the row names it, else by the share of Han characters among the letters."""
    if isinstance(named, str) and (known := _LANGUAGES.get(named.strip().lower())):
        return known
    held = tuple(texts)
    if all(text.isascii() or not _HAN.search(text) for text in held):
        return "en"
    han = letters = 0
    for text in held:
        han += len(_HAN.findall(text))
        letters += len(_LETTER.findall(text))
    return "zh" if han > CHINESE_SHARE * letters else "en"


def content_id(source: str, *content: object) -> str:
    """``<source>:<16 hexadecimal digits>`` of the content: the same for equal rows in any file and order."""
    return f"{source}:{text_hash(orjson.dumps(content).decode())[:16]}"


def text_field(row: Mapping[str, Any], field: str) -> str:
    """A field that may be missing or null, as text.

    :raises RowError: ``not a string``.
    """
    value = row.get(field)
    if value is None:
        return ""
    if not isinstance(value, str):
        raise RowError("not a string", f"{field} is {_json_type(value)}")
    return value


def list_field(row: Mapping[str, Any], field: str) -> list[Any]:
    """A field that may be missing or null, as a list.

    :raises RowError: ``not a list``.
    """
    value = row.get(field)
    if value is None:
        return []
    if not isinstance(value, list):
        raise RowError("not a list", f"{field} is {_json_type(value)}")
    return value


def turns_of(row: Mapping[str, Any], field: str, role_key: str, text_key: str) -> list[tuple[str, str]]:
    """The turns of a list such as ``[{"role": …, "content": …}]``.

    :raises RowError: if a turn is no object or holds no text.
    """
    turns = []
    for number, turn in enumerate(list_field(row, field), start=1):
        if not isinstance(turn, dict):
            raise RowError("not an object", f"turn {number} is {_json_type(turn)}")
        role = text_field(turn, role_key)
        content = turn.get(text_key)
        if isinstance(content, list) and any(isinstance(part, dict) and "type" in part for part in content):
            raise RowError("multimodal row", f"turn {number} consists of parts")
        turns.append((role, text_field(turn, text_key)))
    return turns


def history_turns(row: Mapping[str, Any]) -> list[tuple[str, str]]:
    """The turns of ``history``: ``[[question, answer], …]``.

    :raises RowError: if it is anything else.
    """
    turns: list[tuple[str, str]] = []
    for number, pair in enumerate(list_field(row, "history"), start=1):
        if not isinstance(pair, list) or len(pair) != 2:
            raise RowError("history is not pairs", f"entry {number}")
        exchange = {"question": pair[0], "answer": pair[1]}
        turns += [("user", text_field(exchange, "question")), ("assistant", text_field(exchange, "answer"))]
    return turns


def check_text_only(row: Mapping[str, Any]) -> None:
    """Refuse a row with pictures, sound or film.

    :raises RowError: ``multimodal row``.
    """
    for key in _MEDIA_KEYS:
        if row.get(key):
            raise RowError("multimodal row", key)


def build_messages(turns: Sequence[tuple[str, str]], system: str = "") -> tuple[Message, ...]:
    """Check the turns and give them the roles of ms-swift.

    After an optional system turn the roles alternate, from the user to the assistant. Text is kept as it is.

    :raises RowError: with one of the fixed reasons.
    """
    if not is_blank(system):
        turns = [("system", system), *turns]
    messages = []
    for number, (name, content) in enumerate(turns, start=1):
        role = _ROLES.get(name.strip().lower())
        if role is None:
            raise RowError("unknown role", f"turn {number}: {name[:40]!r}")
        if is_blank(content):
            if role == "system":
                continue
            raise RowError("empty turn", f"turn {number}, {role}")
        check_content(content)
        messages.append(Message(role, content))
    dialogue = messages[1:] if messages and messages[0].role == "system" else messages
    if not dialogue:
        raise RowError("no turns")
    for number, message in enumerate(dialogue):
        if message.role != ("user", "assistant")[number % 2]:
            reason = "does not begin with the user" if number == 0 else "roles do not alternate"
            raise RowError(reason, f"turn {number + 1} is {message.role}")
    if dialogue[-1].role != "assistant":
        raise RowError("ends on the user's turn")
    return tuple(messages)


def check_content(content: str) -> None:
    """Refuse what a turn must not hold: a mark for media, or a name that nobody filled in.

    :raises RowError: ``multimodal row`` or ``unfilled placeholder``.
    """
    if tag := _MEDIA_TAG.search(content):
        raise RowError("multimodal row", tag.group())
    if placeholder := _PLACEHOLDER.search(content):
        raise RowError("unfilled placeholder", placeholder.group())


def build_dialogue(
    source: str,
    turns: Sequence[tuple[str, str]],
    *,
    system: str = "",
    language: object = None,
    identifier: str | None = None,
    licence: str = "",
) -> Dialogue:
    """A checked dialogue; its id is the publisher's, or made of its content.

    :raises RowError: with one of the fixed reasons.
    """
    messages = build_messages(turns, system)
    return Dialogue(
        id=identifier or content_id(source, *([message.role, message.content] for message in messages)),
        source=source,
        language=language_of((message.content for message in messages), language),
        messages=messages,
        licence=licence,
    )


def _json_type(value: object) -> str:
    if isinstance(value, bool):
        return "a boolean"
    if isinstance(value, int | float):
        return "a number"
    if isinstance(value, list):
        return "a list"
    return "an object" if isinstance(value, dict) else "a string"
