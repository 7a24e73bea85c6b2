# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""No secret leaves a host, in whatever form it is written there; and what is no secret stays."""

from __future__ import annotations

import base64
import json
import random
import string
import tarfile
from pathlib import Path
from typing import Any, Callable
from urllib.parse import quote, quote_plus

import pytest

from ansible_collections.multihost.overlay.plugins.module_utils import _support_host
from ansible_collections.multihost.overlay.plugins.module_utils._docker import DockerError
from ansible_collections.multihost.overlay.plugins.module_utils._preflight_reader import Reader
from ansible_collections.multihost.overlay.plugins.module_utils._support import (
    Redactor,
    cut,
    forms,
    key_lines,
    of_environment,
    of_json,
    passwords,
)
from ansible_collections.multihost.overlay.plugins.modules import host_support
from ansible_collections.multihost.overlay.plugins.plugin_utils import _bundle

TOKEN = "0f1e2d3c-4b5a-6978-8796-a5b4c3d2e1f0"
GOSSIP = "pUqJrVyVRj5jsiYEkM/tFQYfWyJIv4s3XkvDwy7Cu5s="
KEY_LINES = [
    "MHcCAQEEIIrYSSNQFaA2Hwf1duRSxKtLYX5CB04fSeQ6tF1aY/PuoAoGCCqGSM49",
    "AwEHoUQDQgAEPR3tU2Fta9ktY+6P9G0cWO+0kETA6SFs38GecTyudlHz6xvCdz8q",
]
BEGIN, END = "-----BEGIN EC PRIVATE " + "KEY-----", "-----END EC PRIVATE " + "KEY-----"
PEM = "\n".join([BEGIN, *KEY_LINES, END]) + "\n"
ALPHABETS = (
    string.ascii_letters + string.digits,
    string.hexdigits,
    string.printable.strip(),
    "äöü€😀 /+&=?%\"'\\<>:@#~" + string.ascii_letters,
)

ENCODINGS: dict[str, Callable[[str], str]] = {
    "raw": lambda text: text,
    "json": lambda text: json.dumps(text)[1:-1],
    "json unescaped": lambda text: json.dumps(text, ensure_ascii=False)[1:-1],
    "url": lambda text: quote(text, safe=""),
    "url with slashes": quote,
    "form": quote_plus,
    "url in lower case": lambda text: "".join(part.lower() if part.startswith("%") else part for part in escapes(text)),
    "base64": lambda text: base64.b64encode(text.encode()).decode(),
    "base64 of URLs": lambda text: base64.urlsafe_b64encode(text.encode()).decode(),
    "base64 within more": lambda text: base64.b64encode(f"user:{text}!".encode()).decode(),
    "base64 within more yet": lambda text: base64.b64encode(f"ab:{text}".encode()).decode(),
    "hexadecimal": lambda text: text.encode().hex(),
    "hexadecimal in capitals": lambda text: text.encode().hex().upper(),
}  # fmt: skip


def escapes(text: str) -> list[str]:
    """A quoted text, each escape by itself."""
    parts = quote(text, safe="").split("%")
    return [parts[0], *[piece for part in parts[1:] for piece in (f"%{part[:2]}", part[2:])]]


def random_secrets(seed: int) -> list[str]:
    """Of all lengths from 12, and of characters that are hard to quote."""
    source = random.Random(seed)
    return [
        "".join(source.choice(alphabet) for _place in range(source.randint(12, 64)))
        for alphabet in ALPHABETS
        for _again in range(5)
    ]


def telling_part(encoding: str, written: str) -> str:
    """What of it must not be seen: all but the ends, where base64 mixes it with what stands beside it."""
    return written[8:-4] if encoding.startswith("base64 within") else written


@pytest.mark.parametrize("encoding", ENCODINGS)
@pytest.mark.parametrize("seed", range(6))
def test_a_known_secret_does_not_survive(encoding: str, seed: int) -> None:
    secrets = [text.strip() for text in random_secrets(seed)]
    redact = Redactor(secrets)
    for secret in secrets:
        written = ENCODINGS[encoding](secret)
        shown = redact(f"before it, {written}, after it\nand {written}")
        assert telling_part(encoding, written) not in shown
        assert secret not in shown
        assert shown.startswith("before it, ")
        assert "after it\nand " in shown


def test_one_secret_within_another() -> None:
    assert Redactor(["abcdefgh", "abcdefgh-ijklmn"])("x abcdefgh-ijklmn y abcdefgh z") == "x REMOVED y REMOVED z"


def test_what_is_too_short_is_not_looked_for_by_value() -> None:
    """It would be found everywhere. By its name it still is."""
    assert Redactor(["eth0", "", " "])("dev eth0 up") == "dev eth0 up"
    assert Redactor(["eth0"])("password=eth0") == "password=REMOVED"


@pytest.mark.parametrize(
    "text",
    [
        "CONSUL_HTTP_TOKEN=<S>",
        'Environment="CONSUL_HTTP_TOKEN=<S>"',
        'Environment="A=1" "DB_PASSWORD=<S> two <S>" B=2',
        "Environment=AWS_SECRET_ACCESS_KEY=<S> X=1",
        "Environment='MY_API_KEY=<S>'",
        "X-Consul-Token: <S>",
        "curl -H 'X-Consul-Token: <S>' http://x",
        '{"X-Consul-Token": ["<S>"]}'.replace("[", "").replace("]", ""),
        "Authorization: Bearer <S>",
        "authorization: Basic <S>",
        '"password": "<S>"',
        '"password" : "<S>\\" <S>"',
        'level=info msg="{\\"token\\":\\"<S>\\"}"',
        "token = '<S>'",
        "splunk-token: <S>",
        "http://user:<S>@proxy:3128/",
        "https://<S>@host/path",
        "HTTP_PROXY=http://user:<S>@proxy:3128",
        "http://user:SEC@<S>@proxy:3128",
        "consul kv get -token=<S> x",
        "--token <S>",
        "-http-password <S>",
        '"encrypt": "<S>"',
        "gossip_key: <S>",
        "--log-opt splunk-token=<S>",
        f"{BEGIN}\n<S>\n{END}",
        f"{BEGIN}\n<S>\n<S>",
        f'"key": "{BEGIN}\\n<S>\\n{END}\\n"',
        "-----BEGIN OPENSSH PRIVATE " + "KEY-----\n<S>\n-----END OPENSSH PRIVATE " + "KEY-----",
    ],
)
def test_what_looks_like_a_secret_is_taken_out(text: str) -> None:
    shown = Redactor()(f"first\n{text}\nlast".replace("<S>", "hUnt3r-2wx"))
    assert "hUnt3r" not in shown
    assert "REMOVED" in shown
    assert shown.startswith("first\n")


@pytest.mark.parametrize(
    "text",
    [
        '"kv.keyfile": "/etc/docker/key.pem"',
        "ExecStart=/usr/bin/dockerd -H fd://",
        "-A DOCKER_OUTPUT -d 127.0.0.11/32 -p udp -m udp --dport 53 -j DNAT --to-destination 127.0.0.11:53413",
        "net.ipv4.ip_forward = 1",
        '"cluster-store": "consul://127.0.0.1:8500"',
        "link/ether 02:42:0a:64:01:03 brd ff:ff:ff:ff:ff:ff",
        '"tokens": {"a": 1}',
        "the author of it: somebody",
        "https://docs.docker.com/ and a@b.c",
        "-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----",
        "encrypted: true",
    ],
)
def test_what_is_no_secret_stays(text: str) -> None:
    assert Redactor()(text) == text


def test_json_stays_json() -> None:
    found: dict[str, Any] = {
        "password": "a b",
        "log-opts": {"splunk-token": "x"},
        "list": ["http://u:p@h"],
        "token": None,
        "secrets": {"a": []},
    }
    assert json.loads(Redactor()(json.dumps(found)))["log-opts"] == {"splunk-token": "REMOVED"}


def test_secrets_are_known_by_where_they_are() -> None:
    pairs = [
        ("HTTP_PROXY", "http://me:p%40ssword@x:1"),
        ("PATH", "/usr/bin"),
        ("DB_PASSWORD", "pw123456"),
        ("KEY_FILE", "/x"),
    ]
    assert of_environment(pairs) == ["p%40ssword", "p@ssword", "me:p%40ssword", "me:p@ssword", "pw123456"]
    assert passwords("http://x:1") == passwords("http://[x@") == []
    assert key_lines(PEM) == key_lines(json.dumps(PEM)) == KEY_LINES
    found = {
        "a": GOSSIP,
        "b": [TOKEN, "deny"],
        "path": "/etc/some/where/else",
        "ca": "-----BEGIN CERTIFICATE-----\nx",
        "n": 1,
        "key": PEM,
    }
    assert of_json(found) == [GOSSIP, TOKEN, *KEY_LINES]
    assert all(len(text) >= 6 for text in forms("sixsix"))


def test_what_is_too_large_is_cut_and_says_so() -> None:
    assert cut("short", 10, True) == ("short", False)
    assert cut("0123456789", 4, True) == ("[cut: 6 of 10 bytes are left out here]\n6789", True)
    assert cut("0123456789", 4, False) == ("0123\n[cut: 6 of 10 bytes are left out here]\n", True)
    assert cut("ääää", 3, False)[0].startswith("ä\n[cut: 5 of 8")


# -- a host


class Engine:
    """An engine with one container, which was given secrets; it refuses to be asked for a list of networks."""

    def get(self, path: str, query: Any = None) -> Any:
        assert path != "/networks"
        if path == "/version":
            raise DockerError("it hangs")
        rows = {
            "Id": "c",
            "Names": ["/web"],
            "Command": "run --pw hidden1",
            "Labels": {"l": "hidden2"},
            "Env": ["hidden3"],
        }
        rows["NetworkSettings"] = {"Networks": {"shop": {"NetworkID": "n1"}}}
        return {"/containers/json": [rows], "/info": {"HttpProxy": "http://u:hidden4@x:1", "Name": "node1"}}.get(
            path, {"Name": path}
        )


def lay_out(root: Path) -> Reader:
    """A host whose secrets are everywhere."""
    files = {
        "etc/multihost-overlay/secrets.json": json.dumps({"gossip_key": GOSSIP, "ca_key": PEM, "seed": "5eed" * 16}),
        "etc/multihost-overlay/dockerd.env": f"CONSUL_HTTP_TOKEN={TOKEN}\n",
        "etc/multihost-overlay/tls/docker.key": PEM,
        "etc/docker/daemon.json": json.dumps({"cluster-store-opts": {"kv.path": TOKEN}, "debug": True}),
        "var/lib/multihost-overlay/manifest.json": json.dumps(
            {"before": base64.b64encode(f"x{GOSSIP}".encode()).decode()}
        ),
        "proc/sys/net/ipv4/ip_forward": "1\n",
    }
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    outputs = {
        "units.txt": f"Environment=X={quote(GOSSIP, safe='')}\n",
        "journal-docker.txt": f"says {TOKEN} and {KEY_LINES[0]}\n" + "x" * 300_000 + f"\n{TOKEN} last\n",
        "iptables.txt": f"# {'5eed' * 16}\n",
    }
    known = {" ".join(_support_host.PROGRAMS[name]): text for name, text in outputs.items()}
    return Reader(
        str(root),
        lambda argv: (0, known[" ".join(argv)], "") if " ".join(argv) in known else (127, "", f"no {argv[0]}, {TOKEN}"),
    )


def test_nothing_secret_is_gathered(tmp_path: Path) -> None:
    found = _support_host.gather(lay_out(tmp_path), Engine(), ["given-by-hand"])
    text = json.dumps(found)
    for secret in (TOKEN, GOSSIP, *KEY_LINES, "5eed" * 16, "hidden1", "hidden2", "hidden3", "hidden4"):
        assert not any(form in text for form in forms(secret)), secret
    assert json.loads(found["files"]["daemon.json"])["debug"] is True
    assert found["files"]["sysctl.txt"] == "net.ipv4.ip_forward = 1\n"
    assert json.loads(found["files"]["docker-containers.json"])[0]["Names"] == ["/web"]
    assert [row["Name"] for row in json.loads(found["files"]["docker-networks.json"])] == [
        "/networks/bridge", "/networks/docker_gwbridge", "/networks/n1"
    ]  # fmt: skip
    assert not any("secrets.json" in name or name.endswith(".key") for name in found["files"])
    assert found["missing"]["docker-version.json"] == "it hangs"
    assert found["missing"]["nftables.txt"].startswith("nft: no nft, REMOVED")


def test_a_host_has_an_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = _support_host.gather(lay_out(tmp_path), Engine())
    assert found["cut"] == ["journal-docker.txt"]
    assert found["files"]["journal-docker.txt"].endswith("REMOVED last\n")
    assert len(found["files"]["journal-docker.txt"]) < _support_host.MOST_OF_A_FILE + 100
    monkeypatch.setattr(_support_host, "MOST_OF_A_HOST", 300)
    small = _support_host.gather(lay_out(tmp_path), Engine())
    assert sum(len(text) for text in small["files"].values()) < 300 + 60 * len(small["files"])
    assert "journal-docker.txt" in small["cut"]


def test_the_module_gathers(
    run_module: Callable[..., dict[str, Any]], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(host_support, "Reader", lambda: lay_out(tmp_path))
    monkeypatch.setattr(host_support, "patient_client", Engine)
    said = run_module(host_support.main, {"secrets": ["/networks/n1"]}, check=True)
    assert said["changed"] is False
    assert "/networks/n1" not in json.dumps(said)


# -- the archive


def test_the_archive(tmp_path: Path) -> None:
    (tmp_path / "doctor.json").write_text('{"findings": [], "token": "hUnt3r-2wx"}')
    gone = {"unreachable": True, "msg": "no route to it"}
    supports: dict[str, Any] = {
        "node1": {"files": {"a.txt": "A"}, "cut": ["a.txt"], "missing": {"b.txt": "no b"}},
        "../evil": gone,
    }
    doctors: dict[str, Any] = {"node1": {"findings": [], "facts": {"x": "given-by-hand"}}, "../evil": gone}
    path, notes = _bundle.bundle(supports, doctors, str(tmp_path), ["given-by-hand"])
    assert path == str(tmp_path / "doctor.tar.gz")
    assert Path(path).stat().st_mode & 0o777 == 0o600
    with tarfile.open(path) as archive:
        found = {member.name: archive.extractfile(member) for member in archive}
        texts = {name: stream.read().decode() for name, stream in found.items() if stream}
    assert sorted(texts) == [
        f"overlay-doctor/{name}"
        for name in (
            "NOTES.txt", "controller/doctor.json", "controller/versions.json", "hosts/.._evil/host_doctor.json",
            "hosts/node1/a.txt", "hosts/node1/host_doctor.json",
        )
    ]  # fmt: skip
    assert "given-by-hand" not in str(texts)
    assert "hUnt3r" not in str(texts)
    assert notes == ["node1: a.txt is cut", "node1: no b.txt: no b", "../evil: nothing was gathered: no route to it"]
    assert set(json.loads(texts["overlay-doctor/controller/versions.json"])) == {
        "multihost.overlay",
        "ansible-core",
        "python",
        "system",
    }
