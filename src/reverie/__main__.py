"""``python -m reverie`` and the command `reverie`: nothing is imported here that takes time."""

import sys


def main() -> None:
    """Run the command; Ctrl-C while it is still being loaded ends it without a word."""
    try:
        from reverie.cli.main import main as run  # noqa: PLC0415 - Ctrl-C ends this import as well

        run()
    except KeyboardInterrupt:
        sys.exit(130)


if __name__ == "__main__":
    main()
