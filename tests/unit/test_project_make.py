"""The container, the targets of make, and the check of the docs."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import json
import re
import subprocess
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).resolve().parents[2]
REQUIREMENTS = ROOT / "requirements"


def test_the_container_is_built_and_run_without_rights_and_by_targets_that_exist() -> None:
    """What hadolint does not know: `make check` runs that too."""
    lines = (ROOT / "Containerfile").read_text(encoding="utf-8").replace("\\\n", " ").splitlines()
    steps = [line.split(maxsplit=1) for line in lines if line and not line.startswith("#")]
    words = [word for word, _ in steps]
    assert [rest for word, rest in steps if word == "ARG"] == ["BASE=python:3.11-slim-bookworm"]
    assert [rest for word, rest in steps if word == "USER"] == ["1000:1000"]
    assert words.index("USER") < words.index("COPY")  # nothing of the project is root's
    assert all("--chown=fedkeys:fedkeys" in rest for word, rest in steps if word == "COPY")
    targets = re.findall(r"^([a-z][a-z0-9-]*):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE)
    made = [
        target for word, rest in steps if word in ("RUN", "CMD") for target in re.findall(r"\bmake\W+([a-z-]+)", rest)
    ]
    assert {"setup", "demo"} <= set(made)
    assert [target for word, rest in steps if word == "CMD" for target in re.findall(r"[a-z-]+", rest)] == [
        "make",
        "demo",
    ]
    assert set(made) - {"pkg-config"} <= set(targets)  # the package after make's


def test_each_package_of_the_page_is_pinned_with_its_digest() -> None:
    """`npm ci` installs nothing else than what these digests name, and the page's own packages run no script then."""
    web = ROOT / "edge" / "clients" / "web"
    asked = json.loads((web / "package.json").read_text(encoding="utf-8"))
    packages = json.loads((web / "package-lock.json").read_text(encoding="utf-8"))["packages"]
    own = packages.pop("")
    for kind in ("dependencies", "devDependencies"):
        assert own[kind] == asked[kind]
        assert all(re.fullmatch(r"[0-9.]+", version) for version in asked[kind].values())
    assert [name for name, package in packages.items() if not package["integrity"].startswith("sha512-")] == []
    assert "npm ci --ignore-scripts" in (ROOT / "Makefile").read_text(encoding="utf-8")


def test_the_container_gets_no_environment_of_this_machine() -> None:
    ignored = (ROOT / ".dockerignore").read_text(encoding="utf-8").split()
    assert {".git", ".venv*", ".uv", "runs", "build", "dist"} <= set(ignored)


def test_make_help_lists_the_targets() -> None:
    listed = subprocess.run(["make", "-C", ROOT, "help"], capture_output=True, text=True, check=True).stdout
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    phony = re.search(r"^\.PHONY: (.*)$", makefile, re.MULTILINE)
    assert phony
    targets = phony[1].split()
    assert {"setup", "demo", "test", "test-fast", "check", "coverage", "dist", "docs", "mutants", "lock"} <= set(
        targets
    )
    assert set(re.findall(r"^([a-z][a-z0-9-]*):", makefile, re.MULTILINE)) == set(targets)
    for target in targets:
        assert re.search(rf"^make {target} +\w", listed, re.MULTILINE), target


def test_make_bench_calls_what_needs_nothing_but_fedkeys() -> None:
    """A benchmark that asks for an option would end the target, and the race takes other frameworks."""
    called = subprocess.run(["make", "-n", "-C", ROOT, "bench"], capture_output=True, text=True, check=True).stdout
    files = {ROOT / name for name in re.findall(r"benchmarks/\w+\.py", called)}
    left = set((ROOT / "benchmarks").glob("*.py")) - files
    asking = {path for path in files | left if "required=True" in path.read_text(encoding="utf-8")}
    assert len(files) > 5
    assert left == asking | {ROOT / "benchmarks" / "race.py"}


@pytest.fixture
def check_docs() -> ModuleType:
    spec = importlib.util.spec_from_file_location("check_docs", ROOT / "scripts/check_docs.py")
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_check_docs_finds_links_that_lead_nowhere(check_docs: ModuleType, tmp_path: Path) -> None:
    (tmp_path / "other.md").write_text("# Some `heading`, here\n```\n# no heading\n```\n")
    page = tmp_path / "page.md"
    good = "[a](other.md) [b](other.md#some-heading-here) [c](https://example.org/x) [d](#own)\n# Own\n"
    page.write_text(good)
    assert list(check_docs.broken_links(page, good)) == []
    bad = "[a](gone.md) [b](other.md#no-heading) ![c](gone.png) [d](#own)"
    page.write_text(bad)
    assert len(list(check_docs.broken_links(page, bad))) == 4


def test_check_docs_finds_make_targets_that_do_not_exist(check_docs: ModuleType) -> None:
    assert list(check_docs.wrong_make(["make", "setup", "PYTHON=python3.11"])) == []
    assert list(check_docs.wrong_make(["make", "tea"])) == ["there is no target `make tea`"]
