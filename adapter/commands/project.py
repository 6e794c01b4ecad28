"""The one Supabase project that a command asks, from the settings."""

import argparse

from adapter.settings import DESK, SettingsError, from_process
from adapter.supabase_io.config import SupabaseConfig


def project(arguments: argparse.Namespace) -> SupabaseConfig:
    """What `arguments.env_file` and the environment say; raises SettingsError. The PBX's settings are not needed."""
    settings = from_process(arguments.env_file, need=DESK)
    try:
        return SupabaseConfig(url=settings["SUPABASE_URL"], key=settings.supabase_key)
    except ValueError as error:
        raise SettingsError([str(error)]) from None
