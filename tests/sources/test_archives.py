import gzip
import hashlib
import io
import random
import zipfile
import zlib
from pathlib import Path

import pytest

from medllm_ops.errors import UnreadableFileError
from medllm_ops.sources import archives
from medllm_ops.sources.archives import Member, RawFile, check_md5_sidecar, zip_members

# Half noise, half text: packs to some extent, in several blocks.
CONTENT = random.Random(0).randbytes(900_000) + b"text " * 400_000


def read(tmp_path: Path, data: bytes) -> tuple[bytes, RawFile]:
    path = tmp_path / "raw"
    path.write_bytes(data)
    raw = RawFile(path)
    blocks = list(raw.blocks())
    assert max(map(len, blocks), default=0) <= archives.BLOCK
    return b"".join(blocks), raw


@pytest.mark.parametrize(
    "data",
    [
        CONTENT,
        gzip.compress(CONTENT),
        gzip.compress(CONTENT[:1_000_000]) + gzip.compress(CONTENT[1_000_000:]),
        gzip.compress(CONTENT) + bytes(100_000),
    ],
    ids=["plain", "gzip", "two members", "padded with NULs"],
)
def test_plain_and_gzip_give_the_same_bytes(tmp_path: Path, data: bytes) -> None:
    content, raw = read(tmp_path, data)
    assert content == CONTENT
    assert (raw.damage, raw.cut_off) == ("", False)


@pytest.mark.parametrize("left_out", [1, 8, 5_000, 300_000])
def test_a_cut_gzip_gives_all_that_it_holds(tmp_path: Path, left_out: int) -> None:
    packed = gzip.compress(CONTENT)
    content, raw = read(tmp_path, packed[:-left_out])
    assert CONTENT.startswith(content)
    assert raw.cut_off
    assert "ends before its end mark" in raw.damage
    if left_out <= 8:  # the checksum and the length
        assert content == CONTENT
    assert len(content) > 600_000


def test_damage_keeps_what_came_before_it_to_the_last_bytes(tmp_path: Path) -> None:
    packed = gzip.compress(CONTENT)
    wrong_sum = bytearray(packed)
    wrong_sum[-8] ^= 1
    content, raw = read(tmp_path, bytes(wrong_sum))
    assert content == CONTENT
    assert (raw.cut_off, "damaged" in raw.damage) == (False, True)
    content, raw = read(tmp_path, packed + b"no gzip member")
    assert content == CONTENT
    assert "damaged" in raw.damage
    # All that was written, and then a block of a kind that does not exist, in the middle of what is read at a time.
    packer = zlib.compressobj(wbits=31)
    written = packer.compress(CONTENT[:800_000]) + packer.flush(zlib.Z_FULL_FLUSH)
    assert 1_000 < len(written) % archives.CHUNK < archives.CHUNK - 1_000
    content, raw = read(tmp_path, written + b"\xff" * 500_000)
    assert content == CONTENT[:800_000]
    assert (raw.cut_off, "damaged" in raw.damage) == (False, True)


def test_what_the_decoder_still_holds_at_the_end_is_given_out(tmp_path: Path) -> None:
    text = bytes(archives.BLOCK + 1)
    content, raw = read(tmp_path, gzip.compress(text)[:-8])
    assert content == text
    assert raw.cut_off


def test_what_is_no_gzip_behind_its_first_bytes_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(UnreadableFileError, match="gzip data are damaged"):
        read(tmp_path, archives.GZIP_MAGIC + b"and then something else")


def test_missing_files_and_directories_have_the_words_of_the_system(tmp_path: Path) -> None:
    with pytest.raises(UnreadableFileError, match="no such file or directory"):
        list(RawFile(tmp_path / "missing").blocks())
    with pytest.raises(UnreadableFileError, match="is a directory"):
        list(RawFile(tmp_path).blocks())


def test_md5_sidecars(tmp_path: Path) -> None:
    path = tmp_path / "raw.gz"
    path.write_bytes(CONTENT)
    check_md5_sidecar(path)
    sidecar = tmp_path / "raw.gz.md5"
    right = hashlib.md5(CONTENT).hexdigest()
    for text in (f"MD5(raw.gz)= {right}\n", f"{right}  raw.gz\n", right.upper(), f"MD5 (raw.gz) = {right}"):
        sidecar.write_text(text)
        check_md5_sidecar(path)
    sidecar.write_text(f"MD5(raw.gz)= {right[::-1]}\n")
    with pytest.raises(UnreadableFileError, match=f"md5 {right} does not match its sidecar raw.gz.md5"):
        check_md5_sidecar(path)
    for text in ("", "<html>404</html>", right[:-1], right + "0"):
        sidecar.write_text(text)
        with pytest.raises(UnreadableFileError, match=r"raw\.gz\.md5 holds no md5 sum"):
            check_md5_sidecar(path)


def zipped(tmp_path: Path, members: dict[str, bytes], method: int = zipfile.ZIP_DEFLATED) -> Path:
    path = tmp_path / "raw.zip"
    with zipfile.ZipFile(path, "w", method) as archive:
        for name, data in members.items():
            archive.writestr(name, data)
    return path


def test_zip_members_come_in_their_order_and_directories_not_at_all(tmp_path: Path) -> None:
    path = zipped(tmp_path, {"b.json": b"1", "folder/": b"", "folder/a.JSON": b"2", "..c/d..json": b"3"})
    assert list(zip_members(path, ".json")) == [
        Member("b.json", b"1"),
        Member("folder/a.JSON", b"2"),
        Member("..c/d..json", b"3"),
    ]


@pytest.mark.parametrize("name", ["../x.json", "a/../../x.json", "/x.json", "C:x.json", "\\x.json", "a\\..\\x.json"])
def test_a_path_that_climbs_out_is_refused(tmp_path: Path, name: str) -> None:
    refused, good = zip_members(zipped(tmp_path, {name: b"1", "good.json": b"2"}), ".json")
    assert (refused.refusal, refused.data) == ("unsafe path in archive", b"")
    assert good.data == b"2"


def test_a_name_that_was_lost_costs_its_member_only(tmp_path: Path) -> None:
    path = zipped(tmp_path, {"a.json": b"1", "good.json": b"2"})
    path.write_bytes(path.read_bytes().replace(b"a.json", b"\0.json"))
    lost, good = zip_members(path, ".json")
    assert lost.refusal == "unsafe path in archive"
    assert good.data == b"2"


def test_bombs_are_refused_unread(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = zipped(tmp_path, {"bomb.json": bytes(2 << 20), "large.json": CONTENT, "good.json": b"2"})
    monkeypatch.setattr(archives, "MAX_MEMBER_BYTES", 2_500_000)
    assert [member.refusal for member in zip_members(path, ".json")] == [
        "file in archive packed too tightly",
        "file in archive too large",
        "",
    ]


def test_damaged_and_encrypted_members_cost_only_themselves(tmp_path: Path) -> None:
    path = zipped(tmp_path, {"a.json": CONTENT[:1000], "b.json": CONTENT[1000:2000], "c.json": b"3"})
    data = bytearray(path.read_bytes())
    data[data.index(CONTENT[100:110])] ^= 0xFF
    second = data.index(b"PK\x01\x02", data.index(b"PK\x01\x02") + 1)  # of the central directory
    data[second + 8] |= 1  # says that it is encrypted
    path.write_bytes(data)
    assert [member.refusal for member in zip_members(path, ".json")] == [
        "damaged file in archive",
        "encrypted file in archive",
        "",
    ]


@pytest.mark.parametrize("method", [zipfile.ZIP_LZMA, zipfile.ZIP_BZIP2, zipfile.ZIP_DEFLATED])
def test_damage_in_any_packing_costs_only_its_member(tmp_path: Path, method: int) -> None:
    path = zipped(tmp_path, {"a.json": CONTENT[:1000], "b.json": b"2"}, method)
    data = bytearray(path.read_bytes())
    for place in range(zipfile.sizeFileHeader + 6, zipfile.sizeFileHeader + 24):
        path.write_bytes(data[:place] + bytes([data[place] ^ 0xFF]) + data[place + 1 :])
        one, two = zip_members(path, ".json")
        assert one.refusal == "damaged file in archive" or one.data == CONTENT[:1000]
        assert two.data == b"2"


def test_a_zip_without_its_central_directory_cannot_be_read(tmp_path: Path) -> None:
    whole = zipped(tmp_path, {"a.json": b"1"}).read_bytes()
    for data in (whole[:-10], b"", b"no zip", io.BytesIO(whole).read(20)):
        (tmp_path / "half.zip").write_bytes(data)
        with pytest.raises(UnreadableFileError, match="not a whole zip file"):
            list(zip_members(tmp_path / "half.zip", ".json"))
