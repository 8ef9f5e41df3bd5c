"""The repository keeps to its own style: sizes, names, clocks, errors, docstrings."""

from __future__ import annotations

import ast
import re
import subprocess
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "src" / "smartstream"

FUNCTION_LINES_MAX = 70
FUNCTION_LINES_USUAL = 30
FUNCTION_USUAL_SHARE = 0.9
FILE_LINES_MAX = 400
TEST_FILE_LINES_MAX = 500  # tables of cases are long, not complicated

# Where the wall clock comes in; everything below gets it as an argument.
CLOCK_ROOTS = {
    "pipeline/pipeline.py": "_now",
    "doctor/__init__.py": "_now",
    "verify/compare.py": "_now",
    "cli/app.py": "now",
    "demo/run.py": "score",
    "aws/lambda_ml.py": "_shared",
}
CLOCKS = {
    "datetime.now",
    "datetime.utcnow",
    "datetime.today",
    "date.today",
    "time.time",
    "time.time_ns",
    "time.sleep",
}
PRINTERS = ("cli", "cli.py", "demo")
# Started by name, so nothing imports them.
ENTRY_POINTS = {"smartstream.cli.docs", "smartstream", "smartstream.cli", "smartstream.__main__"}

BANNED_NAME = re.compile(r"^_?(utils?|common|helpers?|misc)$|(Manager|Helper|Util|Utils)$")
MACHINE_PATH = re.compile(r"(?<![\w.~])/(work|home|root|tmp|Users|opt/wheels)/\w")
INDEX_ADDRESS = re.compile(
    r"--(extra-)?index-url|--find-links|PIP_INDEX|files\.python" + "hosted|/simple/?\\b"
)


@cache
def _tracked() -> tuple[Path, ...]:
    """Every file of the repository that is not ignored; without git, of the source folders."""
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"],
        cwd=ROOT,
        capture_output=True,
        check=False,
    )
    if listed.returncode == 0:
        paths = [ROOT / name for name in listed.stdout.decode().split("\0") if name]
    else:
        folders = ("src", "tests", "benchmarks", "tools", "docs", ".ci")
        paths = [*ROOT.glob("*.*"), *(path for folder in folders for path in (ROOT / folder).rglob("*"))]
    return tuple(path for path in paths if path.is_file() and "__pycache__" not in path.parts)


@cache
def _python(*folders: str) -> tuple[tuple[str, ast.Module], ...]:
    """The Python files below some folders, by their path in the repository, parsed."""
    return tuple(
        (path.relative_to(ROOT).as_posix(), ast.parse(path.read_text(encoding="utf-8")))
        for folder in folders
        for path in sorted((ROOT / folder).rglob("*.py"))
    )


def _product() -> tuple[tuple[str, ast.Module], ...]:
    return _python("src", "lambdas", "benchmarks", "tools")


def _functions(tree: ast.AST) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    return (node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef))


def _line_count(node: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    return (node.end_lineno or node.lineno) - node.lineno + 1


def _dotted(node: ast.AST) -> str | None:
    """``a.b`` of an attribute, the last two names of a longer one."""
    if not isinstance(node, ast.Attribute):
        return None
    if isinstance(node.value, ast.Name):
        return f"{node.value.id}.{node.attr}"
    return f"{node.value.attr}.{node.attr}" if isinstance(node.value, ast.Attribute) else None


def _found(problems: list[str]) -> str:
    return "\n".join(["", *problems])


def test_no_function_is_long() -> None:
    problems = [
        f"{path}:{node.lineno} {node.name} has {_line_count(node)} lines"
        for path, tree in _product()
        for node in _functions(tree)
        if _line_count(node) > FUNCTION_LINES_MAX
    ]
    assert not problems, _found(problems)


def test_most_functions_are_short() -> None:
    counts = [_line_count(node) for _, tree in _product() for node in _functions(tree)]
    short = sum(count <= FUNCTION_LINES_USUAL for count in counts)
    assert short >= FUNCTION_USUAL_SHARE * len(counts), f"only {short} of {len(counts)} are short"


def test_no_file_is_long() -> None:
    problems = []
    for path in _tracked():
        if path.suffix == ".py":
            name, count = path.relative_to(ROOT).as_posix(), len(path.read_text().splitlines())
            if count > (TEST_FILE_LINES_MAX if name.startswith("tests/") else FILE_LINES_MAX):
                problems.append(f"{name} has {count} lines")
    assert not problems, _found(problems)


def test_only_displays_print() -> None:
    problems = [
        f"{path}:{node.lineno} prints"
        for path, tree in _python("src")
        if Path(path).relative_to("src/smartstream").parts[0] not in PRINTERS
        for node in ast.walk(tree)
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "print"
    ]
    assert not problems, _found(problems)


def _clock_uses(tree: ast.Module) -> Iterator[tuple[ast.AST, str]]:
    """Where a clock is read or slept on, and in which function; defaults of arguments are not uses."""
    defaults = {
        id(inner)
        for function in _functions(tree)
        for default in (*function.args.defaults, *(d for d in function.args.kw_defaults if d is not None))
        for inner in ast.walk(default)
    }
    owner = {id(inner): function.name for function in _functions(tree) for inner in ast.walk(function)}
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module == "time":
            if {name.name for name in node.names} & {"time", "time_ns", "sleep"}:
                yield node, ""
        elif _dotted(node) in CLOCKS and id(node) not in defaults:
            yield node, owner.get(id(node), "")


def test_clocks_are_arguments() -> None:
    problems = []
    for path, tree in _python("src"):
        allowed = CLOCK_ROOTS.get(Path(path).relative_to("src/smartstream").as_posix())
        for node, function in _clock_uses(tree):
            if allowed is None or function != allowed:
                problems.append(f"{path}:{getattr(node, 'lineno', 0)} reads the wall clock or sleeps")
    assert not problems, _found(problems)


def _swallows(handler: ast.ExceptHandler, lines: list[str]) -> bool:
    """Whether a handler does nothing: at all, or with a narrow error without saying why."""
    if handler.type is None:
        return True
    if not all(isinstance(statement, ast.Pass) for statement in handler.body):
        return False
    is_wide = ast.unparse(handler.type) in ("Exception", "BaseException")
    return is_wide or "#" not in lines[handler.body[0].lineno - 1]


def _suppresses_all(node: ast.AST) -> bool:
    """Whether this is ``suppress(Exception)`` or wider."""
    if not isinstance(node, ast.Call) or not ast.unparse(node.func).endswith("suppress"):
        return False
    return any(ast.unparse(argument) in ("Exception", "BaseException") for argument in node.args)


def test_no_exception_is_swallowed() -> None:
    problems = []
    for path, tree in _product():
        lines = (ROOT / path).read_text(encoding="utf-8").splitlines()
        for node in ast.walk(tree):
            if isinstance(node, ast.ExceptHandler) and _swallows(node, lines):
                problems.append(f"{path}:{node.lineno} swallows an exception")
            elif _suppresses_all(node):
                problems.append(f"{path}:{getattr(node, 'lineno', 0)} suppresses every exception")
    assert not problems, _found(problems)


def _module_name(path: str) -> str:
    parts = Path(path).with_suffix("").parts[1:]
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def test_every_module_is_imported_by_another() -> None:
    imported: set[str] = set()
    for path, tree in _python("src", "lambdas", "tests", "benchmarks"):
        for node in ast.walk(tree):
            names: list[str] = []
            if isinstance(node, ast.Import):
                names = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom) and node.module:
                names = [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
            in_product = path.startswith(("src/", "lambdas/"))
            imported |= {name for name in names if in_product or name.startswith("smartstream.testing")}
    modules = {_module_name(path) for path, _ in _python("src")}
    packages = {name for name in modules if any(other.startswith(f"{name}.") for other in modules)}
    dead = sorted(modules - imported - packages - ENTRY_POINTS)
    assert not dead, f"never imported by the product: {dead}"


def test_names_say_what_things_are() -> None:
    problems = []
    for path, tree in _product():
        problems += [f"{path}: its name" for part in Path(path).parts if BANNED_NAME.search(Path(part).stem)]
        for node in ast.walk(tree):
            if isinstance(node, ast.ClassDef | ast.FunctionDef) and BANNED_NAME.search(node.name):
                problems.append(f"{path}:{node.lineno} {node.name}")
    assert not problems, _found(problems)


def _lines_of_text() -> Iterator[tuple[str, int, str]]:
    for path in _tracked():
        if path == Path(__file__).resolve():
            continue
        try:
            text = path.read_text(encoding="utf-8")
        except UnicodeDecodeError:
            continue
        name = path.relative_to(ROOT).as_posix()
        yield from ((name, number, line) for number, line in enumerate(text.splitlines(), 1))


@pytest.mark.parametrize(
    "pattern", [MACHINE_PATH, INDEX_ADDRESS], ids=["no machine's paths", "no package index's address"]
)
def test_files_hold_nothing_of_one_machine(pattern: re.Pattern[str]) -> None:
    problems = [
        f"{name}:{number} {line.strip()}" for name, number, line in _lines_of_text() if pattern.search(line)
    ]
    assert not problems, _found(problems)


def _is_declaration(node: ast.stmt) -> bool:
    """A Protocol's member: its type says it."""
    body = getattr(node, "body", [])
    return (
        len(body) == 1
        and isinstance(body[0], ast.Expr)
        and isinstance(body[0].value, ast.Constant)
        and body[0].value.value is ...
    )


def _undocumented(node: ast.Module | ast.ClassDef, inside: str = "") -> Iterator[tuple[int, str]]:
    """Public functions and classes without a docstring, methods included."""
    for child in node.body:
        if not isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            continue
        if child.name.startswith("_") or _is_declaration(child):
            continue
        if ast.get_docstring(child) is None:
            yield child.lineno, f"{inside}{child.name}"
        if isinstance(child, ast.ClassDef):
            yield from _undocumented(child, f"{child.name}.")


def test_everything_public_has_a_docstring() -> None:
    problems = []
    for path, tree in _python("src"):
        if tree.body and ast.get_docstring(tree) is None:
            problems.append(f"{path}: the module")
        problems += [f"{path}:{line} {name}" for line, name in _undocumented(tree)]
    assert not problems, _found(problems)
