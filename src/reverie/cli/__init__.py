"""The command line: `main` is the entry point, one module a noun."""
