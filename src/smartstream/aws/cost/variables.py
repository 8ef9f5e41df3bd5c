"""The stack's variables: defaults from variables.tf, overlaid as Terraform does."""

from __future__ import annotations

import difflib
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from smartstream.errors import ConfigInvalid, TerraformInvalid

FILE_NAME = "variables.tf"
_NO_STACK = "Go to the folder of the stack, or name it with --stack DIR."


@dataclass(frozen=True, slots=True)
class Variable:
    """One declared variable.

    Attributes:
        type: as it is written; ``any`` without one.
        nullable: whether null is a value of its own; it means the default otherwise.
    """

    name: str
    type: str
    default: Any
    has_default: bool
    nullable: bool


@dataclass(frozen=True, slots=True)
class Stack:
    """The variables that a folder of Terraform files declares."""

    folder: Path
    variables: Mapping[str, Variable]

    def values(self, files: Sequence[Path] = (), pairs: Sequence[str] = ()) -> dict[str, Any]:
        """Return the value of each variable that has one.

        Args:
            files: .tfvars or .tfvars.json, later ones win.
            pairs: ``name=value`` as on Terraform's command line; they win over files.
        Raises:
            TerraformInvalid: a file cannot be read, a variable does not exist or has another type.
        """
        found = {name: one.default for name, one in self.variables.items() if one.has_default}
        for path in files:
            for name, (value, where) in _assignments(path).items():
                self._assign(found, name, value, where)
        for pair in pairs:
            name, equals, text = pair.partition("=")
            if not equals:
                raise TerraformInvalid("-var: expected name=value")
            name = name.strip()
            declared = self.variables.get(name)
            literal = declared is not None and declared.type == "string"
            value = text if literal else _expression(text, f"-var {name}")
            self._assign(found, name, value, f"-var {name}")
        return found

    def automatic_files(self) -> list[Path]:
        """The files that Terraform reads unasked, in its order."""
        named = [self.folder / "terraform.tfvars", self.folder / "terraform.tfvars.json"]
        found = sorted([*self.folder.glob("*.auto.tfvars"), *self.folder.glob("*.auto.tfvars.json")])
        return [path for path in [*named, *found] if path.is_file()]

    def _assign(self, found: dict[str, Any], name: str, value: Any, where: str) -> None:
        """Give a variable another value."""
        declared = self.variables.get(name)
        if declared is None:
            close = difflib.get_close_matches(name, self.variables, n=1, cutoff=0.6)
            raise TerraformInvalid(
                f"{where}: there is no variable {name}" + (f"; did you mean {close[0]}?" if close else "")
            )
        if value is not None:
            found[name] = _converted(value, declared, where)
        elif declared.nullable:
            found[name] = None
        elif declared.has_default:
            found[name] = declared.default


def read_stack(folder: Path) -> Stack:
    """Read which variables a stack has, and their defaults.

    Raises:
        TerraformInvalid: there is no variables.tf, or it is not HCL.
        ConfigInvalid: the package that reads HCL is not installed.
    """
    path = folder / FILE_NAME
    if not path.is_file():
        raise TerraformInvalid(f"there is no {path}", hint=_NO_STACK)
    blocks = _hcl(_text(path), str(path)).get("variable", [])
    declared = [(_plain_text(name), block) for one in blocks for name, block in one.items()]
    return Stack(folder, {name: _variable(name, block) for name, block in declared})


def find_stack(start: Path) -> Path:
    """The stack's folder: this one, the terraform folder in it, or the one of this checkout."""
    checkout = Path(__file__).resolve().parents[4] / "terraform"
    places = (start, start / "terraform", checkout)
    return next((place for place in places if (place / FILE_NAME).is_file()), start)


def _variable(name: str, block: Mapping[str, Any]) -> Variable:
    """A variable block as a declaration."""
    kind = _unwrapped(str(block.get("type", "any")))
    has_default = "default" in block
    default = _value(block["default"], f"the default of {name}") if has_default else None
    return Variable(name, kind, default, has_default, block.get("nullable") is not False)


def _assignments(path: Path) -> dict[str, tuple[Any, str]]:
    """What a file assigns, each with ``file:line``."""
    text = _text(path)
    if path.name.endswith(".json"):
        try:
            content = json.loads(text)
        except json.JSONDecodeError as error:
            raise TerraformInvalid(f"{path}:{error.lineno}: not JSON: {error.msg}") from error
        if not isinstance(content, dict):
            raise TerraformInvalid(f"{path}:1: not a JSON object of variables")
        return {name: (value, _where(path, text, name)) for name, value in content.items()}
    found = {}
    for name, value in _hcl(text, str(path)).items():
        where = _where(path, text, name)
        if _holds_block(value):
            raise TerraformInvalid(f"{where}: {name} is a block; a file of variables has name = value only")
        found[name] = (_value(value, where), where)
    return found


def _holds_block(value: Any) -> bool:
    """Whether python-hcl2 read a block here, labels and all."""
    if isinstance(value, dict):
        return "__is_block__" in value or any(map(_holds_block, value.values()))
    return isinstance(value, list) and any(map(_holds_block, value))


def _text(path: Path) -> str:
    """A file's text."""
    try:
        return path.read_text(encoding="utf-8")
    except FileNotFoundError as error:
        raise TerraformInvalid(f"there is no {path}", hint="Check the name of the file.") from error
    except UnicodeDecodeError as error:
        raise TerraformInvalid(f"{path}:1: is not UTF-8 text") from error
    except OSError as error:
        raise TerraformInvalid(f"{path}: cannot be read: {error.strerror}") from error


def _hcl(text: str, where: str) -> dict[str, Any]:
    """HCL as python-hcl2 reads it: strings keep their quotes, expressions are ``${…}``."""
    try:
        import hcl2  # only this command needs it
        from lark.exceptions import LarkError
    except ModuleNotFoundError as error:
        hint = "Install it with: pip install 'smartstream[aws]'"
        raise ConfigInvalid(f"reading Terraform files needs the package {error.name}", hint=hint) from error
    options = hcl2.SerializationOptions(with_comments=False, preserve_heredocs=False)
    try:
        found: dict[str, Any] = hcl2.loads(f"{text}\n", serialization_options=options)
    except LarkError as error:
        line = getattr(error, "line", None)
        place = f":{line}" if isinstance(line, int) and line > 0 else ""
        raise TerraformInvalid(f"{where}{place}: not HCL") from error
    return found


def _expression(text: str, where: str) -> Any:
    """A value on the command line."""
    return _value(_hcl(f"value = {text}", where).get("value"), where)


def _value(value: Any, where: str) -> Any:
    """A literal as Python's value.

    Raises:
        TerraformInvalid: it is an expression, which only Terraform can evaluate.
    """
    if isinstance(value, dict):
        return {_plain_text(key): _value(one, where) for key, one in value.items() if key != "__is_block__"}
    if isinstance(value, list):
        return [_value(one, where) for one in value]
    if isinstance(value, str):
        if not value.startswith('"') or re.search(r"(?<!\$)\$\{", value):
            raise TerraformInvalid(f"{where}: only literal values can be read here, no expressions")
        return _plain_text(value)
    return value


def _plain_text(quoted: str) -> str:
    """A quoted string without quotes and escapes."""
    if not quoted.startswith('"'):
        return quoted
    try:
        text: str = json.loads(quoted)
    except ValueError:
        text = quoted[1:-1]
    return text.replace("$${", "${")


def _unwrapped(text: str) -> str:
    """A type constraint without the marks of an expression."""
    return text.removeprefix("${").removesuffix("}") if text.startswith("${") else _plain_text(text)


def _converted(value: Any, variable: Variable, where: str) -> Any:
    """A value in the variable's type, converted as Terraform does; the text never holds the value."""
    kind = variable.type
    if kind == "string" and isinstance(value, str | int | float):
        return str(value).lower() if isinstance(value, bool) else str(value)
    if kind == "number":
        number = _number(value)
        if number is not None:
            return number
    elif kind == "bool":
        if isinstance(value, bool) or value in ("true", "false"):
            return value in (True, "true")
    elif kind.startswith(("list", "set", "tuple")):
        if isinstance(value, list):
            return value
    elif kind != "string" and (kind == "any" or isinstance(value, dict)):
        return value
    raise TerraformInvalid(f"{where}: {variable.name}: expected {kind}, found {_kind(value)}")


def _number(value: Any) -> int | float | None:
    """A number, also when it is written as text."""
    if isinstance(value, str) and re.fullmatch(r"-?\d+(\.\d+)?", value):
        return float(value) if "." in value else int(value)
    return value if isinstance(value, int | float) and not isinstance(value, bool) else None


def _kind(value: Any) -> str:
    """What a value is, in Terraform's words."""
    kinds: Iterable[tuple[type, str]] = (
        (bool, "a bool"),
        (str, "a string"),
        (int, "a number"),
        (float, "a number"),
        (list, "a list"),
    )
    return next((name for kind, name in kinds if isinstance(value, kind)), "an object")


def _where(path: Path, text: str, name: str) -> str:
    """``file:line`` of an assignment."""
    found = re.search(rf'^[ \t{{,]*"?{re.escape(name)}"?\s*[=:{{"]', text, flags=re.MULTILINE)
    return f"{path}:{text.count(chr(10), 0, found.start()) + 1}" if found else str(path)
