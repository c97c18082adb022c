"""Weights of networks: which there are, where they are on this machine, how they get here."""
