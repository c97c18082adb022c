"""``python -m reverie`` is the command `reverie`."""

from reverie.cli.main import main

main()
