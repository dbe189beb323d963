"""Can the `content` of a proto be a .proto file, or a .pb file in base64?

As `compile_proto` in apisix/plugins/grpc-transcode/proto.lua, but that a .proto file is not compiled here: its outline
is looked at (strings, comments and brackets close, something is declared). A .pb file is taken apart into its files.
"""

import base64
import binascii
import re
from typing import Final

# PERF: a file may be a megabyte, and the agent's loop waits for this: what can be is done by `re`, not piece by piece.
# What does not end is matched as well, and marked: looked for again from each character, it would take for ever.
_TEXT: Final = re.compile(
    r"""//[^\n]*|/\*[\s\S]*?(?:\*/|(?P<comment>\Z))"""
    r"""|"(?:\\.|[^"\\\n])*(?:"|(?P<double>))|'(?:\\.|[^'\\\n])*(?:'|(?P<single>))"""
)
_BESIDE_BRACKETS: Final = re.compile(r"[^{}\[\]()\n]+")
_DECLARES: Final = re.compile(r"\b(?:syntax|edition|package|import|option|message|enum|service|extend)\b")
_CLOSES: Final = {"}": "{", "]": "[", ")": "("}
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
    unended: list[int] = []

    def blank(match: re.Match[str]) -> str:
        if match.lastgroup:
            unended.append(match.start())
        return " " + "\n" * match[0].count("\n")

    bare = _TEXT.sub(blank, text)
    if unended:
        line = text.count("\n", 0, unended[0]) + 1
        return f"a string or comment does not end (line {line})"
    open_brackets: list[tuple[str, int]] = []
    line = 1
    for mark in _BESIDE_BRACKETS.sub("", bare):
        if mark == "\n":
            line += 1
        elif mark not in _CLOSES:
            open_brackets.append((mark, line))
        elif not open_brackets or open_brackets.pop()[0] != _CLOSES[mark]:
            return f"{mark} closes nothing (line {line})"
    if open_brackets:
        return "{} is not closed (line {})".format(*open_brackets[-1])
    return None if _DECLARES.search(bare) else "nothing is declared in it"


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
