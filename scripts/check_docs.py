"""Checks README.md, CONTRIBUTING.md and docs/*.md against the project: a line a mistake, and exit code 1.

- A relative link leads to a file, and its #anchor to a heading of that file.
- A path between backticks that begins with one of the project's folders leads to a file or a folder.
- In a fenced block every `fedkeys` command and each of its options exists, and so does every `make` target.
"""

from __future__ import annotations

import re
import shlex
import sys
from collections.abc import Iterator
from pathlib import Path

import click

ROOT = Path(__file__).resolve().parent.parent
LINK = re.compile(r"!?\[[^\]]*\]\(<?([^)\s>]+)>?[^)]*\)")
PATH = re.compile(r"`((?:models|tff_pipelines|edge|orchestrator|tests|scripts|benchmarks|docs|requirements)/[\w./-]*)`")
FENCE = re.compile(r"^ *```.*?^ *```", re.MULTILINE | re.DOTALL)


def anchors(markdown: str) -> set[str]:
    """Returns the anchors of a page's headings, as GitHub makes them.

    >>> sorted(anchors("# Install trouble\\n## Why `pip`?"))
    ['install-trouble', 'why-pip']
    """
    headings = re.findall(r"^#+ +(.+?) *#*$", FENCE.sub("", markdown), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def broken_links(page: Path, markdown: str) -> Iterator[str]:
    """Yields what is wrong with the relative links of a page."""
    for target in LINK.findall(FENCE.sub("", markdown)):
        if re.match(r"[a-z]+:", target):
            continue
        path, _, anchor = target.partition("#")
        linked = (page.parent / path) if path else page
        if not linked.exists():
            yield f"the link {target} leads nowhere"
        elif anchor and linked.suffix == ".md" and anchor not in anchors(linked.read_text(encoding="utf-8")):
            yield f"the link {target} leads to a page without that heading"


def missing_paths(markdown: str) -> Iterator[str]:
    """Yields the paths of the text that lead nowhere.

    >>> list(missing_paths("see `models/weights.py`, `edge/` and `edge/nothing.py`"))
    ['there is no edge/nothing.py']
    """
    for path in PATH.findall(FENCE.sub("", markdown)):
        if not (ROOT / path).exists() and not (ROOT / f"{path}.py").exists():
            yield f"there is no {path}"


def commands(markdown: str) -> Iterator[list[str]]:
    """Yields each `fedkeys ...` and `make ...` of the fenced blocks, split into words.

    >>> list(commands("```\\n$ make demo  # ten minutes\\nfedkeys train --run x\\n```"))
    [['make', 'demo'], ['fedkeys', 'train', '--run', 'x']]
    """
    for block in FENCE.findall(markdown):
        for line in block.replace("\\\n", " ").splitlines():
            match = re.match(r"\s*(?:\$ )?(?:\w+=\S+ )*(?:\S*/)?((?:fedkeys|make)\b.*)", line)
            if match:
                yield shlex.split(match[1], comments=True)


def wrong_fedkeys(words: list[str]) -> Iterator[str]:
    """Yields what is wrong with a `fedkeys` command line: a command or an option that does not exist."""
    from orchestrator.cli.commands import cli  # here, since a page without commands needs none

    command: click.Command = cli
    rest = words[1:]
    if rest and not rest[0].startswith("-"):
        name = rest.pop(0)
        found = cli.get_command(click.Context(cli), name)
        if found is None:
            yield f"there is no command `fedkeys {name}`"
            return
        command = found
    known = {option for param in command.params for option in [*param.opts, *param.secondary_opts]} | {"--help"}
    for word in rest:
        option = word.split("=")[0]
        if re.match(r"--?[a-z]", option) and option not in known:
            yield f"`{' '.join(words)}` has an unknown option {option}"


def wrong_make(words: list[str]) -> Iterator[str]:
    """Yields what is wrong with a `make` command line: a target that does not exist."""
    targets = re.findall(r"^([a-z0-9-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE)
    for word in words[1:]:
        if "=" not in word and not word.startswith("-") and word not in targets:
            yield f"there is no target `make {word}`"


def main() -> int:
    """Returns the exit code: 0, or 1 after printing a line for each mistake."""
    pages = [page for page in [ROOT / "README.md", ROOT / "CONTRIBUTING.md"] if page.exists()]
    pages += sorted((ROOT / "docs").rglob("*.md"))
    mistakes = 0
    for page in pages:
        markdown = page.read_text(encoding="utf-8")
        found = [*broken_links(page, markdown), *missing_paths(markdown)]
        for words in commands(markdown):
            found += wrong_fedkeys(words) if words[0] == "fedkeys" else wrong_make(words)
        for mistake in found:
            print(f"{page.relative_to(ROOT)}: {mistake}")
        mistakes += len(found)
    print(f"{len(pages)} pages, {mistakes} mistakes")
    return 1 if mistakes else 0


if __name__ == "__main__":
    sys.exit(main())
