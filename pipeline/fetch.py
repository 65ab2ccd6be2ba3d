"""Weights from elsewhere, fetched once, so that no job has to reach for the network.

Nodes of a cluster often have no network, and what a name on a hub stands for may change. So weights
become a file, known by its sha256, before anything runs; training and embedding take that file.
"""

from __future__ import annotations

import hashlib
import json
import urllib.request
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from http.client import HTTPException
from pathlib import Path
from tempfile import TemporaryDirectory
from urllib.parse import unquote, urlsplit

from torch import Tensor

import saccade
from saccade.models.encoders import require_timm_model
from saccade.pipeline.errors import ConfigError, FetchError
from saccade.pipeline.files import atomic_path, write_json
from saccade.pipeline.model_file import load_encoder_weights
from saccade.pipeline.weights_file import write_weights

_TIMM = "timm:"
_SECONDS = 60.0  # without a byte, before a server counts as silent
_PIECE = 1 << 20
_ENDINGS = (".safetensors", ".pt", ".pth", ".bin")


@dataclass(frozen=True, slots=True)
class Fetched:
    """What was fetched; stands beside the weights as `<name>.json`.

    Attributes:
        source: where it comes from, as it was asked for.
        sha256: of the file of weights, hexadecimal.
        source_sha256: of what was downloaded; None of a timm model, which comes in parts.
        tensors: how many the file holds.
        parameters: numbers in them.
        code: version of Saccade.
    """

    source: str
    sha256: str
    source_sha256: str | None
    tensors: int
    parameters: int
    code: str = saccade.__version__


def fetch(source: str, out: Path, *, sha256: str | None = None) -> tuple[Path, bool]:
    """Fetch weights into `out/<name>.safetensors`, with `<name>.json` beside it.

    What is there already, from the same source and with the hash that stands beside it, is kept.

    Args:
        source: `timm:NAME`, whose published weights timm fetches; or the URL (https, http, file) of
            a `.safetensors`, or of a `.pt`, `.pth` or `.bin` of plain tensors.
        out: folder, made if missing.
        sha256: that it has to have, hexadecimal: what was downloaded, or of timm the file.

    Returns:
        The file of weights, and whether it had to be fetched.

    Raises:
        ConfigError: if `source` is none of these, or timm has no such model.
        FetchError: if it cannot be fetched, or has another hash; nothing is left then.
        ModelFileError: if it holds no weights; nothing of it is executed.
    """
    path = out / f"{_name_of(source)}.safetensors"
    if _is_there(path, source, sha256):
        return path, False
    out.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(dir=out, prefix=".fetch-") as folder, atomic_path(path) as partial:
        if source.startswith(_TIMM):
            downloaded = None
            write_weights(partial, _published(source.removeprefix(_TIMM)), {"source": source})
        else:
            raw = Path(folder, f"raw{_ending(source)}")
            downloaded = _download(source, raw)
            _require(source, sha256, downloaded)
            _as_safetensors(source, raw, partial)
        written = _hash(partial)
        _require(source, sha256, downloaded or written)
        weights = load_encoder_weights(partial)
        facts = Fetched(
            source=source,
            sha256=written,
            source_sha256=downloaded,
            tensors=len(weights),
            parameters=sum(each.numel() for each in weights.values()),
        )
    write_json(_facts_of(path), asdict(facts))
    return path, True


def _name_of(source: str) -> str:
    """The name of the file, without its ending."""
    if source.startswith(_TIMM):
        name = source.removeprefix(_TIMM)
        try:
            require_timm_model(name)
        except ValueError as error:
            raise ConfigError(str(error)) from error
        return name.removeprefix("hf-hub:").removeprefix("hf_hub:").replace("/", "--")
    if urlsplit(source).scheme not in ("https", "http", "file") or _ending(source) not in _ENDINGS:
        raise ConfigError(
            f"{source}: wanted timm:NAME, or a URL (https, http, file) that ends in "
            f"{', '.join(_ENDINGS)}."
        )
    return Path(unquote(urlsplit(source).path)).stem


def _ending(url: str) -> str:
    return Path(urlsplit(url).path).suffix


def _facts_of(path: Path) -> Path:
    return path.with_suffix(".json")


def _is_there(path: Path, source: str, sha256: str | None) -> bool:
    """Whether the file is what stands beside it, of this source and hash."""
    try:
        facts = json.loads(_facts_of(path).read_text(encoding="utf-8"))
        known = facts["source_sha256"] or facts["sha256"]
        same = facts["source"] == source and (sha256 is None or sha256.lower() == known)
        return bool(same and _hash(path) == facts["sha256"])
    except (OSError, ValueError, KeyError, TypeError):
        return False


def _published(name: str) -> Mapping[str, Tensor]:
    """Weights of a timm model, the classifier's with them."""
    import timm

    try:
        weights: Mapping[str, Tensor] = timm.create_model(name, pretrained=True).state_dict()
    except Exception as error:  # timm, its hub and their clients raise all kinds alike
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise FetchError(
            f"timm:{name}: its weights could not be fetched ({reason}). Is there a network, and "
            "are they open to all? For those that are not, log in with `hf auth login` first."
        ) from error
    return weights


def _download(source: str, raw: Path) -> str:
    """Download a file; return its hash."""
    digest = hashlib.sha256()
    try:
        with urllib.request.urlopen(source, timeout=_SECONDS) as answer, raw.open("wb") as file:
            while piece := answer.read(_PIECE):
                digest.update(piece)
                file.write(piece)
            wanted = answer.headers.get("Content-Length")
    except (OSError, HTTPException) as error:
        raise FetchError(f"{source}: cannot be fetched ({error}).") from error
    if wanted is not None and raw.stat().st_size != int(wanted):
        raise FetchError(
            f"{source}: the answer ended after {raw.stat().st_size} of {wanted} bytes. Fetch again."
        )
    return digest.hexdigest()


def _as_safetensors(source: str, raw: Path, partial: Path) -> None:
    """Write what was downloaded as safetensors; byte by byte if that is what it is."""
    weights = load_encoder_weights(raw)
    if raw.suffix == ".safetensors":
        raw.replace(partial)
    else:
        write_weights(partial, weights, {"source": source})


def _require(source: str, wanted: str | None, found: str) -> None:
    if wanted is not None and found != wanted.lower():
        raise FetchError(
            f"{source}: has the sha256 {found}, wanted {wanted}. What lies there is not what was "
            "meant, or was changed on its way; it was not kept."
        )


def _hash(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
