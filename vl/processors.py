"""Processors of transformers that turn pictures and words into the inputs of an image-text model.

Those of some families insist on a video processor, which needs torchvision; since only pictures are read here,
`without_video` builds them without one.
"""

from typing import Any

from core.errors import InputError


def load_processor(name: str, local: bool) -> Any:
    """The processor of a folder (`local`) or hub id, without its video side where torchvision is not installed.

    Raises:
        InputError: there is none that reads both pictures and words. Also whatever transformers raises while loading.
    """
    from transformers import AutoConfig, AutoProcessor
    from transformers.models.auto.processing_auto import PROCESSOR_MAPPING
    from transformers.utils import is_torchvision_available

    kind: Any = PROCESSOR_MAPPING.get(type(AutoConfig.from_pretrained(name, local_files_only=local)), None)
    if kind is not None and "video_processor" in kind.get_attributes() and not is_torchvision_available():
        processor = without_video(kind).from_pretrained(name, local_files_only=local)
    else:
        processor = AutoProcessor.from_pretrained(name, local_files_only=local)
    if getattr(processor, "image_processor", None) is None or getattr(processor, "tokenizer", None) is None:
        raise InputError("there is no processor for pictures and words beside the weights (preprocessor_config.json)")
    return processor


def without_video(kind: Any) -> Any:
    """A processor class like `kind` that has and loads no video processor."""

    class Pictures(kind):
        @classmethod
        def get_attributes(cls) -> list[str]:
            return [name for name in super().get_attributes() if name != "video_processor"]

    Pictures.__name__ = kind.__name__  # by which transformers recognises families
    return Pictures
