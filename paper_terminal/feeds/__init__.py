"""Market feeds of the paper terminal: a seeded synthetic market, and tick files.

A feed is anything that satisfies `Feed`.
"""

from paper_terminal.feeds.base import Clock, Feed, FeedError
from paper_terminal.feeds.files import FileFeed
from paper_terminal.feeds.loading import CrossedPolicy, FileReport, TickFile
from paper_terminal.feeds.synthetic import DEFAULT_SYMBOLS, SyntheticFeed, SyntheticSymbol

__all__ = [
    "DEFAULT_SYMBOLS",
    "Clock",
    "CrossedPolicy",
    "Feed",
    "FeedError",
    "FileFeed",
    "FileReport",
    "SyntheticFeed",
    "SyntheticSymbol",
    "TickFile",
]
