"""The configuration of a gateway: its file, its environment variables, and its model."""

from tokenweir.config.loader import RULES, config_from_environment, load_config, load_config_text, override_names
from tokenweir.config.models import Config, config_json_schema, normalised

__all__ = [
    "RULES",
    "Config",
    "config_from_environment",
    "config_json_schema",
    "load_config",
    "load_config_text",
    "normalised",
    "override_names",
]
