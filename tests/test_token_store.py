"""Refresh tokens are kept for their owner alone, and two processes never use the same one."""

import asyncio
import json
import logging
import os
import sys
import textwrap
import threading
from pathlib import Path

import pytest
from secrecy import shown
from sign_in_host import Browser, SignInHost, mode_of, redirect
from support import answer

from itwin_async import (
    FileTokenStore,
    ITwinError,
    ITwinSession,
    Retry,
    TokenStore,
    UnauthorizedError,
    UserSignIn,
    token_store,
)
from itwin_async.token_store import _Content

KEY = "https://ims.example id scope"
TOKEN = "canary-refresh-of-the-store"


@pytest.fixture
def path(tmp_path) -> Path:
    return tmp_path / "some" / "where" / "tokens.json"


@pytest.fixture
async def host():
    async with SignInHost() as running:
        yield running


def session(host, path) -> ITwinSession:
    provider = UserSignIn("id", redirect_uris=(redirect(),), store=FileTokenStore(path))
    return ITwinSession(provider, base_url=host.url, retry=Retry(base=0.001))


def key_at(host) -> str:
    return f"{host.url} id itwin-platform offline_access"


def test_it_keeps_loads_and_clears(path):
    store = FileTokenStore(path)
    assert isinstance(store, TokenStore)
    assert store.load(KEY) is None
    with store.lock(KEY):
        store.save(KEY, TOKEN)
        store.save("other", "second")
    again = FileTokenStore(str(path))
    assert (again.load(KEY), again.load("other")) == (TOKEN, "second")
    again.clear("other")
    again.clear("other")
    assert store.load(KEY) == TOKEN
    store.clear(KEY)
    assert not path.exists()
    assert repr(store) == f"FileTokenStore({str(path)!r})"


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no modes")
def test_nobody_else_may_read_it_from_its_creation_on(path, monkeypatch):
    seen = []
    replace = os.fsync

    def look(file):
        seen.append(os.fstat(file).st_mode & 0o777)
        return replace(file)

    monkeypatch.setattr(os, "fsync", look)
    before = os.umask(0)
    try:
        FileTokenStore(path).save(KEY, TOKEN)
    finally:
        os.umask(before)
    assert set(seen) == {0o600}
    assert mode_of(path) == 0o600
    assert mode_of(path.parent) == 0o700
    assert all(mode_of(item) == 0o600 for item in path.parent.iterdir())


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no modes")
def test_what_others_may_read_is_mended_with_a_warning(path, caplog):
    store = FileTokenStore(path)
    store.save(KEY, TOKEN)
    path.chmod(0o644)
    with caplog.at_level(logging.WARNING):
        assert store.load(KEY) == TOKEN
    assert mode_of(path) == 0o600
    assert "Others could read" in caplog.text


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no owners")
def test_a_file_of_somebody_else_is_refused_and_left_alone(path, monkeypatch):
    store = FileTokenStore(path)
    store.save(KEY, TOKEN)
    text, me = path.read_bytes(), os.geteuid()
    monkeypatch.setattr(os, "geteuid", lambda: me + 1)
    for use in (
        lambda: store.load(KEY), lambda: store.save(KEY, "x"), lambda: store.clear(KEY),
    ):  # fmt: skip
        with pytest.raises(PermissionError, match="belongs to another user") as caught:
            use()
        assert caught.value.filename == str(path)
    assert path.read_bytes() == text


@pytest.mark.parametrize(
    "content", [b"", b"{", b"\xff\xfe", b"[]", b'{"refresh_tokens":{"a":5}}', b"{}", b"\x00" * 99]
)
def test_a_damaged_file_counts_as_empty_and_the_next_sign_in_mends_it(path, content, caplog):
    path.parent.mkdir(parents=True)
    path.write_bytes(content)
    path.chmod(0o600)
    store = FileTokenStore(path)
    with caplog.at_level(logging.WARNING):
        assert store.load(KEY) is None
    assert "damaged" in caplog.text
    store.save(KEY, TOKEN)
    assert store.load(KEY) == TOKEN


def test_a_directory_in_its_place_is_refused_in_one_sentence(path):
    path.mkdir(parents=True)
    with pytest.raises(OSError, match="token store") as caught:
        FileTokenStore(path).load(KEY)
    assert len(str(caught.value).splitlines()) == 1


def test_a_place_that_cannot_be_written_is_refused_in_one_sentence(tmp_path):
    (tmp_path / "file").write_text("")
    store = FileTokenStore(tmp_path / "file" / "tokens.json")
    with pytest.raises(OSError, match="cannot be made"), store.lock(KEY):
        pass


def test_a_failed_write_leaves_what_was_there_and_shows_no_token(path, monkeypatch):
    store = FileTokenStore(path)
    store.save(KEY, TOKEN)
    text = path.read_bytes()

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left") as caught:
        store.save(KEY, "canary-second")
    assert "canary" not in str(caught.value)
    assert path.read_bytes() == text
    assert not list(path.parent.glob("*.tmp"))


def test_a_link_stays_one(tmp_path):
    (tmp_path / "real").mkdir()
    link = tmp_path / "tokens.json"
    link.symlink_to(tmp_path / "real" / "tokens.json")
    store = FileTokenStore(link)
    store.save(KEY, TOKEN)
    assert link.is_symlink()
    assert store.load(KEY) == TOKEN
    store.clear(KEY)
    assert link.is_symlink()
    assert not link.exists()  # with the token in it
    store.save(KEY, TOKEN)
    assert store.load(KEY) == TOKEN


def test_the_lock_is_one_at_a_time_for_a_key(path):
    order = []
    inside = threading.Event()

    def second():
        inside.wait()
        with FileTokenStore(path).lock(KEY):
            order.append("second")

    thread = threading.Thread(target=second)
    thread.start()
    with FileTokenStore(path).lock(KEY):
        inside.set()
        with FileTokenStore(path).lock("another key"):
            order.append("other")
        order.append("first")
    thread.join()
    assert order == ["other", "first", "second"]


def test_a_lock_that_is_never_free_is_an_error(path, monkeypatch):
    monkeypatch.setattr(token_store, "_LOCK_WAIT", 0.05)
    with (
        FileTokenStore(path).lock(KEY),
        pytest.raises(TimeoutError, match="another process holds it"),
        FileTokenStore(path).lock(KEY),
    ):
        pass


def test_it_is_in_the_users_configuration_and_never_where_one_works(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    if sys.platform == "linux":
        assert FileTokenStore().path == tmp_path / "itwin-async" / "tokens.json"
    monkeypatch.setenv("XDG_CONFIG_HOME", "relative")  # which the specification ignores
    monkeypatch.setenv("HOME", str(tmp_path))
    assert FileTokenStore().path.is_relative_to(tmp_path)
    monkeypatch.setenv("HOME", "relative")
    with pytest.raises(ValueError, match="no home directory"):
        FileTokenStore()


@pytest.mark.parametrize("bad", [5, b"x"])
def test_a_path_that_is_none_is_told_at_once(bad):
    with pytest.raises(TypeError, match="path must be"):
        FileTokenStore(bad)
    with pytest.raises(ValueError, match="name a file"):
        FileTokenStore("")
    with pytest.raises(ValueError, match="path must be a path, without a null character"):
        FileTokenStore("tokens\0.json")
    with pytest.raises(ValueError, match="path begins with ~"):
        FileTokenStore("~/tokens.json")


# With a session


async def test_the_next_run_goes_on_where_this_one_ended(host, path):
    async with session(host, path) as itwin:
        await itwin.sign_in(open_browser=Browser(host))
    content = json.loads(path.read_text())
    assert content == {"refresh_tokens": {key_at(host): next(iter(host.current))}, "version": 1}
    async with session(host, path) as itwin:
        assert (await itwin.get_me()).id == "u-1"
    assert json.loads(path.read_text())["refresh_tokens"] == {
        key_at(host): next(iter(host.current))
    }
    assert not any(token in path.read_text() for token in host.access)


async def test_a_store_that_cannot_be_used_is_refused_before_a_browser_opens(host, tmp_path):
    (tmp_path / "file").write_text("")
    opened = []
    async with session(host, tmp_path / "file" / "tokens.json") as itwin:
        with pytest.raises(OSError, match="cannot be made"):
            await itwin.sign_in(open_browser=opened.append)
    assert opened == []


async def test_a_renewal_that_cannot_be_kept_goes_on_in_memory(host, path, monkeypatch, caplog):
    async with session(host, path) as itwin:
        await itwin.sign_in(open_browser=Browser(host))

        def full(*_):
            raise OSError(28, "No space left on device")

        monkeypatch.setattr(os, "fsync", full)
        for _ in range(2):
            host.access.clear()
            await itwin.get_me()
        assert "kept in memory" in caplog.text
        monkeypatch.undo()
        host.access.clear()
        await itwin.get_me()
    assert json.loads(path.read_text())["refresh_tokens"] == {
        key_at(host): next(iter(host.current))
    }


async def test_an_ended_login_is_cleared_from_the_store(host, path):
    async with session(host, path) as itwin:
        await itwin.sign_in(open_browser=Browser(host))
    host.current.clear()
    async with session(host, path) as itwin:
        with pytest.raises(UnauthorizedError, match="run: itwin-async auth login") as caught:
            await itwin.get_me()
    assert "canary" not in shown(caught.value)
    assert not path.exists()


async def test_a_store_that_gives_what_is_no_token_is_an_error(host):
    class Odd:
        def load(self, _key):
            return 5

        def save(self, _key, _token): ...
        def clear(self, _key): ...
        def lock(self, _key):
            return threading.Lock()

    provider = UserSignIn("id", store=Odd())
    async with ITwinSession(provider, base_url=host.url) as itwin:
        with pytest.raises(TypeError, match="load of a token store must give a str, not int"):
            await itwin.get_me()


async def test_all_calls_of_a_store_come_from_one_thread_and_not_the_loops(host):
    threads = []

    class Watched:
        def __init__(self):
            self.inner = token_store.MemoryTokenStore()

        def __getattr__(self, name):
            threads.append(threading.get_ident())
            return getattr(self.inner, name)

        def load(self, key):
            threads.append(threading.get_ident())
            return self.inner.load(key)

        def save(self, key, token):
            threads.append(threading.get_ident())
            self.inner.save(key, token)

        def clear(self, key):
            self.inner.clear(key)

        def lock(self, _key):
            threads.append(threading.get_ident())
            return threading.RLock()

    provider = UserSignIn("id", store=Watched())
    async with ITwinSession(provider, base_url=host.url, retry=Retry(base=0.001)) as itwin:
        flow = itwin.begin_sign_in()
        await flow.finish(host.authorize(flow.url))
        threads.clear()
        host.access.clear()
        await itwin.get_me()
    assert len(threads) == 3  # lock, load, save
    assert len(set(threads)) == 1
    assert threading.get_ident() not in threads


PROCESS = textwrap.dedent(
    """
    import asyncio, sys
    from itwin_async import FileTokenStore, ITwinSession, UserSignIn

    async def main():
        url, path = sys.argv[1:]
        provider = UserSignIn("id", store=FileTokenStore(path))
        async with ITwinSession(provider, base_url=url) as itwin:
            print("ready", flush=True)
            await asyncio.to_thread(sys.stdin.readline)
            print((await itwin.get_me()).id, flush=True)

    asyncio.run(main())
    """
)


@pytest.mark.slow
async def test_processes_that_share_a_store_renew_in_turn(host, path):
    store = FileTokenStore(path)
    await asyncio.to_thread(store.save, key_at(host), host.refresh_token())
    host.delay = 0.05
    processes = [
        await asyncio.create_subprocess_exec(
            sys.executable, "-c", PROCESS, host.url, str(path),
            stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE,
        )
        for _ in range(3)
    ]  # fmt: skip
    for process in processes:
        assert await process.stdout.readline() == b"ready\n"
    for process in processes:
        process.stdin.write(b"\n")
    outputs = await asyncio.gather(*(process.communicate() for process in processes))
    assert [out for out, _ in outputs] == [b"u-1\n"] * 3
    used = [form["refresh_token"] for form in host.forms]
    assert len(used) == len(set(used)) == 3  # one each, and none twice
    assert {await asyncio.to_thread(store.load, key_at(host))} == host.current


async def test_a_gateway_that_fails_costs_no_token(host, path):
    async with session(host, path) as itwin:
        await itwin.sign_in(open_browser=Browser(host))
        host.access.clear()
        host.failures = [answer(status="502 X"), answer(status="504 X")]
        await itwin.get_me()
        host.access.clear()
        host.failures = [answer(status="502 X")] * 4
        with pytest.raises(ITwinError):
            await itwin.get_me()
        await itwin.get_me()
    assert await asyncio.to_thread(FileTokenStore(path).load, key_at(host)) in host.current


def test_a_store_that_cannot_be_opened_is_named(path):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.symlink_to(path.name)  # to itself
    with pytest.raises(OSError, match="the token store cannot be read: ") as caught:
        FileTokenStore(path).load(KEY)
    assert caught.value.filename == str(path)


def test_content_shows_no_token():
    assert repr(_Content(refresh_tokens={KEY: "secret"})) == "_Content()"
