"""Whether sdist and wheel hold what they must and nothing else; run by `make wheel-test` with their folder."""

import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

PICTURES = (".png", ".jpg", ".jpeg", ".gif", ".webp", ".mp4", ".pdf")
MAX_WHEEL_BYTES = 2_000_000

root, dist = Path(__file__).parent.parent, Path(sys.argv[1])
(wheel,), (sdist,) = dist.glob("*.whl"), dist.glob("*.tar.gz")
listed = subprocess.run(["git", "ls-files"], cwd=root, capture_output=True, text=True, check=True).stdout.splitlines()
tracked = {name for name in listed if not name.startswith(".ci/")}
package = {name for name in tracked if name.startswith(("bddn/", "cache_specs/"))}
wanted = {f"bddn/{name}" if name.startswith("cache_specs/") else name for name in package}
names = set(zipfile.ZipFile(wheel).namelist())
with tarfile.open(sdist) as archive:
    sources = {member.name.partition("/")[2] for member in archive.getmembers() if member.isfile()}

bad = [f"the wheel lacks {name}" for name in sorted(wanted - names)]
bad += [f"the wheel has {name}" for name in sorted(names - wanted) if ".dist-info/" not in name]
bad += [f"the wheel has the picture {name}" for name in sorted(names) if name.endswith(PICTURES)]
bad += [f"the sdist lacks {name}" for name in sorted({*package, "pyproject.toml", "CHANGELOG.md"} - sources)]
bad += [f"the sdist has {name}" for name in sorted(sources - tracked - {"PKG-INFO"})]
if wheel.stat().st_size > MAX_WHEEL_BYTES:
    bad.append(f"the wheel has {wheel.stat().st_size:,} bytes")
sys.exit("wheel: " + "; ".join(bad) if bad else 0)
