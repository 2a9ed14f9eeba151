"""What a policy's verdict rests on: evidence out of the workspace, held to the ledger. No torch.

record(ws, evaluate(version("settled", ws), behaviour, ws).name)    # its hash goes into the ledger
decision, comparison = judged(ws, read_policy(Path("policy.yaml")), "settled", date.today())
"""

from glasshouse.evidence.judging import judged
from glasshouse.evidence.recorded import hashes_in, record

__all__ = ["hashes_in", "judged", "record"]
