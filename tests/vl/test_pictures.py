"""Facts about vl/pictures.py."""

import random
import warnings
import zipfile

import numpy as np
import pytest
from PIL import Image

from core.errors import InputError, MissingFileError
from tests.vl.picture_files import bomb, encoded
from vl.pictures import PictureError, PictureLimits, Pictures, decode_picture, resize

PICTURE = np.random.default_rng(0).integers(0, 256, (5, 7, 3), dtype=np.uint8)


def cause(call, *args):
    with pytest.raises(PictureError) as error:
        call(*args)
    assert isinstance(error.value, InputError)
    return error.value.cause


def test_a_folder_and_an_archive_give_the_same_pictures_by_the_same_names(tmp_path):
    files = {"b.PNG": PICTURE, "deep/er/a.png": PICTURE[::-1], "deep/c.webp": PICTURE[:2]}
    folder = tmp_path / "pictures"
    with zipfile.ZipFile(tmp_path / "pictures.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        for name, picture in files.items():
            content = encoded(picture, "WEBP" if name.endswith("webp") else "PNG", lossless=True)
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_bytes(content)
            archive.writestr(name, content)
        archive.writestr("notes.txt", "no picture")
        archive.writestr("__MACOSX/b.PNG", "what some programs add")
    (folder / "notes.txt").write_text("no picture")
    for pictures in (Pictures(folder), Pictures(tmp_path / "pictures.zip")):
        assert pictures.names() == sorted(files)
        for name, picture in files.items():
            got = pictures.read(name)
            assert got.dtype == np.uint8 and np.array_equal(got, picture)
        assert not pictures.converted and pictures.bytes_read > 100


def test_names_that_lead_out_are_refused_and_links_are_followed(tmp_path):
    (tmp_path / "secret.png").write_bytes(encoded(PICTURE))
    folder = tmp_path / "pictures"
    folder.mkdir()
    (folder / "linked.png").symlink_to(tmp_path / "secret.png")
    (folder / "inside.png").write_bytes(encoded(PICTURE))
    pictures = Pictures(folder)
    for name in ("../secret.png", "a/../../secret.png", str(tmp_path / "secret.png"), "/etc/passwd", ""):
        assert cause(pictures.read, name) == ("outside" if name else "missing")
    assert np.array_equal(pictures.read("linked.png"), PICTURE)
    assert np.array_equal(pictures.read(str(folder / "inside.png")), PICTURE)  # absolute, but inside
    assert np.array_equal(Pictures("/").read(str(tmp_path / "secret.png")), PICTURE)
    with zipfile.ZipFile(tmp_path / "p.zip", "w") as archive:
        for name in ("../secret.png", "/etc/x.png", "..\\secret.png", "fine.png"):
            archive.writestr(name, encoded(PICTURE))
    pictures = Pictures(tmp_path / "p.zip")
    assert pictures.names() == ["fine.png"]
    assert {cause(pictures.read, name) for name in ("../secret.png", "/etc/x.png", "..\\secret.png")} == {"outside"}


def test_what_cannot_be_read_has_a_cause(tmp_path):
    noise = np.random.default_rng(1).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    jpeg = encoded(noise, "JPEG")
    hostile = {
        "bomb.png": (bomb(30_000, 30_000), "too many pixels"),
        "large.png": (bomb(7000, 7000), "too many pixels"),
        "thin.png": (encoded(np.zeros((1, 30_000, 3), dtype=np.uint8)), "too thin"),
        "tall.png": (encoded(np.zeros((330, 10, 3), dtype=np.uint8)), "too thin"),
        "cut.jpg": (jpeg[: len(jpeg) // 2], "truncated"),
        "cut.png": (encoded(noise)[:-3000], "truncated"),
        "page.jpg": (b"<html>not found</html>", "not a picture"),
        "empty.jpg": (b"", "not a picture"),
        "script.png": (b"%!PS-Adobe-3.0 EPSF-3.0", "not a picture"),
        "fat.bmp": (encoded(noise, "BMP"), "too many bytes"),
    }
    for name, (content, _) in hostile.items():
        (tmp_path / name).write_bytes(content)
    (tmp_path / "folder.png").mkdir()
    pictures = Pictures(tmp_path, PictureLimits(bytes=12_200))
    for name, (_, expected) in hostile.items():
        assert cause(pictures.read, name) == expected, name
    for name in ("nothing.png", "folder.png", "nul\0.png", "x" * 5000):
        assert cause(pictures.read, name) == "missing"


def test_the_limits_themselves_are_allowed():
    assert decode_picture(encoded(np.zeros((32, 1, 3), dtype=np.uint8)), "x").pixels.shape == (32, 1, 3)
    limits = PictureLimits(pixels=35)
    assert decode_picture(encoded(PICTURE), "x", limits).pixels.shape == (5, 7, 3)
    assert cause(decode_picture, encoded(PICTURE), "x", PictureLimits(pixels=34)) == "too many pixels"


def test_damaged_archives_have_a_cause(tmp_path):
    with zipfile.ZipFile(tmp_path / "p.zip", "w") as archive:
        archive.writestr("a.png", encoded(PICTURE))
        archive.writestr("zeros.bmp", bytes(1 << 20), zipfile.ZIP_DEFLATED)
    content = bytearray((tmp_path / "p.zip").read_bytes())
    content[45:60] = bytes(15)  # within the first picture: its sum is wrong now
    (tmp_path / "p.zip").write_bytes(content)
    pictures = Pictures(tmp_path / "p.zip", PictureLimits(bytes=100_000))
    assert cause(pictures.read, "a.png") == "damaged"
    assert cause(pictures.read, "zeros.bmp") == "too many bytes"
    assert cause(pictures.read, "b.png") == "missing"
    (tmp_path / "p.zip").write_bytes(content[:100])
    with pytest.raises(InputError, match="neither a folder nor a whole zip"):
        Pictures(tmp_path / "p.zip")
    with pytest.raises(MissingFileError, match="pictures not found"):
        Pictures(tmp_path / "nowhere")


def test_every_kind_of_pixels_becomes_rgb_and_is_counted(tmp_path):
    grey = np.array([[0, 255, 256, 40_000, 65_535]], dtype=np.uint16)
    half = Image.new("RGBA", (2, 1), (255, 0, 0, 255))
    half.putpixel((0, 0), (10, 20, 30, 0))
    palette = Image.new("P", (2, 1))
    palette.putpalette([0, 0, 255, 0, 255, 0])
    palette.putpixel((1, 0), 1)
    frames = [Image.new("RGB", (3, 2), color) for color in ((250, 0, 0), (0, 250, 0))]
    files = {
        "grey16.png": encoded(grey),
        "half.png": encoded(half),
        "palette.png": encoded(palette),
        "hole.png": encoded(palette, transparency=1),
        "opaque.png": encoded(Image.new("RGBA", (2, 1), (1, 2, 3, 255))),
        "cmyk.jpg": encoded(Image.new("CMYK", (4, 4), (0, 255, 255, 0)), "JPEG", quality=95),
        "moving.gif": encoded(frames[0], "GIF", save_all=True, append_images=frames[1:]),
        "moving.webp": encoded(frames[0], "WEBP", save_all=True, append_images=frames[1:], lossless=True),
        "moving.png": encoded(frames[0], "PNG", save_all=True, append_images=frames[1:]),
    }
    for name, content in files.items():
        (tmp_path / name).write_bytes(content)
    pictures = Pictures(tmp_path)
    assert pictures.read("grey16.png")[0, :, 1].tolist() == [0, 0, 1, 156, 255]
    assert pictures.read("half.png").tolist() == [[[255, 255, 255], [255, 0, 0]]]  # over white
    assert pictures.read("palette.png").tolist() == [[[0, 0, 255], [0, 255, 0]]]
    assert pictures.read("hole.png").tolist() == [[[0, 0, 255], [255, 255, 255]]]
    assert pictures.read("opaque.png").tolist() == [[[1, 2, 3]] * 2]
    assert np.abs(pictures.read("cmyk.jpg").astype(int) - (255, 0, 0)).max() < 8
    for name in ("moving.gif", "moving.webp", "moving.png"):
        assert np.array_equal(pictures.read(name), np.full((2, 3, 3), (250, 0, 0))), name
    assert pictures.converted == {"16 bits": 1, "transparent": 2, "CMYK": 1, "first frame": 3}


def test_a_picture_on_its_side_is_turned_upright():
    exif = Image.Exif()
    exif[0x0112] = 6  # orientation: turn clockwise by a quarter to see it upright
    for deep in (PICTURE, PICTURE[..., 0].astype(np.uint16) << 8):
        got = decode_picture(encoded(deep, exif=exif), "x").pixels[..., 0]
        assert np.array_equal(got, np.rot90(PICTURE[..., 0], -1))


def test_no_damage_gets_past_the_decoder_as_another_error():
    rng = random.Random(0)
    for kind in ("PNG", "JPEG", "GIF", "WEBP", "BMP"):
        whole = encoded(np.random.default_rng(2).integers(0, 256, (20, 30, 3), dtype=np.uint8), kind)
        for _ in range(60):
            content = bytearray(whole[: rng.randrange(1, len(whole) + 1)])
            for _ in range(rng.randrange(4)):
                content[rng.randrange(len(content))] = rng.randrange(256)
            try:
                got = decode_picture(bytes(content), "x").pixels
                assert got.dtype == np.uint8 and got.ndim == 3
            except PictureError as error:
                assert error.cause and str(error).startswith("x ")


def test_reading_leaves_the_filters_of_warnings_alone():
    with warnings.catch_warnings():
        before = list(warnings.filters)
        decode_picture(encoded(PICTURE), "x")
        assert warnings.filters == before


def test_a_jpeg_is_unpacked_small_where_that_is_enough():
    rows, columns = np.mgrid[:480, :640]
    smooth = np.stack([rows * 255 // 480, columns * 255 // 640, rows * 0 + 90], axis=-1).astype(np.uint8)
    content = encoded(smooth, "JPEG", quality=95)
    assert decode_picture(content, "x", least=(100, 100)).pixels.shape == (120, 160, 3)
    assert decode_picture(content, "x", least=(300, 200)).pixels.shape == (480, 640, 3)
    whole, small = (resize(decode_picture(content, "x", least=least).pixels, 64, 64) for least in (None, (64, 64)))
    assert np.abs(whole.astype(int) - small).max() <= 6
    assert decode_picture(encoded(smooth), "x", least=(64, 64)).pixels.shape == (480, 640, 3)  # only JPEG can


def test_resizing_keeps_means_and_leaves_no_pattern_of_fine_stripes():
    stripes = np.zeros((64, 64, 3), dtype=np.uint8)
    stripes[:, ::2] = 200
    small = resize(stripes, 16, 20)
    assert small.shape == (16, 20, 3) and np.abs(small.astype(int) - 100).max() < 12
    assert resize(stripes, 64, 64) is stripes
