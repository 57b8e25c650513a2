"""The operators: thin shells that hand their templated arguments to the rooms of ``medllm_ops``."""

from medllm_ops.operators.convert import DatasetConvertOperator
from medllm_ops.operators.dataset import DataReportOperator, DatasetBuildOperator
from medllm_ops.operators.merge import MergeLoraOperator
from medllm_ops.operators.refresh import CorpusRefreshOperator
from medllm_ops.operators.serve import ServeOperator
from medllm_ops.operators.step import ChainStepOperator
from medllm_ops.operators.train import SwiftSftOperator

__all__ = [
    "ChainStepOperator",
    "CorpusRefreshOperator",
    "DataReportOperator",
    "DatasetBuildOperator",
    "DatasetConvertOperator",
    "MergeLoraOperator",
    "ServeOperator",
    "SwiftSftOperator",
]
