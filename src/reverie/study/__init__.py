"""The study: policies side by side on several generators, measured honestly."""
