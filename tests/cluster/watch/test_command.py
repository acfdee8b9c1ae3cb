"""What `top` shows for made-up clusters, and how it asks the service."""

from __future__ import annotations

import io
from typing import Any

import httpx
import pynvml
import pytest
from rich.console import Console
from typer.testing import CliRunner

from cluster.__main__ import COMMANDS, app
from cluster.gpu_metrics import FIGURES, PROBLEMS, exported
from cluster.gpus import Reading, read_gpus
from cluster.ray_view import RayNode, to_node
from cluster.watch.command import ask_service, look
from cluster.watch.tables import Picture, render
from tests.cluster.fake_nvml import NOT_SUPPORTED, Card, FakeNvml, memory, nvml_error

SERVICE = {
    "ready": True,
    "stages": {"vad": 1, "punctuation": 2},
    "pools": {
        "T4": {
            "replicas": 7,
            "can_start": True,
            "outstanding_chunks": 14,
            "outstanding_audio_s": 4210.4,
            "slowdown": 1.07,
        },
        "L4": {"replicas": 0, "outstanding_chunks": 0, "outstanding_audio_s": 0.0, "ooms": 3},
    },
    "requests": 21,
    "queue_s": 12.34,
}


def shown(picture: Picture, width: int = 140) -> str:
    console = Console(width=width, file=io.StringIO(), record=True)
    console.print(render(picture))
    return console.export_text()


def line(text: str, beginning: str) -> list[str]:
    """The words of the one line that begins like this."""
    (found,) = [one.split() for one in text.splitlines() if one.startswith(beginning)]
    return found


def mixed() -> dict[str, Reading]:
    """One node with a busy card, a card without figures and a lost card; one without a driver."""
    no_figures = {f: NOT_SUPPORTED for f in ("UtilizationRates", "PowerUsage", "MemoryInfo")}
    lost = Card(Handle=nvml_error(pynvml.NVML_ERROR_GPU_IS_LOST))
    virtual = Card(Name="GRID V100-8C", EnforcedPowerLimit=NOT_SUPPORTED, **no_figures)
    no_driver = nvml_error(pynvml.NVML_ERROR_DRIVER_NOT_LOADED)
    return {
        "gpu-1": read_gpus(FakeNvml([Card(), virtual, lost])),
        "gpu-2": read_gpus(FakeNvml(init=no_driver)),
    }


def test_a_card_shows_its_figures_and_a_dash_for_each_that_is_missing() -> None:
    text = shown(Picture(gpus=mixed()))

    busy = "gpu-1:0 Tesla T4 76 % 3,157 / 15,360 MiB 61 °C 44 W / 70 W 1"
    assert line(text, "gpu-1:0") == busy.split()
    assert line(text, "gpu-1:1") == ["gpu-1:1", "GRID", "V100-8C", "-", "-", "61", "°C", "-", "1"]


def test_unreadable_cards_are_listed_below_the_tables() -> None:
    text = shown(Picture(gpus=mixed()))

    assert "! gpu-1: GPU 2: the GPU has fallen off the bus" in text
    assert "! gpu-2: the NVIDIA driver is not loaded" in text


def test_a_pool_shows_the_figures_that_the_service_reports() -> None:
    text = shown(Picture(service=SERVICE))

    assert line(text, "POOL") == ["POOL", "replicas", "chunks", "backlog", "slowdown", "OOMs"]
    assert line(text, "T4") == ["T4", "7", "14", "4,210", "s", "1.07", "-"]
    assert line(text, "L4") == ["L4", "0", "0", "0", "s", "-", "3"]
    assert "vad 1, punctuation 2; 21 requests under way; 12.3 s of work queued." in text


def test_speed_and_padding_are_shown_once_the_service_reports_them() -> None:
    pool = {"replicas": 1, "outstanding_audio_s": 5.0, "speed": 2390.2, "padding": 0.043}

    text = shown(Picture(service={"ready": True, "pools": {"T4": pool}}))

    assert line(text, "T4") == ["T4", "1", "5", "s", "2,390x", "4%"]


def test_a_starting_service_says_why_it_is_not_ready() -> None:
    text = shown(Picture(service={"ready": False, "reason": "no [VAD] yet"}))

    assert "Service not ready; no [VAD] yet." in text


def test_a_node_shows_its_resources_and_whether_it_is_alive() -> None:
    alive = to_node(
        {
            "NodeID": "ab12",
            "Alive": True,
            "NodeManagerHostname": "gpu-1",
            "Resources": {
                "CPU": 8.0,
                "GPU": 4.0,
                "accelerator_type:T4": 1.0,
                "memory": 32 * 2**30,
                "object_store_memory": 8 * 2**30,
            },
        },
        this_id="ab12",
    )
    dead = to_node({"NodeID": "cd34", "Alive": False, "NodeManagerAddress": "10.0.0.7"})

    text = shown(Picture(nodes=[alive, dead]))

    assert line(text, "gpu-1") == ["gpu-1", "*", "alive", "8", "4", "T4", "32", "GiB", "8", "GiB"]
    assert line(text, "10.0.0.7")[:2] == ["10.0.0.7", "dead"]


def client(answer: httpx.Response | Exception) -> httpx.Client:
    def handler(request: httpx.Request) -> httpx.Response:
        assert request.url.path == "/readyz"
        if isinstance(answer, Exception):
            raise answer
        return answer

    return httpx.Client(transport=httpx.MockTransport(handler))


@pytest.mark.parametrize("status", [200, 503])
def test_the_service_is_read_whether_ready_or_not(status: int) -> None:
    body = {"ready": status == 200}

    assert ask_service(client(httpx.Response(status, json=body)), "http://s/") == (body, "")


@pytest.mark.parametrize(
    ("answer", "word"),
    [
        (httpx.ConnectError("Connection refused"), "Connection refused"),
        (httpx.Response(200, text="<html>"), "not this service"),
        (httpx.Response(200, json=["ready"]), "not this service"),
        (httpx.Response(404, json={"detail": "no"}), "not this service"),
    ],
)
def test_a_service_that_does_not_answer_is_a_problem_in_the_picture(
    answer: httpx.Response | Exception, word: str
) -> None:
    node = RayNode("ab12", "gpu-1", is_alive=True)

    picture = look(lambda: ([node], mixed()), client(answer), "http://s", ("Ray is slow.",))

    assert (picture.nodes, picture.service) == ([node], None)
    assert picture.problems[0] == "Ray is slow."
    assert word in picture.problems[1]


def test_a_cards_known_figures_are_exported_and_no_others() -> None:
    out = list(exported(mixed()["gpu-1"], "gpu-1"))

    values = {(name, tags.get("gpu")): value for name, value, tags in out}
    assert values == {
        ("asr_gpu_utilization_percent", "0"): 76.0,
        ("asr_gpu_memory_used_mib", "0"): 3157.0,
        ("asr_gpu_memory_total_mib", "0"): 15360.0,
        ("asr_gpu_temperature_celsius", "0"): 61.0,
        ("asr_gpu_power_watts", "0"): 43.512,
        ("asr_gpu_temperature_celsius", "1"): 61.0,
        (PROBLEMS, None): 1.0,
    }
    assert {name for name, _ in values} == {*FIGURES, PROBLEMS}


def test_the_memory_of_a_full_card_is_red() -> None:
    full = read_gpus(FakeNvml([Card(MemoryInfo=memory(16000, 100))]))
    console = Console(width=140, file=io.StringIO(), record=True, force_terminal=True)

    console.print(render(Picture(gpus={"a": full})))

    assert "\x1b[31m15,900 / 16,000 MiB" in console.export_text(styles=True)


def test_every_command_has_help() -> None:
    def help_of(*command: str) -> Any:
        return CliRunner().invoke(app, [*command, "--help"])

    assert all(name in help_of().output for name in COMMANDS)
    assert [n for n in COMMANDS if "Usage: " not in help_of(n).output] == []
    assert CliRunner().invoke(app, ["nothing"]).exit_code == 2
