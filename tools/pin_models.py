"""Print revision, SHA-256 and size of every model file as the Hub states them, to compare with cards.py.

    python tools/pin_models.py                    at the revisions of the cards
    python tools/pin_models.py --revision main    at the newest ones
    python tools/pin_models.py clip-vit-b32       of one model

Exit code 1 when a card says something else. A small file has no SHA-256 on the Hub: it is downloaded
into the Hub's cache and read.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Sequence

from reverie.models import hub
from reverie.models.cards import CARDS, ModelCard, card_of
from reverie.models.store import FAMILIES, source_of, wanted


def lines(card: ModelCard, revision: str | None) -> Iterator[tuple[str, bool]]:
    """What the Hub states of one model, a line each, and whether the card says the same."""
    for family in FAMILIES:
        source = source_of(card, family)
        names = wanted(card, family, text=card.text is not None, vision=True)
        stated = hub.statement(source.repo, revision or source.revision, names)
        yield f"{card.name} {family}: {source.repo} @ {stated.commit}", stated.commit == source.revision
        for name in names:
            size = stated.files[name].size
            sha256 = stated.files[name].sha256 or hub.download(stated, name)[1]
            same = (source.sha256.get(name), source.size[name]) == (sha256, size)
            yield f"    {name}: {sha256} {size:_}", same


def main(arguments: Sequence[str]) -> int:
    """Print the table; 1 when a card differs."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("models", nargs="*", default=list(CARDS), metavar="NAME")
    parser.add_argument("--revision", help="in place of those of the cards")
    given = parser.parse_args(arguments)
    differ = 0
    for name in given.models:
        for line, same in lines(card_of(name), given.revision):
            print(line if same else f"{line}    <- not in the card")
            differ += not same
    return int(differ > 0)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
