"""Which of the engine's functions a user's query may call.

The engine sorts its functions into categories. Whole categories of pure functions are allowed; the category
"Other" mixes pure functions with ones that read files, settings and the host, so there each name is listed.
A category that is not named here is refused: new kinds of functions stay closed until someone opens them.
"""

import re
from dataclasses import dataclass

__all__ = ["EngineFunction", "is_allowed_function"]


@dataclass(frozen=True, slots=True)
class EngineFunction:
    """One row of system.functions."""

    name: str
    alias_to: str
    category: str
    is_aggregate: bool
    is_builtin: bool


_CATEGORIES = frozenset(
    {
        "Aggregate Functions",
        "Arithmetic",
        "Arrays",
        "Bit",
        "Bitmap",
        "Comparison",
        "Conditional",
        "Dates and Times",
        "Distance",
        "Encoding",
        "Financial",
        "Geo",
        "Hash",
        "IP Address",
        "JSON",
        "Logical",
        "Map",
        "Mathematical",
        "Null",
        "Random Number",
        "Rounding",
        "String",
        "String Replacement",
        "String Search",
        "String Splitting",
        "Time Window",
        "Tuple",
        "Type Conversion",
        "URL",
        "UUID",
    }
)

_OTHERS = frozenset(
    {
        "bar",
        "blockNumber",
        "byteSize",
        "caseWithExpression",
        "countDigits",
        "currentDatabase",
        "currentUser",
        "defaultValueOfArgumentType",
        "defaultValueOfTypeName",
        "digits",
        "finalizeAggregation",
        "formatReadableDecimalSize",
        "formatReadableQuantity",
        "formatReadableSize",
        "formatReadableTimeDelta",
        "getSubcolumn",
        "identity",
        "ignore",
        "initializeAggregation",
        "isConstant",
        "isDecimalOverflow",
        "materialize",
        "minSampleSizeContinuous",
        "minSampleSizeConversion",
        "_CAST",
        "neighbor",
        "parseISO8601Duration",
        "parseReadableSize",
        "parseReadableSizeOrNull",
        "parseReadableSizeOrZero",
        "parseTimeDelta",
        "revision",
        "rowNumberInAllBlocks",
        "rowNumberInBlock",
        "runningAccumulate",
        "runningDifference",
        "runningDifferenceStartingWithFirstValue",
        "toColumnTypeName",
        "toTypeName",
        "transform",
        "variantElement",
        "variantType",
        "version",
        "visibleWidth",
    }
)

# Members of allowed categories that reach outside the query: they format or parse rows by a schema given as
# text (which can hold expressions such as `DEFAULT file(...)`), end the server, burn time or show the host.
_DENIED = frozenset(
    {
        "aggthrow",
        "chdb",
        "flamegraph",
        "formatrow",
        "formatrownonewline",
        "groupformat",
        "icebergbucket",
        "iceberghash",
        "kqlparametercast",
        "servertimezone",
        "throwif",
    }
)
_DENIED_FORMS = re.compile(
    r"file.*|url|s3.*|remote.*|dict.*|joinget.*|getsetting.*|getserver.*|getmergetree.*|hascolumnintable|sleep.*|"
    r"hostname|fqdn|fullhostname|ai[A-Z].*|addressto.*|demangle|.*mergetreepart.*|zookeeper.*|catboost.*|"
    r"show.*|formatquery.*|fuzz(?:query|bits)|structureto.*|generaterandomstructure|generateserialid|__.*",
    re.IGNORECASE,
)


def is_allowed_function(name: str, function: EngineFunction) -> bool:
    """True if a user may call `name`, which the engine resolves to `function` (aliases already followed)."""
    if not function.is_builtin:
        return False
    for spelled in (name, function.name):
        if spelled.lower() in _DENIED or _is_denied_form(spelled):
            return False
    return (
        function.category in _CATEGORIES or function.name in _OTHERS or function.name == "caseWithExpression"
    )


def _is_denied_form(name: str) -> bool:
    # "ai" alone would match airports of a later engine; the engine writes aiGenerate or AIGenerate.
    if name[:2].lower() == "ai" and not name[2:3].isupper():
        return False
    return _DENIED_FORMS.fullmatch(name) is not None
