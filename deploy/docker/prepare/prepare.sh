#!/bin/sh
# Makes what a gateway needs once: a keyset on the mounted volume, and the schema of the raw topic in the registry.
set -eu

if [ ! -f "$TOKENWEIR__KEYS__DIRECTORY/keyset.json" ]; then
  tokenweir keys init --config "$CONFIG"
fi
exec python /prepare/register_schema.py customer.interactions-value /prepare/customer.interactions-value.avsc
