# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""From all hosts' books to one row for each expected pair, and to words. Runs on the controller. No I/O."""

from __future__ import annotations

from typing import Any, Dict, List

from ansible_collections.multihost.overlay.plugins.module_utils._ping_plan import host_problem

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
        "mtu_ok": None,
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

    def __init__(self, plan: Json, started: Json, probed: Json, collected: Json, max_loss: float) -> None:
        self.plan = plan
        self.hosts: List[str] = plan["hosts"]
        self.max_loss = max_loss
        self.started = started
        self.collected = collected
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
        result = self.collected[host]["networks"].get(network)
        if result is None:
            return {"kind": "not_measured", "error": "; ".join(self.collected[host]["errors"]) or "no result"}
        return {"kind": result["kind"], "error": result["error"]} if result["kind"] else None

    def book(self, network: str, host: str, peer: str) -> Json:
        """What a host wrote down about a peer; empty when it could not."""
        networks: Json = (self.collected.get(host) or {}).get("networks") or {}
        return dict(((networks.get(network) or {}).get("peers") or {}).get(peer) or {})

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


def _words_no_answer(books: Books, row: Json, back: Json) -> str:
    network, source, target = row["network"], row["from"], row["to"]
    words = f"no packet from {source} arrived at {target}"
    if books.two_networks(network, source, target):
        return f"{words}: each has a different network called {network} (two stores, or one made by hand)"
    book = books.book(network, source, target)
    if book.get("replied"):
        other = f"another container has the address of {target}'s, or {target}'s agent was late"
        return f"{words}, but somebody answered: {other}; run again, then see docker network inspect {network} on all hosts"
    if book.get("heard", {}).get("any"):
        return f"{words}, though {target}'s arrive at {source}: a rule drops udp/4789 from {source} to {target}"
    refused = f"; sending failed: {back['send_error']}" if back.get("send_error") else ""
    return f"{words}{refused}: check udp/4789 and, for the engines, tcp and udp/7946 between them"


def _arrived(books: Books, row: Json, book: Json, heard: Json) -> int:
    """How many packets of the series arrived. Echoes count where the receiver's agent cannot tell; but where it heard nothing they came
    from somebody else who has its address, as in another network of the same name.
    """
    if books.two_networks(row["network"], row["from"], row["to"]):
        return 0
    echoes = int(book["replied"]) if heard.get("any", True) else 0
    return max(int(heard.get("series", 0)), echoes)


def _judge(books: Books, row: Json, book: Json, heard: Json) -> None:
    """Fill in a measured row: ``book`` is the sender's, ``heard`` what the receiver wrote down of the sender."""
    arrived = _arrived(books, row, book, heard)
    row["loss"] = round(1 - min(arrived, book["sent"]) / book["sent"], 4) if book["sent"] else None
    row["address_ok"] = arrived > 0
    row["mtu_ok"] = bool(arrived and (heard.get("full") or book["full_replied"]))
    row["name_ok"] = book["name"]["ok"]
    if book["rtt"]:
        row["rtt_ms"] = dict(zip(TIMES, book["rtt"]))
    faults = []
    if not book["sent"]:
        faults.append(("not_measured", f"{row['from']} was ended before it could measure"))
    elif not arrived:
        faults.append(("no_answer", _words_no_answer(books, row, book)))
    elif row["loss"] > books.max_loss:
        faults.append(("loss", f"{book['sent'] - arrived} of {book['sent']} packets were lost"))
    if arrived and not row["mtu_ok"]:
        faults.append(("mtu", _words_mtu(books, row)))
    if not row["name_ok"]:
        faults.append((book["name"]["kind"], _words_name(books, row, book["name"])))
    if faults:
        row.update(kind=faults[0][0], error="; ".join(words for _kind, words in faults))
    row["ok"] = not faults


def _words_mtu(books: Books, row: Json) -> str:
    sizes = [
        ((books.collected.get(host) or {}).get("networks", {}).get(row["network"]) or {}).get("mtu")
        for host in (row["from"], row["to"])
    ]
    if None not in sizes and sizes[0] != sizes[1]:
        return f"the MTU is {sizes[0]} at {row['from']} but {sizes[1]} at {row['to']}: give the network one MTU"
    return (
        f"small packets pass but not those of {sizes[0]} bytes, the network's MTU: the underlay carries less than that "
        "and 50 bytes of VXLAN; set a smaller mtu for the network"
    )


def _words_name(books: Books, row: Json, name: Json) -> str:
    plan = books.plan
    probe = plan["probes"][plan["networks"].index(row["network"])][plan["hosts"].index(row["to"])]
    astray = ((books.collected.get(row["from"]) or {}).get("strays") or {}).get("before")
    if astray and not name["addresses"]:
        return (
            f"{row['from']}: Docker's DNS does not know {probe['name']}: {name['error']}. Its dockerd has lost "
            f"{astray} thread(s) in namespaces that are gone, and may have stopped watching the store: restart docker"
        )
    if name["addresses"]:
        return f"{row['from']}: the name {probe['name']} is {', '.join(name['addresses'])}, not {probe['address']}"
    return f"{row['from']}: Docker's DNS does not know {probe['name']}: {name['error']}"


def make_rows(books: Books) -> List[Json]:
    """One row for each expected ordered pair and network, whatever happened."""
    rows = []
    for network in books.plan["networks"]:
        for source in books.hosts:
            for target in books.hosts:
                if source == target:
                    continue
                row = _row(network, source, target)
                if not _blocked(books, row):
                    heard = books.book(network, target, source).get("heard") or {}
                    book = books.book(network, source, target)
                    if book:
                        _judge(books, row, book, heard)
                    else:
                        row.update(kind="not_measured", error=f"{source} wrote nothing down about {target}")
                rows.append(row)
    return rows


def make_report(networks: List[str], rows: List[Json], seconds: float) -> Json:
    """The content of verify.json."""
    failed = sum(not row["ok"] for row in rows)
    summary = {"pairs": len(rows), "failed": failed, "seconds": round(seconds, 3)}
    return {"schema_version": SCHEMA_VERSION, "networks": networks, "pairs": rows, "summary": summary}


def failure_text(report: Json, path: str) -> str:
    """Name the failed pairs and why."""
    failed = [row for row in report["pairs"] if not row["ok"]]
    lines = [f"{len(failed)} of {report['summary']['pairs']} pairs failed; all are in {path}"]
    lines.extend(
        f"  {row['network']}: {row['from']} -> {row['to']}: {row['kind']}: {row['error']}"
        for row in failed[:NAMED_PAIRS]
    )
    if len(failed) > NAMED_PAIRS:
        lines.append(f"  and {len(failed) - NAMED_PAIRS} more")
    return "\n".join(lines)
