"""A checkpoint: small, exact, bound to its scope, and put together from its parts."""

import itertools
import random
import uuid

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from itwin_async.sync._checkpoint import Checkpoint, part_of, scope_of
from itwin_async.sync._list_state import ListState

SCOPE = scope_of(itwin_id="a-twin")
indexes = st.lists(st.integers(-(2**63), 2**63 - 1) | st.integers(0, 300), unique=True).map(sorted)
states = st.builds(
    ListState,
    start=st.integers(0, 10**6),
    window=indexes.filter(bool),
    rows=st.integers(0, 10**6),
    pushed=st.none() | st.integers(0, 2**52),
    settled=st.booleans(),
    gone=st.booleans(),
) | st.builds(ListState, pushed=st.none() | st.integers(0, 2**52), settled=st.booleans())
ids = st.uuids().map(str) | st.text(min_size=1, max_size=20)


def checkpoint(known: dict[str, ListState], scope: bytes = SCOPE) -> Checkpoint:
    return Checkpoint(scope, {imodel: state.encode() for imodel, state in known.items()})


@settings(max_examples=40)
@given(st.dictionaries(ids, states, max_size=3))
def test_a_checkpoint_is_parsed_as_it_was(known):
    text = str(checkpoint(known))
    parsed = Checkpoint.parse(text, SCOPE)
    assert parsed.imodel_ids == known.keys()
    assert {imodel: parsed.state(imodel) for imodel in known} == known
    assert str(parsed) == text


def a_thousand(step: int) -> dict[str, ListState]:
    chance = random.Random(step)
    known = {}
    for _ in range(1_000):
        start = chance.randrange(50_000)
        window = sorted(chance.sample(range(7_000, 7_000 + 20 * step), 20))
        pushed = 1_800_000_000_000_000 + chance.getrandbits(40)
        state = ListState(start, window, start + 20, pushed, settled=True)
        known[str(uuid.UUID(int=chance.getrandbits(128), version=4))] = state
    return known


@pytest.mark.parametrize(("step", "most"), [(1, 47), (2, 50), (8, 68), (100, 76)])
def test_it_has_some_sixty_bytes_an_imodel(step, most):
    """A list with data for each changeset, each second one, each eighth, each hundredth."""
    size = len(str(checkpoint(a_thousand(step)))) / 1_000
    assert size < most


@given(states, st.integers(1, 25), st.data())
def test_an_entry_is_new_once(state, look_back, data):
    """Entries come in the order of their indexes, from the place where the window begins."""
    for index in sorted(set(data.draw(indexes)) | set(state.window)):
        known = index in state.window
        position = state.start + len(state.window)
        new = state.is_new(position, index)
        assert not (known and new)
        if new:
            state.add(index, look_back)
            assert not state.is_new(position, index)
            assert len(state.window) <= max(look_back, 1) or index in state.window
    assert state.window == sorted(state.window)


def test_the_place_of_the_window_follows_what_is_stored_before_it():
    state = ListState()
    for index in (10, 20, 30):
        assert state.is_new(state.rows, index)
        state.add(index, 2)
    assert (state.start, state.window, state.rows) == (1, [20, 30], 3)
    # Data for 5 and 15 was stored meanwhile, and for 25: the list is 5 10 15 20 25 30.
    assert [state.is_new(1 + at, index) for at, index in enumerate((10, 15, 20))] == [False] * 3
    assert (state.start, state.window) == (3, [20, 30])
    assert state.is_new(4, 25)
    state.add(25, 2)
    assert (state.start, state.window, state.rows) == (4, [25, 30], 4)
    assert not state.is_new(5, 30)


def test_the_place_of_the_window_is_where_its_first_entry_was_seen():
    state = ListState(10, [20, 30], 12)
    assert not state.is_new(4, 20)
    assert state.start == 4


def test_the_first_entries_of_a_short_list_are_in_its_window():
    state = ListState(window=[10], rows=1)
    assert state.is_new(0, 5)
    state.add(5, 20)
    assert not state.is_new(1, 10)
    assert (state.start, state.window, state.rows) == (0, [5, 10], 2)


@pytest.mark.parametrize(
    "text", ["", "1", "x", "2" + "A" * 40, "1====", "é", "1" + "A" * 30, "1" + "A" * 31]
)
def test_what_is_no_checkpoint_is_refused(text):
    with pytest.raises(ValueError, match=r"^checkpoint must"):
        Checkpoint.parse(text)


@given(st.integers(0, 200), st.characters())
def test_a_changed_or_cut_checkpoint_is_refused(at, other):
    text = str(checkpoint({str(uuid.UUID(int=5)): ListState(1, [5, 6], 3)}))
    at %= len(text)
    for changed in (text[:at] + other + text[at + 1 :], text[:at]):
        if changed != text:
            with pytest.raises(ValueError, match="checkpoint must"):
                Checkpoint.parse(changed)


@pytest.mark.parametrize(
    "record",
    [
        b"",
        b"\x20\0\0",  # an unknown flag
        b"\0\5\0",  # entries before a window that is empty
        b"\0\0\5",  # fewer rows than none
        b"\0\0\0\2\xff\xff\xff\xff\x7f",  # thirty thousand million indexes
        b"\4\0\0",  # a date that is cut
    ],
)
def test_a_forged_state_is_refused(record):
    with pytest.raises(ValueError, match="checkpoint must"):
        Checkpoint.parse(str(Checkpoint(SCOPE, {"a": record})))


def test_a_long_id_and_a_long_state_are_kept():
    known = {"i" * 300: ListState(0, list(range(0, 9_000, 3)), 3_000)}
    assert Checkpoint.parse(str(checkpoint(known))).state("i" * 300) == known["i" * 300]


@pytest.mark.parametrize("entries", [10_000, 32_505, 32_510, 33_000, 100_000])
def test_a_state_of_a_huge_window_is_kept(entries):
    gaps = random.Random(7).choices(range(20, 100), k=entries)
    window = list(itertools.accumulate(gaps))
    known = {"a": ListState(0, window, entries), "b": ListState(0, [1], 1)}
    text = str(checkpoint(known))
    parsed = Checkpoint.parse(text)
    assert {name: parsed.state(name) for name in known} == known
    assert Checkpoint.parse(part_of(text, "b")).state("b") == known["b"]


@pytest.mark.parametrize("value", [None, 5, b"1"])
def test_what_is_no_text_is_no_checkpoint(value):
    with pytest.raises(TypeError, match="checkpoint must be a str"):
        Checkpoint.parse(value)


def test_a_checkpoint_belongs_to_its_scope():
    text = str(checkpoint({}))
    assert Checkpoint.parse(text, scope_of(itwin_id="a-twin")).imodel_ids == frozenset()
    for other in (scope_of(itwin_id="b-twin"), scope_of(imodel_ids=["a-twin"])):
        with pytest.raises(ValueError, match="another iTwin"):
            Checkpoint.parse(text, other)
    guid = str(uuid.UUID(int=10**38))
    assert scope_of(imodel_ids=["b", guid, "b"]) == scope_of(imodel_ids=[guid.upper(), "b"])
    assert scope_of(imodel_ids=["a", "b"]) != scope_of(imodel_ids=["a"])


def test_parts_are_put_together_and_the_further_one_counts():
    old, new = ListState(0, [1], 1, 5, settled=True), ListState(0, [1, 2], 2, 5)
    moved = ListState(0, [7], 1, 9)
    base = checkpoint({"a": old, "b": moved})
    parts = [part_of(str(checkpoint({"a": new})), "a"), part_of(str(checkpoint({"b": old})), "b")]
    parts.append(part_of(str(checkpoint({"c": old})), "c"))
    whole = base.combined(map(Checkpoint.parse, parts))
    assert whole == checkpoint({"a": new, "b": moved, "c": old})
    assert whole.combined([base]) == whole
    assert base.combined([whole]) == whole
    with pytest.raises(ValueError, match="cannot be combined"):
        base.combined([checkpoint({}, scope_of(itwin_id="b-twin"))])


def test_the_part_of_an_unknown_imodel_is_empty():
    part = Checkpoint.parse(part_of(str(checkpoint({"a": ListState()})), "b"))
    assert part.imodel_ids == frozenset()
    assert part.scope == SCOPE
    assert len(part_of(str(checkpoint(a_thousand(1))), next(iter(a_thousand(1))))) < 72


@settings(max_examples=40)
@given(st.dictionaries(ids, states, min_size=1, max_size=4))
def test_the_part_of_each_imodel_has_its_state_alone(known):
    text = str(checkpoint(known))
    for imodel, state in known.items():
        assert part_of(text, imodel) == str(checkpoint({imodel: state}))


def test_a_part_out_of_many_does_not_decode_the_others(monkeypatch):
    text = str(checkpoint(a_thousand(1)))
    monkeypatch.setattr(ListState, "decode", None)
    for imodel in (*list(a_thousand(1))[:3], "unknown"):
        assert part_of(text, imodel)


def test_another_spelling_is_the_same_imodel():
    guid = str(uuid.UUID(int=2**120 + 2**127))
    known = checkpoint({guid: ListState(rows=0, pushed=7)})
    assert known.state(guid.upper()) == known.state(guid)
    assert part_of(str(known), guid.upper()) == str(known)
