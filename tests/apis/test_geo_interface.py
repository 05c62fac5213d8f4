"""An iModel is a shape on a map for what reads `__geo_interface__`."""

from itwin_async import Extent, IModel, Point


def imodel(west: float, east: float) -> IModel:
    extent = Extent(
        south_west=Point(latitude=10.0, longitude=west),
        north_east=Point(latitude=20.0, longitude=east),
    )
    return IModel(id="a", extent=extent)


def test_the_extent_is_a_closed_polygon_counterclockwise():
    assert imodel(30.0, 40.0).__geo_interface__ == {
        "type": "Polygon",
        "coordinates": (((30.0, 10.0), (40.0, 10.0), (40.0, 20.0), (30.0, 20.0), (30.0, 10.0)),),
    }


def test_without_an_extent_it_is_an_empty_polygon():
    assert IModel(id="a").__geo_interface__ == {"type": "Polygon", "coordinates": ()}


def test_across_the_180th_meridian_it_is_two_polygons():
    found = imodel(170.0, -170.0).__geo_interface__
    assert found["type"] == "MultiPolygon"
    longitudes = [{x for x, _ in ring} for (ring,) in found["coordinates"]]
    assert longitudes == [{170.0, 180.0}, {-180.0, -170.0}]
