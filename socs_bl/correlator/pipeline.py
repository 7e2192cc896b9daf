"""The text of a lag pipeline: elements joined by ``!``, their properties, and which may follow which.

``flag ! integrate n=5 ! dvnorm ! window hanning ! fft ! boxcar span=2 ! bdf``

==========  ===========================================  ====================================================
element     properties                                   what it does
==========  ===========================================  ====================================================
flag        suspect=drop                                 leaves a set's dump out when a frame is missing, when one has a bad
                                                         status (unless ``suspect=keep``) or no valid samples
integrate   n=1                                          sums n dumps
dvnorm                                                   divides each lag by its count of valid samples
window      hanning, width=0                             tapers the lags, over `width` of them (0: all)
fft                                                      lags to spectra
boxcar      span=1                                       averages span neighbouring channels
accnorm                                                  divides summed spectra by the valid counts that went in
bls         path=NAME, limit=1024                        writes lag sets as they arrive, at most `limit` MiB a product
bdf                                                      writes integrations to the recordings that are open
null                                                     throws away
==========  ===========================================  ====================================================

The three documented orders are ``flag ! integrate ! dvnorm ! fft ! bdf`` (integrateFirst), ``flag ! dvnorm ! fft !
integrate ! accnorm ! bdf`` (transformFirst) and ``flag ! integrate ! dvnorm ! bdf`` (noTransform); without ``integrate``
every dump is an integration. Source: WIDAR VCI schema 3.22, cbeProcessing; the text's look follows gst-launch.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from socs_bl.core.errors import Refused

Value = int | str
LONGEST_TEXT = 4096


@dataclass(frozen=True, slots=True)
class Property:
    """What one property accepts.

    Attributes
    ----------
    default : int or str
        Also its type; an empty text means that the property must be given.
    low, high : int
        Range of a number.
    choices : tuple of str
        What a text may be; empty: a file name of letters, digits, ``_``, ``-`` and ``.``.
    writable : bool
        Can be changed while the pipeline runs: does not alter shapes.
    bare : bool
        May be given as a bare word, without ``key=``.
    """

    default: Value
    low: int = 0
    high: int = 0
    choices: tuple[str, ...] = ()
    writable: bool = False
    bare: bool = False

    def accept(self, text: str) -> Value:
        """The value that a text means.

        Raises
        ------
        Refused
            When it is none of those accepted; says what would be right.
        """
        if isinstance(self.default, int):
            if text.isascii() and text.isdigit() and len(text) <= 9 and self.low <= int(text) <= self.high:
                return int(text)
            raise Refused(f"{text!r:.40} is not a whole number from {self.low} to {self.high}")
        if self.choices and text not in self.choices:
            raise Refused(f"{text!r:.40} is not one of {', '.join(self.choices)}")
        if not self.choices and not _NAME.fullmatch(text):
            raise Refused(f"{text!r:.40} is not a name of at most 64 letters, digits, '_', '-' and '.'")
        return text


_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,63}")
_WORD = re.compile(r"""([A-Za-z][A-Za-z0-9_-]*)(?:=("[^"!]*"|'[^'!]*'|[^\s"'!=]+))?(?=\s|!|$)""")

KINDS: Mapping[str, Mapping[str, Property]] = {
    "flag": {"suspect": Property("drop", choices=("drop", "keep"), writable=True)},
    "integrate": {"n": Property(1, 1, 1_000_000)},
    "dvnorm": {},
    "window": {
        "algorithm": Property("hanning", choices=("hanning", "none"), writable=True, bare=True),
        "width": Property(0, 0, 1 << 20, writable=True),
    },
    "fft": {},
    "boxcar": {"span": Property(1, 1, 1 << 18)},
    "accnorm": {},
    "bls": {"path": Property(""), "limit": Property(1024, 1, 1 << 20, writable=True)},
    "bdf": {},
    "null": {},
}
_START = "the beginning"
# What may stand directly before each element; `null` ends anything.
_BEFORE: Mapping[str, tuple[str, ...]] = {
    "flag": (_START, "bls"),
    "bls": (_START, "flag"),
    "integrate": ("flag", "bls", "dvnorm", "fft", "boxcar"),
    "dvnorm": ("flag", "bls", "integrate"),
    "window": ("dvnorm",),
    "fft": ("dvnorm", "window"),
    "boxcar": ("fft",),
    "accnorm": ("integrate",),
    "bdf": ("dvnorm", "fft", "boxcar", "accnorm"),
    "null": (_START, *KINDS),
}


@dataclass(frozen=True, slots=True)
class ElementText:
    """One element as the text has it, with the defaults filled in.

    Attributes
    ----------
    kind : str
        Also its name: a pipeline has each kind once.
    properties : dict of str to int or str
    position : int
        Of its first letter in the text, from 1.
    """

    kind: str
    properties: Mapping[str, Value] = field(default_factory=dict)
    position: int = 1


def parse_pipeline(text: str) -> tuple[ElementText, ...]:
    """Parse the text of a pipeline and check the order of its elements.

    Raises
    ------
    Refused
        Names the position (characters from 1) and what would be right.
    """
    if len(text) > LONGEST_TEXT:
        raise Refused(f"a pipeline text of {len(text)} characters; at most {LONGEST_TEXT} are accepted")
    elements = []
    start = 0
    for part in text.split("!"):
        elements.append(_parse_element(part, start))
        start += len(part) + 1
    _check_order(elements)
    return tuple(elements)


def _parse_element(part: str, start: int) -> ElementText:
    """One element; `start` is where the part begins in the whole text."""
    at = len(part) - len(part.lstrip())
    position = start + at + 1
    if not part.strip():
        raise Refused(f"position {position}: an element is missing; one of {', '.join(KINDS)} is expected")
    kind, properties = "", dict[str, Value]()
    while at < len(part.rstrip()):
        word = _WORD.match(part, at)
        here = start + at + 1
        if word is None:
            raise Refused(f"position {here}: {part[at : at + 20]!r} is neither a word nor key=value")
        name, value = word.group(1), word.group(2)
        if not kind:
            if value is not None or name not in KINDS:
                raise Refused(f"position {here}: {word.group()!r} is not an element; there are {', '.join(KINDS)}")
            kind = name
        else:
            _add_property(properties, kind, name, value, here)
        at = word.end()
        at += len(part[at:]) - len(part[at:].lstrip())
    for name, known in KINDS[kind].items():
        if properties.setdefault(name, known.default) == "":
            raise Refused(f"position {position}: {kind} needs {name}=..., it has no default")
    return ElementText(kind, properties, position)


def _add_property(properties: dict[str, Value], kind: str, name: str, value: str | None, position: int) -> None:
    """Take in ``name=value``, or a bare word `name`."""
    known = KINDS[kind]
    if value is None:
        bare = [key for key, item in known.items() if item.bare]
        if not bare:
            raise Refused(f"position {position}: {kind} takes no bare word {name!r}; write {_usage(kind)}")
        name, value = bare[0], name
    if name not in known:
        raise Refused(f"position {position}: {kind} has no property {name!r}; write {_usage(kind)}")
    if name in properties:
        raise Refused(f"position {position}: {kind} is given {name} twice")
    try:
        properties[name] = known[name].accept(value.strip("\"'"))
    except Refused as error:
        raise Refused(f"position {position}: {name} of {kind}: {error}") from error


def _usage(kind: str) -> str:
    return " ".join([kind, *(f"{name}={known.default or 'NAME'}" for name, known in KINDS[kind].items())])


def _check_order(elements: list[ElementText]) -> None:
    """Refuse an order that means nothing."""
    before: list[str] = []
    for element in elements:
        previous, kind = before[-1] if before else _START, element.kind
        if kind in before:
            raise Refused(f"position {element.position}: a second {kind}; a pipeline has each element once")
        if previous == "null" or previous == "bdf":
            raise Refused(f"position {element.position}: {kind} after {previous}, which ends a pipeline")
        if previous not in _BEFORE[kind]:
            raise Refused(
                f"position {element.position}: {kind} after {previous}; it comes directly after {_either(_BEFORE[kind])}"
            )
        if kind in ("integrate", "dvnorm") and "flag" not in before:
            raise Refused(f"position {element.position}: {kind} without flag before it, which leaves out what is bad")
        if kind == "accnorm" and "dvnorm" not in before:
            raise Refused(f"position {element.position}: accnorm without dvnorm before integrate; leave accnorm out")
        if previous == "integrate" and "dvnorm" in before and kind not in ("accnorm", "null"):
            raise Refused(
                f"position {element.position}: {kind} after integrate of normalised data; accnorm comes first"
            )
        before.append(kind)
    if before[-1] not in ("bdf", "null", "bls"):
        raise Refused(f"position {elements[-1].position}: the pipeline ends with {before[-1]}; end it with bdf or null")


def _either(kinds: tuple[str, ...]) -> str:
    return kinds[0] if len(kinds) == 1 else f"{', '.join(kinds[:-1])} or {kinds[-1]}"


@dataclass(frozen=True, slots=True)
class Recipe:
    """What the elements of a pipeline amount to.

    Attributes
    ----------
    dumps : int
        Dumps of an integration.
    normalises, transforms : bool
        There is a dvnorm, an fft. Without dvnorm nothing is computed.
    sums_lags : bool
        Lags are summed, and normalised afterwards; False: what was normalised (and transformed) is summed, weighted with
        the valid counts.
    span : int
        Channels that are averaged to one.
    keep_suspect : bool
        Frames with a bad status count as good.
    window : str
        ``none`` or ``hanning``.
    width : int
        Lags that the window leaves; 0: all.
    bls : str
        Name of the folder for lag sets; empty: not written.
    bls_limit : int
        MiB a product.
    output : bool
        Integrations go to recordings.
    """

    dumps: int = 1
    normalises: bool = False
    transforms: bool = False
    sums_lags: bool = False
    span: int = 1
    keep_suspect: bool = False
    window: str = "none"
    width: int = 0
    bls: str = ""
    bls_limit: int = 1024
    output: bool = False

    def channels(self, lags: int) -> int:
        """Spectral points that come out of `lags` lags.

        Raises
        ------
        Refused
            When the span does not divide them.
        """
        if not self.transforms:
            return lags
        if lags // 2 % self.span:
            raise Refused(f"boxcar span={self.span} does not divide the {lags // 2} channels of {lags} lags")
        return lags // 2 // self.span


def make_recipe(elements: Sequence[ElementText]) -> Recipe:
    """What these elements, in an order that `parse_pipeline` accepts, amount to."""
    properties = {element.kind: element.properties for element in elements}
    kinds = [element.kind for element in elements]
    window = properties.get("window", {})
    bls = properties.get("bls", {})
    dumps = int(properties.get("integrate", {}).get("n", 1))
    lags_first = "integrate" in kinds and "dvnorm" in kinds and kinds.index("integrate") < kinds.index("dvnorm")
    return Recipe(
        dumps=dumps,
        normalises="dvnorm" in kinds,
        transforms="fft" in kinds,
        sums_lags=lags_first and dumps > 1,  # of one dump nothing is summed
        span=int(properties.get("boxcar", {}).get("span", 1)),
        keep_suspect=properties.get("flag", {}).get("suspect") == "keep",
        window=str(window.get("algorithm", "none")),
        width=int(window.get("width", 0)),
        bls=str(bls.get("path", "")),
        bls_limit=int(bls.get("limit", 1024)),
        output="bdf" in kinds,
    )
