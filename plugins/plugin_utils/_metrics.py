# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The reports as metrics, in the text format that Prometheus' node exporter takes from files. Pure."""

from __future__ import annotations

from collections import Counter
from typing import Any, Iterable, Mapping

from ansible_collections.multihost.overlay.plugins.module_utils._findings import LEVELS
from ansible_collections.multihost.overlay.plugins.plugin_utils._html_report import KNOWN_OF_HOSTS, known_of
from ansible_collections.multihost.overlay.plugins.plugin_utils._report_sources import NAMES, Source, number

PREFIX = "multihost_overlay_"
# Without units in their names they would be read as what they are not: seconds, ratios from 0 to 1.
HELP = {
    "report_readable": "Whether the JSON report could be read; 0 also where there is none",
    "report_timestamp_seconds": "When the report was written, in seconds since 1970",
    "report_duration_seconds": "How long the run took that wrote the report",
    "hosts": "Hosts that the report is about",
    "hosts_read": "Hosts of them that could be read",
    "findings": "Findings of a level",
    "check_findings": "Findings of a check; a check without any has no sample",
    "verify_pairs": "Ordered pairs of hosts that were to be proven on a network",
    "verify_pairs_failed": "Pairs of them that failed or could not be measured",
    "verify_pair_ok": "Whether packets between containers arrive from one host at the other",
    "verify_pair_loss_ratio": "Lost packets as a fraction of those sent; no sample where nothing was measured",
    "verify_pair_rtt_seconds": "Round-trip time between containers; no sample where no echo came back",
    "verify_check_ok": "Whether what was tried beside the pairs is as it should be; no sample where it is not known",
    "host_info": "What is known of a host; always 1",
}

Sample = tuple[str, dict[str, str], float]


def escaped(value: str) -> str:
    """A label's value as the exposition format wants it."""
    return value.replace("\\", "\\\\").replace("\n", "\\n").replace('"', '\\"')


def sample_line(labels: Mapping[str, str], value: float) -> tuple[str, str]:
    """(labels, value) as text; a whole number without a point."""
    inner = ",".join(f'{name}="{escaped(text)}"' for name, text in labels.items())
    return (f"{{{inner}}}" if inner else ""), (str(int(value)) if value == int(value) else repr(value))


def source_samples(source: Source) -> Iterable[Sample]:
    """Whether there is a report, of when, and how long it took."""
    labels = {"source": source.name}
    yield "report_readable", labels, float(source.state == "read")
    if source.written is not None:
        yield "report_timestamp_seconds", labels, source.written
    if source.seconds is not None:
        yield "report_duration_seconds", labels, source.seconds


def finding_samples(source: Source) -> Iterable[Sample]:
    """Counts by level, zeros too, and by check."""
    if source.state != "read":
        return
    for name in ("hosts", "hosts_read"):
        amount = number(source.summary.get(name))
        if amount is not None:
            yield name, {"source": source.name}, amount
    levels = Counter(row["level"] for row in source.rows)
    for level in LEVELS:
        yield "findings", {"source": source.name, "level": level}, levels[level]
    for (check, level), amount in Counter((row["id"], row["level"]) for row in source.rows).items():
        yield "check_findings", {"source": source.name, "check": check, "level": level}, amount


def pair_samples(row: Mapping[str, Any]) -> Iterable[Sample]:
    """A pair; times in seconds."""
    labels = {"network": row["network"], "from": row["from"], "to": row["to"]}
    yield "verify_pair_ok", labels, float(row.get("ok") is True)
    loss = number(row.get("loss"))
    if loss is not None:
        yield "verify_pair_loss_ratio", labels, loss
    times = row.get("rtt_ms")
    for name, value in times.items() if isinstance(times, dict) else ():
        taken = number(value)
        if taken is not None:
            yield "verify_pair_rtt_seconds", dict(labels, statistic=name), round(taken / 1000, 9)


def verify_samples(source: Source) -> Iterable[Sample]:
    """All pairs, and their number for each network."""
    failed = Counter(row["network"] for row in source.rows if row.get("ok") is not True)
    for network, amount in Counter(row["network"] for row in source.rows).items():
        yield "verify_pairs", {"network": network}, amount
        yield "verify_pairs_failed", {"network": network}, failed[network]
    for row in source.rows:
        yield from pair_samples(row)
    for row in source.checks:
        if isinstance(row.get("ok"), bool):
            labels = {key: row[key] for key in ("check", "network", "from", "to")}
            yield "verify_check_ok", labels, float(row["ok"])


def host_samples(hosts: Iterable[str], sources: Mapping[str, Source]) -> Iterable[Sample]:
    for host in hosts:
        known = known_of(host, list(sources.values()))
        yield "host_info", {"host": host, **{key: known[key] or "" for key in KNOWN_OF_HOSTS}}, 1.0


def samples(sources: Mapping[str, Source], hosts: Iterable[str]) -> Iterable[Sample]:
    for name in NAMES:
        yield from source_samples(sources[name])
    for name in ("preflight", "doctor"):
        yield from finding_samples(sources[name])
    yield from verify_samples(sources["verify"])
    yield from host_samples(hosts, sources)


def metrics(sources: Mapping[str, Source], hosts: Iterable[str]) -> str:
    """The whole file. A series is there once: the node exporter refuses a file that has one twice."""
    found: dict[str, dict[str, str]] = {name: {} for name in HELP}
    for name, labels, value in samples(sources, hosts):
        key, text = sample_line(labels, value)
        found[name][key] = text
    lines = []
    for name, series in found.items():
        if series:
            lines += [f"# HELP {PREFIX}{name} {HELP[name]}", f"# TYPE {PREFIX}{name} gauge"]
            lines += [f"{PREFIX}{name}{key} {text}" for key, text in series.items()]
    return "\n".join(lines) + "\n"
