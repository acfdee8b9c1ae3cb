"""How `doctor` gathers its facts: the PCI bus and the pinned versions."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import psutil

from cluster.doctor.checks import exposure
from cluster.doctor.machine import OpenPort, has_nvidia_card, open_ports, pinned
from tests.cluster.doctor.facts import facts


def test_the_pci_bus_tells_a_card_from_its_sound_chip(tmp_path: Path) -> None:
    def device(name: str, vendor: str, kind: str) -> None:
        (tmp_path / name).mkdir()
        (tmp_path / name / "vendor").write_text(f"{vendor}\n")
        (tmp_path / name / "class").write_text(f"{kind}\n")

    device("0000:01:00.1", "0x10de", "0x040300")  # the card's HDMI audio
    device("0000:00:02.0", "0x8086", "0x030000")  # another vendor's display
    before = has_nvidia_card(tmp_path)
    device("0000:01:00.0", "0x10de", "0x030200")

    assert (before, has_nvidia_card(tmp_path)) == (False, True)


def test_pins_are_read_from_the_requirements() -> None:
    lines = ["ray[serve]==2.60.0; extra == 'server'", "torch==2.13.0", "numpy>=2.0"]

    assert pinned(lines) == {"ray": "2.60.0", "torch": "2.13.0"}


def process(title: str, *listeners: tuple[str, int], status: str = psutil.CONN_LISTEN) -> Any:
    sockets = [SimpleNamespace(status=status, laddr=psutil._ntp.addr(*at)) for at in listeners]
    return SimpleNamespace(cmdline=title.split, net_connections=lambda kind: sockets)


class Ended:
    def cmdline(self) -> list[str]:
        raise psutil.NoSuchProcess(1)


def test_ports_of_ray_beyond_loopback_are_found() -> None:
    processes = [
        process("ray::ServeReplica:default:Router", ("::", 40_001), ("127.0.0.1", 40_002)),
        process("/venv/ray/core/src/ray/raylet/raylet --x", ("0.0.0.0", 40_003)),
        process("/venv/ray/core/src/ray/gcs/gcs_server", ("::ffff:127.0.0.1", 40_004)),
        process("/venv/ray/core/src/ray/gcs/gcs_server", ("192.0.2.7", 6379), ("::1", 40_005)),
        process("ray::IDLE", ("0.0.0.0", 40_006), status=psutil.CONN_ESTABLISHED),
        process("nginx: master", ("0.0.0.0", 80)),
        Ended(),
    ]

    found = open_ports(processes)  # type: ignore[arg-type]

    assert [(port.program, port.number) for port in found] == [
        ("Ray's workers", 40_001),
        ("gcs_server", 6379),
        ("raylet", 40_003),
    ]


def test_open_ports_are_told_with_a_remedy() -> None:
    ports = (OpenPort("raylet", 40_003), OpenPort("raylet", 40_004), OpenPort("gcs_server", 6379))

    [open_to_others] = exposure(facts(open_ports=ports))
    [closed] = exposure(facts())

    assert (open_to_others.level, closed.level) == ("yellow", "green")
    assert "raylet on 40003, 40004; gcs_server on 6379" in open_to_others.what
    assert "firewall" in open_to_others.remedy
