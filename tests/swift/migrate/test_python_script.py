import pytest

from medllm_ops.errors import MedllmError
from medllm_ops.swift.migrate.calls import Argument, Script
from medllm_ops.swift.migrate.python_script import read_python


def read(text: str) -> Script:
    return read_python(text, "x.py")


def argument(text: str, name: str = "a") -> Argument:
    (call,) = read(text).calls
    return call.arguments[name]


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("SftArguments(a=1e-4)", 1e-4),
        ("SftArguments(a=-1)", -1),
        ("llm.SftArguments(a=['x', 'y'])", ["x", "y"]),
        ("SftArguments(a=ModelType.qwen_14b_chat)", "qwen_14b_chat"),
        ("N = 5\nSftArguments(a=N)", 5),
        ("SftArguments(**{'a': 3})", 3),
        ("common = dict(a=3)\nSftArguments(**common)", 3),
        ("common = {**{'a': 4}}\nSftArguments(**common)", 4),
        ("x = SftArguments()\nx.a = 7", 7),
        ("B = '/data'\nSftArguments(a=f'{B}/{3}.jsonl')", "/data/3.jsonl"),
        (
            "B = '/data'\nSftArguments(a=[B + '/x', os.path.join(B, 'y'), str(Path(B) / 'z')])",
            ["/data/x", "/data/y", "/data/z"],
        ),
        ("SftArguments(a=2 * 1024)", 2048),
        ("SftArguments(a=1 / 4)", 0.25),
        ("c = {'a': 1}\nc['a'] = 2\nSftArguments(**c)", 2),
        ("c = {'a': 1}\nc.update(a=3)\nc.update({'b': 4})\nSftArguments(**c)", 3),
        ("from swift.llm import SftArguments as S\nS(a=1)", 1),
        ("sft_main(['--a', '5'])", 5),
        ("words = ['--a', '5']\nsft_main(words)", 5),
        ("x = SftArguments(a=1)\nx.a = 7", 7),
        ("x = SftArguments(a=1)\nx.a, x.b = 7, 8\nsft_main(x)", 7),
        ("x = SftArguments(a=1)\nx.a = x.b = 7", 7),
        ("x, y = SftArguments(a=1), 2\nx.a = 7", 7),
        ("x = SftArguments(a=1)\ny = x\ny.a = 7\nsft_main(y)", 7),
        (
            "class T:\n  def f(self):\n    self.x = SftArguments(a=1)\n    self.x.a = 7\n    sft_main(self.x)",
            7,
        ),
        ("x = SftArguments(a=1)\nif __name__ == '__main__':\n    x.a = 7\n    sft_main(x)", 7),
        ("def main():\n    x = SftArguments(a=1)\n    x.a = 7\n    sft_main(x)", 7),
        ("c = {'a': 1}\nif __name__ == '__main__':\n    c['a'] = 7\n    SftArguments(**c)", 7),
        # The first training had 1.
        ("x = SftArguments(a=1)\nsft_main(x)\nx.a = 7\nsft_main(x)", 1),
        ("class C:\n    N: int = 5\nSftArguments(a=C.N)", 5),
        ("n = SimpleNamespace()\nn.a = 5\nSftArguments(a=n.a)", 5),
        ("SftArguments(a=os.path.join('/x', '/y'))", "/y"),
        ("SftArguments(a=Path('/x') / '/y' / 'z')", "/y/z"),
    ],
)
def test_values_are_read_where_no_code_has_to_run(text: str, value: object) -> None:
    found = argument(text)
    assert (found.value, found.readable) == (value, True)


@pytest.mark.parametrize(
    "text",
    [
        "SftArguments(a=f())",
        "SftArguments(a=N)",
        "N = 1\nN = 2\nSftArguments(a=N)",
        "for N in range(3):\n    SftArguments(a=N)",
        "N = N\nSftArguments(a=N)",
        "def f(N):\n    SftArguments(a=N)",
        "SftArguments(a=[f()])",
        "SftArguments(a={1: 2})",
        "SftArguments(a=self.a)",
        "class C:\n    N = 5\nC.N = 6\nSftArguments(a=C.N)",
        "class C:\n    N = 5\nclass D(C): ...\nSftArguments(a=D.N)",
        "L = ['x']\nL.append('y')\nSftArguments(a=L)",
        "L = ['x']\nL[0] = 'y'\nSftArguments(a=L)",
        "try:\n    from local import N\nexcept ImportError:\n    N = 4\nSftArguments(a=N)",
        "from conf import N\ndef f():\n    N = 4\nSftArguments(a=N)",
        "N = 4\nimport X as N\nSftArguments(a=N)",
        "N = 4\ntry: ...\nexcept E as N: ...\nSftArguments(a=N)",
        "N = 4\nmatch x:\n    case [N, *_]: ...\nSftArguments(a=N)",
        "N = 4\nmatch x:\n    case {'y': 1, **N}: ...\nSftArguments(a=N)",
        "N = 4\nwith f() as N: ...\nSftArguments(a=N)",
        "N = 4\nx = [N for N in y]\nSftArguments(a=N)",
        "N = 4\nglobals()['N'] = 8\nSftArguments(a=N)",
        "class C:\n    N = 5\nC.N, y = 6, 7\nSftArguments(a=C.N)",
        "x = SftArguments(a=1)\nif y:\n    x.a = 7\nsft_main(x)",
        "x = SftArguments(a=1)\ntry:\n    x.a = 7\nexcept E:\n    x.a = 8\nsft_main(x)",
        "x = SftArguments(a=1)\nfor y in z:\n    x.a = 7\n    sft_main(x)",
        "x = SftArguments(a=1)\ndef f():\n    x.a = 7",
        "c = {'a': 1}\nif y:\n    c['a'] = 2\nSftArguments(**c)",
        "c = {'a': 1}\ndef f():\n    c.update(a=2)\nSftArguments(**c)",
        "x = SftArguments(a=[1])\nx.a.append(2)",
        "x = SftArguments(a=[1])\nx.a[0] = 2",
        "x = SftArguments(a=1)\nx.a += 1",
        "x = SftArguments(a=1)\nx.a, y = f()",
        "x = SftArguments(a=1)\nfor x.a in (2, 3):\n    sft_main(x)",
        "x = SftArguments(a=1)\ndel x.a",
        "x = SftArguments(a=1)\nsetattr(x, 'a', 2)",
        "SftArguments(a=f'{x}')",
        "SftArguments(a=f'{3:04d}')",
        "SftArguments(a=1 / 0)",
        "SftArguments(a='x' * 3)",
        "SftArguments(a=1e308 * 10)",
        f"SftArguments(a={10**30})",
        f"SftArguments(a=0x{'f' * 5000})",
    ],
)
def test_what_would_have_to_be_computed_is_not_guessed(text: str) -> None:
    found = argument(text)
    assert (found.value, found.readable) == (None, False)
    assert found.text


@pytest.mark.parametrize(
    ("text", "left"),
    [
        ("SftArguments(3)", "argument 1 of SftArguments has to be read: 3"),
        ("SftArguments(**f())", "settings of SftArguments has to be read: f()"),
        ("SftArguments(**{g(): 1})", "whose name is computed (g())"),
        ("os.environ['CUDA_VISIBLE_DEVICES'] = '1'", "the environment was given 'CUDA_VISIBLE_DEVICES' = '1'"),
        ("x = SftArguments(a=1)\nx.a = 7", "a = 1 was replaced below by 7"),
        ("c = {'a': 1}\nc.pop('a')\nSftArguments(**c)", "line 2: not followed: c.pop('a')"),
        ("c = {'a': 1}\nSftArguments(**c)\nc['a'] = 2", "line 3: not followed: c['a'] = 2"),
        ("c = {'a': 1}\nc['a'] = 2\nSftArguments(**c)", "a = 1 was replaced below by 2"),
        ("sft_main(parse())\nsft_main(settings)", "what sft_main is given has to be read: settings"),
        (
            "p = partial(SftArguments, a=1)",
            "line 1: SftArguments is not called there: what it is given",
        ),
        ("class A(SftArguments):\n    a = 1", "SftArguments is not called there"),
        ("x = SftArguments()\nsetattr(x, 'b', 2)", "a change has to be read: setattr(x, 'b', 2)"),
        ("x = SftArguments(a=1)\nx.a += 1", "line 2: a change has to be read: x.a += 1"),
        ("x = SftArguments()\nsft_main(x)\nx.a = 7", "line 3: a change behind the use has to be read: x.a = 7"),
        ("x = SftArguments(a=1)\nif y:\n    x.a = 7", "a = 1 was replaced below by 7, set only sometimes"),
        ("x = SftArguments(a=[1])\nx.a.append(2)", "line 2: a change has to be read: x.a.append(2)"),
        ("x = SftArguments(a=[1])\nx.a[0] = 2", "line 2: a change has to be read: x.a[0] = 2"),
        ("x = SftArguments(a=1)\nx.a, y = f()", "line 2: a change has to be read: x.a, y = f()"),
        ("x = SftArguments(a=1)\ndel x.a", "line 2: a change has to be read: del x.a"),
        ("x = SftArguments(a=1)\nfor x.a in y:\n    sft_main(x)", "line 2: a change has to be read: x.a"),
        ("x = SftArguments()\nx.__dict__.update(a=1)", "a change has to be read: x.__dict__.update(a=1)"),
        ("x = SftArguments()\nx.tweak()", "a change has to be read: x.tweak()"),
        ("x = SftArguments()\nvars(x)['a'] = 1", "a change has to be read: vars(x)['a'] = 1"),
        ("self.x = SftArguments()\nself.x.a += 1", "a change has to be read: self.x.a += 1"),
        ("os.environ.setdefault('A', '1')", "what the environment was given has to be read: os.environ.setdefault("),
        ("os.putenv('A', '1')", "what the environment was given has to be read: os.putenv('A', '1')"),
        ("merge_lora_main(ckpt_dir='x')", "argument ckpt_dir of merge_lora_main has to be read: 'x'"),
        ("subprocess.run(['bash', 'train.sh'])", "another script, to be migrated with this one: bash train.sh"),
        ("os.system('swift sft ' + x)", "a command has to be read: 'swift sft ' + x"),
    ],
)
def test_what_is_not_understood_is_left_over(text: str, left: str) -> None:
    assert any(left in sentence for sentence in read(text).leftovers)


@pytest.mark.parametrize(
    "text",
    [
        "os.system('swift sft --a 1')",
        "subprocess.run(['swift', 'sft', '--a', '1'])",
        "run('python llm_sft.py --a 1')",
        "subprocess.run(args='swift sft --a 1')",
        "N = 1\nrun(f'swift sft --a {N}')",
    ],
)
def test_commands_that_a_script_starts_are_read(text: str) -> None:
    assert argument(text).value == 1


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("merge_lora_main(InferArguments(a=1))", "merge"),
        ("x = InferArguments(a=1)\nmerge_lora_main(x)", "merge"),
        ("infer_main(InferArguments(a=1))", "infer"),
        ("x = InferArguments(a=1)\ninfer_main(x)", "infer"),
    ],
)
def test_what_arguments_are_for_is_told_by_the_function_that_takes_them(text: str, kind: str) -> None:
    (call,) = read(text).calls
    assert call.kind == kind


def test_what_is_said_of_types_is_nobody_s_business() -> None:
    script = read("def f(x: SftArguments) -> llm.SftArguments:\n    y: SftArguments = SftArguments(a=1)\n    return y")
    assert (len(script.calls), script.leftovers) == (1, [])


def test_what_only_reads_arguments_is_nobody_s_business() -> None:
    script = read("x = SftArguments(a='y/z')\nsft_main(x)\nprint(x.a, x.a.split('/'), f'{x.a}/w')")
    assert (script.calls[0].arguments["a"].value, script.leftovers) == ("y/z", [])


def test_nothing_of_it_is_executed(tmp_path: object) -> None:
    assert read(f"open({str(tmp_path)!r} + '/made', 'w')\nSftArguments()").calls
    assert not list(tmp_path.iterdir())  # type: ignore[attr-defined]


@pytest.mark.parametrize("text", ["def (", "\x00", "(" * 5000, "-" * 100_000 + "1"])
def test_what_is_no_python_is_one_sentence(text: str) -> None:
    with pytest.raises(MedllmError, match=r"^x\.py is"):
        read(text)
