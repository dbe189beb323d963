"""Can the `content` of a proto be a .proto file, or a .pb file in base64?

As `compile_proto` in apisix/plugins/grpc-transcode/proto.lua, but that a .proto file is not compiled here: its outline
is looked at (strings, comments and brackets close, something is declared, no message has two fields of one number). A
.pb file is taken apart into its files.
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
_ENDS: Final = re.compile(r"([{};\[\]])")
_FIELD: Final = re.compile(
    r"\s*(?:(?:optional|required|repeated)\s+)?(?!(?:option|reserved|extensions)\b)"
    r"(?:map\s*<[^<>]*>|[\w.]+)\s+\w+\s*=\s*(0[xX][0-9a-fA-F]{1,9}|[0-9]{1,10})\s*\Z"
)
_FIRST_WORD: Final = re.compile(r"\s*(?:(?:optional|required|repeated)\s+)?(\w+)")
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
    return _repeated_number(bare) if _DECLARES.search(bare) else "nothing is declared in it"


def _repeated_number(bare: str) -> str | None:
    """What is wrong with the numbers of fields in an outline whose brackets close."""
    # Of each open block the numbers of its fields; None where there are no fields.
    blocks: list[set[int] | None] = [None]
    statement: str | None = None
    at = options = 0
    parts = _ENDS.split(bare)
    for text, mark in zip(parts[::2], parts[1::2], strict=False):
        at += len(text) + 1
        # Options in brackets end what matters of a statement.
        statement = text if statement is None else statement
        if mark in "[]":
            options += 1 if mark == "[" else -1
        elif not options:
            numbers = blocks[-1]
            field = _FIELD.match(statement) if numbers is not None else None
            if numbers is not None and field is not None:
                number = int(field[1], 0) if field[1][1:2] in ("x", "X") else int(field[1])
                if number in numbers:
                    return f"field number {number} is there twice (line {bare.count(chr(10), 0, at) + 1})"
                numbers.add(number)
            if mark == "{":
                blocks.append(_numbers_of(statement, numbers))
            elif mark == "}":
                blocks.pop()
            statement = None
    return None


def _numbers_of(head: str, around: set[int] | None) -> set[int] | None:
    """Where the fields of a block are counted: those of a oneof with the message around it."""
    word = _FIRST_WORD.match(head)
    kind = "" if word is None else word[1]
    if kind == "oneof":
        return around
    return set() if kind in ("message", "group") else None


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
