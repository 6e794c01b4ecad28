"""Settings → what each link must know. The daemon and `doctor` talk to the same places in the same way."""

from pathlib import Path

from adapter import __version__
from adapter.pbx import PbxConfig
from adapter.recorder.ring import folder_of
from adapter.recorder.writer import FlightRecorder
from adapter.settings import Settings
from adapter.supabase_io.config import DoorbellMode, SupabaseConfig


def configs(settings: Settings) -> tuple[PbxConfig, SupabaseConfig]:
    """What the two links need; raises ValueError with words for the operator."""
    link = PbxConfig(
        host=settings["MIKOPBX_HOST"],
        port=settings["MIKOPBX_AMI_PORT"],
        username=settings["MIKOPBX_AMI_USERNAME"],
        password=settings["MIKOPBX_AMI_PASSWORD"],
        trunk=settings["TRUNK"],
        form=settings["DIAL_FORM"],
        ai_context=settings["AI_CONTEXT"],
        ai_extension=settings["AI_EXTENSION"],
        window=settings["AMI_WINDOW"],
        name=settings.pbx_name,
    )
    supabase = SupabaseConfig(
        url=settings["SUPABASE_URL"], key=settings.supabase_key, doorbell=DoorbellMode(settings["DOORBELL"])
    )
    return link, supabase


RECORDED = (
    *("DIAL_FORM", "NUMBER_STYLE", "AI_CONTEXT", "AI_EXTENSION", "DEFAULT_REGION", "RING_SECONDS", "MAX_CALL_SECONDS"),
    *("NO_ANSWER_WORD", "MAX_CALLS", "MAX_CALLS_PER_USER", "CALLS_PER_SECOND", "AMI_WINDOW", "ORPHAN_AFTER"),
    "MAX_CALLS_IN_SETUP",
    *("ALLOWED_COUNTRIES", "MAX_CALLS_PER_USER_DAY", "MAX_MINUTES_PER_USER_DAY", "REPEAT_CALLS", "REPEAT_HOURS"),
    *("DOORBELL", "SWEEP_SECONDS", "DRAIN_SECONDS", "BILLING", "BILLING_STEP", "LOG_ROWS"),
)
"""Settings that stand in the record: what decides how a call ends. No address, no user, no number, no secret."""


def flight_recorder(settings: Settings, state_dir: Path) -> FlightRecorder | None:
    """The recorder of this process, or None where FLIGHT_MB is 0."""
    if not settings["FLIGHT_MB"]:
        return None
    return FlightRecorder(
        folder_of(state_dir),
        settings["FLIGHT_MB"] << 20,
        version=__version__,
        settings={"settings": {name: settings[name] for name in RECORDED}},
        secrets=settings.secrets,
        region=settings["DEFAULT_REGION"],
    )
