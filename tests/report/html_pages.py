"""A page of ours, taken apart."""

from __future__ import annotations

from html.parser import HTMLParser

VOID = {"meta", "img", "source", "br", "link", "input"}
HOSTILE = '<script>alert("x")</script>&amp;'


class Page(HTMLParser):
    """Collects tags, addresses and text, and insists on balance."""

    def __init__(self, text):
        super().__init__()
        self.stack, self.tags, self.addresses, self.words = [], [], [], []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag, attrs):
        """Open an element."""
        self.tags.append((tag, dict(attrs)))
        self.addresses += [
            value for name, value in attrs if name in ("src", "href", "srcset", "data", "poster")
        ]
        if tag not in VOID:
            self.stack.append(tag)

    def handle_startendtag(self, tag, attrs):
        """Note an element that closes itself."""
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        """Close the innermost element."""
        assert self.stack.pop() == tag

    def handle_data(self, data):
        """Keep the text."""
        self.words.append(data)

    @property
    def text(self):
        """All text, in reading order, single spaces."""
        return " ".join(" ".join(self.words).split())

    def has(self, wanted):
        """Whether an element of that name is on the page."""
        return any(tag == wanted for tag, _ in self.tags)
