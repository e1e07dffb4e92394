"""Measurements other than training: coordinate checks, generation, memory."""
