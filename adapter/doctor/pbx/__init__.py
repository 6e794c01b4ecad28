"""The PBX side: can we get in, may we do what we must and no more, do we hear calls, and would a call reach the carrier
and then the AI?

Everything is asked with the rights that the daemon has. Nobody rings: the one call that is placed leads into a context
that does not exist (`adapter.pbx.questions.VOID`).
"""

from adapter.doctor.pbx.checks import CHECKS, look

__all__ = ["CHECKS", "look"]
