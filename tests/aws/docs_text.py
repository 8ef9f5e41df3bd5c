"""The pages about AWS as text: the checklist's steps, the commands in fences, the calls of the AWS CLI."""

from __future__ import annotations

import re
from functools import cache
from itertools import dropwhile
from pathlib import Path

from tests.aws.terraform_runner import ROOT

CHECKLIST, GUIDE, README = (ROOT / name for name in ("DEPLOYMENT_CHECKLIST.md", "docs/aws.md", "README.md"))
PAGES = (README, CHECKLIST, GUIDE)

_STEP = re.compile(r"^### (\d+)\. (.+)$", re.MULTILINE)
_ASSIGNMENT = re.compile(r"^\w+=")


def text_of(page: Path) -> str:
    """A page; of the README its chapter about AWS."""
    text = page.read_text(encoding="utf-8")
    return text.split("\n## On AWS\n")[1].split("\n## ")[0] if page == README else text


def shell_blocks(text: str) -> list[str]:
    """The fenced blocks of commands, also inside a list."""
    found = re.findall(r"^( *)```bash\n(.*?)^ *```", text, flags=re.DOTALL | re.MULTILINE)
    return [re.sub(f"^{indent}", "", block, flags=re.MULTILINE) for indent, block in found]


def simple_commands(shell: str) -> list[list[str]]:
    """The words of each command: those in pipes and in ``$(...)`` too, assignments before them left out."""
    found: list[list[str]] = []
    _read_commands(shell, 0, "", found)
    bare = [list(dropwhile(_ASSIGNMENT.match, words)) for words in found]
    return [words for words in bare if words]


def _read_commands(shell: str, i: int, end: str, found: list[list[str]]) -> int:
    """Read commands up to ``end``, and return the place after it."""
    words: list[str] = []
    word = ""
    while i < len(shell) and shell[i] != end:
        letter = shell[i]
        if letter == "'":
            close = shell.index("'", i + 1)
            word, i = word + shell[i + 1 : close], close
        elif letter == '"':
            inside, i = _read_quoted(shell, i + 1, found)
            word += inside
        elif letter == "\\":
            word, i = word + shell[i + 1].strip(), i + 1
        elif shell.startswith("$(", i):
            word, i = word + "$(…)", _read_commands(shell, i + 2, ")", found) - 1
        elif letter == "#" and not word:
            i += len(shell[i:].partition("\n")[0]) - 1
        elif letter.isspace() or letter in "|&;":
            words, word = [*words, *([word] if word else [])], ""
            if letter in "|&;\n":
                found.append(words)
                words = []
        else:
            word += letter
        i += 1
    found.append([*words, *([word] if word else [])])
    return i + 1


def _read_quoted(shell: str, i: int, found: list[list[str]]) -> tuple[str, int]:
    """What stands between double quotes, and the place of the closing one."""
    inside = ""
    while shell[i] != '"':
        if shell.startswith("$(", i):
            inside, i = inside + "$(…)", _read_commands(shell, i + 2, ")", found)
        else:
            inside, i = inside + shell[i], i + 1
    return inside, i


@cache
def commands_of(page: Path) -> tuple[list[str], ...]:
    """All that a page tells its reader to run, in fences and between backticks."""
    text = text_of(page)
    prose = re.sub(r"```.*?```", "", text, flags=re.DOTALL)
    inline = re.findall(r"`((?:aws|terraform|psql|make|smartstream) [^`]+)`", prose)
    shell = [*shell_blocks(text), *(code.replace("\\|", "|") for code in inline)]
    return tuple(command for one in shell for command in simple_commands(one))


def steps() -> dict[str, str]:
    """The checklist's steps: number and title, and text."""
    parts = _STEP.split(text_of(CHECKLIST))[1:]
    return {f"{parts[i]}. {parts[i + 1]}": parts[i + 2].split("\n## ")[0] for i in range(0, len(parts), 3)}
