"""Device functions that the GPU kernels of several operations share."""
