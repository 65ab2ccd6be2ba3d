"""Weights from elsewhere become a file that is known by its hash."""

from __future__ import annotations

import hashlib
import json
import pickle
import re
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import timm
import torch
from servers import serving
from torch import Tensor
from typer.testing import CliRunner

from saccade.cli.main import app
from saccade.pipeline.errors import ConfigError, FetchError, ModelFileError
from saccade.pipeline.fetch import fetch

TIMM = "test_resnet"  # small, and otherwise like any other


def weights() -> dict[str, Tensor]:
    torch.manual_seed(0)
    network: Any = timm.create_model(TIMM, pretrained=False)
    return dict(network.state_dict())


def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def facts(path: Path) -> Any:
    return json.loads(path.with_suffix(".json").read_text())


@pytest.fixture
def shop(tmp_path: Path) -> Path:
    """A folder with the same weights in both forms."""
    folder = tmp_path / "shop"
    folder.mkdir()
    safetensors.torch.save_file(weights(), folder / "net.safetensors", metadata={"by": "others"})
    torch.save(weights(), folder / "net.pth")
    return folder


def same(path: Path) -> bool:
    found, wanted = safetensors.torch.load_file(path), weights()
    return found.keys() == wanted.keys() and all(found[n].equal(wanted[n]) for n in wanted)


def test_a_file_behind_a_url_is_kept_as_it_is(shop: Path, tmp_path: Path) -> None:
    with serving(shop) as server:
        path, fetched = fetch(server.url("net.safetensors"), tmp_path / "out")
        again = fetch(server.url("net.safetensors"), tmp_path / "out")
        assert server.requests == 1
    assert (fetched, again) == (True, (path, False))
    assert path.read_bytes() == (shop / "net.safetensors").read_bytes()
    assert facts(path)["sha256"] == facts(path)["source_sha256"] == sha256(path)
    assert facts(path)["parameters"] == sum(each.numel() for each in weights().values())
    assert sorted(each.name for each in path.parent.iterdir()) == ["net.json", "net.safetensors"]


def test_plain_tensors_of_torch_become_safetensors(shop: Path, tmp_path: Path) -> None:
    raw = shop / "net.pth"
    path, _ = fetch(raw.as_uri(), tmp_path / "out", sha256=sha256(raw).upper())
    assert same(path)
    assert facts(path)["source_sha256"] == sha256(raw)
    assert facts(path)["sha256"] == sha256(path)


def test_weights_of_timm_become_a_file(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    make, asked = timm.create_model, []

    def published(name: str, pretrained: bool) -> Any:
        asked.append((name, pretrained))
        torch.manual_seed(0)
        return make(name, pretrained=False)

    monkeypatch.setattr(timm, "create_model", published)
    path, _ = fetch(f"timm:{TIMM}", tmp_path)
    assert asked == [(TIMM, True)]
    assert path.name == f"{TIMM}.safetensors"
    assert same(path)
    first = sha256(path)
    path.unlink()
    assert fetch(f"timm:{TIMM}", tmp_path, sha256=first) == (path, True)


def test_a_hub_that_cannot_be_reached_is_one_line(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def unreachable(name: str, pretrained: bool) -> Any:
        raise ConnectionError("no route to host\nand more")

    monkeypatch.setattr(timm, "create_model", unreachable)
    with pytest.raises(FetchError, match="could not be fetched \\(no route to host\\)"):
        fetch(f"timm:{TIMM}", tmp_path)
    assert not list(tmp_path.iterdir())


def test_another_hash_is_refused_and_nothing_is_kept(shop: Path, tmp_path: Path) -> None:
    url, wrong = (shop / "net.safetensors").as_uri(), "0" * 64
    with pytest.raises(FetchError, match=f"wanted {wrong}"):
        fetch(url, tmp_path / "out", sha256=wrong)
    assert not list((tmp_path / "out").iterdir())


def test_a_file_that_was_changed_since_is_fetched_again(shop: Path, tmp_path: Path) -> None:
    url = (shop / "net.safetensors").as_uri()
    path, _ = fetch(url, tmp_path / "out")
    path.write_bytes(b"changed")
    assert fetch(url, tmp_path / "out") == (path, True)
    assert same(path)


def test_an_answer_that_breaks_off_is_refused(shop: Path, tmp_path: Path) -> None:
    with serving(shop) as server:
        server.drop = 1
        with pytest.raises(FetchError):
            fetch(server.url("net.safetensors"), tmp_path / "out")
    assert not list((tmp_path / "out").iterdir())


def test_a_server_that_says_no_is_named(shop: Path, tmp_path: Path) -> None:
    with (
        serving(shop) as server,
        pytest.raises(FetchError, match=r"lost.pth: cannot be fetched .*404"),
    ):
        fetch(server.url("lost.pth"), tmp_path / "out")


class _Bomb:
    def __reduce__(self) -> Any:
        return Path.touch, (Path("exploded"),)


def test_nothing_that_was_fetched_is_executed(
    shop: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (shop / "bomb.bin").write_bytes(pickle.dumps(_Bomb()))
    with pytest.raises(ModelFileError):
        fetch((shop / "bomb.bin").as_uri(), tmp_path / "out")
    assert not (tmp_path / "exploded").exists()


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("resnet18", "wanted timm:NAME, or a URL"),
        ("s3://bucket/net.pt", "wanted timm:NAME, or a URL"),
        ("https://host/net.zip", "ends in .safetensors, .pt, .pth, .bin"),
        ("timm:resnet81", "timm has no model 'resnet81'"),
    ],
)
def test_what_can_be_fetched_is_said(source: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=re.escape(message)):
        fetch(source, tmp_path)


def test_the_command_says_what_lies_where(shop: Path, tmp_path: Path) -> None:
    url = (shop / "net.safetensors").as_uri()
    ended = CliRunner().invoke(app, ["fetch", url, "--out", str(tmp_path / "out")])
    assert ended.exit_code == 0, ended.output
    assert sha256(shop / "net.safetensors") in ended.stderr
