"""Facts about vl/pixels.py: pictures as a generative model is shown them."""

import numpy as np
import pytest
import torch

from core.errors import InputError
from vl.pixels import shown_frame

FRAME = np.arange(8 * 16 * 3, dtype=np.uint8).reshape(8, 16, 3)


def test_a_frame_that_fits_is_shown_as_it_is():
    assert shown_frame(FRAME) is FRAME
    assert shown_frame(FRAME, 16) is FRAME
    assert (shown_frame(torch.from_numpy(FRAME)) == FRAME).all()


def test_a_larger_frame_is_reduced_and_keeps_its_shape():
    assert shown_frame(FRAME, 8).shape == (4, 8, 3)
    assert shown_frame(FRAME.transpose(1, 0, 2), 8).shape == (8, 4, 3)
    assert shown_frame(np.zeros((1, 300, 3), np.uint8), 3).shape == (1, 3, 3)  # never without a pixel
    even = np.full((9, 9, 3), 77, np.uint8)
    assert (shown_frame(even, 4) == 77).all()


@pytest.mark.parametrize("frame", [FRAME / 255, FRAME[..., :2], FRAME[0], FRAME[:0], FRAME[None]])
def test_what_is_no_picture_is_refused(frame):
    with pytest.raises(InputError, match=r"expected uint8 \(H, W, 3\)"):
        shown_frame(frame, 4)
