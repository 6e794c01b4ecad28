"""Settings → what each link must know. The daemon and `doctor` talk to the same places in the same way."""

from adapter.pbx import PbxConfig
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
