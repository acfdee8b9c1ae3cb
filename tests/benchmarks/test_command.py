"""`python -m benchmarks`: the list, the options, and the output on stdout."""

from __future__ import annotations

import inspect
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Annotated

import pytest
import typer

from benchmarks.__main__ import BENCHMARKS, command, function, only_stderr
from benchmarks.results import Figures

ROOT = Path(__file__).parent.parent.parent


def fake(seconds: Annotated[int, typer.Option(help="Length.")] = 60, fast: bool = False) -> Figures:
    """A benchmark whose figures are its options."""
    print("progress")
    os.system("echo from a subprocess")
    return {"seconds": seconds, "fast": int(fast)}


@pytest.mark.parametrize("name", BENCHMARKS)
def test_every_benchmark_can_be_imported_and_has_a_default_for_each_option(name: str) -> None:
    benchmark = function(BENCHMARKS[name].target)

    parameters = inspect.signature(benchmark).parameters.values()

    assert [p.name for p in parameters if p.default is inspect.Parameter.empty] == []


def test_options_reach_the_benchmark() -> None:
    figures = command("fake", fake, ["--seconds", "5", "--fast"])

    assert figures == {"seconds": 5, "fast": 1}


def test_an_unknown_option_ends_with_status_2(capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as left:
        command("fake", fake, ["--minutes", "5"])

    assert left.value.code == 2
    assert "--minutes" in capfd.readouterr().err


def test_only_what_is_meant_for_stdout_reaches_it(capfd: pytest.CaptureFixture[str]) -> None:
    with only_stderr() as stdout:
        print(json.dumps(command("fake", fake, [])), file=stdout)

    printed = capfd.readouterr()
    assert json.loads(printed.out) == {"seconds": 60, "fast": 0}
    assert "progress" in printed.err
    assert "from a subprocess" in printed.err


def test_without_a_name_all_benchmarks_are_listed_without_torch() -> None:
    code = "import sys; sys.argv[1:] = []; import runpy\n"
    code += "try: runpy.run_module('benchmarks', run_name='__main__')\n"
    code += "except SystemExit as done: assert not done.code, done.code\n"
    code += "assert 'torch' not in sys.modules and 'ray' not in sys.modules"

    listed = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout

    assert [name for name in BENCHMARKS if f" {name} " not in listed] == []


def test_an_unknown_name_ends_with_status_2_and_the_list() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks", "none"], cwd=ROOT, capture_output=True, text=True
    )

    assert done.returncode == 2
    assert "pipeline" in done.stdout
