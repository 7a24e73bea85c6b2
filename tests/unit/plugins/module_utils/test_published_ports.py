# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What stands in for Docker's rules while dockerd is restarted."""

from __future__ import annotations

import pytest

from ansible_collections.multihost.overlay.plugins.module_utils import _published_ports as ports

# As Docker 20.10.5 and iptables 1.8.7 show them.
RULES = """-N DOCKER
-A DOCKER -i docker_gwbridge -j RETURN
-A DOCKER ! -i docker_gwbridge -p tcp -m tcp --dport 18080 -j DNAT --to-destination 172.18.0.3:8080
-A DOCKER -d 10.88.0.11/32 ! -i docker0 -p udp -m udp --dport 53 -j DNAT --to-destination 172.17.0.2:53
-A DOCKER ! -i docker0 -p sctp -m sctp --dport 9 -j DNAT --to-destination 172.17.0.2:9
"""


class Programs:
    """Answers as programs do, and keeps what was asked."""

    def __init__(self, rules: str, status: int = 0) -> None:
        self.rules, self.status, self.loaded = rules, status, list[str]()

    def __call__(self, argv: list[str], stdin: str = "") -> tuple[int, str, str]:
        if argv[0] == "iptables":
            return self.status, self.rules, ""
        self.loaded.append(stdin)
        return 0, "", ""


def test_rules_are_read() -> None:
    assert ports.published(RULES) == [
        ("tcp", "", 18080, "docker_gwbridge", "172.18.0.3:8080"),
        ("udp", "10.88.0.11", 53, "docker0", "172.17.0.2:53"),
    ]


def test_each_rule_holds_as_long_as_the_kernel_remembers_its_port() -> None:
    text = ports.ruleset(ports.published(RULES), 120.0)
    assert "elements = { 18080 timeout 120s };" in text
    rule = "tcp dport @kept_tcp tcp dport 18080 dnat to 172.18.0.3:8080"
    assert f'iifname != "docker_gwbridge" fib daddr type local {rule}' in text
    assert f"ip daddr != 127.0.0.0/8 fib daddr type local {rule}" in text
    assert 'iifname != "docker0" ip daddr 10.88.0.11 udp' in text


def test_it_goes_whatever_happens() -> None:
    run = Programs(RULES)
    standing = ports.kept(60, run)
    standing.__enter__()
    assert "dnat to" in run.loaded[-1]
    failure = ValueError("dockerd")
    assert standing.__exit__(ValueError, failure, None) is not True
    assert run.loaded[-1] == ports.removal()


@pytest.mark.parametrize("run", [Programs("-N DOCKER\n"), Programs("", status=1)])
def test_without_published_ports_nothing_is_loaded(run: Programs) -> None:
    with ports.kept(60, run):
        pass
    assert run.loaded == []
