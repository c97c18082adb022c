"""Encoders: pictures to unit vectors. Each lives in its own module and is chosen by name."""
