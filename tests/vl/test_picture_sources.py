"""Facts about vl/picture_sources.py, against a server on this machine that misbehaves."""

import base64
import contextlib
import socket
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
import pytest
from PIL import Image

from core.errors import InputError, MissingFileError
from tests.vl.picture_files import bomb, encoded
from vl.endpoint import png
from vl.picture_sources import read_picture
from vl.pictures import PictureLimits

PICTURE = np.random.default_rng(0).integers(0, 256, (5, 7, 3), dtype=np.uint8)


@contextlib.contextmanager
def serving(respond):
    """A server whose every GET is answered by `respond(handler)`; gives "127.0.0.1:port" and the paths asked."""
    asked = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            asked.append(self.path)
            with contextlib.suppress(OSError):
                respond(self)

        def log_message(self, format, *args):
            """Says nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    try:
        yield f"127.0.0.1:{server.server_address[1]}", asked
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def sends(content, status=200, length=None, **headers):
    def respond(handler):
        handler.send_response(status)
        for name, value in {"Content-Length": len(content) if length is None else length, **headers}.items():
            handler.send_header(name, str(value))
        handler.end_headers()
        handler.wfile.write(content)

    return respond


def data_url(content, kind="image/png"):
    return f"data:{kind};base64,{base64.b64encode(content).decode()}"


def test_files_data_urls_and_allowed_hosts_give_the_same_picture(tmp_path):
    (tmp_path / "a.png").write_bytes(png(PICTURE))
    assert np.array_equal(read_picture(tmp_path / "a.png"), PICTURE)
    assert np.array_equal(read_picture(str(tmp_path / "a.png")), PICTURE)
    assert np.array_equal(read_picture(data_url(png(PICTURE))), PICTURE)
    with serving(sends(png(PICTURE))) as (host, asked):
        got = read_picture(f"http://{host}/deep/a.png?size=2#part", [host])
        assert np.array_equal(got, PICTURE) and got.dtype == np.uint8 and got.flags.writeable
        assert asked == ["/deep/a.png?size=2"]
        port = host.partition(":")[2]
        assert np.array_equal(read_picture(f"HTTP://LocalHost:{port}/a", [f"localhost:{port}"]), PICTURE)


def test_nothing_is_asked_of_a_host_that_is_not_named_exactly():
    with serving(sends(png(PICTURE))) as (host, asked):
        port = host.partition(":")[2]
        for allowed in ([], ["127.0.0.1"], ["localhost:" + port], ["0.0.1:" + port], ["127.0.0.1:80"]):
            with pytest.raises(InputError, match=rf"'127.0.0.1:{port}'.*allowed_hosts=\[127.0.0.1:{port}\]"):
                read_picture(f"http://{host}/a.png?token=secret", allowed)
        for trick in (f"http://good.org@{host}/", f"http://{host}\\@good.org/", f"http://good.org:80@{host}/"):
            with pytest.raises(InputError):
                read_picture(trick, ["good.org"])
        assert not asked


def test_subdomains_and_other_schemes_are_refused():
    with pytest.raises(InputError, match="'a.good.org'"):
        read_picture("https://a.good.org/x.png", ["good.org"])
    with pytest.raises(InputError, match="'good.org:8443'"):
        read_picture("https://good.org:8443/x.png", ["good.org"])
    for source in ("file:///etc/passwd", "ftp://good.org/a.png", "gopher://good.org/"):
        with pytest.raises(InputError, match="pictures are not read from"):
            read_picture(source, ["good.org"])
    for entry in ("http://good.org", "*.good.org", "good.org/path", ""):
        with pytest.raises(InputError, match="without http://, path or wildcard"):
            read_picture("http://good.org/a.png", [entry])
    with pytest.raises(InputError, match="should be a list"):
        read_picture("http://good.org/a.png", "good.org")


@pytest.mark.parametrize(
    "address", ["127.0.0.1", "10.1.2.3", "169.254.169.254", "::1", "::ffff:127.0.0.1", "224.0.0.1"]
)
def test_a_public_name_that_leads_into_a_private_network_is_refused(address, monkeypatch):
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    entry = (family, socket.SOCK_STREAM, 6, "", (address, 80))
    monkeypatch.setattr(socket, "getaddrinfo", lambda *args, **options: [entry])
    monkeypatch.setattr(socket, "create_connection", lambda *args, **options: pytest.fail("asked"))
    with pytest.raises(InputError, match=f"leads to {address}, which is no public address"):
        read_picture("http://rebound.example/a.png", ["rebound.example"])


def test_the_address_that_was_checked_is_the_one_that_is_asked(monkeypatch):
    """A name that leads elsewhere at each look-up is looked up once."""
    looked_up = []

    def look_up(host, port, *args, **options):
        looked_up.append(host)
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", port))]

    with serving(sends(png(PICTURE))) as (host, _):
        port = host.partition(":")[2]
        monkeypatch.setattr(socket, "getaddrinfo", look_up)
        read_picture(f"http://twice.example:{port}/a", [f"twice.example:{port}", "127.0.0.1"])
    assert [name for name in looked_up if name != "127.0.0.1"] == ["twice.example"]


def test_redirects_are_not_followed():
    with (
        serving(sends(png(PICTURE))) as (inner, asked),
        serving(sends(b"", 302, Location=f"http://{inner}/")) as (host, _),
    ):
        with pytest.raises(InputError, match=rf"{host} points elsewhere \(status 302\)"):
            read_picture(f"http://{host}/a.png", [host, inner])
        assert not asked


def test_other_answers_are_named():
    with serving(sends(b"gone", 404)) as (host, _), pytest.raises(InputError, match=f"{host} answers with status 404"):
        read_picture(f"http://{host}/a.png", [host])
    page = b"<html><body>please log in</body></html>"
    with serving(sends(page)) as (host, _), pytest.raises(InputError, match=f"from {host} is no whole picture"):
        read_picture(f"http://{host}/a.png", [host])
    half = sends(png(PICTURE)[:40], length=400)
    with serving(half) as (host, _), pytest.raises(InputError, match=f"{host} sent 40 of 400 bytes"):
        read_picture(f"http://{host}/a.png", [host])
    with pytest.raises(InputError, match="did not come"):
        read_picture("http://127.0.0.1:9/a.png", ["127.0.0.1:9"])


def test_too_many_bytes_are_not_read():
    limits = PictureLimits(bytes=1000)
    announced = sends(b"", length=10**12)
    with serving(announced) as (host, _), pytest.raises(InputError, match="more than 1000 bytes"):
        read_picture(f"http://{host}/a.png", [host], limits=limits)

    def endless(handler):
        handler.send_response(200)
        handler.end_headers()
        while True:
            handler.wfile.write(bytes(1000))

    with serving(endless) as (host, _), pytest.raises(InputError, match="more than 1000 bytes"):
        read_picture(f"http://{host}/a.png", [host], limits=limits)
    with pytest.raises(InputError, match="read up to 1000"):
        read_picture(data_url(bytes(1001)), limits=limits)
    with pytest.raises(InputError, match="read up to 1000"):
        read_picture(data_url(bytes(9000)), limits=limits)


def test_a_server_that_drips_does_not_hold_the_run():
    def drips(handler):
        handler.send_response(200)
        handler.end_headers()
        for byte in png(PICTURE):
            handler.wfile.write(bytes([byte]))
            time.sleep(0.02)

    start = time.monotonic()
    with serving(drips) as (host, _), pytest.raises(InputError, match="no whole picture in 0.2 s"):
        read_picture(f"http://{host}/a.png", [host], limits=PictureLimits(seconds=0.2))
    assert time.monotonic() - start < 1.5


def test_a_small_file_does_not_unpack_to_gigabytes():
    assert len(bomb(30_000, 30_000)) < 300
    with pytest.raises(InputError, match="more pixels|read are up to 40000000"):
        read_picture(data_url(bomb(30_000, 30_000)))
    with pytest.raises(InputError, match=r"7000 x 7000 pixels, read are up to 40000000"):
        read_picture(data_url(bomb(7000, 7000)))
    with pytest.raises(InputError, match="no whole picture"):
        read_picture(data_url(bomb(1000, 1000)))  # within the limit, but most of it is not there


def test_only_whole_pictures_count(tmp_path):
    for content in (b"", b"GIF89a", png(PICTURE)[:-30], b"\x89PNG\r\n\x1a\n" + bytes(50), b"%!PS-Adobe-3.0 EPSF-3.0"):
        with pytest.raises(InputError, match="no whole picture"):
            read_picture(data_url(content))
    with pytest.raises(MissingFileError, match="picture not found"):
        read_picture(tmp_path / "nothing.png")
    for source in ("data:,hello", "data:text/html;base64,aGk=", "data:image/png;base64"):
        with pytest.raises(InputError, match="expected data:image/png;base64"):
            read_picture(source)
    with pytest.raises(InputError, match="is no base64"):
        read_picture("data:image/png;base64,@@@@")


def test_pictures_of_other_kinds_become_upright_rgb():
    grey = Image.fromarray(PICTURE[..., 0])
    assert np.array_equal(read_picture(data_url(encoded(grey, "PNG"))), np.repeat(PICTURE[..., :1], 3, axis=2))
    for kind in ("BMP", "GIF", "WEBP", "JPEG"):
        flat = Image.new("RGB", (6, 4), (0, 0, 255))
        got = read_picture(data_url(encoded(flat, kind), f"image/{kind.lower()}"))
        assert got.shape == (4, 6, 3) and np.abs(got[2, 2].astype(int) - (0, 0, 255)).max() < 6
    turned = Image.fromarray(PICTURE)
    exif = Image.Exif()
    exif[0x0112] = 6  # orientation: turn clockwise by a quarter to see it upright
    assert np.array_equal(read_picture(data_url(encoded(turned, "PNG", exif=exif))), np.rot90(PICTURE, -1))
