"""OAuth of the sandbox: clients, proofs, grants by an account's owner, and what their tokens allow.

The words of all refusals are those of @atproto/pds 0.5.35. The comparison with a real one is in `tests/contract`.
"""
