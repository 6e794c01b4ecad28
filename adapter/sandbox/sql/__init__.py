"""SQL files of the sandbox, read with importlib.resources."""
