"""A file that is gathered beside its name, and gets it when it is whole."""

import pytest

from itwin_async._files.resumable_file import ResumableFile


def test_a_part_that_something_else_has_changed_gets_no_name(tmp_path):
    file = ResumableFile(tmp_path, "a.cs", 4)
    assert file.open()
    file.part.restart()
    file.part.append(b"ab")
    file.part.remove()  # as a process does that expects another size
    file.part.append(b"cd")
    with pytest.raises(OSError, match="was changed while the file was downloaded"):
        file.commit()
    file.close()
    assert not file.is_whole
    assert not file.path.exists()


def test_a_whole_part_gets_the_name_and_leaves_nothing_beside_it(tmp_path):
    file = ResumableFile(tmp_path, "a.cs", 4)
    assert file.open()
    file.part.restart()
    file.part.append(b"abcd")
    file.commit()
    assert [path.name for path in tmp_path.iterdir()] == ["a.cs"]
    assert ResumableFile(tmp_path, "a.cs", 4).find()
