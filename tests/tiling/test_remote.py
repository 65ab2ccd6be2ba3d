"""Where a slide lies, and what is shown of it."""

import pickle
import sys
from pathlib import Path

import pytest
from fsspec.registry import known_implementations

from saccade.tiling.errors import SlideNotFoundError, UnreadableSlideError
from saccade.tiling.open import open_slide
from saccade.tiling.remote import Stamp, Url, place_of, stamp_hash, without_secrets

SIGNED = "https://me:word@host/a/x.svs?X-Amz-Signature=secret"


def test_text_with_two_slashes_is_a_url_and_other_text_a_path() -> None:
    assert place_of("s3://bucket/a/x.svs") == Url("s3://bucket/a/x.svs")
    assert place_of("a//x.svs") == Path("a/x.svs")
    assert place_of(Path("x.svs")) == Path("x.svs")
    assert place_of("file:///a/b%20c.svs") == Path("/a/b c.svs")


@pytest.mark.parametrize("shown", [str, repr, "{}".format, lambda url: url.name])
def test_secrets_are_never_shown(shown: object) -> None:
    assert callable(shown)
    text = shown(Url(SIGNED))
    assert "x.svs" in text
    assert not any(secret in text for secret in ("secret", "word", "me:", "?"))


def test_secrets_travel_to_whoever_opens_the_url() -> None:
    assert pickle.loads(pickle.dumps(Url(SIGNED))).text == SIGNED


def test_errors_of_others_are_stripped_of_secrets() -> None:
    words = f"403, message='Forbidden', url='{SIGNED}', <{SIGNED}>"
    assert without_secrets(words) == (
        "403, message='Forbidden', url='https://host/a/x.svs', <https://host/a/x.svs>"
    )


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("https://host/slide%201.svs#top", "slide 1.svs"),
        ("s3://bucket/a%b#c.svs", "a%b#c.svs"),  # in a store these are letters
        ("https://host/a.zarr/", "a.zarr"),
        ("S3://bucket/x.svs", "x.svs"),
    ],
)
def test_names(text: str, name: str) -> None:
    assert Url(text).name == name


def test_what_a_web_address_cannot_hold_is_quoted_and_quotes_stay() -> None:
    assert Url("https://host/a b%2F.svs?x=%2B").text == "https://host/a%20b%2F.svs?x=%2B"
    assert Url("s3://bucket/a b.svs").text == "s3://bucket/a b.svs"


def test_below_a_signed_url_the_signature_stays_last() -> None:
    assert Url("https://host/a.zarr/?s=1").joined("0/c").text == "https://host/a.zarr/0/c?s=1"


@pytest.mark.parametrize("text", ["://x", "1s://host/x", "s3:///x", "a::s3://b/x", "x/s3://b/x"])
def test_what_is_no_url(text: str) -> None:
    with pytest.raises(UnreadableSlideError, match="is no URL"):
        place_of(text)


def test_a_url_that_was_a_path_is_told_from_a_missing_file(tmp_path: Path) -> None:
    with pytest.raises(SlideNotFoundError, match="Pass a URL as text"):
        open_slide(Path("s3://bucket/x.svs"))
    with pytest.raises(SlideNotFoundError, match="Check the path"):
        open_slide(tmp_path / "x.svs")


def test_a_protocol_that_nobody_knows() -> None:
    with pytest.raises(UnreadableSlideError, match=r"x\.svs: .* found foo://"):
        open_slide("foo://host/x.svs")


def test_a_protocol_whose_package_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(known_implementations, "far", {"class": "no_such_package.Far"})
    with pytest.raises(UnreadableSlideError, match=r"pip install 'saccade\[remote\]'"):
        open_slide("far://bucket/x.svs")


def test_aiohttp_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "saccade.tiling.sources.http_ranges", raising=False)
    monkeypatch.setitem(sys.modules, "aiohttp", None)
    with pytest.raises(UnreadableSlideError, match=r"aiohttp is missing.*saccade\[remote\]"):
        open_slide("https://host/x.svs")


URL = Url("https://host/x.svs")


def test_the_hash_follows_place_size_and_version_and_no_signature() -> None:
    names = {
        stamp_hash(url, stamp)
        for url in (URL, Url("https://host/y.svs"))
        for stamp in (Stamp(1, "a"), Stamp(2, "a"), Stamp(1, "b"), Stamp(1, "", "noon"))
    }
    assert len(names) == 8
    assert stamp_hash(Url(f"{URL.text}?s=1"), Stamp(1, "a")) == stamp_hash(URL, Stamp(1, "a"))
    assert stamp_hash(URL, Stamp(1, "a", "noon")) == stamp_hash(URL, Stamp(1, "a", "later"))
    assert {name.partition(":")[0] for name in names} == {"etag", "modified"}


def test_a_server_that_tells_no_version_gives_no_hash() -> None:
    with pytest.raises(UnreadableSlideError, match="neither ETag nor Last-Modified"):
        stamp_hash(URL, Stamp(1))


@pytest.mark.parametrize(
    ("now", "differs"),
    [
        (Stamp(1, "a", "noon"), False),
        (Stamp(1, "", "noon"), False),
        (Stamp(1), False),
        (Stamp(1, "b", "noon"), True),
        (Stamp(2, "a", "noon"), True),
        (Stamp(1, "", "later"), True),
    ],
)
def test_another_version_is_noticed(now: Stamp, differs: bool) -> None:
    assert Stamp(1, "a", "noon").differs(now) is differs
