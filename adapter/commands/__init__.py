"""The commands of `mikopbx-adapter`, one module each; `adapter.cli` lists them."""
