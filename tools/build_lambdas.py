"""Build the Lambda packages: one zip for each folder of lambdas/, python3.13 on arm64.

    python tools/build_lambdas.py                  all, into build/lambdas
    python tools/build_lambdas.py transform        one of them
    python tools/build_lambdas.py --stub --out DIR   handlers and smartstream only, no wheels

A package holds the handler, the files of smartstream that it can come to import, and the
wheels pinned in the folder's requirements.txt, without what is never imported.  boto3 is
not packed: the runtime brings it, and AWS keeps that one patched.

The same input gives the same bytes: entries are sorted, times and modes are fixed, nothing
is compiled or installed.  (Only another zlib may compress the same content differently.)
"""

from __future__ import annotations

import argparse
import ast
import hashlib
import re
import struct
import subprocess
import sys
import zipfile
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
HANDLER = "lambda_function.py"
PACKAGE = "smartstream"
# Lambda's limit is "250 MB", by which AWS means 262 144 000 bytes; the smaller reading holds here.
UNZIPPED_BYTES_MAX = 250_000_000
DOWNLOAD_S_MAX = 900
ELF_64_LITTLE_ENDIAN = b"\x7fELF\x02\x01"

# What wheels carry and nothing imports, by the path inside the package.
PRUNED = re.compile(
    "|".join(
        (
            r"(^|/)(tests|__pycache__)/",
            r"\.(pyi|pyx|pxd|pxi|c|cc|cpp|h|hpp|a|cmake|pyc|typed)$",
            # Of a wheel's own records only name, version and licence are of use later.
            r"\.dist-info/(?!METADATA$|licenses/|LICEN[CS]E|COPYING|NOTICE)",
            # pyarrow: Flight, ORC, bindings of clouds that are not AWS, what compilers need.  (Substrait
            # is never imported either, but libarrow_dataset is linked against it.)
            r"^pyarrow/(include|includes|src)/",
            r"^pyarrow/(libarrow_flight|libarrow_python_flight|_flight|_substrait)\.",
            r"^pyarrow/(_orc|_dataset_orc|_azurefs|_gcsfs|_hdfs|_cuda|_pyarrow_cpp_tests)\.",
            # One library under three names: symbolic links, which wheels carry as copies.
            r"^pyarrow/lib\w+\.so(\.\d+\.\d+\.\d+)?$",
            # numpy: the Fortran compiler's front end, static libraries, its own build.
            r"^numpy/(f2py|distutils|_pyinstaller|_core/(include|lib))/",
            # pyiceberg: the Hive catalog and the command line.
            r"^(hive_metastore|fb303|pyiceberg/(cli|vendor))/",
            # duckdb: a Spark look-alike, stubs.
            r"^(duckdb/experimental|adbc_driver_duckdb|_duckdb-stubs)/",
            # onnxruntime: what makes and tunes models, and a second copy of the runtime for C.
            r"^onnxruntime/(transformers|quantization|tools|datasets|backend)/|^onnxruntime/capi/libonnxruntime\.so",
            # zstandard: a second binding, for PyPy.
            r"^zstandard/(_cffi\.|backend_cffi\.py$)",
        )
    )
)


class BuildFailed(Exception):
    """The package cannot be built; the message says why."""


class DownloadFailed(BuildFailed):
    """A wheel can't be had: no network, or no such wheel."""


@dataclass(frozen=True)
class Target:
    """A machine to pack for: pip's options that choose its wheels, and a name for the cache."""

    name: str
    options: tuple[str, ...]


LAMBDA = Target(
    "python3.13-arm64",
    (
        *(f"--platform={tag}_aarch64" for tag in ("manylinux_2_28", "manylinux_2_17", "manylinux2014")),
        "--python-version=3.13",
        "--implementation=cp",
    ),
)
HERE = Target(f"here-python{sys.version_info[0]}.{sys.version_info[1]}", ())


@dataclass(frozen=True)
class Entry:
    """One file of a package, read when it is written."""

    size_bytes: int
    read: Callable[[], bytes]


def names(root: Path = ROOT) -> list[str]:
    """The functions: every folder of lambdas/ with a handler."""
    return sorted(path.parent.name for path in (root / "lambdas").glob(f"*/{HANDLER}"))


def pins(requirements: Path) -> dict[str, str]:
    """The version of each distribution in a requirements file; comments are skipped."""
    found: dict[str, str] = {}
    for number, line in enumerate(requirements.read_text(encoding="utf-8").splitlines(), 1):
        text = line.partition("#")[0].strip()
        if not text:
            continue
        name, equals, version = text.partition("==")
        if not equals or not re.fullmatch(r"[\w.-]+", name + version):
            raise BuildFailed(f"{requirements}:{number}: expected name==version")
        found[name] = version
    return found


def wheels(wanted: Mapping[str, str], target: Target, cache: Path) -> list[Path]:
    """The wheels of the pins, downloaded into ``cache`` when they are not there yet."""
    folder = cache / target.name
    folder.mkdir(parents=True, exist_ok=True)
    missing = [f"{name}=={version}" for name, version in wanted.items() if not _cached(folder, name, version)]
    if missing:
        _download(missing, target, folder)
    found = {name: _cached(folder, name, version) for name, version in wanted.items()}
    lost = [name for name, path in found.items() if path is None]
    if lost:
        raise BuildFailed(f"pip downloaded no wheel of {', '.join(lost)} for {target.name}")
    return [path for path in found.values() if path is not None]


def _cached(folder: Path, name: str, version: str) -> Path | None:
    """The wheel of a pin in the cache."""
    stem = re.sub(r"[-_.]+", "_", name).lower()
    for path in sorted(folder.glob(f"*-{version}-*.whl")):
        if re.sub(r"[-_.]+", "_", path.name.split("-")[0]).lower() == stem:
            return path
    return None


def _download(pinned: Sequence[str], target: Target, folder: Path) -> None:
    """Fetch wheels of exactly these versions, without their dependencies."""
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check"]
    command += ["--no-deps", "--only-binary=:all:", *target.options, "--dest", str(folder), *pinned]
    try:
        ended = subprocess.run(command, capture_output=True, text=True, timeout=DOWNLOAD_S_MAX, check=False)
    except subprocess.TimeoutExpired as error:
        raise DownloadFailed(f"pip download took more than {DOWNLOAD_S_MAX} s") from error
    if ended.returncode:
        raise DownloadFailed(f"pip download failed:\n{ended.stderr.strip()[-2000:]}")


def collect(
    name: str, target: Target, open_wheels: ExitStack, *, root: Path = ROOT, stub: bool = False
) -> dict[str, Entry]:
    """All files of a package by their path in it, sorted.

    Args:
        open_wheels: closes the wheels; entries can be read until then.
        stub: the handler and smartstream only.
    """
    entries = dict(_sources(name, root))
    if not stub:
        wanted = pins(root / "lambdas" / name / "requirements.txt")
        for wheel in wheels(wanted, target, root / "build" / "wheels"):
            archive = open_wheels.enter_context(zipfile.ZipFile(wheel))
            for path, entry in _unpacked(archive):
                if path in entries:
                    raise BuildFailed(f"{path} is in two wheels, one of them {wheel.name}")
                entries[path] = entry
    return dict(sorted(entries.items()))


def _sources(name: str, root: Path) -> Iterator[tuple[str, Entry]]:
    """The handler and our own package."""
    handler = root / "lambdas" / name / HANDLER
    if not handler.is_file():
        raise BuildFailed(f"there is no lambdas/{name}/{HANDLER}; functions: {', '.join(names(root))}")
    yield HANDLER, Entry(handler.stat().st_size, handler.read_bytes)
    source = root / "src"
    for path in sorted(_imported(handler, source)):
        yield path.relative_to(source).as_posix(), Entry(path.stat().st_size, path.read_bytes)


def _imported(start: Path, source: Path) -> set[Path]:
    """Every file of ours that a handler can come to import, at its start or later."""
    found: set[Path] = set()
    waiting = [start]
    while waiting:
        for name in _imports(ast.parse(waiting.pop().read_bytes())):
            parts = name.split(".")
            for count in range(1, len(parts) + 1):
                path = source.joinpath(*parts[:count])
                path = path / "__init__.py" if path.is_dir() else path.with_suffix(".py")
                if parts[0] == PACKAGE and path.is_file() and path not in found:
                    found.add(path)
                    waiting.append(path)
    return found


def _imports(node: ast.AST) -> Iterator[str]:
    """The modules, and perhaps names in them, that code imports, but for its annotations."""
    if isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING":
        return
    if isinstance(node, ast.Import):
        yield from (alias.name for alias in node.names)
    elif isinstance(node, ast.ImportFrom) and node.module:
        yield from (f"{node.module}.{alias.name}" for alias in node.names)
    for child in ast.iter_child_nodes(node):
        yield from _imports(child)


def _unpacked(wheel: zipfile.ZipFile) -> Iterator[tuple[str, Entry]]:
    """The files that installing a wheel would put beside each other, without the pruned ones."""
    for member in wheel.infolist():
        path = member.filename
        scheme = re.match(r"[^/]+\.data/(\w+)/(.+)", path)
        if scheme:  # scripts, headers and data go elsewhere when installed
            if scheme[1] not in ("purelib", "platlib"):
                continue
            path = scheme[2]
        if member.is_dir() or PRUNED.search(path):
            continue
        read = partial(_content, wheel, member)
        yield path, Entry(len(read()) if ".so" in path else member.file_size, read)


def _content(wheel: zipfile.ZipFile, member: zipfile.ZipInfo) -> bytes:
    """A file of a wheel as it is packed."""
    content = wheel.read(member)
    return _stripped(content) if content.startswith(ELF_64_LITTLE_ENDIAN) else content


def _stripped(content: bytes) -> bytes:
    """A shared library without what only debuggers and linkers read, as ``strip`` makes it.

    The loader follows the program headers alone; symbols, debug sections and the table of
    sections lie behind the last segment and are two fifths of some libraries.
    """
    header = bytearray(content[:64])
    (offset,) = struct.unpack_from("<Q", header, 32)
    size, count = struct.unpack_from("<HH", header, 54)
    segments = [struct.unpack_from("<Q16xQ", content, offset + number * size + 8) for number in range(count)]
    end = max(start + length for start, length in segments)
    struct.pack_into("<Q", header, 40, 0)  # where the table of sections is: nowhere
    struct.pack_into("<HH", header, 60, 0, 0)  # its length, and the section of its names
    return bytes(header) + content[64:end]


def write_zip(entries: Mapping[str, Entry], target: Path) -> None:
    """Write a package; what stood there is replaced only by a whole one that Lambda takes."""
    size = sum(entry.size_bytes for entry in entries.values())
    if size > UNZIPPED_BYTES_MAX:
        raise BuildFailed(f"{target.stem} has {size:,} bytes unzipped, more than {UNZIPPED_BYTES_MAX:,}")
    target.parent.mkdir(parents=True, exist_ok=True)
    unfinished = target.with_name(f".{target.name}.unfinished")
    with zipfile.ZipFile(unfinished, "w", zipfile.ZIP_DEFLATED, compresslevel=6) as archive:
        for path, entry in entries.items():
            info = zipfile.ZipInfo(path, date_time=(1980, 1, 1, 0, 0, 0))
            info.compress_type = zipfile.ZIP_DEFLATED
            info.create_system = 3  # Unix, wherever it is built
            info.external_attr = 0o100644 << 16  # Lambda's user must be able to read it
            archive.writestr(info, entry.read())
    unfinished.replace(target)


def write_folder(entries: Mapping[str, Entry], folder: Path) -> None:
    """Write a package's files into a folder, to try it on this machine."""
    for path, entry in entries.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_bytes(entry.read())


def report(name: str, entries: Mapping[str, Entry], package: Path) -> Iterable[str]:
    """Sizes of a package, the largest parts first."""
    sizes: Counter[str] = Counter()
    for path, entry in entries.items():
        sizes[re.sub(r"\.libs$|\.dist-info$|-[\d.]+.*$", "", path.split("/")[0])] += entry.size_bytes
    zipped = package.read_bytes()
    yield f"{name}: {len(entries):,} files, {sizes.total() / 1e6:.1f} MB, {len(zipped) / 1e6:.1f} MB zipped"
    yield f"  sha256 {hashlib.sha256(zipped).hexdigest()}"
    yield from (f"  {size / 1e6:7.1f} MB  {part}" for part, size in sizes.most_common(8))


def main(arguments: Sequence[str] | None = None) -> int:
    """Build what the command line asks for."""
    parser = argparse.ArgumentParser(description="Build the Lambda packages.")
    parser.add_argument("function", nargs="*", help="which; all if none is named")
    parser.add_argument("--stub", action="store_true", help="handlers and smartstream only: for tests")
    parser.add_argument("--out", type=Path, default=ROOT / "build" / "lambdas", help="folder of the zips")
    chosen = parser.parse_args(arguments)
    try:
        for name in chosen.function or names():
            with ExitStack() as open_wheels:
                entries = collect(name, LAMBDA, open_wheels, stub=chosen.stub)
                package = chosen.out / f"{name}.zip"
                write_zip(entries, package)
                sys.stdout.write("\n".join(report(name, entries, package)) + "\n")
    except BuildFailed as error:
        sys.stderr.write(f"error: {error}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
