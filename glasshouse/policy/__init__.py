"""If-then release policies over recorded evidence: verdicts with their reasons, and the ledger. Imports no torch.

glasshouse gate policy.yaml villager
glasshouse ledger verify
"""

from glasshouse.policy.ledger import append, verified
from glasshouse.policy.policy import Policy
from glasshouse.policy.reading import read_policy
from glasshouse.policy.report import check_report, write_report
from glasshouse.policy.verdict import Decision, Evidence, Reason, decide

__all__ = [
    "Decision", "Evidence", "Policy", "Reason", "append", "check_report", "decide", "read_policy", "verified",
    "write_report",
]  # fmt: skip
