"""What pods send out of the cluster: refused and counted in the node, by source and destination.

No CNI that enforces policies can be had offline, so the node itself watches: a table of nftables in
its forwarding path lets through what stays in the cluster, and refuses and counts the rest. A pod
that only asks for an outside name is noticed as well: the cluster's DNS then asks a server outside.
Where the node itself answers for that server, the question is not forwarded: it is counted as it
arrives.
"""

from __future__ import annotations

import ipaddress
import json
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

TABLE = "inet metis_egress"


@dataclass(frozen=True)
class Packets:
    """Packets of one pod to one address outside the cluster."""

    source: str
    target: str
    count: int


def ruleset(pods: Sequence[str], inside: Sequence[str]) -> str:
    """The table: ``pods`` are the pods' address ranges, ``inside`` all that is in the cluster."""
    inside = sorted({*pods, *inside})
    return f"""
        table {TABLE} {{
          set outside {{
            type ipv4_addr . ipv4_addr; flags dynamic; counter; size 65536;
          }}
          chain forward {{
            type filter hook forward priority -150; policy accept;
            ip saddr != {{ {", ".join(pods)} }} accept
            ct direction reply accept
            ip daddr {{ {", ".join(inside)} }} accept
            add @outside {{ ip saddr . ip daddr counter }} reject
          }}
          chain names {{
            type filter hook prerouting priority -150; policy accept;
            ip saddr != {{ {", ".join(pods)} }} accept
            ip daddr {{ {", ".join(inside)} }} accept
            meta l4proto {{ tcp, udp }} th dport 53 add @outside {{ ip saddr . ip daddr counter }}
          }}
        }}
    """


def parsed(listing: Mapping[str, Any]) -> list[Packets]:
    """The packets in what ``nft -j list set`` prints."""
    (found,) = (one["set"] for one in listing["nftables"] if "set" in one)
    return [
        Packets(*entry["elem"]["val"]["concat"], entry["elem"]["counter"]["packets"])
        for entry in found.get("elem", ())
    ]


class Watch:
    """The table in a node, from ``start`` to ``stop``."""

    def __init__(self, node: str) -> None:
        self._node = node

    def start(self, pods: Sequence[str], inside: Sequence[str]) -> None:
        """Begin to refuse and to count."""
        for cidr in (*pods, *inside):
            ipaddress.ip_network(cidr)
        self.stop()
        self._nft("-f", "-", stdin=ruleset(pods, inside))

    def stop(self) -> None:
        """Let everything through again."""
        self._nft("-f", "-", stdin=f"add table {TABLE}\ndelete table {TABLE}\n")

    def outside(self) -> list[Packets]:
        """All that was refused since the start."""
        return parsed(json.loads(self._nft("-j", "list", "set", *TABLE.split(), "outside")))

    def _nft(self, *arguments: str, stdin: str = "") -> str:
        done = subprocess.run(
            ["docker", "exec", "-i", self._node, "nft", *arguments],
            input=stdin, capture_output=True, text=True, timeout=60, check=False,
        )  # fmt: skip
        assert done.returncode == 0, f"nft {' '.join(arguments)}: {done.stderr}"
        return done.stdout
