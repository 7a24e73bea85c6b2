# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""From all hosts' books to one row for each expected pair, and to words. Runs on the controller. No I/O."""

from __future__ import annotations

from typing import Any, Dict, List

from ansible_collections.multihost.overlay.plugins.module_utils._ping_plan import host_problem
from ansible_collections.multihost.overlay.plugins.module_utils._ping_sample import partners

Json = Dict[str, Any]

SCHEMA_VERSION = 1
NAMED_PAIRS = 20
# The order in which an agent's book has its times.
TIMES = ("min", "avg", "max", "p50", "p99")


def _row(network: str, source: str, target: str) -> Json:
    return {
        "network": network,
        "from": source,
        "to": target,
        "ok": False,
        "address_ok": None,
        "name_ok": None,
        "alias_ok": None,
        "mtu_ok": None,
        "path_mtu": None,
        "udp_ok": None,
        "tcp_ok": None,
        "bits_per_second": None,
        "wire": None,
        "loss": None,
        "rtt_ms": dict.fromkeys(TIMES),
        "kind": None,
        "error": None,
    }


def _late_problem(started: Json | None, probed: Json | None, collected: Json | None) -> Json | None:
    """Why a host has no result though it took part in the first task."""
    early = host_problem(started)
    if early:
        return early
    for result in (probed, collected):
        if result is None or result.get("unreachable"):
            words = (result or {}).get("msg") or "it was lost during the run"
            return {"kind": "host_unreachable", "error": str(words).strip()}
    if (collected or {}).get("agent_died", True):
        errors = "; ".join((collected or {}).get("errors", []))
        words = (probed or {}).get("msg") or (collected or {}).get("msg") or errors
        return {"kind": "agent_died", "error": f"its agent ended without a result. {words}".strip()}
    return None


class Books:
    """What every host did, by the inventory's names."""

    def __init__(
        self, plan: Json, started: Json, probed: Json, collected: Json, max_loss: float, turn: int = 0
    ) -> None:
        self.plan = plan
        self.turn = turn
        self.hosts: List[str] = plan["hosts"]
        self.max_loss = max_loss
        self.started = started
        self.collected = collected
        # Networks whose packets can be seen on the hosts' interfaces: somebody saw some. Who saw none himself then sent and got none.
        self.plain = {
            name for host in self.hosts for name, result in self.measured(host).items() if result.get("sees", False)
        }
        self.lost = {
            host: _late_problem(*(results.get(host) for results in (started, probed, collected))) for host in self.hosts
        }

    def problem(self, network: str, host: str) -> Json | None:
        """Why nothing was measured from this host on this network."""
        lost = self.lost[host]
        if lost:
            return lost
        planned = self.plan["probes"][self.plan["networks"].index(network)][self.hosts.index(host)]
        if planned["how"] == "none":
            return dict(planned)
        result = self.measured(host).get(network)
        if result is None:
            return {"kind": "not_measured", "error": "; ".join(self.collected[host]["errors"]) or "no result"}
        return {"kind": result["kind"], "error": result["error"]} if result["kind"] else None

    def measured(self, host: str) -> Json:
        """What a host wrote down, by network; empty when it could not."""
        return dict((self.collected.get(host) or {}).get("networks") or {})

    def mtu(self, network: str, host: str) -> int | None:
        """Of the host's probe on a network."""
        mtu: int | None = (self.measured(host).get(network) or {}).get("mtu")
        return mtu

    def book(self, network: str, host: str, peer: str) -> Json:
        """What a host wrote down about a peer in this round; empty when it could not."""
        rounds: List[Json] = ((self.measured(host).get(network) or {}).get("peers") or {}).get(peer) or []
        return dict(rounds[self.turn]) if self.turn < len(rounds) else {}

    def wire(self, network: str, source: str, target: str) -> Json | None:
        """How many packets left the source's host, and how many came to the target's. None where that cannot be seen, as where the
        network is encrypted.
        """
        out, back = (self.book(network, *ends).get("wire") for ends in ((source, target), (target, source)))
        if not out or not back or network not in self.plain:
            return None
        return {"left": out["left"], "arrived": back["arrived"]}

    def two_networks(self, network: str, source: str, target: str) -> bool:
        """Whether the two hosts mean different networks by one name."""
        ids = [self.started[host]["networks"][network]["id"] for host in (source, target)]
        return all(ids) and ids[0] != ids[1]


def _blocked(books: Books, row: Json) -> bool:
    """Fill in a row that could not be measured at all."""
    for host in (row["from"], row["to"]):
        found = books.problem(row["network"], host)
        # An agent that died says nothing of its host's network: echoes that its peers had from there still count.
        answered = books.book(row["network"], row["from"], row["to"]).get("replied")
        if found and not (found["kind"] == "agent_died" and host == row["to"] and answered):
            row.update(kind=found["kind"], error=f"{host}: {found['error']}")
            return True
    return False


def _words_wire(row: Json) -> str:
    """On which side of the path they vanish."""
    source, target, wire = row["from"], row["to"], row["wire"]
    if not wire:
        return "check udp/4789 and, for the engines, tcp and udp/7946 between them"
    if not wire["left"]:
        return f"none left {source}: its engine does not know where {target}'s container is, or a rule there drops them on their way out"
    if not wire["arrived"]:
        return f"{wire['left']} left {source} and none came to {target}: udp/4789 is dropped between the hosts"
    return f"{wire['arrived']} came to {target}'s interface and were dropped there: by a rule on udp/4789, or at the end of the tunnel"


def _words_no_answer(books: Books, row: Json, back: Json) -> str:
    network, source, target = row["network"], row["from"], row["to"]
    words = f"no packet from {source} arrived at {target}"
    if books.two_networks(network, source, target):
        return f"{words}: each has a different network called {network} (two stores, or one made by hand)"
    refused = f"; sending failed: {back['send_error']}" if back.get("send_error") else ""
    return f"{words}{refused}; {_words_wire(row)}"


def _words_taken(row: Json) -> str:
    network, source, target = row["network"], row["from"], row["to"]
    return (
        f"no packet from {source} arrived at {target}, but somebody answered: another container has the address of {target}'s, or "
        f"{target}'s agent was late; run again, then see docker network inspect {network} on all hosts"
    )


def _not_arrived(books: Books, row: Json, book: Json) -> tuple[str, str]:
    """Nobody has it, or somebody else."""
    if book["replied"] and not books.two_networks(row["network"], row["from"], row["to"]):
        return "address_taken", _words_taken(row)
    return "no_answer", _words_no_answer(books, row, book)


def _arrived(books: Books, row: Json, book: Json, heard: Json) -> int:
    """How many packets of the series arrived. Echoes count where the receiver's agent cannot tell; but where it heard nothing they came
    from somebody else who has its address, as in another network of the same name.
    """
    if books.two_networks(row["network"], row["from"], row["to"]):
        return 0
    echoes = int(book["replied"]) if heard.get("any", True) else 0
    return max(int(heard.get("series", 0)), echoes)


def _measure(books: Books, row: Json, book: Json, heard: Json) -> int:
    """Fill in what was measured; return how many packets of the series arrived."""
    arrived = _arrived(books, row, book, heard)
    row["loss"] = round(1 - min(arrived, book["sent"]) / book["sent"], 4) if book["sent"] else None
    row["address_ok"] = arrived > 0
    largest, full = max(heard.get("largest", 0), book["largest_replied"] or 0), books.mtu(row["network"], row["from"])
    row["mtu_ok"] = bool(arrived and full and (largest >= full or book["full_replied"]))
    if arrived:
        row["path_mtu"] = full if row["mtu_ok"] else largest or None
    row["name_ok"] = book["name"]["ok"]
    row["alias_ok"] = book["alias"]["ok"] if book["alias"] else None
    row["tcp_ok"] = book["tcp"]["ok"]
    row["udp_ok"] = bool(heard.get("datagram") or book["datagram_replied"]) if book["datagrams"] else None
    row["bits_per_second"] = (book["stream"] or {}).get("rate")
    row["wire"] = books.wire(row["network"], row["from"], row["to"])
    if book["rtt"]:
        row["rtt_ms"] = dict(zip(TIMES, book["rtt"]))
    return arrived


def _judge(books: Books, row: Json, book: Json, heard: Json) -> None:
    """Fill in a measured row: ``book`` is the sender's, ``heard`` what the receiver wrote down of the sender."""
    arrived = _measure(books, row, book, heard)
    faults = []
    if not book["sent"]:
        faults.append(("not_measured", f"{row['from']} was ended before it could measure"))
    elif not arrived:
        faults.append(_not_arrived(books, row, book))
    elif row["loss"] > books.max_loss:
        faults.append(("loss", f"{book['sent'] - arrived} of {book['sent']} packets were lost{_words_lost(row, book)}"))
    if arrived:
        faults += _faults_of_carriage(books, row, book)
    faults += _faults_of_names(books, row, book)
    if faults:
        row.update(kind=faults[0][0], error="; ".join(words for _kind, words in faults))
    row["ok"] = not faults


def _words_lost(row: Json, book: Json) -> str:
    """On which side, where the counters can tell: of lost packets some left, and did not come."""
    wire = row["wire"]
    if not wire or not book["sent"]:
        return ""
    if wire["arrived"] < wire["left"]:
        return (
            f": {wire['left'] - wire['arrived']} of {wire['left']} that left {row['from']} did not come to {row['to']}"
        )
    return f": all {wire['left']} that left {row['from']} came to {row['to']}'s interface, so they are lost at one of the hosts"


def _steady(books: Books, row: Json) -> bool:
    """Whether packets pass both ways without loss: else a connection that fails says nothing new, or nothing about this direction."""
    ends = [(row["from"], row["to"]), (row["to"], row["from"])]
    there, back = (books.book(row["network"], *pair) for pair in ends)
    lost = [
        book.get("sent", 1) - other.get("heard", {}).get("series", 0) for book, other in ((there, back), (back, there))
    ]
    return max(lost) <= books.max_loss * there["sent"]


def _faults_of_carriage(books: Books, row: Json, book: Json) -> List[tuple[str, str]]:
    """What does not pass though small echoes do."""
    faults = []
    if not row["mtu_ok"]:
        faults.append(("mtu", _words_mtu(books, row)))
    if row["udp_ok"] is False:
        faults.append(
            ("udp", f"echoes pass, but no datagram from {row['from']} arrived at {row['to']}: a rule drops UDP")
        )
    if row["tcp_ok"] is False and _steady(books, row):
        words = f"echoes pass, but no connection from {row['from']} to {row['to']}: {book['tcp']['error']}"
        faults.append(("tcp", words))
    return faults


def _faults_of_names(books: Books, row: Json, book: Json) -> List[tuple[str, str]]:
    planned = books.plan["probes"][books.plan["networks"].index(row["network"])][books.hosts.index(row["to"])]
    return [
        (f"{what}_{check['kind']}", _words_name(books, row, check, str(planned[what]), planned["address"]))
        for what, check in (("name", book["name"]), ("alias", book["alias"]))
        if check and not check["ok"]
    ]


def _words_mtu(books: Books, row: Json) -> str:
    sizes = [books.mtu(row["network"], host) for host in (row["from"], row["to"])]
    if None not in sizes and sizes[0] != sizes[1]:
        return f"the MTU is {sizes[0]} at {row['from']} but {sizes[1]} at {row['to']}: give the network one MTU"
    return (
        f"packets of {row['path_mtu']} bytes pass but not those of {sizes[0]}, the network's MTU: the underlay carries less than that "
        f"and 50 bytes of VXLAN; set a smaller mtu for the network, or a larger one for the underlay"
    )


def _words_name(books: Books, row: Json, check: Json, name: str, address: str) -> str:
    asker = row["from"]
    astray = ((books.collected.get(asker) or {}).get("strays") or {}).get("before")
    if check["addresses"]:
        return f"{asker}: the name {name} is {', '.join(check['addresses'])}, not {address}"
    words = f"{asker}: Docker's DNS does not know {name}: {check['error']}"
    if astray:
        return (
            f"{words}. Its dockerd has lost {astray} thread(s) in namespaces that are gone, and may have stopped watching the store: "
            "restart docker"
        )
    return words


def _make_row(books: Books, network: str, source: str, target: str) -> Json | None:
    """None for a round that neither of the two has begun."""
    row = _row(network, source, target)
    heard = books.book(network, target, source).get("heard") or {}
    book = books.book(network, source, target)
    if books.turn and not (heard and book):
        return None
    if not _blocked(books, row):
        if book:
            _judge(books, row, book, heard)
        else:
            row.update(kind="not_measured", error=f"{source} wrote nothing down about {target}")
    return row


def make_rows(books: Books) -> List[Json]:
    """One row for each expected ordered pair and network, whatever happened; of a further round those that were measured."""
    peers = partners(books.hosts, books.plan["timing"]["peers"], books.plan["timing"].get("only", ()))
    rows = [
        _make_row(books, network, source, books.hosts[target])
        for network in books.plan["networks"]
        for place, source in enumerate(books.hosts)
        for target in sorted(peers[place])
    ]
    return [row for row in rows if row is not None]


def merge_rounds(rounds: List[List[Json]]) -> List[Json]:
    """A pair that failed in any round has failed: its row is that of the first such round, else of the last round."""
    if len(rounds) == 1:
        return rounds[0]
    of_pair: Dict[tuple[str, str, str], List[Json]] = {}
    for row in [row for rows in rounds for row in rows]:
        of_pair.setdefault((row["network"], row["from"], row["to"]), []).append(row)
    merged = []
    for rows in of_pair.values():
        failed = [row for row in rows if not row["ok"]]
        merged.append(dict((failed or rows[-1:])[0], rounds={"count": len(rows), "failed": len(failed)}))
    return merged


def make_report(plan: Json, rows: List[Json], checks: List[Json], seconds: float) -> Json:
    """The content of verify.json."""
    failed = sum(not row["ok"] for row in rows)
    failed_checks = sum(row["ok"] is False for row in checks)
    summary: Json = {
        "pairs": len(rows),
        "failed": failed,
        "checks": len(checks),
        "checks_failed": failed_checks,
        "seconds": round(seconds, 3),
    }
    if plan["timing"]["peers"]:
        summary["peers"] = plan["timing"]["peers"]
    if plan["timing"].get("only"):
        summary["only"] = [plan["hosts"][place] for place in plan["timing"]["only"]]
    return {
        "schema_version": SCHEMA_VERSION,
        "networks": plan["networks"],
        "pairs": rows,
        "checks": checks,
        "summary": summary,
    }


def failure_text(report: Json, path: str) -> str:
    """Name the failed pairs, and what else failed, and why."""
    pairs = [row for row in report["pairs"] if not row["ok"]]
    checks = [row for row in report["checks"] if row["ok"] is False]
    said = [f"{len(pairs)} of {report['summary']['pairs']} pairs failed"] if pairs else []
    said += [f"{len(checks)} of {report['summary']['checks']} other checks failed"] if checks else []
    lines = [f"{', '.join(said)}; all are in {path}"]
    lines += [
        f"  {row['network']}: {row['from']} -> {row['to']}: {row['kind']}: {row['error']}"
        for row in pairs[:NAMED_PAIRS]
    ]
    if len(pairs) > NAMED_PAIRS:
        lines.append(f"  and {len(pairs) - NAMED_PAIRS} more")
    lines += [f"  {row['kind']}: {row['error']}" for row in checks[:NAMED_PAIRS]]
    if len(checks) > NAMED_PAIRS:
        lines.append(f"  and {len(checks) - NAMED_PAIRS} more checks")
    return "\n".join(lines)
