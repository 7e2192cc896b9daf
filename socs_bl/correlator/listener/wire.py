"""What people and programs write into the pipe: one absolute path a line."""

from __future__ import annotations

from socs_bl.core.errors import Refused

MAX_PATH = 1024


def parse_path(line: str | bytes) -> str:
    """The path in a line.

    Raises
    ------
    Refused
        When it is no absolute path, has ``..`` or ``.`` in it, or is not printable UTF-8 of at most 1,024 characters.
    """
    try:
        text = (line if isinstance(line, str) else line.decode("utf-8")).strip()
        text.encode("utf-8")
    except UnicodeError as error:
        raise Refused(f"the line {line!r:.60} is not UTF-8; write a path") from error
    if len(text) > MAX_PATH or not text.isprintable():
        raise Refused(f"{text!r:.80} is not a printable path of at most {MAX_PATH} characters")
    parts = text.split("/")
    if parts[0] or len(parts) < 2 or not parts[-1]:
        raise Refused(f"{text!r:.80} is not the absolute path of a file; write it like '/home/wcbe/c1.xml'")
    if any(part in ("", ".", "..") for part in parts[1:]):
        raise Refused(f"{text!r:.80} goes by '.', '..' or '//'; write the path as it is")
    return text
