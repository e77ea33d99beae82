"""Files that posts attach, wherever they lie."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from mmap import mmap
from pathlib import Path

import pytest
from prefect.blocks.system import Secret
from prefect.filesystems import LocalFileSystem
from prefect_aws import AwsCredentials
from prefect_aws.s3 import S3Bucket

from prefect_bluesky import Image
from prefect_bluesky.errors import BlueskyError, InvalidInput, SourceUnavailable
from prefect_bluesky.media.files import map_file, read_file
from tests.support import web_page

CONTENT = b"\x89PNG not really"


def read(image: Image, max_bytes: int = 1000) -> bytes:
    return read_file(image, "images[0]", max_bytes=max_bytes)


def test_a_path(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(CONTENT)
    assert read(Image(source=tmp_path / "a.png")) == CONTENT


def test_bytes() -> None:
    assert read(Image(source=CONTENT)) == CONTENT


def test_a_url(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PREFECT_INTEGRATIONS_BLUESKY_ALLOW_PRIVATE_ADDRESSES", "true")
    with web_page(CONTENT) as url:
        assert read(Image(source=f"{url}/a.png")) == CONTENT


@pytest.mark.usefixtures("prefect_api")
class TestBlocks:
    @pytest.fixture(params=["local-file-system", "s3-bucket"])
    def storage(self, request: pytest.FixtureRequest, tmp_path: Path, aws_credentials: AwsCredentials) -> Iterator[str]:
        if request.param == "s3-bucket":
            client = aws_credentials.get_boto3_session().client(
                "s3", endpoint_url=aws_credentials.aws_client_parameters.endpoint_url
            )
            client.create_bucket(
                Bucket="pictures", CreateBucketConfiguration={"LocationConstraint": aws_credentials.region_name}
            )
            client.put_object(Bucket="pictures", Key="a.png", Body=CONTENT)
            aws_credentials.save("s3-account", overwrite=True)
            S3Bucket(bucket_name="pictures", credentials=aws_credentials).save("pictures", overwrite=True)
            yield "s3-bucket/pictures"
            client.delete_object(Bucket="pictures", Key="a.png")
            client.delete_bucket(Bucket="pictures")
        else:
            (tmp_path / "a.png").write_bytes(CONTENT)
            LocalFileSystem(basepath=str(tmp_path)).save("pictures", overwrite=True)
            yield "local-file-system/pictures"

    def test_a_file_in_a_block(self, storage: str) -> None:
        assert read(Image(source="a.png", storage=storage)) == CONTENT

    def test_a_file_in_a_block_from_async_code(self, storage: str) -> None:
        async def in_a_loop() -> bytes:
            return read(Image(source="a.png", storage=storage))

        assert asyncio.run(in_a_loop()) == CONTENT

    def test_a_file_that_is_not_there_is_named(self, storage: str) -> None:
        with pytest.raises(SourceUnavailable, match=f"{storage}: b.png: it cannot be read"):
            read(Image(source="b.png", storage=storage))

    def test_a_block_that_is_not_there_is_named(self) -> None:
        with pytest.raises(SourceUnavailable, match="there is no block local-file-system/none"):
            read(Image(source="a.png", storage="local-file-system/none"))

    def test_a_block_that_holds_no_files_is_named(self) -> None:
        Secret(value="no file").save("no-files", overwrite=True)
        with pytest.raises(SourceUnavailable, match="a block of this type holds no files: Secret"):
            read(Image(source="a.png", storage="secret/no-files"))

    def test_a_large_file_in_a_bucket_is_not_read_into_memory(self, storage: str) -> None:
        mapped = map_file(Image(source="a.png", storage=storage), "video", max_bytes=100)
        assert isinstance(mapped, mmap) == storage.startswith("s3-bucket")
        assert bytes(mapped) == CONTENT

    def test_a_mapped_file_that_is_not_there_is_named(self, storage: str) -> None:
        with pytest.raises(SourceUnavailable, match=f"video, {storage}: b.png: it cannot be read"):
            map_file(Image(source="b.png", storage=storage), "video", max_bytes=100)


class TestMappedUrls:
    @pytest.fixture(autouse=True)
    def _with_loopback(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("PREFECT_INTEGRATIONS_BLUESKY_ALLOW_PRIVATE_ADDRESSES", "true")

    def test_a_url_is_not_read_into_memory(self) -> None:
        with web_page(b"", {"/a.mp4": CONTENT}) as url:
            mapped = map_file(Image(source=f"{url}/a.mp4"), "video", max_bytes=100)
        assert isinstance(mapped, mmap)
        assert bytes(mapped) == CONTENT

    def test_an_empty_file_is_empty(self) -> None:
        with web_page(b"", {"/a.mp4": b""}) as url:
            assert map_file(Image(source=f"{url}/a.mp4"), "video", max_bytes=100) == b""

    def test_a_file_that_is_too_large_is_refused(self) -> None:
        with web_page(CONTENT) as url, pytest.raises(SourceUnavailable, match="larger than 3 bytes"):
            map_file(Image(source=f"{url}/a.mp4"), "video", max_bytes=3)


@pytest.mark.parametrize(
    ("source", "error", "reason"),
    [
        ("/no/such/file", SourceUnavailable, "there is no such file on the machine that publishes"),
        ("/", SourceUnavailable, "it is not a file"),
        ("/dev/zero", SourceUnavailable, "it is not a file"),
        ("~nobodyatall/a.png", SourceUnavailable, "home directory"),
        ("ftp://me:secret@x.test/a.png", InvalidInput, "'ftp://x.test/a.png' is neither a path"),
        ("a\0b", SourceUnavailable, "null byte"),
        ("x" * 5000, SourceUnavailable, "File name too long"),
        ("data:image/png,raw", InvalidInput, r"images\[0\]: the data URL holds no base64"),
        ("data:;base64,?", InvalidInput, r"images\[0\]: the data URL holds no base64"),
        ("s3://bucket/key", InvalidInput, "Name the Prefect block as its storage"),
        ("http://127.0.0.1/a.png", SourceUnavailable, "ALLOW_PRIVATE_ADDRESSES"),
        ("http://127.0.0.1/a.png?signature=secret", SourceUnavailable, r"images\[0\], http://127.0.0.1/a.png\?…: "),
    ],
)
def test_an_unreadable_source_is_named_with_the_reason(source: str, error: type[BlueskyError], reason: str) -> None:
    with pytest.raises(error, match=reason) as trouble:
        read(Image(source=source))
    assert not trouble.value.retryable


def test_a_source_that_is_too_large_is_refused() -> None:
    with pytest.raises(InvalidInput, match="it has more than 10 bytes"):
        read(Image(source=CONTENT), max_bytes=10)
