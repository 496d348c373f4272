"""Where bfloat16 pays."""

import torch

NATIVE_BFLOAT16 = ("avx512_bf16", "amx_bf16", "bf16")  # names in torch.cpu.get_capabilities(), x86 and Arm


def uses_bfloat16(precision: str, device: str) -> bool:
    """Whether image networks run under bfloat16 autocast; weights, normalisations and losses stay float32.

    Args:
        precision: "float32", "bfloat16", or "auto" = bfloat16 where the device has it natively.
        device: "cpu" or "cuda", with or without a number.
    """
    if precision != "auto":
        return precision == "bfloat16"
    if device.startswith("cuda"):
        return torch.cuda.is_bf16_supported()
    # without native instructions every product would convert back and forth: slower than float32
    capabilities = torch.cpu.get_capabilities() if hasattr(torch.cpu, "get_capabilities") else {}
    return any(capabilities.get(name, False) for name in NATIVE_BFLOAT16)
