"""Format-preserving and opaque tokens, one module per family."""

from tokenweir.core.tokens.base import Algorithm, Kind, Prepared, TokenFormat
from tokenweir.core.tokens.formats import build, smallest_domain
from tokenweir.core.tokens.secret import TokenKey
from tokenweir.core.tokens.specs import TokenSpec, spec_digest
from tokenweir.core.tokens.tokenizer import Tokenizer

__all__ = [
    "Algorithm",
    "Kind",
    "Prepared",
    "TokenFormat",
    "TokenKey",
    "TokenSpec",
    "Tokenizer",
    "build",
    "smallest_domain",
    "spec_digest",
]
