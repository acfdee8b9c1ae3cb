"""Reads a URL that a user sent into the parts of one request, and refuses what is ambiguous.

Programs differ in how they read odd URLs. So the request is made from these parts, and nothing
else ever reads the text again.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address
from urllib.parse import quote, urljoin

from deployments.core.errors import UrlRefused

PORTS = {"http": 80, "https": 443}
MAX_URL_CHARS = 8192  # a signed URL of a cloud's storage has one or two thousand
MAX_HOST_CHARS = 253
FORM = re.compile(r"([a-z][a-z0-9+.-]*)://([^/?#]*)([^#]*)", re.IGNORECASE | re.DOTALL)
AUTHORITY = re.compile(r"(\[[^\[\]]*\]|[^:\[\]]+)(?::([0-9]{0,5}))?")
NAME = re.compile(r"(?:[a-z0-9_-]{1,63}\.)*[a-z0-9_-]{1,63}")
NUMBER = re.compile(r"(?:.*\.)?(?:[0-9]+|0x[0-9a-f]*)")  # what an old resolver takes for one
KEPT_IN_PATH = "/?:@!$&'()*+,;=%-._~[]"  # all others are written as %XX


@dataclass(frozen=True, slots=True)
class Target:
    """One place to ask. `host` is a name in ASCII, or an address without brackets."""

    scheme: str
    host: str
    port: int
    path: str  # with the query, in ASCII

    @property
    def authority(self) -> str:
        """The host as it is written in a URL, with the port where that is not the usual one."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == PORTS[self.scheme] else f"{host}:{self.port}"

    def __str__(self) -> str:
        return f"{self.scheme}://{self.authority}{self.path}"


def parsed(url: str) -> Target:
    """The parts of the URL. Raises UrlRefused."""
    if len(url) > MAX_URL_CHARS:
        raise UrlRefused(f"The URL has more than {MAX_URL_CHARS} characters.")
    if "\\" in url or not url.isprintable():
        raise UrlRefused("The URL has characters that no URL may have.")
    found = FORM.match(url)
    if found is None:
        raise UrlRefused("The URL is not of the form https://host/path.")
    scheme, authority, rest = found[1].lower(), found[2], found[3]
    if scheme not in PORTS:
        raise UrlRefused("Only URLs of http and https are fetched.")
    if "@" in authority:
        raise UrlRefused("The URL may not have a user name or a password.")
    host, port = host_and_port(authority)
    path = quote(rest, safe=KEPT_IN_PATH)
    return Target(
        scheme,
        host,
        PORTS[scheme] if port is None else port,
        path if path.startswith("/") else f"/{path}",
    )


def redirected(target: Target, location: str) -> Target:
    """Where the `Location` of an answer of `target` leads. Raises UrlRefused."""
    try:
        url = urljoin(str(target), location)
    except ValueError:
        raise UrlRefused("The URL leads to something that is not a URL.") from None
    to = parsed(url)
    if target.scheme == "https" and to.scheme == "http":
        raise UrlRefused("The URL leads from https to http.")
    return to


def host_and_port(authority: str) -> tuple[str, int | None]:
    """The host, and the port if there is one. Raises UrlRefused."""
    found = AUTHORITY.fullmatch(authority)
    if found is None:
        raise UrlRefused("The URL has no host that can be read.")
    return _host(found[1]), int(found[2]) if found[2] else None


def _host(text: str) -> str:
    """The one spelling of the host. Of an address there is only the usual form.

    Old resolvers take 127.1, 0x7f.0.0.1, 0177.0.0.1 and 2130706433 for 127.0.0.1, others do not.
    """
    if text.startswith("["):
        try:
            if "%" in text:
                raise ValueError("a zone, which only this machine knows")
            return str(IPv6Address(text[1:-1]))
        except ValueError:
            raise UrlRefused("The URL's host is not an IPv6 address.") from None
    name = _in_ascii(text).lower().removesuffix(".")
    if len(name) > MAX_HOST_CHARS or not NAME.fullmatch(name):
        raise UrlRefused("The URL's host is not a name.")
    if NUMBER.fullmatch(name):
        try:
            return str(IPv4Address(name))
        except ValueError:
            raise UrlRefused("The URL's host is a number, but not an address.") from None
    return name


def _in_ascii(text: str) -> str:
    """The name as DNS has it (IDNA). Digits and dots of other scripts become those of ASCII."""
    if text.isascii():
        return text
    if len(text) > MAX_HOST_CHARS:
        raise UrlRefused("The URL's host is not a name.")
    try:
        return text.encode("idna").decode("ascii")
    except UnicodeError:
        raise UrlRefused("The URL's host is not a name.") from None
