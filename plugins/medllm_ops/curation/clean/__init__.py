"""Step 1 of curation: clean. One module a rule; docs/curation/clean.md tells each, its source and its default."""

from medllm_ops.curation.clean.clean import clean
from medllm_ops.curation.clean.explain import Explanation, explain
from medllm_ops.curation.clean.settings import CleanSettings

__all__ = ["CleanSettings", "Explanation", "clean", "explain"]
