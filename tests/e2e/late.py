# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Makes a host's VXLAN packets late: python3 late.py DEVICE SECONDS, on the host, with its Python. The lab's kernel has no netem.

They are redirected to a tap, wait here, and go out past all queues, so that they do not come back.
"""

from __future__ import annotations

import collections
import fcntl
import os
import select
import socket
import struct
import subprocess
import sys
import time

TAP = "late0"
TUNSETIFF, IFF_TAP, IFF_NO_PI = 0x400454CA, 0x0002, 0x1000
SOL_PACKET, PACKET_QDISC_BYPASS = 263, 20
LARGEST = 65535


def open_tap() -> int:
    """A device whose packets are read here."""
    tap = os.open("/dev/net/tun", os.O_RDWR)
    fcntl.ioctl(tap, TUNSETIFF, struct.pack("16sH22x", TAP.encode(), IFF_TAP | IFF_NO_PI))
    subprocess.run(["ip", "link", "set", TAP, "up"], check=True)
    return tap


def redirect(device: str) -> None:
    """Send there what leaves the host for udp/4789."""
    subprocess.run(["tc", "qdisc", "add", "dev", device, "clsact"], check=True)
    match = "u32 match ip protocol 17 0xff match ip dport 4789 0xffff action mirred egress redirect dev"
    rule = ["tc", "filter", "add", "dev", device, "egress", "protocol", "ip", *match.split(), TAP]
    subprocess.run(rule, check=True)


def hold(tap: int, out: socket.socket, seconds: float) -> None:
    """Let every packet go so much later."""
    waiting: collections.deque[tuple[float, bytes]] = collections.deque()
    while True:
        left = max(0.0, waiting[0][0] - time.monotonic()) if waiting else None
        if select.select([tap], [], [], left)[0]:
            waiting.append((time.monotonic() + seconds, os.read(tap, LARGEST)))
        while waiting and waiting[0][0] <= time.monotonic():
            out.send(waiting.popleft()[1])


def main() -> None:
    """Until it is stopped."""
    device, seconds = sys.argv[1], float(sys.argv[2])
    out = socket.socket(socket.AF_PACKET, socket.SOCK_RAW)
    out.setsockopt(SOL_PACKET, PACKET_QDISC_BYPASS, 1)
    out.bind((device, 0))
    tap = open_tap()
    redirect(device)
    hold(tap, out, seconds)


if __name__ == "__main__":
    main()
