"""When notified iModels are looked at."""

from itwin_async.sync._notified import Notified


def test_nothing_is_due_where_nothing_was_told():
    notified = Notified(60.0)
    assert notified.next is None
    assert notified.take(5.0) == []


def test_it_is_looked_at_at_once_and_three_times_more():
    notified = Notified(60.0)
    notified.add("a", 100.0)
    now = 100.0
    for delay in (2.0, 8.0, 30.0):
        assert notified.is_due(now)
        assert notified.take(now) == ["a"]
        notified.scanned([], now)
        assert notified.next == now + delay
        assert not notified.is_due(now)
        now += delay
    assert notified.take(now) == ["a"]
    notified.scanned([], now)
    assert notified.next is None


def test_what_was_found_is_not_looked_for_again():
    notified = Notified(60.0)
    notified.add("a", 0.0)
    notified.add("b", 0.0)
    assert notified.take(0.0) == ["a", "b"]
    notified.scanned({"a"}, 0.0)
    assert notified.take(2.0) == ["b"]


def test_a_look_that_runs_already_counts():
    notified = Notified(60.0)
    notified.run("a")
    notified.scanned([], 10.0)
    assert notified.next == 12.0
    notified.run("a")
    assert notified.next is None


def test_another_notification_meanwhile_is_kept():
    notified = Notified(60.0)
    notified.add("a", 0.0)
    notified.take(0.0)
    notified.add("a", 1.0)
    notified.scanned([], 1.5)
    assert notified.take(1.0) == ["a"]


def test_the_looks_at_all_imodels_come_soon_enough_after_some():
    for every, count in ((None, 0), (2.0, 0), (2.5, 1), (10.0, 2), (60.0, 3)):
        notified = Notified(every)
        notified.add("a", 0.0)
        looks = 0
        while (now := notified.next) is not None:
            looks += len(notified.take(now))
            notified.scanned([], now)
        assert looks == 1 + count
