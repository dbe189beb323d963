"""Fields of multipart bodies, as conditions see them."""

import pytest

from gw.pipeline.multipart import parse_multipart

TYPE = "multipart/form-data; boundary=xX1"


def part(head: str, text: str = "v", boundary: str = "xX1") -> bytes:
    return f"--{boundary}\r\n{head}\r\n\r\n{text}\r\n".encode()


def field(name: str, text: str = "v") -> bytes:
    return part(f'Content-Disposition: form-data; name="{name}"', text)


END = b"--xX1--\r\n"


@pytest.mark.parametrize(
    ("content_type", "body", "expected"),
    [
        (TYPE, field("a", "1") + field("b", "2 \r\n3") + END, {"a": "1", "b": "2 \r\n3"}),
        (TYPE, field("a", "1") + field("a", "2") + END, {"a": "1"}),
        (TYPE, b"preamble\r\n" + field("a") + END + field("after"), {"a": "v"}),
        (TYPE, field("caf\u00e9", "\u00e9") + END, {"caf\u00e9": "\u00e9"}),
        (TYPE, part("content-DISPOSITION:form-data;name=a;filename=b") + END, {"a": "v"}),
        (TYPE, part('Content-Disposition: form-data; filename="; name=no"; name="a"') + END, {"a": "v"}),
        (TYPE, part('Content-Disposition: form-data; name="a\\"b"') + END, {'a"b': "v"}),
        (TYPE, part('Content-Type: text/plain\r\nContent-Disposition: form-data; name="a"') + END, {"a": "v"}),
        (TYPE, field("a")[:-3], {"a": ""}),
        (TYPE, part("Content-Disposition: form-data") + part("X: y") + END, {}),
        (TYPE, b"--xX1\r\nno end of a head", {}),
        (TYPE, b"--XX1\r\n" + field("a")[7:], {}),
        (TYPE, (field("a", "1\r\n2") + field("b") + END).replace(b"\r\n", b"\n"), {"a": "1\n2", "b": "v"}),
        (TYPE, field("a") + (field("b") + END).replace(b"\r\n", b"\n"), {"a": "v"}),
        (TYPE, b"", {}),
        (
            'multipart/form-data; charset="x"; Boundary="x X"',
            part("Content-Disposition: a; name=a", "v", "x X") + b"--x X--",
            {"a": "v"},
        ),
        ("multipart/form-data", field("a") + END, {}),
        ("multipart/form-data; boundary=", field("a") + END, {}),
        (f"multipart/form-data; boundary={'x' * 71}", part("Content-Disposition: a; name=a", "v", "x" * 71), {}),
    ],
)  # fmt: skip
def test_fields(content_type: str, body: bytes, expected: dict[str, str]) -> None:
    assert parse_multipart(body, content_type, 3) == expected


def test_too_many_fields() -> None:
    assert parse_multipart(b"".join(field(str(n)) for n in range(3)) + END, TYPE, 3) is not None
    assert parse_multipart(b"".join(field(str(n)) for n in range(4)) + END, TYPE, 3) is None
    assert parse_multipart(part("X: " + "y" * 130_000) + field("a") + END, TYPE, 3) is not None
    assert parse_multipart(part("X: " + "y" * 70_000) * 2 + field("a") + END, TYPE, 3) is None
