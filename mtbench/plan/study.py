"""The study: which methods on which data sets, under which search, read from TOML or from the command line."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, ValidationInfo, field_validator

from mtbench.errors import StudyError
from mtbench.plan.search import EXPECTED as EXPECTED_SEARCH
from mtbench.plan.search import parse_search

Scalar = bool | int | float | str


def _as_list(value: Any) -> Any:
    return value if isinstance(value, list) else [value]


_LOCAL_DEVICES = r"auto|cpu(:[1-9][0-9]*)?|cuda:[0-9]+(,cuda:[0-9]+)*"
Values = Annotated[list[Scalar], BeforeValidator(_as_list)]


class Study(BaseModel):
    """What is to be run. Unknown keys are refused.

    Attributes:
        methods: Names of methods.
        datasets: Names of data sets.
        splits: How many splits of each data set; None for each data set's own default.
        seeds: Seeds per split; they vary initialisation and batch order.
        search: "default", "grid", "random:N", "tpe:N" or "halving:N"; see `mtbench.plan.search.parse_search`.
        refit: Train the selected setting again on training and validation rows; None for each recipe's default.
        selection: The rule that selects from validation results.
        stack_size: Trials per stack, or "auto".
        dtype: "float32", or "float64" for tests.
        engine: Where stacks run: "local", or an engine of a plugin.
        devices: Of the local engine: "auto", "cpu", "cpu:2" (two workers), or "cuda:0,cuda:1". Others have their own.
        time_limit: Seconds a stack may take; None for no limit.
        out: The store.
        plugins: Plugin files, relative to the study file.
        set: "method.hyperparameter" = value, or list of values to search.
        recipe: By data set, recipe fields that differ from its own.
        options: By data set, options that differ from its defaults.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    methods: list[str] = Field(min_length=1)
    datasets: list[str] = Field(min_length=1)
    splits: Annotated[int, Field(ge=1, strict=True)] | None = None
    seeds: int = Field(default=1, ge=1, strict=True)
    search: str = "default"
    refit: bool | None = None
    selection: Literal["per_split", "across_splits"] = "per_split"
    stack_size: Literal["auto"] | Annotated[int, Field(ge=1, strict=True)] = "auto"
    dtype: Literal["float32", "float64"] | None = None
    engine: str = Field(default="local", min_length=1)
    devices: str = Field(default="auto", min_length=1)
    time_limit: float | None = Field(default=None, gt=0)
    out: Path = Path("results/default")
    plugins: list[Path] = []
    set: dict[str, Values] = {}
    recipe: dict[str, dict[str, Scalar]] = {}
    options: dict[str, dict[str, Scalar]] = {}

    @field_validator("methods", "datasets")
    @classmethod
    def _unique(cls, names: list[str]) -> list[str]:
        return list(dict.fromkeys(names))

    @field_validator("search")
    @classmethod
    def _a_search(cls, text: str) -> str:
        parse_search(text)
        return text

    @field_validator("devices")
    @classmethod
    def _known_to_the_engine(cls, devices: str, others: ValidationInfo) -> str:
        if others.data.get("engine") != "local":
            return devices
        devices = re.sub(r"\s*,\s*", ",", devices.strip())
        if not re.fullmatch(_LOCAL_DEVICES, devices):
            raise ValueError(_EXPECTED["devices"])
        return devices

    @field_validator("set")
    @classmethod
    def _dotted(cls, values: dict[str, list[Scalar]]) -> dict[str, list[Scalar]]:
        for key in values:
            if key.count(".") != 1:
                raise ValueError(f"'{key}' to read method.hyperparameter, in quotes")
            if not values[key]:
                raise ValueError(f"at least one value for '{key}'")
        return values


_EXPECTED = {
    "search": EXPECTED_SEARCH,
    "stack_size": "auto or a whole number, at least 1",
    "devices": "auto, cpu, cpu:N or a list such as cuda:0,cuda:1",
    "engine": "the name of an engine",
    "methods": "a list of names, at least one",
    "datasets": "a list of names, at least one",
    "splits": "a whole number, at least 1",
    "seeds": "a whole number, at least 1",
    "time_limit": "a number of seconds above 0",
    "selection": "per_split or across_splits",
    "dtype": "float32 or float64",
    "refit": "true or false",
    "out": "the path of a folder",
    "plugins": "a list of files",
    "set": 'a table of "method.hyperparameter" = value or list of values',
    "recipe": "a table for each data set, such as [recipe.digits]",
    "options": "a table for each data set, such as [options.digits]",
}


def study_from(values: Mapping[str, Any], where: str) -> Study:
    """Checks the parts of a study.

    Args:
        values: By key.
        where: Where they come from, for the message.

    Raises:
        StudyError: A key is unknown or a value is not what it must be; names key, expectation and what was found.
    """
    try:
        return Study(**values)
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(str(part) for part in first["loc"] if part not in ("int", "literal['auto']"))
        if first["type"] == "extra_forbidden":
            raise StudyError(f"{where}: unknown key '{key}'. Known: {', '.join(Study.model_fields)}.") from None
        if first["type"] == "missing":
            raise StudyError(f"{where}: key '{key}' is missing; name at least one.") from None
        if first["type"] == "value_error":
            expected = first["msg"].removeprefix("Value error, ")
        else:
            expected = _EXPECTED[key.partition(".")[0]]
        raise StudyError(f"{where}: key '{key}': expected {expected}; found {first['input']!r}.") from None


def narrowed(values: Mapping[str, Any], methods: Sequence[str], datasets: Sequence[str]) -> dict[str, Any]:
    """Parts of a study without what concerns methods and data sets that it names and that are left out.

    What concerns a name that the study does not have stays, for it is a mistake.

    Args:
        values: The study, by key.
        methods: The methods that are run; empty for those of the study.
        datasets: Likewise.
    """
    gone = {
        "set": set(values.get("methods", ())) - set(methods) if methods else set(),
        "recipe": set(values.get("datasets", ())) - set(datasets) if datasets else set(),
    }
    gone["options"] = gone["recipe"]
    found = dict(values)
    for key, names in gone.items():
        if key in found:
            found[key] = {name: value for name, value in found[key].items() if name.partition(".")[0] not in names}
    return found | ({"methods": list(methods)} if methods else {}) | ({"datasets": list(datasets)} if datasets else {})


def read_study(path: Path) -> Study:
    """Reads a study file.

    Relative plugin files are taken from the study's own folder; `out` from the working directory.

    Raises:
        StudyError: The file is missing, is no TOML (names the line), or breaks the form of a study (names the key).
    """
    text = ""
    try:
        text = path.read_text(encoding="utf-8")
        values = tomllib.loads(text)
    except FileNotFoundError:
        raise StudyError(f"Study file {path} does not exist.") from None
    except (OSError, UnicodeDecodeError) as error:
        raise StudyError(f"Study file {path} cannot be read: {error}.") from None
    except tomllib.TOMLDecodeError as error:
        last = f"end of document, line {len(text.splitlines())}"
        raise StudyError(f"{path} is not valid TOML: {str(error).replace('end of document', last)}.") from None
    study = study_from(values, str(path))
    return study.model_copy(update={"plugins": [path.parent / plugin for plugin in study.plugins]})
