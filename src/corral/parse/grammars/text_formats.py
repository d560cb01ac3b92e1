"""The `format` of strings and numbers, as what it stands for: a regex of whole strings, or a range of integers.

Said here and not left to the grammar's engine, so that one meaning holds in quotes, in tags and for every model.
Sources: RFC 3339 for dates, times and (appendix A) durations, RFC 5321 for addresses of mail, RFC 1123 for hosts, RFC 2673 and
4291 for addresses, RFC 3986 for URIs, RFC 6901 for pointers, RFC 4122 for UUIDs, RFC 4648 for base64.
"""

from collections.abc import Mapping
from typing import Final

_YEAR: Final = "(?:[1-9][0-9]{3}|0[1-9][0-9]{2}|00[1-9][0-9]|000[1-9])"  # few programs know a year 0
_LEAP_YEAR: Final = "(?:[0-9]{2}(?:0[48]|[2468][048]|[13579][26])|(?:0[48]|[2468][048]|[13579][26])00)"
_MONTH_DAY: Final = (
    "(?:(?:0[13578]|1[02])-(?:0[1-9]|[12][0-9]|3[01])|(?:0[469]|11)-(?:0[1-9]|[12][0-9]|30)|02-(?:0[1-9]|1[0-9]|2[0-8]))"
)
_DATE: Final = f"(?:{_YEAR}-{_MONTH_DAY}|{_LEAP_YEAR}-02-29)"
# Leap seconds are left out: one is a second only at some midnights, which no regex tells.
_CLOCK: Final = r"(?:[01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9](?:\.[0-9]{1,9})?"
_ZONE: Final = "(?:Z|[+-](?:[01][0-9]|2[0-3]):[0-5][0-9])"
_COUNT: Final = "[0-9]{1,9}"
_HMS: Final = f"(?:{_COUNT}H(?:{_COUNT}M(?:{_COUNT}S)?)?|{_COUNT}M(?:{_COUNT}S)?|{_COUNT}S)"
_YMD: Final = f"(?:{_COUNT}Y(?:{_COUNT}M(?:{_COUNT}D)?)?|{_COUNT}M(?:{_COUNT}D)?|{_COUNT}D)"
_BYTE: Final = "(?:25[0-5]|2[0-4][0-9]|1[0-9]{2}|[1-9]?[0-9])"
_IPV4: Final = rf"{_BYTE}(?:\.{_BYTE}){{3}}"
_H16: Final = "[0-9A-Fa-f]{1,4}"
_LS32: Final = f"(?:{_H16}:{_H16}|{_IPV4})"
_IPV6: Final = (
    "(?:"
    + "|".join(
        (
            f"(?:{_H16}:){{6}}{_LS32}",
            f"::(?:{_H16}:){{5}}{_LS32}",
            *(f"(?:(?:{_H16}:){{0,{before}}}{_H16})?::(?:{_H16}:){{{4 - before}}}{_LS32}" for before in range(5)),
            f"(?:(?:{_H16}:){{0,5}}{_H16})?::{_H16}",
            f"(?:(?:{_H16}:){{0,6}}{_H16})?::",
        )
    )
    + ")"
)
_LABEL: Final = "[A-Za-z0-9](?:[A-Za-z0-9]|-[A-Za-z0-9]){0,30}"  # 61 characters at most, no "--": nothing encoded
_HOST: Final = rf"{_LABEL}(?:\.{_LABEL}){{0,3}}"  # 255 characters at most
_ATOM: Final = r"[A-Za-z0-9!#$%&'*+\/=?^_`{|}~-]+"
_ENCODED: Final = "%[0-9A-Fa-f]{2}"
_PCHAR: Final = f"(?:[A-Za-z0-9._~!$&'()*+,;=:@-]|{_ENCODED})"
_SEGMENT_NO_COLON: Final = f"(?:[A-Za-z0-9._~!$&'()*+,;=@-]|{_ENCODED})+"
_USER: Final = f"(?:(?:[A-Za-z0-9._~!$&'()*+,;=:-]|{_ENCODED})*@)?"
_AUTHORITY: Final = rf"{_USER}(?:\[{_IPV6}\]|(?:[A-Za-z0-9._~!$&'()*+,;=-]|{_ENCODED})*)(?::[0-9]{{0,5}})?"
_TAIL: Final = rf"(?:\?(?:{_PCHAR}|[\/?])*)?(?:#(?:{_PCHAR}|[\/?])*)?"
_ROOTED: Final = rf"\/(?:{_PCHAR}+(?:\/{_PCHAR}*)*)?"
_NET_PATH: Final = rf"\/\/{_AUTHORITY}(?:\/{_PCHAR}*)*"
_URI: Final = rf"[A-Za-z][A-Za-z0-9+.-]*:(?:{_NET_PATH}|{_ROOTED}|{_PCHAR}+(?:\/{_PCHAR}*)*){_TAIL}"
_RELATIVE: Final = rf"(?:{_NET_PATH}|{_ROOTED}|{_SEGMENT_NO_COLON}(?:\/{_PCHAR}*)*)?{_TAIL}"
_POINTER: Final = r"(?:\/(?:[^\/~]|~[01])*)*"
_BASE64: Final = r"(?:[A-Za-z0-9+\/]{4})*(?:[A-Za-z0-9+\/]{2}==|[A-Za-z0-9+\/]{3}=)?"

TEXTS: Final[Mapping[str, str]] = {
    "base64": _BASE64,
    "byte": _BASE64,
    "date": _DATE,
    "date-time": f"{_DATE}T{_CLOCK}{_ZONE}",
    "duration": f"P(?:{_COUNT}W|{_YMD}(?:T{_HMS})?|T{_HMS})",
    "email": rf"{_ATOM}(?:\.{_ATOM}){{0,5}}@{_HOST}",
    "hostname": _HOST,
    "ipv4": _IPV4,
    "ipv6": _IPV6,
    "json-pointer": _POINTER,
    "relative-json-pointer": f"(?:0|[1-9][0-9]*)(?:#|{_POINTER})",
    "time": f"{_CLOCK}{_ZONE}",
    "uri": _URI,
    "uri-reference": f"(?:{_URI}|{_RELATIVE})",
    "url": rf"https?:{_NET_PATH}{_TAIL}",
    "uuid": "[0-9A-Fa-f]{8}(?:-[0-9A-Fa-f]{4}){3}-[0-9A-Fa-f]{12}",
}
INTEGERS: Final[Mapping[str, tuple[int, int]]] = {
    **{f"int{bits}": (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1) for bits in (8, 16, 32, 64)},
    **{f"uint{bits}": (0, 2**bits - 1) for bits in (8, 16, 32, 64)},
}
# They tell a form how to show a value, or a program how to store it: any string or number is one.
HINTS: Final = frozenset(
    {"binary", "decimal", "directory-path", "double", "file-path", "float", "multiline", "password", "path", "textarea"}
)
