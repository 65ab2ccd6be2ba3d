"""What a file is, by its first bytes: for choosing a reader, and for saying what was found."""

from __future__ import annotations

from pathlib import Path

_HEAD = 1024
_PICTURES = {b"\x89PNG\r\n\x1a\n": "a PNG", b"\xff\xd8\xff": "a JPEG", b"BM": "a BMP"}
_TIFF = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
_ZARR = ("zarr.json", ".zgroup", ".zattrs", ".zarray")
_OTHERS = {
    b"ZISRAWFILE": "a Zeiss CZI",
    b"\xda\xce\xbe\x0a": "a Nikon ND2",
    b"\x0a\x00\x00\x00\x02\x00\x00\x00": "an old Nikon ND2",
    b"\x89HDF\r\n\x1a\n": "an HDF5 file",
    b"PK\x03\x04": "a ZIP archive",
    b"\x1f\x8b": "a gzip archive",
    b"7z\xbc\xaf": "a 7-Zip archive",
    b"%PDF": "a PDF",
    b"GIF8": "a GIF",
    b"SIS\0": "an Olympus ETS file, which its .vsi file belongs to",
}


def head_of(path: Path) -> bytes:
    """The first bytes of a file."""
    with path.open("rb") as stream:
        return stream.read(_HEAD)


def is_tiff(head: bytes) -> bool:
    """Whether the bytes begin a TIFF or BigTIFF."""
    return head.startswith(_TIFF)


def is_picture(head: bytes) -> bool:
    """Whether the bytes begin a PNG, JPEG or BMP."""
    return head.startswith(tuple(_PICTURES))


def is_zarr(folder: Path) -> bool:
    """Whether a folder is a zarr node at all."""
    return any((folder / name).is_file() for name in _ZARR)


def described(head: bytes) -> str:
    """A few words on what the bytes begin."""
    if not head:
        return "an empty file"
    if is_tiff(head):
        return "a TIFF"
    for magic, words in {**_PICTURES, **_OTHERS}.items():
        if head.startswith(magic):
            return words
    if head[128:132] == b"DICM":
        return "a DICOM file"
    return _described_text(head)


def _described_text(head: bytes) -> str:
    try:
        # A character may be cut in two at the end.
        text = head.decode() if len(head) < _HEAD else head[:-4].decode(errors="strict")
    except UnicodeDecodeError:
        return f"data of an unknown kind, beginning with {head[:8].hex(' ')}"
    if "\0" in text:
        return f"data of an unknown kind, beginning with {head[:8].hex(' ')}"
    start = text.lstrip().lower()
    if start.startswith(("<!doctype html", "<html")):
        return "an HTML page (a download that went wrong?)"
    return "XML" if start.startswith("<?xml") else "text"
