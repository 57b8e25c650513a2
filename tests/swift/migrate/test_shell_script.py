import pytest

from medllm_ops.swift.migrate.calls import Call, Script
from medllm_ops.swift.migrate.shell_script import read_shell


def read(text: str) -> Script:
    return read_shell(text, "x.sh")


def call(text: str) -> Call:
    (found,) = read(text).calls
    return found


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("swift sft --a 1", "train"),
        ("swift pt --a 1", "pretrain"),
        ("swift rlhf --a 1", "align"),
        ("swift merge-lora --a 1", "merge"),
        ("/opt/bin/swift export --a 1", "merge"),
        ("swift app-ui --a 1", "app"),
        ("python llm_sft.py --a 1", "train"),
        ("torchrun --nproc_per_node 2 src/llm_sft.py --a 1", "train"),
        ("CUDA_VISIBLE_DEVICES=0 nohup swift sft --a 1 > x.log 2>&1 &", "train"),
        ("swift sft \\\n  --a 1", "train"),
        ("cd x && swift sft --a 1 | tee log", "train"),
        ("python -m swift.cli.sft --a 1", "train"),
        ('eval "swift sft --a 1"', "train"),
        ("bash -c 'swift sft --a 1'", "train"),
        ("if [ -d x ]; then swift sft --a 1; fi", "train"),
        ("A='--a 1'\nswift sft $A", "train"),
    ],
)
def test_each_form_of_a_call_is_found(text: str, kind: str) -> None:
    found = call(text)
    assert (found.kind, found.arguments["a"].value) == (kind, 1)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("--a 1e-4", 1e-4),
        ("--a=2", 2),
        ("--a -1", -1),
        ("--a true", True),
        ("--a", True),
        ("--a x y", ["x", "y"]),
        ("--a d.jsonl#20", "d.jsonl#20"),
        ("--a 'two words'", "two words"),
        ("--a None", None),
        ("--a 1e-4 2>&1 | tee log", 1e-4),
        ("--a x 1>out 2>err &", "x"),
        ("--a 1 2 > log", [1, 2]),
        ("--a 1 '2>&1'", [1, "2>&1"]),
        ('"${X[@]}"', 7),
        ("${X[*]}", 7),
        ("--a 1_000", "1_000"),
        ("--a default-zero2", "default-zero2"),
        ("--a ${LR:-1e-4}", 1e-4),
        ("--a '${LR:-x} $(y)'", "${LR:-x} $(y)"),
    ],
)
def test_values_are_read_as_they_were_meant(text: str, value: object) -> None:
    assert call(f"X=(--a 7)\nswift sft {text}").arguments["a"].value == value


@pytest.mark.parametrize(
    "text",
    [
        "if [ -d x ]; then\n  L=2\nfi",
        "if [ -d x ]; then L=2; else L=3; fi",
        "if [ -d x ]; then export L=2; fi",
        "[ -d x ] && L=2",
        "while true; do\n  L=2\ndone",
        "case $1 in\n a)\n L=2\n ;;\nesac",
        "if [ -d x ]; then if [ -d y ]; then :; fi; L=2; fi",
        "echo 3 | L=2",
        "L=2 &",
        "[ -d x ] && { L=2; }\nL=2 &",
    ],
)
def test_a_variable_that_is_set_only_sometimes_is_not_guessed(text: str) -> None:
    script = read(f"L=1\n{text}\nswift sft --a $L --b ${{L:-4}}")
    (found,) = script.calls
    assert [each.readable for each in found.arguments.values()] == [False, False]
    assert any("set only sometimes" in sentence and "L=2" in sentence for sentence in script.leftovers)
    # What is set again afterwards is known again.
    assert call(f"{text}\nL=5\nswift sft --a $L").arguments["a"].value == 5


def test_what_a_loop_counts_is_not_guessed() -> None:
    found = call("L=1\nfor L in 2 3; do swift sft --a $L; done")
    assert (found.arguments["a"].readable, found.arguments["a"].text) == (False, "$L")


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("L+=2", 12),
        ("readonly L=2", 2),
        ("declare -i L=2", 2),
        ("typeset -x L=2", 2),
        ("export K=2 L=$K", 2),
        ("{ L=2; }", 2),
        ("time L=2", 2),
        ("! L=2", 2),
        # A shell in brackets keeps what it sets to itself.
        ("(cd x; L=2; echo hi);", 1),
        ("(\nL=2\n)", 1),
        ("(cd x; (L=2; echo hi))", 1),
        ("if (( L > 2 && L != 3 )); then echo $L; fi", 1),
        ("while ((L<=0)); do echo hi; done", 1),
        ("(case $1 in a) L=2;; esac; L=3)", 1),
    ],
)
def test_a_variable_has_the_value_that_it_was_given_last(text: str, value: int) -> None:
    assert call(f"L=1\n{text}\nswift sft --a $L").arguments["a"].value == value


@pytest.mark.parametrize(
    "text",
    [
        "read -r L",
        "IFS= read L < x",
        "while read L; do :; done",
        "mapfile -t L < x",
        "let L=2",
        "((L*=2))",
        "(( L++ ))",
        "(( --L ))",
        "let K=3 L-=2",
        "for ((L=0; L<3; L++)); do :; done",
        "printf -v L 2",
        "unset L",
        "declare -i L=2*3",
        "declare -n L=K",
        "L[0]=2",
    ],
)
def test_a_variable_that_a_run_would_change_is_not_guessed(text: str) -> None:
    script = read(f"L=1\n{text}\nswift sft --a $L --b ${{L:-4}}")
    (found,) = script.calls
    assert [each.readable for each in found.arguments.values()] == [False, False]
    assert any("changed by what is not followed: " in sentence for sentence in script.leftovers)


@pytest.mark.parametrize("text", ["f() { L=2; }", "f() {\n L=2\n}", "function f\n{\n L=2\n}", "{ L=2; } | tee x"])
def test_what_a_function_sets_is_known_inside_and_not_guessed_behind(text: str) -> None:
    script = read(f"L=1\n{text}\nswift sft --a $L")
    assert not script.calls[0].arguments["a"].readable
    assert any("set in a function, or only sometimes: L" in sentence for sentence in script.leftovers)
    assert read(text.replace("L=2", "L=2; swift sft --a $L")).calls[0].arguments["a"].value == 2


def test_what_is_put_behind_a_variable_that_nobody_knows_is_left_over() -> None:
    script = read("L+=' --c 3'\nswift sft --a 1 $L")
    assert script.leftovers == ["x.sh, line 1: put behind what nobody knows: 'L+= --c 3'"]
    assert not script.calls[0].arguments["a"].readable


def test_an_array_that_is_set_only_sometimes_is_not_guessed() -> None:
    script = read('A=(--a 1)\nif [ -d x ]; then\n  A+=(--b 2)\nfi\nswift sft "${A[@]}"')
    assert script.calls[0].arguments == {}
    assert "x.sh, line 3: set only sometimes: A=(--b 2)" in script.leftovers
    assert any("not used: A=(--a 1 --b 2)" in sentence for sentence in script.leftovers)


def test_arguments_behind_a_redirection_are_arguments() -> None:
    found = call("swift sft --a 1 2>/dev/null --b 2 &> log")
    assert {name: each.value for name, each in found.arguments.items()} == {"a": 1, "b": 2}


def test_an_array_of_several_lines_is_put_in_word_by_word() -> None:
    script = read("N=4\nA=(\n  --a $N  # rows\n  # --z 1\n  --b 'x (y)'\n)\nA+=(--c -1)\nswift sft \"${A[@]}\" --d 5")
    (found,) = script.calls
    assert {name: each.value for name, each in found.arguments.items()} == {"a": 4, "b": "x (y)", "c": -1, "d": 5}
    assert script.leftovers == []
    assert found.line == 8


@pytest.mark.parametrize(
    ("text", "left"),
    [
        ("A=(--a 1)\nswift sft --b 2", "x.sh, line 1: not used: A=(--a 1)"),
        ("A=(\n--a 1\nswift sft --b 2", "sft was started by: --a 1"),
        ('swift sft "${B[@]}"', "before the first option stands: ${B[@]}"),
    ],
)
def test_an_array_that_does_nothing_is_left_over(text: str, left: str) -> None:
    assert any(left in sentence for sentence in read(text).leftovers), read(text).leftovers


def test_variables_of_the_script_are_put_in_and_others_are_not_guessed() -> None:
    found = call("A=/data\nexport B=$A/x\nswift sft --a ${B}/y --b $HOME/y --c `date`")
    assert found.arguments["a"].value == "/data/x/y"
    assert not found.arguments["b"].readable
    assert not found.arguments["c"].readable


@pytest.mark.parametrize(
    ("text", "left"),
    [
        ("A=1 swift sft", "the environment was given A=1"),
        ("NPROC_PER_NODE=4 swift sft", "NPROC_PER_NODE=4; its processes are the field gpus now"),
        ("export NPROC_PER_NODE=4\nswift sft", "line 1: the environment was given NPROC_PER_NODE=4; its processes"),
        ("A=1\nexport A\nswift sft", "line 2: the environment was given A=1"),
        ("swift sft --a 1 > log", "> log"),
        ("swift sft --a 1 >> log 2>&1", "the output went elsewhere: >> log 2>&1"),
        ("swift sft recipe.yaml --a 1", "before the first option stands: recipe.yaml"),
        ("swift sft --a 1 --a 2", "a = 1 was replaced below by 2"),
        ("torchrun --nproc_per_node 2 llm_sft.py", "was started by: torchrun --nproc_per_node 2"),
        ("swift sft --a 1 # --b 2", "after a # stands: --b 2"),
        ("swift sft --a 'x", "the quotes do not balance"),
        ("--c 3", "not understood: --c 3"),
        ("bash stage1.sh && python merge.py", "another script, to be migrated with this one: python merge.py"),
        ("./stage2.sh > log", "another script, to be migrated with this one: ./stage2.sh"),
        ("swift frobnicate --a 1", "not understood: swift frobnicate --a 1"),
        ("for x in pt sft; do swift $x; done", "not understood: do swift $x"),
        ("alias s='swift sft'", "not understood: alias"),
    ],
)
def test_what_stands_beside_the_arguments_is_left_over(text: str, left: str) -> None:
    assert any(left in sentence for sentence in read(text).leftovers)


def test_what_a_shell_would_compute_splits_no_command() -> None:
    found = call('swift sft --a $(expr 16 / $N) --b $((40 + 2)) --c "$(date +%F) x" --d "${A[@]}" --e 5')
    assert {name: each.readable for name, each in found.arguments.items()} == {
        "a": False,
        "b": False,
        "c": False,
        "d": False,
        "e": True,
    }
    assert found.arguments["a"].text == "$(expr 16 / $N)"


def test_a_text_with_escapes_is_left_to_a_human() -> None:
    found = call("swift sft --a $'x\\ty \\' z' --b 2 --c \"$'\"")
    assert (found.arguments["a"].readable, found.arguments["b"].value) == (False, 2)
    assert found.arguments["a"].text == "$'x\\ty \\' z'"
    assert found.arguments["c"].value == "$'"


def test_a_quoted_variable_is_one_word() -> None:
    found = call("A='x y'\nswift sft --a $A --b \"$A\"")
    assert (found.arguments["a"].value, found.arguments["b"].value) == (["x", "y"], "x y")


def test_a_text_for_another_command_is_no_call() -> None:
    script = read("cat <<'END' > x.sh\nswift pt --a 1\nEND\nswift sft --b 2")
    assert [each.name for each in script.calls] == ["sft"]
    assert script.leftovers == ["x.sh, line 2: a text for another command is not read: swift pt --a 1"]


def test_a_command_that_asks_for_itself_ends() -> None:
    assert read("A='eval $A'\neval $A\nswift sft --a 1").calls


def test_a_comment_line_inside_a_continued_command_ends_it() -> None:
    script = read("swift sft \\\n --a 1 \\\n # --b 2 \\\n --c 3")
    assert list(script.calls[0].arguments) == ["a"]
    assert any("--b 2" in sentence and "--c 3" in sentence for sentence in script.leftovers)


def test_an_exported_variable_that_was_put_in_is_told_there_alone() -> None:
    script = read("export A=1 B=2\nswift sft --a $A")
    assert script.calls[0].arguments["a"].value == 1
    assert script.leftovers == ["x.sh, line 1: the environment was given B=2"]


def test_comment_lines_are_nobodys_arguments() -> None:
    script = read("# swift sft --a 1\n\n  # --b 2\n")
    assert (script.calls, script.leftovers) == ([], [])


def test_a_call_knows_its_line() -> None:
    assert call("\n\nswift sft \\\n --a 1").place == "x.sh, line 3"
