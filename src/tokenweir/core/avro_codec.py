"""Avro data as Python values and back.

Values look as :mod:`tokenweir.core.schema` says, and no logical type is converted: a timestamp stays an ``int``, a
decimal ``bytes``, a uuid ``str``.
"""

from __future__ import annotations

from tokenweir.core.avro_closures import Value
from tokenweir.core.avro_reader import Reader, reader, splitter
from tokenweir.core.avro_writer import writer

__all__ = ["Reader", "Value", "reader", "splitter", "writer"]
