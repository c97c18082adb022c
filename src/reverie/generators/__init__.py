"""Generators: what makes the next frame from an image, each loaded by name through the registry."""
