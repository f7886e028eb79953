"""What is made with the keys of one output: its token tables, and its functions that differ from person to person."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from tokenweir.core.generalize.keyed import Prf
from tokenweir.core.generalize.specs import KeyedSpec
from tokenweir.core.tokentable import TokenTable


@dataclass(frozen=True, slots=True)
class OutputKeys:
    """Both belong to the output's key domain and epoch. They are the same object whenever they are asked for."""

    #: Gives the token table of an entry, by its name.
    table: Callable[[str], TokenTable]
    #: Gives the keyed function of a treatment.
    prf: Callable[[KeyedSpec], Prf]
