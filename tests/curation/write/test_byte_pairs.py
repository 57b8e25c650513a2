import base64

from medllm_ops.curation.write.byte_pairs import halves, read_ranks, spell


def test_ranks_tell_what_a_token_is_joined_of() -> None:
    tokens = [b"a", b"b", b"c", b"ab", b"bc", b"abc"]
    ranks = read_ranks(b"".join(base64.b64encode(token) + b" %d\n" % rank for rank, token in enumerate(tokens)) + b"\n")
    assert ranks == {token: rank for rank, token in enumerate(tokens)}
    assert halves(b"ab", ranks) == (b"a", b"b")
    assert halves(b"abc", ranks) == (b"ab", b"c")  # "ab" was learned before "bc"


def test_bytes_are_spelled_as_transformers_spells_them() -> None:
    from transformers.convert_slow_tokenizer import bytes_to_unicode

    assert {byte: spell(bytes([byte])) for byte in range(256)} == bytes_to_unicode()
