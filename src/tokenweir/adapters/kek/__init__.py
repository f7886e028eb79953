"""Key-encryption keys: what wraps the roots of the keyset, wherever that key lives.

One module per provider, and one interface, :class:`~tokenweir.adapters.kek.base.Kek`. The clients of vendors are
extras and imported only where the configuration names their provider.
"""

from tokenweir.adapters.kek.base import STATE, Kek, KekContext
from tokenweir.adapters.kek.file import FileKek
from tokenweir.adapters.kek.opening import open_kek

__all__ = ["STATE", "FileKek", "Kek", "KekContext", "open_kek"]
