"""What the payloads of `cluster.py` become; here, so that workers can import it."""

import msgspec


class Point(msgspec.Struct):
    x: float
    y: float
    z: float


class Element(msgspec.Struct):
    id: str
    category: str
    origin: Point
    outline: list[Point]
    properties: dict[str, str | float | None]


class Model(msgspec.Struct):
    elements: list[Element]
