"""The real daemon on virtual time, against a PBX, a carrier, a database, a disk and a network that do their worst."""
