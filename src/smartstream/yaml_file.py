"""YAML with line numbers: what is wrong is blamed on its line, with a suggestion."""

from __future__ import annotations

import difflib
import io
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import UnionType
from typing import Annotated, Any, TypeVar, Union, get_args, get_origin

from pydantic import BaseModel, ValidationError
from ruamel.yaml import YAML
from ruamel.yaml.comments import CommentedMap, CommentedSeq
from ruamel.yaml.error import MarkedYAMLError, YAMLError

from smartstream.errors import ConfigInvalid, ConfigMissing

Loc = tuple[str | int, ...]
M = TypeVar("M", bound=BaseModel)


@dataclass(frozen=True, slots=True)
class Document:
    """A YAML mapping as plain values, and the line (from 1) of each key."""

    path: Path
    data: dict[str, Any]
    lines: Mapping[Loc, int]

    def where(self, loc: Sequence[str | int]) -> str:
        """``file:line`` of the setting at ``loc``, or of the nearest one around it."""
        return f"{self.path}:{self.line(loc)}"

    def line(self, loc: Sequence[str | int]) -> int:
        """The line of the setting at ``loc``, or of the nearest one around it."""
        around = (self.lines.get(tuple(loc[:length])) for length in range(len(loc), 0, -1))
        return next((line for line in around if line is not None), 1)

    def map_text(self, change: Callable[[str, str], Any]) -> dict[str, Any]:
        """The data with ``change(text, where)`` in place of each text value."""
        mapped = self._mapped(self.data, (), change)
        assert isinstance(mapped, dict)
        return mapped

    def _mapped(self, value: Any, loc: Loc, change: Callable[[str, str], Any]) -> Any:
        """``map_text`` below ``loc``."""
        if isinstance(value, dict):
            return {key: self._mapped(child, (*loc, key), change) for key, child in value.items()}
        if isinstance(value, list):
            return [self._mapped(child, (*loc, number), change) for number, child in enumerate(value)]
        return change(value, self.where(loc)) if isinstance(value, str) else value


def read(path: Path) -> Document:
    """Read a YAML file that holds one mapping.

    Raises:
        ConfigMissing: there is no such file.
        ConfigInvalid: it cannot be read, or is not a YAML mapping.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except (FileNotFoundError, NotADirectoryError) as error:
        raise ConfigMissing(f"there is no {path}") from error
    except IsADirectoryError as error:
        raise ConfigInvalid(f"{path}: is a folder; give the file in it, or the folder with -C") from error
    except UnicodeDecodeError as error:
        raise ConfigInvalid(f"{path}:1: is not UTF-8 text") from error
    except OSError as error:
        raise ConfigInvalid(f"{path}: cannot be read: {error.strerror}") from error
    try:
        tree = YAML(typ="rt").load(text)
    except MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        problem = str(error.problem or error.context).split("\n")[0]
        raise ConfigInvalid(f"{path}:{mark.line + 1 if mark else 1}: not YAML: {problem}") from error
    except YAMLError as error:
        raise ConfigInvalid(f"{path}:1: not YAML: {str(error).splitlines()[0]}") from error
    if not isinstance(tree, CommentedMap):
        raise ConfigInvalid(f"{path}:1: is empty or not a mapping of settings")
    lines = dict(_lines(tree, ()))
    return Document(path, _plain(tree), lines)


def validate(data: dict[str, Any], model: type[M], document: Document, context: Mapping[str, Any]) -> M:
    """Return ``data`` as a ``model``.

    Raises:
        ConfigInvalid: one line for each thing that is wrong, the file's first one first.
    """
    try:
        return model.model_validate(data, context=dict(context))
    except ValidationError as error:
        found = error.errors(include_url=False)
    for problem in found:
        # Names of the members of a union, written <so>, are not in the file.
        problem["loc"] = tuple(part for part in problem["loc"] if not str(part).startswith("<"))
    found.sort(key=lambda problem: document.line(problem["loc"]))
    texts = [f"{document.where(p['loc'])}: {_explain(p, model)}" for p in found]
    raise ConfigInvalid("\n".join(dict.fromkeys(texts)))


def known_keys(model: type[BaseModel]) -> dict[str, Any]:
    """The keys of a model as they are written, with the types of their values."""
    return {field.alias or name: field.annotation for name, field in model.model_fields.items()}


def _explain(problem: Any, model: type[BaseModel]) -> str:
    """One of pydantic's errors, in our words."""
    loc, kind = problem["loc"], problem["type"]
    name = ".".join(str(part) for part in loc)
    if kind == "extra_forbidden":
        return f"unknown key {name}{_suggestion(loc, model)}"
    if kind == "missing":
        return f"{name} is missing"
    if type(problem.get("input")).__name__ == "Secret":
        return f"{name}: references like ${{env:NAME}} stand for secrets only"
    message = str(problem["msg"]).removeprefix("Value error, ").removeprefix("Input should be ")
    verb = "" if kind == "value_error" else "expected "
    return f"{name}: {verb}{message[0].lower()}{message[1:]}"


def _suggestion(loc: Loc, model: type[BaseModel]) -> str:
    """What may have been meant by an unknown key."""
    around = _model_at(loc[:-1], model)
    keys = list(known_keys(around)) if around else []
    wrong = str(loc[-1])
    close = difflib.get_close_matches(wrong, keys, n=1, cutoff=0.6)
    if close:
        return f"; did you mean {close[0]}?"
    elsewhere = [path for path in _all_paths(model, "") if path.rpartition(".")[2] == wrong]
    if elsewhere:
        return f"; did you mean {elsewhere[0]}?"
    return f"; known here: {', '.join(keys)}" if keys else ""


def _model_at(loc: Loc, model: type[BaseModel]) -> type[BaseModel] | None:
    """The model of the settings at ``loc``."""
    current: Any = model
    for part in loc:
        current = _inner(current, part)
    return current if _is_model(current) else None


def _inner(annotation: Any, part: str | int) -> Any:
    """The type of what stands at ``part`` in a value of some type."""
    if _is_model(annotation):
        annotation = known_keys(annotation).get(str(part))
    elif get_origin(annotation) in (dict, tuple):
        annotation = get_args(annotation)[get_origin(annotation) is dict]
    while not _is_model(annotation) and get_origin(annotation) in (UnionType, Union, Annotated):
        # The first model: where there are more the others are not suggested.
        annotation = next((kind for kind in get_args(annotation) if _leads_to_model(kind)), None)
    return annotation


def _leads_to_model(annotation: Any) -> bool:
    """Whether a type is a model, or made of one."""
    return _is_model(annotation) or any(_leads_to_model(inner) for inner in get_args(annotation))


def _is_model(annotation: Any) -> bool:
    """Whether a type is a part of the settings."""
    return isinstance(annotation, type) and issubclass(annotation, BaseModel)


def _all_paths(model: type[BaseModel], prefix: str) -> Iterator[str]:
    """The dotted name of every setting."""
    for key, annotation in known_keys(model).items():
        yield f"{prefix}{key}"
        if isinstance(annotation, type) and issubclass(annotation, BaseModel):
            yield from _all_paths(annotation, f"{prefix}{key}.")


def _lines(value: Any, loc: Loc) -> Iterator[tuple[Loc, int]]:
    """The line of each key and list item."""
    if isinstance(value, CommentedMap):
        for key, child in value.items():
            yield (*loc, key), value.lc.key(key)[0] + 1
            yield from _lines(child, (*loc, key))
    elif isinstance(value, CommentedSeq):
        for number, child in enumerate(value):
            yield (*loc, number), value.lc.item(number)[0] + 1
            yield from _lines(child, (*loc, number))


def _plain(value: Any) -> Any:
    """ruamel's values as Python's own."""
    if isinstance(value, CommentedMap):
        return {key: _plain(child) for key, child in value.items()}
    if isinstance(value, CommentedSeq):
        return [_plain(child) for child in value]
    for kind in (bool, int, float, str):
        if isinstance(value, kind):
            return kind(value)
    return value


def written(value: Any) -> str:
    """Plain values as YAML, in the order they have."""
    stream = io.StringIO()
    _writer().dump(value, stream)
    return stream.getvalue()


def edited(path: Path, change: Callable[[Any], None]) -> str:
    """The text of a file after ``change`` of its mapping; comments stay where they are.

    Writes nothing.

    Raises:
        ConfigMissing, ConfigInvalid: as ``read``.
    """
    read(path)
    tree = YAML(typ="rt").load(path.read_text(encoding="utf-8"))
    change(tree)
    return written(tree)


def _writer() -> YAML:
    """How files are written: block style, no folded lines."""
    yaml = YAML(typ="rt")
    yaml.default_flow_style = False
    yaml.width = 4096
    yaml.indent(mapping=2, sequence=4, offset=2)
    return yaml
