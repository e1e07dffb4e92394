"""What a device's data sheet promises for products of bfloat16 matrices: the denominator of MFU."""

# Dense TFLOP/s by the name that the driver gives; NVIDIA's data sheets of H100, H200 (SXM) and A100.
PEAKS = {
    "NVIDIA H200": 989.4,
    "NVIDIA H100 80GB HBM3": 989.4,
    "NVIDIA A100-SXM4-80GB": 312.0,
    "NVIDIA A100-SXM4-40GB": 312.0,
}


def mfu(flops_per_token: float, tokens_per_s: float, device: str) -> float | None:
    """Return model FLOPs over the peak, as a share of 1; None for a device whose peak is not listed here.

    Args:
        flops_per_token: of a training step, by the model's own formula (`Decoder.flops_per_token`); what an
            implementation computes again, or beyond the definition, is not counted.
        tokens_per_s: throughput.
        device: its name.
    """
    peak = PEAKS.get(device)
    return None if peak is None else flops_per_token * tokens_per_s / (1e12 * peak)
