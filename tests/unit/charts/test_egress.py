"""What the node counts is read right; that it counts is seen on a cluster."""

from __future__ import annotations

from tests.e2e.egress import Packets, parsed, ruleset


def test_the_table_lets_through_what_stays_inside() -> None:
    text = ruleset(["10.244.0.0/24"], ["10.96.0.0/16", "172.18.0.2/32"])
    assert "ip saddr != { 10.244.0.0/24 } accept" in text
    assert "ip daddr { 10.244.0.0/24, 10.96.0.0/16, 172.18.0.2/32 } accept" in text
    assert text.index("accept\n            add @outside") > text.index("ct direction reply accept")


def test_packets_are_read_by_source_and_destination() -> None:
    element = {
        "val": {"concat": ["10.244.0.7", "192.0.2.1"]},
        "counter": {"packets": 3, "bytes": 180},
    }
    listing = {
        "nftables": [{"metainfo": {}}, {"set": {"name": "outside", "elem": [{"elem": element}]}}]
    }
    assert parsed(listing) == [Packets("10.244.0.7", "192.0.2.1", 3)]
    assert parsed({"nftables": [{"metainfo": {}}, {"set": {"name": "outside"}}]}) == []
