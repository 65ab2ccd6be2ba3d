"""Reading settings from YAML into dataclasses, with the line of every mistake.

The file is parsed to plain nodes only; no tag of it is ever turned into an object.
"""

from __future__ import annotations

import dataclasses
import types
import typing
from pathlib import Path
from typing import Any, TypeVar

import yaml

from saccade.pipeline.bags.config import BagsConfig
from saccade.pipeline.config import RunConfig
from saccade.pipeline.detection.config import DetectionConfig
from saccade.pipeline.errors import ConfigError
from saccade.pipeline.saliency.config import SaliencyConfig
from saccade.pipeline.segmentation.config import SegmentationConfig

T = TypeVar("T")

AnyConfig = RunConfig | SaliencyConfig | BagsConfig | SegmentationConfig | DetectionConfig

_KINDS: dict[str, type[AnyConfig]] = {
    "slides": RunConfig,
    "saliency": SaliencyConfig,
    "features": BagsConfig,
    "segmentation": SegmentationConfig,
    "detection": DetectionConfig,
}
_TEXTS = tuple[str, ...]
_OPTIONS = dict[str, Any]
"""Options of a network, which only the network knows: numbers, texts, and lists of them."""


def load_config(path: Path) -> RunConfig:
    """Read the settings of a run of `kind: slides`; what the file leaves out keeps its default.

    Raises:
        ConfigError: for a file that is missing or no YAML, of another kind, with an unknown key, a
            value of the wrong type, or an impossible value; the message names the line and what is
            known.
    """
    config = load_any_config(path)
    if not isinstance(config, RunConfig):
        raise ConfigError(
            f"{path.name}: is of kind {kind_of(config)}; wanted settings of kind slides."
        )
    return config


def kind_of(config: AnyConfig) -> str:
    """What a file says after `kind:` to hold such settings."""
    (kind,) = (name for name, known in _KINDS.items() if type(config) is known)
    return kind


def load_any_config(path: Path) -> AnyConfig:
    """Read the settings of a run of any `kind`: `slides` if the file names none.

    Raises:
        ConfigError: as `load_config`, whatever the kind.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: cannot be read as text ({error}).") from error
    node = _compose(text, path.name)
    return _build(_take_kind(node, path.name), node, path.name, prefix="") if node else RunConfig()


def parse_config(text: str, *, name: str = "config") -> RunConfig:
    """Read settings from YAML text; `name` stands for the file in messages."""
    node = _compose(text, name)
    return _build(RunConfig, node, name, prefix="") if node else RunConfig()


def _compose(text: str, name: str) -> yaml.Node | None:
    try:
        return yaml.compose(text, Loader=yaml.SafeLoader)
    except yaml.YAMLError as error:
        raise ConfigError(f"{name}: is not YAML ({' '.join(str(error).split())}).") from error


def _take_kind(node: yaml.Node, name: str) -> type[AnyConfig]:
    """Which settings a file holds; takes the line that says so out of it."""
    if not isinstance(node, yaml.MappingNode):
        return RunConfig  # whose reading will say what is wrong
    said = [(key, value) for key, value in node.value if key.value == "kind"]
    node.value = [each for each in node.value if each not in said]
    for _, value in said:
        if value.value not in _KINDS:
            known = ", ".join(_KINDS)
            raise ConfigError(
                f"{_at(name, value)}: kind must be one of {known}, found {value.value!r}."
            )
    return _KINDS[said[0][1].value] if said else RunConfig


def config_dict(config: Any) -> dict[str, Any]:
    """The settings as plain values, for records and model files."""
    return dataclasses.asdict(config)


def _build(kind: type[T], node: yaml.Node, name: str, *, prefix: str) -> T:
    if not isinstance(node, yaml.MappingNode):
        where = prefix.rstrip(".") or "the file"
        raise ConfigError(f"{_at(name, node)}: {where} must be a mapping of settings.")
    hints = typing.get_type_hints(kind)
    values: dict[str, Any] = {}
    for key_node, value_node in node.value:
        key = str(key_node.value)
        if key not in hints:
            known = ", ".join(f"{prefix}{each}" for each in sorted(hints))
            raise ConfigError(
                f"{_at(name, key_node)}: unknown key {prefix}{key}; known here: {known}."
            )
        if key in values:
            raise ConfigError(f"{_at(name, key_node)}: {prefix}{key} is given twice.")
        values[key] = _value(hints[key], value_node, name, f"{prefix}{key}")
    try:
        return kind(**values)
    except ConfigError as error:
        raise ConfigError(f"{_at(name, node)}: {error}") from error


def _value(hint: Any, node: yaml.Node, name: str, key: str) -> Any:
    if dataclasses.is_dataclass(hint):
        return _build(typing.cast("type[Any]", hint), node, name, prefix=f"{key}.")
    value = _plain(node)
    for kind in _alternatives(hint):
        if typing.get_origin(kind) is typing.Literal and value in typing.get_args(kind):
            return value
        if kind is float and type(value) in (int, float):
            return float(value)
        if type(value) is kind:
            return value
        if kind == _TEXTS and type(value) is list and all(type(each) is str for each in value):
            return tuple(value)
        if kind == _OPTIONS and type(value) is dict and all(type(each) is str for each in value):
            return value
    raise ConfigError(f"{_at(name, node)}: {key} must be {_wanted(hint)}, found {value!r}.")


def _plain(node: yaml.Node) -> Any:
    # PyYAML reads 1e-3 as text, since YAML 1.1 wants 1.0e-3; people write 1e-3.
    loader = yaml.SafeLoader("")
    try:
        value = loader.construct_object(node, deep=True)
    except yaml.constructor.ConstructorError:
        return node.tag  # a tag that asks for an object: no value here is one, so it is refused
    if isinstance(node, yaml.ScalarNode) and node.style is None and isinstance(value, str):
        try:
            return float(value)
        except ValueError:
            return value
    return value


def _alternatives(hint: Any) -> tuple[Any, ...]:
    return typing.get_args(hint) if isinstance(hint, types.UnionType) else (hint,)


def _wanted(hint: Any) -> str:
    names = {
        int: "a whole number",
        float: "a number",
        str: "text",
        bool: "true or false",
        _TEXTS: "a list of texts, such as [a, b]",
        _OPTIONS: "options by name, such as {finest: 4}",
    }
    parts = []
    for kind in _alternatives(hint):
        if typing.get_origin(kind) is typing.Literal:
            parts.append("one of " + ", ".join(map(str, typing.get_args(kind))))
        else:
            parts.append("nothing" if kind is type(None) else names[kind])
    return " or ".join(parts)


def _at(name: str, node: yaml.Node) -> str:
    return f"{name}, line {node.start_mark.line + 1}"
