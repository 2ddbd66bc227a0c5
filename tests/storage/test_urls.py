"""What URLs mean."""

import pytest

from raytes.storage import urls


@pytest.mark.parametrize(
    ("url", "scheme", "path"),
    [
        ("/data/a%20b", "file", "/data/a%20b"),
        ("/data/a b#c", "file", "/data/a b#c"),
        ("file:///data/a%20b", "file", "/data/a b"),
        ("file:///data/100%25", "file", "/data/100%"),
        ("file:///data/100%", "file", "/data/100%"),
        ("file:///data/a+b", "file", "/data/a+b"),
        ("file:///data/a#b?c", "file", "/data/a#b?c"),
        ("file:///data/%C3%A9é", "file", "/data/éé"),
        ("file:///data/%e9", "file", "/data/\udce9"),
        ("file:///data/dir/", "file", "/data/dir/"),
        ("file://localhost/data", "file", "/data"),
        ("FILE://LOCALHOST/data", "file", "/data"),
        ("file:/data", "file", "/data"),
        ("file:////etc/passwd", "file", "//etc/passwd"),
        ("file:///data/%2e%2e/x", "file", "/data/../x"),
        ("s3://bucket/key", "s3", "bucket/key"),
        ("S3://bucket/key", "s3", "bucket/key"),
        ("s3://bucket", "s3", "bucket"),
        ("s3://bucket/a%20b#c?d*[e]/", "s3", "bucket/a%20b#c?d*[e]/"),
        ("gs://bucket/a..b", "gs", "bucket/a..b"),
        ("abfs://container/a%20b#c", "abfs", "container/a%20b#c"),
    ],
)
def test_a_url_means_one_place(url: str, scheme: str, path: str) -> None:
    assert urls.parse(url) == urls.Location(url, scheme, path)


@pytest.mark.parametrize(
    ("url", "authority", "path"),
    [
        (
            "abfs://data@lab.dfs.core.windows.net/a%20b/c@d",
            "lab.dfs.core.windows.net",
            "data/a%20b/c@d",
        ),
        ("ftp://host/file", "host", "/file"),
        ("ftp://Host:2121/a%20b/%23/", "host:2121", "/a b/#/"),
        ("sftp://host/a#b?c", "host", "/a#b?c"),
        ("sftp://host", "host", "/"),
        ("drs://Host/a%2Fb", "host", "drs://Host/a%2Fb"),
        ("ftp://[::1]:21/%C3%A9", "[::1]:21", "/é"),
    ],
)
def test_a_url_may_name_the_server_of_its_path(url: str, authority: str, path: str) -> None:
    location = urls.parse(url)
    assert (location.authority, location.path) == (authority, path)


@pytest.mark.parametrize(
    ("url", "reason"),
    [
        ("", "empty"),
        ("relative/path", "neither a URL"),
        ("./a", "neither a URL"),
        ("~/a", "neither a URL"),
        ("mailto:someone", "neither a URL"),
        ("://bucket/key", "neither a URL"),
        ("/data/\0", "NUL"),
        ("file:///data/%00", "NUL"),
        ("s3://bucket/\0", "NUL"),
        ("/data/\ud800", "Unicode"),
        ("s3://bucket/\udce9", "Unicode"),
        ("file://host/data", "another host"),
        ("abfs://data@evil.example.org/x", "not the host of an Azure"),
        ("ftp://user:password@host/x", "credentials belong"),
        ("sftp://user@host/x", "credentials belong"),
        ("drs://dg.4503:abc", "compact identifiers"),
        ("ftp://host/a%0d%0aDELE%20x", "control character"),
        ("ftp://host/%e9", "not UTF-8"),
        ("ftp://host/a/%2e%2e/b", "component"),
        ("file://etc/passwd", "another host"),
        ("file://localhost", "absolute path"),
        ("file:data", "absolute path"),
        ("file://", "absolute path"),
        ("s3://", "bucket"),
        ("s3:///key", "bucket"),
        ("s3://user:password@host/key", "bucket"),
        ("s3://../key", "bucket"),
        ("s3://bucket/../other/key", r"'\.\.'"),
        ("gs://bucket/a/./b", r"'\.'"),
        ("http://", "no host"),
        ("http:///path", "no host"),
        ("http://[::1/path", "not a URL"),
        ("http://host:port/path", "not a URL"),
    ],
)
def test_what_no_store_could_have_is_refused_with_the_reason(url: str, reason: str) -> None:
    with pytest.raises(urls.InvalidURL, match=reason):
        urls.parse(url)


@pytest.mark.parametrize(
    ("url", "relative", "joined"),
    [
        ("/out", "a b#%.txt", "/out/a b#%.txt"),
        ("/out/", "a", "/out/a"),
        ("/out", "", "/out"),
        ("/out", "\udce9", "file:///out/%E9"),
        ("file:///out%20put", "a b#%.txt", "file:///out%20put/a%20b%23%25.txt"),
        ("file:///out/", "é/x", "file:///out/%C3%A9/x"),
        ("file:///out", "\udce9", "file:///out/%E9"),
        ("s3://bucket/out", "a b#%.txt", "s3://bucket/out/a b#%.txt"),
        ("s3://bucket", "a", "s3://bucket/a"),
        ("s3://bucket/out/", "a/b", "s3://bucket/out/a/b"),
        ("http://host/out", "a b?.txt", "http://host/out/a%20b%3F.txt"),
    ],
)
def test_what_lies_below_a_directory_has_a_url_in_the_same_spelling(
    url: str, relative: str, joined: str
) -> None:
    assert urls.join(url, relative) == joined


def test_a_joined_file_url_means_the_path_below() -> None:
    assert urls.parse(urls.join("file:///a%20b", "c %20/d")).path == "/a b/c %20/d"


@pytest.mark.parametrize(
    ("url", "prefix"),
    [
        ("s3://data/a", "s3://data/a"),
        ("s3://data/a/b", "s3://data/a"),
        ("s3://data/ab", "s3://data"),
        ("s3://database/a", "s3://"),
        ("S3://data/a/b", "s3://data/a"),
        ("gs://data/a", None),
        ("http://127.0.0.1:9000/x", "http://127.0.0.1:9000"),
        ("http://127.0.0.1:90001/x", None),
        ("http://127.0.0.1:9000@evil.example/x", None),
    ],
)
def test_the_longest_prefix_that_ends_with_a_component_is_chosen(
    url: str, prefix: str | None
) -> None:
    sections = ["s3://", "s3://data", "s3://data/a", "http://127.0.0.1:9000"]
    assert urls.longest_prefix(url, sections) == prefix


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("/data/a@b", "/data/a@b"),
        ("s3://bucket/a@b?c", "s3://bucket/a@b?c"),
        ("ftp://user:pass@word@host/a", "ftp://…@host/a"),
        ("https://user:pw@host/a?X-Amz-Signature=abc", "https://…@host/a?…"),
        ("https://host?token=abc", "https://host?…"),
    ],
)
def test_what_people_are_shown_has_no_secrets(url: str, shown: str) -> None:
    assert urls.shown(url) == shown


def test_an_s3_url_may_name_a_server_that_is_known_before_the_bucket() -> None:
    location = urls.parse("s3://Lab.example.org:9000/bucket/a/b", {"lab.example.org:9000"})
    assert (location.path, location.authority) == ("bucket/a/b", "lab.example.org:9000")
    below = location.below("c d")
    assert below.url == "s3://Lab.example.org:9000/bucket/a/b/c d"
    assert below.path == "bucket/a/b/c d"
    assert urls.parse("s3://lab.example.org/bucket/a").path == "lab.example.org/bucket/a"
