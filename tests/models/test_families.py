import re
from pathlib import Path

import pytest

from medllm_ops.errors import MedllmError
from medllm_ops.models.families import Member, families, find_member, known_member, members, model_of_2024


def test_the_six_families_are_there() -> None:
    assert list(families()) == ["glm", "baichuan", "internlm", "qwen", "skywork", "yi"]
    kinds = {member.model_type for member in members()}
    assert {"qwen", "qwen_vl", "chatglm3", "glm4", "xcomposer2", "skywork", "yi_vl", "baichuan2"} <= kinds


def test_each_member_has_a_key_of_its_own_within_its_family() -> None:
    for family in families().values():
        keys = [member.key for member in family.members]
        assert len(set(keys)) == len(keys)


@pytest.mark.parametrize(
    ("old", "model"),
    [
        ("qwen_14b_chat", "Qwen/Qwen-14B-Chat"),
        ("qwen-14b-chat", "Qwen/Qwen-14B-Chat"),
        ("qwen-1_8b", "Qwen/Qwen-1_8B"),
        ("qwen_vl_chat", "Qwen/Qwen-VL-Chat"),
        ("chatglm3_6b", "ZhipuAI/chatglm3-6b"),
        ("baichuan2-13b-chat", "baichuan-inc/Baichuan2-13B-Chat"),
        ("internlm-20b-chat", "Shanghai_AI_Laboratory/internlm-chat-20b"),
        ("internlm2_7b_chat", "Shanghai_AI_Laboratory/internlm2-chat-7b"),
        ("internlm-xcomposer2-7b-chat", "Shanghai_AI_Laboratory/internlm-xcomposer2-7b"),
        ("skywork-13b-chat", "skywork/Skywork-13B-chat"),
        ("skywork-13b", "skywork/Skywork-13B-base"),
        ("yi-6b", "01ai/Yi-6B"),
        ("yi-34b-chat", "01ai/Yi-34B-Chat"),
        ("no-such-model", None),
        ("", None),
    ],
)
def test_a_model_type_of_1x_is_the_name_of_a_model(old: str, model: str | None) -> None:
    assert model_of_2024(old) == model


def test_a_member_is_found_by_id_folder_or_type() -> None:
    assert find_member("Qwen/Qwen-14B-Chat").model_type == "qwen"
    assert find_member("/models/Qwen-14B-Chat/").model_type == "qwen"
    assert find_member("glm_moe_dsa").name == "ZhipuAI/GLM-5.3"
    found = known_member("/models/mine", "yi", "yi_coder")
    assert found
    assert found.name == "01ai/Yi-Coder-9B-Chat"
    assert known_member("/models/mine") is None
    assert known_member("/models/mine", "yi", "no_such_template") is None
    with pytest.raises(MedllmError, match="in none of the families glm, baichuan"):
        find_member("gpt-2")


def test_memory_is_that_of_the_weights_and_what_belongs_to_them() -> None:
    qwen = find_member("Qwen/Qwen-14B-Chat")
    assert qwen.gigabytes("Qwen/Qwen-14B-Chat", "lora") == 28
    assert qwen.gigabytes("Qwen/Qwen-14B-Chat", "full") == 224
    assert qwen.gigabytes("Qwen/Qwen-14B-Chat", "qlora") == pytest.approx(8.4)
    assert find_member("GLM-5.3-Flash").gigabytes("ZhipuAI/GLM-5.3-Flash", "lora") is None


def test_the_billions_are_those_that_the_names_say() -> None:
    for member in members():
        for model, billions in member.models.items():
            said = re.search(r"(\d+(?:[._]\d+)?)[bB](?![a-z])", model.rpartition("/")[2])
            if said and billions is not None:
                assert billions == float(said[1].replace("_", ".")), model


def row(title: str, member: Member) -> str:
    """The member as the page on families shows it."""
    model = member.name
    memory = [member.gigabytes(model, training) for training in ("qlora", "lora", "full")]
    cells = [
        title,
        model.rpartition("/")[2],
        f"`{member.model_type}` / `{member.template}`",
        ", ".join(f"`{name}`" for name in member.attention),
        ", ".join(f"`{name}`" for name in member.target_modules),
        " / ".join("–" if each is None else f"{each:.0f}" for each in memory),
        "yes" if member.remote_code else "no",
    ]
    return f"| {' | '.join(cells)} |"


def test_the_page_shows_the_table(repository: Path) -> None:
    page = (repository / "docs" / "families.md").read_text(encoding="utf-8").splitlines()
    told = [line for line in page if line.startswith(tuple(f"| {family.title} |" for family in families().values()))]
    assert told == [row(family.title, member) for family in families().values() for member in family.members]
