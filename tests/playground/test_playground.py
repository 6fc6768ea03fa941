"""The committed page is what its sources build, its units hold, and it works in a browser."""

import filecmp
import os
import re
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PLAYGROUND = ROOT / "playground"
STATIC = ROOT / "src" / "tenfold" / "server" / "static"
CHROMIUM = os.environ.get("CHROMIUM", "/usr/bin/chromium")

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]


def missing(reason: str) -> None:
    """Skips, or fails where everything is required."""
    if os.environ.get("TENFOLD_REQUIRE_ALL") == "1":
        pytest.fail(f"TENFOLD_REQUIRE_ALL=1, but {reason}")
    pytest.skip(reason)


def check_call(*command: str, env: Mapping[str, str] | None = None) -> str:
    done = subprocess.run(
        command,
        cwd=PLAYGROUND,
        env={**os.environ, "NO_COLOR": "1", **(env or {})},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=500,
        check=False,
    )
    assert done.returncode == 0, f"{' '.join(command)}\n{done.stdout[-6000:]}"
    return done.stdout


@contextmanager
def fixture_server() -> Iterator[str]:
    """Runs the canned-text server on a free port and yields its address."""
    with subprocess.Popen(
        ["node", "e2e/fixture-server.mjs", "--port", "0"],
        cwd=PLAYGROUND,
        stdout=subprocess.PIPE,
        text=True,
    ) as server:
        try:
            assert server.stdout is not None
            line = server.stdout.readline()
            address = re.search(r"http://\S+", line)
            assert address, f"the fixture server said {line!r}"
            yield address.group()
        finally:
            server.terminate()


@contextmanager
def tenfold_server(*options: str) -> Iterator[str]:
    """Runs `tenfold serve` with the embedded model, as `make serve` does."""
    with subprocess.Popen(
        [sys.executable, "-m", "tenfold", "serve", "concierge", "--port", "0", *options],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        env={**os.environ, "NO_COLOR": "1", "COLUMNS": "200"},
        text=True,
    ) as server:
        try:
            assert server.stderr is not None
            said = ""
            for line in server.stderr:
                said += line
                if address := re.search(r"playground\s+(http://\S+?)/?\s", line):
                    break
            else:
                raise AssertionError(f"the server ended: {said}")
            # Nobody reads the log any further, and it must not fill up and block the server.
            threading.Thread(target=server.stderr.read, daemon=True).start()
            yield address.group(1) + "/"
        finally:
            server.terminate()


@pytest.fixture(scope="module")
def packages() -> None:
    """Installs exactly the locked packages."""
    for program in ("node", "npm"):
        if shutil.which(program) is None:
            missing(f"{program} is not installed")
    version = check_call("node", "--version").strip()
    if int(version.removeprefix("v").split(".")[0]) < 20:
        missing(f"node is {version}, the playground needs 20 or newer")
    check_call("npm", "ci", "--no-audit", "--no-fund")


@pytest.fixture(scope="module")
def chromium() -> None:
    if not Path(CHROMIUM).exists():
        missing(f"there is no chromium at {CHROMIUM} (set CHROMIUM)")


def files_of(folder: Path) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.usefixtures("packages")
def test_committed_bundle_is_what_the_sources_build(tmp_path: Path) -> None:
    check_call("npm", "run", "build", "--", "--outDir", str(tmp_path))
    built, committed = files_of(tmp_path), files_of(STATIC)
    assert built == committed
    _, different, broken = filecmp.cmpfiles(tmp_path, STATIC, sorted(built), shallow=False)
    assert not different + broken, "run `npm run build` in playground/ and commit the result"


@pytest.mark.usefixtures("packages")
def test_units() -> None:
    assert "passed" in check_call("npm", "test")


@pytest.mark.usefixtures("packages", "chromium")
def test_in_a_browser_against_the_fixture_server() -> None:
    with fixture_server() as address:
        said = check_call("npm", "run", "e2e", env={"BASE_URL": address, "CHROMIUM": CHROMIUM})
    assert "all checks passed" in said


@pytest.mark.usefixtures("packages", "chromium")
def test_in_a_browser_against_the_real_server() -> None:
    with tenfold_server() as address:
        settings = {"BASE_URL": address, "CHROMIUM": CHROMIUM}
        said = check_call("npm", "run", "e2e", "--", "--real", env=settings)
    assert "all checks passed" in said


@pytest.mark.usefixtures("packages", "chromium")
def test_the_memory_page_in_a_browser_against_a_real_memory(tmp_path: Path) -> None:
    with tenfold_server("--memory", str(tmp_path), "--memory-embedder", "words") as address:
        settings = {"BASE_URL": address, "CHROMIUM": CHROMIUM}
        said = check_call("npm", "run", "e2e", "--", "--memory", env=settings)
    assert "all checks passed" in said


def test_bundle_is_small_and_self_contained() -> None:
    texts = {name: (STATIC / name).read_text(encoding="utf-8") for name in files_of(STATIC)}
    assert sum(map(len, texts.values())) < 150_000
    page = texts["index.html"]
    assert not re.search(r"<script(?![^>]*\ssrc=)|<style|\son\w+=", page), (
        "inline code breaks the policy"
    )
    assert not re.search(r'(?:src|href)="(?!\./)', page), "addresses must be relative"
    # The only absolute addresses are names of XML namespaces, which are never fetched.
    outside = [
        address
        for text in texts.values()
        for address in re.findall(r"https?://[\w./-]+", text)
        if not address.startswith("http://www.w3.org/")
    ]
    assert outside == []


def test_lock_file_names_no_registry() -> None:
    lock = (PLAYGROUND / "package-lock.json").read_text(encoding="utf-8")
    assert '"resolved"' not in lock


def test_sources_keep_to_the_house_size() -> None:
    folders = ("src", "tests", "e2e")
    long = [
        f"{path.relative_to(PLAYGROUND)}: {lines}"
        for folder in folders
        for path in (PLAYGROUND / folder).rglob("*.*")
        if (lines := len(path.read_text(encoding="utf-8").splitlines())) > 300
    ]
    assert long == []
