"""All data of one emulator."""

from itwin_async.emulator._state.collection import Collection
from itwin_async.emulator._state.extensions import Extension, seed_extensions
from itwin_async.emulator._state.imodels import IModel, seed_imodels
from itwin_async.emulator._state.itwins import seed_itwins
from itwin_async.emulator._state.packages import seed_packages
from itwin_async.emulator._state.seed import JSON, Size


class State:
    """The records of one emulator, in one collection for each kind."""

    def __init__(self, size: Size) -> None:
        self.size = size
        self.itwins: Collection[JSON] = Collection(lambda: seed_itwins(size))
        self.imodels: Collection[IModel] = Collection(lambda: seed_imodels(size, self.itwins))
        self.extensions: Collection[Extension] = Collection(lambda: seed_extensions(size))
        self.packages: Collection[JSON] = Collection(lambda: seed_packages(size), exact=True)
