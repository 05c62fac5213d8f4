"""Lock files: one holder at a time, also of a file that its holder removes."""

import pytest

from itwin_async._files.locks import try_lock, try_lock_path


@pytest.mark.parametrize("replaced", [True, False])
def test_a_lock_file_that_was_removed_locks_nothing(tmp_path, replaced):
    path = tmp_path / "lock"
    with path.open("a+b") as holder, path.open("a+b") as other:
        assert try_lock_path(holder, path)
        assert not try_lock_path(other, path)
        path.unlink()
        holder.close()
        if replaced:
            path.touch()
        assert try_lock(other)  # the lock of a file without a name
        assert not try_lock_path(other, path)


def test_a_lock_ends_with_its_file(tmp_path):
    path = tmp_path / "lock"
    with path.open("a+b") as holder:
        assert try_lock_path(holder, path)
    with path.open("a+b") as other:
        assert try_lock_path(other, path)
