"""Can the `content` of a proto be a .proto file, or a .pb file in base64?

As `compile_proto` in apisix/plugins/grpc-transcode/proto.lua, but that a .proto file is not compiled here: its outline
is looked at (strings, comments and brackets close, something is declared). A .pb file is taken apart into its files.
"""

import base64
import binascii
import re
from typing import Final

_TOKEN: Final = re.compile(
    r"""//[^\n]*|/\*[\s\S]*?\*/|"(?:\\.|[^"\\\n])*"|'(?:\\.|[^'\\\n])*'|[{}\[\]()]|[A-Za-z_][\w.]*|\s+|[^\s"'/]|/(?![/*])"""
)
_CLOSES: Final = {"}": "{", "]": "[", ")": "("}
_DECLARATIONS: Final = frozenset(
    {"syntax", "edition", "package", "import", "option", "message", "enum", "service", "extend"}
)
# Field 1 of a FileDescriptorSet, length-delimited: a file.
_FILE: Final = 1 << 3 | 2
_LONGEST_VARINT: Final = 10


def content_fault(content: str) -> str | None:
    """Why this can be neither; None when it may be one."""
    compact = "".join(content.split())
    try:
        binary = base64.b64decode(compact, validate=True)
    except (binascii.Error, ValueError):
        return _outline_fault(content)
    return None if _is_file_set(binary) else "it is base64, but of no FileDescriptorSet (protoc --descriptor_set_out)"


def _outline_fault(text: str) -> str | None:
    open_brackets: list[tuple[str, int]] = []
    declares, at, line = False, 0, 1
    while at < len(text):
        match = _TOKEN.match(text, at)
        if match is None:
            return f"a string or comment does not end (line {line})"
        token = match[0]
        if token in _CLOSES:
            if not open_brackets or open_brackets.pop()[0] != _CLOSES[token]:
                return f"{token} closes nothing (line {line})"
        elif token in _CLOSES.values():
            open_brackets.append((token, line))
        declares = declares or token in _DECLARATIONS
        line += token.count("\n")
        at = match.end()
    if open_brackets:
        return "{} is not closed (line {})".format(*open_brackets[-1])
    return None if declares else "nothing is declared in it"


def _is_file_set(binary: bytes) -> bool:
    """Whether the message is made of files, one at least."""
    at = 0
    while at < len(binary):
        tag, at = _varint(binary, at)
        length, at = _varint(binary, at)
        at += length
        if tag != _FILE or not length:
            return False
    return 0 < at == len(binary)


def _varint(binary: bytes, at: int) -> tuple[int, int]:
    """A number and the place behind it; beyond the end where it does not end."""
    value = 0
    for shift, byte in enumerate(binary[at : at + _LONGEST_VARINT]):
        value |= (byte & 0x7F) << 7 * shift
        if byte < 0x80:  # the last byte
            return value, at + shift + 1
    return 0, len(binary) + 1
