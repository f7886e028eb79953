"""What every part of the configuration is made of: strict sections, and paths that depend on its file alone."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, ValidationInfo, model_validator
from pydantic_core import PydanticCustomError


def _path_text(value: object) -> object:
    """Refuse what names no file."""
    if not isinstance(value, str | Path) or value == "":
        raise PydanticCustomError("path_text", "must be a path")
    return value


def _absolute(value: Path, information: ValidationInfo) -> Path:
    """Return a path that does not depend on where the process was started, if the file that holds it is known."""
    directory = (information.context or {}).get("directory")
    return value if directory is None else Path(directory, value)


#: A path; a relative one is relative to the directory of the configuration file.
FilePath = Annotated[Path, BeforeValidator(_path_text), Field(strict=False), AfterValidator(_absolute)]


class Section(BaseModel):
    """Base of every part of the configuration: unknown keys are errors, and nothing changes after loading."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, populate_by_name=True, validate_default=True)

    @model_validator(mode="before")
    @classmethod
    def _fill_sections(cls, data: object) -> object:
        """Read an absent or empty section as one without keys, so that its defaults see the context too."""
        if not isinstance(data, dict):
            return data
        sections = {name for name, item in cls.model_fields.items() if _is_section(item.annotation)}
        return {**data, **{name: {} for name in sections if data.get(name) is None}}


def _is_section(annotation: object) -> bool:
    return isinstance(annotation, type) and issubclass(annotation, Section)
