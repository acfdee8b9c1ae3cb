"""`python -m cluster plan`: reads a fleet and its traffic, and writes a serve_config.yaml."""

from __future__ import annotations

import logging
import socket
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from cluster.planning.cheapest import Purchase, cheapest
from cluster.planning.fleet import CPUS_PER_CARD, known_name, nodes_of, parse_fleet
from cluster.planning.placement import Node
from cluster.planning.serve_file import render
from cluster.planning.sizing import FleetPlan, make_plan
from cluster.planning.traffic import (
    PEAK_FACTOR,
    PRIOR_TRUST,
    Traffic,
    alone_s,
    busy,
    capacity_needed,
    p95_s,
)
from cluster.profiles import PROFILES
from deployments.core.errors import BadRequest

CONNECT_S = 5.0
MOST_CORES_A_MACHINE = 1024


def plan(
    gpus: Annotated[
        str | None, typer.Option(help="the fleet: T4:4,L4:0-2 or 2x(T4:4,cpu:48)")
    ] = None,
    address: Annotated[
        str | None, typer.Option(help="read the fleet from this Ray cluster (auto: the local one)")
    ] = None,
    hours_per_day: Annotated[float, typer.Option(min=0, help="hours of audio per day")] = 0.0,
    concurrent: Annotated[int, typer.Option(min=1, help="recordings sent at once")] = 1,
    p95_s: Annotated[
        float | None, typer.Option("--p95-s", min=0.1, help="aim: 95 % answered within this, s")
    ] = None,
    recording_min: Annotated[float, typer.Option(min=0.1, help="mean length, minutes")] = 30.0,
    peak_factor: Annotated[
        float, typer.Option(min=1, help="busiest hour / the day's average")
    ] = PEAK_FACTOR,
    find_cheapest: Annotated[
        bool, typer.Option("--cheapest", help="choose the fleet by price, instead of --gpus")
    ] = False,
    prices: Annotated[
        str | None, typer.Option(help="per hour, T4=0.53,L4=0.80; default: a table in USD")
    ] = None,
    explain: Annotated[bool, typer.Option(help="explain each number in a comment")] = False,
    output: Annotated[Path | None, typer.Option(help="file to write")] = None,
    force: Annotated[bool, typer.Option(help="overwrite the file")] = False,
) -> None:
    """Plan the pools of a fleet, and print or write a serve_config.yaml."""
    traffic = Traffic(hours_per_day, concurrent, recording_min, p95_s, peak_factor)
    try:
        if [gpus is not None, address is not None, find_cheapest].count(True) != 1:
            raise BadRequest("give exactly one of --gpus, --address and --cheapest")
        title: list[str] = []
        if find_cheapest:
            purchase = buy(prices_of(prices), traffic)
            gpus = fleet_of(purchase, traffic)
            title = _receipt(purchase, gpus)
        nodes = parse_fleet(gpus) if gpus is not None else read_cluster(str(address))
        made = make_plan(nodes, traffic)
        title = [_source(gpus, nodes), *title, *outlook(made)]
        text = render(made.args, title=title, reasons=made.reasons if explain else None)
        if output is None:
            typer.echo(text, nl=False)
        else:
            write(output, text, force=force)
            typer.echo("\n".join((*title, f"Written to {output}.")))
    except (BadRequest, OSError) as error:
        typer.echo(str(error), err=True)
        raise typer.Exit(1) from None


def outlook(plan: FleetPlan) -> list[str]:
    """The expected speed, the traffic and the problems, one line each."""
    asr, traffic = plan.speeds["ASR"], plan.traffic
    each = ", ".join(f"{name} {speed:.0f}" for name, speed in plan.speeds.items() if name != "ASR")
    half = f" (the priors x {PRIOR_TRUST:g})" if plan.placement.on_gpus else ""
    lines = [f"Expected, in audio seconds a second: ASR {asr:.0f}{half}, {each}."]
    if plan.needed:
        share, late_s = busy(traffic, plan.capacity), p95_s(traffic, plan.capacity)
        lines.append(
            f"Traffic: {traffic.peak:.0f} audio s/s at the peak, {plan.needed:.0f} needed; "
            f"{100 * share:.0f} % busy, p95 {late_s:.0f} s for recordings of "
            f"{traffic.recording_min:g} minutes ({alone_s(traffic):.1f} s on any fleet)."
        )
    return lines + [f"Note: {problem}" for problem in plan.problems]


def prices_of(text: str | None) -> dict[str, float]:
    """Price per hour by type of card: from "T4=0.53,L4=0.80", or from the table if None."""
    if text is None:
        return {
            name.replace(" ", "-"): card.price.usd_per_h
            for name, card in PROFILES.items()
            if card.price is not None
        }
    prices: dict[str, float] = {}
    for part in text.split(","):
        name, _, price = part.partition("=")
        try:
            prices[known_name(name)] = float(price)
        except ValueError:
            raise BadRequest(f"{part!r} is not a price; write T4=0.53") from None
        if prices[known_name(name)] <= 0:
            raise BadRequest(f"{part!r}: a price must be above 0")
    return prices


def buy(prices: dict[str, float], traffic: Traffic) -> Purchase:
    """The cheapest cards for the traffic. Raises BadRequest if no traffic is given."""
    if not traffic.hours_per_day and traffic.p95_s is None:
        raise BadRequest("--cheapest needs --hours-per-day, --p95-s or both")
    return cheapest(prices, capacity_needed(traffic))


def fleet_of(purchase: Purchase, traffic: Traffic) -> str:
    """The purchase as a fleet: one machine for each type, with the CPUs that the stages need."""
    (first, count), *others = purchase.counts.items()
    rest = [f"({name}:{n})" for name, n in others]
    cores = int(count * CPUS_PER_CARD)
    while True:
        fleet = ",".join([f"({first}:{count},cpu:{cores})", *rest])
        made = make_plan(parse_fleet(fleet), traffic)
        if made.bottleneck == "ASR" or made.capacity >= made.needed or cores > MOST_CORES_A_MACHINE:
            return fleet
        cores += 1


def _receipt(purchase: Purchase, fleet: str) -> list[str]:
    cards = ", ".join(f"{n} x {name}" for name, n in purchase.counts.items())
    return [
        f"The cheapest cards that keep the aims: {cards} in {purchase.dtype}, "
        f"{purchase.price:.2f} an hour, as {fleet}; the CPUs are what the stages need."
    ]


def _source(gpus: str | None, nodes: Sequence[Node]) -> str:
    if gpus is not None:
        return f"Planned for {gpus}."
    cards: dict[str, int] = {}
    for node in nodes:
        if node.n_cards:
            name = node.accelerator_type or "unnamed"
            cards[name] = cards.get(name, 0) + node.n_cards
    found = ", ".join(f"{n} x {name}" for name, n in cards.items()) or "no card"
    cpus = sum(node.num_cpus for node in nodes)
    return f"Planned for the Ray cluster as it was: {len(nodes)} machines, {cpus:g} CPUs, {found}."


def read_cluster(address: str) -> list[Node]:
    """The machines of a running Ray cluster. Raises OSError if none answers."""
    import ray

    from deployments.loopback import joining

    _refuse_silence(address)
    try:
        with joining(address):
            ray.init(address=address, log_to_driver=False, logging_level=logging.ERROR)
    except ray.exceptions.AuthenticationError:
        raise OSError(
            f"The Ray cluster at {address} wants its token: set RAY_AUTH_MODE=token, and "
            "RAY_AUTH_TOKEN_PATH if the token is not in ~/.ray/auth_token."
        ) from None
    except ConnectionError as error:
        raise OSError(f"No Ray cluster answers at {address}: {error}") from None
    try:
        return nodes_of(ray.nodes())  # type: ignore[no-untyped-call]
    finally:
        ray.shutdown()


def _refuse_silence(address: str) -> None:
    """Raises OSError if nothing listens at host:port, because Ray itself would try for minutes."""
    host, _, port = address.rpartition(":")
    if host and port.isdigit() and "/" not in host:
        try:
            socket.create_connection((host, int(port)), timeout=CONNECT_S).close()
        except OSError as error:
            raise OSError(f"No Ray cluster answers at {address}: {error}") from None


def write(path: Path, text: str, *, force: bool) -> None:
    """Writes the file. Raises OSError, also if the file exists and `force` is not set."""
    try:
        with path.open("w" if force else "x", encoding="utf-8") as file:
            file.write(text)
    except FileExistsError:
        raise OSError(f"{path} exists; --force overwrites it.") from None


if __name__ == "__main__":
    typer.run(plan)
