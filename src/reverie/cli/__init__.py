"""The command line: `reverie.cli.main` is its root, one module a noun."""
