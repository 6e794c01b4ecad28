"""Configuration templates; `@NAME@` is filled in by `adapter.sandbox.asterisk.render`."""
