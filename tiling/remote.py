"""Where a slide lies: a path on this machine, or a URL whose secrets are never shown."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import quote, unquote, urlsplit
from urllib.request import url2pathname

from saccade.tiling.errors import UnreadableSlideError

_SCHEME = re.compile(r"([a-z][a-z0-9+.-]+)://(?=[^/])", re.IGNORECASE)
_WEB = ("http", "https")
_ALLOWED = "%/:?=&~#+!$,;'@()*[]"  # stays as it is when a web address is made fit for travel
_SECRETS = re.compile(r"(?<=://)[^/@\s]*@|\?[^\s\"'<>)]*")


@dataclass(frozen=True, slots=True)
class Url:
    """A place that is read over the network: s3://bucket/x.svs, https://host/x.tiff.

    Shown, it has neither user and password nor the part from `?` on, where signed addresses carry
    their signature; `text` has everything, and is for whoever opens it.

    Raises:
        UnreadableSlideError: if it is no URL.

    >>> url = Url("https://someone:secret@host/a/slide%201.svs?signature=secret")
    >>> url.name, str(url)
    ('slide 1.svs', 'https://host/a/slide%201.svs')
    """

    text: str = field(repr=False)

    def __post_init__(self) -> None:
        begin = _SCHEME.match(self.text)
        if begin is None:
            raise UnreadableSlideError(
                f"{without_secrets(self.text)!r} is no URL: wanted is a protocol, '://' and a "
                "place, such as s3://bucket/slide.svs or https://host/slide.svs."
            )
        text = begin[0].lower() + self.text[begin.end() :]
        if begin[1].lower() in _WEB:
            text = quote(text, safe=_ALLOWED)
        object.__setattr__(self, "text", text)

    @property
    def scheme(self) -> str:
        """Protocol: s3, https."""
        return self.text.partition("://")[0]

    @property
    def is_web(self) -> bool:
        """Whether it is http or https."""
        return self.scheme in _WEB

    @property
    def name(self) -> str:
        """Last part of the path, for messages and for the name of results."""
        last = str(self).partition("://")[2].rstrip("/").rpartition("/")[2]
        return (unquote(last) if self.is_web else last) or str(self)

    def joined(self, path: str) -> Url:
        """What lies below this place; the part from `?` on stays the last."""
        place, mark, query = self.text.partition("?")
        return Url(f"{place.rstrip('/')}/{path}{mark}{query}")

    def __str__(self) -> str:
        shown = without_secrets(self.text)
        return shown.partition("#")[0] if self.is_web else shown

    def __repr__(self) -> str:
        return f"Url({str(self)!r})"


Place = Path | Url
"""Where a slide lies."""


def place_of(text: str | Path | Url) -> Place:
    """A URL where the text has `://`, else a path; `file://` is a path, too.

    Text stays text until here: a `Path` would make one slash of two.

    Raises:
        UnreadableSlideError: if it has `://` and is no URL.
    """
    if not isinstance(text, str) or "://" not in text:
        return Path(text) if isinstance(text, str) else text
    if text.lower().startswith("file://"):
        return Path(url2pathname(urlsplit(text).path))
    return Url(text)


def without_secrets(text: str) -> str:
    """Text without what follows `?` and without user and password in web addresses."""
    return _SECRETS.sub("", text)


@dataclass(frozen=True, slots=True)
class Stamp:
    """What tells one version of a remote file from the next.

    Attributes:
        size: bytes.
        etag: of the server, if it gives one; else empty.
        modified: when the server says that it was changed; else empty.
    """

    size: int
    etag: str = ""
    modified: str = ""

    @property
    def tells(self) -> bool:
        """Whether another version would be noticed even if it had the same size."""
        return bool(self.etag or self.modified)

    def differs(self, other: Stamp) -> bool:
        """Whether the two cannot be the same version; what only one of them says is no sign."""
        pairs = ((self.etag, other.etag), (self.modified, other.modified))
        return self.size != other.size or any(a and b and a != b for a, b in pairs)


def stamp_hash(url: Url, stamp: Stamp) -> str:
    """`etag:...` or `modified:...`: a name for a remote file that costs no download.

    It is made of the URL as it is shown, the size, and the ETag, or the time of the last change
    where there is no ETag.

    Raises:
        UnreadableSlideError: if the server gives neither.
    """
    if not stamp.tells:
        raise UnreadableSlideError(
            f"{url.name}: wanted is a sign of the file's version, to know results by; found that "
            f"the server of {url} tells neither ETag nor Last-Modified. Copy the file here first."
        )
    kind = "etag" if stamp.etag else "modified"
    facts = repr((str(url), stamp.size, stamp.etag or stamp.modified))
    return f"{kind}:{hashlib.sha256(facts.encode()).hexdigest()}"
