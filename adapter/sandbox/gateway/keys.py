"""API keys and access tokens: made when the gateway starts, worth nothing anywhere else."""

import secrets
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import jwt

Claims = Mapping[str, Any]

YEARS = 10 * 365 * 86_400
"""Supabase's legacy keys live for ten years."""


class BadToken(Exception):
    """A token that says nothing: `kind` is one of malformed, signature, expired, claims."""

    def __init__(self, kind: str, *, seconds: int = 0) -> None:
        super().__init__(kind)
        self.kind = kind
        self.seconds = seconds


@dataclass(frozen=True, slots=True, kw_only=True)
class Keys:
    """What a project's API settings page shows: the two legacy keys (JWT) and the two new opaque ones."""

    jwt_secret: str
    anon: str
    service_role: str
    publishable: str
    secret: str

    @classmethod
    def minted(cls) -> "Keys":
        """Fresh keys."""
        jwt_secret = secrets.token_hex(32)
        return cls(
            jwt_secret=jwt_secret,
            anon=_token(jwt_secret, {"role": "anon"}, YEARS),
            service_role=_token(jwt_secret, {"role": "service_role"}, YEARS),
            publishable=f"sb_publishable_{secrets.token_urlsafe(24)}",
            secret=f"sb_secret_{secrets.token_urlsafe(24)}",
        )

    def token(self, role: str, *, seconds: float = 3600, **claims: Any) -> str:
        """A user's access token as Supabase Auth would give it; `seconds` may be negative: already expired."""
        return _token(self.jwt_secret, {"role": role, **claims}, seconds)

    def known(self, key: str) -> bool:
        """Whether this is one of the project's keys."""
        return key in (self.anon, self.service_role, self.publishable, self.secret)

    def translated(self, key: str) -> str:
        """The JWT that the gateway puts in the place of an opaque key; anything else stays as it is."""
        return {self.publishable: self.anon, self.secret: self.service_role}.get(key, key)

    def claims(self, token: str) -> Claims:
        """The claims of a token with a good signature, whatever its times say; else BadToken."""
        try:
            found: Claims = jwt.decode(
                token,
                self.jwt_secret,
                algorithms=["HS256"],
                options={
                    "verify_exp": False,
                    "verify_nbf": False,
                    "verify_iat": False,
                    "verify_aud": False,
                    "verify_iss": False,
                    "verify_sub": False,
                    "verify_jti": False,
                },
            )
        except jwt.InvalidSignatureError:
            raise BadToken("signature") from None
        except jwt.InvalidTokenError:
            raise BadToken("malformed") from None
        return found

    def valid_claims(self, token: str, *, leeway: float = 0.0) -> Claims:
        """As `claims`, and not expired; a token without `exp` never expires."""
        found = self.claims(token)
        expires = found.get("exp")
        if isinstance(expires, int | float) and time.time() >= expires + leeway:
            raise BadToken("expired", seconds=int(time.time() - expires))
        return found


def _token(jwt_secret: str, claims: Claims, seconds: float) -> str:
    now = int(time.time())
    return jwt.encode({"iss": "supabase", "iat": now, "exp": int(now + seconds), **claims}, jwt_secret, "HS256")
