# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Claims, the choice of probes and addresses, and the report."""

from __future__ import annotations

import ipaddress
from typing import Any

import pytest

from ansible_collections.multihost.overlay.plugins.module_utils import _ping_checks as checks
from ansible_collections.multihost.overlay.plugins.module_utils import _ping_claims as claims
from ansible_collections.multihost.overlay.plugins.module_utils import _ping_plan as plan
from ansible_collections.multihost.overlay.plugins.module_utils import _ping_report as report

IPAM = [{"subnet": "10.1.0.0/24", "ip_range": None, "reserved": ["10.1.0.1"]}]
HOSTS = ["a", "b", "c"]
TIMING = {
    "count": 10,
    "interval": 0.1,
    "patience": 10.0,
    "stop": 0.0,
    "start_wait": 60.0,
    "transport": True,
    "peers": 0,
    "rounds": 1,
    "streams": 0,
}


def container(name, state="running", address="", wanted="", labels=None, networks=("net",)):
    settings = {"IPAddress": address, "NetworkID": "n1", "IPAMConfig": {"IPv4Address": wanted} if wanted else None}
    return {
        "Id": name * 2,
        "Names": ["/" + name],
        "State": state,
        "Labels": labels or {},
        "Created": 1,
        "NetworkSettings": {"Networks": dict.fromkeys(networks, settings)},
    }


NETWORK = {
    "Id": "n1",
    "IPAM": {"Config": [{"Subnet": "10.1.0.0/24", "Gateway": "10.1.0.1/24", "AuxiliaryAddresses": {"x": "10.1.0.5"}}]},
    "Containers": {"ep-1": {"IPv4Address": "10.1.0.77/24"}},
}


def test_stopped_containers_and_foreign_endpoints_claim_their_addresses():
    view = claims.read_network(
        "net", NETWORK, [container("s", "exited", wanted="10.1.0.254"), container("o", "exited")]
    )
    assert view["claims"] == ["10.1.0.254", "10.1.0.77"]
    assert view["running"] == []
    assert view["ipam"] == [{"subnet": "10.1.0.0/24", "ip_range": None, "reserved": ["10.1.0.1", "10.1.0.5"]}]


def test_container_that_never_ran_may_know_the_network_by_its_id():
    never = container("s", "created", wanted="10.1.0.9", networks=("n1",))
    never["NetworkSettings"]["Networks"]["n1"]["NetworkID"] = ""
    assert "10.1.0.9" in claims.read_network("net", NETWORK, [never])["claims"]


def test_a_container_probes_a_network_that_its_engine_does_not_show():
    """With its store dead an engine knows no such network, and what runs there runs on."""
    view = claims.missing_network([container("u", address="10.1.0.2")], "net", "network net not found")
    assert [entry["address"] for entry in view["running"]] == ["10.1.0.2"]
    probes = make(started(a=view, b=view, c=claims.missing_network([], "net", "network net not found")))
    assert [probe.get("kind") or probe["how"] for probe in probes] == ["container", "container", "network_missing"]


@pytest.mark.parametrize(
    "unfit",
    [
        container("p", "paused", "10.1.0.2"),
        container("p", "restarting", "10.1.0.2"),
        container("p", address="10.1.0.2", labels={claims.LABEL: "x"}),
        container("p", address="10.1.0.2", networks=("other",)),
    ],
)
def test_only_running_containers_of_users_probe(unfit):
    unfit["NetworkSettings"]["Networks"].get("other", {})["NetworkID"] = "n2"
    assert claims.read_network("net", NETWORK, [unfit])["running"] == []


def view(claimed=(), running=(), ipam=None, error=None):
    return {
        "id": "n1",
        "ipam": IPAM if ipam is None else ipam,
        "claims": list(claimed),
        "running": list(running),
        "internal": False,
        "error": error,
    }


def started(**views):
    return {host: {"networks": {"net": value}, "engine_error": None} for host, value in views.items()}


def underlay(hosts):
    """The first host has its place at the top of IPAM's subnet, of which 253 addresses are usable; the others follow."""
    first = -(-int(ipaddress.IPv4Address("192.168.0.0")) // 126) * 126
    return {host: str(ipaddress.IPv4Address(first + place)) for place, host in enumerate(hosts)}


def make(results, hosts=None):
    return plan.make_plan({"id": "0123456789abcdef"}, underlay(hosts or HOSTS), ["net"], results, TIMING)["probes"][0]


def test_running_container_is_preferred_and_others_get_free_addresses_from_the_top():
    running = {"id": "1", "name": "u", "address": "10.1.0.2", "networks": 1, "created": 1}
    probes = make(started(a=view(running=[running]), b=view(["10.1.0.2"]), c=view()))
    assert probes[0]["how"] == "container"
    assert [probe["address"] for probe in probes[1:]] == ["10.1.0.253", "10.1.0.252"]
    assert len({probe["name"] for probe in probes}) == 3


def test_claim_of_another_host_moves_only_the_host_concerned():
    probes = make(started(a=view(), b=view(), c=view(["10.1.0.254"])))
    assert [probe["address"] for probe in probes] == ["10.1.0.251", "10.1.0.253", "10.1.0.252"]


def test_address_stays_when_hosts_are_added_before_and_between():
    few = make(started(a=view(), b=view(), c=view()))
    more = {"x": "192.168.7.1", **underlay(HOSTS), "y": "192.168.7.2"}
    views = started(**{host: view() for host in more})
    probes = plan.make_plan({"id": "0123456789abcdef"}, more, ["net"], views, TIMING)["probes"][0]
    assert [probe["address"] for probe in probes[1:4]] == [probe["address"] for probe in few]
    assert len({probe["address"] for probe in probes}) == 5


def test_addresses_stay_in_the_range_and_off_gateway_and_reserved():
    small = [{"subnet": "10.1.0.0/24", "ip_range": "10.1.0.0/29", "reserved": ["10.1.0.6"]}]
    probes = make(started(a=view(["10.1.0.7"], ipam=small), b=view(ipam=small), c=view(ipam=small)))
    assert {probe["address"] for probe in probes} <= {"10.1.0.2", "10.1.0.3", "10.1.0.4", "10.1.0.5"}
    assert len({probe["address"] for probe in probes}) == 3


def test_full_subnet_is_a_failed_endpoint_and_no_crash():
    tiny = [{"subnet": "10.1.0.0/30", "ip_range": None, "reserved": ["10.1.0.1"]}]
    probes = make(started(a=view(ipam=tiny), b=view(ipam=tiny), c=view(ipam=tiny)))
    assert [probe.get("kind") for probe in probes] == [None, "endpoint_failed", "endpoint_failed"]


def test_every_host_has_a_place_whatever_became_of_it():
    results = {
        "a": {"unreachable": True, "msg": "no route"},
        "b": {"networks": {}, "engine_error": "the Docker engine does not answer"},
    }
    assert [probe["kind"] for probe in make(results)] == ["host_unreachable", "engine_down", "host_unreachable"]
    assert make({"a": {"msg": "sudo"}, **started(b=view(), c=view(ipam=[], error="no such network"))})[0]["kind"] == (
        "not_measured"
    )
    nowhere = started(a=view(ipam=[], error="gone"), b=view(ipam=[]), c=view(ipam=[]))
    assert [probe["kind"] for probe in make(nowhere)] == ["network_missing"] * 3


def test_where_hosts_start_in_rounds_all_give_up_at_the_same_moment():
    stop = plan.stop(7.5, 30, 2, TIMING)
    assert stop == 15 * plan.ROUND + 10.0
    assert plan.stop(90.0, 30, 2, TIMING) > stop
    # One host that hung in the first task does not make all wait five times as long.
    assert plan.stop(120.0, 6, 5, TIMING) == 2 * TIMING["start_wait"] + 10.0
    timing = {**TIMING, "stop": stop}
    early, late = plan.waits(timing, 0.0), plan.waits(timing, 20.0)
    assert early[0] - late[0] == 20.0
    assert plan.waits(timing, 1000.0)[0] == TIMING["patience"]


def test_results_are_waited_for_only_where_all_hosts_probe_at_the_same_time():
    """As long as they were apart in the first task, and the series."""
    timing = {"stop": 0.0, "count": 10, "interval": 0.05, "rounds": 1, "streams": 0}
    assert plan.soon(2.0, timing) == 2.0 + 0.5 + plan.GRACE
    assert [plan.soon(2.0, {**timing, key: 2}) for key in ("stop", "rounds", "streams")] == [0.0, 0.0, 0.0]


def test_where_all_are_told_at_once_nothing_is_given_up_before():
    assert plan.stop(5.0, 30, 30, TIMING) == 0.0
    silent, last = plan.waits({**TIMING, "stop": 0.0}, 0.0)
    assert silent == 2 * TIMING["start_wait"] + TIMING["patience"]
    assert last > TIMING["start_wait"] + silent + plan.round_seconds(TIMING)
    assert plan.waits({**TIMING, "rounds": 100}, 0.0)[1] > last + 99 * plan.round_seconds(TIMING)


def test_the_spare_address_is_nobody_else_s():
    probes = make(started(a=view(), b=view(), c=view()))
    assert len({probe[key] for probe in probes for key in ("address", "spare")}) == 6


def answered(**others):
    return {"ok": True, "kind": None, "addresses": ["x"], "error": None, **others}


NO_NAME = {"ok": False, "kind": "failed", "addresses": [], "error": "refused"}


def book(replied=10, series=10, full=True, name=None, sent=10, **others):
    return {
        "sent": sent,
        "replied": replied,
        "rtt": [0.1, 0.2, 0.4, 0.15, 0.3] if replied else None,
        "full_replied": bool(replied) and full,
        "largest_replied": None if full else 1200,
        "datagrams": 2,
        "datagram_replied": bool(replied),
        "tcp": {"ok": True if replied else None, "error": None, "rate": None},
        "stream": None,
        "heard": {
            "any": bool(series),
            "series": series,
            "largest": (1450 if full else 1200) if series else 0,
            "datagram": bool(series),
        },
        "name": name or answered(),
        "alias": answered(),
        "wire": None,
        "send_error": None,
        **others,
    }


def world(hosts=("a", "b", "c"), timing=None, **books):
    hosts = list(hosts)
    results = started(**{host: view() for host in hosts})
    planned = plan.make_plan(
        {"id": "0123456789abcdef"}, underlay(hosts), ["net"], results, {**TIMING, **(timing or {})}
    )
    collected = {}
    for host in hosts:
        peers = {peer: [books.get(f"{host}_{peer}", book())] for peer in hosts if peer != host}
        net: Any = {"kind": None, "error": None, "mtu": 1450, "sees": True, "peers": peers, "asides": [], "leaks": []}
        networks = {"net": net}
        collected[host] = {"networks": networks, "errors": [], "agent_died": False, "egress": []}
    return planned, results, {host: {} for host in hosts}, collected


def measured(parts, host):
    """What a host wrote down about the network."""
    return parts[3][host]["networks"]["net"]


def books_of(parts: Any, max_loss: float = 0.0) -> report.Books:
    return report.Books(parts[0], parts[1], parts[2], parts[3], max_loss)


def rows_of(parts, max_loss=0.0):
    return {(row["from"], row["to"]): row for row in report.make_rows(books_of(parts, max_loss))}


def failed(rows):
    return {pair: row["kind"] for pair, row in rows.items() if not row["ok"]}


def test_all_good():
    rows = rows_of(world())
    assert len(rows) == 6
    assert failed(rows) == {}
    assert rows["a", "b"]["rtt_ms"] == {"min": 0.1, "avg": 0.2, "max": 0.4, "p50": 0.15, "p99": 0.3}
    shown = {name: rows["a", "b"][name] for name in ("path_mtu", "udp_ok", "tcp_ok", "alias_ok", "bits_per_second")}
    assert shown == {"path_mtu": 1450, "udp_ok": True, "tcp_ok": True, "alias_ok": True, "bits_per_second": None}


def test_one_dropped_direction_fails_exactly_one_pair():
    rows = rows_of(world(a_b=book(replied=0, series=10), b_a=book(replied=0, series=0)))
    assert failed(rows) == {("a", "b"): "no_answer"}
    assert "from a arrived at b" in rows["a", "b"]["error"]
    assert rows["a", "b"]["loss"] == 1.0
    assert rows["b", "a"]["loss"] == 0.0
    assert rows["b", "a"]["rtt_ms"] == dict.fromkeys(("min", "avg", "max", "p50", "p99"))


def test_broken_dns_fails_the_names_asked_there_and_nothing_else():
    rows = rows_of(world(b_a=book(name=NO_NAME), b_c=book(name=NO_NAME)))
    assert failed(rows) == {("b", "a"): "name_failed", ("b", "c"): "name_failed"}
    assert rows["b", "a"]["address_ok"]


def test_loss_is_a_fraction_and_may_be_allowed():
    parts = world(a_b=book(replied=9), b_a=book(series=9))
    assert rows_of(parts)["a", "b"]["loss"] == 0.1
    assert failed(rows_of(parts)) == {("a", "b"): "loss"}
    assert failed(rows_of(parts, 0.1)) == {}


def test_full_size_packets_are_judged_by_direction():
    parts = world(a_b=book(full=False), b_a=book(full=False))
    measured(parts, "a")["peers"]["b"][0]["heard"]["largest"] = 1450
    rows = rows_of(parts)
    assert failed(rows) == {("a", "b"): "mtu"}
    assert (rows["a", "b"]["path_mtu"], rows["b", "a"]["path_mtu"]) == (1200, 1450)
    assert "packets of 1200 bytes pass but not those of 1450" in rows["a", "b"]["error"]


def test_datagrams_and_connections_that_fail_are_kinds_of_their_own():
    no_udp = book(datagram_replied=False)
    deaf = dict(book()["heard"], datagram=False)
    rows = rows_of(world(a_b=no_udp, b_a=book(heard=deaf)))
    assert failed(rows) == {("a", "b"): "udp"}
    rows = rows_of(world(a_b=book(tcp={"ok": False, "error": "Connection refused", "rate": None})))
    assert failed(rows) == {("a", "b"): "tcp"}
    assert "Connection refused" in rows["a", "b"]["error"]


def test_a_connection_that_fails_over_a_path_that_loses_blames_nobody_else():
    """Packets from b to a are lost, which a connection from a to b needs as well."""
    no_tcp = {"ok": False, "error": "no answer within 10 s", "rate": None}
    rows = rows_of(world(a_b=book(replied=6, series=6, tcp=no_tcp), b_a=book(replied=6)))
    assert failed(rows) == {("b", "a"): "loss"}
    assert rows["a", "b"]["tcp_ok"] is False


def test_two_sizes_of_a_network_fail_the_direction_that_sends_too_much():
    parts = world(("a", "b"), a_b=book(full=False), b_a=book())
    measured(parts, "b")["mtu"] = 1400
    measured(parts, "b")["peers"]["a"][0]["heard"]["largest"] = 1400
    measured(parts, "a")["peers"]["b"][0]["heard"]["largest"] = 1400
    rows = rows_of(parts)
    assert failed(rows) == {("a", "b"): "mtu"}
    assert "the MTU is 1450 at a but 1400 at b" in rows["a", "b"]["error"]
    assert rows["a", "b"]["path_mtu"] == rows["b", "a"]["path_mtu"] == 1400


def test_an_alias_that_is_not_known_is_said():
    rows = rows_of(world(b_a=book(alias=NO_NAME), b_c=book(alias=dict(NO_NAME, kind="wrong", addresses=["10.9.9.9"]))))
    assert failed(rows) == {("b", "a"): "alias_failed", ("b", "c"): "alias_wrong"}
    assert "-alias" in rows["b", "a"]["error"]
    assert rows_of(world(b_a=book(alias=None)))["b", "a"]["ok"]


@pytest.mark.parametrize(
    ("left", "arrived", "words"),
    [
        (0, 0, "none left a"),
        (9, 0, "9 left a and none came to b"),
        (9, 9, "9 came to b's interface and were dropped there"),
    ],
)
def test_counters_tell_on_which_side_packets_vanish(left, arrived, words):
    out, back = {"left": left, "arrived": 9}, {"left": 9, "arrived": arrived}
    parts = world(a_b=book(replied=0, wire=out), b_a=book(replied=0, series=0, wire=back))
    rows = rows_of(parts)
    assert failed(rows) == {("a", "b"): "no_answer"}
    assert words in rows["a", "b"]["error"]
    assert rows["a", "b"]["wire"] == {"left": left, "arrived": arrived}


def test_counters_prove_nothing_where_no_host_sees_the_network():
    """As with an encrypted underlay. Who alone saw nothing sent and got nothing."""
    none = {"left": 0, "arrived": 0}
    parts = world(a_b=book(replied=0, series=0, wire=none), b_a=book(replied=0, series=0, wire=none))
    for seeing in "abc":
        for host in "abc":
            measured(parts, host)["sees"] = host == seeing
        assert rows_of(parts)["a", "b"]["wire"] == none
        assert "none left a" in rows_of(parts)["a", "b"]["error"]
    measured(parts, "c")["sees"] = False
    rows = rows_of(parts)
    assert rows["a", "b"]["wire"] is None
    assert "check udp/4789" in rows["a", "b"]["error"]


def test_a_sample_has_the_pairs_of_partners_only():
    hosts = [f"h{place}" for place in range(12)]
    rows = rows_of(world(hosts, {"peers": 3}))
    assert 3 * 12 <= len(rows) < 12 * 11
    assert failed(rows) == {}
    assert all((target, source) in rows for source, target in rows)


def test_a_pair_that_failed_in_any_round_has_failed():
    good, bad = report.make_rows(books_of(world())), report.make_rows(books_of(world(a_b=book(name=NO_NAME))))
    merged = report.merge_rounds([good, bad, good])
    assert [(row["from"], row["to"], row["rounds"]) for row in merged if not row["ok"]] == [
        ("a", "b", {"count": 3, "failed": 1})
    ]
    assert "rounds" not in report.merge_rounds([good])[0]


def test_of_a_pair_that_is_dead_there_are_fewer_rounds():
    parts = world(a_b=book(replied=0, series=0), b_a=book(replied=0, series=0))
    for host in "abc":
        for peer, books in measured(parts, host)["peers"].items():
            books.extend([book()] * (0 if {host, peer} == {"a", "b"} else 2))
    rounds = [report.make_rows(report.Books(parts[0], parts[1], parts[2], parts[3], 0.0, turn)) for turn in range(3)]
    merged = {(row["from"], row["to"]): (row["ok"], row["rounds"]["count"]) for row in report.merge_rounds(rounds)}
    assert merged.pop(("a", "b")) == merged.pop(("b", "a")) == (False, 1)
    assert set(merged.values()) == {(True, 3)}


def test_host_that_died_has_all_its_rows():
    parts = world()
    del parts[3]["b"]
    rows = rows_of(parts)
    assert len(rows) == 6
    assert set(failed(rows)) == {pair for pair in rows if "b" in pair}
    assert rows["a", "b"]["kind"] == "host_unreachable"
    assert rows["a", "b"]["address_ok"] is None


def test_dead_agent_fails_what_it_should_have_sent_and_its_peers_echoes_still_count():
    parts = world()
    parts[3]["b"] = {"networks": {}, "errors": [], "agent_died": True}
    assert failed(rows_of(parts)) == {("b", "a"): "agent_died", ("b", "c"): "agent_died"}
    measured(parts, "a")["peers"]["b"] = [book(replied=0, series=0)]
    assert rows_of(parts)["a", "b"]["kind"] == "agent_died"
    assert rows_of(parts)["a", "b"]["address_ok"] is None


def test_failed_endpoint_names_its_host():
    parts = world()
    parts[3]["c"]["networks"]["net"] = {"kind": "endpoint_failed", "error": "no space", "mtu": None, "peers": {}}
    rows = rows_of(parts)
    assert set(failed(rows)) == {pair for pair in rows if "c" in pair}
    assert rows["a", "c"]["error"] == "c: no space"


def test_two_networks_by_one_name_are_told():
    parts = world(a_b=book(replied=0, series=0), b_a=book(replied=0, series=0))
    parts[1]["b"]["networks"]["net"]["id"] = "n2"
    assert "different network" in rows_of(parts)["a", "b"]["error"]


def test_echoes_of_another_network_of_the_same_name_prove_nothing():
    """Each host has a container of the same address and name, which answers its own host."""
    parts = world(("a", "b"), a_b=book(replied=10, series=0), b_a=book(replied=10, series=0))
    parts[1]["b"]["networks"]["net"]["id"] = "n2"
    rows = rows_of(parts)
    assert failed(rows) == {("a", "b"): "no_answer", ("b", "a"): "no_answer"}
    assert "different network" in rows["a", "b"]["error"]
    assert {(row["address_ok"], row["mtu_ok"], row["loss"]) for row in rows.values()} == {(False, False, 1.0)}


def test_echoes_of_which_the_receiver_s_agent_knows_nothing_prove_nothing():
    silent = {"any": False, "series": 0}
    parts = world(a_b=book(replied=10))
    measured(parts, "b")["peers"]["a"][0]["heard"] = silent
    rows = rows_of(parts)
    assert failed(rows) == {("a", "b"): "address_taken"}
    assert "another container has the address" in rows["a", "b"]["error"]


def test_threads_astray_explain_a_name():
    parts = world(b_a=book(name=NO_NAME))
    parts[3]["b"]["strays"] = {"before": 2, "after": 0}
    assert "restart docker" in rows_of(parts)["b", "a"]["error"]


def test_failures_are_named_but_not_without_end():
    hosts = [f"n{place}" for place in range(6)]
    parts = world(hosts)
    rows = report.make_rows(report.Books(parts[0], parts[1], parts[2], {}, 0.0))
    text = report.failure_text(report.make_report(parts[0], rows, [], 1.0), "/r/verify.json")
    assert "30 of 30 pairs failed" in text
    assert "and 10 more" in text


def two_networks(asides, leaks=(), heard=True, egress=()):
    """Host a tries things from net; b is where they lead."""
    parts: Any = world()
    parts[0].update(networks=["net", "other"], apart=[0, 1])
    parts[0]["probes"].append(parts[0]["probes"][0])
    measured(parts, "a")["asides"] = asides
    if not heard:
        measured(parts, "b")["peers"]["a"][0]["heard"]["any"] = False
    other: Any = {"kind": None, "error": None, "mtu": 1450, "sees": True, "peers": {}, "asides": []}
    parts[3]["b"]["networks"]["other"] = {**other, "leaks": list(leaks)}
    parts[3]["b"]["egress"] = list(egress)
    return [(row["check"], row["from"], row["to"], row["ok"]) for row in checks.make_checks(books_of(parts))]


def aside(check, to, replied=0, error=None):
    return {"check": check, "via": "outward", "to": to, "sent": 5, "replied": replied, "error": error}


def test_one_answer_from_outside_or_one_packet_seen_there_is_a_way_out():
    tried = [aside("egress", "b"), aside("egress", "c")]
    assert two_networks(tried) == [("egress", "a", "b, c", False)]
    assert two_networks([tried[0], aside("egress", "c", replied=1)]) == [("egress", "a", "b, c", True)]
    assert two_networks(tried, egress=[["net", "a"]]) == [("egress", "a", "b, c", True)]


def test_of_hosts_that_are_lost_no_answer_is_to_be_had():
    parts = world(("a", "b"))
    measured(parts, "a")["asides"] = [aside("egress", "b")]
    assert [row["ok"] for row in checks.make_checks(books_of(parts))] == [False]
    del parts[3]["b"]
    assert [row["ok"] for row in checks.make_checks(books_of(parts))] == [None]


def test_networks_are_apart_unless_somebody_was_heard():
    tried = [aside("isolation", "other"), aside("isolation", "other")]
    assert two_networks(tried) == [("isolation", "a", "other", True)]
    assert two_networks(tried, leaks=[["net", "a"]]) == [("isolation", "a", "other", False)]
    # Who has not met the other may have left before it tried.
    assert two_networks(tried, heard=False) == [("isolation", "a", "other", None)]


def test_containers_on_one_host_are_listed_apart():
    assert two_networks([aside("same_host", "web", replied=1)]) == [("same_host", "a", "web", True)]
    assert two_networks([aside("same_host", "web")]) == [("same_host", "a", "web", False)]


def test_a_check_that_failed_in_any_round_has_failed():
    rows = [checks._check("egress", "net", "a", "b", ok, "words") for ok in (True, False, True)]
    assert [row["ok"] for row in checks.merge_checks([[row] for row in rows])] == [False]


def test_for_each_network_there_is_a_probe_that_is_on_no_other():
    def made(**views):
        results = {host: {"networks": nets, "engine_error": None} for host, nets in views.items()}
        timing = {**TIMING, "stop": 0.0}
        return plan.make_plan({"id": "0123456789abcdef"}, underlay(list(views)), ["one", "two"], results, timing)

    running = {"id": "1", "name": "u", "address": "10.1.0.2", "networks": 1, "created": 1}
    fresh = made(a={"one": view(), "two": view()}, b={"one": view(), "two": view()})
    assert fresh["apart"] == [0, 0]
    assert len({row[0]["name"] for row in fresh["probes"]}) == 2
    assert len({row[1]["name"] for row in fresh["probes"]}) == 1
    assert [row[1]["networks"] for row in fresh["probes"]] == [2, 2]
    used = made(a={"one": view(), "two": view()}, b={"one": view(running=[running]), "two": view(running=[running])})
    assert used["apart"] == [1, 1]
    assert len({row[0]["name"] for row in used["probes"]}) == 1
