"""Databases as earlier versions left them."""

from __future__ import annotations

import sqlite3
from dataclasses import replace
from pathlib import Path

from reverie.cache.sqlite_schema import APPLICATION_ID, MIGRATIONS, define_functions, image_size, row_of
from reverie.entry import Record
from reverie.testing.samples import png_bytes, record
from reverie.vectors import to_bytes

RECORDS = [
    record(1, prompt="a red fox", content_hash=""),
    record(2, pinned=True, embedding=None),
    record(3, byte_size=0, timestamp="2024-01-01T00:00:00"),
    record(4, prompt="the sea", byte_size=0),
]


def database_of_shape(folder: Path, shape: int, records: list[Record]) -> Path:
    """A database as the first ``shape`` steps made it, with these records and all images but the fourth."""
    path, images = folder / "metadata" / "cache_index.sqlite", folder / "images"
    path.parent.mkdir(parents=True)
    images.mkdir()
    with sqlite3.connect(path) as database:
        database.execute("PRAGMA journal_mode = WAL")
        define_functions(database, images)
        for step in MIGRATIONS[:shape]:
            for statement in step:
                database.execute(statement)
        columns = 12 if shape == 1 else 13  # the second has the time of an entry, and knows every size
        marks = ",".join("?" * columns)
        for each in records:
            if each.number != 4:
                (images / each.image_name).write_bytes(png_bytes(each.number))
            size = each.byte_size or (0 if shape == 1 else image_size(images, each.image_name))
            row = row_of(replace(each, byte_size=size))[:columns]
            database.execute(f"INSERT INTO entries VALUES ({marks})", row)  # noqa: S608 - question marks
            if each.embedding is not None:
                vector = (each.number, each.embedding.encoder, to_bytes(each.embedding))
                database.execute("INSERT INTO vectors VALUES (?, ?, ?)", vector)
                space = (each.embedding.encoder, each.embedding.size)
                database.execute("INSERT OR IGNORE INTO spaces VALUES (?, ?)", space)
            database.execute("INSERT INTO changes (cache_id) VALUES (?)", (each.cache_id,))
        database.execute("UPDATE meta SET value = ? WHERE key = 'next_number'", (len(records) + 3,))
        database.execute(f"PRAGMA user_version = {shape}")
        database.execute(f"PRAGMA application_id = {APPLICATION_ID}")
    database.close()
    return path
