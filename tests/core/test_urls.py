"""Links decide where a list goes on, and never lead the token anywhere else."""

import asyncio
from urllib.parse import urlsplit

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from yarl import URL

from itwin_async import ITwinSession, LinkError, StaticToken
from itwin_async._core import urls
from itwin_async._core.secrets import SecretValue
from itwin_async._core.urls import Origin, follow, next_href, skip_of, split, with_skip
from itwin_async.emulator import Edit, Emulator


def base_origin(url: str) -> Origin:
    return urls.base_origin(SecretValue(url))


def secure_origin(url: str, name: str, **options) -> Origin:
    return urls.secure_origin(SecretValue(url), name, **options)


PROD = base_origin("https://api.bentley.com")
OWN = base_origin("http://127.0.0.1:8080")
BASES = (PROD, OWN, base_origin("https://qa-api.bentley.com"), base_origin("https://proxy.example"))
HERE = "/extensions/?iTwinId=a&$top=2"

OTHER_ORIGINS = {
    "another host": "https://evil.example/extensions?$skip=2",
    "plain http": "http://api.bentley.com/extensions?$skip=2",
    "another port": "https://api.bentley.com:8443/extensions?$skip=2",
    "the port of http": "https://api.bentley.com:80/extensions?$skip=2",
    "no scheme": "//evil/extensions?$skip=2",
    "no scheme, our host": "//api.bentley.com/extensions?$skip=2",
    "userinfo that looks like us": "https://api.bentley.com@evil/extensions",
    "userinfo before us": "https://user:secret@api.bentley.com/extensions",
    "empty userinfo": "https://@api.bentley.com/extensions",
    "we are its subdomain": "https://api.bentley.com.evil/extensions",
    "our end": "https://evilapi.bentley.com/x",
    "our domain": "https://bentley.com/x",
    "an API host of another environment": "https://qa-api.bentley.com/extensions",
    "a dot at the end": "https://api.bentley.com./x",
    "backslashes": "https:\\\\evil\\x",
    "a backslash in the host": "https://api.bentley.com\\@evil/x",
    "a backslash behind a slash": "/\\evil/x",
    "an escape in the host": "https://api%2ebentley.com/x",
    "an escaped at": "https://api.bentley.com%40evil/x",
    "a number sign before an at": "https://api.bentley.com#@evil/x\\",
    "a fragment before a host": "https://evil#api.bentley.com",
    "a question mark before a host": "https://evil?api.bentley.com",
    "CR and LF": "/extensions\r\nHost: evil",
    "LF": "https://api.bentley.com/x\n",
    "NUL": "/extensions\x00",
    "a tab": "https://api.bentley.com\t/x",
    "a space": "/extensions ?$skip=2",
    "a leading space": " https://api.bentley.com/x",
    "DEL": "/extensions\x7f",
    "no host": "https:///x",
    "one slash": "https:/api.bentley.com/x",
    "no slash": "https:api.bentley.com/x",
    "a cut address": "https://[::1",
    "an address": "https://[::1]/x",
    "punycode": "https://xn--/x",
    "letters that look like ours": "https://api.bentl\u0435y.com/x",
    "a full stop that is none": "https://api。bentley。com/x",
    "a letter that becomes ours": "https://api.bentleK.com/x".replace("K", "\u212a"),
    "a port that is none": "https://api.bentley.com:port/x",
    "a port too large": "https://api.bentley.com:65979/x",
    "port nought": "https://api.bentley.com:0/x",
    "a port too long": "https://api.bentley.com:000443443/x",
    "another scheme": "ftp://api.bentley.com/x",
    "a script": "javascript:alert(1)",
    "data": "data:text/plain,x",
    "a file": "file:///etc/passwd",
    "a websocket": "wss://api.bentley.com/x",
    "too long": "/extensions?x=" + "y" * 8_200,
}


@pytest.mark.parametrize("href", OTHER_ORIGINS.values(), ids=OTHER_ORIGINS)
def test_a_link_to_another_origin_is_refused(href):
    with pytest.raises(LinkError) as caught:
        follow(PROD, HERE, href)
    assert len(str(caught.value).splitlines()) == 1
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize("href", [0, 1.5, True, [], {}, ["/x"], {"href": "/x"}, "", b"/x"])
def test_a_link_that_is_no_text_is_refused(href):
    with pytest.raises(LinkError, match="not a URL"):
        next_href({"next": {"href": href}})


@pytest.mark.parametrize(
    "links",
    [
        None, {}, {"next": None}, {"next": {}}, {"next": {"href": None}}, {"self": {"href": "/x"}},
        {"prev": {"href": "/x"}, "next": {"hint": 1}},
    ],
)  # fmt: skip
def test_no_next_link_is_the_end_in_all_its_spellings(links):
    assert next_href(links) is None


def test_a_next_link_may_be_bare():
    assert next_href({"next": "/x?$skip=2"}) == "/x?$skip=2"


@pytest.mark.parametrize("links", [[], 5, "x", True, [{"next": {"href": "/x"}}]])
def test_links_of_another_shape_are_no_quiet_end(links):
    with pytest.raises(LinkError):
        found = next_href(links)
        assert found is not None
        follow(PROD, HERE, found)


@pytest.mark.parametrize(
    ("href", "target"),
    [
        ("https://api.bentley.com/a?$skip=2", "/a?$skip=2"),
        ("HTTPS://API.Bentley.COM/a?$skip=2", "/a?$skip=2"),
        ("https://api.bentley.com:443/a?$skip=2", "/a?$skip=2"),
        ("https://api.bentley.com:0443/a", "/a"),
        ("https://api.bentley.com", "/"),
        ("https://api.bentley.com?$skip=2", "/?$skip=2"),
        ("https://api.bentley.com/a#part", "/a"),
        ("/a?$skip=2", "/a?$skip=2"),
        ("/a?$skip=2#part", "/a?$skip=2"),
        ("?$skip=2", "/extensions/?$skip=2"),
        ("?$skip=2#part", "/extensions/?$skip=2"),
        ("/a//b", "/a//b"),
        ("/@evil/", "/@evil/"),
        ("/a:b@c", "/a:b@c"),
    ],
)
def test_a_link_of_the_same_origin_is_followed(href, target):
    assert follow(PROD, HERE, href) == target


@pytest.mark.parametrize(
    "target",
    [
        "/a?$skip=100&$top=100", "/a?%24skip=100", "/a?x=%2F%3a%7e%7E~", "/a/%2e%2e/b/%2F", "/a?",
        "/a?x=a+b&y=%2B", "/a?x=1&x=1&&=", "/a?x=[]{}|^`'\"<>()*!;,", "/a?$filter=x%20eq%20'1'",
        "/iTwins/A-B?Z=1&a=2", "/a/../b/./c", "/a;v=1?x=/?:@", "/%zz?%",
    ],
)  # fmt: skip
def test_path_and_query_stay_byte_for_byte(target):
    assert follow(PROD, HERE, f"https://api.bentley.com{target}") == target
    assert follow(PROD, HERE, target) == target


@pytest.mark.parametrize(
    "base", ["http://127.0.0.1:8080", "http://[::1]:9", "https://dev-api.bentley.com",
             "https://proxy.example", "https://qa-api.bentley.com"],
)  # fmt: skip
@pytest.mark.parametrize("host", ["api", "dev-api", "qa-api", "connect-qa-api"])
def test_links_that_name_the_platform_are_followed_on_a_base_of_ones_own(base, host):
    href = f"https://{host}.bentley.com/extensions?$skip=2"
    assert follow(base_origin(base), HERE, href) == "/extensions?$skip=2"


@pytest.mark.parametrize(
    "href",
    [
        "http://api.bentley.com/x", "https://api.bentley.com:8443/x", "https://evil.example/x",
        "https://127.0.0.1:8080/x", "http://127.0.0.1/x", "http://127.0.0.1:8081/x",
        "http://localhost:8080/x", "https://bentley.com/x", "https://api.bentley.com.evil/x",
        "https://evilapi.bentley.com/x",
    ],
)  # fmt: skip
def test_a_base_of_ones_own_follows_no_other_links(href):
    with pytest.raises(LinkError):
        follow(OWN, HERE, href)


def test_the_error_names_both_origins_and_no_query():
    with pytest.raises(LinkError) as caught:
        follow(PROD, HERE, "https://evil.example:81/path?sig=secret")
    assert str(caught.value) == (
        "a link leads to another origin, https://evil.example:81, than the session's, "
        "https://api.bentley.com"
    )


# Anything, and what is nearly a good link

_BITS = st.sampled_from(
    [
        "https", "http", "HTTPS", ":", "//", "/", "\\", "@", "#", "?", "&", "=", "$skip=2", "%",
        "%2f", "%40", "%0d%0a", "\r\n", "\t", " ", "\x00", ".", "..", "api.bentley.com",
        "qa-api.bentley.com", "bentley.com", "evil", "evil.example", "127.0.0.1", ":8080", ":443",
        ":80", "[", "]", "::1", "xn--", "user:pw@", "\u3002", "\u2044", "\uff0f", "\u212a", "é",
        "localhost", ";", "a", "-api.bentley.com", "proxy.example", ":0", ":65536", "\u017f",
    ]
)  # fmt: skip
_GLUED = st.lists(_BITS, max_size=12).map("".join)
_PLAIN = st.lists(
    st.sampled_from(["/", "/", "a", "?", "$skip=2", "&", "%2f", "@", ":", "..", "//", "="]),
    max_size=6,
).map(lambda bits: "/" + "".join(bits))
_NEAR = st.builds(
    lambda scheme, before, host, after, path: f"{scheme}://{before}{host}{after}{path}",
    st.sampled_from(["https", "http", "HTTPS", "hTtp"]),
    st.sampled_from(["", "", "", "evil@", "a:b@", "evil.", "evil/", "evil\\", "@", "[", "%"]),
    st.sampled_from([base.host for base in BASES]),
    st.sampled_from(["", "", "", ":443", ":8080", ":80", ".", ".evil", "@evil", "%40evil", "\\"]),
    st.one_of(_PLAIN, _PLAIN, _GLUED.map(lambda text: f"/{text}"), _GLUED),
)
_HOSTILE = st.one_of(
    _NEAR, _NEAR, _GLUED, _PLAIN, st.text(), st.text(alphabet="/\\@:?#.[]%ahtps", max_size=20)
)
_counted = {"followed": 0, "refused": 0}


@pytest.mark.slow
@settings(max_examples=3_200)
@given(base=st.sampled_from(BASES), href=_HOSTILE)
@example(PROD, "https://api.bentley.com/\u2028")
@example(OWN, "http://127.0.0.1:8080//evil/")
def test_no_link_ever_leads_to_another_origin(base, href):
    try:
        target = follow(base, HERE, href)
    except LinkError as error:
        assert len(str(error).splitlines()) == 1
        _counted["refused"] += 1
        return
    _counted["followed"] += 1
    assert target.startswith("/")
    assert target.isascii()
    assert target.isprintable()
    assert not {" ", "\\", "#"} & set(target)
    assert target in (href, "/") or target in f"/{href}" or target.startswith("/extensions/?")
    sent = URL(f"{base}{target}", encoded=True)  # as the transport builds it
    for url in (sent, urlsplit(f"{base}{target}")):
        assert (url.scheme, (url.hostname if url is not sent else url.host)) == (
            base.scheme,
            base.host.strip("[]"),
        )
        assert (url.port or {"http": 80, "https": 443}[url.scheme]) == base.port
        password = url.password
        assert password is None
    # What names a host of its own was ours, or the platform's.
    parts = urlsplit(href)
    if parts.netloc and not href.startswith(("/", "?")):
        host = (parts.hostname or "").lower()
        assert "@" not in parts.netloc
        assert host in {base.host, "api.bentley.com"} or host.endswith("-api.bentley.com")


def test_the_hostile_links_were_of_both_kinds():
    if sum(_counted.values()) == 0:  # run alone
        test_no_link_ever_leads_to_another_origin()
    assert sum(_counted.values()) >= 3_000
    assert min(_counted.values()) >= 200, _counted


@settings(max_examples=500)
@given(st.text(alphabet=[chr(c) for c in range(0x21, 0x7F) if chr(c) not in "\\#"], max_size=60))
def test_any_visible_path_and_query_stay_byte_for_byte(rest):
    if not rest.startswith("/"):
        assert follow(OWN, HERE, f"{OWN}/{rest}") == f"/{rest}"
        assert follow(OWN, HERE, f"/{rest}") == f"/{rest}"


# Origins


@pytest.mark.parametrize(
    ("url", "origin"),
    [
        ("https://api.bentley.com", Origin("https", "api.bentley.com", 443)),
        ("https://API.bentley.com:443/", Origin("https", "api.bentley.com", 443)),
        ("http://localhost:8080", Origin("http", "localhost", 8080)),
        ("http://api.localhost", Origin("http", "api.localhost", 80)),
        ("http://127.1.2.3", Origin("http", "127.1.2.3", 80)),
        ("http://[::1]:5", Origin("http", "[::1]", 5)),
        ("https://proxy.example:8443", Origin("https", "proxy.example", 8443)),
    ],
)
def test_a_base_is_an_origin(url, origin):
    assert base_origin(url) == origin
    assert base_origin(str(origin)) == origin


@pytest.mark.parametrize(
    "url",
    [
        "http://api.bentley.com", "http://localhost.evil", "http://127.0.0.1.evil",
        "http://10.0.0.1", "http://[fe80::1]", "http://evillocalhost", "http://0.0.0.0",
        "https://api.bentley.com/v1", "https://api.bentley.com?x=1", "https://api.bentley.com/?",
        "https://api.bentley.com#x", "https://user@api.bentley.com", "https://a:b@api.bentley.com",
        "api.bentley.com", "//api.bentley.com", "", "ftp://api.bentley.com", "https://",
        "https://api.bentley.com:0", "https://api.bentley.com:65536", "https://a b",
        "https://api.bentley.com:99999",
        "https://api.bentley.com\n", "https://äpi.bentley.com", "https://[::1",
    ],
)  # fmt: skip
def test_a_base_that_is_none_is_a_value_error(url):
    with pytest.raises(ValueError, match=r"^base_url must") as caught:
        ITwinSession(StaticToken("t"), base_url=url)
    assert len(str(caught.value).splitlines()) == 1


@pytest.mark.parametrize("url", [None, 5, b"https://api.bentley.com", URL("https://x.example")])
def test_a_base_that_is_no_text_is_a_type_error(url):
    with pytest.raises(TypeError, match=r"^base_url must be a str"):
        ITwinSession(StaticToken("t"), base_url=url)


def test_a_secret_goes_to_https_or_to_this_machine():
    assert secure_origin("https://ims.bentley.com/connect/token", "token_url").port == 443
    assert secure_origin("http://localhost:1/connect/token", "token_url").is_loopback
    with pytest.raises(ValueError, match="token_url must be https"):
        secure_origin("http://ims.bentley.com/connect/token", "token_url")
    open = secure_origin("http://emulator:8080/t", "token_url", allow_plain_http=True)
    assert open == Origin("http", "emulator", 8080)


@given(st.text())
def test_splitting_any_text_gives_an_origin_or_none(text):
    for url in (text, f"https://{text}", f"http://a.example{text}"):
        parts = split(url)
        assert parts is None or (parts[1].startswith("/") and 0 < parts[0].port < 65_536)


# Steps


@pytest.mark.parametrize(
    ("target", "skip"),
    [
        ("/a?$skip=200&$top=100", 200), ("/a?$top=100&$skip=7", 7), ("/a?%24skip=3", 3),
        ("/a?$skip=0", 0), ("/a", None), ("/a?skip=3", None), ("/a?$skip=", None),
        ("/a?$skip=-1", None), ("/a?$skip=1.5", None), ("/a?$skip=1&$skip=2", None),
        ("/a?x$skip=1", None), ("/a?$skip=1a", None), ("/a?$skip=1" + "0" * 15, None),
        ("/a?$skipx=1", None), ("/a?$skip=٣", None),
    ],
)  # fmt: skip
def test_the_step_of_a_link_is_read_where_it_is_plain(target, skip):
    assert skip_of(target) == skip


@given(st.integers(0, 10**14), st.integers(0, 10**14))
def test_a_link_at_another_skip_differs_in_nothing_else(first, second):
    target = "/a?x=%2F&{}skip={}&$top=5"
    for dollar in ("$", "%24"):
        assert with_skip(target.format(dollar, first), second) == target.format(dollar, second)


# Over the network


def set_next(href):
    def edit(page):
        page["_links"] = {"next": {"href": href.replace("{port}", str(page.get("port", "")))}}

    return Edit(edit)


async def listed(session: ITwinSession) -> tuple[int, Exception | None]:
    count = 0
    try:
        async for _ in session.extensions.list_extensions(page_size=5):
            count += 1
            if count > 1_000:
                break
    except LinkError as error:
        return count, error
    return count, None


@pytest.mark.parametrize(
    "href", ["http://localhost:{}/x", "http://127.0.0.1:{}/x", "//127.0.0.1:{}/x",
             "http://user:pw@127.0.0.1:{}/x"],
)  # fmt: skip
async def test_no_connection_goes_to_another_origin(emulator, itwin, href):
    connections = []
    other = await asyncio.start_server(lambda r, w: connections.append(w), "127.0.0.1", 0)
    async with other:
        port = other.sockets[0].getsockname()[1]
        emulator.faults.add("list_extensions", set_next(href.format(port)))
        count, error = await listed(itwin)
    assert isinstance(error, LinkError)
    assert count == 5  # the items of its page were handed over
    assert emulator.count("list_extensions") == 1
    assert connections == []


async def test_a_list_says_which_operation_had_the_bad_link(emulator, itwin):
    emulator.faults.add("list_extensions", set_next("https://evil.example/x?sig=secret"))
    _, error = await listed(itwin)
    assert error.operation == "GET /extensions/"
    assert "https://evil.example" in str(error)
    assert "secret" not in str(error)


@pytest.mark.parametrize("bad", [5, "", [], {"href": 5}, {"href": ""}, {"href": ["/x"]}])
async def test_a_link_that_is_none_is_no_quiet_end(emulator, itwin, bad):
    emulator.faults.add("list_extensions", Edit(lambda page: page.update(_links={"next": bad})))
    count, error = await listed(itwin)
    assert isinstance(error, LinkError)
    assert count == 5


@pytest.mark.parametrize("links", [None, {}, {"next": None}, {"next": {}}, "absent"])
async def test_a_list_ends_where_there_is_no_next_link(emulator, itwin, links):
    def edit(page):
        page.pop("_links") if links == "absent" else page.update(_links=links)

    emulator.faults.add("list_extensions", Edit(edit))
    assert await listed(itwin) == (5, None)


async def test_a_link_arrives_byte_for_byte(emulator, itwin):
    target = "/extensions/?$top=5&$skip=5&x=%2F%3a%7e~+%2B%20'()*!;:@[]|^`{}\"<>&&=&%zz&A=b"
    emulator.faults.add("list_extensions", set_next(target))
    emulator.faults.add("list_extensions", Edit(lambda page: page.update(_links=None)))
    assert await listed(itwin) == (10, None)
    requests = [item for item in emulator.requests if item.operation == "list_extensions"]
    assert requests[1].target == target
    assert requests[1].headers["Host"] == requests[0].headers["Host"]


async def test_links_that_name_production_are_followed_on_the_emulator(emulator, itwin):
    def edit(page):
        page["_links"]["next"]["href"] = page["_links"]["next"]["href"].replace(
            emulator.url, "https://api.bentley.com"
        )

    emulator.faults.add("list_extensions", Edit(edit), 3)
    assert await listed(itwin) == (30, None)
    assert emulator.count("list_extensions") == 6


async def test_a_page_that_names_itself_is_a_loop(emulator, itwin):
    emulator.faults.add("list_extensions", set_next("/extensions/?$top=5"), None)
    count, error = await listed(itwin)
    assert isinstance(error, LinkError)
    assert count == 5
    assert emulator.count("list_extensions") == 1


async def test_a_circle_of_pages_is_a_loop(emulator, itwin):
    for skip in (5, 10, 5):
        emulator.faults.add("list_extensions", set_next(f"/extensions/?$top=5&$skip={skip}"))
    count, error = await listed(itwin)
    assert isinstance(error, LinkError)
    assert count == 15
    assert emulator.count("list_extensions") == 3


@pytest.mark.slow
async def test_empty_pages_without_end_are_a_loop():
    async with Emulator(itwins=3, imodels=0, extensions=3, packages=3) as emulator:
        numbers = iter(range(1, 3_000))

        def edit(_):
            return {
                "extensions": [],
                "_links": {"next": {"href": f"/extensions/?$skip={next(numbers)}"}},
            }

        emulator.faults.add("list_extensions", Edit(edit), None)
        async with ITwinSession(emulator.credentials, base_url=emulator.url) as session:
            count, error = await listed(session)
    assert isinstance(error, LinkError)
    assert "empty pages" in str(error)
    assert count == 0
    assert emulator.count("list_extensions") <= 1_000


async def test_an_empty_page_with_a_next_link_is_followed(emulator, itwin):
    emulator.faults.add("list_extensions", Edit(lambda page: page.update(extensions=[])), 3)
    assert await listed(itwin) == (15, None)


async def test_a_list_that_met_a_bad_link_raises_it_again(emulator, itwin):
    emulator.faults.add("list_extensions", set_next("//evil/"))
    items = aiter(itwin.extensions.list_extensions(page_size=5))
    for _ in range(5):
        await anext(items)
    for _ in range(2):
        with pytest.raises(LinkError):
            await anext(items)
