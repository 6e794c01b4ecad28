"""Files of the MikoPBX-like PBX."""
