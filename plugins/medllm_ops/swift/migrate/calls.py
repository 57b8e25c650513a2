"""What an old script asked of ms-swift: calls with arguments, whatever language it was written in."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

Kind = Literal["pretrain", "train", "align", "merge", "infer", "app", "deploy", "other"]

KINDS: dict[str, Kind] = {
    # Commands of ms-swift, and the scripts of its 1.x repository.
    "sft": "train",
    "llm_sft": "train",
    "pt": "pretrain",
    "llm_pt": "pretrain",
    "rlhf": "align",
    "dpo": "align",
    "llm_dpo": "align",
    "kto": "align",
    "llm_kto": "align",
    "orpo": "align",
    "llm_orpo": "align",
    "simpo": "align",
    "llm_simpo": "align",
    "merge-lora": "merge",
    "merge_lora": "merge",
    "export": "merge",
    "llm_export": "merge",
    "infer": "infer",
    "llm_infer": "infer",
    "app-ui": "app",
    "app": "app",
    "app_ui": "app",
    "web-ui": "app",
    "deploy": "deploy",
    "eval": "other",
    # Classes of its Python interface.
    "SftArguments": "train",
    "PtArguments": "pretrain",
    "PretrainArguments": "pretrain",
    "RLHFArguments": "align",
    "DPOArguments": "align",
    "KTOArguments": "align",
    "ORPOArguments": "align",
    "SimPOArguments": "align",
    "ExportArguments": "merge",
    "MergeArguments": "merge",
    "InferArguments": "infer",
    "AppUIArguments": "app",
    "AppArguments": "app",
    "WebuiArguments": "app",
    "DeployArguments": "deploy",
    "EvalArguments": "other",
}

# Functions that take a list of words where others take a class of arguments, and the command of the same work.
MAINS = {
    "app_ui_main": "app-ui",
    "deploy_main": "deploy",
    "dpo_main": "dpo",
    "export_main": "export",
    "infer_main": "infer",
    "kto_main": "kto",
    "merge_lora_main": "merge-lora",
    "orpo_main": "orpo",
    "pt_main": "pt",
    "rlhf_main": "rlhf",
    "sft_main": "sft",
    "simpo_main": "simpo",
}


@dataclass(frozen=True, slots=True)
class Argument:
    """One argument as it stood there.

    :param value: what it was, where that can be read without running anything; else None.
    :param text: how it was written.
    :param readable: whether ``value`` is what the script would have used.
    """

    name: str
    value: Any
    text: str
    line: int
    readable: bool = True


@dataclass(slots=True)
class Call:
    """One call of ms-swift."""

    kind: Kind
    name: str
    file: str
    line: int
    arguments: dict[str, Argument] = field(default_factory=dict)
    hints: list[str] = field(default_factory=list)

    def add(self, argument: Argument) -> Argument | None:
        """Take an argument; where there was one of its name, return that: the later one counts."""
        earlier = self.arguments.pop(argument.name, None)
        self.arguments[argument.name] = argument
        return earlier

    @property
    def place(self) -> str:
        """Where it stands, in words."""
        return f"{self.file}, line {self.line}"


@dataclass(slots=True)
class Script:
    """What was found in a file.

    :param leftovers: what may matter and was not understood: for a human.
    """

    calls: list[Call] = field(default_factory=list)
    leftovers: list[str] = field(default_factory=list)

    def add(self, call: Call, argument: Argument) -> None:
        """Give a call an argument; one that it replaces is left over."""
        if earlier := call.add(argument):
            told = f"{earlier.name} = {earlier.text} was replaced below by {argument.text}"
            self.leftovers.append(f"{call.file}, line {earlier.line}: {told}")
