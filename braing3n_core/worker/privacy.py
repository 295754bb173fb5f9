"""What must not leave the worker: the folders of its machine."""

from __future__ import annotations

import re

_FOLDERS = re.compile(r"(?<![\w./:])(?:[A-Za-z]:)?[/\\](?:[^\s/\\'\":,;()]+[/\\])+|(?<![\w./:])/(?=[\w.-]+(?![\w/]))")


def without_folders(text: str) -> str:
    """The text with every absolute path cut down to its last name; addresses (``https://...``) stay."""
    return _FOLDERS.sub("", text)
