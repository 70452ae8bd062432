import json
import re
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))
import build_page  # noqa: E402


def checkout(root: Path) -> Path:
    page = root / "page"
    (page / "src" / "app").mkdir(parents=True)
    (page / "src" / "app" / "App.tsx").write_text("export {};")
    (page / "index.html").write_text("<!doctype html>")
    (page / "package-lock.json").write_text(
        json.dumps(
            {
                "packages": {
                    "": {"name": "page"},
                    "node_modules/shipped": {"version": "1.2.3", "license": "MIT"},
                    "node_modules/tool": {"version": "9.0.0", "license": "MIT", "dev": True},
                }
            }
        )
    )
    return root


class Node:
    """Stands for Node: npm brings one package with a licence, Vite writes a page; or the one given fails."""

    def __init__(self, *, fails: str = "") -> None:
        self.fails = fails
        self.calls: list[str] = []

    def __call__(self, arguments: Sequence[str], folder: Path) -> int:
        tool = "npm" if arguments[0] == "npm" else "vite"
        self.calls.append(tool)
        if tool == self.fails:
            return 1
        if tool == "npm":
            (folder / "node_modules" / "shipped").mkdir(parents=True)
            (folder / "node_modules" / "shipped" / "LICENSE.md").write_text("Permission is granted by Ada.")
        else:
            built = Path(arguments[arguments.index("--outDir") + 1])
            built.mkdir()
            (built / "index.html").write_text("a fresh page")
        return 0


def test_page_is_built_with_its_licences_and_is_current_then(tmp_path: Path) -> None:
    root = checkout(tmp_path)
    assert not build_page.is_current(root)
    build_page.build(root, run=Node())
    static = root / build_page.STATIC
    licences = (static / "THIRD_PARTY_LICENSES.txt").read_text()
    assert build_page.is_current(root)
    assert "shipped 1.2.3 (MIT)" in licences
    assert "granted by Ada" in licences
    assert "tool" not in licences
    assert [path.name for path in static.parent.iterdir()] == ["static"]


def test_page_is_stale_after_a_source_or_the_lock_changes_but_not_after_packages_do(tmp_path: Path) -> None:
    root = checkout(tmp_path)
    build_page.build(root, run=Node())
    (root / "page" / "node_modules" / "shipped" / "extra.js").write_text("")
    assert build_page.is_current(root)
    (root / "page" / "src" / "app" / "App.tsx").rename(root / "page" / "src" / "App.tsx")
    assert not build_page.is_current(root)


def test_packages_are_fetched_again_only_for_another_lock(tmp_path: Path) -> None:
    root, node = checkout(tmp_path), Node()
    build_page.build(root, run=node)
    build_page.build(root, run=node)
    assert node.calls == ["npm", "vite", "vite"]


@pytest.mark.parametrize(("fails", "says"), [("npm", "npm registry .* from a wheel"), ("vite", "Vite could not build")])
def test_failed_build_says_why_and_leaves_the_page_as_it_was(tmp_path: Path, fails: str, says: str) -> None:
    root = checkout(tmp_path)
    build_page.build(root, run=Node())
    (root / "page" / "index.html").write_text("<!doctype html><title>new</title>")
    shutil.rmtree(root / "page" / "node_modules")
    with pytest.raises(build_page.PageBuildError, match=says):
        build_page.build(root, run=Node(fails=fails))
    assert (root / build_page.STATIC / "index.html").read_text() == "a fresh page"
    assert not build_page.is_current(root)


def test_package_without_a_licence_is_not_shipped(tmp_path: Path) -> None:
    root, node = checkout(tmp_path), Node()
    build_page.fetch_packages(root / "page", run=node)
    (root / "page" / "node_modules" / "shipped" / "LICENSE.md").unlink()
    with pytest.raises(build_page.PageBuildError, match=r"shipped brings no text .*licences/shipped\.txt"):
        build_page.build(root, run=node)
    assert not (root / build_page.STATIC).exists()


def test_checkout_without_the_pages_sources_is_refused(tmp_path: Path) -> None:
    with pytest.raises(build_page.PageBuildError, match="holds no package-lock"):
        build_page.build(tmp_path, run=Node())


def test_lock_names_exact_packages_and_no_registry() -> None:
    lock = json.loads((ROOT / "page" / "package-lock.json").read_text())
    packages = [facts for place, facts in lock["packages"].items() if place]
    assert len(packages) > 20
    assert all(facts["integrity"].startswith("sha512-") and "resolved" not in facts for facts in packages)
    wanted = json.loads((ROOT / "page" / "package.json").read_text())
    versions = [*wanted["dependencies"].values(), *wanted["devDependencies"].values()]
    assert all(re.fullmatch(r"\d+\.\d+\.\d+", version) for version in versions)


def test_built_page_holds_nothing_that_its_content_policy_forbids() -> None:
    static = ROOT / build_page.STATIC
    if not (static / "index.html").is_file():
        pytest.skip("the page is not built here: make page")
    html = (static / "index.html").read_text()
    scripts = re.findall(r"<script\b([^>]*)>([^<]*)</script>", html)
    assert scripts
    assert all("src=" in attributes and content == "" for attributes, content in scripts)
    assert not re.search(r"<style|style=|\son\w+=|https?://", html)
    assert "NiiVue" in (static / "THIRD_PARTY_LICENSES.txt").read_text()
