"""The command line: where it writes, its exit status, and what it refuses."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from pathlib import Path

import pytest
import srt as srt_parser
import stamina
from rich.console import Console
from typer.testing import CliRunner, Result

from clients.cli import app
from clients.http import Client
from clients.options import progress_on
from deployments.core.formats import FORMATS, from_detailed
from tests.clients.fakes import AsgiTransport, FakeRouter, failing
from tests.clients.servers import BARE_500, FINE, answering
from tests.core.transcripts import PARAFORMER

Run = Callable[..., Result]
INVALID_AUDIO = 2  # in ERRORS


@pytest.fixture
def router() -> FakeRouter:
    return FakeRouter()


@pytest.fixture
def run(router: FakeRouter, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """Runs the command in an empty folder that has a.wav, b.wav and bad.wav."""
    monkeypatch.chdir(tmp_path)
    Path("a.wav").write_bytes(b"12345")
    Path("b.wav").write_bytes(b"1234567")
    Path("bad.wav").write_bytes(failing(INVALID_AUDIO))

    def connect(url: str, *, timeout_s: float, api_key: str | None) -> Client:
        return Client(url, timeout_s=timeout_s, attempts=1, transport=AsgiTransport(router))

    def invoke(*arguments: str, stdin: bytes | None = None) -> Result:
        return CliRunner().invoke(app, arguments, obj=connect, input=stdin)

    return invoke


def test_the_text_goes_to_standard_output(run: Run) -> None:
    result = run("transcribe", "a.wav")

    assert (result.exit_code, result.stdout) == (0, PARAFORMER.text + "\n")


@pytest.mark.parametrize("name", sorted(FORMATS))
def test_every_format_can_be_written(run: Run, name: str) -> None:
    result = run("transcribe", "a.wav", "-f", name)

    assert result.exit_code == 0
    assert "今天天气很好" in result.stdout


def test_standard_input_is_a_file_too(run: Run) -> None:
    result = run("transcribe", "-", "-f", "detailed_json", stdin=b"123")

    assert from_detailed(json.loads(result.stdout)).duration_ms == PARAFORMER.duration_ms + 3


def test_several_transcripts_are_printed_in_the_order_of_the_command_line(run: Run) -> None:
    result = run("transcribe", "b.wav", "a.wav", "b.wav", "-f", "detailed_json", "--jobs", "3")

    lengths = [json.loads(line)["duration_ms"] for line in result.stdout.splitlines()]
    assert [length - PARAFORMER.duration_ms for length in lengths] == [7, 5, 7]


def test_an_output_folder_gets_one_file_for_each_recording(run: Run) -> None:
    result = run("transcribe", "a.wav", "b.wav", "-f", "srt", "-o", "out/subtitles")

    assert (result.exit_code, result.stdout) == (0, "")
    written = {path.name: path.read_text("utf-8") for path in Path("out/subtitles").iterdir()}
    assert sorted(written) == ["a.srt", "b.srt"]
    assert [len(list(srt_parser.parse(text))) for text in written.values()] == [2, 2]


@pytest.mark.parametrize(
    ("name", "written"),
    [("text", "a.txt"), ("vtt", "a.vtt"), ("json", "a.json"), ("detailed_json", "a.json")],
)
def test_a_files_name_ends_with_its_format(run: Run, name: str, written: str) -> None:
    run("transcribe", "a.wav", "-f", name, "-o", ".")

    assert Path(written).is_file()


def test_an_existing_file_is_not_overwritten(run: Run, router: FakeRouter) -> None:
    Path("a.txt").write_text("mine")

    result = run("transcribe", "a.wav", "-o", ".")

    assert result.exit_code == 1
    assert "a.wav: a.txt exists" in result.stderr
    assert Path("a.txt").read_text() == "mine"
    assert router.seen == []


def test_force_overwrites(run: Run) -> None:
    Path("a.txt").write_text("mine")

    result = run("transcribe", "a.wav", "-o", ".", "--force")

    assert result.exit_code == 0
    assert Path("a.txt").read_text("utf-8") == PARAFORMER.text + "\n"


def test_one_bad_file_is_named_and_the_others_are_written(run: Run) -> None:
    result = run("transcribe", "a.wav", "bad.wav", "none.wav", "b.wav")

    assert result.exit_code == 1
    assert result.stdout == f"{PARAFORMER.text}\n{PARAFORMER.text}\n"
    assert "bad.wav: The file is empty." in result.stderr
    assert "none.wav: " in result.stderr
    assert "No such file" in result.stderr


def test_warnings_of_a_transcript_are_shown_beside_it(run: Run) -> None:
    result = run("transcribe", "a.wav")

    assert "a.wav: 1 of 3 segments failed." in result.stderr


def test_options_reach_the_service(run: Run, router: FakeRouter) -> None:
    run(
        *("transcribe", "a.wav", "--language", "zh", "--prompt", "会议", "--words", "--itn"),
        *("--hotword", "集群", "--hotword", "调度", "--channel", "1", "--model", "whisper-1"),
    )

    (options,) = router.seen
    assert (options.hints.language, options.hints.prompt) == ("zh", "会议")
    assert (options.hints.hotwords, options.channel) == (("集群", "调度"), 1)
    assert options.itn
    assert (options.word_times, options.model) == (True, "whisper-1")


@pytest.mark.parametrize(("flags", "has_words"), [((), False), (("--words",), True)])
def test_verbose_json_has_words_only_on_request(
    run: Run, flags: tuple[str, ...], has_words: bool
) -> None:
    result = run("transcribe", "a.wav", "-f", "verbose_json", *flags)

    assert ("words" in json.loads(result.stdout)) is has_words


@pytest.mark.parametrize(
    "arguments",
    [
        ("transcribe",),
        ("transcribe", "a.wav", "-f", "docx"),
        ("transcribe", "a.wav", "--channel", "-1"),
        ("transcribe", "a.wav", "b.wav", "-f", "srt"),
        ("transcribe", "-", "-"),
        ("transcribe", "a.wav", "other/a.wav", "-o", "."),
        ("transcribe", "a.wav", "--temperature", "1"),
        ("sing",),
    ],
)
def test_a_wrong_command_line_ends_with_status_2_and_sends_nothing(
    run: Run, router: FakeRouter, arguments: tuple[str, ...]
) -> None:
    result = run(*arguments)

    assert result.exit_code == 2
    assert result.stderr
    assert router.seen == []


def test_a_missing_service_ends_with_status_1_and_its_address() -> None:
    arguments = ["ready", "--url", "http://127.0.0.1:9"]

    result = CliRunner().invoke(app, arguments)

    assert result.exit_code == 1
    assert "Nothing answers at http://127.0.0.1:9" in result.stderr


@pytest.mark.parametrize("command", [("ready",), ("models",), ("transcribe", "a.wav")])
@pytest.mark.parametrize("url", ["http://[::1", "http://asr:port"])
def test_what_is_no_url_ends_with_status_2(
    tmp_path: Path, command: tuple[str, ...], url: str
) -> None:
    result = CliRunner().invoke(app, [*command, "--url", url])

    assert result.exit_code == 2
    assert "is not a URL" in result.stderr


def test_the_reason_of_another_attempt_is_told_while_it_is_waited_for() -> None:
    with answering(BARE_500, FINE) as server, stamina.set_testing(True, attempts=2):
        result = CliRunner().invoke(app, ["models", "--url", server.url])

    assert "500: Internal Server Error (trying again in 0 s)\n" in result.stderr
    assert "gave up" not in result.stderr


def test_models_are_listed_with_their_pools(run: Run) -> None:
    result = run("models")

    assert result.exit_code == 0
    assert "paraformer-zh" in result.stdout
    assert "cpu (cpu, fp32)" in result.stdout


@pytest.mark.parametrize(
    ("is_ready", "exit_code", "said"),
    [(True, 0, "ready\n"), (False, 1, "not ready: no replica runs of vad\n")],
)
def test_ready_gives_an_exit_status_and_a_reason(
    run: Run, router: FakeRouter, is_ready: bool, exit_code: int, said: str
) -> None:
    router.is_ready = is_ready

    result = run("ready")

    assert result.exit_code == exit_code
    assert (result.stdout + result.stderr).endswith(said)


def test_the_bar_shows_how_much_speech_has_been_recognised() -> None:
    screen = io.StringIO()

    with progress_on(Console(file=screen, force_terminal=True, width=80)) as progress:
        bar = progress.add_task("a.wav", total=None)
        progress.update(bar, completed=3_200, total=5_200)
        progress.refresh()

    assert "a.wav" in screen.getvalue()
    assert "62%" in screen.getvalue()


@pytest.mark.parametrize("command", [(), ("transcribe",), ("models",), ("ready",)])
def test_every_command_has_help(command: tuple[str, ...]) -> None:
    result = CliRunner().invoke(app, [*command, "--help"])

    assert result.exit_code == 0
    assert "Usage" in result.stdout
