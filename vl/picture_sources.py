"""A picture from where it is said to be: a file, a data: URL, or a web address whose host the user allows.

Addresses come with data that others wrote (recordings, annotations), and whoever wrote them may want this machine to
ask something of its own network, of a cloud's metadata service, or to open a file of a few bytes that unpacks to
gigabytes. So nothing is fetched unless its host is named, the address that is asked is the one that was checked,
redirects are not followed, and time, bytes and pixels have limits.
"""

import base64
import binascii
import contextlib
import http.client
import ipaddress
import re
import socket
import ssl
import time
from collections.abc import Collection
from pathlib import Path
from typing import Final
from urllib.parse import SplitResult, unquote_to_bytes, urlsplit

from core.errors import InputError, existing_file
from vl.endpoint import Flights
from vl.generator import Picture
from vl.pictures import LIMITS, PictureLimits, decode_picture

_DEFAULT_PORTS: Final = {"http": 80, "https": 443}


def read_picture(source: str | Path, allowed_hosts: Collection[str] = (), *, limits: PictureLimits = LIMITS) -> Picture:
    """The picture at `source` as uint8 (H, W, 3), made upright RGB as vl/pictures.py does.

    Args:
        source: a path, a data:image/...;base64 URL, or an http(s) URL.
        allowed_hosts: hosts that may be asked, each exactly as in the URL ("images.example.org"; no subdomains go
            along), with a port where it is not the usual one ("localhost:8000"). A host on a private network or on
            this machine is asked only where it is named by its address or as localhost: a public name that leads
            there is refused.

    Raises:
        InputError: the host is not allowed, does not answer, or answers something else; the content is no picture
            that vl/pictures.py reads, or exceeds a limit. MissingFileError: no file is there.
    """
    if isinstance(source, str) and re.match(r"data:", source, re.IGNORECASE):
        return decode_picture(_from_data(source, limits), "the data: URL", limits).pixels
    if isinstance(source, str) and (scheme := re.match(r"([A-Za-z][A-Za-z0-9+.-]+):/", source)):
        if scheme[1].lower() not in _DEFAULT_PORTS:
            raise InputError(f"pictures are not read from {scheme[1]}: addresses; give a path or an http(s) URL")
        parts = _address(source)
        where = _check_allowed(parts, allowed_hosts)
        return decode_picture(_fetched(parts, where, allowed_hosts, limits), f"the picture from {where}", limits).pixels
    file = existing_file(source, "picture")
    if file.stat().st_size > limits.bytes:
        raise InputError(f"{file} has {file.stat().st_size} bytes, pictures are read up to {limits.bytes}")
    return decode_picture(file.read_bytes(), str(file), limits).pixels


def _from_data(source: str, limits: PictureLimits) -> bytes:
    head, comma, body = source[5:].partition(",")
    if not comma or not re.fullmatch(r"image/[\w.+-]{1,40};base64", head, re.IGNORECASE):
        raise InputError(f"a data: URL starts {head[:60]!r}, expected data:image/png;base64,... or the like")
    if len(body) > 4 * limits.bytes:  # base64 takes 4/3, %-signs up to three times that
        raise InputError(f"a data: URL of {len(body)} characters; pictures are read up to {limits.bytes} bytes")
    try:
        content = base64.b64decode(unquote_to_bytes(body), validate=True)
    except (binascii.Error, ValueError) as error:
        raise InputError(f"the data: URL is no base64 ({error})") from error
    if len(content) > limits.bytes:
        raise InputError(f"a data: URL of {len(content)} bytes; pictures are read up to {limits.bytes}")
    return content


# --- which host ---


def _address(source: str) -> SplitResult:
    """A URL in parts. The whole URL is in no message: it may hold a token."""
    try:
        parts = urlsplit(source)
        port_fits = parts.port is None or parts.port > 0
    except ValueError as error:
        raise InputError(f"a picture's address does not read ({error})") from error
    if not re.fullmatch(r"[!-~]+", source) or "\\" in source or not parts.hostname or not port_fits:
        raise InputError(f"a picture's address does not read: {source[:40]!r}...; expected http(s)://host/path")
    if parts.username is not None or parts.password is not None:
        raise InputError(f"a picture's address at {parts.hostname!r} holds a user name or a password; leave it out")
    return parts


def _check_allowed(parts: SplitResult, allowed_hosts: Collection[str]) -> str:
    """The host as it would be named in `allowed_hosts`; raises InputError where it is not."""
    if isinstance(allowed_hosts, str):
        raise InputError(f"allowed_hosts should be a list, got the single text {allowed_hosts!r}")
    for entry in allowed_hosts:
        if not re.fullmatch(r"(\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9_.-]+)(:[0-9]{1,5})?", entry):
            raise InputError(
                f"allowed_hosts has {entry!r}; expected a host such as images.example.org or localhost:8000, without "
                "http://, path or wildcard"
            )
    host = (parts.hostname or "").lower()
    where = f"[{host}]" if ":" in host else host
    if parts.port is not None and parts.port != _DEFAULT_PORTS[parts.scheme]:
        where += f":{parts.port}"
    if where not in {entry.lower() for entry in allowed_hosts}:
        raise InputError(f"pictures at {where!r} are not fetched unless you allow it: allowed_hosts=[{where}]")
    return where


def _resolved(host: str, port: int, allowed_hosts: Collection[str]) -> str:
    """The address to ask: public, or named."""
    try:
        found = [str(entry[4][0]) for entry in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)]
    except (OSError, UnicodeError) as error:
        raise InputError(f"there is no host {host!r} ({error}); is the address of the picture right?") from error
    named = {urlsplit(f"//{entry}").hostname for entry in allowed_hosts}
    for address in found:
        plain = ipaddress.ip_address(address.partition("%")[0])
        plain = getattr(plain, "ipv4_mapped", None) or plain
        local = not plain.is_global or plain.is_multicast
        if local and host not in (address, "localhost") and address not in named:
            raise InputError(
                f"{host!r} leads to {address}, which is no public address; if that is meant, add it: "
                f"allowed_hosts=[{host},{address}]"
            )
    return found[0]


# --- fetching ---


def _fetched(parts: SplitResult, where: str, allowed_hosts: Collection[str], limits: PictureLimits) -> bytes:
    host = str(parts.hostname)
    port = parts.port or _DEFAULT_PORTS[parts.scheme]
    deadline = time.monotonic() + limits.seconds
    address = _resolved(host, port, allowed_hosts)
    connection = http.client.HTTPConnection(host, port, timeout=limits.seconds)
    with contextlib.closing(connection):
        try:
            # connected here, so that the host is not looked up again and leads elsewhere
            connection.sock = socket.create_connection((address, port), timeout=limits.seconds)
            if parts.scheme == "https":
                context = ssl.create_default_context()
                connection.sock = context.wrap_socket(connection.sock, server_hostname=host)
            with Flights().watched(connection, deadline):
                target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
                headers = {"Host": where, "Accept": "image/*", "Accept-Encoding": "identity"}
                connection.request("GET", target, headers=headers)
                response = connection.getresponse()
                if response.status != 200:
                    raise InputError(_refusal(response.status, where))
                content, announced = _content(response, limits)
            if time.monotonic() >= deadline:  # a line that was shut looks like one that ended
                raise TimeoutError
        except (OSError, http.client.HTTPException) as error:
            if time.monotonic() >= deadline or isinstance(error, TimeoutError):
                raise InputError(f"{where} sent no whole picture in {limits.seconds:g} s") from error
            said = getattr(error, "strerror", None) or type(error).__name__
            raise InputError(f"the picture from {where} did not come: {said}") from error
    if max(len(content), announced) > limits.bytes:
        raise InputError(f"the picture from {where} has more than {limits.bytes} bytes")
    if len(content) < announced:
        raise InputError(f"{where} sent {len(content)} of {announced} bytes of the picture")
    return content


def _content(response: http.client.HTTPResponse, limits: PictureLimits) -> tuple[bytes, int]:
    """The body up to one byte over the limit, and how many bytes were announced, 0 where none were."""
    announced = response.length or 0
    return response.read(limits.bytes + 1) if announced <= limits.bytes else b"", announced


def _refusal(status: int, where: str) -> str:
    if 300 <= status < 400:
        return f"{where} points elsewhere (status {status}); redirects are not followed, give the picture's own address"
    return f"{where} answers with status {status} instead of the picture"
