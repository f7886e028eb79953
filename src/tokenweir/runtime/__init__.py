"""The running gateway: supervisor, consent applier and workers."""
