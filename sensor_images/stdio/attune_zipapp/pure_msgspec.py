"""The part of the library ``msgspec`` that the contract, the SDK and the supervisor use, in plain Python.

It becomes the module ``msgspec`` inside the zipapp, where nothing compiled may be: the same file runs on every processor and with
every libc. It is slower by an order of magnitude. Tests compare the two on all messages of the contract.
"""

import enum
import inspect
import json as _json
import types
import typing
import uuid
from collections.abc import Callable, Mapping
from datetime import datetime, timedelta
from typing import Any, Final, TypeVar

_T = TypeVar("_T")
_NOTHING: Final = object()


class MsgspecError(Exception):
    """Base of the errors."""


class ValidationError(MsgspecError, ValueError):
    """JSON that is not of the wanted shape."""


class DecodeError(MsgspecError, ValueError):
    """Bytes that are not JSON."""


class Meta:
    """What else is said of a type in an annotation. Nothing of it is checked here; the API checks what sensors send."""

    def __init__(self, **_said: Any) -> None:
        """Take whatever is said."""


class Raw(bytes):
    """A part of a document that stays as it is. Sensors name it in types, and read none."""


class _Options(typing.NamedTuple):
    frozen: bool
    kw_only: bool
    omit_defaults: bool
    forbid_unknown_fields: bool


class _StructMeta(type):
    """Reads the fields off the annotations, and the options off the class statement."""

    __struct_fields__: tuple[str, ...]
    __struct_defaults__: dict[str, Any]
    __struct_options__: _Options

    def __new__(
        cls,
        name: str,
        bases: tuple[type, ...],
        namespace: dict[str, Any],
        *,
        frozen: bool = False,
        kw_only: bool = False,
        omit_defaults: bool = False,
        forbid_unknown_fields: bool = False,
        **_ignored: Any,
    ) -> "_StructMeta":
        fields: dict[str, None] = {}
        defaults: dict[str, Any] = {}
        for base in bases:
            fields |= dict.fromkeys(getattr(base, "__struct_fields__", ()))
            defaults |= getattr(base, "__struct_defaults__", {})
        for field in namespace.get("__annotations__", {}) or _annotations_of(namespace):
            fields[field] = None
            if field in namespace:
                defaults[field] = namespace.pop(field)
        made = super().__new__(cls, name, bases, namespace)
        made.__struct_fields__ = tuple(fields)
        made.__struct_defaults__ = defaults
        made.__struct_options__ = _Options(frozen, kw_only, omit_defaults, forbid_unknown_fields)
        return made

    def __init__(cls, name: str, bases: tuple[type, ...], namespace: dict[str, Any], **_options: Any) -> None:
        super().__init__(name, bases, namespace)


def _annotations_of(namespace: dict[str, Any]) -> Mapping[str, Any]:
    """Annotations as Python 3.14 keeps them (PEP 649)."""
    annotate = namespace.get("__annotate__") or namespace.get("__annotate_func__")
    if annotate is None:
        return {}
    import annotationlib  # type: ignore[import-not-found,unused-ignore]

    found: Mapping[str, Any] = annotationlib.call_annotate_function(annotate, annotationlib.Format.FORWARDREF)
    return found


class Struct(metaclass=_StructMeta):
    """A class of named fields."""

    def __init__(self, *values: Any, **named: Any) -> None:
        cls = type(self)
        given = dict(zip(cls.__struct_fields__, values, strict=False)) | named
        if cls.__struct_options__.kw_only and values:
            raise TypeError("Extra positional arguments provided")
        if unknown := given.keys() - set(cls.__struct_fields__):
            raise TypeError(f"Unexpected keyword argument '{min(unknown)}'")
        for field in cls.__struct_fields__:
            value = given.get(field, cls.__struct_defaults__.get(field, _NOTHING))
            if value is _NOTHING:
                raise TypeError(f"Missing required argument '{field}'")
            object.__setattr__(self, field, value)

    def __setattr__(self, name: str, value: Any) -> None:
        if type(self).__struct_options__.frozen:
            raise AttributeError(f"immutable type: '{type(self).__name__}'")
        object.__setattr__(self, name, value)

    def __eq__(self, other: object) -> bool:
        if type(self) is not type(other):
            return NotImplemented
        return all(getattr(self, field) == getattr(other, field) for field in type(self).__struct_fields__)

    def __hash__(self) -> int:
        if not type(self).__struct_options__.frozen:
            raise TypeError(f"unhashable type: '{type(self).__name__}'")
        return hash(tuple(getattr(self, field) for field in type(self).__struct_fields__))

    def __repr__(self) -> str:
        fields = ", ".join(f"{field}={getattr(self, field)!r}" for field in type(self).__struct_fields__)
        return f"{type(self).__name__}({fields})"


# -- out ---------------------------------------------------------------------------------------------------------------


def _plain(value: Any, hook: Callable[[Any], Any] | None, *, ordered: bool) -> Any:
    """The value as what Python's own JSON module writes."""
    if value is None or (isinstance(value, bool | int | float) and not isinstance(value, enum.Enum)):
        return value if not isinstance(value, float) or value - value == 0 else None
    if isinstance(value, enum.Enum):
        return _plain(value.value, hook, ordered=ordered)
    if isinstance(value, str):
        return str(value)
    if isinstance(value, Mapping):
        return {_key(key): _plain(item, hook, ordered=ordered) for key, item in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [_plain(item, hook, ordered=ordered) for item in value]
    if isinstance(value, Struct):
        return {
            field: _plain(found, hook, ordered=ordered)
            for field in type(value).__struct_fields__
            if not _is_left_out(value, field, found := getattr(value, field))
        }
    if isinstance(value, datetime):
        text = value.isoformat()
        return f"{text.removesuffix('+00:00')}Z" if value.utcoffset() == timedelta(0) else text
    if isinstance(value, uuid.UUID):
        return str(value)
    if hook is not None:
        return _plain(hook(value), hook, ordered=ordered)
    raise TypeError(f"Encoding objects of type {type(value).__name__} is unsupported")


def _is_left_out(value: Struct, field: str, found: Any) -> bool:
    cls = type(value)
    if not cls.__struct_options__.omit_defaults:
        return False
    return cls.__struct_defaults__.get(field, _NOTHING) is found


def _key(key: Any) -> str:
    if isinstance(key, enum.Enum):
        key = key.value
    if not isinstance(key, str | int | float):
        raise TypeError("Only dicts with str-like or number-like keys are supported")
    return str(key)


class Encoder:
    """Writes values as JSON. ``order="sorted"`` sorts the fields of everything."""

    def __init__(self, *, enc_hook: Callable[[Any], Any] | None = None, order: str | None = None) -> None:
        self._hook = enc_hook
        self._ordered = order == "sorted"

    def encode(self, value: Any) -> bytes:
        """The value's JSON.

        Raises:
            TypeError: it has something that JSON does not know.
        """
        plain = _plain(value, self._hook, ordered=self._ordered)
        text = _json.dumps(plain, ensure_ascii=False, separators=(",", ":"), sort_keys=self._ordered)
        return text.encode()


# -- in ----------------------------------------------------------------------------------------------------------------


def _no_constant(name: str) -> Any:
    raise DecodeError(f"JSON is malformed: invalid character ({name})")


def _parsed(data: Any) -> Any:
    text = data if isinstance(data, str) else bytes(data).decode()
    try:
        return _json.loads(text, parse_constant=_no_constant)
    except MsgspecError:
        raise
    except ValueError as error:  # also for a number with more digits than Python reads
        cut = isinstance(error, _json.JSONDecodeError) and error.pos >= len(text.rstrip())
        raise DecodeError("Input data was truncated" if cut else f"JSON is malformed: {error}") from None


def _wrong(expected: str, value: Any, path: str) -> ValidationError:
    names = {dict: "object", list: "array", type(None): "null"}
    got = names.get(type(value), type(value).__name__)
    return ValidationError(f"Expected `{expected}`, got `{got}`" + (f" - at `{path}`" if path != "$" else ""))


def _converted(value: Any, wanted: Any, path: str = "$") -> Any:
    """The value as the wanted type."""
    if wanted is Any or isinstance(wanted, TypeVar):
        return value
    origin = typing.get_origin(wanted)
    if origin in (typing.Union, types.UnionType):
        return _one_of(value, typing.get_args(wanted), path)
    if origin in (typing.Annotated, typing.Final):
        return _converted(value, typing.get_args(wanted)[0], path)
    if origin is typing.Literal:
        if value not in typing.get_args(wanted):
            raise ValidationError(f"Invalid enum value {value!r} - at `{path}`")
        return value
    if (origin or wanted) in (list, tuple, dict):
        return _container(value, origin or wanted, typing.get_args(wanted), path)
    return _scalar(value, wanted, path)


def _scalar(value: Any, wanted: Any, path: str) -> Any:
    if inspect.isclass(wanted) and issubclass(wanted, Struct):
        return _struct(value, wanted, path)
    if inspect.isclass(wanted) and issubclass(wanted, enum.Enum):
        try:
            return wanted(value)
        except ValueError:
            raise ValidationError(f"Invalid enum value {value!r} - at `{path}`") from None
    if wanted is type(None) or wanted is None:
        if value is not None:
            raise _wrong("null", value, path)
        return None
    if wanted is datetime or wanted is uuid.UUID:
        if isinstance(value, wanted):
            return value
        if not isinstance(value, str):
            raise _wrong("str", value, path)
        try:
            return _datetime(value) if wanted is datetime else uuid.UUID(value)
        except ValueError:
            name = "RFC3339 encoded datetime" if wanted is datetime else "UUID"
            raise ValidationError(f"Invalid {name} - at `{path}`") from None
    if wanted is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if type(value) is not wanted:
        raise _wrong(wanted.__name__, value, path)
    return value


def _datetime(text: str) -> datetime:
    """A time as RFC 3339 writes it; Python's own reader takes more."""
    if len(text) < 19 or text[10] not in "Tt " or text[4] != "-" or text[13] != ":":
        raise ValueError(text)
    return datetime.fromisoformat(text.upper())


def _container(value: Any, wanted: Any, of: tuple[Any, ...], path: str) -> Any:
    if wanted is dict:
        if not isinstance(value, dict):
            raise _wrong("object", value, path)
        kind = of[1] if of else Any
        return {key: _converted(item, kind, f"{path}[...]") for key, item in value.items()}
    if not isinstance(value, list):
        raise _wrong("array", value, path)
    kind = of[0] if of else Any
    items = [_converted(item, kind, f"{path}[{number}]") for number, item in enumerate(value)]
    return tuple(items) if wanted is tuple else items


def _one_of(value: Any, kinds: tuple[Any, ...], path: str) -> Any:
    if value is None and type(None) in kinds:
        return None
    error: ValidationError | None = None
    for kind in (kind for kind in kinds if kind is not type(None)):
        try:
            return _converted(value, kind, path)
        except ValidationError as raised:
            error = raised
    raise error or _wrong("null", value, path)


_HINTS: Final[dict[type, dict[str, Any]]] = {}


def _struct(value: Any, wanted: Any, path: str) -> Any:
    if isinstance(value, wanted):
        return value
    if not isinstance(value, dict):
        raise _wrong("object", value, path)
    hints = _HINTS.get(wanted)
    if hints is None:
        hints = _HINTS[wanted] = typing.get_type_hints(wanted)
    found = {}
    for field, item in value.items():
        if field in wanted.__struct_fields__:
            found[field] = _converted(item, hints[field], f"{path}.{field}")
        elif wanted.__struct_options__.forbid_unknown_fields:
            raise ValidationError(
                f"Object contains unknown field `{field}`" + (f" - at `{path}`" if path != "$" else "")
            )
    for field in wanted.__struct_fields__:
        if field not in found and field not in wanted.__struct_defaults__:
            raise ValidationError(
                f"Object missing required field `{field}`" + (f" - at `{path}`" if path != "$" else "")
            )
    return wanted(**found)


class Decoder(typing.Generic[_T]):
    """Reads JSON as a type."""

    def __init__(self, type: Any = Any) -> None:  # noqa: A002 - msgspec's name for it
        self._type = type

    def decode(self, data: Any) -> Any:
        """The value.

        Raises:
            MsgspecError: the data is not JSON, or not of the type.
            UnicodeDecodeError: it is not UTF-8.
        """
        return _converted(_parsed(data), self._type)


def convert(value: Any, type: Any) -> Any:  # noqa: A002 - msgspec's name for it
    """A decoded value as a type.

    Raises:
        ValidationError: it is not.
    """
    return _converted(value, type)


class structs:  # noqa: N801 - stands for the module msgspec.structs
    """``msgspec.structs``."""

    @staticmethod
    def replace(value: _T, /, **changes: Any) -> _T:
        """A copy with some fields changed."""
        fields = {field: getattr(value, field) for field in type(value).__struct_fields__}  # type: ignore[attr-defined]
        return type(value)(**{**fields, **changes})


class json:  # noqa: N801 - stands for the module msgspec.json
    """``msgspec.json``."""

    Encoder = Encoder
    Decoder = Decoder

    @staticmethod
    def encode(value: Any, *, enc_hook: Callable[[Any], Any] | None = None, order: str | None = None) -> bytes:
        """As :meth:`Encoder.encode`."""
        return Encoder(enc_hook=enc_hook, order=order).encode(value)

    @staticmethod
    def decode(data: Any, *, type: Any = Any) -> Any:  # noqa: A002 - msgspec's name for it
        """As :meth:`Decoder.decode`."""
        return _converted(_parsed(data), type)
